"""Rows of ``schedules`` read fast are the rows that the codec reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agent_parts import CODEC
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError, SchemaError
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState, ShardState
from streams.agents.schedule_rows import schedule_rows
from streams.core.schedule_table import ScheduleTable

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=100)
NUMBERS = st.integers(0, 2**62)
ROWS = st.builds(
    ScheduleState,
    NAMES,
    NAMES,
    NUMBERS,
    st.builds(ScheduleSpec, st.sampled_from(["interval", "é"]), NUMBERS | st.none()),
    st.builds(CapturePolicy, st.sampled_from([0, 5_000]), priority=st.integers(0, 9)),
    st.sampled_from([-1, 0, 1, 2**40]) | NUMBERS,
    st.booleans(),
    st.sampled_from(["", "why", "éé"]),
)


def read(values: Iterable[bytes]) -> list[ScheduleState]:
    """Return the rows put together as the table of a partition does."""
    table = ScheduleTable()
    return [
        table.row(index) for rows in schedule_rows(values, CODEC) for index in table.extend(rows)
    ]


def by_key(rows: list[ScheduleState]) -> list[ScheduleState]:
    return sorted(rows, key=lambda row: (row.device_id, row.schedule_id))


@given(st.lists(ROWS, max_size=20, unique_by=lambda row: (row.device_id, row.schedule_id)))
def test_what_is_read_is_what_was_written(rows):
    assert by_key(read(map(CODEC.encode, rows))) == by_key(rows)


@given(st.from_type(ScheduleSpec), st.from_type(CapturePolicy), st.lists(NUMBERS, min_size=2))
def test_rows_that_differ_in_their_start_share_spec_and_policy(spec, policy, starts):
    """Whatever a spec and a policy are made of, now or in a release to come."""
    rows = [
        ScheduleState(f"cam-{n:06}", "s", n, spec, policy, start, bool(n % 2), "why" * (n % 2))
        for n, start in enumerate(starts)
    ]
    try:
        values = [CODEC.encode(row) for row in rows]
    except SchemaError:
        return  # a number that no record can hold
    found = [rows.like for rows in schedule_rows(values, CODEC)]
    assert by_key(read(values)) == rows
    assert {id(like.spec) for like in found} == {id(found[0].spec)}
    assert {id(like.policy) for like in found} == {id(found[0].policy)}


def test_equal_ends_come_together():
    spec, policy = ScheduleSpec("interval", 60_000), CapturePolicy()
    rows = [ScheduleState(f"cam-{n:03}", "s", n, spec, policy, 7, False) for n in range(300)]
    (found,) = schedule_rows(map(CODEC.encode, rows), CODEC)
    assert found.keys == [f"cam-{n:03}\0s" for n in range(300)]
    assert found.device_ids == [b"cam-%03d" % n for n in range(300)]
    assert found.epochs == list(range(300))
    assert found.like == rows[0]


def test_batches_are_bounded_and_whole(monkeypatch):
    monkeypatch.setattr("streams.agents.schedule_rows.BATCH_ROWS", 7)
    spec, policy = ScheduleSpec("interval", 60_000), CapturePolicy()
    rows = [ScheduleState(f"cam-{n:03}", "s", n, spec, policy, n % 3, False) for n in range(100)]
    batches = list(schedule_rows(map(CODEC.encode, rows), CODEC))
    assert max(len(batch.keys) for batch in batches) <= 7
    assert by_key(read(map(CODEC.encode, rows))) == rows


@pytest.mark.parametrize("cut", [5, 6, 9, 12])
def test_a_row_cut_short_is_named_as_by_the_codec(cut):
    row = ScheduleState("cam-1", "s", 300, ScheduleSpec("once", at_ms=1), CapturePolicy(), 0, False)
    with pytest.raises(DecodeError):
        list(schedule_rows([CODEC.encode(row)[:cut]], CODEC))


def test_an_id_that_is_no_utf8_is_named_as_by_the_codec():
    row = ScheduleState("cam-1", "s", 3, ScheduleSpec("once", at_ms=1), CapturePolicy(), 0, False)
    with pytest.raises(DecodeError):
        list(schedule_rows([CODEC.encode(row).replace(b"cam-1", b"cam\xff1")], CODEC))


def test_a_row_of_an_older_release_is_read_by_the_codec(monkeypatch):
    row = ScheduleState("cam-1", "s", 3, ScheduleSpec("once", at_ms=1), CapturePolicy(), 0, False)
    value = b"\0\0\0\0\7" + CODEC.encode(row)[5:]
    monkeypatch.setattr(type(CODEC), "decode_as", lambda _self, data, _cls: (data[4], row)[1])
    (found,) = schedule_rows([value], CODEC)
    assert (found.like, found.keys, found.epochs) == (row, ["cam-1\0s"], [3])


def test_another_record_is_refused():
    with pytest.raises(DecodeError):
        list(schedule_rows([CODEC.encode(ShardState(1, 2, 3, 4))], CODEC))
