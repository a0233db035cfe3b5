"""What a cron line says, against a slow reference by the day, and what is refused."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import ScheduleSpec
from streams.core.recurrence import check_spec, compile_spec
from streams.core.recurrence.civil import BEGIN_DAY, END_DAY, date_of, day_of, weekday_of
from streams.core.recurrence.cron import read_line

EPOCH = date(1970, 1, 1)


@given(st.integers(BEGIN_DAY - 100_000, END_DAY + 100_000))
def test_days_and_dates_agree_with_the_standard_library(day):
    expected = EPOCH + timedelta(days=day)
    assert date_of(day) == (expected.year, expected.month, expected.day)
    assert day_of(*date_of(day)) == day
    assert weekday_of(day) == expected.weekday()


def days(line: str, year: int, month: int) -> list[int]:
    mask = read_line(line).days.month_mask(year, month)
    return [day for day in range(32) if mask >> day & 1]


@pytest.mark.parametrize(
    ("line", "month", "expected"),
    [
        ("0 0 L * *", (2028, 2), [29]),
        ("0 0 L-3 * *", (2026, 4), [27]),
        ("0 0 L-30 * *", (2026, 2), []),
        ("0 0 LW * *", (2026, 5), [29]),  # the 31st is a Sunday
        ("0 0 15W * *", (2026, 8), [14]),  # a Saturday
        ("0 0 15W * *", (2026, 11), [16]),  # a Sunday
        ("0 0 1W * *", (2026, 8), [3]),  # a Saturday, and not July's Friday
        ("0 0 31W * *", (2026, 5), [29]),  # a Sunday, and not June's Monday
        ("0 0 31W * *", (2026, 6), []),
        ("0 0 * * fri#2", (2026, 11), [13]),
        ("0 0 * * 5#5", (2026, 11), []),
        ("0 0 * * 0#5", (2026, 11), [29]),
        ("0 0 * * monL", (2026, 11), [30]),
        ("0 0 * * 7L", (2026, 11), [29]),
        ("0 0 * * fri-mon", (2026, 2), [1, 2, 6, 7, 8, 9, 13, 14, 15, 16, 20, 21, 22, 23, 27, 28]),
        ("0 0 13 * fri", (2026, 11), [6, 13, 20, 27]),
        ("0 0 1-7 * fri", (2026, 11), [1, 2, 3, 4, 5, 6, 7, 13, 20, 27]),
        ("0 0 */2 * fri", (2026, 11), [13, 27]),  # begins with *: both must match
        ("0 0 13 * */5", (2026, 11), [13]),
        ("0 0 13 * ?", (2026, 11), [13]),
        ("0 0 ? * fri", (2026, 11), [6, 13, 20, 27]),
        ("0 0 * jan-mar,DEC *", (2026, 4), []),
        ("0 0 1,L,15W * *", (2026, 8), [1, 14, 31]),
    ],
)  # fmt: skip
def test_days_of_a_month(line, month, expected):
    assert days(line, *month) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "@Daily"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "@annually"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("0 22-4/3 * * *", "0 22,1,4 * * *"),
        ("0 0 * * 0", "0 0 * * 7"),
        ("0 0 * * 5-7", "0 0 * * fri,sat,sun"),
        ("0 0 * nov-feb *", "0 0 * 11,12,1,2 *"),
        ("0 5 4 * * *", "5 4 * * *"),
        ("CRON_TZ=Asia/Tokyo 5 4 * * *", "TZ=Asia/Tokyo 5 4 * * *"),
        ("  5   4 * *\t* ", "5 4 * * *"),
    ],
)
def test_lines_that_say_the_same(one, other):
    first, second = read_line(one), read_line(other)
    assert first.times.list_s() == second.times.list_s()
    assert first.zone == second.zone
    for month in range(1, 13):
        assert first.days.month_mask(2027, month) == second.days.month_mask(2027, month)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", ["no expression"]),
        ("* * * *", ["4 fields", "expected 5"]),
        ("* * * * * * *", ["7 fields", "expected 5"]),
        ("60 * * * *", ["minute", "'60'", "0 to 59"]),
        ("* 24 * * *", ["hour", "'24'", "0 to 23"]),
        ("* * 0 * *", ["day of month", "'0'", "1 to 31"]),
        ("* * * 13 *", ["month", "'13'", "jan-dec"]),
        ("* * * * 8", ["day of week", "'8'", "0 to 7"]),
        ("* * * * fry", ["day of week", "'fry'"]),
        ("* * * * fri#6", ["'fri#6'", "#1 to #5"]),
        ("* * 32W * *", ["'32W'", "31W"]),
        ("* * L-31 * *", ["'L-31'"]),
        ("* * * * L", ["day of week", "'L'"]),
        ("*/0 * * * *", ["'*/0'", "at least 1"]),
        ("1,,2 * * * *", ["minute", "'1,,2'"]),
        ("1-2-3 * * * *", ["minute"]),
        ("-1 * * * *", ["minute", "'-1'"]),
        ("\u0663 * * * *", ["minute"]),
        ("@reboot", ["'@reboot'", "@daily"]),
        ("@every5m", ["interval"]),
        ("TZ=Mars/Olympus 0 0 * * *", ["Mars/Olympus", "tz database"]),
        ("0 0 30 2 *", ["never due", "2100"]),
        ("0 0 31 4,6,9,11 *", ["never due"]),
        ("* " * 600, ["characters"]),
    ],
)
def test_a_bad_line_names_the_field_what_was_found_and_what_is_expected(line, said):
    refusal = check_spec(ScheduleSpec("cron", expression=line))
    assert refusal is not None
    assert refusal.code in {"bad_expression", "never_due"}
    for word in said:
        assert word in refusal.reason


def matches(line: tuple[str, str, str], day: date) -> bool:
    """A plain reading of three fields of numbers, by the day."""
    of_month, month, of_week = (
        None if part == "*" else {int(n) for n in part.split(",")} for part in line
    )
    if month is not None and day.month not in month:
        return False
    in_month = of_month is None or day.day in of_month
    in_week = of_week is None or (day.weekday() + 1) % 7 in {n % 7 for n in of_week}
    if of_month is not None and of_week is not None:
        return in_month or in_week
    return in_month and in_week


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    some = st.sets(st.integers(low, high), min_size=1, max_size=4)
    return st.just("*") | some.map(lambda found: ",".join(map(str, sorted(found))))


@settings(max_examples=200, deadline=None)
@given(numbers(1, 31), numbers(1, 12), numbers(0, 7), st.integers(1975, 2085))
def test_days_agree_with_a_plain_reading_forwards_and_back(of_month, month, of_week, year):
    line = read_line(f"0 0 {of_month} {month} {of_week}")
    start = date(year, 1, 1)
    expected = [
        day.toordinal() - EPOCH.toordinal()
        for day in (start + timedelta(days=n) for n in range(400))
        if matches((of_month, month, of_week), day)
    ]
    first, end = day_of(year, 1, 1), day_of(year, 1, 1) + 400
    found, day = [], line.days.at_or_after(first)
    while day is not None and day < end:
        found.append(day)
        day = line.days.at_or_after(day + 1)
    assert found == expected
    back, day = [], line.days.at_or_before(end - 1)
    while day is not None and day >= first:
        back.append(day)
        day = line.days.at_or_before(day - 1)
    assert back[::-1] == expected


def test_the_longest_wait_is_found_and_what_never_comes_ends():
    """29 February from 2096 would be 2104: past 2100 nothing is due."""
    leap = compile_spec(ScheduleSpec("cron", expression="0 12 29 2 *"))
    last = int(datetime(2096, 2, 29, 12, tzinfo=UTC).timestamp() * 1000)
    assert leap.at_or_after(int(datetime(2092, 3, 1, tzinfo=UTC).timestamp() * 1000)) == last
    assert leap.at_or_after(last + 1) is None
    assert leap.before(2**60) == last
    assert monthrange(2096, 2)[1] == 29
