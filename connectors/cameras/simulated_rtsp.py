"""A simulated RTSP camera: one stream over real sockets, and every way of getting it wrong.

    python -m connectors.cameras.simulated_rtsp --codec h265 --fault hang --at PLAY
    {"host": "127.0.0.1", "port": 40123, "pid": 4711, "url": "rtsp://127.0.0.1:40123/cam"}

The stream runs from the start, as a camera's does: who comes, comes in the middle of a group of
pictures. Each picture carries its number (``simulated_rtsp_media.py``), and :meth:`taken_ms` says
when it was taken, so a test can tell a picture that is older than its shutter.

Faults of the protocol happen at a step (``at``): DESCRIBE, SETUP, PLAY, or STREAM (the packets):

| Fault | What happens |
|---|---|
| ``hang`` | no answer; no packets |
| ``drip`` | one byte each ``delay_ms`` |
| ``cut`` | half of it, then the connection is closed |
| ``close``, ``reset`` | the connection is closed, or reset, instead |
| ``not-rtsp`` | something that is not RTSP |
| ``status`` | this ``status``; a 3xx with ``location`` |
| ``endless`` | a head, or a picture, that never ends |
| ``flood`` | packets as fast as the connection takes them |
| ``garbage`` | packets with right headers and random pictures |
| ``noise`` | packets of random bytes |
| ``damaged`` | each key frame is cut short, though no packet is missing |
| ``lossy`` | every ``every``-th packet is missing |
| ``disorder`` | neighbouring packets change places |
| ``cached`` | a viewer gets the last group of pictures at once, before what is new |
| ``udp-silent`` | nothing comes over UDP |
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import uvloop

from connectors.cameras.simulated_rtsp_connection import CameraConnection
from connectors.cameras.simulated_rtsp_media import (
    HZ,
    PAYLOAD_TYPES,
    Source,
    payloads,
    without_sets,
)
from connectors.cameras.tether import on_tether
from schemas.errors import ShutterwheelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

RtspFaultKind = Literal[
    "hang", "drip", "cut", "close", "reset", "not-rtsp", "status", "endless", "flood", "garbage",
    "noise", "damaged", "lossy", "disorder", "cached", "udp-silent",
]  # fmt: skip
Step = Literal["DESCRIBE", "SETUP", "PLAY", "STREAM"]
MAX_REMEMBERED: Final = 10_000
"""Pictures whose time is remembered."""
DAMAGED_BYTES: Final = 6
"""Left of a damaged key frame, which ends within its slice's header: FFmpeg takes an H.265 slice of
16, 48 or 100 bytes for whole once in 5 to 20 times, and nothing says so."""
NTP_EPOCH_S: Final = 2_208_988_800


class RtspFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of going wrong; see the module's text."""

    kind: RtspFaultKind
    at: Step = "STREAM"
    delay_ms: int = 20
    status: int = 500
    location: str = ""
    every: int = 7


class Camera(msgspec.Struct, frozen=True):
    """What kind of camera it is."""

    codec: str = "h264"
    """``h264``, ``h265`` or ``jpeg``."""
    width_px: int = 320
    height_px: int = 240
    fps: int = 50
    gop: int = 10
    """Pictures from one key frame to the next; H.264 and H.265."""
    transports: tuple[str, ...] = ("tcp", "udp")
    """What SETUP takes; others are answered 461."""
    auth: tuple[str, ...] = ()
    """Which of ``basic``, ``digest``, ``digest-sha256`` are offered, in this order."""
    user: str = "admin"
    password: str = "secret"  # noqa: S105 - a pretended camera
    sets: Literal["sdp", "stream", "both"] = "both"
    """Where parameter sets are sent."""
    reports: bool = True
    """RTCP sender reports are sent."""
    clock_ahead_ms: int = 0
    """How far its clock is ahead of ours."""
    sync_on_request: bool = True
    """It answers a picture loss indication with a key frame."""
    timeout_s: int = 60
    """How long a session lives that is not heard of."""


class SimulatedRtsp:
    """The camera; ``async with`` starts and stops it. ``fault`` may be changed at any time."""

    def __init__(
        self,
        camera: Camera | None = None,
        *,
        fault: RtspFault | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.camera = camera or Camera()
        self.fault = fault
        self.host = host
        self.port = port
        self.nonce = secrets.token_hex(8)
        self.requests: list[str] = []
        """Methods of the requests it had, in order."""
        self.connections: set[CameraConnection] = set()
        self.accepted = 0
        """Connections it ever had."""
        self.quiet = asyncio.Event()
        """Set while no connection is open."""
        self.quiet.set()
        self.sdp = ""
        self._source = self._new_source()
        self._taken_ms: OrderedDict[int, float] = OrderedDict()
        self._recent: list[tuple[int, list[bytes]]] = []
        self._number = secrets.randbelow(1_000_000)
        self._base = secrets.randbits(32)
        self._began_ms = time.time_ns() / 1e6
        self._key_wanted = False
        self._server: asyncio.Server | None = None
        self._running: asyncio.Task[None] | None = None

    def _new_source(self) -> Source:
        camera = self.camera
        return Source(camera.codec, camera.width_px, camera.height_px, camera.fps, camera.gop)

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
        """Listen and begin to film; raises UsageError if the port cannot be had."""
        loop = asyncio.get_running_loop()
        units, _ = self._new_source().take(0)
        self.sdp = self._source.sdp(units)
        if self.camera.sets == "stream":
            lines = self.sdp.splitlines(keepends=True)
            self.sdp = "".join(line for line in lines if not line.startswith("a=fmtp"))
        try:
            self._server = await loop.create_server(
                lambda: CameraConnection(self), self.host, self.port
            )
        except OSError as error:
            raise UsageError(
                f"the simulated camera cannot listen on {self.host}:{self.port}: {error.strerror}"
            ) from error
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._running = asyncio.create_task(self._film(), name="simulated-camera")

    async def stop(self) -> None:
        """Close every connection and stop."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        for connection in list(self.connections):
            connection.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self.quiet.wait()

    @property
    def url(self) -> str:
        """The address for a profile."""
        return f"rtsp://{self.host}:{self.port}/cam"

    def taken_ms(self, number: int) -> float:
        """Return when a picture was taken, UTC milliseconds by this machine's clock."""
        return self._taken_ms[number]

    def want_key(self) -> None:
        """A viewer asked for a key frame."""
        self._key_wanted = self.camera.sync_on_request

    def timestamp(self, number: int) -> int:
        """Return the RTP timestamp of a picture: when it was taken, not when it was due."""
        taken_ms = self._taken_ms.get(number, self._began_ms)
        return (self._base + round((taken_ms - self._began_ms) * HZ / 1000)) & 0xFFFF_FFFF

    def report(self, ssrc: int) -> bytes:
        """Return a sender report: what this camera's clock says now, and the timestamp of that."""
        number, taken_ms = next(reversed(self._taken_ms.items()))
        now_s = (taken_ms + self.camera.clock_ahead_ms) / 1000 + NTP_EPOCH_S
        seconds, fraction = int(now_s), int(now_s % 1 * 2**32)
        fields = (ssrc, seconds, fraction, self.timestamp(number), 0, 0)
        return b"\x80\xc8\x00\x06" + b"".join(value.to_bytes(4, "big") for value in fields)

    def last_group(self) -> list[tuple[int, list[bytes]]]:
        """Return the packets' payloads of the pictures since the last key frame, by number."""
        return list(self._recent)

    async def _film(self) -> None:
        loop = asyncio.get_running_loop()
        began_s, first = loop.time(), self._number
        while True:
            self._take_one()
            due_s = began_s + (self._number - first) / self.camera.fps
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    def _take_one(self) -> None:
        number, self._number = self._number, self._number + 1
        self._taken_ms[number] = time.time_ns() / 1e6
        if len(self._taken_ms) > MAX_REMEMBERED:
            self._taken_ms.popitem(last=False)
        units, key = self._source.take(number, key=self._key_wanted)
        self._key_wanted = self._key_wanted and not key
        if self.camera.sets == "sdp" and self.camera.codec != "jpeg":
            units = without_sets(self.camera.codec, units)
        if key and self.fault is not None and self.fault.kind == "damaged":
            units = [*units[:-1], units[-1][:DAMAGED_BYTES]]
        parts = list(payloads(self.camera.codec, units))
        if key:
            self._recent.clear()
        self._recent.append((number, parts))
        for connection in list(self.connections):
            connection.send_picture(number, parts)

    @property
    def payload_type(self) -> int:
        """Of its packets."""
        return PAYLOAD_TYPES[self.camera.codec]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m connectors.cameras.simulated_rtsp",
        description="Serve one simulated RTSP camera; print one JSON line when it is ready.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--codec", choices=sorted(PAYLOAD_TYPES), default="h264")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--gop", type=int, default=50, help="pictures from key frame to key frame")
    parser.add_argument("--width", type=int, default=320, help="pixels")
    parser.add_argument("--height", type=int, default=240, help="pixels")
    parser.add_argument("--transports", default="tcp,udp", help="what SETUP takes")
    parser.add_argument("--deaf", action="store_true", help="no key frame on request")
    parser.add_argument("--fault", help="one of the faults, see the module's text")
    parser.add_argument("--at", default="STREAM", help="the step at which it happens")
    parser.add_argument("--tether", action="store_true", help="stop when standard input closes")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT, or the end of the tether."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if options.tether:
        loop.add_reader(sys.stdin.fileno(), on_tether, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    camera = Camera(
        codec=options.codec,
        fps=options.fps,
        gop=options.gop,
        width_px=options.width,
        height_px=options.height,
        transports=tuple(options.transports.split(",")),
        sync_on_request=not options.deaf,
    )
    fault = None
    if options.fault:
        try:
            fault = msgspec.convert({"kind": options.fault, "at": options.at}, RtspFault)
        except msgspec.ValidationError as error:
            raise UsageError(f"no such fault: {error}") from error
    async with SimulatedRtsp(camera, fault=fault, host=options.host, port=options.port) as one:
        ready = {"host": one.host, "port": one.port, "pid": os.getpid(), "url": one.url}
        print(msgspec.json.encode(ready).decode(), flush=True)
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parse_arguments(arguments)
    try:
        uvloop.run(serve(options))
    except (ShutterwheelError, OSError, ValueError) as error:
        print(f"simulated RTSP camera: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
