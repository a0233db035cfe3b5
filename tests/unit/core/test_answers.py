"""How a device answered lately: its retries and its pool (SPEC 3.2, 2.5; issue 6 'Executor')."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import answers as an
from streams.core import retry

ATTEMPTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def after(*attempts: tuple[bool, bool], begin: an.Answers = an.TRUSTED) -> an.Answers:
    """The history after attempts of (photo, quick)."""
    for photo, quick in attempts:
        begin = an.noted(begin, photo=photo, quick=quick)
    return begin


GOOD, SLOW, REFUSED, TIMED_OUT = (True, True), (True, False), (False, True), (False, False)


def test_one_bad_capture_keeps_all_of_its_retries() -> None:
    """SPEC 3.2: weighted by the history before the capture, not by its own attempts."""
    history = an.TRUSTED
    for attempt in (1, 2, 3, 4):
        history = after(REFUSED, begin=history)
        assert an.retries(history, attempt) == 3


@pytest.mark.parametrize(
    ("photos", "expected"), [(16, 3), (12, 3), (11, 2), (8, 2), (7, 1), (4, 1), (3, 0), (0, 0)]
)
def test_retries_by_photos_in_the_last_sixteen_attempts(photos: int, expected: int) -> None:
    """SPEC 3.2: the table of the module's text."""
    history = after(*[GOOD] * photos, *[REFUSED] * (16 - photos), REFUSED)
    assert an.photos_before(history, 1) == photos
    assert an.retries(history, 1) == expected


def test_the_record_says_why_there_were_fewer_retries() -> None:
    """Issue 6: what was decided by health stands in the cause."""
    history = after(*[REFUSED] * 17)
    policy = retry.weighted(retry.DEFAULT_POLICY, history, 1)
    assert retry.obstacle(1, 0, 10_000, policy=policy) == (
        "attempt 1 of 1: 0 of its 16 attempts before gave a photo"
    )
    assert retry.weighted(retry.DEFAULT_POLICY, an.TRUSTED, 1) is retry.DEFAULT_POLICY


def test_a_stricter_policy_is_not_loosened() -> None:
    """SPEC 3.2: health only lowers."""
    strict = retry.RetryPolicy(retries=1)
    assert retry.weighted(strict, after(*[REFUSED] * 5), 1) is strict


@pytest.mark.parametrize(
    ("attempts", "cold"),
    [
        ([SLOW], False),
        ([SLOW, SLOW], True),
        ([REFUSED], False),
        ([REFUSED, GOOD, REFUSED], True),
        ([TIMED_OUT], True),
        ([TIMED_OUT, GOOD, GOOD, GOOD], True),
        ([TIMED_OUT, GOOD, GOOD, GOOD, GOOD], False),
    ],
)
def test_the_pool_by_the_latest_attempts(attempts: list[tuple[bool, bool]], cold: bool) -> None:
    """SPEC 2.5: slow and failing devices are isolated; one hiccup moves nobody."""
    assert after(*attempts).cold is cold


@given(ATTEMPTS)
def test_a_device_that_answers_again_is_clean_in_the_end(attempts: list[tuple[bool, bool]]) -> None:
    """SPEC 3.2: nothing is held against a device for ever, so its record can go."""
    assert an.is_clean(after(*attempts, *[GOOD] * an.KEPT))


@given(ATTEMPTS, st.integers(0, 30))
def test_retries_are_a_function_of_the_attempts_before(
    attempts: list[tuple[bool, bool]], attempt: int
) -> None:
    """SPEC 3.2: at most three; counted by hand from the list."""
    history = after(*attempts)
    dropped = min(attempt, an.KEPT - an.WEIGHED)
    photos = [True] * 60 + [photo for photo, _ in attempts]
    before = photos[: len(photos) - dropped] if dropped else photos
    count = sum(before[-16:])
    assert an.photos_before(history, attempt) == count
    assert an.retries(history, attempt) == min(count // 4, 3)


@given(ATTEMPTS)
def test_the_pool_against_a_model(attempts: list[tuple[bool, bool]]) -> None:
    """SPEC 2.5: the rule, told again over a plain list."""
    cold, fine = False, [True] * 4
    for photo, quick in attempts:
        fine.append(photo and quick)
        last = fine[-4:]
        if all(last):
            cold = False
        elif (not photo and not quick) or sum(last) <= 2:
            cold = True
    assert after(*attempts).cold is cold


@pytest.mark.parametrize(
    ("failures", "cold", "retries"), [(1, False, 3), (2, True, 3), (40, True, 0)]
)
def test_the_history_of_a_device_that_the_table_says_failed(
    failures: int, cold: bool, retries: int
) -> None:
    """Issue 6: after a restart the captures in a row that FAILED are still known."""
    history = an.after_failures(failures)
    assert (history.cold, an.retries(after(REFUSED, begin=history), 1)) == (cold, retries)
