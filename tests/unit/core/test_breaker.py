"""The circuit breaker of a device (SPEC 3.2; issue 6 'Executor')."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import breaker as br

T_MS = 1_795_000_000_000
POLICY = br.BreakerPolicy()


def drawn(text: str) -> dict[tuple[str, str], str]:
    """Read the arrows of the picture: (state, event) to state."""
    found = re.findall(r"^ +([A-Z_]+) ─+▶ ([A-Z_]+) +\((\w+)\)", text, re.MULTILINE)
    return {(before, event): after for before, after, event in found}


def test_the_picture_in_the_docstring_is_the_table() -> None:
    """CONVENTIONS 3: the diagram that people read is the table that the code obeys."""
    assert br.__doc__ is not None
    assert drawn(br.__doc__) == br.TRANSITIONS
    assert drawn(br.__doc__.replace("▶ HALF_OPEN", "▶ CLOSED", 1)) != br.TRANSITIONS


def in_state(state: str) -> br.Breaker:
    """A breaker that is in this state at T_MS."""
    if state == "CLOSED":
        return br.Breaker(failures=1, cause="timeout")
    until_ms = T_MS + 1_000 if state == "OPEN" else T_MS
    return br.Breaker(failures=5, trips=1, until_ms=until_ms, cause="timeout")


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(get_args(br.State), get_args(br.Event)))
)
def test_every_state_meets_every_event(state: str, event: str) -> None:
    """SPEC 3.2: the code does what the table says, and the table leaves nothing open."""
    before = in_state(state)
    assert br.state_at(before, T_MS) == state
    expected = br.TRANSITIONS.get((state, event))
    match event:
        case "success":
            after = br.state_at(br.on_success(before), T_MS)
        case "trip":
            after = br.state_at(br.on_failure(before, T_MS, "auth"), T_MS)
        case "failure":
            patient = br.BreakerPolicy(failures=100)
            after = br.state_at(br.on_failure(before, T_MS, "timeout", patient), T_MS)
        case _:
            after = br.state_at(before, T_MS + 1_000)
            expected = expected or state
    assert after == expected


def test_it_opens_with_the_fifth_failure_in_a_row_and_doubles() -> None:
    """SPEC 3.2: the example of the module's text, attempt by attempt."""
    breaker = br.CLOSED
    for n in range(4):
        breaker = br.on_failure(breaker, T_MS + n, "timeout")
        assert br.state_at(breaker, T_MS + n) == "CLOSED"
    now_ms, waits = T_MS, []
    for _ in range(9):
        breaker = br.on_failure(breaker, now_ms, "timeout")
        waits.append(breaker.until_ms - now_ms)
        now_ms = breaker.until_ms
    assert waits == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]


def test_a_success_forgets_the_failures() -> None:
    """SPEC 3.2: in a row means in a row."""
    breaker = br.CLOSED
    for _ in range(4):
        breaker = br.on_failure(breaker, T_MS, "timeout")
    assert br.on_success(breaker) == br.CLOSED


def test_a_refused_login_opens_at_once_and_for_long() -> None:
    """Issue 6: an authentication failure is never retried blindly (cameras lock accounts)."""
    breaker = br.on_failure(br.CLOSED, T_MS, "auth")
    assert br.verdict(breaker, T_MS + 299_999, T_MS + 299_999) == "give_up"
    assert br.verdict(breaker, T_MS + 300_000, T_MS + 300_000) == "probe"
    attempts, now_ms = 1, breaker.until_ms
    while now_ms < T_MS + 2 * 3_600_000:
        attempts, breaker = attempts + 1, br.on_failure(breaker, now_ms, "auth")
        now_ms = breaker.until_ms
    assert attempts <= 7, "fewer than lock an account, in two hours"


@pytest.mark.parametrize("cause", sorted(br.NOT_THE_DEVICE))
def test_what_is_not_the_devices_fault_is_not_held_against_it(cause: str) -> None:
    """SPEC 3.2: a blob store that is full opens no breaker of a camera."""
    breaker = br.CLOSED
    for _ in range(100):
        breaker = br.on_failure(breaker, T_MS, cause)
    assert breaker is br.CLOSED


@pytest.mark.parametrize(
    ("not_after_ms", "expected"),
    [(T_MS + 1_000, "wait"), (T_MS + 999, "give_up")],
)
def test_a_due_capture_waits_for_the_probe_where_it_may(not_after_ms: int, expected: str) -> None:
    """ADR 0016: wait while not_after allows, and give up at once where it does not."""
    breaker = in_state("OPEN")
    assert br.verdict(breaker, T_MS, not_after_ms) == expected
    assert br.describe(breaker, T_MS) == (
        "breaker_open: failure 5 in a row was 'timeout'; the device is asked again in 1,000 ms"
    )


CAUSES = st.sampled_from(["timeout", "refused", "auth", "store", ""])


@given(st.lists(st.tuples(CAUSES, st.integers(0, 400_000)), max_size=80))
def test_whatever_happens_a_breaker_lets_a_probe_go_in_the_end(events: list[tuple[str, int]]):
    """SPEC 3.2: no device is given up for good; each opening ends within the longest time."""
    breaker, now_ms = br.CLOSED, T_MS
    for cause, pause_ms in events:
        now_ms += pause_ms
        before = breaker
        breaker = br.on_failure(breaker, now_ms, cause) if cause else br.on_success(breaker)
        if not cause:
            assert br.state_at(breaker, now_ms) == "CLOSED"
        assert breaker.until_ms <= max(now_ms + POLICY.longest_login_ms, before.until_ms)
        assert br.state_at(breaker, max(breaker.until_ms, now_ms)) != "OPEN"
        assert (breaker.trips == 0) == (br.state_at(breaker, now_ms) == "CLOSED")


@given(st.integers(1, 100), st.integers(1, 200))
def test_so_many_failures_in_a_row_open_it_and_no_fewer(limit: int, failures: int) -> None:
    """SPEC 3.2: the number is the policy's."""
    policy, breaker = br.BreakerPolicy(failures=limit), br.CLOSED
    for _ in range(failures):
        breaker = br.on_failure(breaker, T_MS, "refused", policy)
    assert (breaker.trips > 0) == (failures >= limit)


@pytest.mark.parametrize("values", [{"failures": 0}, {"open_ms": 0}, {"longest_ms": 86_400_001}])
def test_settings_out_of_bounds_are_refused(values: dict[str, int]) -> None:
    """CONVENTIONS 6: each setting has its bounds."""
    with pytest.raises(ValueError, match="must be"):
        br.BreakerPolicy(**values)
