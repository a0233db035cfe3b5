"""Calendar rules: a subset of RFC 5545, section 3.3.10, read and evaluated.

The text is a rule, with or without its start::

    FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=17
    DTSTART;TZID=Europe/Paris:20260105T090000
    RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;UNTIL=20271231T235959

**Subset.** ``FREQ`` DAILY, WEEKLY, MONTHLY, YEARLY; ``INTERVAL``; ``COUNT`` (to 10,000) or
``UNTIL`` (included); ``BYMONTH``, ``BYMONTHDAY`` and ``BYYEARDAY`` (negative: from the end),
``BYDAY`` (with a number for MONTHLY and YEARLY, as ``2FR`` and ``-1MO``), ``BYSETPOS``, ``BYHOUR``,
``BYMINUTE``, ``BYSECOND``, ``WKST``. What is not given is taken from the start, as the RFC says.
Not taken, with what to use instead: periods of hours and less (an interval, or a cron line),
``BYWEEKNO``, ``EXDATE`` and ``RDATE`` (the spec's ``exclude`` and ``also``).

The start is ``DTSTART``, else the spec's ``from_ms``; one of them must be there, since INTERVAL and
the defaults hang on it. It is no time of the schedule itself unless the rule has it.

Two things differ from the RFC, so that all kinds of schedule meet DST alike (``zones.py``): a time
that does not exist is due at the moment after the gap (the RFC: as much later as the gap is long),
and ``UNTIL`` without a Z is in the zone of the start. ``BYSETPOS`` picks among the *days* of a
period, so it wants one time of day.

**Theory.** Period number k (k-th year, month, week or day from the start's, by INTERVAL) gives a
sorted tuple of days, made of the BY parts as the RFC's table says; to step is to look into the
periods from a day's own on. Nothing is counted from the start but COUNT, once. A period costs 3 to
60 us, and the last few are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from streams.core.recurrence.civil import (
    BEGIN_DAY,
    DAY_MS,
    END_DAY,
    date_of,
    day_of,
    is_leap,
    month_length,
    weekday_of,
)
from streams.core.recurrence.wall import WallClock, bits_of

if TYPE_CHECKING:
    from streams.core.recurrence.rule_text import Rule
    from streams.core.recurrence.zones import Zone

_PERIODS_KEPT: Final = 8


class RuleDays:
    """The days of a rule, in wall-clock time."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._start = rule.start_local_ms // DAY_MS
        year, month, _ = date_of(self._start)
        self._origin = {
            "DAILY": self._start,
            "WEEKLY": (self._start - (weekday_of(self._start) - rule.week_start) % 7) // 7,
            "MONTHLY": year * 12 + month - 1,
            "YEARLY": year,
        }[rule.frequency]
        self._days_of = lru_cache(maxsize=_PERIODS_KEPT)(self._make)
        self._week_shift = (self._start - (weekday_of(self._start) - rule.week_start) % 7) % 7

    def _period(self, day: int) -> int:
        """Return the number of the period that a day is in, by INTERVAL, rounded down."""
        match self._rule.frequency:
            case "DAILY":
                unit = day
            case "WEEKLY":
                unit = (day - self._week_shift) // 7
            case "MONTHLY":
                year, month, _ = date_of(day)
                unit = year * 12 + month - 1
            case _:
                unit = date_of(day)[0]
        return (unit - self._origin) // self._rule.interval

    def _first_day(self, period: int) -> int:
        unit = self._origin + period * self._rule.interval
        match self._rule.frequency:
            case "DAILY":
                return unit
            case "WEEKLY":
                return unit * 7 + self._week_shift
            case "MONTHLY":
                return day_of(unit // 12, unit % 12 + 1, 1)
            case _:
                return day_of(unit, 1, 1)

    def at_or_after(self, day: int) -> int | None:
        """Return the first day of the rule at or after another."""
        day = max(day, self._start)
        period = self._period(day)
        while self._first_day(period) < END_DAY:
            days = self._days_of(period)
            at = bisect_left(days, day)
            if at < len(days):
                return days[at]
            period += 1
        return None

    def at_or_before(self, day: int) -> int | None:
        """Return the last day of the rule at or before another."""
        day = min(day, END_DAY - 1)
        period = self._period(day)
        while period >= 0:
            days = self._days_of(period)
            at = bisect_right(days, day)
            if at and days[at - 1] >= self._start:
                return days[at - 1]
            period -= 1
        return None

    def _make(self, period: int) -> tuple[int, ...]:
        """Return the days of a period, in order (the table of RFC 5545, 3.3.10)."""
        rule, first = self._rule, self._first_day(period)
        match rule.frequency:
            case "DAILY":
                days = self._those(range(first, first + 1))
            case "WEEKLY":
                days = self._those(range(first, first + 7))
            case "MONTHLY":
                year, month, _ = date_of(first)
                days = self._month_days(year, month)
            case _:
                year = date_of(first)[0]
                days = [day for month in range(1, 13) for day in self._month_days(year, month)]
        if rule.year_days:
            last = first + 366 - (not is_leap(date_of(first)[0]))
            wanted = {first + n - 1 if n > 0 else last + n for n in rule.year_days}
            days = [day for day in days if day in wanted]
        if rule.weekdays:
            plain = {weekday for number, weekday in rule.weekdays if not number}
            numbered = self._numbered(first)
            days = [day for day in days if (day + 3) % 7 in plain or day in numbered]
        if rule.positions:
            picked = {days[n - 1 if n > 0 else n] for n in rule.positions if abs(n) <= len(days)}
            days = sorted(picked)
        return tuple(days)

    def _those(self, days: range) -> list[int]:
        """Return the days that BYMONTH and BYMONTHDAY let through."""
        if not (self._rule.months or self._rule.month_days):
            return list(days)
        return [day for day in days if day in self._month_days(*date_of(day)[:2])]

    def _month_days(self, year: int, month: int) -> list[int]:
        """Return the days of a month that BYMONTH and BYMONTHDAY let through, in order."""
        rule = self._rule
        if rule.months and not rule.months >> month & 1:
            return []
        first, length = day_of(year, month, 1), month_length(year, month)
        if not rule.month_days:
            return list(range(first, first + length))
        days = {n if n > 0 else length + 1 + n for n in rule.month_days}
        return sorted(first + day - 1 for day in days if 1 <= day <= length)

    def _numbered(self, first: int) -> set[int]:
        """Return the days of BYDAY's numbers, which count within the month or the year."""
        rule = self._rule
        numbered = [(number, weekday) for number, weekday in rule.weekdays if number]
        if not numbered:
            return set()
        year, month, _ = date_of(first)
        if rule.frequency == "MONTHLY":
            spans = [(first, month_length(year, month))]
        elif rule.months:
            spans = [(day_of(year, m, 1), month_length(year, m)) for m in bits_of(rule.months)]
        else:
            spans = [(first, 365 + is_leap(year))]
        return {
            _nth(start, length, number, weekday)
            for start, length in spans
            for number, weekday in numbered
        }


def _nth(first: int, length: int, number: int, weekday: int) -> int:
    """Return the n-th such weekday of a span, from its end if n is negative; -1 if none."""
    if number > 0:
        day = first + (weekday - weekday_of(first)) % 7 + 7 * (number - 1)
    else:
        last = first + length - 1
        day = last - (weekday_of(last) - weekday) % 7 + 7 * (number + 1)
    return day if first <= day < first + length else -1


def wall_clock(rule: Rule, zone: Zone) -> WallClock:
    """Return the times of a rule in a zone; COUNT is counted here, once."""
    days = RuleDays(rule)
    first_ms = max(rule.start_local_ms, BEGIN_DAY * DAY_MS)
    last_ms = END_DAY * DAY_MS
    if rule.until_local_ms is not None:
        last_ms = min(last_ms, rule.until_local_ms)
    if rule.limit is not None:
        last_ms = _nth_local_ms(days, rule, first_ms)
    return WallClock(days, rule.times, zone, first_ms, last_ms)


def _nth_local_ms(days: RuleDays, rule: Rule, first_ms: int) -> int:
    """Return the wall-clock time of the COUNT-th instance, or the end of all time."""
    left = rule.limit or 0
    day = days.at_or_after(first_ms // DAY_MS)
    while day is not None:
        times = [day * DAY_MS + second * 1000 for second in rule.times.list_s()]
        times = [time for time in times if time >= first_ms]
        if left <= len(times):
            return times[left - 1]
        left -= len(times)
        day = days.at_or_after(day + 1)
    return END_DAY * DAY_MS
