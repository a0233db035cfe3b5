"""The calendar in whole numbers: days since 1 January 1970 and back.

A day is one number, so that 'the next day' is an addition and no object is made. The conversions
are those of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March,
so that the leap day is the last of its year, and 400 years are one era of 146,097 days.
"""

from __future__ import annotations

import re
from typing import Final

DAY_MS: Final = 86_400_000
DAY_S: Final = 86_400
HOUR_MS: Final = 3_600_000
BEGIN_DAY: Final = 0
"""1 January 1970: no time of the wall clock or the sun is before it."""
END_DAY: Final = 47_482
"""1 January 2100: none is at or after it. Ids end in 2095 (``ids.MAX_TIME_MS``)."""
BEGIN_MS: Final = BEGIN_DAY * DAY_MS
END_MS: Final = END_DAY * DAY_MS
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of ``weekday``."""
MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)

_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def day_of(year: int, month: int, day: int) -> int:
    """Return the day's number; ``day`` may lie outside its month and counts on."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def date_of(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month."""
    day += 719_468
    era = day // 146_097
    of_era = day - era * 146_097
    years = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def weekday_of(day: int) -> int:
    """Return 0 for Monday to 6 for Sunday."""
    return (day + 3) % 7


def month_length(year: int, month: int) -> int:
    """Return how many days a month has."""
    return 29 if month == 2 and is_leap(year) else _LENGTHS[month]


def is_leap(year: int) -> bool:
    """Say whether a year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def day_of_number(number: int) -> int | None:
    """Return the day that is written ``20261224``; null if there is no such day from 1970 on."""
    year, rest = divmod(number, 10_000)
    month, day = divmod(rest, 100)
    if not (1970 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= month_length(year, month)):
        return None
    return day_of(year, month, day)


def day_text(day: int) -> str:
    """Return a day as ``2026-12-24``."""
    return "{:04}-{:02}-{:02}".format(*date_of(day))


def wall_text(local_ms: int) -> str:
    """Return a wall-clock time as ``2026-12-24 06:30``, with seconds where there are any."""
    day, rest = divmod(local_ms, DAY_MS)
    return f"{day_text(day)} {clock_text(rest // 1000)}"


def clock_text(second: int) -> str:
    """Return a second of the day as ``06:30``, with seconds where there are any."""
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text


_PART: Final = re.compile(r"(\d{1,6})(ms|s|m|h|d)")
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS}


def duration_of(text: str) -> int | None:
    """Return milliseconds of a duration such as ``90s`` or ``1h30m``; null if it is none."""
    if not text or re.sub(_PART, "", text):
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_text(ms: int) -> str:
    """Return a duration in words, such as ``5 minutes`` or ``1 hour 30 minutes``."""
    if ms == 0:
        return "0 seconds"
    parts, rest = [], ms
    for name, size in (("day", DAY_MS), ("hour", HOUR_MS), ("minute", 60_000)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    if rest % 1000:
        parts.append(f"{rest / 1000:g} seconds" if rest > 1000 else f"{rest} milliseconds")
    elif rest:
        parts.append(f"{rest // 1000} second{'s' if rest > 1000 else ''}")
    return " ".join(parts)
