"""What narrows the times of a schedule down: exclusions, daylight, the window of validity.

A **gate** is open or shut at any moment, and says how long it stays so: the next moment at which it
is open and the last one. So a shut gate is leapt over, however many times fall into it: a 100 ms
interval that is blocked from 22:00 to 06:00 costs one step a night.

* **Exclusions** look at what the wall clock shows: a moment is left out if the clock shows a time
  that one of them names. In an hour that is shown twice both are left out.
* **Daylight** ``A..B`` is open from event A (included) to event B (not included) of each solar day;
  with B before A, as in ``sunset..sunrise``, it goes over to the next day's B. Where the sun stays
  above or below the altitude of a bound all day, the gate is as the sun is: ``sunrise..sunset`` is
  open all through a polar day and shut in the polar night, ``sunset..sunrise`` the other way round.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from streams.core.recurrence.civil import (
    BEGIN_MS,
    DAY_MS,
    END_MS,
    WEEKDAYS,
    day_of_number,
    duration_of,
    weekday_of,
)
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.sun import EVENTS, MORNING, SunTimes, event_ms, is_high, noon_ms
from streams.core.refusal import show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import Exclusion
    from streams.core.recurrence.sun import Place
    from streams.core.recurrence.zones import Zone

MAX_EXCLUSIONS: Final = 32
MAX_DATES: Final = 1_000
"""In one exclusion: the holidays of many years."""
MAX_HOURS: Final = 24
MAX_SUN_OFFSET_MS: Final = DAY_MS // 2
EVERY_WEEKDAY: Final = 0x7F
_SUN_DAYS_KEPT: Final = 8


class Gate(Protocol):
    """Open or shut at each moment."""

    def open_at_or_after(self, time_ms: int) -> int | None:
        """Return the first moment at or after another at which it is open."""
        ...

    def open_at_or_before(self, time_ms: int) -> int | None:
        """Return the last moment at or before another at which it is open."""
        ...


class Validity:
    """Open from ``from_ms`` on, and before ``until_ms``."""

    def __init__(self, from_ms: int | None, until_ms: int | None) -> None:
        self._from_ms = from_ms
        self._until_ms = until_ms

    def open_at_or_after(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        if self._from_ms is not None and time_ms < self._from_ms:
            time_ms = self._from_ms
        return None if self._until_ms is not None and time_ms >= self._until_ms else time_ms

    def open_at_or_before(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        if self._until_ms is not None and time_ms >= self._until_ms:
            time_ms = self._until_ms - 1
        return None if self._from_ms is not None and time_ms < self._from_ms else time_ms


class Blackout(NamedTuple):
    """One exclusion, read: on which days it begins, and its spans from their midnight on."""

    dates: frozenset[int]
    """Numbers of days; empty: any."""
    weekdays: int
    """Bit 0 is Monday."""
    spans: tuple[tuple[int, int], ...]
    """[begin, end) in milliseconds; an end over 24 h lies on the next day."""


class Exclusions:
    """Shut while the wall clock shows a time that is left out."""

    def __init__(self, blackouts: Iterable[Blackout], zone: Zone) -> None:
        self._blackouts = tuple(blackouts)
        self._zone = zone

    def _shut(self, local_ms: int) -> tuple[int, int] | None:
        """Return a span of wall-clock time [begin, end) that holds this time; null: open."""
        day, of_day = divmod(local_ms, DAY_MS)
        for blackout in self._blackouts:
            for back in (0, 1):
                if blackout.dates and day - back not in blackout.dates:
                    continue
                if not blackout.weekdays >> weekday_of(day - back) & 1:
                    continue
                here = of_day + back * DAY_MS
                for begin, end in blackout.spans:
                    if begin <= here < end:
                        return local_ms - here + begin, local_ms - here + end
        return None

    def open_at_or_after(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        zone = self._zone
        while time_ms < END_MS:
            at = zone.segment(time_ms)
            shut = self._shut(time_ms + zone.offsets[at])
            if shut is None:
                return time_ms
            time_ms = min(shut[1] - zone.offsets[at], zone.ends[at])
        return None

    def open_at_or_before(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        zone = self._zone
        while time_ms >= BEGIN_MS:
            at = zone.segment(time_ms)
            shut = self._shut(time_ms + zone.offsets[at])
            if shut is None:
                return time_ms
            time_ms = max(shut[0] - zone.offsets[at], zone.starts[at]) - 1
        return None


class SunTerm(NamedTuple):
    """A sun event with an offset, as written: ``sunrise-30m``."""

    event: str
    offset_ms: int


class Daylight:
    """Open within a window of the sun at a place; shut where there is no place."""

    def __init__(self, begin: SunTerm, end: SunTerm, place: Place | None) -> None:
        self._begin = begin
        self._end = end
        self._place = place
        self._over = EVENTS.index(end.event) <= EVENTS.index(begin.event)
        if end.event == begin.event:
            self._over = end.offset_ms <= begin.offset_ms
        self._window = lru_cache(maxsize=_SUN_DAYS_KEPT)(self._make)

    def _make(self, day: int) -> tuple[int, int] | None:
        """Return the window [begin, end) that begins on a solar day; null: none."""
        begin_ms = self._bound(self._begin, day, -1)
        end_ms = self._bound(self._end, day + self._over, 1)
        if begin_ms is None or end_ms is None or end_ms <= begin_ms:
            return None
        return begin_ms, end_ms

    def _bound(self, term: SunTerm, day: int, side: int) -> int | None:
        """Return the begin (side -1) or the end (1) of a day's window; null: it is shut that day.

        A begin in the morning and an end in the evening hold a window in which the sun is high; an
        end in the morning and a begin in the evening one in which it is low.
        """
        place = self._place
        assert place is not None, "asked only where there is a place"
        found = event_ms(term.event, place, day)
        if found is not None:
            return found + term.offset_ms
        wants_high = (term.event in MORNING) == (side < 0)
        if is_high(term.event, place, day) != wants_high:
            return None
        return noon_ms(place, day) + (side * DAY_MS // 2 if wants_high else 0)

    def _days_around(self, time_ms: int) -> tuple[int, ...]:
        assert self._place is not None, "asked only where there is a place"
        day = (time_ms - noon_ms(self._place, 0) + DAY_MS // 2) // DAY_MS
        return (day - 2, day - 1, day, day + 1, day + 2)

    def open_at_or_after(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        if self._place is None:
            return None
        while time_ms < END_MS:
            days = self._days_around(time_ms)
            windows = [window for day in days if (window := self._window(day)) is not None]
            if any(begin <= time_ms < end for begin, end in windows):
                return time_ms
            later = [begin for begin, _ in windows if begin > time_ms]
            if later:
                return min(later) if min(later) < END_MS else None
            time_ms = noon_ms(self._place, days[3])
        return None

    def open_at_or_before(self, time_ms: int) -> int | None:
        """See :class:`Gate`."""
        if self._place is None:
            return None
        while time_ms >= BEGIN_MS:
            days = self._days_around(time_ms)
            windows = [window for day in days if (window := self._window(day)) is not None]
            if any(begin <= time_ms < end for begin, end in windows):
                return time_ms
            earlier = [end for _, end in windows if end <= time_ms]
            if earlier:
                return max(earlier) - 1 if max(earlier) > BEGIN_MS else None
            time_ms = noon_ms(self._place, days[1])
        return None


# --- reading --------------------------------------------------------------------------------------


def read_exclusion(exclusion: Exclusion) -> Blackout:
    """Read one exclusion. Raises :class:`ExpressionError`."""
    if not (exclusion.dates or exclusion.weekdays or exclusion.hours):
        raise ExpressionError(
            "exclude", f"exclusion {show(exclusion.name)} is empty; give dates, weekdays or hours."
        )
    if len(exclusion.dates) > MAX_DATES:
        raise ExpressionError(
            "exclude", f"an exclusion has {len(exclusion.dates)} dates; at most {MAX_DATES}."
        )
    days: list[int] = []
    for number in exclusion.dates:
        day = day_of_number(number)
        if day is None:
            raise ExpressionError(
                "exclude", f"excluded date {number}; expected a day such as 20261224, to 2099."
            )
        days.append(day)
    return Blackout(frozenset(days), read_weekdays(exclusion.weekdays), read_hours(exclusion.hours))


def read_weekdays(text: str) -> int:
    """Read ``mon-fri,sun``; empty is every day."""
    if not text.strip():
        return EVERY_WEEKDAY
    mask = 0
    for part in text.lower().split(","):
        first, _, last = part.strip().partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            raise ExpressionError(
                "exclude", f"weekdays {show(part)}; expected such as sat,sun or mon-fri."
            )
        day, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        mask |= 1 << day
        while day != end:
            day = (day + 1) % 7
            mask |= 1 << day
    return mask


def read_hours(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``12:00-13:00,22:00-06:00``; empty is the whole day."""
    if not text.strip():
        return ((0, DAY_MS),)
    parts = text.split(",")
    if len(parts) > MAX_HOURS:
        raise ExpressionError("exclude", f"{len(parts)} spans of hours; at most {MAX_HOURS}.")
    return tuple(_read_span(part.strip()) for part in parts)


def _read_span(part: str) -> tuple[int, int]:
    clock = r"([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?"
    found = re.fullmatch(rf"{clock}(?:-|\.\.){clock}", part)
    if found is not None:
        begin, end = (
            (int(found[n]) * 3600 + int(found[n + 1]) * 60 + int(found[n + 2] or 0)) * 1000
            for n in (1, 4)
        )
        if begin < DAY_MS and end <= DAY_MS and begin != end:
            return begin, end if end > begin else end + DAY_MS
    raise ExpressionError(
        "exclude", f"hours {show(part)}; expected HH:MM-HH:MM, such as 22:00-06:00, not empty."
    )


def read_sun(text: str, field: str) -> SunTerm:
    """Read ``sunrise+30m``. Raises :class:`ExpressionError` for ``field``."""
    found = re.fullmatch(r"([a-z]+)(?:([+-])(\w+))?", re.sub(r"\s", "", text.lower()))
    offset = duration_of(found[3]) if found and found[3] else 0
    if found is None or found[1] not in EVENTS or offset is None:
        raise ExpressionError(
            field,
            f"sun event {show(text)}; expected one of {', '.join(EVENTS)}, with an offset or"
            " without, such as sunrise+30m or sunset-1h15m.",
        )
    if offset > MAX_SUN_OFFSET_MS:
        raise ExpressionError(field, f"sun event {show(text)}; an offset is at most 12h.")
    return SunTerm(found[1], -offset if found[2] == "-" else offset)


def read_daylight(text: str) -> tuple[SunTerm, SunTerm]:
    """Read ``sunrise-30m..sunset``. Raises :class:`ExpressionError`."""
    begin, dots, end = text.partition("..")
    if not dots:
        raise ExpressionError(
            "daylight", f"daylight {show(text)}; expected two sun events, as sunrise-30m..sunset."
        )
    return read_sun(begin, "daylight"), read_sun(end, "daylight")


def sun_times(term: SunTerm, place: Place) -> SunTimes:
    """Return the times of a sun event at a place."""
    return SunTimes(term.event, term.offset_ms, place)
