"""A log as the timing wheel writes it, made in memory by the real fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import Codec
from schemas.errors import StoreError
from schemas.ids import FingerprintIds
from schemas.records import (
    CapturePolicy,
    DeviceFact,
    PartitionSnapshot,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.recurrence import TZ_VERSION
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.state_hash import state_hash
from streams.replay.audit_state import Row, rows_of
from streams.replay.log import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import ScheduleEvent

START_MS = ids.EPOCH_MS + 1_000_000
CODEC = Codec(FingerprintIds())


class Recording:
    """Ticks are given; what the fold makes of them is written as the wheel writes it."""

    def __init__(self, partitions: int = 1) -> None:
        self.log = MemoryLog(partitions)
        self.partitions = partitions
        self.states = [PartitionState(n, partitions) for n in range(partitions)]
        for topic in ("schedule.events", "schedule.ticks", "schedule.decisions"):
            self._make(topic)
        self._make("capture.commands")
        self._make("capture.results")
        self.files: dict[str, list[Row]] = {}
        """The rows of snapshots, by URI."""

    def _make(self, topic: str) -> None:
        self.log.append(topic, 0, None, None, 0)
        self.log.entries(topic, 0).clear()

    def tick(
        self,
        at_ms: int,
        events: Iterable[ScheduleEvent] = (),
        facts: Iterable[DeviceFact] = (),
        **settings: int,
    ) -> None:
        """One tick of every partition, with the events that belong to it."""
        asked = list(events)
        for state in self.states:
            changes = []
            for event in asked:
                if ids.partition_of(event.device_id, self.partitions) == state.partition:
                    key, value = event.device_id.encode(), CODEC.encode(event)
                    offset = self.log.append(
                        "schedule.events", state.partition, key, value, START_MS + at_ms
                    )
                    changes.append(TickChange(offset, event))
            tick = ScheduleTick(
                state.partition,
                self.partitions,
                START_MS + at_ms,
                RULES_VERSION,
                TZ_VERSION,
                TickSettings(**settings),
                tuple(changes),
                tuple(facts),
            )
            self.write(state, tick)

    def write(self, state: PartitionState, tick: ScheduleTick) -> None:
        number = state.partition
        self.log.append("schedule.ticks", number, b"0", CODEC.encode(tick), tick.time_ms)
        outputs = advance(state, tick)
        for topic, records in (
            ("schedule.decisions", outputs.decisions),
            ("capture.commands", outputs.commands),
        ):
            for one in records:
                value = CODEC.encode(one)
                self.log.append(topic, number, one.device_id.encode(), value, tick.time_ms)

    def snapshot(self) -> None:
        """Write down the state of every partition as its last tick left it."""
        for state in self.states:
            number = state.partition
            ticks = self.log.ends("schedule.ticks")[number]
            uri, rows = f"memory:///{number}/{ticks}", list(rows_of(state, CODEC))
            self.files[uri] = rows
            snapshot = PartitionSnapshot(
                number,
                self.partitions,
                ticks - 1,
                self.log.ends("schedule.events")[number],
                state.time_ms,
                RULES_VERSION,
                TZ_VERSION,
                state_hash(rows),
                uri,
                100,
                len(rows),
                state.schedule_count,
            )
            value = CODEC.encode(snapshot)
            self.log.append("schedule.ticks", number, b"0", value, state.time_ms)

    def rows(self, snapshot: PartitionSnapshot) -> list[Row]:
        """Read the rows of a snapshot back."""
        if snapshot.uri not in self.files:
            raise StoreError(f"{snapshot.uri} is not there.")
        return self.files[snapshot.uri]

    def run(self, from_s: int, to_s: int, **settings: int) -> None:
        """Ticks each second, without events."""
        for second in range(from_s, to_s):
            self.tick(second * 1_000, **settings)


def upserts(
    devices: Iterable[str],
    *,
    every_ms: int = 10_000,
    policy: CapturePolicy | None = None,
    schedule_id: str = "s",
    request: str = "r",
) -> list[ScheduleUpserted]:
    """One schedule for each device."""
    spec = ScheduleSpec("interval", every_ms=every_ms)
    return [
        ScheduleUpserted(
            f"{request}-{schedule_id}-{one}", one, schedule_id, spec, policy or CapturePolicy(), 0
        )
        for one in devices
    ]
