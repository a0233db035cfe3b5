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

APPS = ("wheel", "captures", "devices")
SETTLE_S = 130.0
"""After the last fault and the last wish of upstream: until all is over."""
TIMED, ODD = 7, 6
"""Of eight seeds, which have time servers, and which are odd."""
SNAPSHOT_MS = {"squall": 20_000, "storm": 45_000}
"""How often the wheels of an odd world write their state down."""


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
    odd: bool = False
    """Snapshots, times by a wall clock's hour, events on the wrong partition: see ``ODD_KINDS``."""
    drawn_s: float = 0.0
    """How long it was before it was cut: from this its wishes are drawn."""
    kinds: tuple[str, ...] = ()
    """Of faults, where not all were drawn from."""
    whole: tuple[int, float] = (0, 0.0)
    """Devices and seconds that were asked for; 0: as many as the seed says."""

    def words(self) -> str:
        """Return the options that make this plan again."""
        whole = make(self.seed, self.kind, *self.whole, self.kinds)
        words = f"--seed {self.seed} --kind {self.kind}"
        if self.kinds:
            words += f" --only {','.join(self.kinds)}"
        if self.whole[0]:
            words += f" --plan-devices {self.whole[0]}"
        if self.whole[1]:
            words += f" --plan-seconds {self.whole[1]:g}"
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
    """Return numbers as a command line has them: ``0,3-7``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in found) or "none"


def numbers_of(text: str) -> tuple[int, ...]:
    """Return the numbers of such a text."""
    found: list[int] = []
    for part in text.split(",") if text != "none" else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


# --- storms and fleets ----------------------------------------------------------------------------


def make(
    seed: int,
    kind: str = "storm",
    devices: int = 0,
    seconds: float = 0.0,
    kinds: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a seed; each eighth storm and squall has time servers, another is odd.

    ``devices`` and ``seconds``, where given, are instead of what the seed says; ``kinds``: all
    faults are of these.
    """
    plan = replace(_make(seed, kind, devices, seconds, kinds), whole=(devices, seconds))
    if kind == "fleet" or kinds:
        return plan
    if seed % 8 == ODD:
        plan = replace(plan, odd=True)
        return replace(plan, faults=plan.faults + _odd_faults(plan, plan.stream("odd")))
    if seed % 8 != TIMED:
        return plan
    chance = plan.stream("ntp")
    plan = replace(plan, time_servers=chance.choice((3, 3, 5)))
    return replace(plan, faults=plan.faults + _ntp_faults(plan, chance))


def _odd_faults(plan: Plan, chance: random.Random) -> tuple[Fault, ...]:
    """Return what befalls odd worlds, beside everything else."""
    found: list[Fault] = []
    at_s = chance.uniform(3.0, 25.0)
    while at_s < plan.seconds - 5.0:
        kind = chance.choices(sorted(ODD_KINDS), [ODD_KINDS[k][0] for k in sorted(ODD_KINDS)])[0]
        found.append(_fault(len(plan.faults) + len(found), at_s, kind, plan, chance))
        at_s += chance.expovariate(1.0 / 12.0)
    return tuple(found)


def _fault(number: int, at_s: float, kind: str, plan: Plan, chance: random.Random) -> Fault:
    _, lasts, amount = (KINDS | ODD_KINDS)[kind]
    app, machine = chance.choices(APPS, (4, 6, 1))[0], chance.randrange(plan.machines)
    for_s, much = round(chance.uniform(*lasts), 3), round(chance.uniform(*amount), 3)
    return Fault(number, round(at_s, 3), kind, app, machine, for_s, much)


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


def _make(seed: int, kind: str, devices: int, seconds: float, kinds: tuple[str, ...]) -> Plan:
    chance = random.Random(f"{seed}/plan")
    if kind == "fleet":
        seconds = seconds or 3 * 86_400.0
        plan = Plan(seed, kind, seconds, 1, 1, tuple(range(devices or 40_000)), (), 0, 2_000, False)
        return replace(plan, faults=_fleet_faults(plan, chance))
    seconds = seconds or chance.choice((120.0, 240.0, 400.0))
    if kind == "squall":
        plan = Plan(
            seed,
            kind,
            90.0,
            2,
            2,
            tuple(range(6)),
            (),
            seed % 2,
            250,
            beats=seed % 3 == 2,
            kinds=kinds,
        )
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
        kinds=kinds,
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

ODD_KINDS: dict[str, tuple[float, tuple[float, float], tuple[float, float]]] = {
    "beats_late": (2, (5.0, 40.0), (2.0, 25.0)),
    "disk_slow": (2, (2.0, 20.0), (5.0, 60.0)),
    "deaf": (2, (0.5, 15.0), (0, 0)),
    "tz_late": (0.7, (0.0, 0.0), (-1.0, 1.0)),
    "repartition_more": (0.7, (0.0, 0.0), (0, 0)),
}
"""Those of odd worlds; they came later, and leave the others as they were."""
NTP_KINDS = ("ntp_silent", "ntp_lies", "ntp_queues")


def _storm_faults(plan: Plan, chance: random.Random) -> tuple[Fault, ...]:
    some = chance.sample(sorted(KINDS), chance.randint(4, len(KINDS)))  # swarm testing
    some = list(plan.kinds) or some
    weights = [(KINDS | ODD_KINDS)[kind][0] for kind in some]
    faults: list[Fault] = []
    pause_s = 4.0 if plan.kind == "squall" else chance.choice((4.0, 10.0, 25.0))
    at_s = chance.uniform(2.0, 30.0)
    while at_s < plan.seconds - 5.0:
        kind = chance.choices(some, weights)[0]
        faults.append(_fault(len(faults), at_s, kind, plan, chance))
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
