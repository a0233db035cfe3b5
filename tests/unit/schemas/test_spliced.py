"""What is put together from bytes is what the codec would have written (schemas/spliced.py)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import of_record

from schemas.codec import Codec
from schemas.errors import SchemaError
from schemas.ids import FingerprintIds
from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureTimings,
    DeviceCaptures,
    EndedCapture,
    ImageRef,
    OpenCapture,
    Transition,
)
from schemas.spliced import LAYOUTS, CaptureWriter

CODEC = Codec(FingerprintIds())
WRITER = CaptureWriter(CODEC)
COMMANDS = of_record(CaptureCommand)
TRANSITIONS = st.lists(of_record(Transition), max_size=5).map(tuple)


def result_of(command, state, transitions, **more):
    shared = [getattr(command, name) for name in CaptureResult.__struct_fields__[:7]]
    fields = {"shutter_at_ms": None, "image": None, "timings": None, **more}
    return CaptureResult(
        *shared, state, "why", 3, 1_800_000_000_123, transitions=transitions, **fields
    )


def ended_of(command, state="SUCCESS", at_ms=1_800_000_000_123):
    c = command
    return EndedCapture(
        c.command_id, c.schedule_id, c.epoch, c.nominal_ms, c.scheduled_ms, state, at_ms,
        c.not_after_ms,
    )  # fmt: skip


@given(
    command=COMMANDS,
    transitions=TRANSITIONS,
    steps=st.lists(st.integers(0, 5)),
    received=st.booleans(),
    next_ms=st.integers(-(2**63), 2**63 - 1),
)
def test_open_rows_are_those_of_the_codec(command, transitions, steps, received, next_ms):
    """Whatever is added to the list of transitions between two rows (issue 4: byte for byte)."""
    value = CODEC.encode(command) if received else None
    pieces = WRITER.pieces(command, value)
    for count in sorted(min(step, len(transitions)) for step in [*steps, 5]):
        row = OpenCapture(command, "RUNNING", count, next_ms, transitions[:count])
        assert WRITER.open_row(row, pieces) == CODEC.encode(row)


@given(
    command=COMMANDS,
    transitions=TRANSITIONS,
    known=st.integers(0, 5),
    at_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
    image=st.none() | of_record(ImageRef),
    timings=st.none() | of_record(CaptureTimings),
)
def test_results_are_those_of_the_codec(command, transitions, known, at_ms, image, timings):
    pieces = WRITER.pieces(command, CODEC.encode(command))
    WRITER.open_row(OpenCapture(command, "PENDING", 0, 0, transitions[:known]), pieces)
    result = result_of(
        command, "SUCCESS", transitions, shutter_at_ms=at_ms, image=image, timings=timings
    )
    assert WRITER.result(result, pieces) == CODEC.encode(result)


@given(
    device_id=st.text(),
    commands=st.lists(COMMANDS, max_size=4),
    held=st.booleans(),
    failures=st.integers(0, 2**63 - 1),
)
def test_rows_of_what_ended_are_those_of_the_codec(device_id, commands, held, failures):
    ended = tuple(ended_of(command) for command in commands)
    pieces = [WRITER.pieces(c, CODEC.encode(c)) if held else None for c in commands]
    encoded = [WRITER.ended(e, p) for e, p in zip(ended, pieces, strict=True)]
    row = DeviceCaptures(device_id, (), ended, failures)
    assert WRITER.ended_row(device_id, encoded, failures) == CODEC.encode(row)


def command(**changes):
    made = CaptureCommand(
        7, "cam-1", "line", "", 3, 1_800_000_000_000, 1_800_000_000_000, 1_800_000_005_000, 3_000,
        0, 1_799_999_995_000,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_a_command_with_longer_varints_than_need_be_is_cut_at_its_fields():
    """Avro allows ``8e 00`` for 7: the same command in one byte more."""
    plain = CODEC.encode(command())
    assert plain[5] == 14
    longer = plain[:5] + b"\x8e\x00" + plain[6:]
    found = CODEC.decode_as(longer, CaptureCommand)
    assert found == command()
    pieces = WRITER.pieces(found, longer)
    row = OpenCapture(found, "PENDING", 0, 5, ())
    assert CODEC.decode_as(WRITER.open_row(row, pieces), OpenCapture) == row
    result = result_of(found, "FAILED", ())
    assert WRITER.result(result, pieces) == CODEC.encode(result)
    assert WRITER.ended(ended_of(found), pieces) == WRITER.ended(ended_of(found), None)


def test_bytes_of_another_release_are_not_copied():
    """DESIGN 'Arrows': the id names the writer's schema, and a row must name today's."""
    made = command()
    foreign = b"\x00\xff\xff\xff\xff" + CODEC.encode(made)[5:] + b"more"
    row = OpenCapture(made, "PENDING", 0, 5, ())
    assert WRITER.open_row(row, WRITER.pieces(made, foreign)) == CODEC.encode(row)


def test_another_order_of_fields_is_refused(monkeypatch):
    monkeypatch.setitem(LAYOUTS, Transition, ("to_state", "from_state"))
    with pytest.raises(SchemaError, match="Transition"):
        CaptureWriter(CODEC)
