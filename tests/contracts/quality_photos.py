"""Photos for tests of the judge, and somebody to be told of its server."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from connectors.images.quality.remote import Shown


def jpeg(level: int) -> bytes:
    """A frame of noise about a level, 240 pixels high: 0 is underexposed."""
    chance = np.random.default_rng(level)
    pixels = np.clip(chance.normal(level, 40, (240, 320, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


class Heard:
    """Remembers what a watch tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        """``well``, or the kind of what is wrong."""
        self.failures: list[str] = []
        self.shown: Shown | None = None
        self._told = asyncio.Event()

    def well(self, _provider: str, shown: Shown) -> None:
        self.shown = shown
        self.changes.append("well")
        self._told.set()

    def away(self, _provider: str, kind: str, reason: str) -> None:
        assert reason
        self.changes.append(kind)
        self._told.set()

    def failed(self, kind: str) -> None:
        self.failures.append(kind)
        self._told.set()

    async def until(self, *changes: str) -> None:
        """Wait until these changes, and no others, have been told."""
        while self.changes != [*changes]:
            assert len(self.changes) <= len(changes), self.changes
            await self._next()

    async def until_failures(self, count: int) -> None:
        while len(self.failures) < count:
            await self._next()

    async def _next(self) -> None:
        self._told.clear()
        await self._told.wait()
