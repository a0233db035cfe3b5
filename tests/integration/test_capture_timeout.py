"""``capture_timeout`` covers everything and cancels (issue 6 'Executor'): the whole executor, real
sockets, real cameras that misbehave, a real blob store; only Kafka is pretended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from agent_parts import CODEC, FakeApp, kafka_record
from aiohttp import ClientResponse
from aiohttp.client_proto import ResponseHandler

from benchmarks.misbehaviour.own_sockets import OwnSockets
from connectors.blobs.store import BlobStore
from connectors.cameras import Cameras
from connectors.cameras.simulated import SimulatedCameras
from schemas.records import CaptureCommand, CaptureResult, DeviceProfile
from shutterwheel.photos import CameraPhotos
from streams.agents.capture_executor import CHANGELOGS, COMMANDS, CaptureExecutor
from streams.agents.capture_settings import ExecutorSettings
from streams.agents.device_profiles import TOPIC as PROFILES
from streams.runtime.clock import Clock
from streams.runtime.group import boottime_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEVICES = [f"cam-{n:05d}" for n in range(1, 31)]
TIMEOUT_MS = 300
GOOD_MS = 30_000
"""Of cameras that answer: as long as a busy machine may need for all of them."""
GIVEN_BACK_S = 20.0


def responses() -> list[object]:
    """Responses and connections in memory that are connected to somebody."""
    gc.collect()
    found = [o for o in gc.get_objects() if isinstance(o, ClientResponse | ResponseHandler)]
    return [o for o in found if not (isinstance(o, ResponseHandler) and o.transport is None)]


class Before:
    """What there was before, of this test and of others in its process."""

    def __init__(self, *ports: int) -> None:
        self.tasks = len(asyncio.all_tasks())
        self.sockets = OwnSockets(*ports)
        self.responses = responses()


class Rig:
    """An executor with real parts, that commits as often as it can."""

    def __init__(self, cameras: Cameras, blobs: BlobStore) -> None:
        self.app = FakeApp((COMMANDS, PROFILES), CHANGELOGS)
        self.app.clock = Clock()  # type: ignore[assignment]
        self.executor = CaptureExecutor(
            self.app.settings,
            ExecutorSettings(),
            CameraPhotos(cameras, blobs),
            CODEC,
            self.app.clock,
            self.app.metrics,
            1,
        )
        self.executor._app = self.app  # type: ignore[assignment]
        self.partition = self.app.open(0, self.executor)
        self.issued = 0

    async def take(self, address: str, timeout_ms: int = TIMEOUT_MS) -> list[CaptureResult]:
        """Have every device's photo taken once and return how it ended."""
        at_ms = self.app.clock.now_ms() + 200
        with self.app.step(self.partition) as step:
            profiles = [
                kafka_record(DeviceProfile(d, address.format(device=d), "http-snapshot"), n)
                for n, d in enumerate(DEVICES)
            ]
            self.executor._devices.on_profiles(self.partition, profiles, step)
            commands = []
            for device_id in DEVICES:
                self.issued += 1
                commands.append(kafka_record(CaptureCommand(
                    self.issued, device_id, "", "r", 1, at_ms, at_ms, at_ms + timeout_ms,
                    timeout_ms, 0, at_ms,
                ), self.issued))  # fmt: skip
            self.executor.on_commands(self.partition, commands, step)
        steps = asyncio.ensure_future(self.executor._keep_pools())
        results: list[CaptureResult] = []
        async with asyncio.timeout(60):
            while len(results) < len(DEVICES):
                self.app.group.renew(boottime_ms())
                results += [r for _, r in self.app.commit() if isinstance(r, CaptureResult)]
                await asyncio.sleep(0.01)
        steps.cancel()
        return results


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    blobs = BlobStore.open(tmp_path)
    await blobs.start()
    async with Cameras() as cameras:
        yield Rig(cameras, blobs)
    await blobs.aclose()


def states(results: list[CaptureResult]) -> Counter[str]:
    return Counter(f"{r.state} {r.cause.partition(':')[0]}".strip() for r in results)


async def nothing_is_left(rig: Rig, before: Before) -> None:
    """No task, no permit, no response and no connection of an attempt outlives it."""
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > before.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(rig.executor._attempts) == len(rig.executor.admission._seats) == 0
    assert rig.executor.admission._busy == set()
    others = set(map(id, before.responses))
    async with asyncio.timeout(GIVEN_BACK_S):  # a connection that is closed says so in its turn
        while any(id(one) not in others for one in responses()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await before.sockets.settled(GIVEN_BACK_S) == 0


@pytest.mark.parametrize("fault", ["never", "drip", "slow"])
async def test_cameras_that_hold_on_are_let_go_at_the_deadline(rig: Rig, fault: str) -> None:
    """Issue 6: drips, or never closes: costs nothing beyond the timeout; sockets, memory back."""
    delay_ms = 100 if fault == "drip" else 3_600_000
    async with SimulatedCameras(len(DEVICES)) as fleet:
        before = Before(*fleet.ports)
        fleet.faults.update_json(json.dumps({"*": {"kind": fault, "delay_ms": delay_ms}}).encode())
        address = fleet.url("{device}")
        results = await rig.take(address)
        assert states(results) == {"FAILED timeout": len(DEVICES)}
        assert all(r.attempt == 1 and r.shutter_at_ms is not None for r in results)
        async with asyncio.timeout(20):
            await fleet.quiet.wait()
        await nothing_is_left(rig, before)
        fleet.faults.update_json(b'{"*": null}')
        assert states(await rig.take(address, GOOD_MS)) == {"SUCCESS": len(DEVICES)}


async def test_a_fleet_that_is_stopped_costs_the_timeout_and_comes_back(rig: Rig) -> None:
    """Issue 6: a peer that is SIGSTOPped; its kernel still takes connections."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.cameras.simulated", "--devices", str(len(DEVICES)),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    address = f"http://127.0.0.1:{ready['port']}/cam/{{device}}/snapshot.jpg"
    try:
        os.kill(process.pid, signal.SIGSTOP)
        before = Before(ready["port"])
        assert states(await rig.take(address)) == {"FAILED timeout": len(DEVICES)}
        await nothing_is_left(rig, before)
        os.kill(process.pid, signal.SIGCONT)
        assert states(await rig.take(address, GOOD_MS)) == {"SUCCESS": len(DEVICES)}
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        await process.wait()
