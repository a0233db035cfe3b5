"""The table ``captures`` over an hour of a fleet's work, at speed, and what its recovery takes.

**An hour.** The captures worker's own parts (``captures_cpu.py``: executor, state machine, RocksDB,
no Kafka) photograph a fleet whose devices have a period of 300 s, in steps of 5 s of a clock that
is moved by hand: the commands of a step arrive, are armed, photographed and decided, with a commit
after each. ``rows_at_N_min`` is how many rows the table has then, ``open_at_most`` how many of
them were open captures. A device has one row once it has been photographed, and a row for each
capture that is open: so the table stops growing when every device has had its turn, after 300 s,
and ``growth`` (rows after the hour by rows after 10 minutes) is 1. A fortieth of the fleet of 1.2
million, 100 captures a second, takes a minute or two; any size works.

**The recovery.** What such a changelog holds after the hour: every live row, and behind them the
changes since the last segment was closed, which compaction does not touch: 64 MiB a partition.
Both are written to Kafka, copied until they are those of 1.2 million devices, and read back by the
runtime's recovery into a new store. ``load_s`` is what finding the open captures among the rows
takes.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.captures_cpu import PERIOD_MS, START_MS, Driver
from benchmarks.load import PARTITIONS
from benchmarks.result import rows_of
from benchmarks.seed import Writer
from infra.kafka.admin import create_topics
from infra.kafka.topics import topic_name
from schemas.errors import ShutterwheelError
from schemas.records import CaptureCommand
from shutterwheel.worker import GC_THRESHOLDS
from streams.agents.capture_executor import APP, CHANGELOGS, COMMANDS
from streams.agents.capture_state import TABLE
from streams.core import ids
from streams.runtime.group import boottime_ms
from streams.runtime.recovery import Recovery
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.load import Rig
    from benchmarks.result import Row
    from streams.runtime.batch import StateKey
    from streams.runtime.fetched import PlainRecord

STEP_MS: Final = 5_000
MINUTES: Final = 60
QUICK_MINUTES: Final = 12
SHOWN_MINUTES: Final = (1, 3, 5, 10, 20, 30, 45, 60)
SETTLED_MINUTE: Final = 10
"""Every device has had two turns by then."""
FLEET: Final = 1_200_000
SHARE: Final = 40
"""A fleet of so many times less is simulated."""
SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""``segment.bytes`` of changelogs (``infra/kafka/topics.py``)."""
RECORD_BYTES: Final = 12
"""What a record takes in its batch beside key and value, about."""


class Changes:
    """What was committed to ``captures``: the live rows, and the changes a segment holds."""

    def __init__(self, tail_bytes: int) -> None:
        self.alive: dict[tuple[int, bytes], bytes] = {}
        self.tail: deque[tuple[int, bytes, bytes | None]] = deque()
        self.records = 0
        self.open, self.open_at_most = 0, 0
        self._room = tail_bytes

    def take(self, writes: Mapping[StateKey, bytes | None]) -> None:
        """Take in what one commit wrote."""
        for (table, partition, key), value in writes.items():
            if table != TABLE:
                continue
            self.records += 1
            place, opens = (partition, key), b"\0" in key
            self.open -= opens and place in self.alive
            if value is None:
                self.alive.pop(place, None)
            else:
                self.alive[place] = value
                self.open += opens
            self.tail.append((partition, key, value))
            self._room -= len(key) + len(value or b"") + RECORD_BYTES
            while self._room < 0:
                _, gone, row = self.tail.popleft()
                self._room += len(gone) + len(row or b"") + RECORD_BYTES
        self.open_at_most = max(self.open_at_most, self.open)


class Hour(Driver):
    """A captures worker whose devices are photographed one after the other, each once a period."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.step_captures = max(1, devices * STEP_MS // PERIOD_MS)
        super().__init__(folder, self.step_captures)
        self.turns = PERIOD_MS // STEP_MS
        self.set_devices(self.turns * self.step_captures)

    def commands(self, number: int) -> dict[int, list[PlainRecord]]:
        """Return the commands of a step: those of the devices whose turn it is."""
        now_ms = self._clock.ms
        found: dict[int, list[PlainRecord]] = {home: [] for home in range(PARTITIONS)}
        first = number % self.turns * self.step_captures
        for n, (device, home) in enumerate(self._homes[first : first + self.step_captures]):
            due_ms = now_ms + (n + 1) * STEP_MS // (self.step_captures + 1)
            shard = ids.shard_of(device)
            last = self._last_ids.get(shard, 0)
            self._last_ids[shard] = command_id = ids.next_command_id(last, now_ms, shard)
            command = CaptureCommand(
                command_id, device, "bench", "", 1, due_ms, due_ms,
                due_ms + PERIOD_MS, 3_000, 0, now_ms,
            )  # fmt: skip
            found[home].append(self._record(COMMANDS, device, home, self._codec.encode(command)))
        return found

    async def step(self, number: int) -> None:
        """Take the captures of one step from command to result."""
        self._clock.ms = START_MS + number * STEP_MS
        self.arrive(self.commands(number))
        await self._commit()
        self._clock.ms += STEP_MS
        await self.arm()
        await self._commit()
        await self.shutters()
        await self._commit()

    async def _commit(self) -> None:
        self.app.group.renew(boottime_ms())  # a shutter may open at once
        await self.app.committer.commit()


async def simulate(
    folder: Path, devices: int, minutes: int
) -> tuple[Changes, dict[int, int], float]:
    """Work for so many minutes; return the changes, the rows by minute, and the CPU seconds.

    Raises:
        ShutterwheelError: a capture did not succeed.

    """
    hour, thresholds = Hour(folder, devices), gc.get_threshold()
    changes = Changes(SEGMENT_BYTES * PARTITIONS * devices // FLEET)
    store, apply = hour.app.store, hour.app.store.apply

    def tapped(writes: Mapping[StateKey, bytes | None], offsets: Any) -> None:
        changes.take(writes)
        apply(writes, offsets)

    setattr(store, "apply", tapped)  # noqa: B010  # a method of this one
    rows, steps = dict[int, int](), minutes * 60_000 // STEP_MS
    try:
        hour.introduce()
        await hour.app.committer.commit()
        gc.set_threshold(*GC_THRESHOLDS)
        began_s = time.process_time()
        for number in range(steps):
            await hour.step(number)
            minute, rest = divmod((number + 1) * STEP_MS, 60_000)
            if not rest:
                rows[minute] = len(changes.alive)
        spent_s = time.process_time() - began_s
        done = hour.metrics.captures["SUCCESS"]
        if hour.app.errors or done != steps * hour.step_captures:
            raise ShutterwheelError(f"{done} captures succeeded; {hour.app.errors[:1]}")
    finally:
        gc.set_threshold(*thresholds)
        await hour.close()
    return changes, rows, spent_s


def write(rig: Rig, namespace: str, changes: Changes, copies: int) -> int:
    """Write the changelog as compaction leaves it, so many times over; return how many records."""
    create_topics(rig.kafka, namespace, PARTITIONS)
    writer, topic = Writer(rig.kafka, namespace), CHANGELOGS[TABLE]
    # Live rows that a change of the tail has written stand there only.
    recent = {(partition, key) for partition, key, _ in changes.tail}
    old = [(*at, row) for at, row in changes.alive.items() if at not in recent]
    for records in (old, changes.tail):
        for copy in range(copies):
            prefix = b"" if copy == 0 else b"%02d." % copy
            for partition, key, value in records:
                writer.put(topic, prefix + key, value, partition)
    writer.flush()
    return copies * (len(old) + len(changes.tail))


def recover(rig: Rig, namespace: str) -> dict[tuple[str, str], float | None]:
    """Read it back, then look for the open captures, as a worker does that takes over."""
    settings = RuntimeSettings(APP, "bench", rig.kafka, rig.folder / "recovered", namespace)
    store = Store(settings.state_dir / "state", tuple(CHANGELOGS), block_cache_bytes=64 << 20)
    try:
        recovery = Recovery(
            settings, store, lambda name: topic_name(namespace, name), CHANGELOGS, (COMMANDS,)
        )
        recovery.positions(range(PARTITIONS))  # a new broker makes its topic of offsets now
        found = recovery.recover(range(PARTITIONS), lambda: True)
        began_s, rows, opened = time.monotonic(), 0, 0
        for number in range(PARTITIONS):
            for key, _ in store.scan(TABLE, number):
                rows += 1
                opened += b"\0" in key
        load_s = time.monotonic() - began_s
    finally:
        store.close()
    return {
        ("records", "1"): found.records,
        ("rows", "1"): rows,
        ("open_captures", "1"): opened,
        ("took_s", "s"): found.took_ms / 1000,
        ("records_per_s", "1/s"): found.records * 1000 / found.took_ms,
        ("load_s", "s"): load_s,
    }


def table(rig: Rig, devices: int, *, quick: bool) -> list[Row]:
    """Measure a fleet of so many devices."""
    minutes = QUICK_MINUTES if quick else MINUTES
    rig.say(f"captures: {minutes} minutes of {devices:,} devices")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        changes, rows, spent_s = runner.run(
            simulate(rig.folder / "captures-table", devices, minutes)
        )
    figures: dict[tuple[str, str], float | None] = {
        (f"rows_at_{minute}_min", "1"): rows[minute] for minute in SHOWN_MINUTES if minute in rows
    }
    captures = minutes * 60_000 // STEP_MS * max(1, devices * STEP_MS // PERIOD_MS)
    figures |= {
        ("growth", "1"): rows[minutes] / rows[SETTLED_MINUTE],
        ("open_at_most", "1"): changes.open_at_most,
        ("captures", "1"): captures,
        ("records_per_capture", "1"): changes.records / captures,
        ("bytes_of_a_row", "B"): sum(map(len, changes.alive.values())) / len(changes.alive),
        ("simulation_cpu_s", "s"): spent_s,
    }
    found = rows_of(f"captures over {minutes} min, {devices:,} devices", figures)
    namespace, copies = rig.new_namespace(), max(1, FLEET // devices)
    rig.say("captures: writing its changelog")
    written = write(rig, namespace, changes, copies)
    rig.say(f"captures: reading {written:,} records back")
    case = f"recovery of captures after it, {copies * devices:,} devices"
    return found + rows_of(case, recover(rig, namespace))
