"""Rows of ``schedules`` read fast are the rows that the codec reads."""

from __future__ import annotations

import pytest
from agent_parts import CODEC
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState, ShardState
from streams.agents.schedule_rows import schedule_rows

NAMES = st.text(min_size=1, max_size=100)
NUMBERS = st.integers(0, 2**62)
ROWS = st.builds(
    ScheduleState,
    NAMES,
    NAMES,
    NUMBERS,
    st.builds(ScheduleSpec, st.just("interval"), NUMBERS),
    st.builds(CapturePolicy, st.sampled_from([0, 5_000])),
    st.sampled_from([0, 1, 2**40]),
    st.booleans(),
    st.sampled_from(["", "why"]),
)


@given(st.lists(ROWS, max_size=20))
def test_what_is_read_is_what_was_written(rows):
    twice = [*rows, *rows]
    assert list(schedule_rows(map(CODEC.encode, twice), CODEC)) == twice


def test_equal_ends_are_shared():
    spec, policy = ScheduleSpec("interval", 60_000), CapturePolicy()
    rows = [ScheduleState(f"cam-{n}", "s", n, spec, policy, 7, False) for n in range(300)]
    found = list(schedule_rows(map(CODEC.encode, rows), CODEC))
    assert found == rows
    assert len({id(row.spec) for row in found}) == 1


@pytest.mark.parametrize("cut", [5, 6, 9, 12])
def test_a_row_cut_short_is_named_as_by_the_codec(cut):
    row = ScheduleState("cam-1", "s", 300, ScheduleSpec("once", at_ms=1), CapturePolicy(), 0, False)
    with pytest.raises(DecodeError):
        list(schedule_rows([CODEC.encode(row)[:cut]], CODEC))


def test_another_record_is_refused():
    with pytest.raises(DecodeError):
        list(schedule_rows([CODEC.encode(ShardState(1, 2, 3, 4))], CODEC))
