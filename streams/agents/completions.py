"""What ended within some milliseconds, written together: one step a partition.

A step costs as much as deciding a capture does, and what is open at a time ends in crowds: the
answers that lay in the sockets together, the cameras of one moment. So each end waits a little for
others; a commit waits several times as long. Large crowds are written in pieces of ``MOST`` ends, a
millisecond's work, as a shutter may come due meanwhile. Nothing is decided before it is written, so
nobody sees what is not on the record.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import DeviceCaptures
    from streams.agents.capture_state import CaptureState
    from streams.core import capture

    Decide: TypeAlias = Callable[[DeviceCaptures, int], capture.Change]
    """What becomes of a device's row at a time."""
    Ending: TypeAlias = tuple[int, Decide]
    """A command's id, and what becomes of it."""


MOST = 25
"""Most ends in one step."""


class Completions:
    """Gathers ends for a moment, or until ``flush``."""

    def __init__(self, write: Callable[[CaptureState, list[Ending]], None], gather_ms: int) -> None:
        """Take what writes the ends of one partition in one step, called when one can be made.

        ``gather_ms``: how long others are waited for; 0: until the loop's next turn.
        """
        self._write = write
        self._gather_s = gather_ms / 1000.0
        self._ended: dict[CaptureState, list[Ending]] = {}

    def __len__(self) -> int:
        """Return how many ends wait to be written."""
        return sum(map(len, self._ended.values()))

    def add(self, book: CaptureState, decide: Decide, command_id: int) -> None:
        """Have an end written in a moment."""
        ended = self._ended
        if not ended:
            loop = asyncio.get_running_loop()
            if self._gather_s:
                loop.call_later(self._gather_s, self.flush)
            else:
                loop.call_soon(self.flush)
        group = ended.get(book)
        if group is None:
            ended[book] = [(command_id, decide)]
        else:
            group.append((command_id, decide))

    def flush(self) -> None:
        """Write what has gathered now, if there is any."""
        ended, self._ended = self._ended, {}
        for book, group in ended.items():
            for first in range(0, len(group), MOST):
                piece = group[first : first + MOST]
                book.partition.when_writable(partial(self._write, book, piece))
