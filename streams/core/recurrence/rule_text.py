"""Reads the text of a calendar rule (RFC 5545); ``rrule.py`` says which and evaluates it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.core.recurrence.civil import DAY_MS, DAY_S, date_of, day_of_number, weekday_of
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.wall import TimesOfDay, mask_of
from streams.core.recurrence.zones import PINNED
from streams.core.refusal import show

if TYPE_CHECKING:
    from streams.core.recurrence.zones import TzData, Zone

LANGUAGE: Final = 4
"""The version of the fold's rules that took the language as it is now."""

MAX_RULE_CHARS: Final = 2_000
MAX_COUNT: Final = 10_000
MAX_INTERVAL: Final = 1_000
UNIT_S: Final = {"HOURLY": 3_600, "MINUTELY": 60, "SECONDLY": 1}
"""The periods that are shorter than a day, in seconds."""

_DAYS_AND_MORE: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_INSTEAD: Final = {"EXRULE": "put the times into the spec's exclude"}
_INSTEAD_TO_3: Final = {
    "BYWEEKNO": "use BYMONTH with BYDAY, or BYYEARDAY",
    "EXDATE": "put the dates into the spec's exclude",
    "RDATE": "put the times into the spec's also, as kind 'once'",
    **_INSTEAD,
}
"""What the fold's rules up to version 3 refuse; a tick of theirs must be answered as it was."""


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
    weeks: tuple[int, ...]
    week_start: int
    times: TimesOfDay
    """Of a period of hours and less: which times of day are let through (``of_hours`` and so on)
    or, for what is shorter than the period, which there are in it."""
    names_hours: bool
    """BYHOUR is given."""
    start_local_ms: int
    zone: str
    added: tuple[int, ...]
    """RDATE, in wall-clock milliseconds, in order."""
    removed: frozenset[int]
    """EXDATE, likewise."""
    removed_days: frozenset[int]
    """EXDATE with VALUE=DATE: whole days."""


def read_rule(
    text: str,
    from_ms: int | None,
    spec_zone: str,
    data: TzData = PINNED,
    language: int = LANGUAGE,
) -> Rule:
    """Read a rule. Raises :class:`ExpressionError`; the zone must be one of the database.

    ``language`` is the version of the fold's rules: up to 3 less was taken.
    """
    if len(text) > MAX_RULE_CHARS:
        raise _wrong(f"the rule has {len(text)} characters; at most {MAX_RULE_CHARS}.")
    instead = _INSTEAD if language > 3 else _INSTEAD_TO_3
    rule_text, start = "", ""
    lists: list[str] = []
    for line in _LINES[language > 3].split(text.strip()):
        name = re.split(r"[:;]", line, maxsplit=1)[0].upper()
        if name == "DTSTART":
            start = line
        elif name in instead:
            raise _wrong(f"{name} is not taken; {instead[name]}.")
        elif name in {"EXDATE", "RDATE"}:
            lists.append(line)
        elif rule_text:
            raise _wrong(f"a second rule {show(line)}; expected one, and others in also.")
        else:
            rule_text = re.sub(r"(?i)^RRULE:", "", line)
    reader = _Reader(data, language)
    zone, start_local_ms = reader.start(start, from_ms, spec_zone)
    rule = reader.parts(rule_text, zone, start_local_ms)
    return reader.with_lists(rule, lists) if lists else rule


_LINES: Final = (
    re.compile(r"[\r\n]+\s*|\s+(?=RRULE|DTSTART)"),
    re.compile(r"[\r\n]+\s*|\s+(?=RRULE|DTSTART|EXDATE|RDATE)"),
)
"""What stands between lines: before version 4 of the rules, and from it on."""


class _Reader:
    """Reads the lines of one rule, by one version of the tz data and of the language."""

    def __init__(self, data: TzData, language: int) -> None:
        self._data = data
        self._language = language
        self._frequencies = (*_DAYS_AND_MORE, *UNIT_S) if language > 3 else _DAYS_AND_MORE
        self._known = _KNOWN if language > 3 else _KNOWN - {"BYWEEKNO"}
        self._instead = _INSTEAD if language > 3 else _INSTEAD_TO_3

    # --- lines ----------------------------------------------------------------------------------

    def start(self, start: str, from_ms: int | None, spec_zone: str) -> tuple[str, int]:
        """Return the zone and the start in wall-clock time."""
        if not start:
            if from_ms is None:
                raise _wrong("the rule has no DTSTART and the spec no from_ms; give one of them.")
            return spec_zone, self._data.zone(spec_zone).local_ms(from_ms)
        found = re.fullmatch(
            r"(?i)DTSTART(?:;TZID=([^:;]+))?(?:;VALUE=DATE(?:-TIME)?)?:(.+)", start
        )
        if found is None:
            raise _wrong(f"{show(start)}; expected DTSTART;TZID=ZONE:YYYYMMDDTHHMMSS.")
        zone = found[1] or spec_zone
        if found[2].endswith(("Z", "z")):
            if found[1]:
                raise _wrong(f"{show(start)} has a TZID and ends with Z; leave one of them out.")
            utc_ms = _read_time(found[2][:-1], "DTSTART")
            return spec_zone, self._known_zone(spec_zone).local_ms(utc_ms)
        self._known_zone(zone)
        return zone, _read_time(found[2], "DTSTART")

    def with_lists(self, rule: Rule, lists: list[str]) -> Rule:
        """Return the rule with the times that RDATE adds and EXDATE takes away."""
        added: set[int] = set()
        removed: set[int] = set()
        days: set[int] = set()
        for line in lists:
            head, _, values = line.partition(":")
            name = re.split(r"[:;]", head, maxsplit=1)[0].upper()
            found = re.fullmatch(
                r"(?i)(?:EXDATE|RDATE)(?:;TZID=([^:;]+)|;VALUE=(DATE(?:-TIME)?))*", head
            )
            if found is None or not values:
                raise _wrong(f"{show(line)}; expected {name};TZID=ZONE:YYYYMMDDTHHMMSS, and lists.")
            for value in values.split(","):
                if name == "EXDATE" and "T" not in value.upper():
                    days.add(_read_time(value.strip(), name) // DAY_MS)
                    continue
                (added if name == "RDATE" else removed).add(
                    self._listed(value.strip(), name, found[1], rule.zone)
                )
        return rule._replace(
            added=tuple(sorted(added)), removed=frozenset(removed), removed_days=frozenset(days)
        )

    def _listed(self, value: str, name: str, own_zone: str | None, zone: str) -> int:
        """Return a listed time as the clock of the rule's zone shows it."""
        where = self._known_zone(zone)
        if value.upper().endswith("Z"):
            if own_zone:
                raise _wrong(f"{name} {show(value)} has a TZID and ends with Z; leave one out.")
            return where.local_ms(_read_time(value[:-1], name))
        local_ms = _read_time(value, name)
        if own_zone is None or own_zone == zone:
            return local_ms
        return where.local_ms(self._known_zone(own_zone).moment_ms(local_ms))

    def _known_zone(self, name: str) -> Zone:
        try:
            return self._data.zone(name)
        except KeyError:
            raise _wrong(
                f"TZID {show(name)} is not a zone of the tz database {self._data.version};"
                " expected a name such as Europe/Paris."
            ) from None

    # --- parts ----------------------------------------------------------------------------------

    def parts(self, text: str, zone: str, start_local_ms: int) -> Rule:
        """Read the parts of a rule."""
        parts = self._split(text)
        frequency = parts.get("FREQ", "")
        if frequency in UNIT_S and self._language <= 3:
            raise _wrong(f"FREQ={frequency} is not taken; use the kind 'interval' or 'cron'.")
        if frequency not in self._frequencies:
            raise _wrong(f"FREQ {show(frequency)}; expected one of {', '.join(self._frequencies)}.")
        rule = Rule(
            frequency=frequency,
            interval=_numbers(parts, "INTERVAL", 1, MAX_INTERVAL, one=True)[0]
            if "INTERVAL" in parts
            else 1,
            limit=_numbers(parts, "COUNT", 1, MAX_COUNT, one=True)[0] if "COUNT" in parts else None,
            until_local_ms=self._until(parts.get("UNTIL"), zone),
            months=mask_of(_numbers(parts, "BYMONTH", 1, 12)),
            month_days=_numbers(parts, "BYMONTHDAY", 1, 31, signed=True),
            year_days=_numbers(parts, "BYYEARDAY", 1, 366, signed=True),
            weekdays=_read_weekdays(parts.get("BYDAY", "")),
            positions=_numbers(parts, "BYSETPOS", 1, 366, signed=True),
            weeks=_numbers(parts, "BYWEEKNO", 1, 53, signed=True),
            week_start=_weekday(parts.get("WKST", "MO")),
            times=_read_times(parts, frequency, start_local_ms),
            names_hours="BYHOUR" in parts,
            start_local_ms=start_local_ms,
            zone=zone,
            added=(),
            removed=frozenset(),
            removed_days=frozenset(),
        )
        _check_parts(rule, self._language)
        return _with_defaults(rule)

    def _split(self, text: str) -> dict[str, str]:
        parts: dict[str, str] = {}
        for part in text.strip().rstrip(";").split(";"):
            name, _, value = part.partition("=")
            name = name.strip().upper()
            if name in self._instead:
                raise _wrong(f"{name} is not taken; {self._instead[name]}.")
            if name not in self._known or not value:
                known = ", ".join(sorted(self._known))
                raise _wrong(f"rule part {show(part)}; expected NAME=VALUE with one of {known}.")
            if name in parts:
                raise _wrong(f"{name} stands twice; give it once.")
            parts[name] = value.strip().upper()
        return parts

    def _until(self, text: str | None, zone: str) -> int | None:
        if text is None:
            return None
        if text.endswith("Z"):
            return self._data.zone(zone).local_ms(_read_time(text[:-1], "UNTIL"))
        local_ms = _read_time(text, "UNTIL")
        return local_ms if "T" in text else local_ms + DAY_MS - 1


def _read_time(text: str, name: str) -> int:
    """Return a date-time, or a date (its midnight), as if it were UTC."""
    found = re.fullmatch(r"(\d{8})(?:T([01]\d|2[0-3])([0-5]\d)([0-5]\d))?", text.upper())
    day = day_of_number(int(found[1])) if found else None
    if found is None or day is None:
        raise _wrong(f"{name} {show(text)}; expected YYYYMMDDTHHMMSS, from 1970 to 2099.")
    hour, minute, second = (int(found[n] or 0) for n in (2, 3, 4))
    return day * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000


def _read_times(parts: dict[str, str], frequency: str, start_local_ms: int) -> TimesOfDay:
    """Return the times of day: what no part gives is the start's, but within a shorter period any.

    So MINUTELY has any hour and minute, and of these the ones that its steps reach (``hours.py``).
    """
    of_day, unit_s = start_local_ms // 1000 % DAY_S, UNIT_S.get(frequency, DAY_S)
    every = (range(24), range(60), range(60))
    starts = (of_day // 3600, of_day // 60 % 60, of_day % 60)
    masks = []
    for (name, top, size), any_one, own in zip(_OF_DAY, every, starts, strict=True):
        given = _numbers(parts, name, 0, top)
        masks.append(mask_of(given or (any_one if size >= unit_s else (own,))))
    return TimesOfDay(*masks)


_OF_DAY: Final = (("BYHOUR", 23, 3_600), ("BYMINUTE", 59, 60), ("BYSECOND", 59, 1))


def _check_parts(rule: Rule, language: int) -> None:
    if rule.limit is not None and rule.until_local_ms is not None:
        raise _wrong("COUNT and UNTIL exclude each other (RFC 5545); give one of them.")
    by_number = any(number for number, _ in rule.weekdays)
    if by_number and rule.frequency not in {"MONTHLY", "YEARLY"}:
        raise _wrong(f"BYDAY with a number and FREQ={rule.frequency}; use MONTHLY or YEARLY.")
    if rule.year_days and rule.frequency in {"DAILY", "WEEKLY", "MONTHLY"}:
        raise _wrong(f"BYYEARDAY and FREQ={rule.frequency}; use YEARLY.")
    if rule.weeks and rule.frequency != "YEARLY":
        raise _wrong(f"BYWEEKNO and FREQ={rule.frequency} (RFC 5545 forbids it); use YEARLY.")
    if rule.weeks and by_number:
        raise _wrong("BYWEEKNO and BYDAY with a number (RFC 5545 forbids it); leave it out.")
    if rule.month_days and rule.frequency == "WEEKLY":
        raise _wrong("BYMONTHDAY and FREQ=WEEKLY (RFC 5545 forbids it); use MONTHLY.")
    if rule.positions and rule.times.count > 1 and language <= 3:
        raise _wrong("BYSETPOS wants one time of day here; give one BYHOUR, BYMINUTE, BYSECOND.")


def _with_defaults(rule: Rule) -> Rule:
    """Return the rule with what the RFC takes from the start where no BY part names days."""
    day = rule.start_local_ms // DAY_MS
    _, month, of_month = date_of(day)
    if rule.weekdays or rule.month_days or rule.year_days:
        return rule
    if rule.frequency == "WEEKLY" or rule.weeks:
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
        *("BYYEARDAY", "BYWEEKNO", "BYDAY", "BYHOUR", "BYMINUTE", "BYSECOND"),
    ]
)
