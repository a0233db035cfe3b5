"""A partition whose tz data change, and the versions that tests of it use.

``old`` has a zone at UTC+1 for ever, in ``earlier`` it goes to UTC+2 an hour after (what old calls
08:00 is 09:00, so times come earlier), in ``later`` it is at UTC (times come later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureRevoked,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    TickChange,
    TickSettings,
)
from streams.core.partition import PartitionState
from streams.core.recurrence import zones
from streams.core.recurrence.civil import DAY_MS, HOUR_MS, day_of
from streams.core.shard import RULES_VERSION, Outputs, advance
from streams.replay.audit_state import rows_of, state_of
from tests.unit.core.tz_trees import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.core.recurrence.zones import TzData

MINUTE = 60_000
DAY = day_of(2026, 9, 1) * DAY_MS
ZONE, OTHER = "Test/Here", "Test/There"
HOUR = 3_600
CODEC = Codec(FingerprintIds())


def versions(folder: Path) -> Iterator[dict[str, TzData]]:
    """Write the versions and have them at hand; their names begin with what happens to times."""
    began = DAY // 1000 - 40 * 86_400
    soon = DAY // 1000 + 12 * HOUR
    far = DAY // 1000 + 400 * 86_400
    there = (2 * HOUR, [])
    made = {
        "old": {ZONE: (HOUR, []), OTHER: there},
        "earlier": {ZONE: (HOUR, [(began, 2 * HOUR)]), OTHER: there},
        "later": {ZONE: (HOUR, [(began, 0)]), OTHER: there},
        "soon": {ZONE: (HOUR, [(soon, 2 * HOUR)]), OTHER: there},
        "soon-back": {ZONE: (HOUR, [(soon, 0)]), OTHER: there},
        "far": {ZONE: (HOUR, [(far, 2 * HOUR)]), OTHER: there},
        "gone": {OTHER: there},
        "same": {ZONE: (HOUR, []), OTHER: there},
    }
    found = {version: tree(folder, version, its) for version, its in made.items()}
    for one in found.values():
        zones.know(one)
    yield found
    for version in found:
        del zones._others[version]


def cron(line: str, zone: str = ZONE, **more) -> ScheduleSpec:
    return ScheduleSpec("cron", expression=line, zone=zone, **more)


class World:
    """A partition, its ticks and all that came of them."""

    def __init__(self, version: str = "old", rules: int = RULES_VERSION) -> None:
        self.state = PartitionState(0, 1)
        self.version, self.rules = version, rules
        self.now = DAY
        self.commands: list[tuple[str, CaptureCommand]] = []
        self.revoked: list[CaptureRevoked] = []
        self.skipped: list[tuple[str, Skipped]] = []
        self.ticks: list[ScheduleTick] = []
        self.outputs: list[Outputs] = []

    def tick(self, at_ms: int | None = None, *events, version: str = "") -> Outputs:
        self.now = self.now if at_ms is None else at_ms
        self.version = version or self.version
        changes = tuple(TickChange(n, event) for n, event in enumerate(events))
        tick = ScheduleTick(0, 1, self.now, self.rules, self.version, TickSettings(notice_ms=0), changes)  # fmt: skip
        outputs = advance(self.state, tick)
        self.ticks.append(tick)
        self.outputs.append(outputs)
        for command in outputs.commands:
            if isinstance(command, CaptureRevoked):
                self.revoked.append(command)
                self.commands = [c for c in self.commands if not voids(command, c[1])]
            else:
                self.commands.append((self.version, command))
        self.skipped += [(self.version, d) for d in outputs.decisions if isinstance(d, Skipped)]
        return outputs

    def put(self, spec: ScheduleSpec, schedule: str = "s", **policy) -> None:
        policy.setdefault("lead_ms", 0)
        event = ScheduleUpserted(f"r-{len(self.ticks)}", "cam-1", schedule, spec, CapturePolicy(**policy), 0)  # fmt: skip
        self.tick(None, event)

    def restart(self) -> None:
        """Build the state of its rows, as a worker does that starts."""
        self.state = state_of(list(rows_of(self.state, CODEC)), 0, 1, CODEC)

    def times(self) -> list[int]:
        return [command.scheduled_ms for _, command in self.commands]


def voids(revoked: CaptureRevoked, command: CaptureCommand) -> bool:
    same = (revoked.device_id, revoked.schedule_id) == (command.device_id, command.schedule_id)
    return same and command.epoch <= revoked.epoch and command.scheduled_ms >= revoked.from_ms


def at(hour: float, day: int = 0) -> int:
    """A UTC time."""
    return DAY + day * DAY_MS + round(hour * HOUR_MS)
