"""What a rebalance is made of, in milliseconds: marks set by both threads, told in one log line.

::

    revoked --commit--> joining --join--> joined --sync--> synced --resume--> resumed (those that
                                                                              stayed go on)
                                                           --recover--> recovered --flow--> flowing

``pause`` is revoked to resumed: how long partitions that stayed could not make steps. ``join``
waits for the slowest other member: it hears of the rebalance by its next heartbeat.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final

MARKS: Final = (
    "revoked", "joining", "joined", "synced", "resumed", "recovering", "recovered", "flowing",
)  # fmt: skip
PARTS: Final = ("commit", "join", "sync", "resume", "faust", "recover", "flow")
"""The name of what lies between two marks."""


class RebalanceTimes:
    """The marks of the rebalance under way. Each is one assignment: two threads may set them."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """Set a mark; those that come after it are of an earlier rebalance and go."""
        place = MARKS.index(name)
        self._at = {n: at for n, at in self._at.items() if MARKS.index(n) < place}
        self._at[name] = time.monotonic()

    def parts_ms(self) -> dict[str, int]:
        """Return the parts both of whose ends are marked, and ``pause`` and ``total``."""
        at = self._at
        found = {
            part: at[end] - at[begin]
            for part, (begin, end) in zip(PARTS, pairwise(MARKS), strict=True)
            if begin in at and end in at
        }
        for name, end in (("pause", "resumed"), ("total", "flowing")):
            if "revoked" in at and end in at:
                found[name] = at[end] - at["revoked"]
        return {f"{name}_ms": round(seconds * 1000) for name, seconds in found.items()}

    def pause_s(self) -> float | None:
        """Return the pause; ``None`` where nothing had been owned before."""
        begin, end = self._at.get("revoked"), self._at.get("resumed")
        return None if begin is None or end is None else end - begin
