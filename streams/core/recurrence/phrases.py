"""Phrases that ``words.py`` and ``rule_words.py`` are made of: times of day, days, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.recurrence import zones
from streams.core.recurrence.civil import MONTHS, WEEKDAYS, clock_text
from streams.core.recurrence.wall import EVERY_HOUR, TimesOfDay, bits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LISTED: Final = 6
"""Longer lists of times and days are cut."""
SIXTY: Final = (1 << 60) - 1
"""All minutes of an hour, or seconds of a minute."""
_WORKDAYS: Final = 0b0011111
_WEEKEND: Final = 0b1100000
DAY_NAMES: Final = tuple(
    {"mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday",
     "sat": "Saturday", "sun": "Sunday"}[name] for name in WEEKDAYS
)  # fmt: skip
MONTH_NAMES: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


# --- times of day ---------------------------------------------------------------------------------


def times_words(times: TimesOfDay) -> str:
    """Return times of day in words."""
    if times.count <= MAX_LISTED and times.hours != EVERY_HOUR:
        return f"at {joined([clock_text(second) for second in times.list_s()])}"
    seconds, minutes = bits_of(times.seconds), bits_of(times.minutes)
    hours = hours_words(times)
    if seconds != [0] and (minutes_step := _step(times.seconds)) and times.minutes == SIXTY:
        return f"every {count_words(minutes_step, 'second')}{hours}"
    at_second = "" if seconds == [0] else f" at second {numbers_words(seconds)} of the minute"
    if step := _step(times.minutes):
        shift = f" from minute {minutes[0]} of the hour on" if minutes[0] else ""
        return f"every {count_words(step, 'minute')}{shift}{at_second}{hours}"
    return f"at minute {numbers_words(minutes)}{at_second}{hours or ' of every hour'}"


def hours_words(times: TimesOfDay) -> str:
    """Return the hours of times that come many a day; empty for all of them."""
    hours = bits_of(times.hours)
    if times.hours == EVERY_HOUR:
        return ""
    if hours == list(range(hours[0], hours[-1] + 1)):
        return f" from {clock_text(times.first // 1000)} to {clock_text(times.last // 1000)}"
    if len(hours) > 2 and 24 % (hours[1] - hours[0]) == 0:
        gap = hours[1] - hours[0]
        if hours == list(range(hours[0], 24, gap)) and hours[0] < gap:
            return f" of every {ordinal(gap)} hour" + (f" from {hours[0]} on" if hours[0] else "")
    return f" of the hours {numbers_words(hours)}"


def _step(mask: int) -> int | None:
    """Return the distance of numbers below 60 that go round evenly; null if they do not."""
    numbers = bits_of(mask)
    if len(numbers) < 2:
        return None
    step = numbers[1] - numbers[0]
    even = 60 % step == 0 and numbers == list(range(numbers[0], 60, step))
    return step if even and numbers[0] < step else None


def count_words(number: int, unit: str) -> str:
    """Return ``minute`` or ``5 minutes``, as after 'every'."""
    return unit if number == 1 else f"{number} {unit}s"


# --- days -----------------------------------------------------------------------------------------


def own_zone(own: str, spec_zone: str) -> str:
    """Return the zone of a term where it is not the schedule's."""
    return f" ({own})" if own and own != (spec_zone or zones.UTC) else ""


def weekdays_words(mask: int) -> str:
    """Return days of the week in words; bit 0 is Monday."""
    if mask == _WORKDAYS:
        return "weekdays"
    if mask == _WEEKEND:
        return "weekends"
    return joined([DAY_NAMES[day] for day in bits_of(mask)])


def months_words(months: int) -> str:
    """Return the months of a mask in words; empty for all of them."""
    numbers = bits_of(months)
    if not numbers or len(numbers) == len(MONTHS):
        return ""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f" from {MONTH_NAMES[numbers[0] - 1]} to {MONTH_NAMES[numbers[-1] - 1]}"
    return f" in {joined([MONTH_NAMES[number - 1] for number in numbers])}"


# --- lists ----------------------------------------------------------------------------------------


def joined(parts: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([part for part in (", ".join(parts[:-1]), *parts[-1:]) if part])


def numbers_words(numbers: list[int]) -> str:
    """Return numbers in words; runs of three and more as ``a to b``."""
    parts: list[str] = []
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        if end - at >= 2:
            parts.append(f"{numbers[at]} to {numbers[end]}")
        else:
            parts += [str(number) for number in numbers[at : end + 1]]
        at = end + 1
    if len(parts) > 2 * MAX_LISTED:
        return f"{', '.join(parts[: 2 * MAX_LISTED])} and {len(parts) - 2 * MAX_LISTED} more"
    return joined(parts)


def ordinal(number: int) -> str:
    """Return ``1st``."""
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"


def from_end(number: int) -> str:
    """Return ``2nd``, ``last`` or ``2nd last``."""
    if number > 0:
        return ordinal(number)
    return "last" if number == -1 else f"{ordinal(-number)} last"
