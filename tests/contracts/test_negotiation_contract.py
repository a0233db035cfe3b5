"""``auto``: the protocol is found by what a device sends first (SPEC 3.1; issue 6, 'Devices').

Devices are the simulated ones and, for what they do not do, sockets that say a few bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest
from test_camera_contract import DEVICE, deadline, fails, profile_at, take

from connectors.cameras import Cameras
from connectors.cameras.frame import read_comment
from connectors.cameras.null_camera import tiny_frame
from connectors.cameras.picture import Painter
from connectors.cameras.simulated_onvif import SimulatedOnvif, Traits
from schemas.errors import CameraError

HTML = b"<!DOCTYPE html><html><body>Welcome</body></html>"


@pytest.fixture
async def fleet():
    async with SimulatedOnvif(3) as fleet:
        yield fleet


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


class Device:
    """A socket that answers each request with the bytes that its method is given."""

    def __init__(self, **answers):
        self.answers = answers
        self.requests = []

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method = head.partition(b" ")[0].decode()
            self.requests.append(method)
            answer = self.answers.get(method, self.answers.get("ANY", b""))
            if method == "HEAD" and answer.startswith(b"HTTP/"):
                answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            writer.write(answer)
            await writer.drain()
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self._server.close()
        await self._server.wait_closed()

    def url(self, path="/", scheme="http"):
        return f"{scheme}://127.0.0.1:{self.port}{path}"


def http(body=b"", content_type="text/html", status="200 OK"):
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


NOT_IMPLEMENTED = http(b"no", "text/plain", "501 Not Implemented")
NOT_FOUND = http(b"no such page", "text/plain", "404 Not Found")


class Spoken:
    """Stands for the adapter of ``rtsp``."""

    def __init__(self):
        self.addresses = []

    async def prepare(self, profile, *, deadline_s):
        self.addresses.append(profile.address)

    async def capture(self, profile, command, *, deadline_s):
        self.addresses.append(profile.address)
        return tiny_frame()

    async def close(self):
        pass


# --- devices we can speak to ---------------------------------------------------------------------


async def test_onvif_is_found_at_the_root_of_a_device(cameras):
    answers = SimulatedOnvif(1, traits=Traits(host="192.168.1.64"))
    async with answers as onvif:
        service = onvif.service(DEVICE).partition("127.0.0.1")[2].partition("/")[2]
        soap = f"http://127.0.0.1:{onvif.port}/{service}"
        profile = profile_at(soap, "auto")
        await cameras.prepare(profile, deadline_s=deadline())
        assert onvif.shutters == 0
        await take(cameras, profile)
        known = cameras.known(profile)
        assert (known.protocol, known.way, known.address) == ("onvif", "snapshot", soap)


async def test_onvif_is_asked_for_at_its_usual_path(cameras):
    soap = http(b"<s:Envelope xmlns:s='x'><s:Body/></s:Envelope>", "application/soap+xml")
    async with Device(POST=soap, ANY=http(HTML)) as device:
        profile = profile_at(device.url(), "auto")
        with pytest.raises(CameraError, match="empty body"):
            await cameras.prepare(profile, deadline_s=deadline())
        known = cameras._auto.known(profile)
        assert (known.protocol, known.address) == ("onvif", device.url("/onvif/device_service"))


async def test_http_json_is_found_by_its_root(fleet, cameras):
    profile = profile_at(fleet.url(DEVICE, protocol="http-json"), "auto")
    await cameras.prepare(profile, deadline_s=deadline())
    assert cameras.known(profile).protocol == "http-json"
    await take(cameras, profile)
    assert fleet.shutters == 1


async def test_a_snapshot_is_found_without_a_shutter(fleet, cameras):
    profile = profile_at(fleet.url(DEVICE), "auto")
    await cameras.prepare(profile, deadline_s=deadline())
    assert fleet.shutters == 0
    assert cameras.known(profile).protocol == "http-snapshot"
    await take(cameras, profile)
    assert fleet.shutters == 1


async def test_where_only_a_photo_will_tell_one_shutter_tells(cameras):
    """A device that knows no HEAD: nothing is asked before the photo, and the photo is taken."""
    jpeg = http(tiny_frame().data, "application/octet-stream")
    async with Device(HEAD=NOT_IMPLEMENTED, GET=jpeg) as device:
        profile = profile_at(device.url("/snap"), "auto")
        await cameras.connect(profile, deadline_s=deadline())
        await cameras.prepare(profile, deadline_s=deadline())
        assert "GET" not in device.requests
        assert cameras.known(profile) is None
        with pytest.raises(CameraError, match="first photo"):
            await cameras.invoke(profile, "reboot", {}, deadline_s=deadline())
        await take(cameras, profile)
        assert device.requests.count("GET") == 1
        assert cameras.known(profile).protocol == "http-snapshot"


async def test_rtsp_is_found_by_its_status_line(cameras):
    cameras._adapters["rtsp"] = spoken = Spoken()
    rtsp = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE\r\n\r\n"
    async with Device(ANY=rtsp) as device:
        for scheme, path in (("rtsp", "/cam"), ("http", "/ch1?x=1")):
            profile = profile_at(device.url(path, scheme), "auto")
            cameras._stale._last.clear()
            await take(cameras, profile)
            assert spoken.addresses[-1] == device.url(path, "rtsp")


async def test_an_mjpeg_stream_gives_its_first_picture(cameras):
    """Issue 6: multipart/x-mixed-replace as a snapshot source; the stream is left, not read on."""
    picture = Painter().paint(DEVICE, 1_795_433_700_000, 1)
    gone = asyncio.Event()

    async def pour(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
        gone.set()
        writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for number, protocol in enumerate(("http-snapshot", "auto")):
            profile = profile_at(f"http://127.0.0.1:{port}/{number}", protocol)
            if number:
                cameras._stale._last.clear()
            frame = await take(cameras, profile)
            assert frame.data == picture
            assert read_comment(frame.data).device_id == DEVICE
            async with asyncio.timeout(20):
                await gone.wait()
            gone.clear()


@pytest.mark.parametrize("kind", ["Bearer", "Basic"])
async def test_credentials_go_with_it(fleet, cameras, monkeypatch, kind):
    """Bearer tokens and passwords are for whatever protocol is found."""
    monkeypatch.setenv("CAMERA_GATE", "Bearer t0ken" if kind == "Bearer" else "admin:secret")
    seen = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        if f"Authorization: {kind} " in head:
            writer.write(http(tiny_frame().data, "image/jpeg"))
        else:
            challenge = f"401 No\r\nWWW-Authenticate: {kind} realm=x"
            writer.write(http(HTML, status=challenge))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = f"http://127.0.0.1:{port}/snap.jpg"
        await take(cameras, profile_at(address, "auto", credentials_ref="env:CAMERA_GATE"))
    assert len(seen) == (2 if kind == "Bearer" else 3)


# --- devices we cannot speak to ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "path", "shown"),
    [
        (http(HTML), "/", "<!DOCTYPE html><html><body>Welcome"),
        (http(HTML), "/login.htm", "(HTML)"),
        (http(b"hello", "text/plain"), "/x", "HTTP/1.1 200, text/plain, 'hello'"),
        (NOT_FOUND, "/x", "HTTP/1.1 404, text/plain, 'no such page'"),
        (b"220 FTP ready\r\n\r\n", "/x", "220 FTP ready"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "/", "SSH-2.0-OpenSSH_9.2"),
        (b"\x00\x01\x02\xff" * 200, "/", "it sent"),
        (b"", "/", "it sent nothing"),
    ],
    ids=["html-root", "html", "text", "404", "ftp", "ssh", "binary", "nothing"],
)
async def test_an_unknown_signature_is_an_error_that_shows_it(cameras, answer, path, shown):
    """SPEC 3.1: unknown signature is an error; it says what was seen and what to do."""
    async with Device(ANY=answer) as device:
        error = await fails(cameras, profile_at(device.url(path), "auto"))
    assert (error.cause, error.retry) == ("unknown_signature", False)
    assert shown in str(error)
    assert "name its protocol" in str(error)
    assert len(str(error)) < 500


async def test_a_device_that_is_starting_may_be_asked_again(cameras):
    async with Device(ANY=http(b"starting", status="503 Busy")) as device:
        error = await fails(cameras, profile_at(device.url("/x"), "auto"))
    assert (error.cause, error.retry) == ("http_503", True)


async def test_a_device_that_says_nothing(cameras):
    async def keep(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for scheme in ("http", "rtsp"):
            profile = profile_at(f"{scheme}://127.0.0.1:{port}/", "auto")
            error = await fails(cameras, profile, seconds=0.2)
            assert (error.cause, error.retry) == ("timeout", True)


async def test_nothing_listens(cameras):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        free_port = unused.getsockname()[1]
    for scheme in ("http", "rtsp"):
        profile = profile_at(f"{scheme}://127.0.0.1:{free_port}/", "auto")
        error = await fails(cameras, profile)
        assert (error.cause, error.retry) == ("refused", True)


@pytest.mark.parametrize(
    "address", ["rtsp://169.254.169.254/x", "rtsp://8.8.8.8:80/", "http://8.8.8.8/"]
)
async def test_a_forbidden_address_is_not_asked(cameras, address):
    error = await fails(cameras, profile_at(address, "auto"))
    assert (error.cause, error.retry) == ("address_not_allowed", False)


async def test_wrong_credentials_end_the_questions(cameras, monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    refusal = http(HTML, status="401 No\r\nWWW-Authenticate: Basic realm=x")
    async with Device(ANY=refusal) as device:
        profile = profile_at(device.url("/x"), "auto", credentials_ref="env:CAMERA_GATE")
        error = await fails(cameras, profile)
        assert (error.cause, error.retry) == ("auth", False)
        assert device.requests == ["HEAD", "HEAD"]
        await fails(cameras, profile)
        assert device.requests == ["HEAD", "HEAD"]


# --- it changes ----------------------------------------------------------------------------------


async def test_a_device_that_became_another_is_asked_anew(fleet, cameras):
    """Issue 6: re-learnt when it breaks."""
    json_root = fleet.url(DEVICE, protocol="http-json")
    profile = profile_at(json_root, "auto")
    await take(cameras, profile)
    fleet.faults.update_json(json.dumps({DEVICE: {"kind": "html", "only": "capture"}}).encode())
    assert (await fails(cameras, profile)).cause == "bad_answer"
    assert cameras.known(profile) is None
    fleet.faults.update_json(json.dumps({DEVICE: None}).encode())
    await take(cameras, profile)
    assert cameras.known(profile).protocol == "http-json"


async def test_a_bad_moment_is_no_reason_to_ask_anew(fleet, cameras):
    profile = profile_at(fleet.url(DEVICE), "auto")
    await take(cameras, profile)
    for kind in ("reset", "cut", "never"):
        fleet.faults.update_json(json.dumps({DEVICE: {"kind": kind}}).encode())
        await fails(cameras, profile, seconds=0.3)
    assert cameras.known(profile).protocol == "http-snapshot"
