"""What upstream publishes about each device: it changes its mind, repeats, reorders, contradicts.

Drawn from the plan's seed, a device at a time. A fleet's upstream is quiet: one schedule a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as replace_fields

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleUpserted,
)

if TYPE_CHECKING:
    import random

    from world_plan import Plan

MS = 1_000
MARK_MS = 3_600_000
CLOCKS = (("Europe/Paris", 12), ("Asia/Kolkata", 16))
"""Zones, and the hour that their clocks show when a world begins."""


@dataclass(frozen=True)
class Wish:
    """What upstream publishes about a device at a time; ``event`` is a record or bad bytes."""

    at_s: float
    device: int
    event: Any
    misplaced: bool = False
    """It is put on another partition than the device's."""
    how: str = ""
    """How it differs from what a careful upstream would do: a line of the README's table."""


def device_name(number: int) -> str:
    """Return a device's id."""
    return f"cam-{number}"


def wishes(plan: Plan, device: int, epoch_s: float) -> list[Wish]:
    """Return what upstream asks of a device, in the order of time."""
    chance = plan.stream(f"upstream/{device}")
    if plan.kind == "fleet":
        every_ms = 86_400 * MS
        mark_ms = chance.randrange(every_ms // MARK_MS) * MARK_MS  # as people do: on the hour
        spec = ScheduleSpec("interval", every_ms=every_ms, phase_ms=mark_ms)
        policy = CapturePolicy(catch_up_ms=600_000)
        return [Wish(chance.uniform(3.0, 60.0), device, _upsert(device, "a", 0, spec, policy))]
    maker = _Upstream(plan, device, chance, epoch_s)
    return maker.all()


def _upsert(
    device: int, schedule: str, number: int, spec: ScheduleSpec, policy: CapturePolicy
) -> ScheduleUpserted:
    name = device_name(device)
    return ScheduleUpserted(f"{name}/{number}", name, schedule, spec, policy, 0)


class _Upstream:
    """Somebody who changes their mind, repeats themselves and contradicts themselves."""

    def __init__(self, plan: Plan, device: int, chance: random.Random, epoch_s: float) -> None:
        self.plan, self.device, self.chance, self.epoch_s = plan, device, chance, epoch_s
        self.name = device_name(device)
        self.count = 0
        self.last: dict[str, ScheduleUpserted] = {}
        self.found: list[Wish] = []

    def all(self) -> list[Wish]:
        chance, end_s = self.chance, self.plan.seconds
        at_s = chance.uniform(1.5, 12.0)
        self.say(at_s, self.upsert("a"))
        drawn_s = self.plan.drawn_s or end_s
        changes = chance.choice((0, 2, 6, 15, 30))
        for _ in range(changes):
            at_s = chance.uniform(2.0, drawn_s)
            self.say(at_s, self.any(at_s))
            if chance.random() < 0.15:
                self.say(at_s + chance.uniform(0.0, 0.004), self.any(at_s), "contradicted")
        if self.plan.odd:
            self.odd(self.plan.stream(f"odd upstream/{self.device}"), end_s)
        for schedule in ("a", "b"):
            self.say(end_s, self.change(ScheduleCancelled, schedule))
        found = [w for w in self.found if w.at_s <= end_s + 3.0]
        return sorted(found, key=lambda wish: wish.at_s)

    def odd(self, chance: random.Random, end_s: float) -> None:
        """Ask for times by a clock's hour, and put some events on the wrong partition."""
        zone, hour = chance.choice(CLOCKS)
        hours = chance.choice((f"{hour}", f"{hour - 1}-{hour + 1}", f"{hour},{hour + 1}"))
        seconds = chance.choice(("*/20", "5,40", "*/7"))
        spec = ScheduleSpec("cron", expression=f"{seconds} * {hours} * * *", zone=zone)
        misfire = chance.choice(("latest", "skip", "all"))
        policy = CapturePolicy(misfire=misfire, catch_up_ms=chance.choice((None, 30_000)))
        at_s = chance.uniform(1.5, 20.0)
        self.found.append(Wish(at_s, self.device, _upsert(self.device, "c", 900, spec, policy)))
        gone = ScheduleCancelled(f"{self.name}/901", self.name, "c", 0)
        self.found.append(Wish(end_s, self.device, gone))
        for number in range(chance.choice((0, 1, 2))):
            astray = ScheduleCancelled(f"{self.name}/{910 + number}", self.name, "a", 0)
            at_s = chance.uniform(2.0, self.plan.drawn_s or end_s)
            self.found.append(Wish(at_s, self.device, astray, misplaced=True, how="misplaced"))

    def say(self, at_s: float, event: Any, how: str = "") -> None:
        chance = self.chance
        late_s = chance.choice((0.0, 0.0, 0.0, chance.uniform(0.0, 3.0)))
        how = how or ("bad" if isinstance(event, bytes) else "reordered" if late_s else "")
        self.found.append(Wish(at_s + late_s, self.device, event, how=how))
        while chance.random() < 0.2:
            again_s = at_s + chance.choice((0.002, 1.0, 20.0)) * chance.random()
            self.found.append(Wish(again_s, self.device, event, how="repeated"))

    def request_id(self) -> str:
        self.count += 1
        return f"{self.name}/{self.count}"

    def any(self, at_s: float) -> Any:
        chance = self.chance
        schedule = chance.choice(("a", "a", "b"))
        kind = chance.random()
        if kind < 0.2 or (kind < 0.4 and schedule not in self.last):
            return self.upsert(schedule)
        if kind < 0.4:  # the same times, but for a detail
            last = self.last[schedule]
            policy = replace_fields(last.policy, priority=chance.randrange(5))
            self.count += 1
            return _upsert(self.device, schedule, self.count, last.spec, policy)
        if kind < 0.5:
            return self.change(ScheduleCancelled, schedule)
        if kind < 0.62:
            return SchedulePaused(self.request_id(), self.name, schedule, "why", 0)
        if kind < 0.76:
            return self.change(ScheduleResumed, schedule)
        if kind < 0.93:
            ahead_s = chance.choice((None, -30.0, 2.0, 20.0, 60.0))
            at_ms = None if ahead_s is None else int((self.epoch_s + at_s + ahead_s) * 1000)
            return CaptureRequested(self.request_id(), self.name, at_ms, self.policy(), 0)
        return b"\0garbage" if kind < 0.96 else self.bad()

    def bad(self) -> Any:
        spec = ScheduleSpec("interval", every_ms=-5)
        return _upsert(self.device, "a", 0, spec, CapturePolicy())

    def change(self, cls: Any, schedule: str) -> Any:
        return cls(self.request_id(), self.name, schedule, 0)

    def upsert(self, schedule: str) -> ScheduleUpserted:
        chance = self.chance
        every_ms = chance.choice((2, 2, 3, 5, 5, 10, 15, 30, 60)) * MS
        kind = chance.random()
        now_ms = int(self.epoch_s * 1000)
        if kind < 0.8:
            phase_ms = chance.choice((0, 0, chance.randrange(every_ms)))
            spec = ScheduleSpec("interval", every_ms=every_ms, phase_ms=phase_ms)
        elif kind < 0.9:
            seconds = chance.choice(("*/10", "7,21,48", "30"))
            zone = chance.choice(("Europe/Paris", "Asia/Kolkata", ""))
            spec = ScheduleSpec("cron", expression=f"{seconds} * * * * *", zone=zone)
        else:
            at_ms = now_ms + int(
                chance.uniform(10.0, self.plan.drawn_s or self.plan.seconds) * 1000
            )
            spec = ScheduleSpec("once", at_ms=at_ms)
        policy = self.policy(every_ms if kind < 0.8 else 0)
        self.count += 1
        found = self.last[schedule] = _upsert(self.device, schedule, self.count, spec, policy)
        return found

    def policy(self, every_ms: int = 0) -> CapturePolicy:
        chance = self.chance
        return CapturePolicy(
            lead_ms=chance.choice((5_000, 5_000, 2_000, 8_000)),
            catch_up_ms=chance.choice((None, 500, 5_000, 30_000)),
            capture_timeout_ms=chance.choice((1_000, 3_000, 3_000)),
            spread_ms=chance.choice((0, 0, every_ms // 2)),
            priority=chance.choice((0, 0, 3)),
            misfire=chance.choice(("latest", "latest", "skip", "earliest", "all")),
            overlap=chance.choice(("allow", "allow", "skip", "buffer_one")),
            jitter_ms=chance.choice((0, 0, 0, every_ms // 4)),
            tolerance_ms=chance.choice((0, 2_000)),
            pause_after_failures=chance.choice((0, 0, 0, 3)),
            quality=chance.choice(("off", "off", "off", "retry")),
        )
