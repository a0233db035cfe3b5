"""Snapshots of the wheel's partitions: all rows as one tick left them, so that an audit can begin.

Once in ``every_ms`` for each partition: the wheel makes a tick, and when it is committed the local
store stands at that tick and nothing newer. An iterator opened there stays at that moment, so the
rows are read, hashed and written to a file in a thread while the wheel goes on. Then a
PartitionSnapshot, the claim check, goes out beside the ticks in a step of its own.

**A blob store that fails stops nobody**: it is opened, listed and written in the thread, and what
it raises is logged, counted and tried again ten minutes later. A partition without a snapshot costs
an audit or a replay time, and where the log was trimmed its beginning; ``snapshot_age`` tells.

A partition that is given up meanwhile has no snapshot of this owner; the next one looks at the
files for when the last was made. One at a time in a worker, and the thread pauses between rows: the
binding of RocksDB keeps the interpreter while it reads.

Rows that an older release wrote are written as today's schemas have them, so that a hash does not
depend on when a row was touched last.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from schemas.codec import HEADER_BYTES
from schemas.errors import StoreError
from schemas.records import (
    DeviceFacts,
    PartitionSnapshot,
    RequestState,
    ScheduleState,
    ShardState,
)
from streams.core.partition import CLOCK_KEY
from streams.core.shard import RULES_VERSION
from streams.core.state_hash import StateHash
from streams.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schemas.codec import Codec
    from streams.observability.metrics import Metrics
    from streams.runtime.app import ShardApp
    from streams.runtime.batch import Point
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Partition, Step

    Row = tuple[str, bytes, bytes]

_T = TypeVar("_T")

TICKS: Final = "schedule.ticks"
EVENTS: Final = "schedule.events"
TABLES: Final = ("facts", "requests", "schedules", "shards")
"""In the order of the state's hash."""
PIECE_ROWS: Final = 250
"""Rows between two pauses: about a millisecond."""
PAUSE_S: Final = 0.002
QUIET_MS: Final = 120_000
"""How long after a partition was opened none is made: there is enough to do then."""
AGAIN_MS: Final = 600_000
"""How long after one that failed the next is tried."""


class SnapshotPort(Protocol):
    """Where files of rows are kept. Called in a thread; all may raise StoreError."""

    def newest_ms(self, partition: int, partitions: int) -> int | None:
        """Return the time of the newest file of a partition; None: there is none."""
        ...

    def write(
        self, partition: int, partitions: int, time_ms: int, rows: Iterable[Row]
    ) -> tuple[str, int]:
        """Write rows; return their URI and the size of what was written."""
        ...


class _Taken(NamedTuple):
    """What a file holds."""

    uri: str
    file_bytes: int
    time_ms: int
    state_hash: bytes
    row_count: int
    schedule_count: int


class Snapshots:
    """Makes the snapshots of the partitions of one worker."""

    def __init__(
        self,
        open_files: Callable[[], SnapshotPort],
        every_ms: int,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        partitions: int,
        tz_version: str,
    ) -> None:
        """Take the parts; ``open_files`` is called in the thread and may raise StoreError."""
        self._open_files = open_files
        self._files: SnapshotPort | None = None
        self._every_ms = every_ms
        self._codec = codec
        self._clock = clock
        self._partitions = partitions
        self._tz_version = tz_version
        self._due_ms: dict[int, int] = {}
        self._find_ms: dict[int, int] = {}
        """From when on to ask the files again when the last was made: they did not say."""
        self._last_ms: dict[int, int] = {}
        """When the last snapshot of a partition was made, or, there is none, when it came here."""
        self._file_bytes: dict[int, int] = {}
        self._busy = False
        self._metrics = metrics
        metrics.snapshot_age.bind(self._ages)
        metrics.snapshot_bytes.bind(lambda: self._file_bytes)
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._todays = {
            codec.header(cls) for cls in (DeviceFacts, RequestState, ScheduleState, ShardState)
        }
        self._log = get_logger(__name__)

    def look(
        self, app: ShardApp, partition: Partition, now_ms: int, tick: Callable[[Step], None]
    ) -> None:
        """Begin a snapshot if one is due and no other is being made; ``tick`` makes a tick."""
        if self._busy or not partition.open:
            return
        number = partition.number
        due_ms = self._due_ms.get(number)
        if due_ms is None:
            if now_ms >= self._find_ms.get(number, 0):
                self._find_due(app, partition)
        elif now_ms >= due_ms:
            self._busy = True
            # Whatever becomes of this one; set again when it is written.
            self._due_ms[number] = now_ms + min(AGAIN_MS, self._every_ms)
            with app.step(partition) as step:
                tick(step)
                step.at_commit(TICKS, lambda point: self._begin(app, partition, point))

    def forget(self, number: int) -> None:
        """Note that a partition is another worker's."""
        for mine in (self._due_ms, self._find_ms, self._last_ms, self._file_bytes):
            mine.pop(number, None)

    def _ages(self) -> dict[int, float]:
        """Return the seconds since the last snapshot of each partition that is ours."""
        now_ms = self._clock.now_ms()
        return {n: max(now_ms - at_ms, 0) / 1000.0 for n, at_ms in self._last_ms.items()}

    def _opened(self) -> SnapshotPort:
        """Return the files. Runs in the thread."""
        if self._files is None:
            self._files = self._open_files()
        return self._files

    def _find_due(self, app: ShardApp, partition: Partition) -> None:
        """Learn from the files when the next is due: one has been made by whoever was before."""
        number, fresh = partition.number, partition.state.clock_ms == 0
        self._busy = True

        def ended(found: asyncio.Future[int | None]) -> None:
            self._busy = False
            now_ms = self._clock.now_ms()
            newest_ms = self._result(app, number, found)
            if not partition.open:
                return
            if newest_ms is not None:
                self._last_ms[number] = newest_ms
            self._last_ms.setdefault(number, now_ms)
            if found.exception() is not None:
                self._find_ms[number] = now_ms + min(AGAIN_MS, self._every_ms)
                return
            if newest_ms is None:  # where there is no history yet, it begins here
                newest_ms = now_ms if fresh else 0
            quiet_ms = min(QUIET_MS, self._every_ms)
            self._due_ms[number] = max(newest_ms + self._every_ms, now_ms + quiet_ms)

        def find() -> int | None:
            return self._opened().newest_ms(number, self._partitions)

        self._in_thread(ended, find)

    def _begin(self, app: ShardApp, partition: Partition, point: Point) -> None:
        """Read the rows in a thread, now that the store is at a tick's end."""
        if partition.gone:
            self._busy = False
            return
        rows = partition.store.view(partition.number, TABLES)

        def ended(found: asyncio.Future[_Taken]) -> None:
            self._busy = False
            taken = self._result(app, partition.number, found)
            if taken is not None:
                partition.when_writable(lambda: self._publish(app, partition, point, taken))

        self._in_thread(ended, self._write, partition.number, rows)

    def _in_thread(
        self, ended: Callable[..., None], call: Callable[..., object], *args: object
    ) -> None:
        loop = asyncio.get_running_loop()

        def done(found: asyncio.Future[object]) -> None:
            if not found.cancelled():  # as it is where the worker ends
                ended(found)

        loop.run_in_executor(self._thread, call, *args).add_done_callback(done)

    def _result(self, app: ShardApp, number: int, found: asyncio.Future[_T]) -> _T | None:
        """Return what a thread has found; None where the blob store failed."""
        error = found.exception()
        if error is None:
            return found.result()
        if isinstance(error, StoreError):
            self._metrics.snapshot_failures.inc()
            self._log.warning("no snapshot", partition=number, reason=str(error))
        else:
            app.fail(error)
        return None

    def _write(self, number: int, rows: Iterable[Row]) -> _Taken:
        """Write the file. Runs in the thread."""
        digest = StateHash()
        seen: dict[str, int] = dict.fromkeys(TABLES, 0)
        clock_ms = count = 0

        def read() -> Iterator[Row]:
            nonlocal clock_ms, count
            for table, key, found in rows:
                value = found
                if value[:HEADER_BYTES] not in self._todays:
                    value = self._codec.encode(self._codec.decode(value))
                digest.add(table, key, value)
                seen[table] += 1
                count += 1
                if table == "shards" and key == CLOCK_KEY:
                    clock_ms = self._codec.decode_as(value, ShardState).clock_ms
                yield table, key, value
                if count % PIECE_ROWS == 0:
                    time.sleep(PAUSE_S)

        made_ms = self._clock.now_ms()  # names the file; the tick's time is among the rows
        uri, file_bytes = self._opened().write(number, self._partitions, made_ms, read())
        return _Taken(uri, file_bytes, clock_ms, digest.digest(), count, seen["schedules"])

    def _publish(self, app: ShardApp, partition: Partition, point: Point, taken: _Taken) -> None:
        number = partition.number
        snapshot = PartitionSnapshot(
            partition=number,
            partitions=self._partitions,
            tick_offset=point.next_offset - 1,
            events_offset=point.positions[EVENTS],
            time_ms=taken.time_ms,
            rules_version=RULES_VERSION,
            tz_version=self._tz_version,
            state_hash=taken.state_hash,
            uri=taken.uri,
            file_bytes=taken.file_bytes,
            row_count=taken.row_count,
            schedule_count=taken.schedule_count,
        )
        with app.step(partition) as step:
            step.produce(TICKS, b"%d" % number, self._codec.encode(snapshot))
        self._due_ms[number] = taken.time_ms + self._every_ms
        self._last_ms[number], self._file_bytes[number] = taken.time_ms, taken.file_bytes
        self._metrics.snapshots.inc()
        self._log.info(
            "snapshot written",
            partition=number,
            rows=taken.row_count,
            file_bytes=taken.file_bytes,
            uri=taken.uri,
        )
