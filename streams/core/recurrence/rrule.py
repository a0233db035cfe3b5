"""Calendar rules: a subset of RFC 5545, section 3.3.10, read and evaluated.

The text is a rule, with or without its start::

    FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=17
    DTSTART;TZID=Europe/Paris:20260105T090000
    RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;UNTIL=20271231T235959

    EXDATE:20260216T090000,20260218T090000
    RDATE:20260217T110000

**Subset.** ``FREQ`` from SECONDLY to YEARLY; ``INTERVAL`` (to 1,000); ``COUNT`` (to 10,000) or
``UNTIL`` (included); ``BYMONTH``, ``BYMONTHDAY`` and ``BYYEARDAY`` (negative: from the end),
``BYWEEKNO``, ``BYDAY`` (with a number for MONTHLY and YEARLY, as ``2FR`` and ``-1MO``),
``BYSETPOS``, ``BYHOUR``, ``BYMINUTE``, ``BYSECOND``, ``WKST``; ``EXDATE``, ``RDATE``. What is not
given is taken from the start, as the RFC says. Not taken: ``EXRULE`` (the RFC has given it up),
``RDATE`` of periods, and leap seconds.

The start is ``DTSTART``, else the spec's ``from_ms``; one of them must be there, since INTERVAL and
the defaults hang on it. It is no time of the schedule itself unless the rule has it.

Some things differ from the RFC, so that all kinds of schedule meet DST alike (``zones.py``): a time
that does not exist is due at the moment after the gap (the RFC: as much later as the gap is long);
``UNTIL`` without a Z is in the zone of the start; a rule of an hour and less that gives no
``BYHOUR`` goes on in real time (``wall.py``), and COUNT counts what the clock would show. An
``EXDATE`` with a date alone takes the whole day away, whatever the start is written as.

``BYWEEKNO`` numbers weeks as ISO 8601 does, from WKST on; a week belongs to the year of most of its
days, and a day to the calendar year it is in. Without ``BYDAY`` the weekday is the start's: the RFC
derives from the start whatever a rule does not say. (dateutil takes all seven days.)

**Theory.** Period number k (k-th year, month, week or day from the start's, by INTERVAL) gives a
sorted tuple of days, made of the BY parts as the RFC's table says; to step is to look into the
periods from a day's own on. Nothing is counted from the start but COUNT, once. A period costs 3 to
60 us, and the last few are kept. Shorter periods are a grid over the day, see ``hours.py``.
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
from streams.core.recurrence.hours import Dates, Either, EveryDay, Picked, Steps, Without, on_grid
from streams.core.recurrence.rule_text import UNIT_S
from streams.core.recurrence.wall import DayTimes, bits_of

if TYPE_CHECKING:
    from streams.core.recurrence.rule_text import Rule
    from streams.core.recurrence.wall import Days, WallClock
    from streams.core.recurrence.zones import Zone

_PERIODS_KEPT: Final = 8
_MOST_DAYS: Final = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}


class RuleDays:
    """The days of a rule, in wall-clock time."""

    def __init__(self, rule: Rule) -> None:
        if rule.frequency in UNIT_S:  # each day that the BY parts let through
            rule = rule._replace(frequency="DAILY", interval=1, positions=())
        self._rule = rule
        self._start = rule.start_local_ms // DAY_MS
        year, month, _ = date_of(self._start)
        self._origin = {
            "DAILY": self._start,
            "WEEKLY": (self._start - (weekday_of(self._start) - rule.week_start) % 7) // 7,
            "MONTHLY": year * 12 + month - 1,
            "YEARLY": year,
        }[rule.frequency]
        self._positions = rule.positions if rule.times.count == 1 else ()
        """Else they are picked among times, not days (``hours.Picked``)."""
        self.days_of = lru_cache(maxsize=_PERIODS_KEPT)(self._make)
        self._week_shift = (self._start - (weekday_of(self._start) - rule.week_start) % 7) % 7

    def period_of(self, day: int) -> int:
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

    def first_day(self, period: int) -> int:
        """Return the first day of a period."""
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
        period = self.period_of(day)
        while self.first_day(period) < END_DAY:
            days = self.days_of(period)
            at = bisect_left(days, day)
            if at < len(days):
                return days[at]
            period += 1
        return None

    def at_or_before(self, day: int) -> int | None:
        """Return the last day of the rule at or before another."""
        day = min(day, END_DAY - 1)
        period = self.period_of(day)
        while period >= 0:
            days = self.days_of(period)
            at = bisect_right(days, day)
            if at and days[at - 1] >= self._start:
                return days[at - 1]
            period -= 1
        return None

    def _make(self, period: int) -> tuple[int, ...]:
        """Return the days of a period, in order (the table of RFC 5545, 3.3.10)."""
        rule, first = self._rule, self.first_day(period)
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
            wanted = _days_of_year(date_of(first)[0], rule.year_days)
            days = [day for day in days if day in wanted]
        if rule.weeks:
            wanted = _days_of_weeks(date_of(first)[0], rule.weeks, rule.week_start)
            days = [day for day in days if day in wanted]
        if rule.weekdays:
            plain = {weekday for number, weekday in rule.weekdays if not number}
            numbered = self._numbered(first)
            days = [day for day in days if (day + 3) % 7 in plain or day in numbered]
        if self._positions:
            picked = {days[n - 1 if n > 0 else n] for n in self._positions if abs(n) <= len(days)}
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


@lru_cache(maxsize=64)
def _days_of_year(year: int, numbers: tuple[int, ...]) -> frozenset[int]:
    """Return the n-th days of a year, from its end if n is negative."""
    first, end = day_of(year, 1, 1), day_of(year + 1, 1, 1)
    days = (first + n - 1 if n > 0 else end + n for n in numbers)
    return frozenset(day for day in days if first <= day < end)


@lru_cache(maxsize=64)
def _days_of_weeks(year: int, numbers: tuple[int, ...], week_start: int) -> frozenset[int]:
    """Return the days of weeks, those of its neighbours' weeks that it has days of included."""
    found: list[int] = []
    for of_year in (year - 1, year, year + 1):
        first, end = _first_week(of_year, week_start), _first_week(of_year + 1, week_start)
        for number in numbers:
            begin = first + 7 * (number - 1) if number > 0 else end + 7 * number
            if first <= begin < end:
                found += range(begin, begin + 7)
    return frozenset(found)


def _first_week(year: int, week_start: int) -> int:
    """Return the first day of the first week that has most of its days, four, in a year."""
    fourth = day_of(year, 1, 4)
    return fourth - (weekday_of(fourth) - week_start) % 7


def wall_clock(rule: Rule, zone: Zone) -> WallClock | Either:
    """Return the times of a rule in a zone; COUNT is counted here, once."""
    first_ms = max(rule.start_local_ms, BEGIN_DAY * DAY_MS)
    last_ms = END_DAY * DAY_MS
    if rule.until_local_ms is not None:
        last_ms = min(last_ms, rule.until_local_ms)
    times = _unlisted(rule, zone, first_ms, last_ms)
    if rule.limit is not None:
        times = _unlisted(rule, zone, first_ms, _nth_local_ms(times, rule.limit, first_ms))
    if rule.removed or rule.removed_days:
        times = Without(times, rule.removed, rule.removed_days)
    added = [time for time in rule.added if time not in rule.removed]
    added = [time for time in added if time // DAY_MS not in rule.removed_days]
    return Either(times, Dates(added, zone)) if added else times


def _unlisted(rule: Rule, zone: Zone, first_ms: int, last_ms: int) -> WallClock:
    """Return the times of a rule by itself, between two wall-clock times, both included."""
    if rule.frequency not in UNIT_S:
        most = _MOST_DAYS[rule.frequency] * rule.times.count
        if rule.positions and min(map(abs, rule.positions)) > most:
            return Dates((), zone)
        days = RuleDays(rule)
        if rule.positions and rule.times.count > 1:
            return Picked(days, rule, zone, first_ms, last_ms)
        return DayTimes(days, rule.times, zone, first_ms, last_ms)
    limited = rule.months or rule.month_days or rule.year_days or rule.weekdays
    some_days: Days = RuleDays(rule) if limited else EveryDay()
    if not rule.positions:
        evenly = on_grid(rule)
        if evenly is not None:
            return DayTimes(some_days, evenly, zone, first_ms, last_ms)
    return Steps(rule, some_days, zone, first_ms, last_ms)


def _nth_local_ms(times: WallClock, count: int, first_ms: int) -> int:
    """Return the wall-clock time of the COUNT-th instance, or the end of all time."""
    if isinstance(times, DayTimes):
        return _nth_of_days(times, count, first_ms)
    local_ms = first_ms - 1
    for _ in range(count):
        found = times.local_at_or_after(local_ms + 1)
        if found is None:
            return END_DAY * DAY_MS
        local_ms = found
    return local_ms


def _nth_of_days(times: DayTimes, left: int, first_ms: int) -> int:
    """As ``_nth_local_ms``, a day at a time."""
    of_day = times.times.list_s()
    day = times.days.at_or_after(first_ms // DAY_MS)
    while day is not None:
        found = [day * DAY_MS + second * 1000 for second in of_day]
        found = [time for time in found if time >= first_ms]
        if left <= len(found):
            return found[left - 1]
        left -= len(found)
        day = times.days.at_or_after(day + 1)
    return END_DAY * DAY_MS
