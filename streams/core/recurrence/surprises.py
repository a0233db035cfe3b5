"""What may surprise in a schedule that is valid: said when it is applied, in words.

A warning is about what the *times* do in the year that follows, not about how they are written: the
schedule is evaluated as it would fire. At most ``MAX_LOOKED_AT`` times and ``MAX_CHANGES`` changes
of the clock are looked at, so a warning can be missing for what comes rarely and late, and the cost
is bounded: some 10 ms.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from streams.core.recurrence.civil import (
    DAY_MS,
    END_MS,
    clock_text,
    day_text,
    duration_text,
    month_length,
)
from streams.core.recurrence.cron import read_line
from streams.core.recurrence.hours import Either
from streams.core.recurrence.recurrence import Recurrence
from streams.core.recurrence.sun import SunTimes, event_ms
from streams.core.recurrence.wall import WallClock, bits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import CapturePolicy, ScheduleSpec
    from streams.core.recurrence.sun import Place

LOOK_AHEAD_MS: Final = 366 * DAY_MS
MAX_LOOKED_AT: Final = 1_000
MAX_CHANGES: Final = 4
"""Of the clock, in the year ahead: two as a rule, four in Morocco."""
LONG_GAP_MS: Final = 400 * DAY_MS


def warnings(
    spec: ScheduleSpec, policy: CapturePolicy, place: Place | None, now_ms: int
) -> list[str]:
    """Return what may surprise in a valid schedule, a sentence each; empty: nothing found.

    ``now_ms`` is when it would begin. Raises ``ExpressionError`` for a spec that ``check_spec``
    refuses.
    """
    recurrence = Recurrence(spec, place)  # its own: what is shared belongs to another thread
    found: list[str] = []
    if recurrence.lacks_place:
        found.append(
            "It hangs on the sun, and the device's place is not known: what does so is never due"
            " until the device's profile has a latitude and longitude."
        )
    found += _emptiness(recurrence, now_ms)
    if recurrence.at_or_after(now_ms) is None and not recurrence.lacks_place:
        return found  # what its times would do is of no interest
    found += _closeness(recurrence, policy, now_ms)
    for term in recurrence.terms:
        for clock in term.parts if isinstance(term, Either) else (term,):
            if isinstance(clock, WallClock):
                found += _clock_changes(clock, now_ms, spec.until_ms)
        if isinstance(term, SunTimes):
            found += _polar(term, now_ms)
    for kind, expression in (
        (spec.kind, spec.expression),
        *((term.kind, term.expression) for term in spec.also),
    ):
        if kind == "cron":
            found += _cron_traps(expression)
    return list(dict.fromkeys(found))


def _emptiness(recurrence: Recurrence, now_ms: int) -> Iterator[str]:
    """Say that nothing comes, or not for long."""
    first = recurrence.at_or_after(now_ms)
    if first is None:
        if recurrence.lacks_place:
            return
        if recurrence.spec.until_ms is not None and recurrence.spec.until_ms <= now_ms:
            yield "It is never due: its window of validity is over."
        elif recurrence.spec.daylight or recurrence.spec.exclude:
            yield "It is never due from now on: what it excludes leaves no time."
        else:
            yield "It is never due from now on: its last time is over."
    elif first - now_ms > LONG_GAP_MS:
        yield f"It is not due for {duration_text((first - now_ms) // DAY_MS * DAY_MS)} from now."


def _closeness(recurrence: Recurrence, policy: CapturePolicy, now_ms: int) -> Iterator[str]:
    """Say that captures come closer than one takes."""
    if recurrence.period_ms is not None:
        least: int | None = recurrence.period_ms
    else:
        times: list[int] = []
        for time_ms in recurrence.between(now_ms, now_ms + LOOK_AHEAD_MS):
            times.append(time_ms)
            if len(times) == MAX_LOOKED_AT:
                break
        least = min((late - early for early, late in pairwise(times)), default=None)
    if least is not None and least < policy.capture_timeout_ms:
        yield (
            f"Two captures come as close as {duration_text(least)}, less than the"
            f" {duration_text(policy.capture_timeout_ms)} that one may take: the next can be due"
            " while the last still runs."
        )
    deadline_ms: int | None = getattr(policy, "deadline_ms", None)
    for name, wanted_ms in (("deadline", deadline_ms), ("catch-up window", policy.catch_up_ms)):
        if least is not None and wanted_ms is not None and least < wanted_ms:
            yield (
                f"The {name} of {duration_text(wanted_ms)} is longer than the"
                f" {duration_text(least)} to the next time: a late photo can be taken when its"
                " successor is due already."
            )


def _clock_changes(term: WallClock, now_ms: int, until_ms: int | None) -> Iterator[str]:
    """Say which times the next changes of the clock leap over or show twice."""
    end_ms = min(now_ms + LOOK_AHEAD_MS, until_ms or END_MS)
    zone = term.zone
    first = zone.segment(now_ms) + 1
    for at in range(first, min(first + MAX_CHANGES, len(zone.starts))):
        start_ms, before, after = zone.starts[at], zone.offsets[at - 1], zone.offsets[at]
        if start_ms > end_ms:
            return
        low, high = sorted((start_ms + before, start_ms + after))
        local_ms = term.local_at_or_after(low)
        if low == high or local_ms is None or local_ms >= high:
            continue
        times = _times_between(term, low, high)
        day = day_text(low // DAY_MS)
        if term.real_time:
            continue  # it goes on in real time: nothing is lost or moved
        if after > before:
            yield (
                f"On {day} the clock of {zone.name} leaps from {_clock(low)} to {_clock(high)}:"
                f" {times} does not exist and is due at {_clock(high)} instead, once."
            )
        else:
            yield (
                f"On {day} the clock of {zone.name} goes back from {_clock(high)} to"
                f" {_clock(low)}: {times} comes twice and is due the first time only."
            )


def _times_between(term: WallClock, low: int, high: int) -> str:
    """Return the first wall-clock time in a span, and whether there are more."""
    first = term.local_at_or_after(low)
    assert first is not None, "asked only where there is one"
    second = term.local_at_or_after(first + 1)
    return _clock(first) + (" (and more)" if second is not None and second < high else "")


def _clock(local_ms: int) -> str:
    return clock_text(local_ms % DAY_MS // 1000)


def _polar(term: SunTimes, now_ms: int) -> Iterator[str]:
    """Say on how many days of the year the event does not come."""
    first = now_ms // DAY_MS
    missing = sum(
        event_ms(term.event, term.place, day) is None for day in range(first, first + 366)
    )
    if missing:
        yield (
            f"At {term.place.latitude:g}, {term.place.longitude:g} there is no {term.event} on"
            f" {missing} of the next 366 days: it is not due on these."
        )


def _cron_traps(expression: str) -> Iterator[str]:
    """Say what cron lines are known to surprise with."""
    line = read_line(expression)
    days = line.days
    if days.either:
        yield (
            f"Cron line {expression!r} restricts the day of the month and the day of the week: it"
            " is due when either matches. Where both must, begin one with '*', as in '*/1'."
        )
    for name, mask, whole in (
        ("minute", line.times.minutes, 60),
        ("hour", line.times.hours, 24),
    ):
        numbers = bits_of(mask)
        if len(numbers) < 3 or numbers[0]:
            continue
        step = numbers[1]
        if whole % step and numbers == list(range(0, whole, step)):
            yield (
                f"Cron line {expression!r}: {whole} is no multiple of {step}, so after {name}"
                f" {numbers[-1]} comes {name} 0, {whole - numbers[-1]} later. For an even period"
                " use the kind 'interval'."
            )
    numbers = bits_of(days.days)
    if numbers and numbers[0] > 28 and days.plain and not days.either:
        months = [m for m in bits_of(days.months) if month_length(2026, m) < numbers[0]]
        if months and len(months) < days.months.bit_count():
            yield (
                f"Cron line {expression!r}: some months have no day {numbers[0]} and are left out."
                " 'L' is the last day of every month."
            )
