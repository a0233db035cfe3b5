"""When an attempt is repeated (SPEC 1.6, 3.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import retry


def test_the_wait_doubles_from_100_ms() -> None:
    """SPEC 1.6: 2^n x 100 ms, n counted from 0."""
    assert [retry.backoff_ms(attempt) for attempt in (1, 2, 3)] == [100, 200, 400]


def test_the_wait_is_bounded_on_both_sides() -> None:
    """An attempt number out of the range waits as long as the nearest one in it."""
    assert retry.backoff_ms(0) == 100
    assert retry.backoff_ms(1_000_000) == 400


def test_three_retries_follow_the_first_attempt() -> None:
    """SPEC 3.2: retries <= 3."""
    found = [retry.obstacle(attempt, 0, 1_000_000) for attempt in (1, 2, 3, 4)]
    assert found == ["", "", "", "attempt 4 of 4"]


def test_a_healthless_device_gets_fewer_retries() -> None:
    """SPEC 3.2: the number of retries can be lowered."""
    policy = retry.RetryPolicy(retries=0)
    assert retry.obstacle(1, 0, 1_000_000, policy=policy) == "attempt 1 of 1"


def test_a_failure_that_a_retry_cannot_help_is_final() -> None:
    """SPEC 3.2: a refusal for good is not repeated."""
    assert retry.obstacle(1, 0, 1_000_000, retryable=False) == "a retry cannot help"


@pytest.mark.parametrize(
    ("not_after_ms", "expected"), [(1_200, ""), (1_199, "no retry fits before not_after")]
)
def test_a_retry_needs_its_wait_and_a_reserve(not_after_ms: int, expected: str) -> None:
    """SPEC 3.2: 1,000 + 100 backoff + 100 reserve is the last moment, and one less is too late."""
    assert retry.obstacle(1, 1_000, not_after_ms) == expected


@given(
    attempt=st.integers(1, 10),
    now_ms=st.integers(0, 2**42),
    left_ms=st.integers(-1_000, 2_000),
    retries=st.integers(0, 3),
    reserve_ms=st.integers(0, 500),
)
def test_a_retry_that_fits_can_open_before_not_after(
    attempt: int, now_ms: int, left_ms: int, retries: int, reserve_ms: int
) -> None:
    """SPEC 3.2: no retry is promised that could only expire, and none is refused that fits."""
    policy = retry.RetryPolicy(retries=retries, reserve_ms=reserve_ms)
    fits = not retry.obstacle(attempt, now_ms, now_ms + left_ms, policy=policy)
    assert fits == (attempt <= retries and retry.backoff_ms(attempt) + reserve_ms <= left_ms)


@pytest.mark.parametrize(
    "values", [{"retries": -1}, {"retries": 4}, {"reserve_ms": -1}, {"reserve_ms": 60_001}]
)
def test_settings_out_of_bounds_are_refused(values: dict[str, int]) -> None:
    """SPEC 3.2: retries <= 3; each setting has its bounds."""
    with pytest.raises(ValueError, match="must be"):
        retry.RetryPolicy(**values)
