"""A schedule in words: 'every 5 minutes from 06:00 to 20:55 on weekdays, Europe/Paris, ...'.

Words are made of what was *read*, not of the text: ``*/5``, ``0-59/5`` and the list of twelve
minutes are one set and read alike. What no phrase fits is listed; long lists are cut with a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.recurrence import zones
from streams.core.recurrence.civil import (
    MONTHS,
    WEEKDAYS,
    clock_text,
    day_of_number,
    day_text,
    duration_text,
    wall_text,
)
from streams.core.recurrence.cron import read_line
from streams.core.recurrence.gates import (
    EVERY_WEEKDAY,
    SunTerm,
    read_daylight,
    read_hours,
    read_sun,
    read_weekdays,
)
from streams.core.recurrence.recurrence import needs_place
from streams.core.recurrence.rule_text import read_rule
from streams.core.recurrence.wall import EVERY_HOUR, TimesOfDay, bits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
    from streams.core.recurrence.cron import Line
    from streams.core.recurrence.rule_text import Rule
    from streams.core.recurrence.sun import Place

MAX_LISTED: Final = 6
"""Longer lists of times and days are cut."""
_SIXTY: Final = (1 << 60) - 1
_WORKDAYS: Final = 0b0011111
_WEEKEND: Final = 0b1100000
_DAY_NAMES: Final = tuple(
    {"mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday",
     "sat": "Saturday", "sun": "Sunday"}[name] for name in WEEKDAYS
)  # fmt: skip
_MONTH_NAMES: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth")
_UNITS: Final = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}


def describe(spec: ScheduleSpec, policy: CapturePolicy, place: Place | None = None) -> str:
    """Say in words when a valid schedule is due.

    Raises ``ExpressionError`` where ``check_spec`` refuses the spec.
    """
    terms = [_term(spec, spec), *(_term(term, spec) for term in spec.also)]
    text = ", and ".join(dict.fromkeys(terms))
    if spec.daylight:
        begin, end = (_sun_words(term) for term in read_daylight(spec.daylight))
        text += f", only from {begin} to {end}" if " from " in text else f" from {begin} to {end}"
    parts = [text, *(_exclusion(one) for one in spec.exclude)]
    zone = zones.zone(spec.zone)
    if spec.from_ms is not None:
        parts.append(f"from {wall_text(zone.local_ms(spec.from_ms))} on")
    if spec.until_ms is not None:
        parts.append(f"until {wall_text(zone.local_ms(spec.until_ms))}")
    if spec.max_count is not None:
        parts.append("once" if spec.max_count == 1 else f"{spec.max_count} times")
    parts.append(_zone_words(spec))
    if needs_place(spec):
        parts.append(
            "at the device's place, which is not known"
            if place is None
            else f"at {place[0]:g}, {place[1]:g}"
        )
    if policy.spread_ms:
        parts.append(f"spread over {_short(policy.spread_ms)}")
    return ", ".join(part for part in parts if part)


def _zone_words(spec: ScheduleSpec) -> str:
    """Return the zone where it matters: not for plain intervals and the sun."""
    plain = {spec.kind, *(term.kind for term in spec.also)} <= {"interval", "sun"}
    bounded = spec.from_ms is not None or spec.until_ms is not None
    if plain and not spec.exclude and not bounded:
        return ""
    return spec.zone or zones.UTC


def _short(ms: int) -> str:
    """Return a duration as a manifest writes it: ``60 s``."""
    return f"{ms / 1000:g} s" if ms < 3_600_000 else duration_text(ms)


def _term(term: ScheduleSpec | Term, spec: ScheduleSpec) -> str:
    match term.kind:
        case "interval":
            shift = f", shifted by {duration_text(term.phase_ms)}" if term.phase_ms else ""
            return f"every {_unit(duration_text(term.every_ms or 0))}{shift}"
        case "once":
            return f"once at {wall_text(zones.zone(spec.zone).local_ms(term.at_ms or 0))}"
        case "cron":
            return _cron_words(read_line(term.expression), spec.zone)
        case "calendar":
            return _rule_words(read_rule(term.expression, spec.from_ms, spec.zone), spec.zone)
        case _:
            event = read_sun(term.expression, "expression")
            return _sun_words(event) if event.offset_ms else f"at {_sun_words(event)}"


def _unit(text: str) -> str:
    """Return ``minute`` for ``1 minute``."""
    first, _, rest = text.partition(" ")
    return rest if first == "1" and " " not in rest else text


def _sun_words(term: SunTerm) -> str:
    event = "solar noon" if term.event == "noon" else term.event
    if not term.offset_ms:
        return event
    side = "after" if term.offset_ms > 0 else "before"
    return f"{duration_text(abs(term.offset_ms))} {side} {event}"


# --- times of day ---------------------------------------------------------------------------------


def times_words(times: TimesOfDay) -> str:
    """Return times of day in words."""
    if times.count <= MAX_LISTED and times.hours != EVERY_HOUR:
        return f"at {joined([clock_text(second) for second in times.list_s()])}"
    seconds, minutes = bits_of(times.seconds), bits_of(times.minutes)
    hours = _hours_words(times)
    if seconds != [0] and (minutes_step := _step(times.seconds)) and times.minutes == _SIXTY:
        return f"every {_count(minutes_step, 'second')}{hours}"
    at_second = "" if seconds == [0] else f" at second {_numbers(seconds)} of the minute"
    if step := _step(times.minutes):
        shift = f" from minute {minutes[0]} of the hour on" if minutes[0] else ""
        return f"every {_count(step, 'minute')}{shift}{at_second}{hours}"
    return f"at minute {_numbers(minutes)}{at_second}{hours or ' of every hour'}"


def _hours_words(times: TimesOfDay) -> str:
    """Return the hours of times that come many a day; empty for all of them."""
    hours = bits_of(times.hours)
    if times.hours == EVERY_HOUR:
        return ""
    if hours == list(range(hours[0], hours[-1] + 1)):
        return f" from {clock_text(times.first // 1000)} to {clock_text(times.last // 1000)}"
    if len(hours) > 2 and 24 % (hours[1] - hours[0]) == 0:
        gap = hours[1] - hours[0]
        if hours == list(range(hours[0], 24, gap)) and hours[0] < gap:
            return f" of every {_ordinal(gap)} hour" + (f" from {hours[0]} on" if hours[0] else "")
    return f" of the hours {_numbers(hours)}"


def _step(mask: int) -> int | None:
    """Return the distance of numbers below 60 that go round evenly; null if they do not."""
    numbers = bits_of(mask)
    if len(numbers) < 2:
        return None
    step = numbers[1] - numbers[0]
    even = 60 % step == 0 and numbers == list(range(numbers[0], 60, step))
    return step if even and numbers[0] < step else None


def _count(number: int, unit: str) -> str:
    return unit if number == 1 else f"{number} {unit}s"


# --- days -----------------------------------------------------------------------------------------


def _cron_words(line: Line, spec_zone: str) -> str:
    days = line.days
    of_month = _month_day_words(line)
    of_week = _week_day_words(line)
    words = times_words(line.times)
    if of_month and of_week:
        words += f" {of_month} {'or' if days.either else 'if it is'} {of_week}"
    elif of_month or of_week:
        words += f" {of_month or of_week}"
    elif line.times.hours != EVERY_HOUR:
        words += " every day"
    return words + _months_words(days.months) + _own_zone(line.zone, spec_zone)


def _own_zone(own: str, spec_zone: str) -> str:
    return f" ({own})" if own and own != (spec_zone or zones.UTC) else ""


def _month_day_words(line: Line) -> str:
    days = line.days
    parts = [f"the {_ordinal(day)}" for day in bits_of(days.days)]
    if len(parts) == 31:
        return ""
    if len(parts) > MAX_LISTED:
        parts = [f"days {_numbers(bits_of(days.days))} of the month"]
    parts += [
        "the last day" if not back else f"{_count(back, 'day')} before the last day"
        for back in days.lasts
    ]
    parts += [f"the weekday nearest to the {_ordinal(day)}" for day in days.nearest]
    if days.last_weekday:
        parts.append("the last weekday of the month")
    return f"on {joined(parts)}" if parts else ""


def _week_day_words(line: Line) -> str:
    days = line.days
    parts = []
    if days.weekdays and days.weekdays != EVERY_WEEKDAY:
        parts.append(weekdays_words(days.weekdays))
    elif days.weekdays:
        return ""
    parts += [f"the {_ORDINALS[number]} {_DAY_NAMES[day]}" for day, number in days.nths]
    parts += [f"the last {_DAY_NAMES[day]}" for day in days.weekday_lasts]
    return f"on {joined(parts)}" if parts else ""


def weekdays_words(mask: int) -> str:
    """Return days of the week in words; bit 0 is Monday."""
    if mask == _WORKDAYS:
        return "weekdays"
    if mask == _WEEKEND:
        return "weekends"
    return joined([_DAY_NAMES[day] for day in bits_of(mask)])


def _months_words(months: int) -> str:
    numbers = bits_of(months)
    if not numbers or len(numbers) == len(MONTHS):
        return ""
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f" from {_MONTH_NAMES[numbers[0] - 1]} to {_MONTH_NAMES[numbers[-1] - 1]}"
    return f" in {joined([_MONTH_NAMES[number - 1] for number in numbers])}"


def _rule_words(rule: Rule, spec_zone: str) -> str:
    unit = _UNITS[rule.frequency]
    each = f"every {unit}" if rule.interval == 1 else f"every {rule.interval} {unit}s"
    parts = []
    plain = [day for number, day in rule.weekdays if not number]
    if plain:
        mask = sum({1 << day for day in plain})
        parts.append(weekdays_words(mask))
    parts += [
        f"the {_from_end(number)} {_DAY_NAMES[day]}" for number, day in rule.weekdays if number
    ]
    parts += [f"the {_from_end(day)}{' day' if day < 0 else ''}" for day in rule.month_days]
    parts += [f"day {day} of the year" for day in rule.year_days]
    days = f" on {joined(parts)}" if parts else ""
    if rule.positions:
        picked = joined([_from_end(number) for number in rule.positions])
        days = f" on the {picked} of all {joined(parts)}" if parts else days
    words = f"{each}{days}{_months_words(rule.months)} {times_words(rule.times)}"
    if rule.limit is not None:
        words += f", {rule.limit} times from {wall_text(rule.start_local_ms)} on"
    if rule.until_local_ms is not None:
        words += f", to {wall_text(rule.until_local_ms)}"
    return words + _own_zone(rule.zone, spec_zone)


def _exclusion(exclusion: Exclusion) -> str:
    parts = []
    if exclusion.weekdays:
        parts.append(f"on {weekdays_words(read_weekdays(exclusion.weekdays))}")
    if exclusion.dates:
        days = [day for number in sorted(exclusion.dates) if (day := day_of_number(number))]
        listed = joined([day_text(day) for day in days[:3]])
        if len(days) > 3:
            listed = f"{len(days)} days from {day_text(days[0])} to {day_text(days[-1])}"
        parts.append(f"on {listed}")
    if exclusion.hours:
        spans = read_hours(exclusion.hours)
        parts += [
            f"from {clock_text(begin // 1000)} to {clock_text(end // 1000 % 86_400)}"
            for begin, end in spans
        ]
    name = f" ({exclusion.name})" if exclusion.name else ""
    return f"except {' '.join(parts)}{name}"


# --- lists ----------------------------------------------------------------------------------------


def joined(parts: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([part for part in (", ".join(parts[:-1]), *parts[-1:]) if part])


def _numbers(numbers: list[int]) -> str:
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


def _ordinal(number: int) -> str:
    """Return ``1st``."""
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"


def _from_end(number: int) -> str:
    """Return ``2nd``, ``last`` or ``2nd last``."""
    if number > 0:
        return _ordinal(number)
    return "last" if number == -1 else f"{_ordinal(-number)} last"
