"""A calendar rule in words; see ``words.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.recurrence.civil import day_text, wall_text
from streams.core.recurrence.hours import on_grid
from streams.core.recurrence.phrases import (
    DAY_NAMES,
    MAX_LISTED,
    SIXTY,
    from_end,
    joined,
    months_words,
    numbers_words,
    own_zone,
    times_words,
    weekdays_words,
)
from streams.core.recurrence.rule_text import UNIT_S
from streams.core.recurrence.wall import EVERY_HOUR, bits_of

if TYPE_CHECKING:
    from streams.core.recurrence.rule_text import Rule

_UNITS: Final = {
    "SECONDLY": "second",
    "MINUTELY": "minute",
    "HOURLY": "hour",
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "YEARLY": "year",
}


def rule_words(rule: Rule, spec_zone: str) -> str:
    """Return a rule in words: what it repeats, on which days, at what times, and its bounds."""
    evenly = on_grid(rule) if rule.frequency in UNIT_S and not rule.positions else None
    days = _days_words(rule)
    if evenly is not None:
        words = f"{times_words(evenly)}{days}{months_words(rule.months)}"
    elif rule.frequency in UNIT_S:
        words = f"{_each(rule)}{days}{months_words(rule.months)}{_steps_words(rule)}"
    else:
        at = times_words(rule.times)
        if rule.positions and rule.times.count > 1:
            picked = joined([from_end(number) for number in rule.positions])
            at = f"{at}, of all these times the {picked}"
        words = f"{_each(rule)}{days}{months_words(rule.months)} {at}"
    if rule.limit is not None:
        words += f", {rule.limit} times from {wall_text(rule.start_local_ms)} on"
    if rule.until_local_ms is not None:
        words += f", to {wall_text(rule.until_local_ms)}"
    return words + _lists_words(rule) + own_zone(rule.zone, spec_zone)


def _each(rule: Rule) -> str:
    unit = _UNITS[rule.frequency]
    return f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"


def _days_words(rule: Rule) -> str:
    parts = []
    plain = [day for number, day in rule.weekdays if not number]
    if plain:
        mask = sum({1 << day for day in plain})
        parts.append(weekdays_words(mask))
    parts += [f"the {from_end(number)} {DAY_NAMES[day]}" for number, day in rule.weekdays if number]
    parts += [f"the {from_end(day)}{' day' if day < 0 else ''}" for day in rule.month_days]
    parts += [
        f"day {day} of the year" if day > 0 else f"the {from_end(day)} day of the year"
        for day in rule.year_days
    ]
    days = f" on {joined(parts)}" if parts else ""
    if rule.positions and rule.frequency not in UNIT_S and rule.times.count == 1:
        picked = joined([from_end(number) for number in rule.positions])
        days = f" on the {picked} of all {joined(parts)}" if parts else days
    return days + _weeks_words(rule.weeks)


def _weeks_words(weeks: tuple[int, ...]) -> str:
    numbers = sorted({week for week in weeks if week > 0})
    parts = []
    if numbers:
        parts.append(f"week{'s' if len(numbers) > 1 else ''} {numbers_words(numbers)}")
    parts += [f"the {from_end(week)} week" for week in sorted({week for week in weeks if week < 0})]
    return f" of {joined(parts)}" if parts else ""


def _steps_words(rule: Rule) -> str:
    """Return a grid that does not divide the day evenly: where it is counted from matters."""
    unit_s = UNIT_S[rule.frequency]
    begin_ms = rule.start_local_ms // 1000 // unit_s * unit_s * 1000
    words = f", counted from {wall_text(begin_ms)}"
    hours, minutes, seconds = rule.times.hours, rule.times.minutes, rule.times.seconds
    if unit_s == 3_600:
        words += f", at minute {numbers_words(bits_of(minutes))}"
    if unit_s >= 60 and seconds != 1:
        words += f"{' and' if unit_s == 3_600 else ', at'} second {numbers_words(bits_of(seconds))}"
    if rule.positions:
        words += f", of these the {joined([from_end(n) for n in rule.positions])} each time"
    limits = [f"the hour is {numbers_words(bits_of(hours))}"] if hours != EVERY_HOUR else []
    if unit_s < 3_600 and minutes != SIXTY:
        limits.append(f"the minute is {numbers_words(bits_of(minutes))}")
    if unit_s == 1 and seconds != SIXTY:
        limits.append(f"the second is {numbers_words(bits_of(seconds))}")
    return f"{words}, where {joined(limits)}" if limits else words


def _lists_words(rule: Rule) -> str:
    words = ""
    if rule.added:
        words += f", and {_listed([wall_text(time) for time in rule.added], 'further times')}"
    gone = [day_text(day) for day in sorted(rule.removed_days)]
    gone += [wall_text(time) for time in sorted(rule.removed)]
    if gone:
        words += f", but not {_listed(gone, 'dates and times')}"
    return words


def _listed(texts: list[str], what: str) -> str:
    if len(texts) <= MAX_LISTED // 2:
        return joined(texts)
    return f"{len(texts)} {what} from {texts[0]} to {texts[-1]}"
