"""Wall-clock times against a slow reference that only looks at the clock, second by second."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.recurrence.civil import DAY_MS, day_of
from streams.core.recurrence.cron import read_line
from streams.core.recurrence.wall import EVERY_HOUR, DayTimes, TimesOfDay, mask_of
from streams.core.recurrence.zones import Zone, zone

PARIS = zone("Europe/Paris")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def times(line: str, name: str, first: str, end: str) -> list[str]:
    """The fires of a cron line from one UTC time to another, as local time with the offset."""
    read, where = read_line(line), zone(name)
    wall = DayTimes(read.days, read.times, where)
    found, time_ms = [], wall.at_or_after(utc(first))
    while time_ms is not None and time_ms < utc(end):
        local = datetime.fromtimestamp(where.local_ms(time_ms) / 1000, UTC)
        hours = (where.local_ms(time_ms) - time_ms) / 3_600_000
        found.append(f"{local:%d %H:%M} {hours:+g}")
        time_ms = wall.at_or_after(time_ms + 1)
    return found


SPRING = ("2026-03-28T12:00", "2026-03-29T12:00")
"""Paris: 02:00 becomes 03:00 on the 29th."""
AUTUMN = ("2026-10-24T22:00", "2026-10-25T06:00")
"""Paris: 03:00 becomes 02:00 on the 25th."""


@pytest.mark.parametrize(
    ("line", "span", "expected"),
    [
        ("30 2 * * *", SPRING, ["29 03:00 +2"]),
        ("*/30 2 * * *", SPRING, ["29 03:00 +2"]),
        ("0,30 2-3 * * *", SPRING, ["29 03:00 +2", "29 03:30 +2"]),
        ("0 */4 * * *", SPRING, ["28 16:00 +1", "28 20:00 +1", "29 00:00 +1", "29 04:00 +2", "29 08:00 +2", "29 12:00 +2"]),
        ("30 2 * * *", AUTUMN, ["25 02:30 +2"]),
        ("*/30 2 * * *", AUTUMN, ["25 02:00 +2", "25 02:30 +2"]),
        ("0 2,3 * * *", AUTUMN, ["25 02:00 +2", "25 03:00 +1"]),
        ("7 * * * *", ("2026-03-28T23:30", "2026-03-29T02:30"), ["29 01:07 +1", "29 03:07 +2", "29 04:07 +2"]),
        ("7 0-23 * * *", ("2026-03-28T23:30", "2026-03-29T02:30"), ["29 01:07 +1", "29 03:07 +2", "29 04:07 +2"]),
        ("7 * * * *", ("2026-10-24T23:30", "2026-10-25T02:30"), ["25 02:07 +2", "25 02:07 +1", "25 03:07 +1"]),
    ],
)  # fmt: skip
def test_the_stated_rule_for_dst(line, span, expected):
    """A named time once a day, at the first moment the clock shows it or a later one."""
    assert times(line, "Europe/Paris", *span) == expected


def test_a_day_that_was_left_out_is_made_up_for_once():
    """Apia had no 30 December 2011: it went from UTC-10 to UTC+14 at midnight."""
    found = times("0 9,17 * * *", "Pacific/Apia", "2011-12-29T18:00", "2011-12-31T10:00")
    assert found == ["29 09:00 -10", "29 17:00 -10", "31 00:00 +14", "31 09:00 +14", "31 17:00 +14"]


def test_a_clock_put_back_over_midnight_shows_the_end_of_the_day_before_again():
    """Sao Paulo, 18 February 2018: midnight became 23:00 of the 17th."""
    span = ("2018-02-18T00:30", "2018-02-18T03:30")
    assert times("59 * 17 2 *", "America/Sao_Paulo", *span) == ["17 22:59 -2", "17 23:59 -2", "17 23:59 -3"]  # fmt: skip
    assert times("59 23 * * *", "America/Sao_Paulo", *span) == ["17 23:59 -2"]


# --- the reference ---------------------------------------------------------------------------------

CHANGES = st.lists(st.tuples(st.integers(1, 72), st.integers(-26, 26)), min_size=0, max_size=4)
"""(hours after the one before, offset in half hours)."""
BASE_MS = day_of(2026, 3, 1) * DAY_MS
SPAN_MS = 12 * DAY_MS
STEP_MS = 600_000


def made_up_zone(changes: list[tuple[int, int]]) -> Zone:
    """A zone with wild changes, in steps of ten minutes."""
    start, segments = BASE_MS + DAY_MS, [(-(1 << 62), 0)]
    for hours, offset in changes:
        start += hours * 3_600_000
        segments.append((start, offset * 1_800_000))
    return Zone("made/up", segments)


class EveryDay:
    def at_or_after(self, day):
        return day

    def at_or_before(self, day):
        return day


def reference(where: Zone, times: TimesOfDay) -> list[int]:
    """Walk through all moments and read the clock; nothing here knows of gaps."""
    wanted = {second * 1000 for second in times.list_s()}
    found, high = [], where.local_ms(BASE_MS) - STEP_MS
    for time_ms in range(BASE_MS, BASE_MS + SPAN_MS, STEP_MS):
        local = where.local_ms(time_ms)
        if times.hours == EVERY_HOUR:
            if local % DAY_MS in wanted:
                found.append(time_ms)
        elif local > high:
            passed = range(high + STEP_MS, local + STEP_MS, STEP_MS)
            if any(shown % DAY_MS in wanted for shown in passed):
                found.append(time_ms)
        high = max(high, local)
    return found


@settings(max_examples=150, deadline=None)
@given(
    CHANGES,
    st.sets(st.integers(0, 23), min_size=1) | st.just(set(range(24))),
    st.sets(st.sampled_from([0, 10, 20, 30, 40, 50]), min_size=1),
)
def test_any_zone_agrees_with_reading_the_clock_at_every_moment(changes, hours, minutes):
    where = made_up_zone(changes)
    times = TimesOfDay(mask_of(hours), mask_of(minutes))
    wall = DayTimes(EveryDay(), times, where)
    expected = reference(where, times)
    found, time_ms = [], wall.at_or_after(BASE_MS)
    while time_ms is not None and time_ms < BASE_MS + SPAN_MS:
        found.append(time_ms)
        time_ms = wall.at_or_after(time_ms + 1)
    assert found == expected
    back, time_ms = [], wall.before(BASE_MS + SPAN_MS)
    while time_ms is not None and time_ms >= BASE_MS:
        back.append(time_ms)
        time_ms = wall.before(time_ms)
    assert back[::-1] == expected


@given(
    st.sets(st.integers(0, 23), min_size=1),
    st.sets(st.integers(0, 59), min_size=1, max_size=5),
    st.sets(st.integers(0, 59), min_size=1, max_size=5),
    st.integers(0, DAY_MS - 1),
)
def test_times_of_day_agree_with_the_list_of_them(hours, minutes, seconds, of_day_ms):
    times = TimesOfDay(mask_of(hours), mask_of(minutes), mask_of(seconds))
    listed = [second * 1000 for second in times.list_s()]
    assert times.count == len(listed)
    assert times.at_or_after(of_day_ms) == min((t for t in listed if t >= of_day_ms), default=None)
    assert times.at_or_before(of_day_ms) == max((t for t in listed if t <= of_day_ms), default=None)
