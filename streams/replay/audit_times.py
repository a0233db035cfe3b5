"""The times of many schedules that are due up to a moment, worked out together.

Of a plain interval they are arithmetic. Of another recurrence, such as a cron line, the occurrences
are asked for once and shared by all of its schedules; what a schedule adds is its shift, cut where
it would reach the next occurrence (``streams/core/times.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from schemas.columns import Ints
    from streams.core.recurrence import Recurrence

MOST_FIRES: Final = 50_000
"""Times that are worked out together at most."""
MOST_OCCURRENCES: Final = 4_096
_BEYOND: Final = 3
"""Occurrences behind the last moment that are looked at: the next time, and what cuts its shift."""


class Times(NamedTuple):
    """The times of some schedules."""

    rows: Ints
    """Which schedule each is of."""
    due_ms: Ints
    scheduled_ms: Ints
    nominal_ms: Ints
    next_ms: Ints
    """When each schedule is due after that: one a schedule."""


def of_period(due_ms: Ints, lead: Ints, shift: Ints, period: Ints, last_ms: int) -> Times | None:
    """Return the times of plain intervals that are due at ``due_ms`` and again up to a moment.

    None: they are too many.
    """
    fires = (last_ms - due_ms) // period + 1
    total = int(fires.sum())
    if total > MOST_FIRES:
        return None
    if total == len(fires):
        rows, due = np.arange(len(due_ms)), due_ms
    else:
        rows = np.repeat(np.arange(len(due_ms)), fires)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(fires) - fires, fires)
        due = due_ms[rows] + nth * period[rows]
    scheduled = due + lead[rows]
    return Times(rows, due, scheduled, scheduled - shift[rows], due_ms + fires * period)


def of_recurrence(
    recurrence: Recurrence, due_ms: Ints, lead: Ints, shift: Ints, last_ms: int
) -> Times | None:
    """Return the same of schedules of one recurrence, without jitter and end.

    None: they are too many, or the recurrence ends, or is not due at these times.
    """
    scheduled = due_ms + lead
    occurrences = _occurrences(recurrence, int(scheduled.min()), last_ms + int(lead.max()))
    if occurrences is None:
        return None
    at = np.searchsorted(occurrences, scheduled, "right") - 1
    if (_scheduled(occurrences, at, shift) != scheduled).any():
        return None
    rows = np.arange(len(due_ms))
    all_rows, all_scheduled, all_nominal = [rows], [scheduled], [occurrences[at]]
    next_ms, total = np.zeros(len(rows), np.int64), len(rows)
    while len(rows):
        at = at + 1
        scheduled = _scheduled(occurrences, at, shift[rows])
        due = scheduled - lead[rows]
        again = due <= last_ms
        next_ms[rows[~again]] = due[~again]
        rows, at = rows[again], at[again]
        total += len(rows)
        if total > MOST_FIRES:
            return None
        all_rows.append(rows)
        all_scheduled.append(scheduled[again])
        all_nominal.append(occurrences[at])
    rows, scheduled = np.concatenate(all_rows), np.concatenate(all_scheduled)
    return Times(rows, scheduled - lead[rows], scheduled, np.concatenate(all_nominal), next_ms)


def _occurrences(recurrence: Recurrence, first_ms: int, last_ms: int) -> Ints | None:
    """Return the last one at a moment to a few behind another; None: too many, or too few."""
    time_ms = recurrence.before(first_ms + 1)
    found: list[int] = []
    beyond = 0
    while time_ms is not None and len(found) < MOST_OCCURRENCES:
        found.append(time_ms)
        beyond += time_ms > last_ms
        if beyond == _BEYOND:
            return np.array(found, np.int64)
        time_ms = recurrence.at_or_after(time_ms + 1)
    return None


def _scheduled(occurrences: Ints, at: Ints, shift: Ints) -> Ints:
    """Return the scheduled times of occurrences."""
    return np.where(
        shift > 0, np.minimum(occurrences[at] + shift, occurrences[at + 1] - 1), occurrences[at]
    )
