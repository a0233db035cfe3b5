"""Reads a partition from left to right, with a bounded look ahead, up to a cut.

**The cut.** An audit of a running system takes the end of the ticks first and reads up to it once
(``settled_ends``): then every transaction that wrote one of those ticks is decided, and all that
went out with them lies before the ends of the other topics as they are after that. So nothing is
missing only because it was still on its way.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.replay.log import Entry, Log

AHEAD: Final = 2_000
"""How many entries are looked through for one that is not the next."""
LAST: Final = 256
"""Offsets before the end of the ticks that are read to see it decided: markers stand there."""


def settled_ends(
    log: Log, ticks: str, partition: int, tick_end: int, topics: Iterable[str]
) -> dict[str, int]:
    """Return where topics end for an audit of the ticks before ``tick_end``."""
    first = max(log.firsts(ticks)[partition], tick_end - LAST)
    for _ in log.read(ticks, partition, first, tick_end):
        pass
    return {topic: log.ends(topic)[partition] for topic in topics}


class Cursor:
    """A place in a partition of a topic."""

    def __init__(self, log: Log, topic: str, partition: int, first: int, end: int) -> None:
        """Begin at an offset and go no further than ``end``."""
        self.topic = topic
        self.partition = partition
        self.read = 0
        """Entries taken so far."""
        self.waiting: deque[Entry] = deque()
        """What was read and not taken."""
        self._batches = log.read(topic, partition, first, end) if first < end else iter(())

    def peek(self) -> Entry | None:
        """Return the next entry without taking it; None: there is none."""
        if not self.waiting and not self.fill():
            return None
        return self.waiting[0]

    def pop(self) -> Entry:
        """Take the next entry; IndexError where ``peek`` gave none."""
        self.read += 1
        return self.waiting.popleft()

    def take(self, count: int) -> list[Entry]:
        """Take so many next entries of those that were read; IndexError where they are fewer."""
        waiting = self.waiting
        self.read += count
        if count == len(waiting):
            found = list(waiting)
            waiting.clear()
            return found
        return [waiting.popleft() for _ in range(count)]

    def ahead(self, count: int = AHEAD) -> list[Entry]:
        """Return up to ``count`` next entries without taking them."""
        while len(self.waiting) < count and self.fill():
            pass
        return list(islice(self.waiting, count))

    def fill(self) -> bool:
        """Read on; False at the end."""
        for batch in self._batches:
            if batch:
                self.waiting.extend(batch)
                return True
        return False
