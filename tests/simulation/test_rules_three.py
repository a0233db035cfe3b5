"""Ticks of rules version 3 fold as they did when they were written (SPEC 1.10).

The digest was taken with the code of rules version 3: cron lines and calendar rules in zones, facts,
capacity, tz versions that change without a word, and rules that were refused then and are taken now.
"""

from __future__ import annotations

import hashlib
import random

import msgspec

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
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.shard import PartitionState, advance

START_MS = ids.EPOCH_MS + 76 * 86_400_000
"""In March: summer time begins in most zones while the worlds run."""
DIGEST = "d7754f4f7d2dff2d189fb1d5167d378e328781230b3696b82616aacb63d026ac"
WORLDS = 30
LATER = {"ShardState": {"tz"}}
"""Fields that came after version 3, by record."""
ZONES = ("", "Europe/Paris", "America/New_York", "Australia/Lord_Howe")
LINES = ("*/20 * * * *", "30 2 * * *", "15 6-20 * * mon-fri", "0 0 L * *", "0 3 * * sun#2")
RULES = (
    "FREQ=DAILY;BYHOUR=2,14",
    "FREQ=WEEKLY;BYDAY=MO,TH",
    "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1;COUNT=3",
    "FREQ=HOURLY;INTERVAL=5",
    "FREQ=YEARLY;BYWEEKNO=14",
    "FREQ=DAILY;BYHOUR=2,14;BYSETPOS=1",
    "FREQ=DAILY\nEXDATE:20260401T020000",
    "FREQ=DAILY\nRDATE:20260401T021500",
    "FREQ=DAILY;BYWEEKNO=3;X=1",
    "FREQ=OFTEN",
)


def as_then(value: object) -> object:
    """Return a record as a list of the fields it had; those it had not are at their defaults."""
    if not isinstance(value, msgspec.Struct):
        return [as_then(part) for part in value] if isinstance(value, tuple) else value
    name, found = type(value).__name__, []
    for field in msgspec.structs.fields(value):
        content = getattr(value, field.name)
        if field.name in LATER.get(name, ()):
            assert content == field.default, f"{name}.{field.name}"
        else:
            found.append(as_then(content))
    return [name, *found]


def events(rng: random.Random, number: int):
    device, schedule, request = f"cam-{rng.randrange(4)}", rng.choice("abc"), f"r{number}"
    policy = CapturePolicy(
        lead_ms=rng.choice([0, 5_000, 600_000]),
        misfire=rng.choice(["latest", "skip", "earliest", "all"]),
        spread_ms=rng.choice([0, 0, 60_000]),
        jitter_ms=rng.choice([0, 0, 500]),
        tolerance_ms=rng.choice([0, 30_000]),
    )
    zone = rng.choice(ZONES)
    exclude = rng.choice([(), (), (Exclusion(weekdays="sat", hours="22:00-03:00"),)])
    match rng.randrange(9):
        case 0 | 1 | 2:
            spec = ScheduleSpec("cron", expression=rng.choice(LINES), zone=zone, exclude=exclude)
        case 3 | 4 | 5:
            text = f"DTSTART:20260301T021000\nRRULE:{rng.choice(RULES)}"
            spec = ScheduleSpec("calendar", expression=text, zone=zone, exclude=exclude)
        case 6:
            return SchedulePaused(request, device, schedule, "rain", 0)
        case 7:
            return ScheduleResumed(request, device, schedule, 0)
        case _:
            return ScheduleCancelled(request, device, schedule, 0)
    return ScheduleUpserted(request, device, schedule, spec, policy, 0)


def digest(rules_version: int) -> str:
    """Fold many worlds and return the SHA-256 of all their outputs."""
    found = hashlib.sha256()
    for seed in range(WORLDS):
        rng = random.Random(seed)
        state, now_ms, number = PartitionState(0, 1), START_MS, 0
        settings = TickSettings(300, 1_800_000, rng.choice([3, 10_000]), rng.choice([0, 1]))
        for turn in range(60):
            now_ms += rng.choice([0, 1_000, 60_000, 3_600_000, 20_000_000, 90_000_000])
            changes = []
            for _ in range(rng.randrange(3)):
                number += 1
                changes.append(TickChange(number, events(rng, number)))
            facts = (DeviceFact("cam-1", "failing", failures=turn, cause="gone"),)[: turn % 2]
            version = rng.choice(["2026f", "2026f", "2027a"])
            tick = ScheduleTick(
                0, 1, now_ms, rules_version, version, settings, tuple(changes), facts
            )
            outputs = advance(state, tick)
            rows = [(key, as_then(row)) for key, row in outputs.rows.items()]
            made = (as_then(tuple(outputs.decisions)), as_then(tuple(outputs.commands)), rows)
            found.update(repr(made).encode())
    return found.hexdigest()


def test_the_outputs_are_the_same_bytes():
    assert digest(3) == DIGEST
