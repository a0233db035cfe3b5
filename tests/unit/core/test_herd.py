"""The herd rule, one by one (issue 5 'Herds'). Its properties are in simulation/."""

from __future__ import annotations

from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState
from streams.core import ids
from streams.core.herd import Fire, place
from streams.core.recurrence import compile_spec

T0 = ids.EPOCH_MS + 5_000_000
MINUTE = ScheduleSpec("interval", every_ms=60_000)


def fire(device: str, at_ms: int = 250, spec: ScheduleSpec = MINUTE, **policy) -> Fire:
    row = ScheduleState(device, "s", 1, spec, CapturePolicy(**policy), 0, paused=False)
    return (T0 + at_ms, row, T0 + at_ms, compile_spec(spec))


def placed(fires: list[Fire], capacity: int, now_ms: int = 0, booked=None):
    """Device, milliseconds it was moved, and whether capacity has yielded, in order."""
    kept = {} if booked is None else booked
    return [
        (p.fire[1].device_id, p.at_ms - p.fire[0], p.over_capacity)
        for p in place(fires, kept, T0 + now_ms, capacity)
    ]


def test_the_worked_example_of_the_docstring():
    fires = [fire(d, tolerance_ms=t * 1_000) for d, t in zip("abcde", (3, 0, 3, 1, 3), strict=True)]
    assert placed(fires, 2, -5_000) == [
        ("b", 0, False),
        ("d", 0, False),
        ("a", 1_000, False),
        ("c", 1_000, False),
        ("e", 2_000, False),
    ]


def test_priority_goes_before_patience_and_the_key_decides_among_equals():
    fires = [
        fire("c", tolerance_ms=5_000),
        fire("b", tolerance_ms=5_000),
        fire("a", tolerance_ms=2_000),
        fire("z", tolerance_ms=5_000, priority=1),
    ]
    assert [d for d, _, _ in placed(fires, 1)] == ["z", "a", "b", "c"]


def test_where_there_is_no_room_capacity_yields_and_says_so():
    fires = [fire(d, tolerance_ms=1_000) for d in "abc"]
    assert placed(fires, 1) == [("a", 0, False), ("c", 0, True), ("b", 1_000, False)]


def test_seconds_that_were_given_away_stay_so_and_those_that_are_over_are_dropped():
    second = T0 // 1_000
    booked = {second - 9: 4, second: 2, second + 1: 1}
    assert placed([fire("a", tolerance_ms=9_000)], 2, 100, booked) == [("a", 1_000, False)]
    assert booked == {second: 2, second + 1: 2}


def test_it_is_never_moved_up_to_its_schedules_next_time_nor_beyond_its_end():
    often = ScheduleSpec("interval", every_ms=2_000)
    full = {T0 // 1_000 + n: 1 for n in range(2)}
    assert placed([fire("a", spec=often, tolerance_ms=9_000)], 1, 0, dict(full)) == [("a", 0, True)]
    bounded = fire("a", tolerance_ms=9_000, deadline_ms=1_500)
    assert placed([bounded], 1, 0, dict(full)) == [("a", 0, True)]
    assert placed([fire("a", tolerance_ms=9_000)], 1, 0, dict(full)) == [("a", 2_000, False)]


def test_what_is_late_already_is_spread_from_now_on():
    """After an outage: all of the shard's devices have one photo to make up for."""
    fires = [fire(d, 250, tolerance_ms=5_000) for d in "abc"]
    assert placed(fires, 1, 3_700) == [("a", 0, False), ("b", 4_450, False), ("c", 5_450, False)]
