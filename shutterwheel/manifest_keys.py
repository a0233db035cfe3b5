"""The keys of a schedule in a manifest: when it is due, and how its photos are made.

**When**: one of ``every`` (with ``phase``), ``cron``, ``rrule``, ``sun`` or ``at``, and beside it::

    zone: Europe/Paris            # of cron, rrule and exclude; may stand under defaults
    also: [{at: …}, {cron: …}]    # further times
    exclude:
      - 2026-12-25                          # a day
      - 2026-12-24..2027-01-02              # days, both included
      - holidays                            # a calendar of this file
      - {weekdays: "sat,sun", hours: "22:00-06:00"}
    from: 2026-06-01T00:00:00Z    # no time before it
    until: 2026-09-01T00:00:00Z   # none at or after it
    count: 100                    # so many times
    daylight: sunrise-30m..sunset # only within this window, at the device's place

A calendar (``calendars: {holidays: [2026-12-25, …]}``) is a list of days. It is resolved here: the
schedule holds the days, and the calendar's name for people.

What values may be is not written down here: the timing wheel's own rules
(``streams.core.schedule``) judge them, and each refusal is said at the key that it is about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.clients import events
from connectors.clients.values import moment_ms
from connectors.images.request import parse as parse_image
from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
from shutterwheel.yaml_nodes import NodeReader, is_mapping, pairs_of, show
from streams.core.recurrence import ExpressionError, check_spec
from streams.core.recurrence.gates import read_exclusion

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

    from streams.core.refusal import Refusal

TERMS: Final = events.KINDS
"""Keys that are a source of times, and their kinds."""
TERM: Final = (*TERMS, "phase")
NARROWING: Final = ("also", "exclude", "from", "until", "count", "daylight")
SPEC: Final = (*TERM, "zone", *NARROWING)
"""Keys that say when."""
EXCLUSION: Final = ("dates", "weekdays", "hours", "calendar")
DURATIONS: Final = {
    "lead": "lead_ms",
    "timeout": "capture_timeout_ms",
    "catch_up": "catch_up_ms",
    "spread": "spread_ms",
    "jitter": "jitter_ms",
    "tolerance": "tolerance_ms",
    "deadline": "deadline_ms",
    "keep": "keep_ms",
}
NUMBERS: Final = {
    "priority": "priority",
    "pause_after_failures": "pause_after_failures",
}
WORDS: Final = {
    "misfire": ("skip", "latest", "earliest", "all"),
    "overlap": ("skip", "buffer_one", "allow"),
    "quality": ("off", "mark", "drop", "retry"),
}
"""Keys that are one of a few words; the fields have the same names."""
POLICY: Final = (*DURATIONS, *NUMBERS, *WORDS, "image")
"""Keys that say how; they may stand under ``defaults``, too."""
DEFAULTS: Final = (*POLICY, "zone")

DAYS_PATTERN: Final = r"\d{4}-\d{2}-\d{2}(\.\.\d{4}-\d{2}-\d{2})?"
A_DAY: Final = "a day (2026-12-25) or days (2026-12-24..2027-01-02)"
MAX_CALENDAR_DAYS: Final = 4_000
"""Of one list of days: eleven years of every day."""

KEY_OF_FIELD: Final = {
    "schedule_id": "id",
    "from_ms": "from",
    "until_ms": "until",
    "max_count": "count",
    "every_ms": "every",
    "phase_ms": "phase",
    "at_ms": "at",
    **{name: key for key, name in DURATIONS.items()},
}
"""What a field of the records is called here, where that is another name."""


@dataclass(slots=True)
class ScheduleKeys(NodeReader):
    """Reads the keys of schedules."""

    calendars: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The days of each calendar of the file."""

    def judge(self, refusal: Refusal | None, part: dict[str, Node], node: Node) -> None:
        """Note what the timing wheel would refuse, at the key that it is about."""
        if refusal is None:
            return
        reason = refusal.reason
        if refusal.code == "bad_until_ms" and {"from", "until"} <= part.keys():
            begin, end = (show(part[key]) for key in ("from", "until"))
            reason = f"until {end} is not after from {begin}; the window is empty."
        self.wrong(part.get(_key_of(refusal.code, part), node), reason)

    # --- when -----------------------------------------------------------------------------------

    def spec(
        self, node: Node, part: dict[str, Node], defaults: dict[str, Node]
    ) -> ScheduleSpec | None:
        """Return when a schedule is due."""
        term = self.term(node, part)
        if term is None:
            return None
        also = self.also(part["also"]) if "also" in part else []
        exclude = self.exclusions(part["exclude"]) if "exclude" in part else ()
        zone = part.get("zone")
        if zone is None and (
            exclude or any(one.expression for one in (term, *(other for other, _ in also)))
        ):
            zone = defaults.get("zone")
        found = ScheduleSpec(
            kind=term.kind,
            every_ms=term.every_ms,
            phase_ms=term.phase_ms,
            at_ms=term.at_ms,
            expression=term.expression,
            zone="" if zone is None else self.text(zone, "zone") or "",
            also=tuple(one for one, _ in also),
            exclude=exclude,
            from_ms=self.moment(part["from"], "from") if "from" in part else None,
            until_ms=self.moment(part["until"], "until") if "until" in part else None,
            max_count=self.number(part["count"], "count") if "count" in part else None,
            daylight=self.text(part["daylight"], "daylight") or "" if "daylight" in part else "",
        )
        self.judge_also(found, also)
        return found

    def judge_also(self, spec: ScheduleSpec, also: list[tuple[Term, Node]]) -> None:
        """Note what is wrong with a further time where that time stands, not at the whole list."""
        for term, node in also:
            alone = ScheduleSpec(
                term.kind,
                term.every_ms,
                term.phase_ms,
                term.at_ms,
                term.expression,
                zone=spec.zone,
                from_ms=spec.from_ms,
            )
            refusal = check_spec(alone)
            if refusal is not None and refusal.code not in {"bad_zone", "never_due"}:
                self.judge(refusal, self.keys_of(node), node)

    def term(self, node: Node, part: dict[str, Node]) -> Term | None:
        """Return the one source of times of a mapping."""
        given = [key for key in TERMS if key in part]
        if len(given) != 1:
            found = f", not {' and '.join(given)}" if given else ""
            self.wrong(
                node,
                "expected one of 'every: 5s', 'cron: \"0 6 * * *\"', 'rrule: FREQ=…', "
                f"'sun: sunrise+30m' or 'at: 2026-12-01T08:00:00+01:00'{found}.",
            )
            return None
        key = given[0]
        if "phase" in part and key != "every":
            self.wrong(part["phase"], "'phase' belongs to 'every'; other times have none.")
        if key == "every":
            every_ms = self.duration(part["every"], "every")
            phase_ms = self.duration(part["phase"], "phase") if "phase" in part else 0
            return Term("interval", every_ms=every_ms, phase_ms=phase_ms or 0)
        if key == "at":
            at_ms = self.moment(part["at"], "at")
            return None if at_ms is None else Term("once", at_ms=at_ms)
        text = self.text(part[key], key)
        return None if text is None else Term(TERMS[key], expression=text.strip())

    def also(self, node: Node) -> list[tuple[Term, Node]]:
        """Read further sources of times, and where each stands."""
        found = []
        for item in self.sequence(node, "also"):
            before = len(self.findings)
            part = self.mapping(item, "a time", TERM)
            if part is not None and len(self.findings) == before:
                term = self.term(item, part)
                found += [] if term is None else [(term, item)]
        return found

    def exclusions(self, node: Node) -> tuple[Exclusion, ...]:
        """Read what is left out; single days are gathered into one exclusion."""
        days: list[int] = []
        found: list[Exclusion] = []
        for item in self.sequence(node, "exclude"):
            if is_mapping(item):
                part = self.mapping(item, "an exclusion", EXCLUSION) or {}
                found += [] if not part else [self.exclusion(item, part)]
                continue
            text = self.text(item, "exclude")
            if text is None:
                continue
            if text in self.calendars:
                found.append(Exclusion(name=text, dates=self.calendars[text]))
            else:
                days += self.days(item, f"{A_DAY}, or a calendar of this file")
        own = [Exclusion(dates=_in_order(days))] if days else []
        return (*own, *found)

    def exclusion(self, node: Node, part: dict[str, Node]) -> Exclusion:
        """Read one exclusion that is a mapping: what it names must all fit."""
        before = len(self.findings)
        name = ""
        days: tuple[int, ...] = ()
        if "calendar" in part:
            name = self.text(part["calendar"], "calendar") or ""
            days = self.calendars.get(name, ())
            if name not in self.calendars:
                self.wrong(part["calendar"], self._no_calendar(part["calendar"]))
        if "dates" in part:
            days = _in_order([*days, *self.day_list(part["dates"], "dates")])
        found = Exclusion(
            name=name,
            dates=days,
            weekdays=self.text(part["weekdays"], "weekdays") or "" if "weekdays" in part else "",
            hours=self.text(part["hours"], "hours") or "" if "hours" in part else "",
        )
        for key in ("weekdays", "hours"):
            if key in part and len(self.findings) == before:
                one = msgspec.structs.replace(Exclusion(), **{key: getattr(found, key)})
                try:
                    read_exclusion(one)
                except ExpressionError as error:
                    self.wrong(part[key], str(error))
        if not (days or found.weekdays or found.hours) and len(self.findings) == before:
            self.wrong(node, "the exclusion names nothing; it would leave nothing out.")
        return found

    def read_calendars(self, node: Node) -> None:
        """Read the calendars of the file."""
        for name, days in (self.mapping(node, "calendars", None) or {}).items():
            self.calendars[name] = _in_order(self.day_list(days, f"calendar {name}"))

    def day_list(self, node: Node, what: str) -> list[int]:
        """Read a list of days."""
        found = [day for item in self.sequence(node, what) for day in self.days(item, A_DAY)]
        if len(found) > MAX_CALENDAR_DAYS:
            self.wrong(node, f"{what} has {len(found)} days; at most {MAX_CALENDAR_DAYS}.")
            return []
        return found

    def days(self, node: Node, expected: str) -> list[int]:
        """Read a day, or days from one to another, as numbers such as 20261225."""
        text = self.text(node, "a day")
        if text is None:
            return []
        try:
            begin, end = _first_and_last(text)
        except ValueError:
            self.wrong(node, f"{show(node)} is no day; expected {expected}.")
            return []
        count = (end - begin).days + 1
        if not 1 <= count <= MAX_CALENDAR_DAYS:
            self.wrong(node, f"{show(node)} are {count} days; expected 1 to {MAX_CALENDAR_DAYS}.")
            return []
        days = (begin + timedelta(days=n) for n in range(count))
        return [day.year * 10_000 + day.month * 100 + day.day for day in days]

    def _no_calendar(self, node: Node) -> str:
        known = ", ".join(self.calendars) or "none; define one under 'calendars:'"
        return f"there is no calendar {show(node)}; known: {known}."

    # --- how ------------------------------------------------------------------------------------

    def policy(self, part: dict[str, Node]) -> CapturePolicy:
        """Return how photos are made."""
        found: dict[str, Any] = {}
        for key, name in DURATIONS.items():
            value = self.duration(part[key], key) if key in part else None
            if value is not None:
                found[name] = value
        for key, name in NUMBERS.items():
            if key in part:
                found[name] = self.number(part[key], key)
        for key, words in WORDS.items():
            word = self.word(part[key], key, words) if key in part else None
            if word is not None:
                found[key] = word
        if "image" in part:
            found["image"] = self.image(part["image"])
        return msgspec.structs.replace(CapturePolicy(), **found)

    def image(self, node: Node) -> str:
        """Return the words that say what is done with a photo's bytes."""
        text = self.text(node, "image") or ""
        self.convert(node, lambda: parse_image(text))
        return text

    def keys_of(self, node: Node) -> dict[str, Node]:
        """Return a mapping's values by key, as they are."""
        return {str(key.value): value for key, value in pairs_of(node)}

    def moment(self, node: Node, what: str) -> int | None:
        """Return a point in time in UTC milliseconds."""
        text = self.text(node, what)
        return None if text is None else self.convert(node, lambda: moment_ms(text, what))


def _key_of(code: str, part: dict[str, Node]) -> str:
    """Return which key of a schedule a refusal is about."""
    name = code.removeprefix("bad_")
    if name == "expression":
        return next((key for key in ("cron", "rrule", "sun") if key in part), "also")
    if name in {"never_due", "unknown_kind"}:
        return next((key for key in TERMS if key in part), "id")
    return KEY_OF_FIELD.get(name, name)


def _first_and_last(text: str) -> tuple[date, date]:
    """Return the first and the last of the days that a text names; ValueError if it names none."""
    if not re.fullmatch(DAYS_PATTERN, text):
        raise ValueError
    first, _, last = text.partition("..")
    return date.fromisoformat(first), date.fromisoformat(last or first)


def _in_order(days: list[int]) -> tuple[int, ...]:
    return tuple(sorted(set(days)))
