"""The worker's wall clock on made-up sources: slewed when a little off, adopted after a jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.clock import COMPARE_EVERY_S, JUMP_MS, SLEW_PER_S, Clock


class Sources:
    """A wall clock and a monotonic clock that the test turns."""

    def __init__(self):
        self.wall, self.monotonic = 1_700_000_000.0, 50.0
        self.jumps: list[float] = []
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic, self.jumps.append)

    def passes(self, seconds: float, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall


def test_it_starts_at_the_wall_clock_and_runs_with_it():
    s = Sources()
    s.passes(1_000.0)
    assert s.clock.now_s() == pytest.approx(s.wall, abs=1e-6)
    assert s.clock.now_ms() == int(s.clock.now_s() * 1000)
    assert s.jumps == []


def test_a_small_difference_is_slewed_not_stepped():
    s = Sources()
    s.wall += 0.020  # 20 ms: at 0.5 ms a second, 40 s
    s.passes(COMPARE_EVERY_S)
    before = s.clock.now_s()
    assert s.wall - before == pytest.approx(0.020, abs=1e-6)
    s.passes(10.0)
    s.clock.now_s()
    assert s.clock.behind_wall_ms() == pytest.approx(15.0, abs=0.01)
    for _ in range(200):
        s.passes(1.0)
        s.clock.now_s()
    assert s.clock.behind_wall_ms() == pytest.approx(0.0, abs=0.01)
    assert s.jumps == []


@pytest.mark.parametrize("jump_s", [2.0, -2.0, 7 * 3600.0])
def test_a_jump_is_told_and_adopted_at_once(jump_s):
    s = Sources()
    s.wall += jump_s
    s.passes(COMPARE_EVERY_S)
    assert s.clock.now_s() == pytest.approx(s.wall, abs=1e-6)
    assert s.jumps == [pytest.approx(jump_s * 1000, abs=0.1)]
    s.passes(COMPARE_EVERY_S)
    s.clock.now_s()
    assert len(s.jumps) == 1


def test_between_two_comparisons_nothing_of_the_wall_clock_is_seen():
    s = Sources()
    before = s.clock.now_s()
    s.passes(COMPARE_EVERY_S - 1.0, wall=3_600.0)
    assert s.clock.now_s() - before == pytest.approx(COMPARE_EVERY_S - 1.0, abs=1e-6)
    assert s.jumps == []


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-0.0005, 0.0005)), max_size=60))
def test_without_a_jump_it_never_runs_backwards_and_its_rate_is_bounded(steps):
    s = Sources()
    last, last_monotonic = s.clock.now_s(), s.monotonic
    for seconds, drift in steps:
        s.passes(seconds, wall=seconds * (1.0 + drift))
        now = s.clock.now_s()
        took = s.monotonic - last_monotonic
        assert abs((now - last) - took) <= took * SLEW_PER_S + 1e-6
        assert now >= last - 1e-6
        last, last_monotonic = now, s.monotonic
    assert s.jumps == []
    assert abs(s.clock.behind_wall_ms()) < JUMP_MS
