"""The reader for an event loop: what photos of any devices wait for a verdict goes together.

Photos wait in a line while the network is at work, and go through it as one batch when it is free,
in a thread of its own. The model is loaded when the first photo comes. Nothing here loses a photo:
where there can be no verdict (no onnxruntime, a model that is not the released one, a line that is
full, a picture that cannot be read) the verdict says why, and has no faults.

Cost: see ``MODEL_CARD.md``; some 250 photos a second and core, 60 MB once the model is loaded.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from schemas.records import QualityVerdict

if TYPE_CHECKING:
    from connectors.images.quality.reader import QualityReader, QualitySettings, Verdict

MAX_WAITING: Final = 256
"""Photos in the line: a second's work of a core. What exceeds it is not judged."""
MODEL_DIGITS: Final = 12


class QualityGate:
    """Judges photographs one by one for its callers, and in batches for itself."""

    def __init__(self, settings: QualitySettings | None = None, waiting: int = MAX_WAITING) -> None:
        """``waiting``: most photos in the line, 1 and more."""
        self._settings = settings
        self._most = waiting
        self._line: list[tuple[bytes, asyncio.Future[QualityVerdict]]] = []
        self._work: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._reader: QualityReader | None = None
        self._broken = ""
        """Why no photo can be judged."""

    async def judge(self, data: bytes) -> QualityVerdict:
        """Return the verdict on an encoded picture."""
        if self._broken:
            return unjudged(self._broken)
        if len(self._line) >= self._most:
            return unjudged(f"{len(self._line)} photos wait for their verdict already")
        found: asyncio.Future[QualityVerdict] = asyncio.get_running_loop().create_future()
        self._line.append((data, found))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._judge_line())
        return await found

    async def aclose(self) -> None:
        """Let go of the model; who waits still is told that nothing was judged."""
        line, self._line = self._line, []
        self._broken = "the worker is ending"
        self._answer(line, [unjudged(self._broken)] * len(line))
        if self._work is not None:
            await self._work
        if self._thread is not None:
            self._thread.shutdown()
        if self._reader is not None:
            self._reader.close()

    async def _judge_line(self) -> None:
        """Judge what waits, batch by batch, until nothing does."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="quality")
        while self._line:
            # Who gave up waiting is no more work.
            line = [(data, found) for data, found in self._line if not found.done()]
            batch = line[: self._reader.settings.batch if self._reader else 1]
            self._line = line[len(batch) :]
            if not batch:
                continue
            frames = [data for data, _ in batch]
            self._answer(batch, await loop.run_in_executor(self._thread, self._judged, frames))

    @staticmethod
    def _answer(
        line: list[tuple[bytes, asyncio.Future[QualityVerdict]]], verdicts: list[QualityVerdict]
    ) -> None:
        for (_, found), verdict in zip(line, verdicts, strict=True):
            if not found.done():
                found.set_result(verdict)

    def _judged(self, frames: list[bytes]) -> list[QualityVerdict]:
        """Load the model if that was not done, and judge. Runs in the thread."""
        from connectors.images.quality.model import ModelError
        from connectors.images.quality.reader import QualityReader

        if self._reader is None and not self._broken:
            try:
                self._reader = QualityReader(self._settings)
            except ModelError as error:
                self._broken = str(error)
        if self._reader is None:
            return [unjudged(self._broken)] * len(frames)
        model = self._reader.model.sha256[:MODEL_DIGITS]
        return [of_record(verdict, model) for verdict in self._reader.judge(frames)]


def of_record(verdict: Verdict, model: str) -> QualityVerdict:
    """Return a verdict as it stands in a result."""
    from connectors.images.quality.boxes import CLASSES

    scores = {name: round(float(s), 4) for name, s in zip(CLASSES, verdict.scores, strict=False)}
    return QualityVerdict(model, verdict.faults, scores, verdict.reason)


def unjudged(why: str) -> QualityVerdict:
    """Return what stands in a result whose photo was not judged."""
    return QualityVerdict("", (), {}, f"not judged: {why}")
