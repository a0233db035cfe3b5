"""Durations and times as people write them (issue 3, point 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clients.values import (
    MAX_DURATION_MS,
    duration_ms,
    moment_ms,
    show_duration,
    show_moment,
)
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5s", 5_000),
        ("300ms", 300),
        ("1h", 3_600_000),
        ("1h30m", 5_400_000),
        ("15min", 900_000),
        ("1d", 86_400_000),
        (" 5 s ", 5_000),
        ("0.5s", 500),
        ("0s", 0),
        (250, 250),
        (timedelta(seconds=1.5), 1_500),
    ],
)
def test_durations(value, expected):
    assert duration_ms(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", "5", "s", "5 seconds", "-5s", "5s5", "1,5s", "0.1ms", "\u0665s", "1e3s", "nan"),
        *(-1, True, 5.0, None, MAX_DURATION_MS + 1, timedelta(seconds=-1)),
        *(timedelta(microseconds=1), "9999999999d"),
    ],
)
def test_what_is_no_duration_is_named(value):
    with pytest.raises(UsageError, match=r"^every is "):
        duration_ms(value, "every")


@given(st.integers(0, MAX_DURATION_MS))
def test_a_duration_that_is_shown_is_read_again(duration):
    assert duration_ms(show_duration(duration)) == duration


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_795_476_000_000, 1_795_476_000_000),
        ("2026-12-01T08:00:00+01:00", 1_796_108_400_000),
        ("2026-12-01T07:00:00Z", 1_796_108_400_000),
        (datetime(2026, 12, 1, 7, tzinfo=UTC), 1_796_108_400_000),
        (datetime(2026, 12, 1, 8, tzinfo=timezone(timedelta(hours=1))), 1_796_108_400_000),
    ],
)
def test_times(value, expected):
    assert moment_ms(value) == expected


def test_a_time_is_rounded_up_never_early():
    """CONVENTIONS.md, rule 2."""
    assert moment_ms(datetime(2026, 12, 1, 7, 0, 0, 1, tzinfo=UTC)) == 1_796_108_400_001


@pytest.mark.parametrize("value", ["tomorrow", "", "2026-13-01T00:00:00Z", None, 1.5, True])
def test_what_is_no_time_is_named(value):
    with pytest.raises(UsageError, match=r"^at is "):
        moment_ms(value, "at")


@pytest.mark.parametrize("value", [datetime(2026, 12, 1, 8), "2026-12-01T08:00:00", "2026-12-01"])  # noqa: DTZ001
def test_a_time_without_a_zone_is_refused(value):
    with pytest.raises(UsageError, match="has no time zone"):
        moment_ms(value)


def test_seconds_are_not_taken_for_milliseconds():
    with pytest.raises(UsageError, match="not seconds"):
        moment_ms(1_795_476_000)


@given(st.integers(100_000_000_000, 250_000_000_000_000))
def test_a_time_that_is_shown_is_read_again(at):
    assert moment_ms(show_moment(at)) == at


def test_a_time_beyond_the_calendar_is_shown_as_a_number():
    assert show_moment(1 << 62) == f"{1 << 62} ms"
