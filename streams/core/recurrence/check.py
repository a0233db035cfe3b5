"""Which specs are refused, each with the field, what was found, and what is expected."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from streams.core import ids
from streams.core.recurrence.civil import DAY_MS
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.gates import (
    MAX_DATES,
    MAX_EXCLUSIONS,
    read_daylight,
    read_exclusion,
)
from streams.core.recurrence.recurrence import compile_spec, needs_place
from streams.core.recurrence.rule_text import LANGUAGE
from streams.core.recurrence.rule_text import MAX_COUNT as MAX_WALKED
from streams.core.recurrence.terms import TERMS, Setting, find_zone
from streams.core.recurrence.zones import PINNED, TzData
from streams.core.refusal import Refusal, check_range, show

if TYPE_CHECKING:
    from schemas.records import ScheduleSpec, Term

MIN_EVERY_MS: Final = 100
"""The slot of the wheel."""
MAX_EVERY_MS: Final = 366 * DAY_MS
HORIZON_MS: Final = 3_653 * DAY_MS
"""How far ahead of now a single time may lie: ten years."""
MAX_TERMS: Final = 16
"""In one schedule, its own included."""
MAX_COUNT: Final = 1_000_000_000
"""Of a plain interval; of others ``MAX_WALKED``, since they are walked through."""
_CHECKED: Final = 32_768


def check_at(at_ms: int, name: str = "at_ms") -> Refusal | None:
    """Check a point in time."""
    return check_range(name, at_ms, 0, ids.MAX_TIME_MS - HORIZON_MS, " UTC milliseconds")


@lru_cache(maxsize=_CHECKED)
def check_spec(
    spec: ScheduleSpec, data: TzData = PINNED, language: int = LANGUAGE
) -> Refusal | None:
    """Return why a spec cannot be, whatever the policy; null if it can. Remembered.

    By a version of the tz data, and by the language of a version of the fold's rules.
    """
    try:
        find_zone(spec.zone, data=data)
        setting = Setting(spec.zone, spec.from_ms, None, data, language)
        refusal = (
            _check_fields(spec)
            or _check_terms(spec, setting)
            or _check_bounds(spec)
            or _check_gates(spec)
        )
        return refusal or _check_count(spec) or _check_ever(spec, data, language)
    except ExpressionError as error:
        return error.refusal()


def _check_fields(term: ScheduleSpec | Term) -> Refusal | None:
    """Check that a term has the fields of its kind, and no other."""
    kind = term.kind
    if kind not in TERMS:
        known = ", ".join(repr(name) for name in TERMS)
        return Refusal(
            "unknown_kind", f"schedule kind {show(kind)} is not known; use one of {known}."
        )
    a_kind = f"{'an' if kind == 'interval' else 'a'} {kind} schedule"
    if kind == "interval":
        if term.every_ms is None:
            return Refusal("bad_every_ms", f"{a_kind} has no every_ms; give its period.")
    elif term.every_ms is not None or term.phase_ms:
        return Refusal(
            "bad_every_ms", f"{a_kind} has a period or phase; leave it out or use 'interval'."
        )
    if kind == "once":
        if term.at_ms is None:
            return Refusal("bad_at_ms", f"{a_kind} has no at_ms; give its time.")
    elif term.at_ms is not None:
        return Refusal("bad_at_ms", f"{a_kind} has at_ms {term.at_ms}; leave it out or use 'once'.")
    if kind in {"interval", "once"} and term.expression:
        return Refusal(
            "bad_expression",
            f"{a_kind} has the expression {show(term.expression)}; leave it out or use 'cron',"
            " 'calendar' or 'sun'.",
        )
    if kind in {"cron", "calendar", "sun"} and not term.expression.strip():
        return Refusal("bad_expression", f"{a_kind} has no expression; give one.")
    if term.every_ms is not None:
        every_ms = term.every_ms
        return check_range("every_ms", every_ms, MIN_EVERY_MS, MAX_EVERY_MS) or check_range(
            "phase_ms", term.phase_ms, 0, every_ms - 1, " for this every_ms"
        )
    return check_at(term.at_ms) if term.at_ms is not None else None


def _check_terms(spec: ScheduleSpec, setting: Setting) -> Refusal | None:
    if len(spec.also) >= MAX_TERMS:
        return Refusal(
            "bad_also",
            f"the schedule has {len(spec.also)} further terms; at most {MAX_TERMS - 1}.",
        )
    TERMS[spec.kind](spec, setting)
    for number, term in enumerate(spec.also, 1):
        refusal = _check_fields(term)
        if refusal is None:
            try:
                TERMS[term.kind](term, setting)
            except ExpressionError as error:
                refusal = error.refusal()
        if refusal is not None:
            return Refusal("bad_also", f"further term {number}: {refusal.reason}")
    return None


def _check_bounds(spec: ScheduleSpec) -> Refusal | None:
    for name, value in (("from_ms", spec.from_ms), ("until_ms", spec.until_ms)):
        refusal = None if value is None else check_at(value, name)
        if refusal is not None:
            return refusal
    if spec.from_ms is not None and spec.until_ms is not None and spec.until_ms <= spec.from_ms:
        return Refusal(
            "bad_until_ms",
            f"until_ms {spec.until_ms} is not after from_ms {spec.from_ms}; the window is empty.",
        )
    return None


def _check_gates(spec: ScheduleSpec) -> Refusal | None:
    if len(spec.exclude) > MAX_EXCLUSIONS:
        return Refusal(
            "bad_exclude", f"{len(spec.exclude)} exclusions; at most {MAX_EXCLUSIONS} are taken."
        )
    if sum(len(exclusion.dates) for exclusion in spec.exclude) > MAX_DATES:
        return Refusal("bad_exclude", f"more than {MAX_DATES} dates are excluded; leave some out.")
    for exclusion in spec.exclude:
        read_exclusion(exclusion)
    if spec.daylight:
        read_daylight(spec.daylight)
    return None


def _check_count(spec: ScheduleSpec) -> Refusal | None:
    if spec.max_count is None:
        return None
    plain = spec.kind == "interval" and not (
        spec.also or spec.exclude or spec.daylight or spec.from_ms or spec.until_ms
    )
    why = "" if plain else " for what is not a plain interval"
    return check_range("max_count", spec.max_count, 1, MAX_COUNT if plain else MAX_WALKED, why)


def _check_ever(spec: ScheduleSpec, data: TzData, language: int) -> Refusal | None:
    """Refuse what is never due; a single time and the sun are the fold's and the place's."""
    if spec.kind == "once" or needs_place(spec):
        return None
    if compile_spec(spec, data=data).find_at_or_after(0) is not None:
        return None
    if spec.exclude or spec.until_ms is not None:
        return Refusal(
            "never_due",
            "the schedule is never due: its exclusions and its window of validity leave no time;"
            " narrow the exclusions or widen the window.",
        )
    if spec.kind == "calendar" and language > 3:
        return Refusal(
            "never_due",
            f"the schedule is never due: no time up to 2100 matches {show(spec.expression)}; its"
            " parts exclude each other, or what it counts from.",
        )
    return Refusal(
        "never_due",
        f"the schedule is never due: no day up to 2100 matches {show(spec.expression)}; correct"
        " the days and months.",
    )
