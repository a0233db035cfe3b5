"""Times of the wall clock: days by a rule, times of day by a mask, in a zone.

A cron line and most calendar rules are the same thing here: **days** (any rule that can step to the
next and the previous one) times **times of day** (three masks: hours, minutes, seconds). Rules for
which that is not enough are in ``hours.py``. What all share is how they meet the clock of their
zone:

* **A time that names its hour** ('at 02:30', 'every 15 minutes from 2 to 5') happens once a day, at
  the first moment at which the clock shows it or a later time (the rule of ``zones.py``).
* **A line that has every hour of the day** ('every 5 minutes', 'at minute 7 of each hour') names no
  hour, so it goes on in real time: what falls in a gap is not made up for, and in an hour that is
  shown twice it is due both times.

It is the *set* of hours that decides, not how it is written: ``*``, ``*/1`` and ``0-23`` are one.

Worked example, Paris, 29 March 2026 (02:00 becomes 03:00), in local time::

    30 2 * * *      28.: 02:30    29.: 03:00    30.: 02:30
    */30 2 * * *    28.: 02:00, 02:30    29.: 03:00 (once)    30.: 02:00, 02:30
    7 * * * *       29.: 01:07, 03:07    (an hour apart)
    0 */2 * * *     29.: 00:00, 03:00, 04:00

Cost: 3 to 5 us a step where the day matches; a day rule that seldom matches adds its own look-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from streams.core.recurrence.civil import BEGIN_DAY, BEGIN_MS, DAY_MS, END_DAY, END_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.core.recurrence.zones import Zone

EVERY_HOUR: Final = (1 << 24) - 1


class Days(Protocol):
    """A rule for days, numbered from 1 January 1970."""

    def at_or_after(self, day: int) -> int | None:
        """Return the first day at or after another; null: none before 2100."""
        ...

    def at_or_before(self, day: int) -> int | None:
        """Return the last day at or before another; null: none since 1970."""
        ...


def mask_of(values: Iterable[int]) -> int:
    """Return a set of small numbers as bits."""
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


def bits_of(mask: int) -> list[int]:
    """Return the numbers of a mask in order."""
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def first_bit(mask: int) -> int:
    """Return the lowest number of a mask that is not empty."""
    return (mask & -mask).bit_length() - 1


class TimesOfDay:
    """Hours x minutes x seconds; none of the three is empty."""

    __slots__ = ("first", "hours", "last", "minutes", "seconds")

    def __init__(self, hours: int, minutes: int, seconds: int = 1) -> None:
        self.hours = hours
        self.minutes = minutes
        self.seconds = seconds
        self.first = (first_bit(hours) * 3600 + first_bit(minutes) * 60 + first_bit(seconds)) * 1000
        self.last = (
            (hours.bit_length() - 1) * 3600
            + (minutes.bit_length() - 1) * 60
            + seconds.bit_length()
            - 1
        ) * 1000

    @property
    def count(self) -> int:
        """How many times a day has."""
        return self.hours.bit_count() * self.minutes.bit_count() * self.seconds.bit_count()

    def list_s(self) -> list[int]:
        """Return all, as seconds of the day."""
        return [
            hour * 3600 + minute * 60 + second
            for hour in bits_of(self.hours)
            for minute in bits_of(self.minutes)
            for second in bits_of(self.seconds)
        ]

    def at_or_after(self, of_day_ms: int) -> int | None:
        """Return the first time of day at or after another, both in milliseconds."""
        if of_day_ms <= self.first:
            return self.first
        if of_day_ms > self.last:
            return None
        rest, second = divmod(-(-of_day_ms // 1000), 60)
        hour, minute = divmod(rest, 60)
        left = self.seconds >> second
        if self.hours >> hour & 1:
            if self.minutes >> minute & 1 and left:
                return ((hour * 60 + minute) * 60 + second + first_bit(left)) * 1000
            left = self.minutes >> minute + 1
            if left:
                minute += 1 + first_bit(left)
                return ((hour * 60 + minute) * 60 + first_bit(self.seconds)) * 1000
        hour += 1 + first_bit(self.hours >> hour + 1)  # there is one: it is not past the last
        return ((hour * 60 + first_bit(self.minutes)) * 60 + first_bit(self.seconds)) * 1000

    def at_or_before(self, of_day_ms: int) -> int | None:
        """Return the last time of day at or before another, both in milliseconds."""
        if of_day_ms >= self.last:
            return self.last
        if of_day_ms < self.first:
            return None
        rest, second = divmod(of_day_ms // 1000, 60)
        hour, minute = divmod(rest, 60)
        left = self.seconds & (2 << second) - 1
        if self.hours >> hour & 1:
            if self.minutes >> minute & 1 and left:
                return ((hour * 60 + minute) * 60 + left.bit_length() - 1) * 1000
            left = self.minutes & (1 << minute) - 1
            if left:
                minute = left.bit_length() - 1
                return ((hour * 60 + minute) * 60 + self.seconds.bit_length() - 1) * 1000
        hour = (self.hours & (1 << hour) - 1).bit_length() - 1
        minute = self.minutes.bit_length() - 1
        return ((hour * 60 + minute) * 60 + self.seconds.bit_length() - 1) * 1000


class WallClock:
    """Wall-clock times of any kind as moments of a zone. See the top of the file for DST."""

    __slots__ = ("real_time", "zone")

    def __init__(self, zone: Zone, *, real_time: bool) -> None:
        self.zone = zone
        self.real_time = real_time

    def local_at_or_after(self, local_ms: int) -> int | None:
        """Return the first wall-clock time of the rule, be it shown or not; null: none."""
        raise NotImplementedError

    def local_at_or_before(self, local_ms: int) -> int | None:
        """Return the last wall-clock time of the rule, be it shown or not; null: none."""
        raise NotImplementedError

    def at_or_after(self, time_ms: int) -> int | None:
        """Return the first moment at or after another; null: none before 2100."""
        zone = self.zone
        time_ms = max(time_ms, BEGIN_MS)
        if not self.real_time:
            local_ms = self.local_at_or_after(zone.shown_ms(time_ms - 1) + 1)
            return None if local_ms is None else zone.moment_ms(local_ms)
        at = zone.segment(time_ms)
        while time_ms < END_MS:
            local_ms = self.local_at_or_after(time_ms + zone.offsets[at])
            if local_ms is not None and local_ms - zone.offsets[at] < zone.ends[at]:
                return local_ms - zone.offsets[at]
            at += 1  # each: a clock that is put back shows times again that were passed
            if at == len(zone.starts):
                return None
            time_ms = zone.starts[at]
        return None

    def before(self, time_ms: int) -> int | None:
        """Return the last moment before another; null: none since 1970."""
        zone = self.zone
        time_ms = min(time_ms, END_MS + DAY_MS) - 1
        if not self.real_time:
            local_ms = self.local_at_or_before(zone.shown_ms(time_ms))
            return None if local_ms is None else zone.moment_ms(local_ms)
        at = zone.segment(time_ms)
        while at >= 0 and time_ms >= BEGIN_MS:
            local_ms = self.local_at_or_before(time_ms + zone.offsets[at])
            if local_ms is not None and local_ms - zone.offsets[at] >= zone.starts[at]:
                return local_ms - zone.offsets[at]
            time_ms = zone.starts[at] - 1
            at -= 1
        return None


class DayTimes(WallClock):
    """The times of day on the days: cron lines, and most calendar rules."""

    __slots__ = ("_none_ms", "days", "first_ms", "last_ms", "times")

    def __init__(
        self,
        days: Days,
        times: TimesOfDay,
        zone: Zone,
        first_ms: int = BEGIN_MS,
        last_ms: int = END_MS,
    ) -> None:
        """``first_ms`` and ``last_ms`` bound the wall-clock times themselves, both included."""
        super().__init__(zone, real_time=times.hours == EVERY_HOUR)
        self.days = days
        self.times = times
        self.first_ms = first_ms
        self.last_ms = last_ms
        self._none_ms = last_ms + 1
        """From here on there is none; found out once, as it takes a look at all days to 2100."""

    def local_at_or_after(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        if local_ms >= self._none_ms:
            return None
        day, of_day_ms = divmod(max(local_ms, self.first_ms), DAY_MS)
        found = self.days.at_or_after(day)
        if found == day:
            time = self.times.at_or_after(of_day_ms)
            if time is None:
                found = self.days.at_or_after(day + 1)
                time = self.times.first
        else:
            time = self.times.first
        if found is not None and found < END_DAY:
            assert time is not None, "the first time of a day is there"
            if found * DAY_MS + time <= self.last_ms:
                return found * DAY_MS + time
        self._none_ms = min(self._none_ms, local_ms)
        return None

    def local_at_or_before(self, local_ms: int) -> int | None:
        """See :class:`WallClock`."""
        day, of_day_ms = divmod(min(local_ms, self.last_ms), DAY_MS)
        found = self.days.at_or_before(day)
        if found == day:
            time = self.times.at_or_before(of_day_ms)
            if time is None:
                found = self.days.at_or_before(day - 1)
                time = self.times.last
        else:
            time = self.times.last
        if found is None or found < BEGIN_DAY:
            return None
        assert time is not None, "the last time of a day is there"
        local_ms = found * DAY_MS + time
        return local_ms if local_ms >= self.first_ms else None
