"""Results that are seen to be sound in columns are those in which nothing is found (SPEC 2.4)."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from audit_world import CODEC, START_MS, World, upserted

from schemas.columns import Batch, ten_bytes
from schemas.encoders import varint
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
from streams.replay.audit_crcs import Numbers, Rest
from streams.replay.audit_open import PREFIX, OpenCommands
from streams.replay.audit_results import COPIED
from streams.replay.audit_shapes import shape_of

HEADER = CODEC.header(CaptureResult)
SETTLE_MS = 60_000


@pytest.fixture(params=["walked", "by shapes"])
def columns(request, monkeypatch):
    """What looks at results: field by field, or by the shape of the first that is seen."""
    fewest = 1 if request.param == "by shapes" else 1 << 30
    monkeypatch.setattr("streams.replay.audit_columns.FEWEST", fewest)
    return ResultColumns()


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


def looked(columns, pairs, values):
    """Look at one result for each command, all together."""
    waiting = OpenCommands(CODEC, SETTLE_MS)
    for number, (command, data, *_) in enumerate(pairs):
        waiting.add(command, data, number)
    batch = Batch(values)
    ids, good = columns.ids(batch, HEADER)
    wanted = np.array([pair[0].command_id for pair in pairs])
    [rows] = np.nonzero(good & (ids == wanted))
    seen = columns.look(batch, rows, ids[rows], waiting.find(ids[rows]), waiting)
    sound = np.zeros(len(values), np.bool_)
    sound[rows] = seen.sound
    return sound.tolist(), seen


def is_sound(columns, pair, result):
    value = result if isinstance(result, bytes) else CODEC.encode(result)
    return looked(columns, [pair], [value])[0][0]


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


def test_what_went_well_is_sound(columns, pairs):
    assert len(pairs) > 30
    sound, seen = looked(columns, pairs, [CODEC.encode(result) for *_, result in pairs])
    assert all(sound)
    assert seen.states == {"SUCCESS": len(pairs)}
    assert seen.shutter_ms.tolist() == [result.shutter_at_ms for *_, result in pairs]
    values = Batch([CODEC.encode(result) for *_, result in pairs])
    images = seen.images(values, np.arange(len(pairs)))
    for image, (*_, result) in zip(images, pairs, strict=True):
        assert (image.uri, image.sha256) == (result.image.uri, result.image.sha256)
        assert (image.image_bytes, image.keep_until_ms) == (result.image.image_bytes, None)


@pytest.mark.parametrize(
    "causes", [("new", "armed", "taken"), ("", "y" * 20, "a\0b"), ("", "x" * 32, "")]
)
def test_causes_timings_and_a_frames_time_have_their_place(columns, pairs, causes):
    result = pairs[3][2]
    image = msgspec.structs.replace(result.image, frame_at_ms=5, keep_until_ms=1)
    made = with_causes(result, *causes, timings=CaptureTimings(1.5, 0.25), image=image)
    assert verify(made) == ()
    assert is_sound(columns, pairs[3], made)


def test_photos_with_files_beside_them_are_looked_at_one_by_one(columns, pairs):
    """Their hashes are compared with the files', which needs the whole record."""
    beside = msgspec.structs.replace(pairs[3][2].image, beside={"thumbnail.jpg": "0" * 64})
    values = [CODEC.encode(result) for *_, result in pairs]
    values[3] = CODEC.encode(msgspec.structs.replace(pairs[3][2], image=beside))
    sound, _ = looked(columns, pairs, values)
    assert [number for number, one in enumerate(sound) if not one] == [3]


VERDICTS = [
    QualityVerdict("0123456789ab", (), {}, "", "grpc:quality"),
    QualityVerdict("0123456789ab", (), {}, ""),
    QualityVerdict("0123456789ab", ("blur",), {"blur": 0.9, "occlusion": 0.25}),
    QualityVerdict("", ("blur", "occlusion", "overexposure", "underexposure"), {}, "too big"),
    QualityVerdict("m", (), dict.fromkeys(("blur", "occlusion", "overexposure", "x"), 0.5)),
]


def test_judged_photos_are_sound_among_others(columns, pairs):
    values = []
    for number, (*_, result) in enumerate(pairs):
        verdict = [None, *VERDICTS][number % 6]
        values.append(CODEC.encode(msgspec.structs.replace(result, verdict=verdict)))
    assert all(looked(columns, pairs, values)[0])
    many = QualityVerdict("m", tuple("abcde"), {})
    foreign = QualityVerdict("m", ("flou-é",), {})
    for verdict in (many, foreign):
        assert not is_sound(
            columns, pairs[3], msgspec.structs.replace(pairs[3][2], verdict=verdict)
        )


def test_retries_failures_and_what_came_too_late_are_seen_too(columns, pairs):
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
        assert is_sound(columns, pair, made)
    revoked = walked(command, begun[0], ("PENDING", "REVOKED", at_ms - 5, "revoked: no"))
    assert not is_sound(columns, pair, revoked), "it is compared with its CaptureRevoked"


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
def test_what_is_not_as_it_must_be_is_looked_at_in_full(columns, pairs, fields):
    assert not is_sound(columns, pairs[3], msgspec.structs.replace(pairs[3][2], **fields))


@pytest.mark.parametrize(
    "fields", [{"at_ms": START_MS - 99}, {"attempt": 3}, {"from_state": "RUNNING"}]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_transition_that_is_wrong_with_a_right_checksum(columns, pairs, place, fields):
    result = pairs[3][2]
    changed = list(result.transitions)
    one = msgspec.structs.replace(changed[place], **fields)
    crc = transition.transition_crc64(
        result.command_id, one.from_state, one.to_state, one.at_ms, one.attempt, one.cause
    )
    changed[place] = msgspec.structs.replace(one, crc64=crc)
    made = msgspec.structs.replace(result, transitions=tuple(changed))
    assert is_sound(columns, pairs[3], made) == (verify(made) == ())


def test_the_transitions_of_another_command_are_not_its_own(columns, pairs):
    other = pairs[4][2]
    made = msgspec.structs.replace(pairs[3][2], transitions=other.transitions)
    assert not is_sound(columns, pairs[3], made)


def test_any_byte_that_was_changed_is_seen_or_does_no_harm(columns, pairs):
    """What passes must be what the codec and ``verify`` find nothing in; 8,000 tampered results."""
    chance = random.Random(7)
    assert all(looked(columns, pairs, [CODEC.encode(result) for *_, result in pairs])[0])
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
        sound, _ = looked(columns, pairs, values)
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


def test_shapes_say_what_a_walk_says(pairs, monkeypatch):
    """The same of results that are alike and not, tampered with and not."""
    chance, answers = random.Random(11), {}
    batches = []
    for _ in range(60):
        values = []
        for *_, result in pairs:
            verdict = chance.choice([None, None, None, VERDICTS[1]])
            value = bytearray(CODEC.encode(msgspec.structs.replace(result, verdict=verdict)))
            if chance.random() < 0.3:
                value[chance.randrange(5, len(value))] ^= 1 << chance.randrange(8)
            values.append(bytes(value))
        batches.append(values)
    for fewest in (1, 1 << 30):
        monkeypatch.setattr("streams.replay.audit_columns.FEWEST", fewest)
        columns = ResultColumns()
        answers[fewest] = []
        for values in batches:
            sound, seen = looked(columns, pairs, values)
            answers[fewest].append((sound, seen.states))
    shaped, walked = answers.values()
    assert shaped == walked
    assert any(shape_of(values[4], 5, 10) is None for values in batches)


def test_what_has_no_shape(pairs):
    """A shape is of what is sound but for its times and checksums."""
    command, data, result = pairs[3]
    waiting = OpenCommands(CODEC, SETTLE_MS)
    waiting.add(command, data, 0)
    prefix = int(waiting.columns(np.array([0]))[PREFIX, 0])

    def shape(**fields):
        value = CODEC.encode(msgspec.structs.replace(result, **fields))
        return shape_of(value, 5, prefix)

    assert shape() is not None
    assert shape(ended_at_ms=result.ended_at_ms + 1) is not None, "that is each one's own"
    first, *rest = result.transitions
    for fields in (
        {"state": "FAILED"}, {"state": "REVOKED", "image": None}, {"cause": "other"},
        {"attempt": 2}, {"transitions": ()}, {"transitions": tuple(rest)}, {"image": None},
        {"transitions": (msgspec.structs.replace(first, attempt=1), *rest)},
        {"image": msgspec.structs.replace(result.image, uri="file:///é")},
        {"image": msgspec.structs.replace(result.image, beside={"a.jpg": "0"})},
    ):  # fmt: skip
        assert shape(**fields) is None, fields
    value = CODEC.encode(result)
    assert all(shape_of(value[:size], 5, prefix) is None for size in range(5, len(value)))
    assert shape_of(value + b"\0", 5, prefix) is None


def test_checksums_of_many_are_those_of_each():
    chance = random.Random(3)
    for count in (1, 2, 50):
        ids = np.array([chance.randrange(1 << 63) >> chance.choice((0, 40)) for _ in range(count)])
        times = np.array([1_800_000_000_000 + chance.randrange(1 << 33) for _ in range(count)])
        rest = Rest("RUNNING", "PENDING", chance.randrange(9), "camera is off" * (count % 3))
        made = rest.crcs(Numbers(ids), Numbers(times)).view(np.int64).tolist()
        assert made == [
            transition.transition_crc64(one, "RUNNING", "PENDING", at_ms, *rest[2:])
            for one, at_ms in zip(ids.tolist(), times.tolist(), strict=True)
        ]


def test_numbers_of_eight_to_ten_bytes():
    numbers = [0, 1 << 48, -(1 << 48), 1 << 54, 1 << 55, -(1 << 55), (1 << 62) - 1, 1 << 62]
    numbers += [-(1 << 62), (1 << 63) - 1, -(1 << 63)]
    values = [varint(number) for number in numbers]
    words = np.frombuffer(b"".join(one.ljust(16, b"\xff") for one in values), "<u8").reshape(-1, 2)
    found, sizes, good = ten_bytes(words)
    assert good.tolist() == [len(value) >= 8 for value in values]
    assert found[good].tolist() == [n for n in numbers if len(varint(n)) >= 8]
    assert sizes[good].tolist() == [len(value) for value in values if len(value) >= 8]
    too_large = b"\xff" * 9 + b"\x02"
    assert not ten_bytes(np.frombuffer(too_large.ljust(16), "<u8").reshape(1, 2))[2][0]
