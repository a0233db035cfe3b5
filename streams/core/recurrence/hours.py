"""Calendar rules that are more than days times times of day: short periods, picks, lists of times.

**Steps.** A rule of hours, minutes or seconds is a grid: its periods begin at ``start + k * step``
of wall-clock time, and each lets its times through or not, by the hour, minute and second it begins
at. Where the step divides the hour or the day evenly the grid is a mask of times of day, as a cron
line's, and nothing of this file is needed (:func:`on_grid`).

Where it does not (every 7 minutes, every 5 hours, every 100 seconds) a day meets the grid at an
**offset**, that of its first period from midnight on. The times of a day are a function of its
offset alone, and there are ``step / gcd(step, a day)`` offsets, at most 1,000 in all (INTERVAL's
bound) with 86,400 times together. So a day's times are worked out once an offset, and to step is to
find the day and bisect its times. Days that the grid leaps over are leapt over.

Example: every 5 hours from 09:00. The grid meets the days at offsets 9 h, 0 h (00:00, 05:00, ...),
1 h, 2 h, 3 h, 4 h: 5 offsets, then it begins again.

**Ends.** What cannot be (every 2 hours from 00:00, BYHOUR=1) is found out by one look at the times
that a day lets through, as the grid meets only those that are equal to its start by the common
divisor. What days prevent costs a look at each of them to 2100, once: 0.1 s.

**Cost.** 2 us a step; 10 to 40 ms for a rule of seconds at its first use.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from functools import lru_cache
from math import gcd
from typing import TYPE_CHECKING, Final, Protocol

from streams.core.recurrence.civil import BEGIN_DAY, DAY_MS, DAY_S, END_DAY
from streams.core.recurrence.rule_text import UNIT_S
from streams.core.recurrence.wall import EVERY_HOUR, TimesOfDay, WallClock, mask_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.core.recurrence.rule_text import Rule
    from streams.core.recurrence.wall import Days
    from streams.core.recurrence.zones import Zone

_PERIODS_KEPT: Final = 8
_FAR_MS: Final = 1 << 62


class EveryDay:
    """Each day from 1970 to 2099."""

    __slots__ = ()

    def at_or_after(self, day: int) -> int | None:
        """See :class:`~streams.core.recurrence.wall.Days`."""
        return max(day, BEGIN_DAY) if day < END_DAY else None

    def at_or_before(self, day: int) -> int | None:
        """See :class:`~streams.core.recurrence.wall.Days`."""
        return min(day, END_DAY - 1) if day >= BEGIN_DAY else None


def on_grid(rule: Rule) -> TimesOfDay | None:
    """Return the times of day of a rule of hours and less whose step divides evenly; else null."""
    step_s = UNIT_S[rule.frequency] * rule.interval
    start_s = rule.start_local_ms // 1000 % DAY_S
    hours, minutes, seconds = rule.times.hours, rule.times.minutes, rule.times.seconds
    if step_s % 3_600 == 0 and DAY_S % step_s == 0:
        hours &= mask_of(range(start_s // 3_600 % (step_s // 3_600), 24, step_s // 3_600))
    elif step_s % 60 == 0 and 3_600 % step_s == 0:
        minutes &= mask_of(range(start_s // 60 % (step_s // 60), 60, step_s // 60))
    elif 60 % step_s == 0:
        seconds &= mask_of(range(start_s % step_s, 60, step_s))
    else:
        return None
    # What the step is a multiple of stays as at the start.
    unit_s = UNIT_S[rule.frequency]
    if unit_s < 60 <= step_s:
        seconds &= 1 << start_s % 60
    if unit_s < 3_600 <= step_s:
        minutes &= 1 << start_s // 60 % 60
    return TimesOfDay(hours, minutes, seconds) if hours and minutes and seconds else None


class Steps(WallClock):
    """A rule of hours, minutes or seconds on any grid."""

    __slots__ = (
        *("_days", "_first_ms", "_inside", "_last_ms", "_none_ms", "_start_s"),
        *("_step_s", "_table", "_times", "_unit_s"),
    )

    def __init__(self, rule: Rule, days: Days, zone: Zone, first_ms: int, last_ms: int) -> None:
        self._unit_s = UNIT_S[rule.frequency]
        self._step_s = self._unit_s * rule.interval
        whole_day = rule.times.hours == EVERY_HOUR
        super().__init__(zone, real_time=self._step_s <= 3_600 and whole_day)
        self._days = days
        self._times = rule.times
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._start_s = rule.start_local_ms // 1000 // self._unit_s * self._unit_s
        self._inside = _inside(rule)
        self._table = lru_cache(maxsize=None)(self._make)  # bounded: see the top of the file
        self._none_ms = last_ms + 1 if self._can_be() else -_FAR_MS

    def _can_be(self) -> bool:
        """Say whether the grid meets any period that the BY parts let through."""
        common_s = gcd(self._step_s, DAY_S)
        first_s = self._start_s % common_s
        return bool(self._inside) and any(
            self._lets(second) for second in range(first_s, DAY_S, common_s)
        )

    def _lets(self, second: int) -> bool:
        """Say whether a period that begins at a second of the day is let through."""
        times, unit_s = self._times, self._unit_s
        return bool(
            times.hours >> second // 3_600 & 1
            and (unit_s == 3_600 or times.minutes >> second // 60 % 60 & 1)
            and (unit_s > 1 or times.seconds >> second % 60 & 1)
        )

    def _make(self, offset_s: int) -> array[int]:
        """Return the times of a day, in seconds, whose first period begins at an offset."""
        found = array("l")
        for period in range(offset_s, DAY_S, self._step_s):
            if self._lets(period):
                found.extend([period + second for second in self._inside])
        return found

    def _offset_s(self, day: int) -> int:
        return (self._start_s - day * DAY_S) % self._step_s

    def local_at_or_after(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        if local_ms >= self._none_ms:
            return None
        day, of_day_ms = divmod(max(local_ms, self._first_ms), DAY_MS)
        found = self._days.at_or_after(day)
        second = -(-of_day_ms // 1000) if found == day else 0
        while found is not None and found * DAY_MS <= self._last_ms:
            offset_s = self._offset_s(found)
            if offset_s < DAY_S:
                times = self._table(offset_s)
                at = bisect_left(times, second)
                if at < len(times):
                    found_ms = found * DAY_MS + times[at] * 1000
                    if found_ms <= self._last_ms:
                        return found_ms
                    break
            found = self._days.at_or_after(found + max(offset_s // DAY_S, 1))
            second = 0
        self._none_ms = min(self._none_ms, local_ms)
        return None

    def local_at_or_before(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        if self._none_ms < 0:
            return None
        day, of_day_ms = divmod(min(local_ms, self._last_ms), DAY_MS)
        found = self._days.at_or_before(day)
        second = of_day_ms // 1000 if found == day else DAY_S
        while found is not None and (found + 1) * DAY_MS > self._first_ms:
            offset_s = self._offset_s(found)
            if offset_s < DAY_S:
                times = self._table(offset_s)
                at = bisect_right(times, second)
                if at:
                    found_ms = found * DAY_MS + times[at - 1] * 1000
                    return found_ms if found_ms >= self._first_ms else None
            # The last period before this day began so many days before it.
            back = -((offset_s - self._step_s) // DAY_S) if offset_s >= DAY_S else 1
            found = self._days.at_or_before(found - max(back, 1))
            second = DAY_S
        return None


def _inside(rule: Rule) -> tuple[int, ...]:
    """Return the times of a short period, in seconds from where it begins; BYSETPOS picks."""
    minutes, seconds = [0], [0]
    if rule.frequency == "HOURLY":
        minutes = [n for n in range(60) if rule.times.minutes >> n & 1]
    if rule.frequency != "SECONDLY":
        seconds = [n for n in range(60) if rule.times.seconds >> n & 1]
    every = [minute * 60 + second for minute in minutes for second in seconds]
    if not rule.positions:
        return tuple(every)
    count = len(every)
    return tuple(sorted({every[n - (n > 0)] for n in rule.positions if abs(n) <= count}))


class Periods(Protocol):
    """Days in numbered periods."""

    def period_of(self, day: int) -> int:
        """Return the number of the period that a day is in, or of the last before it."""
        ...

    def first_day(self, period: int) -> int:
        """Return the first day of a period."""
        ...

    def days_of(self, period: int) -> tuple[int, ...]:
        """Return the days of a period, in order."""
        ...


class Picked(WallClock):
    """BYSETPOS among several times of day: the n-th of all times of a period of days."""

    __slots__ = ("_days", "_first_ms", "_last_ms", "_none_ms", "_of_day", "_positions", "_times")

    def __init__(self, days: Periods, rule: Rule, zone: Zone, first_ms: int, last_ms: int) -> None:
        super().__init__(zone, real_time=False)
        self._days = days
        self._of_day = rule.times.list_s()
        self._positions = rule.positions
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._none_ms = last_ms + 1
        self._times = lru_cache(maxsize=_PERIODS_KEPT)(self._make)

    def _make(self, period: int) -> tuple[int, ...]:
        days, of_day = self._days.days_of(period), self._of_day
        size = len(days) * len(of_day)
        found = {n - 1 if n > 0 else size + n for n in self._positions if abs(n) <= size}
        many = len(of_day)
        return tuple(days[n // many] * DAY_MS + of_day[n % many] * 1000 for n in sorted(found))

    def local_at_or_after(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        if local_ms >= self._none_ms:
            return None
        after_ms = max(local_ms, self._first_ms)
        period = self._days.period_of(after_ms // DAY_MS)
        while self._days.first_day(period) * DAY_MS <= self._last_ms:
            times = self._times(period)
            at = bisect_left(times, after_ms)
            if at < len(times):
                if times[at] <= self._last_ms and times[at] < END_DAY * DAY_MS:
                    return times[at]
                break
            period += 1
        self._none_ms = min(self._none_ms, local_ms)
        return None

    def local_at_or_before(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        before_ms = min(local_ms, self._last_ms, END_DAY * DAY_MS - 1)
        period = self._days.period_of(before_ms // DAY_MS)
        while period >= 0:
            times = self._times(period)
            at = bisect_right(times, before_ms)
            if at:
                return times[at - 1] if times[at - 1] >= self._first_ms else None
            period -= 1
        return None


class Dates(WallClock):
    """Wall-clock times one by one (RDATE); each names its hour."""

    __slots__ = ("_times",)

    def __init__(self, times: Sequence[int], zone: Zone) -> None:
        """``times`` are in order."""
        super().__init__(zone, real_time=False)
        self._times = times

    def local_at_or_after(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        at = bisect_left(self._times, local_ms)
        return self._times[at] if at < len(self._times) else None

    def local_at_or_before(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        at = bisect_right(self._times, local_ms)
        return self._times[at - 1] if at else None


class Without(WallClock):
    """The times of a rule but for some (EXDATE)."""

    __slots__ = ("_days", "_rule", "_times")

    def __init__(self, rule: WallClock, times: frozenset[int], days: frozenset[int]) -> None:
        super().__init__(rule.zone, real_time=rule.real_time)
        self._rule = rule
        self._times = times
        self._days = days

    def local_at_or_after(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        found = self._rule.local_at_or_after(local_ms)
        while found is not None:
            if found // DAY_MS in self._days:
                found = self._rule.local_at_or_after((found // DAY_MS + 1) * DAY_MS)
            elif found in self._times:
                found = self._rule.local_at_or_after(found + 1)
            else:
                return found
        return None

    def local_at_or_before(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        found = self._rule.local_at_or_before(local_ms)
        while found is not None:
            if found // DAY_MS in self._days:
                found = self._rule.local_at_or_before(found // DAY_MS * DAY_MS - 1)
            elif found in self._times:
                found = self._rule.local_at_or_before(found - 1)
            else:
                return found
        return None


class Either:
    """Moments of a rule or of its list of further times."""

    __slots__ = ("parts",)

    def __init__(self, *parts: WallClock) -> None:
        self.parts = parts

    def at_or_after(self, time_ms: int) -> int | None:
        """See :class:`~streams.core.recurrence.terms.Times`."""
        found = [t for part in self.parts if (t := part.at_or_after(time_ms)) is not None]
        return min(found, default=None)

    def before(self, time_ms: int) -> int | None:
        """See :class:`~streams.core.recurrence.terms.Times`."""
        found = [t for part in self.parts if (t := part.before(time_ms)) is not None]
        return max(found, default=None)
