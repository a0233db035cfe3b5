"""The reader for an event loop: what photos of any devices wait for a verdict goes together.

Photos wait in a line while the network is at work, and go through it as one batch when it is free,
in a thread of its own. The model is loaded when the first photo comes. Nothing here loses a photo:
where there can be no verdict (no onnxruntime, a model that is not the released one, a line that is
full, a picture that cannot be read) the verdict says why, and has no faults.

With a server of models (``remote_watch.py``) batches go there while it is well, a few at once; a
batch that it does not answer, and all while it is away, are judged here. The verdict says by what:
``grpc:quality``, or the provider that onnxruntime has in use.

Cost: see ``MODEL_CARD.md``; some 250 photos a second and core, 60 MB once the model is loaded.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.records import QualityVerdict

if TYPE_CHECKING:
    from connectors.images.quality.reader import Prepared, QualityReader, QualitySettings, Verdict
    from connectors.images.quality.remote_watch import RemoteWatch

MAX_WAITING: Final = 256
"""Photos in the line: a second's work of a core. What exceeds it is not judged."""
MODEL_DIGITS: Final = 12
NO_BOUND_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A photo in the line."""

    data: bytes
    until_s: float
    """When its verdict is of no use any more, by the event loop's clock."""
    found: asyncio.Future[QualityVerdict]


class QualityGate:
    """Judges photographs one by one for its callers, and in batches for itself."""

    def __init__(
        self,
        settings: QualitySettings | None = None,
        waiting: int = MAX_WAITING,
        remote: RemoteWatch | None = None,
    ) -> None:
        """``waiting``: most photos in the line, 1 and more. ``remote`` is closed with the gate."""
        self._settings = settings
        self._most = waiting
        self._remote = remote
        self._most_lanes = remote.settings.in_flight if remote else 1
        self._line: list[_Waiting] = []
        self._lanes = set[asyncio.Task[None]]()
        """Each works on one batch after the other."""
        self._thread: ThreadPoolExecutor | None = None
        self._reader: QualityReader | None = None
        self._broken = ""
        """Why no photo can be judged here."""
        self._ending = ""

    def start(self) -> None:
        """Look for the server, if there is one, before the first photo comes."""
        if self._remote is not None:
            self._remote.start()

    async def judge(self, data: bytes, until_s: float | None = None) -> QualityVerdict:
        """Return the verdict on an encoded picture.

        ``until_s``: when its caller waits no longer, by the event loop's clock.
        """
        remote = self._remote
        away = self._broken if remote is None or remote.shown is None else ""
        if self._ending or away:
            return unjudged(self._ending or away)
        if len(self._line) >= self._most:
            return unjudged(f"{len(self._line)} photos wait for their verdict already")
        loop = asyncio.get_running_loop()
        until_s = loop.time() + NO_BOUND_S if until_s is None else until_s
        one = _Waiting(data, until_s, loop.create_future())
        self._line.append(one)
        if len(self._lanes) < self._most_lanes:
            lane = asyncio.create_task(self._judge_line())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await one.found

    async def aclose(self) -> None:
        """Let go of model and server; who waits still is told that nothing was judged."""
        line, self._line = self._line, []
        self._ending = "the worker is ending"
        self._answer(line, [unjudged(self._ending)] * len(line))
        if self._remote is not None:
            await self._remote.aclose()
        await asyncio.gather(*self._lanes)
        if self._thread is not None:
            self._thread.shutdown()
        if self._reader is not None:
            self._reader.close()

    async def _judge_line(self) -> None:
        """Judge what waits, batch by batch, until nothing does."""
        while self._line:
            # Who gave up waiting is no more work.
            line = [one for one in self._line if not one.found.done()]
            batch = line[: self._batch()]
            self._line = line[len(batch) :]
            if batch:
                self._answer(batch, await self._verdicts(batch))

    def _batch(self) -> int:
        if self._remote is not None and self._remote.shown is not None:
            return self._remote.settings.batch
        return self._reader.settings.batch if self._reader else 1

    @staticmethod
    def _answer(line: list[_Waiting], verdicts: list[QualityVerdict]) -> None:
        for one, verdict in zip(line, verdicts, strict=True):
            if not one.found.done():
                one.found.set_result(verdict)

    async def _verdicts(self, batch: list[_Waiting]) -> list[QualityVerdict]:
        loop, remote = asyncio.get_running_loop(), self._remote
        frames = [one.data for one in batch]
        if remote is None or (shown := remote.shown) is None:
            return await loop.run_in_executor(self._own_thread(), self._judged, frames)
        budget_s = min(one.until_s for one in batch) - loop.time()
        prepared, rows = await remote.ask(frames, budget_s)
        if rows is None and len(prepared.pixels):
            return await loop.run_in_executor(self._own_thread(), self._judged_here, prepared)
        provider = remote.settings.provider if rows is not None else ""
        verdicts = prepared.verdicts(() if rows is None else rows, self._set())
        return [of_record(one, shown.sha256[:MODEL_DIGITS], provider) for one in verdicts]

    def _set(self) -> QualitySettings:
        from connectors.images.quality.reader import QualitySettings

        if self._settings is None:
            self._settings = QualitySettings()
        return self._settings

    def _own_thread(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="quality")
        return self._thread

    def _loaded(self) -> QualityReader | None:
        """Load the model if that was not done. Runs in the thread."""
        from connectors.images.quality.model import ModelError
        from connectors.images.quality.reader import QualityReader

        if self._reader is None and not self._broken:
            try:
                self._reader = QualityReader(self._settings)
            except ModelError as error:
                self._broken = str(error)
        return self._reader

    def _judged(self, frames: list[bytes]) -> list[QualityVerdict]:
        """Decode and judge. Runs in the thread."""
        reader = self._loaded()
        if reader is None:
            return [unjudged(self._broken)] * len(frames)
        return _of_reader(reader, reader.judge(frames))

    def _judged_here(self, prepared: Prepared) -> list[QualityVerdict]:
        """Judge what the server did not answer. Runs in the thread."""
        reader = self._loaded()
        if reader is None:
            return [unjudged(self._broken)] * len(prepared.placed)
        return _of_reader(reader, reader.judge_prepared(prepared))


def _of_reader(reader: QualityReader, verdicts: list[Verdict]) -> list[QualityVerdict]:
    model = reader.model.sha256[:MODEL_DIGITS]
    return [of_record(one, model, reader.model.execution_provider) for one in verdicts]


def of_record(verdict: Verdict, model: str, provider: str = "") -> QualityVerdict:
    """Return a verdict as it stands in a result."""
    from connectors.images.quality.boxes import CLASSES

    scores = {name: round(float(s), 4) for name, s in zip(CLASSES, verdict.scores, strict=False)}
    return QualityVerdict(model, verdict.faults, scores, verdict.reason, provider)


def unjudged(why: str) -> QualityVerdict:
    """Return what stands in a result whose photo was not judged."""
    return QualityVerdict("", (), {}, f"not judged: {why}")
