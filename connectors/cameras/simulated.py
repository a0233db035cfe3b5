"""A fleet of simulated cameras: one HTTP server, thousands of devices, real pictures, real faults.

    python -m connectors.cameras.simulated --port 0 --devices 1000
    {"host": "127.0.0.1", "ports": [40123], "devices": 1000, "pid": 4711}

| Request | Answer |
|---|---|
| ``GET /cam/<id>`` | JSON with the device's id: what an ``http-json`` device is known by |
| ``GET /cam/<id>/snapshot.jpg`` | opens the shutter; a JPEG (``http-snapshot``) |
| ``GET /cam/<id>/capture`` | opens the shutter; JSON that names the picture (``http-json``) |
| ``GET /cam/<id>/frames/<n>.jpg`` | one of the device's last two pictures |
| ``GET /log?since=<seq>`` | what the cameras saw, JSON lines of :class:`LogEntry` |
| ``POST /faults`` | changes the faults (:mod:`connectors.cameras.faults`) |
| ``GET /health`` | ``{"shutters": n, "requests": n}`` |

Devices are ``cam-00001`` … ``cam-<devices>``; others are 404. A shutter that opened is in the log
with ``shutter: true`` and the ``X-Command-Id`` of the request, whether or not the picture reached
the other side: a checker counts photographs from the camera's side.

The server stands directly on asyncio's transports, not on a web framework: half of its work is to
break the protocol (cut, drip, reset), and the pictures should cost more than the HTTP around them.
It takes requests without pipelining, and bodies only on ``/faults``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import time
from collections import OrderedDict, deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import msgspec
import uvloop

from connectors.cameras.faults import Fault, FaultBook
from connectors.cameras.picture import Painter
from connectors.cameras.simulated_http import Connection
from connectors.cameras.tether import on_tether
from schemas.errors import ShutterwheelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from connectors.cameras.simulated_http import Request

MAX_LOG_ENTRIES: Final = 1_000_000
MAX_LOG_LINES: Final = 5_000
"""Log lines of one answer: encoding them holds up the shutters, some 3 ms for so many."""
MAX_KEPT_SHOTS: Final = 20_000
"""Devices whose last two pictures are kept (for ``frames/`` and for the fault ``stale``), some 5 kB
a picture; the device that took none for the longest time goes first."""


class Shot(NamedTuple):
    """One picture of a simulated camera."""

    jpeg: bytes
    at_ms: int
    counter: int


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One request as a camera saw it."""

    seq: int
    device_id: str
    at_ms: int
    """When the request was complete, by this machine's clock; UTC milliseconds."""
    at_us: int
    """The same in microseconds, for lateness."""
    kind: str
    """``snapshot``, ``capture`` or ``frame``."""
    shutter: bool
    """A picture was taken."""
    command_id: str
    fault: str


def device_id(number: int) -> str:
    """Return the id of the n-th simulated device, from 1."""
    return f"cam-{number:05d}"


class SimulatedCameras:
    """The fleet; ``async with`` starts and stops it.

    ``ports``: how many ports to listen on, chosen by the kernel unless ``port`` is given; every
    device answers on every port.
    """

    connection: ClassVar[type[Connection]] = Connection
    """What speaks to one peer."""

    def __init__(
        self,
        devices: int = 1_000,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ports: int = 1,
        width_px: int = 320,
        height_px: int = 240,
        faults: dict[str, Fault] | None = None,
    ) -> None:
        if devices < 1 or ports < 1 or (port and ports > 1):
            raise UsageError("devices and ports are at least 1, and a given port is only one")
        self.devices = devices
        self.host = host
        self.ports: list[int] = []
        self.faults = FaultBook(faults)
        self.shutters = 0
        self.requests = 0
        self._want = [port] * ports
        self._painter = Painter(width_px, height_px)
        self._known = frozenset(device_id(n) for n in range(1, devices + 1))
        self._counters: dict[str, int] = {}
        self._last: OrderedDict[str, tuple[Shot, ...]] = OrderedDict()
        self._log: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        self._log_seq = 0
        self._servers: list[asyncio.Server] = []
        self.connections: set[Connection] = set()
        self.quiet = asyncio.Event()
        """Set while no connection is open."""
        self.nonce = secrets.token_hex(8)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; raises UsageError if a port cannot be had."""
        loop = asyncio.get_running_loop()
        for port in self._want:
            try:
                server = await loop.create_server(
                    lambda: self.connection(self), self.host, port, backlog=4096
                )
            except OSError as error:
                await self.stop()
                raise UsageError(
                    f"the simulated cameras cannot listen on {self.host}:{port}: {error.strerror}"
                ) from error
            self._servers.append(server)
            self.ports.append(int(server.sockets[0].getsockname()[1]))

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    def url(self, device: str, *, protocol: str = "http-snapshot", query: str = "") -> str:
        """Return the address of a device for a profile; ports are taken in turn by device."""
        port = self.ports[sum(device.encode()) % len(self.ports)]
        path = f"/cam/{device}" + ("/snapshot.jpg" if protocol == "http-snapshot" else "")
        return f"http://{self.host}:{port}{path}" + (f"?{query}" if query else "")

    def log(self, since: int = 0) -> list[LogEntry]:
        """Return the log's entries with ``seq > since`` that are still kept."""
        return list(self._entries(since))

    def _entries(self, since: int) -> Iterator[LogEntry]:
        if not self._log:
            return iter(())
        return islice(self._log, max(0, since + 1 - self._log[0].seq), None)

    def note(
        self, device: str, kind: str, request: Request, fault: Fault | None, *, shutter: bool
    ) -> None:
        """Write one line of the log."""
        self._log_seq += 1
        at_us = time.time_ns() // 1000
        command_id = request.headers.get("x-command-id") or request.query.get("command_id", "")
        name = fault.kind if fault else ""
        entry = LogEntry(
            self._log_seq, device, at_us // 1000, at_us, kind, shutter, command_id, name
        )
        self._log.append(entry)

    def has(self, device: str) -> bool:
        """Say whether there is such a device."""
        return device in self._known

    def shoot(self, device: str) -> Shot:
        """Open a device's shutter; keep the picture as the device's last."""
        at_ms = time.time_ns() // 1_000_000
        counter = self._counters[device] = self._counters.get(device, 0) + 1
        shot = Shot(self._painter.paint(device, at_ms, counter), at_ms, counter)
        self.shutters += 1
        self._last[device] = (shot, *self._last.get(device, ())[:1])
        self._last.move_to_end(device)
        if len(self._last) > MAX_KEPT_SHOTS:
            self._last.popitem(last=False)
        return shot

    def last(self, device: str) -> Shot | None:
        """Return a device's last picture, if it is still kept."""
        shots = self._last.get(device)
        return shots[0] if shots else None

    def frame(self, device: str, counter: int) -> bytes | None:
        """Return one of the device's last two pictures by its number."""
        for shot in self._last.get(device, ()):
            if shot.counter == counter:
                return shot.jpeg
        return None

    def log_lines(self, since: int) -> bytes:
        """Return the next lines of the log."""
        lines = [msgspec.json.encode(e) for e in islice(self._entries(since), MAX_LOG_LINES)]
        return b"\n".join(lines) + b"\n" if lines else b""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m connectors.cameras.simulated",
        description="Serve simulated cameras; print one JSON line when they are ready.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--ports", type=int, default=1, help="how many free ports to listen on")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--width", type=int, default=320, help="pixels")
    parser.add_argument("--height", type=int, default=240, help="pixels")
    parser.add_argument("--faults", metavar="FILE", help="JSON: device id to fault")
    parser.add_argument("--tether", action="store_true", help="stop when standard input closes")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT, or the end of the tether."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.tether:
        loop.add_reader(sys.stdin.fileno(), on_tether, stop)
    cameras = SimulatedCameras(
        options.devices,
        host=options.host,
        port=options.port,
        ports=options.ports,
        width_px=options.width,
        height_px=options.height,
    )
    if options.faults:
        cameras.faults.update_json(await asyncio.to_thread(Path(options.faults).read_bytes))
    await run_until_told(cameras, stop)


async def run_until_told(cameras: SimulatedCameras, stop: asyncio.Event) -> None:
    """Serve, say in one line of JSON that it does, and end at SIGTERM, SIGINT or ``stop``."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with cameras:
        ready = {
            "host": cameras.host,
            "port": cameras.port,
            "ports": cameras.ports,
            "devices": cameras.devices,
            "pid": os.getpid(),
        }
        print(msgspec.json.encode(ready).decode(), flush=True)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parse_arguments(arguments)
    try:
        uvloop.run(serve(options))
    except (ShutterwheelError, OSError, ValueError) as error:
        print(f"simulated cameras: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
