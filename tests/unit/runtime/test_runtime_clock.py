"""The worker's wall clock on made-up sources: slewed when a little off, adopted after a jump."""

from __future__ import annotations

import random
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.ntp_select import DRIFT, FREE_DRIFT, ROUNDS, Agreement, drift_of
from streams.runtime.clock import COMPARE_EVERY_S, JUMP_MS, KEPT, SLEW_PER_S, Clock


class Sources:
    """A wall clock and a monotonic clock that the test turns."""

    def __init__(self):
        self.wall, self.monotonic = 1_700_000_000.0, 50.0
        self.jumps: list[float] = []
        self.told = []
        self.clock = Clock(
            lambda: self.wall, lambda: self.monotonic, self.jumps.append, self.told.append
        )

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


def test_what_other_threads_read_corrects_nothing():
    """A jump is told in the thread that made the clock, as what it stops belongs to that one."""
    s = Sources()
    s.wall += 7_200.0
    s.passes(COMPARE_EVERY_S)
    read = []
    thread = threading.Thread(target=lambda: read.append(s.clock.now_s()))
    thread.start()
    thread.join()
    assert read == [pytest.approx(s.wall - 7_200.0)]
    assert s.jumps == []
    assert s.clock.now_s() == pytest.approx(s.wall)
    assert len(s.jumps) == 1


# --- kept by time servers -------------------------------------------------------------------------


def agreed(s: Sources, ahead_s: float, error_s: float = 0.001, age_s: float = 0.0) -> Agreement:
    """What servers say whose time is ``ahead_s`` before this machine's."""
    at_s = s.monotonic - age_s
    return Agreement(s.wall + ahead_s - s.monotonic, error_s, at_s, at_s, ("a",), ())


def test_at_the_start_the_servers_time_is_adopted_without_a_jump():
    s = Sources()
    s.clock.start_at(agreed(s, 3_600.0))
    assert s.clock.now_s() == pytest.approx(s.wall + 3_600.0)
    assert s.jumps == []
    assert [(one.number, one.kind, round(one.amount_s)) for one in s.told] == [(1, "start", 3_600)]


def test_the_machines_clock_is_not_asked_again_once_servers_have_set_it():
    s = Sources()
    s.clock.start_at(agreed(s, 0.0))
    before = s.clock.now_s()
    s.passes(100.0, wall=86_400.0)
    assert s.clock.now_s() - before == pytest.approx(100.0)
    assert s.jumps == []


def test_what_servers_say_is_slewed_within_500_ppm():
    s = Sources()
    s.clock.start_at(agreed(s, 0.0))
    assert s.clock.measured(agreed(s, -0.010)) == "slew"
    last = s.clock.now_s()
    for _ in range(40):
        s.passes(1.0)
        now = s.clock.now_s()
        assert 1.0 - SLEW_PER_S - 1e-6 <= now - last <= 1.0
        last = now
    assert now == pytest.approx(s.wall - 0.010, abs=1e-6)
    assert s.clock.offset_s() == pytest.approx(0.0, abs=1e-9)


def test_drift_and_slew_together_stay_within_500_ppm():
    s = Sources()
    s.clock.start_at(agreed(s, 0.0))
    s.clock.measured(agreed(s, 0.5), 300e-6)
    before = s.clock.now_s()
    s.passes(100.0)
    assert s.clock.now_s() - before == pytest.approx(100.0 + 100.0 * SLEW_PER_S, abs=1e-6)
    assert s.clock.offset_s() == pytest.approx(0.5 - 100.0 * (SLEW_PER_S - 300e-6), abs=1e-6)


@pytest.mark.parametrize("jump_s", [1.001, -1.001, 7_200.0])
def test_servers_must_want_a_jump_twice(jump_s):
    s = Sources()
    s.clock.start_at(agreed(s, 0.0))
    assert s.clock.measured(agreed(s, jump_s)) == "doubt"
    assert s.clock.now_s() == pytest.approx(s.wall)
    s.passes(3.0)
    assert s.clock.measured(agreed(s, jump_s)) == "step"
    assert s.clock.now_s() == pytest.approx(s.wall + jump_s)
    assert s.jumps == [pytest.approx(jump_s * 1000.0)]
    assert s.told[-1].kind == "step"


def test_two_jumps_that_are_not_the_same_are_two_doubts():
    s = Sources()
    s.clock.start_at(agreed(s, 0.0))
    for jump_s in (5.0, -5.0, 9.0):
        assert s.clock.measured(agreed(s, jump_s)) == "doubt"
    assert s.clock.measured(agreed(s, 0.0)) == "slew"
    assert s.clock.measured(agreed(s, 9.0)) == "doubt"
    assert s.jumps == []


def test_the_error_bound_grows_while_nobody_answers():
    """100 ppm while the drift is not known, 15 ppm once it is (RFC 5905, PHI)."""
    s = Sources()
    assert s.clock.error_s() is None
    s.clock.start_at(agreed(s, 0.0, error_s=0.002))
    assert s.clock.error_s() == pytest.approx(0.002)
    s.passes(1_000.0)
    assert s.clock.error_s() == pytest.approx(0.002 + 1_000.0 * FREE_DRIFT)
    s.clock.measured(agreed(s, 0.004, error_s=0.003), drift=0.0)
    assert s.clock.error_s() == pytest.approx(0.003 + 0.004, abs=1e-6)
    s.passes(1_000.0)
    assert s.clock.error_s() == pytest.approx(0.003 + 1_000.0 * DRIFT, abs=1e-6)


def test_corrections_are_numbered_and_the_last_are_kept():
    s = Sources()
    s.clock.start_at(agreed(s, 0.5))
    for n in range(2, KEPT + 11):
        s.clock.measured(agreed(s, 0.5 + 0.001 * n))
    assert [one.number for one in s.clock.corrections(after=KEPT + 8)] == [KEPT + 9, KEPT + 10]
    assert [one.number for one in s.clock.corrections(0)] == list(range(11, KEPT + 11))
    assert s.clock.corrections(KEPT + 10) == ()
    s.clock.measured(agreed(s, s.clock.now_s() - s.wall + 1e-6))
    assert len(s.told) == KEPT + 10, "less than 10 microseconds is noise"


@pytest.mark.parametrize("ppm", [-200, -30, 0, 80, 250])
def test_a_day_on_an_oscillator_that_drifts(ppm):
    """SPEC 1.5, 'drift never piles tasks up'.

    Half a millisecond of network jitter; for four hours nobody answers. Once the drift is known the
    clock is within 1 ms of the truth, and within 0.1 s after the four hours alone; it never steps
    or runs backwards, and the truth is within its error bound (before that, if the oscillator is
    no worse than 100 ppm).
    """
    s, dice = Sources(), random.Random(ppm)
    rounds: deque[tuple[float, float]] = deque(maxlen=ROUNDS)

    def utc_s() -> float:
        return 1_700_000_000.0 + (s.monotonic - 50.0) * (1.0 + ppm * 1e-6)

    def said() -> Agreement:
        offset_s = utc_s() + dice.uniform(-0.0005, 0.0005) - s.monotonic
        rounds.append((s.monotonic, offset_s))
        return Agreement(offset_s, 0.001, s.monotonic, s.monotonic, (), ())

    s.clock.start_at(said())
    last, worst_s, worst_alone_s = s.clock.now_s(), 0.0, 0.0
    for n in range(24 * 120):
        s.passes(15.0)
        alone = 12 * 120 <= n < 16 * 120
        if not alone:
            assert s.clock.measured(said(), drift_of(rounds)) == "slew"
        s.passes(15.0)
        now = s.clock.now_s()
        assert now > last
        last = now
        error_s = abs(now - utc_s())
        if n > ROUNDS or abs(ppm * 1e-6) < FREE_DRIFT:
            assert error_s <= s.clock.error_s() + 1e-6
        if alone:
            worst_alone_s = max(worst_alone_s, error_s)
        elif n > ROUNDS and not 16 * 120 <= n < 16 * 120 + ROUNDS:
            worst_s = max(worst_s, error_s)
    assert s.jumps == []
    assert worst_s < 0.001
    assert worst_alone_s < 0.1
    assert s.clock.drift == pytest.approx(ppm * 1e-6, abs=10e-6)
