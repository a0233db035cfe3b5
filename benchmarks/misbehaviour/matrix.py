"""One cell of the matrix: a protocol against a fault, many captures, twice over.

Each of the captures is of another device, and all end: with a photo, or with a CameraError that has
a cause. The first pass shows the outcome and the longest time. The second shows what is left of it:
memory that grew from the end of the first pass to the end of the second (tracemalloc, after a
collection), and sockets beyond those from before the first (``own_sockets.py``). Idle connections
are kept for :data:`KEEPALIVE_MS` here, so they are gone by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks.misbehaviour.faults import KINDS, Fault
from benchmarks.misbehaviour.own_sockets import OwnSockets
from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.rtsp_settings import RtspSettings
from schemas.errors import BrokerError, CameraError
from schemas.records import CaptureCommand, DeviceProfile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.misbehaviour.subjects import Subject

PHOTO: Final = "photo"
LOGIN: Final = "CAMERA_MISBEHAVIOUR"
KEEPALIVE_MS: Final = 100
AT_ONCE: Final = 50
"""Captures at once where each has something to do; where all only wait, all of them at once."""
END_S: Final = 30.0
"""What ends by itself has so long; that it did not need it is what the matrix shows."""
GIVEN_BACK_S: Final = 10.0
"""How long sockets may take to be closed; generous, it is no figure of the matrix."""
SETTINGS: Final = CameraSettings(
    max_image_bytes=512 * 1024,
    keepalive_ms=KEEPALIVE_MS,
    rtsp=RtspSettings(warm_sessions=0),  # what is kept on purpose is no leak
)


class Child:
    """A program of ours that prints one JSON line when it is ready."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise BrokerError(f"{command[0]} did not start.")
        self.ready: dict[str, Any] = json.loads(line)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the process meanwhile."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Peer(Child):
    """The misbehaving peer in front of a camera: a port a fault."""

    def __init__(self, upstream: int, faults: Sequence[Fault]) -> None:
        self.faults = list(faults)
        listed = [{"kind": fault.kind, "step": fault.step} for fault in faults]
        settings = json.dumps({"upstream": upstream, "faults": listed})
        super().__init__("benchmarks.misbehaviour.peer", settings)
        self._control = socket.create_connection(("127.0.0.1", self.ready["control"]), timeout=60)
        self._answers = self._control.makefile("rb")

    def port(self, fault: Fault) -> int:
        """Return the port at which this fault is met."""
        return int(self.ready["ports"][self.faults.index(fault)])

    def counts(self, fault: Fault, word: str = "counts") -> tuple[int, int]:
        """Return the connections and requests of a fault's port."""
        self._control.sendall(f"{word}\n".encode())
        connections, requests = json.loads(self._answers.readline())[self.faults.index(fault)]
        return connections, requests

    def close(self) -> None:
        """End it."""
        if hasattr(self, "_answers"):
            self._answers.close()
            self._control.close()
        super().close()


@dataclass(slots=True)
class Cell:
    """What became of a protocol under a fault."""

    protocol: str
    fault: Fault
    captures: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    longest_ms: float = 0.0
    beyond_ms: float = 0.0
    """Of a capture that took longer than its timeout: by how much, at most."""
    requests: float = 0.0
    """Requests a capture, as the peer counted them; a retry behind our back would be here."""
    sockets_left: int = 0
    grown_bytes: int = 0

    @property
    def strange(self) -> int:
        """Captures that ended as they should not."""
        return sum(
            n for cause, n in self.causes.items() if cause not in KINDS[self.fault.kind].ends
        )


async def capture(
    cameras: Cameras, subject: Subject, fault: Fault, port: int, number: int, timeout_s: float
) -> tuple[str, float]:
    """Take one photo; return how it ended and how long that took in seconds."""
    device = f"cam-{number:05d}"
    profile = DeviceProfile(
        device_id=device,
        address=subject.at(port, device, tls=KINDS[fault.kind].tls),
        protocol=subject.protocol,
        credentials_ref=f"env:{LOGIN}" if fault.kind == "401" else "",
    )
    command = CaptureCommand(number, device, "s", "", 1, 0, 0, 0, round(timeout_s * 1000), 0, 0)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        await cameras.capture(profile, command, deadline_s=began_s + timeout_s)
        end = PHOTO
    except CameraError as error:
        end = error.cause
    return end, loop.time() - began_s


async def one_pass(
    cameras: Cameras,
    cell: Cell,
    subject: Subject,
    port: int,
    timeout_s: float,
    captures: int,
    first: int = 1,
) -> None:
    """Take a photo of each device from the first on, many at once; write down how each ended."""
    room = asyncio.Semaphore(captures if KINDS[cell.fault.kind].waits else AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            end, took_s = await capture(cameras, subject, cell.fault, port, number, timeout_s)
        cell.captures += 1
        cell.causes[end] += 1
        cell.longest_ms = max(cell.longest_ms, took_s * 1000)
        cell.beyond_ms = max(cell.beyond_ms, (took_s - timeout_s) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(first, first + captures):
            group.create_task(one(number))


async def run_cell(
    subject: Subject, fault: Fault, peer: Peer, camera: Child, timeout_s: float, captures: int
) -> Cell:
    """Measure one cell. ``timeout_s``: of captures that only their deadline ends."""
    cell, second = Cell(subject.protocol, fault), Cell(subject.protocol, fault)
    stopped = fault.kind == "stopped"
    if not KINDS[fault.kind].waits:
        timeout_s = END_S
    port = int(camera.ready["port"]) if stopped else peer.port(fault)
    os.environ[LOGIN] = "admin:not-shown"
    peer.counts(fault, "forget")
    async with Cameras(SETTINGS) as cameras:
        # Once against a good camera, so that what is loaded and opened but once is there.
        await capture(cameras, subject, Fault("none"), int(camera.ready["port"]), 999, 30.0)
        await asyncio.sleep(KEEPALIVE_MS / 1000)
        own = OwnSockets(port, int(camera.ready["port"]))
        with camera.stopped() if stopped else contextlib.nullcontext():
            await one_pass(cameras, cell, subject, port, timeout_s, captures)
            cell.requests = peer.counts(fault, "forget")[1] / captures
            await own.settled(GIVEN_BACK_S)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await one_pass(cameras, second, subject, port, timeout_s, captures)
        cell.sockets_left = await own.settled(GIVEN_BACK_S)
        gc.collect()
        cell.grown_bytes = tracemalloc.get_traced_memory()[0] - before
    return cell


async def steps_of(subject: Subject, peer: Peer, timeout_s: float) -> int:
    """Return how many requests a first photo of a device needs."""
    good = Fault("none")
    peer.counts(good, "forget")
    async with Cameras(SETTINGS) as cameras:
        end, _ = await capture(cameras, subject, good, peer.port(good), 1_000, timeout_s)
    if end != PHOTO:
        raise BrokerError(f"a good {subject.protocol} camera gave no photo: {end}")
    made = peer.counts(good, "forget")[1]
    return subject.steps or made
