"""Captures found RUNNING without their worker: was the photo taken?

The blob store is asked. Where the worker before may still be at it (``runtime/handover.py``), it is
asked again until that can no longer be; only then is another attempt made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import StoreError
from streams.agents.timers import TimerQueue
from streams.core.transition import RUNNING
from streams.observability.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schemas.records import ImageRef, OpenCapture
    from streams.agents.capture_state import CaptureState
    from streams.agents.ports import Photos
    from streams.observability.metrics import Metrics
    from streams.runtime.clock import Clock

LOOK_AGAIN_MS: Final = 500
"""How soon the blob store is asked again for a photo that another worker may be taking."""


class Timed(NamedTuple):
    """A capture that waits for its time."""

    book: CaptureState
    command_id: int


class PhotoSearch:
    """Looks for photos; what it finds, or that there is none, is told to ``found``."""

    def __init__(
        self,
        photos: Photos,
        clock: Clock,
        metrics: Metrics,
        at_once: int,
        clocks_ms: int,
        start: Callable[[CaptureState, Coroutine[object, object, None]], None],
        found: Callable[[CaptureState, int, ImageRef | None], None],
    ) -> None:
        """Take the parts: ``at_once`` bounds the look-ups, ``start`` runs one as a task.

        ``clocks_ms``: what the clocks of two workers may differ by, when one waits for the end of
        the other's attempt. Less, and it could give a capture up, or try it again, while the
        shutter of the other opens.
        """
        self._photos = photos
        self._clock = clock
        self._metrics = metrics
        self._start = start
        self._found = found
        self._clocks_ms = clocks_ms
        self._slots = asyncio.Semaphore(at_once)
        self._log = get_logger(__name__)
        self._again: TimerQueue[Timed] = TimerQueue(clock, self._look_again)

    def __len__(self) -> int:
        """Return how many photos are to be looked for again."""
        return len(self._again)

    def begin(self, book: CaptureState, entry: OpenCapture) -> None:
        """Look for the photo of a capture."""
        self._start(book, self._look(book, entry))

    def drop(self, unwanted: Callable[[Timed], bool]) -> None:
        """Look no more for these."""
        self._again.drop(unwanted)

    async def _look(self, book: CaptureState, entry: OpenCapture) -> None:
        command = entry.command
        async with self._slots:
            try:
                image = await self._photos.find(command)
            except StoreError as error:
                self._log.warning("blob look-up failed", reason=str(error))
                image = None
        if image is not None:
            self._metrics.recovered_captures.inc()
        elif (left := book.partition.handover) is not None:
            now_ms = self._clock.now_ms()
            over_ms = left.until_ms + command.capture_timeout_ms + self._clocks_ms
            if now_ms < over_ms:
                again = Timed(book, command.command_id)
                self._again.push(min(now_ms + LOOK_AGAIN_MS, over_ms), again)
                return
        self._found(book, command.command_id, image)

    def _look_again(self, due: list[Timed]) -> None:
        for book, command_id in due:
            entry = book.find_open(command_id)
            if entry is not None and entry.state == RUNNING and not book.partition.gone:
                self.begin(book, entry)
