"""Cron lines: five fields, or six with the seconds first.

::

    second?  minute  hour  day-of-month  month    day-of-week
    0-59     0-59    0-23  1-31, L, W    1-12,    0-7 (0 and 7 Sunday) or
                                         jan-dec  sun-sat, L, #

* ``*``, ``a``, ``a-b``, ``*/n``, ``a-b/n``, ``a/n`` (from a to the end), and lists with ``,``. A
  range may go over the end: ``fri-mon``, ``22-2``. ``?`` is ``*`` in the two fields for days.
* Day of month: ``L`` the last day, ``L-3`` three days before it, ``15W`` the weekday (Monday to
  Friday) nearest to the 15th in the same month, ``LW`` the last weekday.
* Day of week: ``fri#2`` the second Friday, ``friL`` or ``5L`` the last.
* If both day fields are restricted a day matches when *either* does; if one begins with ``*`` or is
  ``?`` both must (Vixie cron's rule, which croniter and cronsim follow).
* ``@yearly @annually @monthly @weekly @daily @midnight @hourly``.
* ``CRON_TZ=Europe/Paris`` or ``TZ=...`` before the line names the zone, as in cronie.

Days of the week count from Sunday as 0, as in cron; Quartz counts from 1: use names. DST: see
``wall.py``. A line that never fires (30 February) ends at 2100 (``civil.END_DAY``); it is refused.

**Theory.** The days of a month are a mask of 31 bits, made of the masks of the fields and the
weekday of the 1st; stepping to the next day is a shift and the lowest bit. Months that the line
does not have are leapt over, so the longest search, to 2100, is some 900 months: 2 ms.

Own code, not a library (ADR 0010): croniter and cronsim step through ``datetime`` objects at 13 to
370 us, cronsim knows no ``W``, neither holds the rule of ``zones.py``, and only croniter goes back.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from streams.core.recurrence.civil import (
    BEGIN_DAY,
    END_DAY,
    MONTHS,
    date_of,
    day_of,
    month_length,
    weekday_of,
)
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.wall import TimesOfDay, first_bit, mask_of
from streams.core.refusal import show

MAX_LINE_CHARS: Final = 1_000

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CRON_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the values from ``low`` on."""
    more: str = ""
    """What else it may hold, for a message."""


_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day of month", 1, 31, more=", L, L-3, LW or 15W")
_MONTH: Final = _Field("month", 1, 12, MONTHS)
_WEEKDAY: Final = _Field("day of week", 0, 7, _CRON_DAYS, ", fri#2 or friL")
_FIELDS: Final = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


class Line(NamedTuple):
    """A cron line that was read."""

    fields: tuple[str, str, str, str, str, str]
    """As written, the second first; for ``describe``."""
    times: TimesOfDay
    days: CronDays
    zone: str
    """That the line itself names; else empty."""


class CronDays:
    """The days of a cron line."""

    __slots__ = (
        *("days", "either", "lasts", "months", "nearest", "nths", "plain"),
        *("last_weekday", "weekdays", "weekday_lasts"),
    )

    def __init__(self, day: str, month: str, weekday: str) -> None:
        self.months = _mask(month, _MONTH)
        self.days = 0
        self.lasts: list[int] = []
        """Days before the last of the month."""
        self.nearest: list[int] = []
        self.last_weekday = False
        self.weekdays = 0
        """Bit 0 is Monday, as in ``civil``."""
        self.weekday_lasts: list[int] = []
        self.nths: list[tuple[int, int]] = []
        self.either = not (day[0] in "*?" or weekday[0] in "*?")
        for part in day.split(","):
            self._read_day(part.upper(), part)
        for part in weekday.split(","):
            self._read_weekday(part.upper(), part)
        self.plain = not (self.lasts or self.nearest or self.last_weekday) and not (
            self.weekday_lasts or self.nths
        )

    def _read_day(self, part: str, written: str) -> None:
        if found := re.fullmatch(r"L(?:-(\d{1,2}))?", part):
            back = int(found[1] or 0)
            if back > 30:
                raise _error(_DAY, written, "L-0 to L-30")
            self.lasts.append(back)
        elif part in {"LW", "WL"}:
            self.last_weekday = True
        elif found := re.fullmatch(r"(\d{1,2})W", part):
            if not 1 <= int(found[1]) <= 31:
                raise _error(_DAY, written, "1W to 31W")
            self.nearest.append(int(found[1]))
        else:
            self.days |= _mask("*" if part == "?" else written, _DAY)

    def _read_weekday(self, part: str, written: str) -> None:
        if found := re.fullmatch(r"(\w+)#(\d)", part):
            if not 1 <= int(found[2]) <= 5:
                raise _error(_WEEKDAY, written, "#1 to #5")
            self.nths.append((_monday_first(_value(found[1], _WEEKDAY, written)), int(found[2])))
        elif found := re.fullmatch(r"(\w+)L", part):
            self.weekday_lasts.append(_monday_first(_value(found[1], _WEEKDAY, written)))
        else:
            mask = _mask("*" if part == "?" else written, _WEEKDAY)
            self.weekdays |= (mask >> 1 | (mask & 1) << 6) & 0x7F

    def month_mask(self, year: int, month: int) -> int:
        """Return the days of a month that match, as bits 1 to 31."""
        if not self.months >> month & 1:
            return 0
        length = month_length(year, month)
        first = weekday_of(day_of(year, month, 1))
        whole = (2 << length) - 2
        days = self.days
        # The weekdays, repeated five times over, begun at the weekday of the 1st.
        weekdays = (self.weekdays * 0x0102_0408_1020_4081) >> first << 1
        if not self.plain:
            days |= self._special_days(length, first)
            weekdays |= self._special_weekdays(length, first)
        return (days | weekdays if self.either else days & weekdays) & whole

    def _special_days(self, length: int, first: int) -> int:
        mask = mask_of(length - back for back in self.lasts if back < length)
        if self.last_weekday:
            mask |= 1 << _nearest_weekday(length, length, first)
        for day in self.nearest:
            if day <= length:
                mask |= 1 << _nearest_weekday(day, length, first)
        return mask

    def _special_weekdays(self, length: int, first: int) -> int:
        mask = 0
        for weekday in self.weekday_lasts:
            mask |= 1 << length - (first + length - 1 - weekday) % 7
        for weekday, number in self.nths:
            mask |= 1 << 1 + (weekday - first) % 7 + 7 * (number - 1)
        return mask

    def at_or_after(self, day: int) -> int | None:
        """Return the first day that matches, at or after another."""
        year, month, of_month = date_of(max(day, BEGIN_DAY))
        mask = self.month_mask(year, month) >> of_month << of_month
        while not mask:
            month += 1
            later = self.months >> month
            if later:
                month += first_bit(later)
            else:
                year, month = year + 1, first_bit(self.months)
                if year >= 2100:
                    return None
            mask = self.month_mask(year, month)
        return day_of(year, month, first_bit(mask))

    def at_or_before(self, day: int) -> int | None:
        """Return the last day that matches, at or before another."""
        if day < BEGIN_DAY:
            return None
        year, month, of_month = date_of(min(day, END_DAY - 1))
        mask = self.month_mask(year, month) & (2 << of_month) - 1
        while not mask:
            earlier = self.months & (1 << month) - 1
            if earlier:
                month = earlier.bit_length() - 1
            else:
                year, month = year - 1, self.months.bit_length() - 1
                if year < 1970:
                    return None
            mask = self.month_mask(year, month)
        return day_of(year, month, mask.bit_length() - 1)


def read_line(text: str) -> Line:
    """Read a cron line. Raises :class:`ExpressionError`."""
    if len(text) > MAX_LINE_CHARS:
        raise ExpressionError(
            "expression", f"the cron line has {len(text)} characters; at most {MAX_LINE_CHARS}."
        )
    parts = text.split()
    zone = ""
    if parts and (found := re.fullmatch(r"(?:CRON_)?TZ=(\S+)", parts[0])):
        zone = found[1]
        del parts[0]
    if len(parts) == 1 and parts[0].startswith("@"):
        macro = _MACROS.get(parts[0].lower())
        if macro is None:
            known = ", ".join(_MACROS)
            advice = " For a period use the kind 'interval'." if "every" in parts[0] else ""
            raise ExpressionError(
                "expression",
                f"cron word {show(parts[0])} is not known; use one of {known}.{advice}",
            )
        parts = macro.split()
    if len(parts) == 5:
        parts = ["0", *parts]
    if len(parts) != 6:
        raise ExpressionError(
            "expression",
            f"cron line {show(text)} has {len(parts)} fields; expected 5 (minute, hour, day of"
            " month, month, day of week), or 6 with the second first.",
        )
    for part, field in zip(parts, _FIELDS, strict=True):
        if "" in part.split(","):
            raise _error(field, part)
    second, minute, hour, day, month, weekday = parts
    times = TimesOfDay(_mask(hour, _HOUR), _mask(minute, _MINUTE), _mask(second, _SECOND))
    days = CronDays(day, month, weekday)
    return Line((second, minute, hour, day, month, weekday), times, days, zone)


def _nearest_weekday(day: int, length: int, first: int) -> int:
    """Return the Monday to Friday nearest to a day, within its month."""
    weekday = (first + day - 1) % 7
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < length else day - 2
    return day


def _monday_first(cron_weekday: int) -> int:
    return (cron_weekday - 1) % 7


def _mask(text: str, field: _Field) -> int:
    """Return the numbers that a field names, as bits."""
    mask = 0
    top = min(field.high, 6) if field is _WEEKDAY else field.high
    for part in text.split(","):
        found = re.fullmatch(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", part)
        if found is None:
            raise _error(field, part)
        step = int(found[4]) if found[4] else 1
        if step < 1:
            raise _error(field, part, "a step of at least 1")
        if found[2] is None:
            low, high = field.low, top
        else:
            low = _value(found[2], field, part)
            high = _value(found[3], field, part) if found[3] else (top if found[4] else low)
        if high < low:  # over the end: as far as the end, and on from the start
            high += top - field.low + 1
        for value in range(low, high + 1, step):
            mask |= 1 << (value if value <= field.high else value - (top - field.low + 1))
    if field is _WEEKDAY:
        mask |= mask >> 7  # 7 is 0
    return mask & (1 << top + 1) - 1


def _value(text: str, field: _Field, part: str) -> int:
    """Return the number of a value that is written as a number or a name."""
    if text.lower() in field.names:
        return field.low + field.names.index(text.lower())
    if not (text.isascii() and text.isdigit()) or not field.low <= int(text) <= field.high:
        raise _error(field, part)
    return int(text)


def _error(field: _Field, part: str, expected: str = "") -> ExpressionError:
    names = f" or {field.names[0]}-{field.names[-1]}" if field.names else ""
    expected = expected or (
        f"numbers from {field.low} to {field.high}{names}, with *, a-b, /n and lists{field.more}"
    )
    return ExpressionError(
        "expression", f"cron field {field.name} {show(part)}; expected {expected}."
    )
