"""The ways to a picture that are compared: ours, PyAV's ``av.open``, and the ffmpeg program.

Each takes one photo a call from the same address, and gives a JPEG that is judged in the same way.
What ``av.open`` decodes is encoded as ours is. Only ours asks when the picture was taken.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp

from benchmarks.result import OURS
from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.frame import read_jpeg
from connectors.cameras.rtsp_decode import encode
from connectors.cameras.rtsp_settings import RtspSettings
from schemas.errors import BrokerError, CameraError
from schemas.records import CaptureCommand, DeviceProfile

if TYPE_CHECKING:
    from collections.abc import Mapping

QUALITY: Final = 90
TUNED: Final = {
    "fflags": "nobuffer",
    "flags": "low_delay",
    "probesize": "32",
    "analyzeduration": "0",
}
"""The options that users pass on to each other for a quick start."""
WARM: Final = f"{OURS}-warm"
MISSES: Final = (CameraError, BrokerError, OSError, ValueError, aiohttp.ClientError)
"""How a photo fails; FFmpeg's errors are ValueErrors and OSErrors."""


def command() -> CaptureCommand:
    """Return a command for one photo; of its fields, none matters here."""
    return CaptureCommand(
        command_id=1,
        device_id="cam",
        schedule_id="",
        request_id="r",
        epoch=0,
        nominal_ms=0,
        scheduled_ms=0,
        not_after_ms=0,
        capture_timeout_ms=3_000,
        priority=0,
        issued_at_ms=0,
    )


class System(Protocol):
    """One way to a picture."""

    name: str

    async def ready(self) -> None:
        """Do what is done before the shutter."""

    async def take(self, seconds: float) -> bytes:
        """Take a photo within so many seconds; raises one of :data:`MISSES`."""
        ...

    async def close(self) -> None:
        """End it."""


class Ours:
    """Our adapter; ``warm``: its stream plays on, and is there before the first shutter."""

    def __init__(self, url: str, protocol: str, *, warm: bool = False) -> None:
        self.name = WARM if warm else OURS
        self._warm = warm
        rtsp = RtspSettings(warm_sessions=int(warm), warm_idle_ms=60_000)
        self._cameras = Cameras(CameraSettings(rtsp=rtsp))
        self._profile = DeviceProfile(device_id="cam", address=url, protocol=protocol)

    async def ready(self) -> None:
        """Prepare a warm stream, and take the photos that show that it is often."""
        for _ in range(2 if self._warm else 0):
            deadline_s = asyncio.get_running_loop().time() + 30
            await self._cameras.prepare(self._profile, deadline_s=deadline_s)
            await self._cameras.capture(self._profile, command(), deadline_s=deadline_s)

    async def take(self, seconds: float) -> bytes:
        """Take a photo."""
        deadline_s = asyncio.get_running_loop().time() + seconds
        frame = await self._cameras.capture(self._profile, command(), deadline_s=deadline_s)
        return frame.data

    async def close(self) -> None:
        """Close all streams."""
        await self._cameras.close()


class PlainAiohttp:
    """aiohttp's client and nothing else: one session, the body read."""

    name = "aiohttp alone"

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def ready(self) -> None:
        """Open the session."""
        self._session = aiohttp.ClientSession()

    async def take(self, seconds: float) -> bytes:
        """Fetch the picture."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.get(self._url, timeout=timeout) as response:
            return await response.read()

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()


class AvOpen:
    """PyAV: open, decode until a picture comes, close."""

    def __init__(self, url: str, options: Mapping[str, str], name: str) -> None:
        self.name = name
        self._url = url
        self._options = dict(options)

    async def ready(self) -> None:
        """Do nothing."""

    async def take(self, seconds: float) -> bytes:
        """Take a photo; in a thread, as a program with an event loop would."""
        return await asyncio.to_thread(self._take, seconds)

    def _take(self, seconds: float) -> bytes:
        import av

        until_s = time.monotonic() + seconds
        container: Any = av.open(self._url, options=self._options, timeout=seconds)
        with container:
            for frame in container.decode(video=0):
                if not frame.is_corrupt:
                    return encode(frame, QUALITY)
                if time.monotonic() > until_s:
                    break
        raise TimeoutError

    async def close(self) -> None:
        """Do nothing."""


class FfmpegProgram:
    """The ffmpeg program, started for each photo."""

    name = "ffmpeg program"

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        given = [word for name, value in options.items() for word in (f"-{name}", value)]
        self._command = ["ffmpeg", "-v", "error", *given, "-i", url, "-frames:v", "1"]
        self._command += ["-f", "image2pipe", "-c:v", "mjpeg", "-q:v", "3", "pipe:1"]

    async def ready(self) -> None:
        """Do nothing."""

    async def take(self, seconds: float) -> bytes:
        """Take a photo."""
        return await asyncio.to_thread(self._take, seconds)

    def _take(self, seconds: float) -> bytes:
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        return done.stdout

    async def close(self) -> None:
        """Do nothing."""


def rtsp_systems(url: str, transport: str) -> list[System]:
    """Return every way to a picture of a stream."""
    over = {"rtsp_transport": transport}
    found: list[System] = [
        Ours(url, "rtsp"),
        Ours(url, "rtsp", warm=True),
        AvOpen(url, over, "av.open"),
        AvOpen(url, over | TUNED, "av.open tuned"),
    ]
    if shutil.which("ffmpeg"):
        found.append(FfmpegProgram(url, over))
    return found


def cpu_s() -> float:
    """Return the CPU seconds of this process, and of the programs that it ran to their end."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def timed(system: System, seconds: float) -> tuple[float, float] | None:
    """Take one photo; return milliseconds until it was verified and of CPU, or None: no photo.

    One that comes after its time is none: ``av.open``'s timeout does not cover the whole.
    """
    began_s, cpu_began_s = time.perf_counter(), cpu_s()
    try:
        read_jpeg(await system.take(seconds))
    except MISSES:
        return None
    if time.perf_counter() - began_s > seconds:
        return None
    return (time.perf_counter() - began_s) * 1000, (cpu_s() - cpu_began_s) * 1000
