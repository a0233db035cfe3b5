"""Ticks of rules version 1 fold as they did when they were written (SPEC 1.10).

The digest was taken with the code of rules version 1. Records are compared in the fields they had
then; fields that came later must stand at their defaults, where the rules of version 1 left them.
"""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
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

START_MS = ids.EPOCH_MS + 1_000_000
DIGEST = "017ce65276cb1f18ebd268cf0428a234b4736da791d665a038c0aabece768d0c"
WORLDS = 40
FIELDS = {
    "CapturePolicy": "lead_ms catch_up_ms capture_timeout_ms spread_ms priority",
    "ScheduleSpec": "kind every_ms phase_ms at_ms",
    "ScheduleState": "device_id schedule_id epoch spec policy starts_at_ms paused pause_reason",
    "ShardState": "shard clock_ms last_id epoch",
    "CaptureCommand": (
        "command_id device_id schedule_id request_id epoch nominal_ms scheduled_ms not_after_ms"
        " capture_timeout_ms priority issued_at_ms"
    ),
    "CaptureRevoked": "device_id schedule_id epoch tick_time_ms reason",
}
"""Fields of version 1, of the records that have more today."""


def as_then(value: object) -> object:
    """Return a record as a list of the fields it had, after a look at those it had not."""
    if not isinstance(value, msgspec.Struct):
        return value
    name = type(value).__name__
    known = FIELDS.get(name, " ".join(value.__struct_fields__)).split()
    for field in msgspec.structs.fields(value):
        if field.name not in known:
            default = field.default
            if default is msgspec.NODEFAULT:
                default = field.default_factory()
            assert getattr(value, field.name) == default, f"{name}.{field.name}"
    return [name, *(as_then(getattr(value, field)) for field in known)]


def events(rng: random.Random, number: int):
    device = f"cam-{rng.randrange(6)}"
    schedule, request = rng.choice("ab"), f"r{rng.randrange(number + 3)}"
    policy = CapturePolicy(
        lead_ms=rng.choice([0, 300, 1_000, 5_000]),
        catch_up_ms=rng.choice([None, None, 0, 700, 60_000]),
        spread_ms=rng.choice([0, 0, 100]),
        priority=rng.randrange(3),
    )
    match rng.randrange(7):
        case 0 | 1 | 2:
            spec = ScheduleSpec("interval", every_ms=rng.choice([100, 250, 1_000, 7_000]))
            return ScheduleUpserted(request, device, schedule, spec, policy, 0)
        case 3:
            at_ms = START_MS + rng.randrange(-5_000, 60_000)
            if rng.random() < 0.5:
                return CaptureRequested(request, device, at_ms, policy, 0)
            spec = ScheduleSpec("once", at_ms=at_ms)
            return ScheduleUpserted(request, device, schedule, spec, policy, 0)
        case 4:
            return ScheduleCancelled(request, device, schedule, 0)
        case 5:
            return SchedulePaused(request, device, schedule, "rain", 0)
        case _:
            return ScheduleResumed(request, device, schedule, 0)


def digest(rules_version: int) -> str:
    """Fold many worlds and return the SHA-256 of all their outputs."""
    found = hashlib.sha256()
    for seed in range(WORLDS):
        rng = random.Random(seed)
        state, now_ms, number = PartitionState(0, 1), START_MS, 0
        settings = TickSettings(300, 8_000, rng.choice([1, 3, 10_000]))
        for _ in range(25):
            now_ms += rng.choice([0, 1, 100, 1_000, 1_000, 2_000, rng.randrange(20_000)])
            changes = []
            for _ in range(rng.randrange(4)):
                number += 1
                changes.append(TickChange(number, events(rng, number)))
            tick = ScheduleTick(0, 1, now_ms, rules_version, "", settings, tuple(changes))
            outputs = advance(state, tick)
            found.update(
                repr(
                    (
                        [as_then(r) for r in outputs.decisions],
                        [as_then(r) for r in outputs.commands],
                        [(key, as_then(row)) for key, row in outputs.rows.items()],
                    )
                ).encode()
            )
    return found.hexdigest()


def test_the_outputs_are_the_same_bytes():
    assert digest(1) == DIGEST


def test_a_tick_of_unknown_rules_is_refused():
    tick = ScheduleTick(0, 1, START_MS, 99, "", TickSettings(), ())
    with pytest.raises(ValueError, match="99"):
        advance(PartitionState(0, 1), tick)
