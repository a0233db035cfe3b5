"""One process that deletes photos whose time is over, now and then: what ``up`` starts.

It needs the blob store and nothing else. The first run is a minute after the start, when workers
have started; a run that fails is logged, counted and tried again at the next. A run rests twice as
long as it works (``retention.py``), so it takes a third of a core and of a disk's time at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final, NoReturn

from schemas.errors import ShutterwheelError
from streams.observability.http import Condition, OperatorServer
from streams.observability.logs import configure, get_logger
from streams.observability.metrics import Metrics

FIRST_S: Final = 60.0
REST: Final = 2.0
EXIT_AGAIN: Final = 3
"""What went wrong may be well after a new start."""


@dataclass(frozen=True, slots=True)
class PrunerOptions:
    """What a pruner is started with."""

    blobs: str
    every_ms: int
    """1 s to 30 days."""
    port: int = 0
    """Port of /metrics, /health, /ready on 127.0.0.1; 0: any."""
    log_level: str = "info"
    tethered: bool = False
    """Stop when standard input closes: the supervisor has gone."""


def run(options: PrunerOptions) -> NoReturn:
    """Prune until told to stop; never returns."""
    configure("photos", "0", options.log_level)
    log = get_logger(__name__)
    code = 0
    try:
        asyncio.run(_main(options))
    except ShutterwheelError as error:
        log.error("pruner stops", reason=error.line(), kind=type(error).__name__)
        code = EXIT_AGAIN if error.retryable else 1
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)


async def _main(options: PrunerOptions) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.tethered:
        loop.add_reader(sys.stdin.fileno(), _on_tether, stop)
    metrics = Metrics("photos", "0")
    server = OperatorServer(metrics, ready=lambda: Condition(ok=True))
    port = await server.start(port=options.port)
    get_logger(__name__).info("pruner starts", port=port, pid=os.getpid(), blobs=options.blobs)
    work = asyncio.ensure_future(Pruner(options, metrics).forever())
    ended = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        work.cancel()
        ended.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await server.stop()


def _on_tether(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


class Pruner:
    """Goes through the blob store now and then, and counts what it does."""

    def __init__(self, options: PrunerOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics

    async def forever(self) -> None:
        """Look a minute after the start, and then each time that it is due."""
        every_s = self._options.every_ms / 1000.0
        await asyncio.sleep(min(FIRST_S, every_s))
        while True:
            began_s = time.monotonic()
            await self.once(time.time_ns() // 1_000_000)
            await asyncio.sleep(max(0.0, began_s + every_s - time.monotonic()))

    async def once(self, now_ms: int) -> None:
        """Go through the store once; what fails is counted and told."""
        # Here: the library of object stores need not be there before the workers have started.
        from connectors.blobs.retention import Pruned, prune
        from connectors.blobs.store import BlobStore

        log, metrics = get_logger(__name__), self._metrics
        before = Pruned()

        def count(so_far: Pruned) -> None:
            nonlocal before
            metrics.pruned_photos.inc(so_far.deleted - before.deleted)
            metrics.pruned_bytes.inc(so_far.deleted_bytes - before.deleted_bytes)
            before = Pruned(so_far.looked_at, so_far.deleted, so_far.beside, so_far.deleted_bytes)

        try:
            store = BlobStore.open(self._options.blobs)
            try:
                done = await prune(store, now_ms, progress=count, rest=REST)
            finally:
                await store.aclose()
        except ShutterwheelError as error:
            metrics.prune_failures.inc()
            log.warning("photos are not pruned", reason=error.line())
            return
        metrics.pruned_at.set(now_ms / 1000.0)
        log.info(
            "photos pruned", looked_at=done.looked_at, deleted=done.deleted,
            beside=done.beside, deleted_bytes=done.deleted_bytes,
        )  # fmt: skip
