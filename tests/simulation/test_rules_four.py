"""Ticks of rules version 4 fold as they did when they were written (SPEC 1.10).

The digest was taken with the code of rules version 4: schedules in zones over several upgrades of
the tz data, each of which moved all that it moves in one tick.
"""

from __future__ import annotations

import hashlib
import random

import pytest

from schemas.records import (
    CapturePolicy,
    DeviceFact,
    Exclusion,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Term,
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.partition import PartitionState
from streams.core.recurrence import zones
from streams.core.shard import advance
from tests.unit.core.tz_trees import tree

START_MS = ids.EPOCH_MS + 90 * 86_400_000
DIGEST = "99228a136f5de3fb50788e66ceb0ec63976cb96c5f37d802e50a59685d0b15d3"
WORLDS = 4
HOUR = 3_600
ZONES = ("Test/Here", "Test/There", "Test/Still")
LINES = ("*/20 * * * *", "30 2 * * *", "15 6-20 * * mon-fri", "0 0 L * *", "5,35 8,9,17 * * *")
RULES = ("FREQ=DAILY;BYHOUR=2,14", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=HOURLY;INTERVAL=5")


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Four versions: clocks that go on, or back, or that are told of in time."""
    folder, start_s = tmp_path_factory.mktemp("tz"), START_MS // 1000
    still = (9 * HOUR, [])
    made = {
        "a": {"Test/Here": (HOUR, []), "Test/There": (-5 * HOUR, []), "Test/Still": still},
        "b": {
            "Test/Here": (HOUR, [(start_s - 9 * HOUR, 2 * HOUR)]),
            "Test/There": (-5 * HOUR, [(start_s + 60 * HOUR, -6 * HOUR)]),
            "Test/Still": still,
        },
        "c": {"Test/Here": (0, []), "Test/There": (-7 * HOUR, []), "Test/Still": still},
        "d": {"Test/Here": (HOUR + HOUR // 2, []), "Test/Still": still},
    }
    found = [tree(folder, version, its) for version, its in made.items()]
    for one in found:
        zones.know(one)
    yield [one.version for one in found]
    for one in found:
        del zones._others[one.version]


def event(rng: random.Random, number: int):
    device, schedule, request = f"cam-{rng.randrange(3)}", f"s{rng.randrange(14)}", f"r{number}"
    policy = CapturePolicy(
        lead_ms=rng.choice([0, 5_000, 600_000]),
        misfire=rng.choice(["latest", "skip", "earliest", "all"]),
        catch_up_ms=rng.choice([None, None, 0, 7_200_000]),
        spread_ms=rng.choice([0, 0, 60_000]),
        jitter_ms=rng.choice([0, 0, 500]),
    )
    more = {
        "zone": rng.choice(ZONES),
        "exclude": rng.choice([(), (), (Exclusion(weekdays="sat", hours="22:00-03:00"),)]),
        "max_count": rng.choice([None, None, 5]),
    }
    match rng.randrange(14):
        case 0:
            return SchedulePaused(request, device, schedule, "rain", 0)
        case 1:
            return ScheduleResumed(request, device, schedule, 0)
        case 2:
            return ScheduleCancelled(request, device, schedule, 0)
        case 3 | 4 | 5:
            text = f"DTSTART:20260301T021000\nRRULE:{rng.choice(RULES)}"
            spec = ScheduleSpec("calendar", expression=text, **more)
        case 6:
            also = (Term("cron", expression="35 8 * * *"),)
            spec = ScheduleSpec("interval", every_ms=600_000, also=also, **more)
        case 7:
            spec = ScheduleSpec(
                "cron", expression="0,30 6-20 * * *", daylight="sunrise..sunset", **more
            )
        case _:
            spec = ScheduleSpec("cron", expression=rng.choice(LINES), **more)
    return ScheduleUpserted(request, device, schedule, spec, policy, 0)


def digest(rules_version: int, versions: list[str]) -> str:
    """Fold many worlds and return the SHA-256 of all their outputs."""
    found = hashlib.sha256()
    for seed in range(WORLDS):
        rng = random.Random(seed)
        state, now_ms, number = PartitionState(0, 1), START_MS, 0
        settings = TickSettings(300, 1_800_000, rng.choice([5, 10_000]), rng.choice([0, 2]))
        version = versions[0]
        for turn in range(50):
            now_ms += rng.choice([0, 1_000, 60_000, 1_200_000, 3_600_000, 20_000_000])
            changes = []
            for _ in range(60 if not turn else rng.randrange(4)):
                number += 1
                changes.append(TickChange(number, event(rng, number)))
            facts = (DeviceFact("cam-1", "place", latitude=turn % 3 * 10.0, longitude=3.0),)
            if turn and not rng.randrange(5):
                version = rng.choice(versions)
            tick = ScheduleTick(
                0, 1, now_ms, rules_version, version, settings, tuple(changes), facts[: turn % 2]
            )
            outputs = advance(state, tick)
            found.update(repr((outputs.decisions, outputs.commands, outputs.rows)).encode())
    return found.hexdigest()


def test_the_outputs_are_the_same_bytes(versions):
    assert digest(4, versions) == DIGEST
