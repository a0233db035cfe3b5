"""Misfires: what becomes of times that could not be issued in time.

A tick at T finds the nominal times of a schedule that fell due since the shard's clock. Those at
or after T are issued as ever. Those before T are late: nobody was there to issue them (a worker
was down, a clock jumped). A photograph of a moment that is over is not wanted many times, so at
most the **latest** late time is issued, and only if it is no older than the **catch-up window**
(default: one period; 60 s where there is no period). All others are one range, reported once.

Worked example: every 60 s, window 60 s, times 0, 60, 120, 180 s late at T = 200 s::

    0 .. 120 skipped (count 3)    180 issued (20 s old)    next: 240

At T = 200 s with a window of 10 s all four are skipped. Whatever the outage, the cost is O(1).
"""

from __future__ import annotations

from dataclasses import dataclass

NO_PERIOD_WINDOW_MS = 60_000
"""The catch-up window of what has no period: a single time or a request."""


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
    """Settle the late times ``first_ms, first_ms + every_ms, ...`` before ``tick_ms``.

    ``first_ms`` must itself be late.
    """
    count = (tick_ms - 1 - first_ms) // every_ms + 1
    last_ms = first_ms + (count - 1) * every_ms
    next_ms = last_ms + every_ms
    if tick_ms - last_ms <= window_ms:
        return Missed(last_ms, first_ms, last_ms - every_ms, count - 1, next_ms)
    return Missed(None, first_ms, last_ms, count, next_ms)


def late_once_is_wanted(at_ms: int, tick_ms: int, window_ms: int) -> bool:
    """Say whether a single late time is still issued at ``tick_ms``."""
    return tick_ms - at_ms <= window_ms
