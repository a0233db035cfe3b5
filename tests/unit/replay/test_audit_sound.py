"""Results that are seen to be sound by their bytes are those in which nothing is found (SPEC 2.4)."""

from __future__ import annotations

import random

import msgspec
import pytest
from audit_world import CODEC, World, upserted

from schemas.records import CaptureCommand, CaptureResult, CaptureTimings
from streams.core import transition
from streams.core.transition import verify
from streams.replay.audit_results import COPIED
from streams.replay.audit_sound import SoundResults

SOUND = SoundResults(CODEC)


@pytest.fixture(scope="module")
def pairs():
    """Commands and their results, with their bytes."""
    world = World()
    world.publish(upserted(1), upserted(2, "cam-2", 1_000), upserted(3, "ferme-à-3", 5_000))
    world.run(40)
    commands = {
        record.command_id: (record, entry.value)
        for entry in world.entries("capture.commands")
        if isinstance(record := CODEC.decode(entry.value), CaptureCommand)
    }
    results = [CODEC.decode(entry.value) for entry in world.entries("capture.results")]
    return [(*commands[result.command_id], result) for result in results]


def with_causes(result, *causes, **fields):
    """Return a result whose transitions have causes, with checksums that are right."""
    changed = [
        msgspec.structs.replace(
            one,
            cause=cause,
            crc64=transition.transition_crc64(
                result.command_id, one.from_state, one.to_state, one.at_ms, one.attempt, cause
            ),
        )
        for one, cause in zip(result.transitions, causes, strict=True)
    ]
    fields = {"transitions": tuple(changed), "cause": causes[-1], **fields}
    return msgspec.structs.replace(result, **fields)


def test_what_went_well_is_sound(pairs):
    assert len(pairs) > 30
    for command, data, result in pairs:
        value = CODEC.encode(result)
        assert SOUND.key(value) == SOUND.key(data) == data[5:14]
        found = SOUND.look(value, command, data)
        assert found == (result.shutter_at_ms, result.ended_at_ms)


@pytest.mark.parametrize(
    "causes", [("new", "armed", "taken"), ("", "y" * 20, "a\0b"), ("", "x" * 63, "")]
)
def test_causes_timings_and_a_frames_time_have_their_place(pairs, causes):
    command, data, result = pairs[3]
    image = msgspec.structs.replace(result.image, frame_at_ms=5, keep_until_ms=1)
    made = with_causes(result, *causes, timings=CaptureTimings(1.5, 0.25), image=image)
    assert verify(made) == ()
    assert SOUND.look(CODEC.encode(made), command, data) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "FAILED"},
        {"attempt": 2},
        {"shutter_at_ms": 5},
        {"shutter_at_ms": None},
        {"shutter_at_ms": 2_000_000_000_000},
        {"ended_at_ms": 1_900_000_000_000},
        {"image": None},
        {"cause": "because"},
        {"schedule_id": "t"},
        {"device_id": "cam-3"},
        {"epoch": 2},
        {"nominal_ms": 1_800_000_000_001},
        {"scheduled_ms": 1_800_000_000_001},
    ],
)
def test_what_is_not_as_it_must_be_is_looked_at_in_full(pairs, fields):
    command, data, result = pairs[3]
    value = CODEC.encode(msgspec.structs.replace(result, **fields))
    assert SOUND.look(value, command, data) is None


def test_any_byte_that_was_changed_is_seen_or_does_no_harm(pairs):
    """What passes must be what the codec and ``verify`` find nothing in; 4,000 tampered results."""
    chance = random.Random(7)
    passed = 0
    for number in range(4_000):
        command, data, result = pairs[number % len(pairs)]
        value = bytearray(CODEC.encode(result))
        for _ in range(chance.choice((1, 1, 2))):
            value[chance.randrange(5, len(value))] = chance.randrange(256)
        if SOUND.look(bytes(value), command, data) is None:
            continue
        passed += 1
        record = CODEC.decode_as(bytes(value), CaptureResult)
        assert verify(record) == ()
        assert all(getattr(record, name) == getattr(command, name) for name in COPIED)
    assert passed < 1_500, "a picture's hash and name may be any; the rest may not"
