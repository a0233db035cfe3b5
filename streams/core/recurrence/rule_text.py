"""Reads the text of a calendar rule (RFC 5545); ``rrule.py`` says which and evaluates it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.core.recurrence import zones
from streams.core.recurrence.civil import DAY_MS, date_of, day_of_number, weekday_of
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.wall import TimesOfDay, mask_of
from streams.core.refusal import show

if TYPE_CHECKING:
    from streams.core.recurrence.zones import Zone

MAX_RULE_CHARS: Final = 2_000
MAX_COUNT: Final = 10_000
MAX_INTERVAL: Final = 1_000

_FREQUENCIES: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_INSTEAD: Final = {
    "BYWEEKNO": "use BYMONTH with BYDAY, or BYYEARDAY",
    "EXDATE": "put the dates into the spec's exclude",
    "RDATE": "put the times into the spec's also, as kind 'once'",
    "EXRULE": "put the times into the spec's exclude",
}


class Rule(NamedTuple):
    """The parts of a rule, read and checked."""

    frequency: str
    interval: int
    limit: int | None
    """COUNT."""
    until_local_ms: int | None
    months: int
    """As bits 1 to 12; 0: any."""
    month_days: tuple[int, ...]
    year_days: tuple[int, ...]
    weekdays: tuple[tuple[int, int], ...]
    """(number, weekday from Monday); number 0: each."""
    positions: tuple[int, ...]
    week_start: int
    times: TimesOfDay
    start_local_ms: int
    zone: str


def read_rule(text: str, from_ms: int | None, spec_zone: str) -> Rule:
    """Read a rule. Raises :class:`ExpressionError`; the zone must be one of the database."""
    if len(text) > MAX_RULE_CHARS:
        raise _wrong(f"the rule has {len(text)} characters; at most {MAX_RULE_CHARS}.")
    rule_text, start = "", ""
    for line in re.split(r"[\r\n]+\s*|\s+(?=RRULE|DTSTART)", text.strip()):
        name = re.split(r"[:;]", line, maxsplit=1)[0].upper()
        if name == "DTSTART":
            start = line
        elif name in _INSTEAD:
            raise _wrong(f"{name} is not taken; {_INSTEAD[name]}.")
        elif rule_text:
            raise _wrong(f"a second rule {show(line)}; expected one, and others in also.")
        else:
            rule_text = re.sub(r"(?i)^RRULE:", "", line)
    zone, start_local_ms = _read_start(start, from_ms, spec_zone)
    return _read_parts(rule_text, zone, start_local_ms)


def _read_start(start: str, from_ms: int | None, spec_zone: str) -> tuple[str, int]:
    """Return the zone and the start in wall-clock time."""
    if not start:
        if from_ms is None:
            raise _wrong("the rule has no DTSTART and the spec no from_ms; give one of them.")
        return spec_zone, zones.zone(spec_zone).local_ms(from_ms)
    found = re.fullmatch(r"(?i)DTSTART(?:;TZID=([^:;]+))?(?:;VALUE=DATE(?:-TIME)?)?:(.+)", start)
    if found is None:
        raise _wrong(f"{show(start)}; expected DTSTART;TZID=ZONE:YYYYMMDDTHHMMSS.")
    zone = found[1] or spec_zone
    if found[2].endswith(("Z", "z")):
        if found[1]:
            raise _wrong(f"{show(start)} has a TZID and ends with Z; leave one of them out.")
        utc_ms = _read_time(found[2][:-1], "DTSTART")
        return spec_zone, _known_zone(spec_zone).local_ms(utc_ms)
    _known_zone(zone)
    return zone, _read_time(found[2], "DTSTART")


def _known_zone(name: str) -> Zone:
    try:
        return zones.zone(name)
    except KeyError:
        raise _wrong(
            f"TZID {show(name)} is not a zone of the tz database {zones.TZ_VERSION}; expected a"
            " name such as Europe/Paris."
        ) from None


def _read_time(text: str, name: str) -> int:
    """Return a date-time, or a date (its midnight), as if it were UTC."""
    found = re.fullmatch(r"(\d{8})(?:T([01]\d|2[0-3])([0-5]\d)([0-5]\d))?", text.upper())
    day = day_of_number(int(found[1])) if found else None
    if found is None or day is None:
        raise _wrong(f"{name} {show(text)}; expected YYYYMMDDTHHMMSS, from 1970 to 2099.")
    hour, minute, second = (int(found[n] or 0) for n in (2, 3, 4))
    return day * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000


def _read_parts(text: str, zone: str, start_local_ms: int) -> Rule:
    parts: dict[str, str] = {}
    for part in text.strip().rstrip(";").split(";"):
        name, _, value = part.partition("=")
        name = name.strip().upper()
        if name in _INSTEAD:
            raise _wrong(f"{name} is not taken; {_INSTEAD[name]}.")
        if name not in _KNOWN or not value:
            raise _wrong(f"rule part {show(part)}; expected NAME=VALUE with one of {_KNOWN_TEXT}.")
        if name in parts:
            raise _wrong(f"{name} stands twice; give it once.")
        parts[name] = value.strip().upper()
    frequency = parts.get("FREQ", "")
    if frequency in {"HOURLY", "MINUTELY", "SECONDLY"}:
        raise _wrong(f"FREQ={frequency} is not taken; use the kind 'interval' or 'cron'.")
    if frequency not in _FREQUENCIES:
        raise _wrong(f"FREQ {show(frequency)}; expected one of {', '.join(_FREQUENCIES)}.")
    rule = Rule(
        frequency=frequency,
        interval=_numbers(parts, "INTERVAL", 1, MAX_INTERVAL, one=True)[0]
        if "INTERVAL" in parts
        else 1,
        limit=_numbers(parts, "COUNT", 1, MAX_COUNT, one=True)[0] if "COUNT" in parts else None,
        until_local_ms=_read_until(parts.get("UNTIL"), zone),
        months=mask_of(_numbers(parts, "BYMONTH", 1, 12)),
        month_days=_numbers(parts, "BYMONTHDAY", 1, 31, signed=True),
        year_days=_numbers(parts, "BYYEARDAY", 1, 366, signed=True),
        weekdays=_read_weekdays(parts.get("BYDAY", "")),
        positions=_numbers(parts, "BYSETPOS", 1, 366, signed=True),
        week_start=_weekday(parts.get("WKST", "MO")),
        times=_read_times(parts, start_local_ms),
        start_local_ms=start_local_ms,
        zone=zone,
    )
    _check_parts(rule)
    return _with_defaults(rule)


def _read_until(text: str | None, zone: str) -> int | None:
    if text is None:
        return None
    if text.endswith("Z"):
        return zones.zone(zone).local_ms(_read_time(text[:-1], "UNTIL"))
    local_ms = _read_time(text, "UNTIL")
    return local_ms if "T" in text else local_ms + DAY_MS - 1


def _read_times(parts: dict[str, str], start_local_ms: int) -> TimesOfDay:
    of_day = start_local_ms // 1000 % 86_400
    return TimesOfDay(
        mask_of(_numbers(parts, "BYHOUR", 0, 23) or (of_day // 3600,)),
        mask_of(_numbers(parts, "BYMINUTE", 0, 59) or (of_day // 60 % 60,)),
        mask_of(_numbers(parts, "BYSECOND", 0, 59) or (of_day % 60,)),
    )


def _check_parts(rule: Rule) -> None:
    if rule.limit is not None and rule.until_local_ms is not None:
        raise _wrong("COUNT and UNTIL exclude each other (RFC 5545); give one of them.")
    if any(number for number, _ in rule.weekdays) and rule.frequency in {"DAILY", "WEEKLY"}:
        raise _wrong(f"BYDAY with a number and FREQ={rule.frequency}; use MONTHLY or YEARLY.")
    if rule.year_days and rule.frequency != "YEARLY":
        raise _wrong(f"BYYEARDAY and FREQ={rule.frequency}; use YEARLY.")
    if rule.month_days and rule.frequency == "WEEKLY":
        raise _wrong("BYMONTHDAY and FREQ=WEEKLY (RFC 5545 forbids it); use MONTHLY.")
    if rule.positions and rule.times.count > 1:
        raise _wrong("BYSETPOS wants one time of day here; give one BYHOUR, BYMINUTE, BYSECOND.")


def _with_defaults(rule: Rule) -> Rule:
    """Return the rule with what the RFC takes from the start where no BY part names days."""
    day = rule.start_local_ms // DAY_MS
    _, month, of_month = date_of(day)
    if rule.weekdays or rule.month_days or rule.year_days:
        return rule
    if rule.frequency == "WEEKLY":
        return rule._replace(weekdays=((0, weekday_of(day)),))
    if rule.frequency == "MONTHLY":
        return rule._replace(month_days=(of_month,))
    if rule.frequency == "YEARLY":
        return rule._replace(month_days=(of_month,), months=rule.months or 1 << month)
    return rule


def _read_weekdays(text: str) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", part)
        number = int(match[1] or 0) if match else 99
        if match is None or abs(number) > 53 or (match[1] and not number):
            raise _wrong(f"BYDAY {show(part)}; expected MO to SU, or such as 2FR or -1MO.")
        found.append((number, _WEEKDAYS.index(match[2])))
    return tuple(found)


def _weekday(text: str) -> int:
    if text not in _WEEKDAYS:
        raise _wrong(f"WKST {show(text)}; expected one of {', '.join(_WEEKDAYS)}.")
    return _WEEKDAYS.index(text)


def _numbers(
    parts: dict[str, str],
    name: str,
    low: int,
    high: int,
    *,
    signed: bool = False,
    one: bool = False,
) -> tuple[int, ...]:
    """Return the numbers of a part; empty if it is not there."""
    text = parts.get(name)
    if text is None:
        return ()
    pattern = r"[+-]?\d{1,5}" if signed else r"\d{1,5}"
    found: list[int] = []
    for part in text.split(","):
        number = int(part) if re.fullmatch(pattern, part) else -1_000_000
        if not low <= (abs(number) if signed else number) <= high:
            or_negative = f" or -{high} to -{low}" if signed else ""
            raise _wrong(
                f"{name} {show(part)}; expected a number from {low} to {high}{or_negative}."
            )
        found.append(number)
    if one and len(found) > 1:
        raise _wrong(f"{name} {show(text)}; expected one number.")
    return tuple(found)


def _wrong(reason: str) -> ExpressionError:
    return ExpressionError("expression", f"calendar rule: {reason}")


_KNOWN: Final = frozenset(
    [
        *("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYSETPOS", "BYMONTH", "BYMONTHDAY"),
        *("BYYEARDAY", "BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND"),
    ]
)
_KNOWN_TEXT: Final = ", ".join(sorted(_KNOWN))
