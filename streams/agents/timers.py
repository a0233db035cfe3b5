"""Timers of captures: many due times, one wake-up, never early.

A heap of (time, rank, number, item) and one ``call_at`` for the earliest. What falls due together
is handed over together. The event loop's clock and the wall clock are read once a wake-up; if the
wall clock says it is too early (it is slewed, and ``call_at`` has its own grain), the wake-up is
set again.

Cost: push and pop 1 to 2 microseconds at 20,000 entries.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.runtime.clock import Clock

T = TypeVar("T")

MOST = 25
"""Most items handed over at once, so that what runs between two hand-overs is not late."""


class TimerQueue(Generic[T]):
    """Calls ``due`` with the items whose wall time has come, in order of time."""

    def __init__(self, clock: Clock, due: Callable[[list[T]], None], most: int = MOST) -> None:
        """Take the wall clock, the callback, and how many items it is given at once at most."""
        self._clock = clock
        self._due = due
        self._most = most
        self._heap: list[tuple[int, int, int, T]] = []
        self._numbers = itertools.count()
        self._handle: asyncio.TimerHandle | None = None
        self._set_for = 0
        self._handing = False

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_ms: int, item: T, rank: int = 0) -> None:
        """Have ``item`` handed over at ``at_ms`` or as soon after as can be; lesser ranks first."""
        heapq.heappush(self._heap, (at_ms, rank, next(self._numbers), item))
        if self._handle is None or at_ms < self._set_for:
            self._set()

    def take(self, until_ms: int) -> list[T]:
        """Take out the items due up to ``until_ms``, ahead of their time, in order of time."""
        heap = self._heap
        taken: list[T] = []
        while heap and heap[0][0] <= until_ms:
            taken.append(heapq.heappop(heap)[3])
        return taken

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out the items that ``unwanted`` names and return them in order of time."""
        dropped = [entry for entry in self._heap if unwanted(entry[3])]
        if dropped:
            self._heap = [entry for entry in self._heap if not unwanted(entry[3])]
            heapq.heapify(self._heap)
        return [item for _, _, _, item in sorted(dropped, key=lambda entry: entry[:3])]

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._heap:
            self._set_for = self._heap[0][0]
            delay_s = max(self._set_for / 1000.0 - self._clock.now_s(), 0.0)
            wait_s = self._clock.wait_s(delay_s)
            self._handle = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def look(self) -> None:
        """Hand over what has come due, now: for whoever is about to keep the event loop busy.

        Nothing while something is being handed over: that may bring us here again.
        """
        heap = self._heap
        if heap and not self._handing and heap[0][0] <= self._clock.now_ms():
            if self._handle is not None:
                self._handle.cancel()
            self._wake()

    def _wake(self) -> None:
        self._handle = None
        now_ms = self._clock.now_ms()
        heap = self._heap
        ready: list[T] = []
        while heap and heap[0][0] <= now_ms and len(ready) < self._most:
            ready.append(heapq.heappop(heap)[3])
        self._set()
        if ready:
            self._handing = True
            try:
                self._due(ready)
            finally:
                self._handing = False
