"""Turns steps into transactions: gathers them in a batch, commits it, shows what is uncommitted.

At most one commit runs at a time, in a thread of its own; meanwhile steps gather into the next
batch. A commit is made at once when the worker was idle or the batch is full, and every
``commit_interval_ms`` while it is busy; one that touches many partitions gathers longer, as each
costs the broker a marker (``markers_per_s``). When anything is in doubt (``fail``) no further
commit is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from schemas.errors import FencedError
from streams.runtime.batch import Batch, Point
from streams.runtime.partition import Partition, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.observability.metrics import Metrics
    from streams.runtime.group import Group
    from streams.runtime.overlay import Overlay
    from streams.runtime.settings import RuntimeSettings
    from streams.runtime.store import Store
    from streams.runtime.transaction import Committed, Transactor


MARKERS_AN_INTERVAL = 16
"""Topic-partitions a commit may touch before the next one waits longer than the interval."""
TURN_S = 0.001
"""How long those who wait for a commit are told of it in one go."""
LONGEST_STRETCH = 2.5
"""Most intervals between two commits that touch few partitions; arming allows for it."""


class Committer:
    """The open batch, the one being committed, and the loop that turns one into the other."""

    def __init__(
        self,
        settings: RuntimeSettings,
        group: Group,
        transactor: Transactor,
        store: Store,
        overlay: Overlay,
        changelogs: Mapping[str, str],
        metrics: Metrics,
        fail: Callable[[BaseException], None],
    ) -> None:
        """Take the parts; ``fail`` is told of anything that puts this worker in doubt."""
        self._settings = settings
        self._group = group
        self._transactor = transactor
        self._store = store
        self._overlay = overlay
        self._changelogs = dict(changelogs)
        self._tables = {topic: table for table, topic in self._changelogs.items()}
        self._marks = frozenset(self._tables)
        self._metrics = metrics
        self._fail = fail
        self._open: Batch | None = None
        self._committing: Batch | None = None
        self._lock = asyncio.Lock()
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        """Steps wait for room: the interval is not waited for."""
        self._room = asyncio.Event()
        self._room.set()
        self._failed = False
        self._touched = 0
        """Partitions of topics that the last commit wrote to."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transaction")
        metrics.overlay_rows.bind(lambda: sum(len(b.writes) for b in self._batches()))
        metrics.queued_outputs.bind(lambda: sum(b.records for b in self._batches()))

    def _batches(self) -> tuple[Batch, ...]:
        return tuple(b for b in (self._open, self._committing) if b is not None)

    async def start(self) -> None:
        """Fence earlier processes of this slot. Blocks until the coordinator has answered."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._transactor.start)

    def stop_committing(self) -> None:
        """Make no further commit: this worker is in doubt."""
        self._failed = True

    def close(self) -> None:
        """Wait for the thread, whatever it does now being the last."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._transactor.close()

    # -- steps ---------------------------------------------------------------------------------

    def step(self, partition: Partition) -> Step:
        """Begin a step on a partition.

        Raises:
            FencedError: there is no membership to write under, or it is not the one under which
                the partition was opened or the open batch begun.

        """
        membership = self._group.membership
        if membership is None:
            raise FencedError("This worker is in no consumer group; it must not write.")
        if partition.membership != membership:
            raise FencedError(
                f"Partition {partition.number} was ours under {partition.membership}, and we are "
                f"{membership} now."
            )
        batch = self._open
        if batch is None:
            batch = self._open = Batch(membership)
            self._overlay.show(batch, self._committing)
            self._work.set()
        elif batch.membership != membership:
            raise FencedError(f"The group moved from {batch.membership} to {membership}.")
        return Step(batch, partition, self._fail)

    async def room(self) -> None:
        """Wait while too much is waiting to be committed."""
        batch = self._open
        if batch is not None and batch.records >= self._settings.max_batch_records:
            self._room.clear()
            self._full.set()
            await self._room.wait()

    async def settled(self, key: tuple[str, int, bytes]) -> None:
        """Wait until no uncommitted write of this key is left (read-your-writes)."""
        while self._overlay.pending(key):
            if self._failed:
                raise FencedError("This worker is in doubt; it commits nothing any more.")
            await self.commit()

    async def drained(self) -> None:
        """Commit until nothing is left: the commit under way and steps made meanwhile included."""
        while (self._batches() or self._lock.locked()) and not self._failed:
            await self.commit()  # waits for those who are still being told of the last one

    # -- commits -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit whenever there is something to commit, until cancelled."""
        loop = asyncio.get_running_loop()
        interval_s = self._settings.commit_interval_ms / 1000.0
        last = 0.0
        while True:
            await self._work.wait()
            gather_s = max(interval_s * self._stretch(), self._gather_s())
            pause = last + gather_s - loop.time()
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), pause)
            self._full.clear()
            last = loop.time()
            await self.commit()

    def _gather_s(self) -> float:
        """Return how long to gather so that the broker has few enough markers to write."""
        return self._settings.gather_ms(self._touched) / 1000.0

    def _stretch(self) -> float:
        """Return how much longer than usual to gather where some partitions are touched."""
        batch = self._open
        if batch is None:
            return 1.0
        touched = len(batch.partitions) * max(len(batch.outputs) + 1, 1)
        return min(max(1.0, touched / MARKERS_AN_INTERVAL), LONGEST_STRETCH)

    async def commit(self) -> None:
        """Commit what is open now; returns when it is committed and in the store."""
        async with self._lock:
            batch = self._open
            if batch is None or self._failed:
                return
            self._open, self._committing = None, batch
            self._work.clear()
            self._full.clear()
            self._room.set()
            self._overlay.show(batch)
            try:
                if self._group.membership != batch.membership:
                    raise FencedError(
                        f"The group moved from {batch.membership} to {self._group.membership}."
                    )
                loop = asyncio.get_running_loop()
                done = await loop.run_in_executor(self._thread, self._perform, batch)
            except BaseException as error:
                self._metrics.transactions.inc("aborted")
                self._fail(error)
                raise
            self._committing = None
            self._overlay.show(self._open)
            self._touched = done.partitions
            self._count(batch, done)
            self._tell_points(batch, done)
            began_s = time.monotonic()
            for call in batch.committed:
                call()
                if time.monotonic() - began_s > TURN_S:
                    await asyncio.sleep(0)  # timers may be due
                    began_s = time.monotonic()

    @staticmethod
    def _tell_points(batch: Batch, done: Committed) -> None:
        for (topic, number), calls in batch.points.items():
            positions = {name: at for (name, n), at in batch.offsets.items() if n == number}
            point = Point(done.changelog_offsets[topic, number], positions)
            for call in calls:
                call(point)

    def _perform(self, batch: Batch) -> Committed:
        """Commit at the broker, then make it the store's newest point. Runs in the thread."""
        for (table, partition, key), value in batch.writes.items():
            changelog = batch.outputs.setdefault(self._changelogs[table], [])
            changelog.append((key, value, partition))
        marks = self._marks.union(topic for topic, _ in batch.points)
        done = self._transactor.perform(batch, marks)
        offsets = {
            (self._tables[topic], partition): offset
            for (topic, partition), offset in done.changelog_offsets.items()
            if topic in self._tables
        }
        began_s = time.monotonic()
        self._store.apply(batch.writes, offsets)
        if batch.points:
            self._store.flush()
        done.stages_s["store"] = time.monotonic() - began_s
        return done

    def _count(self, batch: Batch, done: Committed) -> None:
        metrics = self._metrics
        metrics.transactions.inc("committed")
        metrics.commit_seconds.observe(done.took_ms / 1000.0)
        for stage, seconds in done.stages_s.items():
            metrics.stage_seconds.inc(stage, seconds)
        for topic, messages in batch.outputs.items():
            metrics.records_produced.inc(topic, len(messages))
