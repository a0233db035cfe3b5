"""What ended in one turn of the event loop, written together: one step a partition.

A step costs as much as deciding a capture does, and what is open at a time ends in crowds: the
answers that lay in the sockets together, the null cameras of one moment. So each end waits for the
end of the turn. Nothing is decided before it is written, so nobody sees what is not on the record.
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


class Completions:
    """Gathers ends until the loop's next turn, or until ``flush``."""

    def __init__(self, write: Callable[[CaptureState, list[Ending]], None]) -> None:
        """Take what writes the ends of one partition in one step, called when one can be made."""
        self._write = write
        self._ended: dict[CaptureState, list[Ending]] = {}

    def add(self, book: CaptureState, decide: Decide, command_id: int) -> None:
        """Have an end written at the end of this turn."""
        ended = self._ended
        if not ended:
            asyncio.get_running_loop().call_soon(self.flush)
        group = ended.get(book)
        if group is None:
            ended[book] = [(command_id, decide)]
        else:
            group.append((command_id, decide))

    def flush(self) -> None:
        """Write what has gathered now."""
        ended, self._ended = self._ended, {}
        for book, group in ended.items():
            book.partition.when_writable(partial(self._write, book, group))
