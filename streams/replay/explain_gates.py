"""Why a schedule is not due at a time: what would have to go for it to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from schemas.records import CapturePolicy, ScheduleSpec
from streams.core.recurrence import ExpressionError, Recurrence, describe, needs_place, zones
from streams.core.times import Times
from streams.replay.explain_reasons import Code
from streams.replay.explain_story import Due

if TYPE_CHECKING:
    from schemas.records import Exclusion
    from streams.core.recurrence import Place
    from streams.replay.explain_types import Ask


class NotDue(NamedTuple):
    """Why there is no due time within the window."""

    code: Code
    text: str
    would_be: bool
    """It would be due, but for this."""


def why_not_due(due: Due, place: Place | None, ask: Ask) -> NotDue:
    """Say why a version of a schedule has no time within the window."""
    spec, show = due.spec, ask.show
    if due.recurrence.lacks_place:
        text = "it hangs on the sun, and its device's place (latitude, longitude) was not known"
        return NotDue(Code.PLACE_UNKNOWN, text, would_be=True)
    if spec.from_ms is not None and ask.at_ms + ask.window_ms < spec.from_ms:
        return NotDue(
            Code.NOT_VALID_YET, f"it is valid from {show(spec.from_ms)} on", would_be=False
        )
    if spec.until_ms is not None and ask.at_ms - ask.window_ms >= spec.until_ms:
        return NotDue(
            Code.VALIDITY_OVER, f"it was valid until {show(spec.until_ms)}", would_be=False
        )
    if due.ends_ms is not None and ask.at_ms - ask.window_ms >= due.ends_ms:
        text = f"it was to be due {spec.max_count} times, the last at {show(due.ends_ms - 1)}"
        return NotDue(Code.COUNT_REACHED, text, would_be=False)
    without = msgspec.structs.replace
    if spec.exclude and times_of(without(spec, exclude=()), due.policy, place, ask):
        return NotDue(Code.EXCLUDED, _excluded(due, place, ask), would_be=True)
    if spec.daylight and times_of(without(spec, daylight=""), due.policy, place, ask):
        text = f"its daylight window {spec.daylight} was not open then{_window(due, ask)}"
        return NotDue(Code.OUTSIDE_DAYLIGHT, text, would_be=True)
    if spec.exclude and spec.daylight:
        both = without(spec, exclude=(), daylight="")
        if times_of(both, due.policy, place, ask):
            text = f"{_excluded(due, place, ask)}, and it was outside of {spec.daylight}"
            return NotDue(Code.EXCLUDED, text, would_be=True)
    return NotDue(Code.NOT_DUE, _next_to(due, ask), would_be=False)


def ungated(due: Due, place: Place | None, ask: Ask) -> list[tuple[int, int]]:
    """Return the times near the moment that exclusions and daylight leave out, or might."""
    if not due.spec.exclude and not due.spec.daylight:
        return []
    bare = msgspec.structs.replace(due.spec, exclude=(), daylight="")
    return times_of(bare, due.policy, place, ask)


def times_of(
    spec: ScheduleSpec, policy: CapturePolicy, place: Place | None, ask: Ask
) -> list[tuple[int, int]]:
    """Return the (nominal, scheduled) times of any spec near the moment; none if it is none."""
    try:
        recurrence = Recurrence(spec, place if needs_place(spec) else None)
    except ExpressionError:
        return []
    times = Times(recurrence, policy, ask.device_id)
    return Due(spec, policy, recurrence, times, None).near(ask.at_ms, ask.window_ms)


def _excluded(due: Due, place: Place | None, ask: Ask) -> str:
    """Return which exclusions are in the way."""
    exclude = due.spec.exclude
    found: list[str] = []
    for one in exclude:
        alone = msgspec.structs.replace(due.spec, exclude=(one,), daylight="")
        if not times_of(alone, due.policy, place, ask):
            found.append(_named(due, one))
    return "it is left out by " + " and by ".join(found or [_named(due, one) for one in exclude])


def _named(due: Due, exclusion: Exclusion) -> str:
    zone = due.spec.zone
    alone = ScheduleSpec("interval", every_ms=60_000, zone=zone, exclude=(exclusion,))
    words = describe(alone, CapturePolicy()).removesuffix(f", {zone or zones.UTC}")
    return words.removeprefix("every minute, ").replace("except ", "its exclusion ", 1)


def _window(due: Due, ask: Ask) -> str:
    """Return the times next to a moment at which the window is open."""
    after = due.times.at_or_after(ask.at_ms)
    before = due.times.before(ask.at_ms)
    parts = []
    if before is not None:
        parts.append(f"last due before it: {ask.show(before)}")
    if after is not None:
        parts.append(f"next: {ask.show(after)}")
    return f" ({'; '.join(parts)})" if parts else ""


def _next_to(due: Due, ask: Ask) -> str:
    after, before = due.times.at_or_after(ask.at_ms), due.times.before(ask.at_ms)
    parts = [
        f"the time before it is {ask.show(before)}"
        if before is not None
        else "no time is before it",
        f"the next is {ask.show(after)}" if after is not None else "no time is after it",
    ]
    return "it was not due then: " + ", ".join(parts)
