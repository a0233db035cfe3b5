"""Misfires: what becomes of times that could not be issued in time.

A tick at T finds the nominal times of a schedule that fell due since the shard's clock. Those at
or after T are issued as ever. Those before T are late: nobody was there to issue them (a worker
was down, a clock jumped). The schedule's policy says which of them are issued all the same, never
one that is older than the **catch-up window** (default: one period; 60 s where there is no period):

=============  =============================================================================
``latest``     the latest; the default: a moment that is over is not wanted many times
``earliest``   the earliest within the window
``all``        all within the window, the latest ``MAX_MADE_UP`` of them
``skip``       none
=============  =============================================================================

All others are ranges, reported once each.

Worked example: every 60 s, window 60 s, times 0, 60, 120, 180 s late at T = 200 s::

    latest     0 .. 120 skipped (count 3)    180 issued (20 s old)    next: 240

At T = 200 s with a window of 10 s all four are skipped. With a window of 150 s::

    earliest   0 skipped    60 issued    120 .. 180 skipped (count 2)    next: 240
    all        0 skipped    60, 120 and 180 issued                       next: 240

Whatever the outage, the cost is O(1), and O(``MAX_MADE_UP``) for ``all``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.core.times import Times

NO_PERIOD_WINDOW_MS = 60_000
"""The catch-up window of what has no period: a single time or a request."""
MAX_MADE_UP = 100
"""The most late times of one schedule that are issued at once, as many as a lead may hold ahead."""
POLICIES = ("latest", "skip", "earliest", "all")


@dataclass(frozen=True, slots=True)
class Missed:
    """The late times of a schedule at a tick, all in scheduled milliseconds."""

    issue_ms: int | None
    """The late time that is still issued."""
    skipped_first_ms: int
    """First time that is given up; meaningless where ``skipped_count`` is 0."""
    skipped_last_ms: int
    skipped_count: int
    next_ms: int
    """The first time that is not late."""


def late_intervals(first_ms: int, every_ms: int, tick_ms: int, window_ms: int) -> Missed:
    """Settle the late times ``first_ms, first_ms + every_ms, ...`` before ``tick_ms``: ``latest``.

    ``first_ms`` must itself be late.
    """
    count = (tick_ms - 1 - first_ms) // every_ms + 1
    last_ms = first_ms + (count - 1) * every_ms
    next_ms = last_ms + every_ms
    if tick_ms - last_ms <= window_ms:
        return Missed(last_ms, first_ms, last_ms - every_ms, count - 1, next_ms)
    return Missed(None, first_ms, last_ms, count, next_ms)


@dataclass(frozen=True, slots=True)
class Late:
    """The late times of any schedule at a tick, in scheduled milliseconds."""

    issue: tuple[int, ...]
    """Those that are still issued, ascending."""
    skipped: tuple[tuple[int, int], ...]
    """First and last of each range that is given up."""


def late_times(times: Times, first_ms: int, tick_ms: int, window_ms: int, policy: str) -> Late:
    """Settle the late times from ``first_ms``, which is one, up to ``tick_ms``, by the policy."""
    last_ms = _last(times.before(tick_ms))
    oldest_ms = max(first_ms, tick_ms - window_ms)
    issue: tuple[int, ...] = ()
    if last_ms < oldest_ms or policy == "skip":
        return Late((), ((first_ms, last_ms),))
    if policy == "earliest":
        issue = (_last(times.at_or_after(oldest_ms)),)
    elif policy == "all":
        found: list[int] = []
        at_ms: int | None = last_ms
        while at_ms is not None and at_ms >= oldest_ms and len(found) < MAX_MADE_UP:
            found.append(at_ms)
            at_ms = times.before(at_ms)
        issue = tuple(reversed(found))
    else:
        issue = (last_ms,)
    skipped: list[tuple[int, int]] = []
    if issue[0] > first_ms:
        skipped.append((first_ms, _last(times.before(issue[0]))))
    if issue[-1] < last_ms:
        skipped.append((_last(times.at_or_after(issue[-1] + 1)), last_ms))
    return Late(issue, tuple(skipped))


def reason_of(policy: str, window_ms: int, *, issued: bool) -> str:
    """Return why the late times that are not issued are not."""
    if policy == "skip":
        return "misfire: not issued in time; the schedule makes up for none"
    if not issued:
        return f"misfire: not issued in time nor within the window of {window_ms} ms"
    if policy == "all":
        return (
            f"misfire: not issued in time nor within the window of {window_ms} ms, or more than"
            f" {MAX_MADE_UP} to make up for"
        )
    return f"misfire: not issued in time; only the {policy} is made up for"


def _last(found: int | None) -> int:
    if found is None:
        raise AssertionError("between two scheduled times there is at least one of them")
    return found
