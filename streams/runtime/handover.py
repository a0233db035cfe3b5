"""What the worker that had a partition tells the one that gets it: until when its shutters open.

In a rebalance a member has to let go of its partitions before it knows which of them it will get
back, and what it lets go may be opened by another worker while it still waits for its own answer.
Captures whose RUNNING is committed should open on time all the same, once and no more. So with the
last transaction before it joins, the worker commits a moment H, a little in the future, as the
metadata of its input offsets, and keeps to it:

* a shutter whose time is at most H may open until H, whoever owns the partition by then;
* a shutter whose time is later than H is not opened by it again unless it gets the partition back.

The next owner reads H with the stable offsets and knows of every capture it finds RUNNING: its time
is after H, then its shutter was never opened, and it can be set at once; or it is not, then an
attempt may be going on, and is over ``capture_timeout_ms`` after H. Until then the blob store is
asked, and only after it is another attempt made.

The metadata is replaced by every later commit of the partition, and "never opened" is believed only
in the very next generation: an owner that got its partition back and died before its first commit
leaves the old H behind, but not with the generation after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

_MARK: Final = "shutters"
_END: Final = "."
"""librdkafka hands on metadata without its closing NUL, and whatever stands behind it follows."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The moment H, and the generation in which it was committed."""

    generation: int
    until_ms: int
    """H, UTC milliseconds."""

    def text(self) -> str:
        """Return it as offset metadata."""
        return f"{_MARK} {self.generation} {self.until_ms} {_END}"

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read offset metadata; ``None`` where it is no handover."""
        parts = (text or "").split()
        if len(parts) < 4 or parts[0] != _MARK or not parts[3].startswith(_END):
            return None
        try:
            return cls(int(parts[1]), int(parts[2]))
        except ValueError:
            return None

    def unopened(self, not_before_ms: int, generation: int) -> bool:
        """Tell whether the shutter of a capture found RUNNING has surely not been opened."""
        return generation == self.generation + 1 and not_before_ms > self.until_ms
