"""How large the pools are, and when a line is too long (SPEC 2.5; issue 6 'Executor')."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import pools
from streams.core.pools import PoolPolicy, Signals

SPEC = PoolPolicy()
COUNT = st.integers(0, 20_000)
SHARE = st.floats(0.0, 1.0)
POLICIES = st.builds(
    lambda least, more: PoolPolicy(least=least, most=least + more),
    st.integers(1, 2_000),
    st.integers(0, 4_000),
)
SIGNALS = st.builds(Signals, COUNT, st.integers(0, 5_000), SHARE, SHARE)


@pytest.mark.parametrize(
    ("queue", "expected"),
    [(0, 10), (4, 10), (5, 11), (100, 30), (949, 199), (950, 200), (9_999, 200)],
)
def test_the_formula(queue: int, expected: int) -> None:
    """SPEC 2.5: clamp(queue/5 + 10, 2, 200)."""
    assert pools.workers(queue, SPEC) == expected


def test_more_than_100_that_wait_double_a_pool() -> None:
    """SPEC 2.5: queue > 100 grows; 100 does not."""
    policy = PoolPolicy(least=50, most=1_000)
    assert pools.hot_size(50, Signals(100, 50), policy) == 50
    assert pools.hot_size(50, Signals(101, 50), policy) == 100
    assert pools.hot_size(800, Signals(101, 800), policy) == 1_000


def test_a_busy_cpu_prewarms_the_hot_pool_only() -> None:
    """SPEC 2.5: CPU >= 70 % prewarms."""
    assert pools.hot_size(40, Signals(0, 60, cpu=0.70), SPEC) == 90
    assert pools.hot_size(90, Signals(0, 10, cpu=0.70), SPEC) == 90, "nothing is taken back"
    assert pools.cold_size(90, Signals(0, 10, cpu=0.70), SPEC, cut=False) == 85


def test_errors_cut_the_cold_pool_until_they_are_few_again() -> None:
    """SPEC 2.5: error rate > 5 % cuts the cold pool; it does not flap at the limit."""
    cut, seen = False, []
    for rate in (0.05, 0.051, 0.045, 0.041, 0.04, 0.045, 0.05):
        cut = pools.is_cut(Signals(0, 0, error_rate=rate), was_cut=cut)
        seen.append(cut)
    assert seen == [False, True, True, True, False, False, False]
    assert pools.cold_size(200, Signals(5_000, 200, error_rate=0.5), SPEC, cut=True) == 50
    assert pools.cold_size(50, Signals(5_000, 50), SPEC, cut=False) == 200


@given(COUNT, SIGNALS, POLICIES, st.booleans())
def test_a_size_keeps_its_bounds_and_is_never_below_the_formula(
    size: int, signals: Signals, policy: PoolPolicy, cut: bool
) -> None:
    """SPEC 2.5: whatever the signals."""
    formula = pools.workers(signals.queue, policy)
    hot = pools.hot_size(size, signals, policy)
    assert policy.least <= formula <= hot <= policy.most
    cold = pools.cold_size(size, signals, policy, cut=cut)
    assert policy.least <= cold <= policy.most
    if cut:
        assert cold <= max(policy.most // 4, policy.least)
    else:
        assert cold >= formula


@given(st.integers(10, 4_000), st.integers(0, 4_000))
def test_a_pool_settles_a_little_above_what_is_in_use(size: int, in_use: int) -> None:
    """SPEC 2.5: it neither flaps nor keeps what nobody uses."""
    policy, before = PoolPolicy(least=10, most=4_096), size
    for _ in range(200):
        size = pools.hot_size(size, Signals(0, in_use), policy)
    assert size == max(min(in_use * 5 // 4, before), 10)
    assert pools.hot_size(size, Signals(0, in_use), policy) == size


def test_the_formula_alone_at_4000_captures_a_second() -> None:
    """ADR 0016: Little's law; a queue must stand for every permit beyond the tenth."""
    for took_ms, waiting in ((50, 950), (100, 1_950)):
        needed = 4_000 * took_ms // 1_000
        most = PoolPolicy(most=1_000)
        assert pools.workers(waiting, most) == needed
        assert pools.workers(waiting - 1, most) < needed
    assert pools.workers(10**6, SPEC) * 1_000 // 50 == 4_000


def test_a_hopeless_capture_is_one_that_half_the_wait_is_too_long_for() -> None:
    """Issue 6: shed with a record, not late; but not on a mere estimate."""
    expected_ms = pools.wait_ms(ahead=1_000, size=10, hold_ms=50.0)
    assert expected_ms == 5_000
    assert not pools.hopeless(0, 2_500, expected_ms)
    assert pools.hopeless(0, 2_499, expected_ms)


@pytest.mark.parametrize(("cpu", "room"), [(0.94, 10_000), (0.95, 2_000)])
def test_a_spent_cpu_shortens_the_line(cpu: float, room: int) -> None:
    """SPEC 2.3: under load non-critical work yields: what 5 s serve may wait, no more."""
    found = pools.room_for(20, 50.0, cpu, max_waiting=10_000, max_wait_ms=5_000)
    assert found == room


@pytest.mark.parametrize(
    "values", [{"least": 0}, {"least": 9, "most": 8}, {"most": 65_536}, {"queue_per_permit": 0}]
)
def test_settings_out_of_bounds_are_refused(values: dict[str, int]) -> None:
    """CONVENTIONS 6: each setting has its bounds."""
    with pytest.raises(ValueError, match=r"are|must be"):
        PoolPolicy(**values)
