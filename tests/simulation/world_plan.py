"""What will happen in a world, made up front from its seed, so that it can be shrunk.

A plan is devices, what upstream asks of them, and faults. Each device, and each kind of fault, has
randomness of its own, named after it: leaving one out changes nothing of the others. A plan is
told on a command line as the seed and what is left of it (:meth:`Plan.words`).

A **squall** is a short storm of few devices. Of the other two kinds a **storm** has few devices, many photos and a fault every few seconds; a **fleet** has
thousands of devices over hours or days, few photos each, and a fault now and then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

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

APPS = ("wheel", "captures", "devices")
SETTLE_S = 130.0
"""After the last fault and the last wish of upstream: until all is over."""
MS = 1_000
MARK_MS = 3_600_000
TIMED = 7


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    number: int
    at_s: float
    kind: str
    app: str = ""
    machine: int = 0
    for_s: float = 0.0
    amount: float = 0.0

    def text(self) -> str:
        """Return it in words."""
        where = f"{self.app}-m{self.machine}" if self.app else f"m{self.machine}"
        return f"{self.at_s:8.2f} s  {self.kind} {where} for {self.for_s:.1f} s, {self.amount:+.2f}"


@dataclass(frozen=True)
class Wish:
    """What upstream publishes about a device at a time; ``event`` is a record or bad bytes."""

    at_s: float
    device: int
    event: Any
    misplaced: bool = False


@dataclass(frozen=True)
class Plan:
    """All that will happen."""

    seed: int
    kind: str
    seconds: float
    partitions: int
    machines: int
    devices: tuple[int, ...]
    faults: tuple[Fault, ...]
    capacity_per_shard: int
    heartbeat_ms: int
    beats: bool
    """Devices send heartbeats."""
    time_servers: int = 0
    """That keep the clocks of all machines; 0: they go by their own."""
    drawn_s: float = 0.0
    """How long it was before it was cut: from this its wishes are drawn."""

    def words(self) -> str:
        """Return the options that make this plan again."""
        whole = make(self.seed, self.kind)
        words = f"--seed {self.seed} --kind {self.kind}"
        if self.faults != whole.faults:
            words += f" --faults {_ranges([f.number for f in self.faults])}"
        if self.devices != whole.devices:
            words += f" --devices {_ranges(self.devices)}"
        if self.seconds != whole.seconds:
            words += f" --seconds {self.seconds:g}"
        return words

    def cut(
        self,
        faults: tuple[int, ...] | None = None,
        devices: tuple[int, ...] | None = None,
        seconds: float | None = None,
    ) -> Plan:
        """Return what is left of it: faults and devices by number, and how long it takes."""
        plan = self
        if seconds is not None and seconds < self.seconds:
            plan = replace(plan, seconds=seconds, drawn_s=self.drawn_s or self.seconds)
        if devices is not None:
            plan = replace(plan, devices=tuple(d for d in self.devices if d in set(devices)))
        kept = plan.faults if faults is None else [f for f in plan.faults if f.number in faults]
        return replace(plan, faults=tuple(f for f in kept if f.at_s < plan.seconds))

    def stream(self, name: str) -> random.Random:
        """Return the randomness of something, by its name."""
        return random.Random(f"{self.seed}/{name}")


def _ranges(numbers: Any) -> str:
    return ",".join(map(str, numbers)) or "none"


# --- storms and fleets ----------------------------------------------------------------------------


def make(seed: int, kind: str = "storm", devices: int = 0, seconds: float = 0.0) -> Plan:
    """Return the plan of a seed; each eighth storm and squall has time servers."""
    plan = _make(seed, kind, devices, seconds)
    if kind == "fleet" or seed % 8 != TIMED:
        return plan
    chance = plan.stream("ntp")
    plan = replace(plan, time_servers=chance.choice((3, 3, 5)))
    return replace(plan, faults=plan.faults + _ntp_faults(plan, chance))


def _ntp_faults(plan: Plan, chance: random.Random) -> tuple[Fault, ...]:
    """Return what befalls the time servers, beside everything else."""
    found: list[Fault] = []
    at_s = chance.choice((0.0, 0.0, 20.0))
    while at_s < plan.seconds - 5.0:
        kind = chance.choice(("ntp_silent", "ntp_lies", "ntp_lies", "ntp_queues"))
        number, for_s = len(plan.faults) + len(found), round(chance.uniform(5.0, 40.0), 3)
        amount = round(chance.choice((0.02, 0.3, 1.7, 5.0)) * chance.uniform(-1.0, 1.0), 3)
        found.append(Fault(number, round(at_s, 3), kind, for_s=for_s, amount=amount))
        at_s += for_s + chance.uniform(0.0, 15.0)
    return tuple(found)


def _make(seed: int, kind: str, devices: int, seconds: float) -> Plan:
    chance = random.Random(f"{seed}/plan")
    if kind == "fleet":
        seconds = seconds or 3 * 86_400.0
        plan = Plan(seed, kind, seconds, 1, 1, tuple(range(devices or 40_000)), (), 0, 2_000, False)
        return replace(plan, faults=_fleet_faults(plan, chance))
    seconds = seconds or chance.choice((120.0, 240.0, 400.0))
    if kind == "squall":
        plan = Plan(seed, kind, 90.0, 2, 2, tuple(range(6)), (), seed % 2, 250, beats=seed % 3 == 2)
        return replace(plan, faults=_storm_faults(plan, chance))
    plan = Plan(
        seed,
        kind,
        seconds,
        partitions=chance.choice((1, 2, 2, 4)),
        machines=chance.choice((1, 2, 2, 3)),
        devices=tuple(range(devices or chance.choice((4, 8, 12, 20)))),
        faults=(),
        capacity_per_shard=chance.choice((0, 0, 1)),
        heartbeat_ms=250,
        beats=chance.random() < 0.5,
    )
    return replace(plan, faults=_storm_faults(plan, chance))


KINDS: dict[str, tuple[float, tuple[float, float], tuple[float, float]]] = {
    # kind: weight, seconds it lasts, amount
    "crash": (4, (0.2, 4.0), (0, 0)),
    "crash_after_commit": (3, (0.2, 4.0), (0, 0)),
    "crash_machine": (1, (0.5, 6.0), (0, 0)),
    "restart": (2, (0.2, 2.0), (0, 0)),
    "pause": (2, (0.3, 5.0), (0, 0)),
    "sleep": (4, (6.5, 14.0), (0, 0)),  # longer than a session
    "pause_machine": (1, (0.3, 12.0), (0, 0)),
    "cut": (2, (0.5, 20.0), (0, 0)),
    "slow": (2, (2.0, 20.0), (2.0, 12.0)),
    "clock_step": (1.5, (3.0, 60.0), (-6.0, 6.0)),
    "disk_lost": (1, (0.5, 3.0), (0, 0)),
    "disk_old": (1, (0.5, 3.0), (0, 0)),
    "cameras_hang": (1.5, (2.0, 30.0), (0.1, 1.0)),
    "cameras_fail": (1.5, (2.0, 30.0), (0.1, 1.0)),
    "blobs_slow": (1, (2.0, 20.0), (0.1, 3.0)),
    "blobs_down": (1, (2.0, 15.0), (0, 0)),
    "beats_lost": (1, (10.0, 40.0), (0.2, 1.0)),
    "commands_again": (1, (0.0, 0.0), (0, 0)),
    "profile_again": (0.5, (0.0, 0.0), (0, 0)),
    "tz": (0.4, (0.0, 0.0), (-1.0, 1.0)),
    "repartition": (0.4, (0.0, 0.0), (0, 0)),
}


def _storm_faults(plan: Plan, chance: random.Random) -> tuple[Fault, ...]:
    some = chance.sample(sorted(KINDS), chance.randint(4, len(KINDS)))  # swarm testing
    weights = [KINDS[kind][0] for kind in some]
    faults: list[Fault] = []
    pause_s = 4.0 if plan.kind == "squall" else chance.choice((4.0, 10.0, 25.0))
    at_s = chance.uniform(2.0, 30.0)
    while at_s < plan.seconds - 5.0:
        kind = chance.choices(some, weights)[0]
        _, lasts, amount = KINDS[kind]
        faults.append(
            Fault(
                len(faults),
                round(at_s, 3),
                kind,
                chance.choices(APPS, (4, 6, 1))[0],
                chance.randrange(plan.machines),
                round(chance.uniform(*lasts), 3),
                round(chance.uniform(*amount), 3),
            )
        )
        at_s += chance.expovariate(1.0 / pause_s)
    return tuple(faults)


def _fleet_faults(plan: Plan, chance: random.Random) -> tuple[Fault, ...]:
    kinds = ("crash", "crash_after_commit", "pause", "restart", "slow", "cameras_fail", "cut")
    times = sorted(chance.uniform(600.0, plan.seconds - 600.0) for _ in range(12))
    return tuple(
        Fault(number, round(at_s, 3), chance.choice(kinds), chance.choice(APPS[:2]), 0,
              round(chance.uniform(0.5, 10.0), 3), round(chance.uniform(0.1, 3.0), 3))
        for number, at_s in enumerate(times)
    )  # fmt: skip


# --- what upstream asks for -----------------------------------------------------------------------


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
            if chance.random() < 0.15:  # contradicts itself
                self.say(at_s + chance.uniform(0.0, 0.004), self.any(at_s))
        for schedule in ("a", "b"):
            self.say(end_s, self.change(ScheduleCancelled, schedule))
        found = [w for w in self.found if w.at_s <= end_s + 3.0]
        return sorted(found, key=lambda wish: wish.at_s)

    def say(self, at_s: float, event: Any) -> None:
        chance = self.chance
        late_s = chance.choice((0.0, 0.0, 0.0, chance.uniform(0.0, 3.0)))  # reordered
        self.found.append(Wish(at_s + late_s, self.device, event))
        while chance.random() < 0.2:  # repeated
            again_s = at_s + chance.choice((0.002, 1.0, 20.0)) * chance.random()
            self.found.append(Wish(again_s, self.device, event))

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
