"""Grab: how long from the shutter to a verified picture, and what it costs.

**Time to a picture** (cases ``tcp``, ``udp``, ``http``): a stream of 1280 x 720 at 10 pictures a
second with a key frame a second, served by the GStreamer RTSP server, which runs before we come, as
a camera does; the shutter falls anywhere between two key frames. Ours, cold and warm, beside PyAV's
``av.open`` (as it comes, and with the options that users pass on) and the ffmpeg program. A picture
counts when it is a JPEG that is one. ``cpu_ms`` is the CPU time of a photo, FFmpeg's and the
decoder's included. GStreamer's server answers a request for a key frame (RTCP), which only ours
sends, and begins the stream anew for all viewers where a player asks for its beginning, which
FFmpeg does; ``deaf`` is a simulated camera that does neither.

**A long group of pictures** (case ``long``): a camera that does not answer such requests and has a
key frame each ten seconds; 3 s for a photo, the default. How many photos come of so many tried.

**Rate** (case ``rate``): HTTP snapshots of 100 KB from a server that only sends them, 64 at a time,
beside aiohttp's client alone. ``captures_per_core_s`` is captures a CPU second of the client.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.grab.systems import (
    FfmpegProgram,
    Ours,
    PlainAiohttp,
    System,
    cpu_s,
    rtsp_systems,
    timed,
)
from benchmarks.options import chosen
from benchmarks.result import Row
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

CASES: Final = ("rate", "http", "tcp", "udp", "deaf", "long")
CODECS: Final = ("h264", "h265", "mjpeg")
WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
FPS: Final = 10
SIZE: Final = f"{WIDTH_PX} x {HEIGHT_PX}"
LONG_GOP_S: Final = 10
TRIES: Final = 7
SLOW_TRIES: Final = 3
"""Of systems that take seconds."""
QUICK_TRIES: Final = 3
PATIENCE_S: Final = 10.0
TIMEOUT_S: Final = 3.0
"""``capture_timeout``'s default, for the long group of pictures."""
AT_ONCE: Final = 64
RATE_S: Final = 6.0
PEERS: Final = Path(__file__).resolve().parents[2] / "tests" / "peers"


@contextmanager
def child(*command: str) -> Iterator[dict[str, Any]]:
    """Run a program of ours that prints one JSON line and ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise BrokerError(f"{command[0]} did not start.")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def gstreamer(folder: Path, codec: str, transport: str) -> Iterator[str]:
    """Run the GStreamer RTSP server with one stream; yield its address."""
    if str(PEERS) not in sys.path:
        sys.path.insert(0, str(PEERS))
    gst = importlib.import_module("gst_rtsp")
    mount = gst.Mount(
        "/cam",
        codec=codec,
        gop_frames=FPS,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        frames_per_s=FPS,
        transports=(transport,),
        warm=True,
    )
    try:
        server = gst.GstRtspServer(folder, [mount])
    except importlib.import_module("peer").PeerMissing as error:
        raise BrokerError(str(error)) from None
    with server:
        yield server.url()


@contextmanager
def simulated(codec: str, gop_s: int) -> Iterator[str]:
    """Run a simulated camera that sends no key frame on request; yield its address."""
    size = ("--width", str(WIDTH_PX), "--height", str(HEIGHT_PX))
    with child(
        *("connectors.cameras.simulated_rtsp", "--tether", "--deaf", "--codec", codec),
        *("--fps", str(FPS), "--gop", str(FPS * gop_s), *size),
    ) as ready:
        yield str(ready["url"])


async def many(system: System, tries: int, seconds: float) -> list[tuple[float, float] | None]:
    """Take photos at random moments of a group of pictures."""
    rng = random.Random(7)
    await system.ready()
    found = []
    for _ in range(tries):
        await asyncio.sleep(rng.random())
        found.append(await timed(system, seconds))
        if len(found) >= SLOW_TRIES and (found[-1] is None or found[-1][0] > 1_000):
            break  # enough of one that takes so long
    await system.close()
    return found


def rows(
    case: str, name: str, found: list[tuple[float, float] | None], *, deadline: bool = False
) -> Iterator[Row]:
    """Say what became of some photos."""
    good = [one for one in found if one is not None]
    if good:
        waits = sorted(ms for ms, _ in good)
        yield Row(case, name, "to_picture_ms_p50", round(statistics.median(waits), 1), "ms")
        yield Row(case, name, "to_picture_ms_max", round(waits[-1], 1), "ms")
        cpu = statistics.median(cpu for _, cpu in good)
        yield Row(case, name, "cpu_ms", round(cpu, 1), "ms")
    yield Row(case, name, "photos", len(good), "1")
    yield Row(case, name, "tried", len(found), "1")
    if deadline:
        yield Row(case, name, "photos_of_hundred", round(100 * len(good) / len(found), 1), "1")


def streams(options: Options, rig: Rig, transport: str) -> Iterator[Row]:
    """Measure the streams over one transport."""
    for codec in CODECS:
        if transport == "udp" and codec != "h264":
            continue  # how packets come makes no difference to what is in them
        case = f"rtsp {codec} over {transport.upper()}, {SIZE}, GStreamer"
        rig.say(case)
        with gstreamer(rig.folder / f"gst-{codec}-{transport}", codec, transport) as url:
            yield from _all(options, case, url, transport, PATIENCE_S)


def _all(
    options: Options, case: str, url: str, transport: str, seconds: float, *, deadline: bool = False
) -> Iterator[Row]:
    systems = rtsp_systems(url, transport)
    wanted = chosen(options.systems, [one.name for one in systems], "system")
    tries = QUICK_TRIES if options.quick else TRIES
    for system in systems:
        if system.name in wanted:
            found = uvloop.run(many(system, tries, seconds))
            yield from rows(case, system.name, found, deadline=deadline)


def deaf(options: Options, rig: Rig) -> Iterator[Row]:
    """A camera that sends no key frame on request, one a second."""
    case = f"rtsp h264 over TCP, {SIZE}, no key frame on request"
    rig.say(case)
    with simulated("h264", 1) as url:
        yield from _all(options, case, url, "tcp", PATIENCE_S)


def long_group(options: Options, rig: Rig) -> Iterator[Row]:
    """A camera that sends a key frame each ten seconds."""
    case = f"rtsp h264 over TCP, {SIZE}, a key frame in {LONG_GOP_S} s, none on request, 3 s"
    rig.say(case)
    with simulated("h264", LONG_GOP_S) as url:
        yield from _all(options, case, url, "tcp", TIMEOUT_S, deadline=True)


def snapshots(options: Options, rig: Rig) -> Iterator[Row]:
    """HTTP snapshots, one after the other."""
    case = f"http-snapshot, {SIZE}"
    rig.say(case)
    size = ("--width", str(WIDTH_PX), "--height", str(HEIGHT_PX))
    with child("connectors.cameras.simulated", "--tether", "--devices", "1", *size) as ready:
        url = f"http://127.0.0.1:{ready['port']}/cam/cam-00001/snapshot.jpg"
        systems: list[System] = [Ours(url, "http-snapshot"), PlainAiohttp(url)]
        if shutil.which("ffmpeg"):
            systems.append(FfmpegProgram(url, {}))
        for system in systems:
            tries = QUICK_TRIES if options.quick else TRIES
            yield from rows(case, system.name, uvloop.run(many(system, tries, PATIENCE_S)))


def rate(options: Options, rig: Rig) -> Iterator[Row]:
    """Many HTTP snapshots at once, beside aiohttp alone; in turns, so that both see the same."""
    seconds = options.seconds or (2.0 if options.quick else RATE_S)
    case = f"http-snapshot of 100 KB, {AT_ONCE} at once"
    rig.say(case)
    makers: list[Callable[[str], System]] = [lambda url: Ours(url, "http-snapshot"), PlainAiohttp]
    with child("benchmarks.grab.server") as ready:
        url = f"http://127.0.0.1:{ready['port']}/snapshot.jpg"
        for make in makers:
            uvloop.run(_together(make(url), 1.0))  # what is imported and cached at first
            name, count, cpu, took_s = uvloop.run(_together(make(url), seconds))
            yield Row(case, name, "captures_per_core_s", round(count / cpu), "1/s")
            yield Row(case, name, "cpu_us_per_record", round(cpu / count * 1e6, 1), "us")
            yield Row(case, name, "captures_per_s", round(count / took_s), "1/s")


async def _together(system: System, seconds: float) -> tuple[str, int, float, float]:
    """Take photos at once for some seconds; return name, count, CPU seconds, seconds."""
    await system.ready()
    count = 0
    began_s, cpu_began_s = time.perf_counter(), cpu_s()

    async def go_on() -> None:
        nonlocal count
        while time.perf_counter() - began_s < seconds:
            await system.take(PATIENCE_S)
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(go_on())
    took_s, cpu = time.perf_counter() - began_s, cpu_s() - cpu_began_s
    await system.close()
    return system.name, count, cpu, took_s


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure what was asked for."""
    cases = chosen(options.cases, CASES, "case")
    others = {"deaf": deaf, "long": long_group, "http": snapshots, "rate": rate}
    for case in cases:
        if case in others:
            yield from others[case](options, rig)
        else:
            yield from streams(options, rig, case)


def versions() -> dict[str, str]:
    """Return the versions of the systems that are compared."""
    import av

    found = {
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
    }
    program = shutil.which("ffmpeg")
    if program:
        text = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
        found["ffmpeg program"] = text.stdout.split()[2]
    return found
