"""Rows in columns are the rows that were put in; loaded together they are due as one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState, ShardState
from streams.core import ids
from streams.core.first_times import first_times
from streams.core.partition import BACKLOG_SHARD, CLOCK_SHARD, PartitionState
from streams.core.recurrence import compile_spec
from streams.core.schedule_table import UNKNOWN_SHARD, Alike, ScheduleTable, schedule_key
from streams.core.spread import offset_ms, offsets_ms
from streams.core.times import first_scheduled

SPECS = st.one_of(
    st.builds(
        lambda every_ms, phase: ScheduleSpec("interval", every_ms, phase % every_ms),
        st.integers(100, 10**9),
        st.integers(0, 10**9),
    ),
    st.builds(lambda at_ms: ScheduleSpec("once", at_ms=at_ms), st.integers(0, 10**12)),
)
POLICIES = st.builds(
    CapturePolicy,
    lead_ms=st.integers(0, 3_600_000),
    spread_ms=st.integers(0, 3_600_000),
    priority=st.integers(0, 9),
    jitter_ms=st.sampled_from([0, 0, 0, 7]),
)
TIMES = st.integers(0, 10**13)
DEVICES = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), unique=True)


def row(device: str = "cam-1", epoch: int = 1, start: int = 0) -> ScheduleState:
    spec = ScheduleSpec("interval", 60_000)
    return ScheduleState(device, "s", epoch, spec, CapturePolicy(), start, False)


def alike(devices: list[str], like: ScheduleState) -> Alike:
    return Alike(
        like,
        [schedule_key(device, like.schedule_id) for device in devices],
        [device.encode() for device in devices],
        list(range(1, len(devices) + 1)),
    )


def test_a_row_comes_back_as_it_was_put():
    table = ScheduleTable()
    rows = [row(f"cam-{n}", n, n % 3) for n in range(50)]
    indices = [table.put(r, 7) for r in rows]
    assert [table.row(i) for i in indices] == rows
    changed = row("cam-9", 77, 5)
    assert table.put(changed, 7) == indices[9]
    assert table.row(indices[9]) == changed
    assert len(table) == 50
    assert table.shards[indices[3]] == 7


def test_a_free_index_is_used_again_and_an_unused_one_has_no_row():
    table = ScheduleTable()
    index = table.put(row("cam-1"), 1)
    table.remove(index)
    assert len(table) == 0
    with pytest.raises(AssertionError, match="not in use"):
        table.row(index)
    assert table.put(row("cam-2"), 3) == index
    assert (table.row(index).device_id, table.shards[index]) == ("cam-2", 3)


def test_what_rows_have_in_common_is_kept_once():
    table = ScheduleTable()
    for n in range(100):
        table.put(row(f"cam-{n}", n, n // 50), 1)
    table.extend(alike([f"x-{n}" for n in range(9)], row("x-0", 1, 1)))
    assert len({id(like) for like in table._likes}) == 2
    assert len({id(table.row(i).spec) for i in range(109)}) == 1


def test_a_key_that_is_there_twice_is_a_bug():
    table = ScheduleTable()
    table.put(row("cam-1"), 1)
    with pytest.raises(ValueError, match="twice"):
        table.extend(alike(["cam-0", "cam-1"], row()))


def test_rows_that_are_not_whole_are_a_bug():
    with pytest.raises(ValueError, match=r"whole|shorter"):
        ScheduleTable().extend(alike(["a", "b"], row())._replace(epochs=[1]))


@given(DEVICES, st.integers(0, 2**31))
def test_offsets_of_many_are_those_of_each(devices, spread_ms):
    many = offsets_ms([device.encode() for device in devices], spread_ms)
    assert many == [offset_ms(device, spread_ms) for device in devices]


@given(SPECS, POLICIES, DEVICES, TIMES)
def test_first_times_of_many_are_those_of_each(spec, policy, devices, time_ms):
    many = first_times(spec, policy, [device.encode() for device in devices], time_ms)
    recurrence = compile_spec(spec)
    each = [
        first_scheduled(recurrence, ScheduleState(device, "s", 1, spec, policy, 0, False), time_ms)
        for device in devices
    ]
    plain = spec.kind == "interval" and not policy.jitter_ms
    assert many == (each if plain else None)


def in_partition(partition: int, count: int) -> list[str]:
    names = (f"cam-{n:05d}" for n in range(100_000))
    mine = (name for name in names if ids.partition_of(name, 8) == partition)
    return [next(mine) for _ in range(count)]


MINE = in_partition(3, 60)


@given(
    st.lists(
        st.tuples(SPECS, POLICIES, st.integers(0, 10**12), st.booleans()), min_size=1, max_size=4
    ),
    st.integers(0, 10**12),
    st.integers(0, 600_000) | st.none(),
    st.integers(-500_000, 500_000) | st.none(),
)
def test_loaded_together_or_one_by_one_the_state_is_the_same(groups, now_ms, behind_ms, shard_ms):
    """Also with a backlog, and with shards that stand elsewhere than the partition."""
    shards = [ShardState(CLOCK_SHARD, now_ms, 0, 0)]
    if behind_ms is not None:
        shards.append(ShardState(BACKLOG_SHARD, max(0, now_ms - behind_ms), 0, 0))
    if shard_ms is not None:
        number = ids.shard_of(MINE[0])
        shards.append(ShardState(number, max(0, now_ms + shard_ms), 0, 9))
    together = []
    for number, (spec, policy, start, paused) in enumerate(groups):
        devices = MINE[number * 15 : number * 15 + 15]
        together.append(
            alike(devices, ScheduleState(devices[0], "s", 1, spec, policy, start, paused))
        )
    one, other = PartitionState(3, 8), PartitionState(3, 8)
    one.load(together, shards, ())
    table = ScheduleTable()
    for rows in together:
        table.extend(rows)
    other.load([table.row(index) for index in range(len(table))], shards, ())
    assert list(one.wheel.due[: len(table)]) == list(other.wheel.due[: len(table)])
    assert [one.row(i) for i in range(len(table))] == [other.row(i) for i in range(len(table))]
    assert (len(one.wheel), one.next_due_ms(), one.least_lead_ms) == (
        len(other.wheel),
        other.next_due_ms(),
        other.least_lead_ms,
    )
    assert {key: one.find(key) for key in one.keys} == {key: other.find(key) for key in one.keys}


def test_a_million_alike_are_not_asked_one_by_one(monkeypatch):
    asked = []

    def first(*given: object) -> int | None:
        asked.append(given)
        return first_scheduled(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("streams.core.partition.first_scheduled", first)
    state = PartitionState(3, 8)
    state.load([alike(MINE, row(MINE[0]))], [ShardState(CLOCK_SHARD, 1_000, 0, 0)], ())
    assert (len(asked), len(state.wheel)) == (1, len(MINE))
    assert state.table.shards[1] == UNKNOWN_SHARD


def test_rows_of_another_partition_are_refused():
    with pytest.raises(ValueError, match="a row of shard"):
        PartitionState(2, 8).load([alike(MINE, row(MINE[0]))], (), ())
