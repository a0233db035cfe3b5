"""What the reader of commands says is what the codec says (schemas/command_reader.py)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import of_record

from schemas import command_reader
from schemas.codec import Codec
from schemas.command_reader import CommandReader
from schemas.errors import DecodeError, SchemaError
from schemas.ids import FingerprintIds
from schemas.records import CaptureCommand, CaptureResult, CaptureRevoked, EndedCapture
from schemas.spliced import CaptureWriter

CODEC = Codec(FingerprintIds())
READER = CommandReader(CODEC)
TIMES = st.integers(1_760_000_000_000, 1_800_000_000_000) | st.integers(0, 2**62)
TEXTS = st.sampled_from(["", "line", "öst/7", "x" * 63, "x" * 64, "x" * 300]) | st.text(max_size=9)
USUAL = st.builds(
    CaptureCommand,
    st.integers(1 << 54, 1 << 61) | st.integers(1, 1 << 62),
    TEXTS, TEXTS, TEXTS, st.integers(0, 1 << 40), TIMES, TIMES, TIMES,
    st.sampled_from([3_000, 60_000]), st.integers(-2, 2), st.sampled_from([1, 1_760_000_000_000]),
    st.sampled_from(["allow", "skip"]), st.integers(0, 1), st.booleans(),
)  # fmt: skip
PLAIN = CaptureCommand(
    123_456_789_012_345_678, "cam-1", "line", "", 3, 1_770_000_000_000, 1_770_000_000_001,
    1_770_000_005_000, 3_000, 0, 1_769_999_995_000,
)  # fmt: skip


def outcome(decode, data):
    """Return what is decoded, or the code and the reason of the refusal."""
    try:
        return decode(data)
    except DecodeError as error:
        return error.code, str(error)


@given(command=USUAL | of_record(CaptureCommand))
def test_a_command_is_read_as_the_codec_reads_it(command):
    data = CODEC.encode(command)
    for _ in range(2):  # its last fields are not known, then they are
        assert READER.read(data) == command


@given(command=USUAL | st.just(PLAIN), data=st.data())
@settings(max_examples=300)
def test_damaged_bytes_are_judged_as_the_codec_judges_them(command, data):
    """Cut off, longer, or with bytes changed: the same record or the same refusal (SPEC 2.2)."""
    whole = bytearray(CODEC.encode(command))
    READER.read(bytes(whole))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(5, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    more = bytes(whole) + data.draw(st.binary(max_size=4))
    for damaged in (bytes(whole), cut, more):
        assert outcome(READER.read, damaged) == outcome(CODEC.decode, damaged)


@pytest.mark.parametrize("at", range(5, len(CODEC.encode(PLAIN))))
def test_every_byte_changed_to_every_value(at):
    whole = CODEC.encode(PLAIN)
    READER.read(whole)
    for value in range(256):
        damaged = whole[:at] + bytes((value,)) + whole[at + 1 :]
        assert outcome(READER.read, damaged) == outcome(CODEC.decode, damaged)


def test_usual_commands_are_not_left_to_the_codec(monkeypatch):
    """The reader would be right, and for nothing, if it left everything to the codec."""
    reader = CommandReader(CODEC)
    reader.read(CODEC.encode(PLAIN))
    monkeypatch.setattr(reader, "_decode", None)
    for number in range(200):
        command = msgspec.structs.replace(
            PLAIN, command_id=PLAIN.command_id + number, device_id=f"cam-{number}", epoch=number,
            scheduled_ms=PLAIN.scheduled_ms + number,
        )  # fmt: skip
        assert reader.read(CODEC.encode(command)) == command


@given(command=USUAL | st.just(PLAIN))
def test_what_is_cut_where_the_reader_says_is_what_the_codec_writes(command):
    reader, writer, value = CommandReader(CODEC), CaptureWriter(CODEC), CODEC.encode(command)
    for _ in range(2):
        assert reader.read(value) == command
        found, plain = writer.pieces(command, value, reader.cuts), writer.pieces(command)
        result = CaptureResult(
            *(getattr(command, name) for name in CaptureResult.__struct_fields__[:7]),
            "FAILED", "why", 1, 5, None, None, None, (),
        )  # fmt: skip
        ended = EndedCapture(
            command.command_id, command.schedule_id, command.epoch, command.nominal_ms,
            command.scheduled_ms, "FAILED", 5, command.not_after_ms,
        )  # fmt: skip
        assert writer.result(result, found) == CODEC.encode(result)
        assert writer.ended(ended, found) == writer.ended(ended, plain)


def test_other_records_are_read_too():
    revoked = CaptureRevoked("cam-1", "line", 3, 5, "paused")
    assert READER.read(CODEC.encode(revoked)) == revoked


def test_full_memories_are_emptied_and_go_on(monkeypatch):
    """CONVENTIONS 6: bounded, and a command is the same before and after."""
    monkeypatch.setattr(command_reader, "MEMO_ENTRIES", 4)
    reader = CommandReader(CODEC)
    for number in range(30):
        command = msgspec.structs.replace(
            PLAIN, schedule_id=f"line-{number}", nominal_ms=PLAIN.nominal_ms + number,
            priority=number,
        )  # fmt: skip
        for _ in range(2):
            assert reader.read(CODEC.encode(command)) == command
        assert max(map(len, (reader._texts, reader._times, reader._tails))) <= 4


def test_another_order_of_fields_is_refused(monkeypatch):
    monkeypatch.setattr(command_reader, "FIELDS", ("device_id", "command_id"))
    with pytest.raises(SchemaError, match="CaptureCommand"):
        CommandReader(CODEC)
