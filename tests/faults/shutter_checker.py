"""Which shutters opened without a lease? Pure, and tested on planted faults.

A capture is RUNNING from its arming to the next change of its state, and each RUNNING belongs to
one worker, whose lease covers it: the next owner of the partition ends it before it begins its own.
So by the cameras' own log each shutter must lie in a RUNNING of its capture, and each RUNNING holds
one shutter at most. A worker that was stopped and opens its shutter when it wakes makes a shutter
too many, or one outside.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from streams.core.transition import RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectors.cameras.simulated import LogEntry
    from schemas.records import CaptureResult, Transition


def running(transitions: Sequence[Transition]) -> list[tuple[int, int]]:
    """Return from when to when a capture was RUNNING, UTC milliseconds."""
    return [
        (now.at_ms, after.at_ms)
        for now, after in itertools.pairwise(transitions)
        if now.to_state == RUNNING
    ]


def without_lease(results: Iterable[CaptureResult], log: Iterable[LogEntry]) -> list[LogEntry]:
    """Return the shutters that lie in no RUNNING of their capture, or in one that is taken."""
    free = {str(r.command_id): running(r.transitions) for r in results}
    shutters: dict[str, list[LogEntry]] = defaultdict(list)
    for entry in log:
        if entry.shutter:
            shutters[entry.command_id].append(entry)
    found: list[LogEntry] = []
    for command_id, entries in shutters.items():
        spans = free.get(command_id, [])
        for entry in sorted(entries, key=lambda e: e.at_ms):
            span = next((s for s in spans if s[0] <= entry.at_ms <= s[1]), None)
            if span is None:
                found.append(entry)
            else:
                spans.remove(span)
    return found
