"""Late times: the latest within the window, the rest recorded once (SPEC 1.5, 2.1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.misfire import late_intervals, late_once_is_wanted


@given(
    st.integers(0, 10_000),
    st.integers(1, 500),
    st.integers(1, 20_000),
    st.integers(0, 2_000),
)
def test_late_times_are_settled_as_by_hand(first_ms, every_ms, outage_ms, window_ms):
    tick_ms = first_ms + outage_ms
    late = list(range(first_ms, tick_ms, every_ms))
    wanted = late[-1] if tick_ms - late[-1] <= window_ms else None
    given_up = [s for s in late if s != wanted]
    missed = late_intervals(first_ms, every_ms, tick_ms, window_ms)
    assert missed.issue_ms == wanted
    assert missed.skipped_count == len(given_up)
    if given_up:
        assert (missed.skipped_first_ms, missed.skipped_last_ms) == (given_up[0], given_up[-1])
    assert missed.next_ms == late[-1] + every_ms >= tick_ms


def test_the_worked_example_of_the_docstring():
    missed = late_intervals(0, 60_000, 200_000, 60_000)
    assert (missed.skipped_first_ms, missed.skipped_last_ms) == (0, 120_000)
    assert (missed.skipped_count, missed.issue_ms, missed.next_ms) == (3, 180_000, 240_000)
    none = late_intervals(0, 60_000, 200_000, 10_000)
    assert (none.issue_ms, none.skipped_count) == (None, 4)


def test_the_window_of_a_single_time_includes_its_end():
    assert late_once_is_wanted(1_000, 61_000, 60_000)
    assert not late_once_is_wanted(1_000, 61_001, 60_000)
