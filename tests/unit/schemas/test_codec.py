"""Round trips, golden bytes, older releases and bad bytes (SPEC 1.9)."""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from golden_records import BY_HAND, COMMAND, GOLDEN
from hypothesis import example, given, settings
from hypothesis import strategies as st
from record_strategies import of_record

from schemas.catalogue import current_schemas, released_schemas
from schemas.codec import MAX_RECORD_BYTES, Codec
from schemas.errors import DecodeError, SchemaError
from schemas.ids import FingerprintIds, fingerprint_id
from schemas.records import (
    RECORDS,
    CapturePolicy,
    CaptureRequested,
    DeadLetter,
    DeviceCaptures,
    DeviceHeartbeat,
    DeviceOnline,
    DeviceProfile,
    ScheduleSpec,
    ScheduleTick,
    TickChange,
    TickSettings,
)

CODEC = Codec(FingerprintIds())
GOLDEN_DIR = Path(__file__).parent / "golden"
RELEASED = {name.rpartition(".")[2]: found for name, found in released_schemas().items()}
CODES = {
    "not_avro",
    "unknown_schema",
    "incompatible_schema",
    "too_big",
    "truncated",
    "trailing_bytes",
    "malformed",
}


@given(record=st.one_of([of_record(record) for record in RECORDS]))
def test_a_record_comes_back_as_it_was(record):
    """SPEC 1.9, for every record class and any values."""
    data = CODEC.encode(record)
    assert CODEC.decode(data) == record
    assert CODEC.decode_as(data, type(record)) == record


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
@settings(max_examples=5)
@given(data=st.data())
def test_every_class_has_its_own_id_and_comes_back(cls, data):
    record = data.draw(of_record(cls))
    assert type(CODEC.decode(CODEC.encode(record))) is cls


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_never_change(name):
    """What a topic holds must be readable, and audit compares bytes (DESIGN 'Replay').

    A golden file is never edited. A schema that changed adds a file beside the old one; the old
    one must then still decode (``test_every_golden_file_decodes``). SHUTTERWHEEL_WRITE_GOLDEN=1
    writes the files that are missing.
    """
    record = GOLDEN[name]
    path = GOLDEN_DIR / f"{name}.{max(RELEASED[name])}.hex"
    if not path.exists() and os.environ.get("SHUTTERWHEEL_WRITE_GOLDEN") == "1":
        path.write_text(CODEC.encode(record).hex() + "\n")
    assert CODEC.encode(record).hex() == path.read_text().strip()


def test_every_release_of_every_record_has_its_golden_file():
    """Issue 7 'contracts': golden files for every record version; none without a release."""
    wanted = {f"{name}.{number}" for name, numbers in RELEASED.items() for number in numbers}
    assert set(RELEASED) == {cls.__name__ for cls in RECORDS} == set(GOLDEN)
    assert {path.stem for path in GOLDEN_DIR.glob("*.hex")} == wanted


@pytest.mark.parametrize("path", sorted(GOLDEN_DIR.glob("*.hex")), ids=lambda path: path.stem)
def test_every_golden_file_decodes(path):
    name, number = path.stem.split(".")
    data = bytes.fromhex(path.read_text())
    record = CODEC.decode(data)
    assert int.from_bytes(data[1:5], "big") == fingerprint_id(RELEASED[name][int(number)])
    assert type(record) is type(GOLDEN[name])
    if int(number) == max(RELEASED[name]):
        assert record == GOLDEN[name]


@pytest.mark.parametrize("name", sorted(set(GOLDEN) - set(BY_HAND)))
def test_a_golden_record_has_every_field_filled(name):
    """A field that stood at its default would not show that a reader knows it."""
    for field in msgspec.structs.fields(GOLDEN[name]):
        value = getattr(GOLDEN[name], field.name)
        assert value not in (None, "", (), {}, field.default), field.name


def test_the_header_is_confluents():
    """Zero byte, then the id, big-endian (Confluent wire format)."""
    data = CODEC.encode(COMMAND)
    schema_id = FingerprintIds().id_of("shutterwheel.CaptureCommand")
    assert data[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    assert 0 < schema_id < 2**31


# --- what was written by an older release --------------------------------------------------------


def codec_that_knows(old, name):
    """A codec that has met ``old`` as a release of ``name``, and bytes of it by ``write``."""
    released = {name: {1: old}}
    ids = FingerprintIds(released=released)
    parsed = parse_schema(old)

    def write(value):
        stream = io.BytesIO()
        stream.write(b"\x00" + fingerprint_id(old).to_bytes(4, "big"))
        schemaless_writer(stream, parsed, value)
        return stream.getvalue()

    return Codec(ids), write


def test_an_older_release_decodes_into_todays_class():
    """A field that is new takes its default, one that is gone is skipped."""
    name = "shutterwheel.DeviceProfile"
    old = copy.deepcopy(current_schemas()[name])
    old["fields"] = [f for f in old["fields"] if f["name"] not in {"labels", "site"}]
    old["fields"].insert(1, {"name": "gone", "type": {"type": "array", "items": "long"}})
    codec, write = codec_that_knows(old, name)
    data = write({"device_id": "d", "gone": [1, 2, 3], "address": "http://h/", "protocol": "p"})
    assert codec.decode(data) == DeviceProfile("d", "http://h/", "p")
    assert codec.decode(data) == DeviceProfile("d", "http://h/", "p")


def test_an_older_tick_decodes_with_the_events_in_it():
    """The union of events keeps its branches' names through resolution."""
    name = "shutterwheel.ScheduleTick"
    old = copy.deepcopy(current_schemas()[name])
    (settings_field,) = (f for f in old["fields"] if f["name"] == "settings")
    settings_field["type"]["fields"] = settings_field["type"]["fields"][:1]
    codec, write = codec_that_knows(old, name)
    event = {
        "request_id": "r",
        "device_id": "d",
        "at_ms": 5,
        "policy": {"lead_ms": 1, "capture_timeout_ms": 2, "spread_ms": 3, "priority": 4},
        "published_at_ms": 6,
    }
    data = write(
        {
            "partition": 1,
            "partitions": 8,
            "time_ms": 2,
            "rules_version": 1,
            "tz_version": "t",
            "settings": {"notice_ms": 77},
            "changes": [{"offset": 3, "event": ("shutterwheel.CaptureRequested", event)}],
        }
    )
    policy = CapturePolicy(lead_ms=1, capture_timeout_ms=2, spread_ms=3, priority=4)
    requested = CaptureRequested("r", "d", 5, policy, 6)
    expected = ScheduleTick(
        1, 8, 2, 1, "t", TickSettings(notice_ms=77), (TickChange(3, requested),)
    )
    assert codec.decode(data) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fields: fields.pop(0), "no default"),
        (lambda fields: fields[1].update(type="string"), "string cannot be read as long"),
        (
            lambda fields: fields.append(
                {"name": "bomb", "type": {"type": "array", "items": "null"}}
            ),
            "empty items",
        ),
        (lambda fields: fields.append({"name": "odd", "type": "nonsense"}), "not a valid Avro"),
    ],
)
def test_a_writer_that_todays_schema_cannot_read_is_told_apart(change, said):
    """An id may come from a registry, which holds whatever somebody put there."""
    name = "shutterwheel.DeviceOnline"
    foreign = copy.deepcopy(current_schemas()[name])
    change(foreign["fields"])

    class Ids(FingerprintIds):
        def schema_of(self, schema_id):
            return (name, foreign) if schema_id == 1 else super().schema_of(schema_id)

    with pytest.raises(DecodeError, match=said) as caught:
        Codec(Ids()).decode(b"\x00\x00\x00\x00\x01\x02a\x02")
    assert caught.value.code == "incompatible_schema"


def test_all_that_was_released_can_be_read():
    """The codec has a reader for the id of every release."""
    ids = FingerprintIds()
    for name, versions in released_schemas().items():
        for schema in versions.values():
            header = b"\x00" + fingerprint_id(schema).to_bytes(4, "big")
            assert ids.schema_of(fingerprint_id(schema))[0] == name
            with pytest.raises(DecodeError) as caught:
                CODEC.decode(header)
            assert caught.value.code == "truncated"


# --- bad bytes and bad values --------------------------------------------------------------------


def code_of(data):
    """The code of the DecodeError that ``data`` gives, or None if it is a record."""
    try:
        CODEC.decode(data)
    except DecodeError as error:
        caught = error
    else:
        return None
    assert caught.code in CODES
    assert caught.line()
    return caught.code


GOOD = CODEC.encode(DeviceOnline("d", 5))
HEADER = GOOD[:5]
DEAD = CODEC.encode(GOLDEN["DeadLetter"])[:5]
CAPTURES = CODEC.encode(GOLDEN["DeviceCaptures"])[:5]
PROFILE = CODEC.encode(GOLDEN["DeviceProfile"])[:5]
TICK = CODEC.encode(GOLDEN["ScheduleTick"])[:5]
HUGE = bytes.fromhex("80808080808040")  # 2^41 zigzagged: a length of 2^40 and more
MOST = bytes.fromhex("feffffffffffffffff01")  # 2^63 - 1
LEAST = bytes.fromhex("ffffffffffffffffff01")  # -2^63


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_avro"),
        (b"\x00\x00\x00", "not_avro"),
        (b'{"device_id": "d"}', "not_avro"),
        (b"\x01" + GOOD[1:], "not_avro"),
        (b"\x00\x00\x00\x00\x07" + GOOD[5:], "unknown_schema"),
        (GOOD[:-1], "truncated"),
        (HEADER, "truncated"),
        (GOOD + b"\x00", "trailing_bytes"),
        (HEADER + b"\x04\xff\xfe\x02", "malformed"),  # not UTF-8
        (GOOD + b"\x00" * MAX_RECORD_BYTES, "too_big"),
        (HEADER + HUGE + b"abc", "truncated"),
        (DEAD + b"\x02a\x02\x02\x02\x02" + HUGE + b"x", "truncated"),
        (CAPTURES + b"\x02d" + HUGE, "truncated"),
        (PROFILE + b"\x02d\x02a\x02p\x02m\x02s" + HUGE, "truncated"),
    ],
)
def test_bad_bytes_have_their_code(data, code):
    """Issue 3 'Bad input': not Avro, unknown schema id, cut off, joined, too long."""
    assert code_of(data) == code


@pytest.mark.parametrize("length", [HUGE, MOST, LEAST, b"\x01" + HUGE, b"\xff" * 30 + b"\x01"])
@pytest.mark.parametrize(
    "start",
    [
        HEADER,
        DEAD + b"\x02a\x02\x02\x02\x02",
        CAPTURES + b"\x02d",
        PROFILE + b"\x02d\x02a\x02p\x02m\x02s",
    ],
    ids=["string", "bytes", "array", "map"],
)
def test_a_length_that_promises_too_much_costs_no_memory(start, length):
    """A dozen bytes that claim 2^40 and more are refused within 1 MiB of allocations."""
    import tracemalloc

    tracemalloc.start()
    try:
        assert code_of(start + length + b"abc") is not None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(
    data=st.binary(max_size=200),
    header=st.sampled_from([b"", *[CODEC.encode(r)[:5] for r in GOLDEN.values()]]),
)
@example(data=b"\x01\x01\x01", header=TICK)
def test_no_bytes_raise_anything_but_a_decode_error(data, header):
    code_of(header + data)


@given(
    name=st.sampled_from(sorted(GOLDEN)),
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4
    ),
    cut=st.integers(0, 10_000),
)
def test_no_mutated_record_raises_anything_but_a_decode_error(name, changes, cut):
    data = bytearray(CODEC.encode(GOLDEN[name]))
    for place, value in changes:
        data[place % len(data)] = value
    code_of(bytes(data[: 5 + cut % len(data)]))
    code_of(bytes(data))


@pytest.mark.parametrize("name", GOLDEN)
def test_every_cut_is_found(name):
    data = CODEC.encode(GOLDEN[name])
    assert {code_of(data[:end]) for end in range(5, len(data))} == {"truncated"}


def test_a_record_of_another_class_is_told_apart():
    with pytest.raises(DecodeError, match="A DeviceOnline stands where only a Dev") as caught:
        CODEC.decode_as(GOOD, DeviceHeartbeat)
    assert caught.value.code == "wrong_record"


@pytest.mark.parametrize(
    "record",
    [
        DeviceOnline("d", 2**63),
        DeviceOnline("d", -(2**63) - 1),
        DeviceOnline("d", None),
        DeviceOnline("d", "5"),
        DeviceOnline(None, 5),
        DeviceOnline("\ud800", 5),
        DeviceHeartbeat("d", 1, 2, "much", 0.0, 0.0),
        DeviceProfile("d", "a", "p", removed=2),
        DeadLetter("t", 0, 0, 0, "text", None, "c", "r", "a", 0),
        DeviceCaptures("d", ended=(COMMAND,)),
        ScheduleTick(0, 8, 0, 1, "t", TickSettings(), (TickChange(1, COMMAND),)),
        ScheduleSpec("once"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_does_not_fit_its_schema_is_not_written(record):
    with pytest.raises(SchemaError):
        CODEC.encode(record)
