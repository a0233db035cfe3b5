"""A small HTTP server for operators: ``/metrics``, ``/sketches``, ``/health``, ``/ready`` and more.

``/health`` answers 200 while the process works and is not stopping, else 503: a supervisor that
sees 503 or nothing starts the worker again. ``/ready`` answers 200 only while the worker does its
work (it has its partitions, and its tables are rebuilt), else 503 with the reason. Further routes
that answer with JSON are handed in (:meth:`OperatorServer.add_get`). It is bound to loopback unless
told otherwise, and it only reads.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from schemas.errors import ShutterwheelError
from streams.observability.logs import get_logger
from streams.observability.metrics import CONTENT_TYPE, Metrics

CLOSE_TIMEOUT_S = 1.0
"""How long a stop waits for answers under way."""
MAX_REQUEST_BYTES = 4_096
"""The longest request line and header field that is read."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether something is as it should be, and if not, why, in a sentence."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: an HTTP status and a body that can be written as JSON."""

    status: int
    body: object


Route = Callable[[Mapping[str, str]], Awaitable[Reply]]
"""Gets the parts of the path and the parameters of the query, gives the answer."""


class PortError(ShutterwheelError):
    """The address of the operator's server cannot be used."""

    advice = "Choose another address, or port 0 for any free one."


class OperatorServer:
    """The server of one worker. Make it, add routes, ``await start()``, at last ``await stop()``.

    ``ready`` and ``alive`` are asked at each request; they must be quick and must not raise.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        ready: Callable[[], Condition],
        alive: Callable[[], Condition] = lambda: Condition(ok=True),
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._alive = alive
        self._stopping = False
        self._started_s = time.monotonic()
        self._runner: web.AppRunner | None = None
        self._app = web.Application()
        self._app.router.add_get("/metrics", self._get_metrics)
        self.add_get("/sketches", self._get_sketches)
        self.add_get("/health", self._get_health)
        self.add_get("/ready", self._get_ready)

    def add_get(self, path: str, route: Route) -> None:
        """Answer ``GET path`` by ``route``, before :meth:`start`; a part is ``/captures/{id}``.

        A ``ShutterwheelError`` of the route is answered with its line: 503 where a retry can
        help, else 400. Any other exception is logged and answered with 500.
        """

        async def handle(request: web.Request) -> web.Response:
            try:
                reply = await route({**request.query, **request.match_info})
            except ShutterwheelError as error:
                reply = Reply(503 if error.retryable else 400, {"error": error.line()})
            except Exception:
                log.exception("a request failed", path=path)
                reply = Reply(500, {"error": "an error on this side; the worker's log has more"})
            return web.Response(
                body=msgspec.json.encode(reply.body),
                status=reply.status,
                content_type="application/json",
            )

        self._app.router.add_get(path, handle)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port; 0 lets the system choose. ``PortError`` if it cannot be."""
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=CLOSE_TIMEOUT_S,
            max_line_size=MAX_REQUEST_BYTES,
            max_field_size=MAX_REQUEST_BYTES,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            reason = getattr(error, "strerror", None) or str(error)
            raise PortError(f"Cannot listen on {host}:{port}: {reason}.") from error
        self._runner = runner
        return int(runner.addresses[0][1])

    def begin_stop(self) -> None:
        """From now on ``/health`` and ``/ready`` answer 503; the server goes on answering."""
        self._stopping = True

    async def stop(self) -> None:
        """Close the server; may be called again, and before :meth:`start`."""
        self.begin_stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _get_sketches(self, _query: Mapping[str, str]) -> Reply:
        return Reply(200, self._metrics.sketches())

    async def _get_health(self, _query: Mapping[str, str]) -> Reply:
        return self._condition(self._alive())

    async def _get_ready(self, _query: Mapping[str, str]) -> Reply:
        return self._condition(self._ready())

    def _condition(self, condition: Condition) -> Reply:
        """Return the answer for a condition; a worker that stops is neither healthy nor ready."""
        if self._stopping:
            condition = Condition(ok=False, reason="the worker is stopping")
        body = {
            "ok": condition.ok,
            "reason": condition.reason,
            "uptime_s": round(time.monotonic() - self._started_s, 3),
        }
        return Reply(200 if condition.ok else 503, body)
