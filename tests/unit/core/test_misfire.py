"""What becomes of late times (SPEC 1.5, 2.1): each policy against a walk over all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.records import CapturePolicy, ScheduleSpec
from streams.core.misfire import MAX_MADE_UP, POLICIES, late_intervals, late_times, reason_of
from streams.core.recurrence import compile_spec
from streams.core.times import Times


def test_the_worked_example_of_the_docstring():
    late = late_intervals(0, 60, 200, 60)
    assert (late.skipped_first_ms, late.skipped_last_ms, late.skipped_count) == (0, 120, 3)
    assert (late.issue_ms, late.next_ms) == (180, 240)
    late = late_intervals(0, 60, 200, 10)
    assert (late.issue_ms, late.skipped_last_ms, late.skipped_count) == (None, 180, 4)
    minute = Times(compile_spec(ScheduleSpec("interval", every_ms=60), None), CapturePolicy(), "d")
    late = late_times(minute, 0, 200, 150, "earliest")
    assert (late.issue, late.skipped) == ((60,), ((0, 0), (120, 180)))
    late = late_times(minute, 0, 200, 150, "all")
    assert (late.issue, late.skipped) == ((60, 120, 180), ((0, 0),))


@given(st.integers(0, 10**12), st.integers(1, 10**7), st.integers(1, 10**9), st.integers(0, 10**9))
def test_it_is_what_a_walk_over_all_late_times_gives(first, every, after, window):
    tick = first + after
    late = late_intervals(first, every, tick, window)
    last = first + (tick - 1 - first) // every * every
    assert late.next_ms == last + every >= tick > last
    if tick - last <= window:
        assert (late.issue_ms, late.skipped_last_ms) == (last, last - every)
    else:
        assert (late.issue_ms, late.skipped_last_ms) == (None, last)
    assert late.skipped_first_ms == first
    assert late.skipped_count == (late.skipped_last_ms - first) // every + 1


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=300, unique=True).map(sorted),
    st.integers(0, 6_000),
    st.sampled_from(POLICIES),
)
def test_each_policy_on_irregular_times_is_what_a_walk_gives(moments, window, policy):
    tick = moments[-1] + 1
    spec = ScheduleSpec("once", at_ms=moments[0], also=tuple(once(ms) for ms in moments[1:]))
    times = Times(compile_spec(spec, None), CapturePolicy(), "d")
    late = late_times(times, moments[0], tick, window, policy)
    wanted = [ms for ms in moments if tick - ms <= window]
    kept = {
        "skip": [],
        "latest": wanted[-1:],
        "earliest": wanted[:1],
        "all": wanted[-MAX_MADE_UP:],
    }[policy]
    assert list(late.issue) == kept
    ranges = [[ms for ms in moments if a <= ms <= b] for a, b in late.skipped]
    assert [(r[0], r[-1]) for r in ranges] == list(late.skipped)
    assert sorted(kept + [ms for r in ranges for ms in r]) == moments
    assert all(times.count(a, b) == len(r) for (a, b), r in zip(late.skipped, ranges, strict=True))


def once(ms: int):
    from schemas.records import Term

    return Term("once", at_ms=ms)


def test_a_reason_names_the_rule():
    assert "latest" in reason_of("latest", 5, issued=True)
    assert "window of 5 ms" in reason_of("latest", 5, issued=False)
    assert "none" in reason_of("skip", 5, issued=False)
    assert str(MAX_MADE_UP) in reason_of("all", 5, issued=True)
