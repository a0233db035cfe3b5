"""Sorts what differs between our fires and a peer's into classes, each with its explanation.

Two lists of fires are compared within the time that both cover. A time that only one of them has is
a difference, and belongs to the first class whose condition it meets; what meets none is
``unexplained`` and makes the bench fail.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.records import ScheduleSpec
from streams.core.recurrence import compile_spec
from streams.core.recurrence.civil import DAY_MS, END_MS, date_of
from streams.core.recurrence.zones import zone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.schedules.corpus import Question
    from benchmarks.schedules.peers import Answer

UNEXPLAINED: Final = "unexplained"
_FAR_MS: Final = 1 << 62

CLASSES: Final = {
    "horizon": "stated rule: ours ends at 2100 (ids end in 2095); the peer goes on",
    "tz-data": "other data: the Java runtime's tz database is older than the pinned one",
    "gap": (
        "stated rule: a named time that does not exist is due at the moment after the gap, once."
        " Quartz leaves it out; APScheduler and dateutil move it by the length of the gap; cronsim"
        " leaves it out where the minute or hour begins with *; croniter moves it as ours"
    ),
    "overlap": (
        "stated rule: a named time that comes twice is due the first time, a line with every hour"
        " both times. dateutil takes one for either, Quartz the second only for either; croniter"
        " takes both; cronsim takes both where the minute or hour begins with *; APScheduler's"
        " trigger gives times of the repeated hour again and again"
    ),
    "crossed-change": (
        "bug of theirs: the first time after a search that crossed a change of the clock is lost"
        " (APScheduler, cronsim), or the rest of a day that the change begins (Quartz)"
    ),
    "weekday-hour": (
        "bugs of theirs: asked after the first hour of a day, Quartz goes on to a W day without"
        " going back to the first hour; of a W day that lies after its number (15W on Monday the"
        " 16th) it has the first time only"
    ),
    "both-days": (
        "stated rule: with the day of the month and of the week restricted, either is enough (Vixie"
        " cron); APScheduler wants both"
    ),
    "star-step": (
        "stated rule: a day field that begins with * wants both to match (Vixie cron, cronsim);"
        " croniter takes */2 as a restriction, of which either is enough"
    ),
    "special-days": (
        "stated rule: with the day of the month and of the week restricted, either is enough;"
        " croniter forgets the day of the month beside fri#2, and wants both beside 15W"
    ),
    "week-day": (
        "stated rule: BYWEEKNO without BYDAY has the weekday of the start (RFC 5545: what is not"
        " said is the start's); dateutil takes all seven days"
    ),
    "first-week": (
        "bug of theirs: BYSETPOS in the week of the start picks among the days from the start on,"
        " not among those of the week (dateutil)"
    ),
    "last-week": (
        "bug of theirs: for days of January in the last week of the year before dateutil counts"
        " that year's weeks wrong (2 January 2039 is in week 52 by ISO 8601, not 53)"
    ),
    UNEXPLAINED: "not explained",
}
"""In words, why each class differs."""


def our_fires(question: Question, fires: int) -> list[int]:
    """Return our fires."""
    kind = "calendar" if question.line.startswith("DTSTART") else "cron"
    spec = ScheduleSpec(kind, expression=question.line, zone=question.zone)
    recurrence = compile_spec(spec)
    found: list[int] = []
    time_ms: int | None = question.start_ms
    while len(found) < fires:
        time_ms = recurrence.at_or_after((time_ms or 0) + 1)
        if time_ms is None:
            break
        found.append(time_ms)
    return found


class Difference(NamedTuple):
    """A time that only one side has."""

    system: str
    question: Question
    time_ms: int
    is_ours: bool
    before_ms: int
    """The peer's last fire before it, or the start."""


def differences(
    system: str, question: Question, mine: Sequence[int], theirs: Sequence[int], fires: int
) -> tuple[int, list[Difference]]:
    """Return how many times were compared, and those that only one side has."""
    limit = min((found[-1] for found in (mine, theirs) if len(found) == fires), default=_FAR_MS)
    ours = {time for time in mine if time <= limit}
    its = {time for time in theirs if time <= limit}
    order = sorted(its)
    found = []
    for time_ms in sorted(ours ^ its):
        at = bisect_left(order, time_ms) - 1
        before_ms = order[at] if at >= 0 else question.start_ms
        found.append(Difference(system, question, time_ms, time_ms in ours, before_ms))
    return len(ours | its), found


def classify(one: Difference, offsets: Mapping[int, int]) -> str:
    """Return the class of a difference; ``offsets`` are the peer's own, where it told them."""
    where = zone(one.question.zone)
    at = where.segment(one.time_ms)
    if one.time_ms >= END_MS:
        return "horizon"
    if offsets.get(one.time_ms, where.offsets[at]) != where.offsets[at]:
        return "tz-data"
    for change in (at, at + 1):
        if 0 < change < len(where.starts):
            length = where.offsets[change] - where.offsets[change - 1]
            start = where.starts[change]
            if start - abs(length) <= one.time_ms < start + abs(length):
                return "gap" if length > 0 else "overlap"
    if one.system == "dateutil":
        return _class_of_rule(one)
    day, _month, weekday = one.question.line.split()[-3:]
    restricted = day != "*" and weekday != "*"
    if restricted and one.system == "apscheduler":
        return "both-days"
    if restricted and one.system == "croniter" and ("#" in weekday or "W" in day):
        return "special-days"
    if restricted and one.system == "croniter" and day.startswith("*"):
        return "star-step"
    if one.is_ours and one.system == "quartz" and "W" in day:
        return "weekday-hour"
    crossed = where.segment(one.before_ms) != at
    near = one.time_ms < where.starts[at] + DAY_MS or one.system in {"apscheduler", "cronsim"}
    if crossed and near and one.is_ours and one.system != "croniter":
        return "crossed-change"
    return UNEXPLAINED


def _class_of_rule(one: Difference) -> str:
    rule = one.question.line
    if "BYWEEKNO" in rule and "BYDAY" not in rule:
        return "week-day"
    local_ms = zone(one.question.zone).local_ms(one.time_ms)
    if "BYWEEKNO" in rule and date_of(local_ms // DAY_MS)[1:] < (1, 4):
        return "last-week"
    in_first = one.time_ms < one.question.start_ms + 7 * DAY_MS
    if "FREQ=WEEKLY" in rule and "BYSETPOS" in rule and in_first:
        return "first-week"
    return UNEXPLAINED


@dataclass(slots=True)
class Tally:
    """How one peer compares."""

    system: str
    asked: int = 0
    refused: int = 0
    """Questions whose line it does not take."""
    compared: int = 0
    """Times that either has, within what both lists cover."""
    classes: Counter[str] = field(default_factory=Counter)
    """Differing times by class."""
    examples: dict[str, Difference] = field(default_factory=dict)
    """The first of each class."""

    def add(
        self,
        question: Question,
        mine: Sequence[int],
        theirs: Answer,
        fires: int,
        offsets: Mapping[int, int],
    ) -> None:
        """Compare one answer."""
        self.asked += 1
        if isinstance(theirs, str):
            self.refused += 1
            return
        compared, found = differences(self.system, question, mine, theirs, fires)
        self.compared += compared
        for one in found:
            name = classify(one, offsets)
            self.classes[name] += 1
            self.examples.setdefault(name, one)
