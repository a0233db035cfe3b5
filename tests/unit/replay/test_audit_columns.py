"""Results that are seen to be sound in columns are those in which nothing is found (SPEC 2.4)."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from audit_world import CODEC, START_MS, World, upserted

from schemas.columns import Batch
from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureTimings,
    OpenCapture,
    QualityVerdict,
)
from streams.core import transition
from streams.core.transition import verify
from streams.replay.audit_columns import ResultColumns
from streams.replay.audit_open import OpenCommands
from streams.replay.audit_results import COPIED

COLUMNS = ResultColumns()
HEADER = CODEC.header(CaptureResult)
SETTLE_MS = 60_000


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


def looked(pairs, values):
    """Look at one result for each command, all together."""
    waiting = OpenCommands(CODEC, SETTLE_MS)
    for number, (command, data, *_) in enumerate(pairs):
        waiting.add(command, data, number)
    batch = Batch(values)
    ids, good = COLUMNS.ids(batch, HEADER)
    wanted = np.array([pair[0].command_id for pair in pairs])
    [rows] = np.nonzero(good & (ids == wanted))
    seen = COLUMNS.look(batch, rows, ids[rows], waiting.find(ids[rows].tolist()), waiting)
    sound = np.zeros(len(values), np.bool_)
    sound[rows] = seen.sound
    return sound.tolist(), seen


def is_sound(pair, result):
    value = result if isinstance(result, bytes) else CODEC.encode(result)
    return looked([pair], [value])[0][0]


def walked(command, *steps, **fields):
    """Return the result of a command that went through these (from, to, at, cause)."""
    capture = OpenCapture(command, "", 0, 0, ())
    for step in steps:
        capture = transition.step(capture, *step)
    last = capture.transitions[-1]
    names = {name: getattr(command, name) for name in ("command_id", *COPIED)}
    made = CaptureResult(
        **names, state=capture.state, cause=last.cause, attempt=capture.attempt,
        ended_at_ms=last.at_ms, transitions=capture.transitions, shutter_at_ms=None, image=None,
        timings=None,
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


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
    sound, seen = looked(pairs, [CODEC.encode(result) for *_, result in pairs])
    assert all(sound)
    assert seen.states == {"SUCCESS": len(pairs)}
    assert seen.shutter_ms.tolist() == [result.shutter_at_ms for *_, result in pairs]
    values = Batch([CODEC.encode(result) for *_, result in pairs])
    for number, (*_, result) in enumerate(pairs):
        image = seen.image(values, number)
        assert (image.uri, image.sha256) == (result.image.uri, result.image.sha256)
        assert (image.image_bytes, image.keep_until_ms) == (result.image.image_bytes, None)


@pytest.mark.parametrize(
    "causes", [("new", "armed", "taken"), ("", "y" * 20, "a\0b"), ("", "x" * 32, "")]
)
def test_causes_timings_and_a_frames_time_have_their_place(pairs, causes):
    result = pairs[3][2]
    image = msgspec.structs.replace(result.image, frame_at_ms=5, keep_until_ms=1)
    made = with_causes(result, *causes, timings=CaptureTimings(1.5, 0.25), image=image)
    assert verify(made) == ()
    assert is_sound(pairs[3], made)


def test_photos_with_files_beside_them_are_looked_at_one_by_one(pairs):
    """Their hashes are compared with the files', which needs the whole record."""
    beside = msgspec.structs.replace(pairs[3][2].image, beside={"thumbnail.jpg": "0" * 64})
    values = [CODEC.encode(result) for *_, result in pairs]
    values[3] = CODEC.encode(msgspec.structs.replace(pairs[3][2], image=beside))
    sound, _ = looked(pairs, values)
    assert [number for number, one in enumerate(sound) if not one] == [3]


VERDICTS = [
    QualityVerdict("0123456789ab", (), {}, "", "grpc:quality"),
    QualityVerdict("0123456789ab", (), {}, ""),
    QualityVerdict("0123456789ab", ("blur",), {"blur": 0.9, "occlusion": 0.25}),
    QualityVerdict("", ("blur", "occlusion", "overexposure", "underexposure"), {}, "too big"),
    QualityVerdict("m", (), dict.fromkeys(("blur", "occlusion", "overexposure", "x"), 0.5)),
]


def test_judged_photos_are_sound_among_others(pairs):
    values = []
    for number, (*_, result) in enumerate(pairs):
        verdict = [None, *VERDICTS][number % 6]
        values.append(CODEC.encode(msgspec.structs.replace(result, verdict=verdict)))
    assert all(looked(pairs, values)[0])
    many = QualityVerdict("m", tuple("abcde"), {})
    foreign = QualityVerdict("m", ("flou-é",), {})
    for verdict in (many, foreign):
        assert not is_sound(pairs[3], msgspec.structs.replace(pairs[3][2], verdict=verdict))


def test_retries_failures_and_what_came_too_late_are_seen_too(pairs):
    pair = pairs[3]
    command, at_ms = pair[0], pair[0].scheduled_ms
    begun = [("", "PENDING", at_ms - 900, ""), ("PENDING", "RUNNING", at_ms - 300, "worker 0")]
    again = [
        *begun,
        ("RUNNING", "PENDING", at_ms + 9, "offline"),
        ("PENDING", "RUNNING", at_ms + 99),
    ]
    shutter = {"shutter_at_ms": at_ms}
    for made in (
        walked(command, *begun, ("RUNNING", "FAILED", at_ms + 9, "offline"), **shutter),
        walked(command, *again, ("RUNNING", "FAILED", at_ms + 200, "offline")),
        walked(
            command, *again, ("RUNNING", "SUCCESS", at_ms + 200), image=pair[2].image, **shutter
        ),
        walked(command, begun[0], ("PENDING", "EXPIRED", at_ms + 7_000, "late")),
    ):
        assert verify(made) == ()
        assert is_sound(pair, made)
    revoked = walked(command, begun[0], ("PENDING", "REVOKED", at_ms - 5, "revoked: no"))
    assert not is_sound(pair, revoked), "it is compared with its CaptureRevoked"


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "FAILED"},
        {"attempt": 2},
        {"shutter_at_ms": 5},
        {"shutter_at_ms": 2_000_000_000_000},
        {"ended_at_ms": 1_900_000_000_000},
        {"image": None},
        {"cause": "because"},
        {"schedule_id": "t"},
        {"device_id": "cam-3"},
        {"epoch": 2},
        {"nominal_ms": 1_800_000_000_001},
        {"scheduled_ms": 1_800_000_000_001},
        {"transitions": ()},
    ],
)
def test_what_is_not_as_it_must_be_is_looked_at_in_full(pairs, fields):
    assert not is_sound(pairs[3], msgspec.structs.replace(pairs[3][2], **fields))


@pytest.mark.parametrize(
    "fields", [{"at_ms": START_MS - 99}, {"attempt": 3}, {"from_state": "RUNNING"}]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_transition_that_is_wrong_with_a_right_checksum(pairs, place, fields):
    result = pairs[3][2]
    changed = list(result.transitions)
    one = msgspec.structs.replace(changed[place], **fields)
    crc = transition.transition_crc64(
        result.command_id, one.from_state, one.to_state, one.at_ms, one.attempt, one.cause
    )
    changed[place] = msgspec.structs.replace(one, crc64=crc)
    made = msgspec.structs.replace(result, transitions=tuple(changed))
    assert is_sound(pairs[3], made) == (verify(made) == ())


def test_the_transitions_of_another_command_are_not_its_own(pairs):
    other = pairs[4][2]
    made = msgspec.structs.replace(pairs[3][2], transitions=other.transitions)
    assert not is_sound(pairs[3], made)


def test_any_byte_that_was_changed_is_seen_or_does_no_harm(pairs):
    """What passes must be what the codec and ``verify`` find nothing in; 8,000 tampered results."""
    chance = random.Random(7)
    passed = 0
    for _ in range(8_000 // len(pairs)):
        values = []
        for *_, result in pairs:
            verdict = chance.choice([None, None, *VERDICTS])
            value = bytearray(CODEC.encode(msgspec.structs.replace(result, verdict=verdict)))
            for _ in range(chance.choice((1, 1, 2))):
                value[chance.randrange(5, len(value))] = chance.randrange(256)
            if chance.random() < 0.1:
                del value[chance.randrange(5, len(value)) :]
            values.append(bytes(value))
        sound, _ = looked(pairs, values)
        for good, value, (command, *_) in zip(sound, values, pairs, strict=True):
            if not good:
                continue
            passed += 1
            record = CODEC.decode_as(value, CaptureResult)
            assert verify(record) == ()
            assert all(getattr(record, name) == getattr(command, name) for name in COPIED)
            shutter_ms = record.shutter_at_ms or command.scheduled_ms
            assert command.scheduled_ms <= shutter_ms <= command.not_after_ms
    assert 0 < passed < 3_000, "a picture's hash and name may be any; the rest may not"
