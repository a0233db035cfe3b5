"""Who goes first when not everybody can, and who goes not at all (SPEC 2.3; issue 6).

**Rank** is ``base x (1 + 0.5 x (cpu + mem))``, rounded down, where ``base`` is the schedule's
priority plus one (0 to 9 become 1 to 10, as nothing multiplies 0) and ``cpu`` and ``mem`` are the
live load of the device's terminal, 0 to 1 each. Load at most doubles a rank: an important capture
on a terminal that is near its limits goes before the same on an idle one, and work of the lowest
priority does not rise by load (below its very maximum), so it is what yields. Rounding down makes
equals, without which the next rule would never be asked.

**Order**: the higher rank; among equals the earlier ``not_after``; among those first come, first
served. A line's order is total and depends on what was put in alone.

**A line** is one sorted list, the next to go at its end. An entry is put in by bisection, and how
many are before it is known from its place, which is what tells a hopeless one. The last in order is
at hand as well: it is what is shed. Moving 10,000 pointers by one place is 1 to 2 microseconds,
less than a heap of tuples takes, and a heap has only one end.

Example: three captures wait, (rank 1, until 12:00:30), (1, 12:00:10) and (6, 12:01:00). They go in
the order third, second, first, and the first is shed if there is no room.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

LOAD_WEIGHT: Final = 0.5
MAX_RANK: Final = 20
"""Rank of the most urgent capture on a terminal that can do no more."""


def rank(priority: int, cpu: float, mem: float) -> int:
    """Return the rank of a capture, 1 to 20; the highest goes first.

    ``priority`` is 0 to 9; ``cpu`` and ``mem`` are shares, cut to 0 to 1.
    """
    load = min(max(cpu, 0.0), 1.0) + min(max(mem, 0.0), 1.0)
    return int((priority + 1) * (1.0 + LOAD_WEIGHT * load))


class Line(Generic[T]):
    """Captures that wait, in order."""

    __slots__ = ("_entries", "_number")

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, int, T]] = []
        """(rank, -not_after, -number, item), ascending; numbers differ, so items are never
        compared."""
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """Yield what waits, the next to go first."""
        return (item for _, _, _, item in reversed(self._entries))

    def ahead(self, rank_: int, not_after_ms: int) -> int:
        """Return how many would go before an item that was put in now."""
        place = bisect_left(self._entries, (rank_, -not_after_ms, self._number - 1))
        return len(self._entries) - place

    def put(self, item: T, rank_: int, not_after_ms: int) -> None:
        """Let ``item`` wait."""
        self._number -= 1
        entry = (rank_, -not_after_ms, self._number, item)
        self._entries.insert(bisect_left(self._entries, entry), entry)

    def take(self) -> T:
        """Take out the next to go. Raises IndexError if nobody waits."""
        return self._entries.pop()[3]

    def shed(self) -> T:
        """Take out the last in order: the least important. Raises IndexError if nobody waits."""
        return self._entries.pop(0)[3]

    def drop(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out those that ``unwanted`` names, and return them in order."""
        dropped = [entry[3] for entry in reversed(self._entries) if unwanted(entry[3])]
        if dropped:
            self._entries = [entry for entry in self._entries if not unwanted(entry[3])]
        return dropped

    def drop_expired(self, now_ms: int) -> list[T]:
        """Take out those whose ``not_after`` has passed, and return them in order."""
        expired = [entry[3] for entry in reversed(self._entries) if -entry[1] < now_ms]
        if expired:
            self._entries = [entry for entry in self._entries if -entry[1] >= now_ms]
        return expired
