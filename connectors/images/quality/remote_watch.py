"""Whether a server of models is asked now, and the way back to it.

::

               shown to be the released one
        ┌────────────────────────────────────────┐
    [away] ──looked at after 1, 2, 4 … 60 s      ▼
        ▲                                     [well] ──looked at every 60 s
        └────────────────────────────────────────┘
          an answer that failed, or a look that did

A server begins as away, and is looked at when the watch starts. While it is away nobody waits for
it: photos are judged here. Each failure of a photo's own call makes it away at once; the next look
comes after a second, and later each time until a photo's call has worked in between: a server that
is well for looks and ill for work is not asked again and again.

A call that had less time than ``timeout_ms``, because its photos had no more, says nothing of the
server where it ends without an answer.

One event loop; calls run in threads of the watch's own, ``in_flight`` for photos and one for looks.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from connectors.images.quality.letterbox import SIDE_PX
from connectors.images.quality.reader import Prepared, prepare
from connectors.images.quality.remote import RemoteModel, RemoteSettings, Shown
from connectors.images.quality.v2 import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from connectors.images.quality.boxes import Floats

LEAST_S: Final = 0.02
"""A call with less time than this is not begun."""


class Teller(Protocol):
    """Is told of changes and failures, in the event loop's thread."""

    def well(self, provider: str, shown: Shown) -> None:
        """The server is asked from now on."""
        ...

    def away(self, provider: str, kind: str, reason: str) -> None:
        """The server is not asked any more; or still not, for another reason than before."""
        ...

    def failed(self, kind: str) -> None:
        """A call for photos, or a look, failed; ``hurried``: the photos had no time for it."""
        ...


class Silent:
    """Tells nobody."""

    def well(self, provider: str, shown: Shown) -> None:
        """See Teller."""

    def away(self, provider: str, kind: str, reason: str) -> None:
        """See Teller."""

    def failed(self, kind: str) -> None:
        """See Teller."""


class RemoteWatch:
    """One server."""

    def __init__(
        self,
        settings: RemoteSettings,
        teller: Teller | None = None,
        connect: Callable[[RemoteSettings], RemoteModel] = RemoteModel,
    ) -> None:
        """Take the settings; ``connect`` makes a client of the server, anew for each way back."""
        self.settings = settings
        self._teller = teller or Silent()
        self._connect = connect
        self._model: RemoteModel | None = None
        self._shown: Shown | None = None
        self._kind = ""
        """Why it is away, as was told last."""
        self._failures = 0
        """In a row: looks, and calls after which none has worked."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(settings.in_flight + 1, "quality-remote")

    @property
    def shown(self) -> Shown | None:
        """What the server has shown to run; None: it is away."""
        return self._shown

    def start(self) -> None:
        """Begin to look; more than once is once."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def aclose(self) -> None:
        """Break off what is under way and let the server go."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._shown = None
        self._drop()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._drop()  # a look may have connected meanwhile

    async def ask(self, frames: Sequence[bytes], budget_s: float) -> tuple[Prepared, Floats | None]:
        """Decode pictures and ask the server about them; None: it gives no answer.

        ``budget_s``: what the photos have of time, decoding and judging here included.
        """
        shown, model = self._shown, self._model
        assert shown is not None
        assert model is not None, "somebody has asked whether it is well"
        loop = asyncio.get_running_loop()
        prepared, rows, error, whole = await loop.run_in_executor(
            self._threads, self._asked, model, shown, frames, budget_s
        )
        if error is None:
            if rows is not None:
                self._failures = 0
        elif error.kind == "slow" and not whole:
            self._teller.failed("hurried")
        else:
            self._teller.failed(error.kind)
            if self._model is model:  # else it was found out already
                self._away(error)
        return prepared, rows

    def _asked(
        self, model: RemoteModel, shown: Shown, frames: Sequence[bytes], budget_s: float
    ) -> tuple[Prepared, Floats | None, RemoteError | None, bool]:
        """Decode and ask. Runs in a thread. The last: the call had all of its time."""
        began_s, settings = time.monotonic(), self.settings
        prepared = prepare(frames, np.empty((len(frames), SIDE_PX, SIDE_PX, 3), np.uint8))
        if not len(prepared.pixels):
            return prepared, None, None, False
        left_s = budget_s - settings.room_ms / 1e3 - (time.monotonic() - began_s)
        timeout_s = min(settings.timeout_ms / 1e3, left_s)
        if timeout_s < LEAST_S:
            return prepared, None, RemoteError("slow", "there was no time for it"), False
        try:
            rows = model.rows(prepared.pixels, shown, timeout_s=timeout_s)
        except RemoteError as error:
            return prepared, None, error, timeout_s >= settings.timeout_ms / 1e3
        return prepared, rows, None, True

    async def _keep(self) -> None:
        """Look at it for ever."""
        settings, loop = self.settings, asyncio.get_running_loop()
        while True:
            self._changed.clear()
            was = self._model
            try:
                shown = await loop.run_in_executor(self._threads, self._look)
            except RemoteError as error:
                self._teller.failed(error.kind)
                if was is None or self._model is was:
                    self._away(error)
            else:
                if was is None or self._model is was:
                    self._well(shown)
            if self._shown is None:
                await asyncio.sleep(self._rest_s())
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.look_ms / 1e3):
                    await self._changed.wait()
                await asyncio.sleep(self._rest_s())

    def _rest_s(self) -> float:
        doubled_ms: int = self.settings.probe_ms << min(max(self._failures - 1, 0), 20)
        return min(doubled_ms, self.settings.most_probe_ms) / 1e3

    def _look(self) -> Shown:
        """Look whether it is well. Runs in a thread."""
        if self._model is None:
            self._model = self._connect(self.settings)
        return self._model.verify()

    def _well(self, shown: Shown) -> None:
        changed, self._shown = self._shown != shown, shown
        if changed:
            self._kind = ""
            self._teller.well(self.settings.provider, shown)

    def _away(self, error: RemoteError) -> None:
        self._failures += 1
        self._shown = None
        self._drop()
        self._changed.set()
        if self._kind != error.kind:
            self._kind = error.kind
            self._teller.away(self.settings.provider, error.kind, str(error))

    def _drop(self) -> None:
        """Let the connection go: the next look makes a new one, without gRPC's own waits."""
        model, self._model = self._model, None
        if model is not None:
            model.close()
