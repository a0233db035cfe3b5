"""A schedule in words: 'every 5 minutes from 06:00 to 20:55 on weekdays, Europe/Paris, ...'.

Words are made of what was *read*, not of the text: ``*/5``, ``0-59/5`` and the list of twelve
minutes are one set and read alike. What no phrase fits is listed; long lists are cut with a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.recurrence import zones
from streams.core.recurrence.civil import (
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
from streams.core.recurrence.phrases import (
    DAY_NAMES,
    MAX_LISTED,
    count_words,
    joined,
    months_words,
    numbers_words,
    ordinal,
    own_zone,
    times_words,
    weekdays_words,
)
from streams.core.recurrence.recurrence import needs_place
from streams.core.recurrence.rule_text import read_rule
from streams.core.recurrence.rule_words import rule_words
from streams.core.recurrence.wall import EVERY_HOUR, bits_of

if TYPE_CHECKING:
    from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
    from streams.core.recurrence.cron import Line
    from streams.core.recurrence.sun import Place

_ORDINALS: Final = ("", "first", "second", "third", "fourth", "fifth")


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
            return rule_words(read_rule(term.expression, spec.from_ms, spec.zone), spec.zone)
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
    return words + months_words(days.months) + own_zone(line.zone, spec_zone)


def _month_day_words(line: Line) -> str:
    days = line.days
    parts = [f"the {ordinal(day)}" for day in bits_of(days.days)]
    if len(parts) == 31:
        return ""
    if len(parts) > MAX_LISTED:
        parts = [f"days {numbers_words(bits_of(days.days))} of the month"]
    parts += [
        "the last day" if not back else f"{count_words(back, 'day')} before the last day"
        for back in days.lasts
    ]
    parts += [f"the weekday nearest to the {ordinal(day)}" for day in days.nearest]
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
    parts += [f"the {_ORDINALS[number]} {DAY_NAMES[day]}" for day, number in days.nths]
    parts += [f"the last {DAY_NAMES[day]}" for day in days.weekday_lasts]
    return f"on {joined(parts)}" if parts else ""


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
