"""No way leads to an address that may not be contacted: a tripwire counts who comes (issue 6).

127.0.0.1 may be contacted, 127.0.0.2 may not, and something listens there. Each way by which a
device, or whoever writes its profile, could send a worker there is tried over real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from connectors.cameras import Cameras, CameraSettings
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

FORBIDDEN = "127.0.0.2"
REFUSED = {"address_not_allowed", "bad_address"}
ANSWERED = REFUSED | {"bad_answer", "redirects", "unknown_protocol", "unknown_signature"}
"""A protocol may follow no redirect at all."""


class Tripwire:
    """Something that must never be connected to."""

    def __init__(self):
        self.connections = 0
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._count, FORBIDDEN, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error):
        self._server.close()
        await self._server.wait_closed()

    def _count(self, _reader, writer):
        self.connections += 1
        writer.close()


class Device:
    """A device on 127.0.0.1 that answers every request with the same text."""

    def __init__(self, answer):
        self._answer = answer
        self.asked = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        while await reader.read(65_536):
            self.asked += 1
            writer.write(self._answer)
        writer.close()


@pytest.fixture
async def tripwire():
    async with Tripwire() as wire:
        yield wire
        assert wire.connections == 0, "it was contacted"


@pytest.fixture
async def cameras(monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    async with Cameras(CameraSettings(allowed_networks=("127.0.0.1/32",))) as cameras:
        yield cameras


async def refused(cameras, address, protocol="http-snapshot", causes=REFUSED):
    profile = DeviceProfile("cam-1", address, protocol, credentials_ref="env:CAMERA_GATE")
    command = CaptureCommand(1, "cam-1", "s", "", 1, 0, 0, 0, 3_000, 0, 0)
    deadline_s = asyncio.get_running_loop().time() + 20
    with pytest.raises(CameraError) as caught:
        await cameras.capture(profile, command, deadline_s=deadline_s)
    assert caught.value.cause in causes, str(caught.value)
    assert not caught.value.retry
    for look in (cameras.connect, cameras.prepare):
        with contextlib.suppress(CameraError):
            await look(profile, deadline_s=deadline_s)


def schemes(protocol):
    return {"rtsp": ("rtsp", "rtsps"), "auto": ("http", "rtsp")}.get(protocol, ("http", "https"))


def protocols():
    return sorted(Cameras().protocols - {"null-camera"})


SPELLINGS = [
    "127.0.0.2", "2130706434", "0x7f000002", "0x7f.2", "0177.0.0.2", "127.2", "127.0.0.2.",
    "[::ffff:127.0.0.2]", "[::127.0.0.2]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]",
    "[::ffff:0:7f00:2]", "①②⑦.0.0.2", "127。0。0。2",
]  # fmt: skip


@pytest.mark.parametrize("protocol", protocols())
@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_it_is_an_address_to_go_to(tripwire, cameras, protocol, host):
    for scheme in schemes(protocol):
        await refused(cameras, f"{scheme}://{host}:{tripwire.port}/x.jpg", protocol)


@pytest.mark.parametrize("protocol", protocols())
async def test_a_name_that_is_rebound_between_two_captures_leads_nowhere(
    tripwire, cameras, protocol, monkeypatch
):
    """DNS rebinding: the name answers with a good address first and with another one then."""
    answers = iter(["127.0.0.1", *([FORBIDDEN] * 100)])
    asked = []

    def lie(host, port, *_more, **_named):
        assert host == "rebound.example"
        address = next(answers)
        asked.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    async with Device(b"\r\n\r\n") as device:
        for _ in range(2):
            place = f"rebound.example:{device.port if not asked else tripwire.port}"
            scheme = schemes(protocol)[0]
            profile = DeviceProfile("cam-1", f"{scheme}://{place}/x.jpg", protocol)
            command = CaptureCommand(1, "cam-1", "s", "", 1, 0, 0, 0, 3_000, 0, 0)
            deadline_s = asyncio.get_running_loop().time() + 3
            with pytest.raises(CameraError) as caught:
                await cameras.capture(profile, command, deadline_s=deadline_s)
    assert FORBIDDEN in asked
    assert caught.value.cause == "address_not_allowed"


@pytest.mark.parametrize("protocol", protocols())
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(tripwire, cameras, protocol, status):
    """Issue 6: address policy, redirects included."""
    for scheme in schemes(protocol)[:1]:
        version = "RTSP/1.0" if scheme == "rtsp" else "HTTP/1.1"
        location = f"{scheme}://{FORBIDDEN}:{tripwire.port}/x.jpg"
        answer = (
            f"{version} {status} Found\r\nCSeq: 1\r\nLocation: {location}\r\n"
            "Content-Length: 0\r\n\r\n"
        )
        async with Device(answer.encode()) as device:
            address = f"{scheme}://127.0.0.1:{device.port}/x.jpg"
            await refused(cameras, address, protocol, ANSWERED)
            assert device.asked


async def test_a_picture_that_lies_elsewhere_leads_nowhere(tripwire, cameras):
    """http-json: the device names the picture's place itself."""
    body = f'{{"snapshot": "http://{FORBIDDEN}:{tripwire.port}/x.jpg"}}'.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with Device(head % len(body) + body) as device:
        await refused(cameras, f"http://127.0.0.1:{device.port}/", "http-json")
        assert device.asked
