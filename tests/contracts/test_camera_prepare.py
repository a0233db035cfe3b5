"""Making a device ready in the lead (issue 6 'Executor': the shutter is a single round trip)."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.simulated import SimulatedCameras
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

HTTP = ("http-snapshot", "http-json")
DEVICE = "cam-00001"
COMMAND = CaptureCommand(7, DEVICE, "s", "", 1, 0, 0, 0, 3_000, 0, 0)


def deadline(seconds=20.0):
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture
async def fleet():
    async with SimulatedCameras(3) as fleet:
        yield fleet


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


@pytest.fixture(params=HTTP)
def profile(request, fleet):
    address = fleet.url(DEVICE, protocol=request.param)
    return DeviceProfile(device_id=DEVICE, address=address, protocol=request.param)


async def test_a_connection_is_opened_ahead_and_the_capture_uses_it(fleet, cameras, profile):
    assert cameras.wants_prepare(profile)
    await cameras.prepare(profile, deadline_s=deadline())
    assert not cameras.wants_prepare(profile)
    await asyncio.sleep(0)
    assert (fleet.requests, fleet.shutters) == (0, 0), "nothing is sent"
    await cameras.capture(profile, COMMAND, deadline_s=deadline())
    assert len(fleet.connections) == 1, "the capture opened no other"


async def test_what_a_capture_left_in_the_pool_is_seen(fleet, cameras, profile):
    """The pool is asked behind aiohttp's back: its key and its shape are what they were."""
    await cameras.capture(profile, COMMAND, deadline_s=deadline())
    assert not cameras.wants_prepare(profile)
    await cameras.prepare(profile, deadline_s=deadline())
    assert len(fleet.connections) == 1, "an idle one is not doubled"


async def test_a_connection_that_the_device_closed_is_none(fleet, cameras, profile):
    await cameras.prepare(profile, deadline_s=deadline())
    async with asyncio.timeout(20):
        while not fleet.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for connection in list(fleet.connections):
            connection.abort()
        while not cameras.wants_prepare(profile):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_null_camera_wants_nothing(cameras):
    """It must cost nothing: no task is made for it."""
    null = DeviceProfile(device_id=DEVICE, address="null:", protocol="null-camera")
    assert not cameras.wants_prepare(null)
    assert cameras.host(null) == ""


async def test_an_adapter_that_does_not_say_is_always_prepared(cameras):
    class Silent:
        prepared = 0

        async def prepare(self, _profile, *, deadline_s):
            assert deadline_s
            self.prepared += 1

        async def close(self):
            pass

    adapter = cameras._adapters["silent"] = Silent()
    profile = DeviceProfile(device_id=DEVICE, address="x", protocol="silent")
    assert cameras.wants_prepare(profile)
    await cameras.prepare(profile, deadline_s=deadline())
    assert adapter.prepared == 1
    assert not cameras.wants_prepare(DeviceProfile(DEVICE, "x", "smoke-signals"))


async def test_what_cannot_be_prepared_says_why(cameras, profile):
    """Failures are counted only; the cause is for the log."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(CameraError, match="nothing listens"):
            await cameras.prepare(
                DeviceProfile(DEVICE, gone, profile.protocol), deadline_s=deadline()
            )


async def test_a_forbidden_address_is_not_contacted(fleet, profile):
    async with Cameras(CameraSettings(allowed_networks=("10.0.0.0/8",))) as cameras:
        assert not cameras.wants_prepare(profile)
        with pytest.raises(CameraError) as caught:
            await cameras.prepare(profile, deadline_s=deadline())
    assert caught.value.cause == "address_not_allowed"
    assert not fleet.connections


async def test_a_peer_that_does_not_shake_hands_is_let_go_at_the_deadline(cameras):
    """TLS is part of being connected; a peer that accepts and says nothing holds no socket."""
    closed = asyncio.Event()

    async def silent(reader, writer):
        while await reader.read(1_000):
            pass
        writer.close()
        closed.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        profile = DeviceProfile(DEVICE, f"https://127.0.0.1:{port}/x", "http-snapshot")
        with pytest.raises(CameraError) as caught:
            await cameras.prepare(profile, deadline_s=deadline(0.2))
        assert caught.value.cause == "timeout"
        async with asyncio.timeout(20):
            await closed.wait()


async def test_a_certificate_that_is_not_trusted_is_told(cameras):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        profile = DeviceProfile(DEVICE, f"https://127.0.0.1:{port}/x", "http-snapshot")
        with pytest.raises(CameraError) as caught:
            await cameras.prepare(profile, deadline_s=deadline())
        assert caught.value.cause in {"tls", "disconnected", "unreachable"}
        assert cameras.wants_prepare(profile)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://10.1.2.3:8080/x", "10.1.2.3"),
        ("http://nvr.lan/cam/1", "nvr.lan"),
        ("http://127.0.0.1:80/x", ""),
        ("http://localhost/x", ""),
        ("http://[::1]:80/x", ""),
        ("http://[fd00::7]/x", "fd00::7"),
        ("rtsp://10.1.2.3/stream", "10.1.2.3"),
        ("no address", ""),
        ("http://[", ""),
    ],
)
async def test_the_host_whose_requests_are_bounded(cameras, address, host):
    """Issue 6: a bounded number to a host; this machine's simulators bound themselves."""
    assert cameras.host(DeviceProfile(DEVICE, address, "http-snapshot")) == host
