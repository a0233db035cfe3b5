"""Pictures worked on beside an event loop, within bounds.

Decoders let go of the interpreter's lock, so threads do: as many as there are cores, by default. A
process pool is for cameras that are not trusted: a decoder that dies takes its process with it,
the picture is refused as ``crashed``, and the next one has a new process. A picture's bytes are
then sent over a pipe, there and back.

**Memory** is bounded by pixels in flight: a picture waits, first come first served, until the
pixels of those before it leave room for its own (from its header, before anything is decoded). In
work it takes, measured at 48 million pixels: a JPEG that is scaled 9 bytes a pixel (as planes 4), a
PNG 10, one with transparency 18, one that passes through none. So the default of 100 million
pixels is 1 GB at worst, 1.8 with transparency, or 48 pictures of 1080p at once. More than
``max_waiting`` pictures do not wait: they are refused as ``busy``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import deque
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from connectors.images.errors import ImageError
from connectors.images.facts import DEFAULT_MAX_PIXELS, read_facts
from connectors.images.pipeline import Processed, process
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from connectors.images.label import Label
    from connectors.images.signing import Signer
    from connectors.images.spec import CaptureSpec


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How many pictures are worked on at once."""

    threads: int = 0
    """0: one a core; 1 to 256."""
    processes: int = 0
    """0: threads only; else the work is done by so many processes, 1 to 64."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Of one picture; 1 to 80 million, where Pillow begins to warn."""
    max_pixels_in_flight: int = 2 * DEFAULT_MAX_PIXELS
    """Of all pictures in work; at least ``max_pixels``."""
    max_waiting: int = 1_024
    """Pictures that wait for room, each holding its encoded bytes; 1 to 65,536."""

    def __post_init__(self) -> None:
        bounds = {
            "threads": (0, 256), "processes": (0, 64), "max_pixels": (1, 80_000_000),
            "max_pixels_in_flight": (self.max_pixels, 1 << 40), "max_waiting": (1, 65_536),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must be from {low:,} to {high:,}.")


class PixelBudget:
    """Room for so many pixels, given in the order in which it is asked for."""

    def __init__(self, pixels: int, max_waiting: int) -> None:
        self._left = pixels
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def left(self) -> int:
        """Pixels that there is room for."""
        return self._left

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return len(self._waiting)

    async def take(self, pixels: int) -> None:
        """Wait for room; raises ImageError ``busy`` where too many wait."""
        if not self._waiting and pixels <= self._left:
            self._left -= pixels
            return
        if len(self._waiting) >= self._max_waiting:
            raise ImageError("busy", f"{len(self._waiting):,} pictures wait already.")
        turn = asyncio.get_running_loop().create_future()
        entry = (pixels, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(pixels)  # its turn had come in the same moment
            else:
                self._waiting.remove(entry)
                self._admit()
            raise

    def give(self, pixels: int) -> None:
        """Give room back."""
        self._left += pixels
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            pixels, turn = self._waiting[0]
            if turn.done():
                return  # being cancelled: it leaves by itself, and admits the next
            self._waiting.popleft()
            self._left -= pixels
            turn.set_result(None)


class ImageExecutor:
    """The pipeline for an event loop. One loop; closed by ``aclose`` or ``async with``."""

    def __init__(self, settings: ImageSettings | None = None, signer: Signer | None = None) -> None:
        """Take the bounds, and the key by which labels are signed.

        Raises UsageError for a key and processes: a key stays out of the processes of a pool, which
        are for decoders that are not trusted.
        """
        self.settings = settings or ImageSettings()
        if signer is not None and self.settings.processes:
            raise UsageError("Photos are signed in threads only: no processes, or no key.")
        self._signer = signer
        self.budget = PixelBudget(self.settings.max_pixels_in_flight, self.settings.max_waiting)
        self._pool: Executor = self._make()

    def _make(self) -> Executor:
        if self.settings.processes:
            spawn = multiprocessing.get_context("spawn")
            return ProcessPoolExecutor(self.settings.processes, mp_context=spawn)
        threads = self.settings.threads or os.cpu_count() or 1
        return ThreadPoolExecutor(threads, thread_name_prefix="images")

    async def process(
        self, data: bytes, spec: CaptureSpec, label: Label | None = None, source_sha256: str = ""
    ) -> Processed:
        """Make a photo; see :func:`connectors.images.pipeline.process`.

        A caller that is cancelled goes; the work it began ends in its own time, and its room is
        given back then. Raises ImageError.
        """
        most = self.settings.max_pixels
        pixels = read_facts(data, most).pixels
        work = partial(process, data, spec, label, source_sha256, max_pixels=most)
        if self._signer is not None:
            work = partial(work, signer=self._signer)
        return await self._run(pixels, work)

    async def _run(self, pixels: int, work: Callable[[], Processed]) -> Processed:
        await self.budget.take(pixels)
        loop, pool = asyncio.get_running_loop(), self._pool
        try:
            begun = loop.run_in_executor(pool, work)
        except BaseException as error:
            self.budget.give(pixels)
            if isinstance(error, BrokenProcessPool):
                self._renew(pool)
                raise ImageError("crashed", "A process of the pool has died.") from error
            raise
        begun.add_done_callback(partial(self._ended, pixels))
        try:
            return await asyncio.shield(begun)
        except BrokenProcessPool as error:
            self._renew(pool)
            raise ImageError("crashed", "The process that decoded it has died.") from error

    def _ended(self, pixels: int, work: asyncio.Future[Processed]) -> None:
        self.budget.give(pixels)
        if not work.cancelled():
            work.exception()  # seen, also where the caller has gone

    def _renew(self, broken: Executor) -> None:
        """Put a new pool in the place of one whose process died; once a death."""
        if self._pool is broken:
            self._pool = self._make()
            broken.shutdown(wait=False)

    async def aclose(self) -> None:
        """Wait for what is in work and let the threads or processes go."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
