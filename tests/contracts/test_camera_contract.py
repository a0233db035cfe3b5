"""Every camera adapter, one suite: what a DeviceClient must do (SPEC 3.1, 3.2; issue 3 point 6).

The peer is the simulated camera over real sockets, with a device service for ONVIF in front of it; faults are made by the peer, not by patching.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import simplejpeg

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.faults import Fault
from connectors.cameras.frame import read_comment
from connectors.cameras.simulated import SimulatedCameras
from connectors.cameras.simulated_onvif import SimulatedOnvif, Traits
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

HTTP = ("http-snapshot", "http-json")
ALL = (*HTTP, "onvif")
"""What is asked over HTTP first; ONVIF's photo is its snapshot here, with the same faults."""
DEVICE = "cam-00001"


def command(command_id=7, device_id=DEVICE):
    return CaptureCommand(
        command_id=command_id,
        device_id=device_id,
        schedule_id="s",
        request_id="",
        epoch=1,
        nominal_ms=0,
        scheduled_ms=1_795_433_700_000,
        not_after_ms=1_795_433_760_000,
        capture_timeout_ms=3_000,
        priority=0,
        issued_at_ms=0,
    )


def deadline(seconds=20.0):
    return asyncio.get_running_loop().time() + seconds


def profile_at(address, protocol, **more):
    return DeviceProfile(device_id=DEVICE, address=address, protocol=protocol, **more)


async def take(cameras, profile, *, command_id=7, seconds=20.0):
    return await cameras.capture(
        profile, command(command_id, profile.device_id), deadline_s=deadline(seconds)
    )


async def fails(cameras, profile, *, seconds=20.0):
    with pytest.raises(CameraError) as caught:
        await take(cameras, profile, seconds=seconds)
    message = str(caught.value)
    assert message.isprintable(), message
    assert "secret" not in message
    return caught.value


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def fleet():
    async with SimulatedOnvif(3, traits=Traits(streams=False)) as fleet:
        yield fleet


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


@pytest.fixture(params=ALL)
def profile(request, fleet):
    return profile_at(address_of(fleet, request.param), request.param)


def address_of(fleet, protocol, device=DEVICE):
    onvif = protocol == "onvif"
    return fleet.service(device) if onvif else fleet.url(device, protocol=protocol)


def set_fault(fleet, profile, kind, **more):
    """Break the request that brings the picture, whichever that is for the protocol."""
    only = "frame" if profile.protocol == "http-json" else "snapshot"
    fault = Fault(kind=kind, **({"only": only} | more))
    fleet.faults.update_json(json.dumps({DEVICE: _as_dict(fault)}).encode())


def _as_dict(fault):
    return {name: getattr(fault, name) for name in fault.__struct_fields__}


# --- what goes well ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [*ALL, "auto", "null-camera"])
async def test_a_capture_returns_a_picture_that_decodes(fleet, cameras, protocol):
    """SPEC 3.1: whichever the protocol, a frame is a picture with its true size and hash."""
    if protocol == "auto":
        address = fleet.url(DEVICE)
    else:
        address = "null:" if protocol == "null-camera" else address_of(fleet, protocol)
    profile = profile_at(address, protocol)
    await cameras.connect(profile, deadline_s=deadline())
    first = await take(cameras, profile)
    second = await take(cameras, profile)
    for frame in (first, second):
        height, width, _ = simplejpeg.decode_jpeg(frame.data).shape
        assert (frame.width_px, frame.height_px) == (width, height)
        assert frame.format == "jpeg"
        assert len(frame.sha256) == 64


async def test_the_picture_says_who_took_it_and_when(fleet, cameras, profile):
    frame = await take(cameras, profile)
    note = read_comment(frame.data)
    assert note.device_id == DEVICE
    assert note.frame_at_ms == frame.frame_at_ms
    assert frame.frame_at_ms >= fleet.log()[0].at_ms - 1_000


async def test_the_camera_sees_one_shutter_a_capture_with_its_command_id(fleet, cameras, profile):
    for number in (11, 12, 13):
        await take(cameras, profile, command_id=number)
    shutters = [entry for entry in fleet.log() if entry.shutter]
    assert [entry.command_id for entry in shutters] == ["11", "12", "13"]
    assert fleet.shutters == 3


async def test_a_connection_is_used_again(fleet, cameras, profile):
    for _ in range(5):
        await take(cameras, profile)
    assert len(fleet.connections) == 1


async def test_connect_takes_no_photo(fleet, cameras, profile):
    await cameras.connect(profile, deadline_s=deadline())
    await cameras.prepare(profile, deadline_s=deadline())
    assert fleet.shutters == 0
    assert fleet.requests >= 1


async def test_after_prepare_the_shutter_is_a_single_round_trip(fleet, cameras, profile):
    """Issue 6, executor: connections opened in the lead time, logins and addresses learnt."""
    await cameras.prepare(profile, deadline_s=deadline())
    before = fleet.requests
    await take(cameras, profile)
    assert fleet.log()[0].shutter, "something was asked before the shutter opened"
    assert fleet.requests == before + (2 if profile.protocol == "http-json" else 1)
    assert len(fleet.connections) == 1


async def test_prepare_asks_nothing_of_a_device_that_just_spoke(fleet, cameras, profile):
    await take(cameras, profile)
    before = fleet.requests
    await cameras.prepare(profile, deadline_s=deadline())
    assert fleet.requests == before


async def test_padding_behind_the_picture_is_cut_off(fleet, cameras, profile):
    set_fault(fleet, profile, "padding")
    frame = await take(cameras, profile)
    assert frame.data.endswith(b"\xff\xd9")


async def test_many_devices_at_once(cameras):
    async with SimulatedCameras(200, ports=3) as fleet:
        profiles = [
            DeviceProfile(
                device_id=f"cam-{n:05d}",
                address=fleet.url(f"cam-{n:05d}", protocol=HTTP[n % 2]),
                protocol=HTTP[n % 2],
            )
            for n in range(1, 201)
        ]
        frames = await asyncio.gather(*(take(cameras, profile) for profile in profiles))
        taken_by = [read_comment(frame.data).device_id for frame in frames]
        assert taken_by == [profile.device_id for profile in profiles]


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "more", "cause", "retry"),
    [
        ("html", {}, "not_an_image", True),
        ("html-as-jpeg", {}, "not_an_image", True),
        ("empty", {}, "not_an_image", True),
        ("cut", {}, "truncated", True),
        ("cut-jpeg", {}, "truncated", True),
        ("disconnect", {}, "disconnected", True),
        ("reset", {}, "disconnected", True),
        ("not-http", {}, "bad_answer", True),
        ("huge", {}, "too_large", False),
        ("endless", {}, "too_large", False),
        ("status", {"status": 500}, "http_500", True),
        ("status", {"status": 503}, "http_503", True),
        ("status", {"status": 404}, "http_404", False),
        ("status", {"status": 401}, "auth", False),
        ("status", {"status": 403}, "auth", False),
        ("status", {"status": 204}, "http_204", False),
        ("basic", {}, "auth", False),
        ("digest", {}, "auth", False),
        ("redirect", {}, "address_not_allowed", False),
        ("redirect", {"location": "ftp://127.0.0.1/x.jpg"}, "bad_address", False),
        ("redirect", {"location": "http://u:secret@127.0.0.1/"}, "bad_address", False),
        ("redirect", {"location": ""}, "bad_answer", True),
    ],
)
async def test_a_fault_has_its_cause(fleet, profile, kind, more, cause, retry):
    """SPEC 3.2: each way of failing is named, and says whether another attempt can help."""
    set_fault(fleet, profile, kind, **more)
    async with Cameras(CameraSettings(max_image_bytes=256 * 1024)) as cameras:
        error = await fails(cameras, profile)
    assert (error.cause, error.retry) == (cause, retry), str(error)


@pytest.mark.parametrize("kind", ["never", "drip", "slow"])
async def test_the_deadline_covers_everything(fleet, cameras, profile, kind):
    """SPEC 3.2: the deadline cancels the I/O, also in the middle of a body, and frees the socket."""
    set_fault(fleet, profile, kind, delay_ms=3_600_000 if kind == "slow" else 20)
    error = await fails(cameras, profile, seconds=0.3)
    assert (error.cause, error.retry) == ("timeout", True)
    async with asyncio.timeout(20):
        await fleet.quiet.wait()


async def test_a_deadline_in_the_past_takes_no_photo(fleet, cameras, profile):
    error = await fails(cameras, profile, seconds=-1.0)
    assert error.cause == "timeout"
    assert fleet.shutters == 0


async def test_cancelling_frees_the_socket(fleet, cameras, profile):
    set_fault(fleet, profile, "never", only="")
    task = asyncio.create_task(take(cameras, profile))
    await until(lambda: len(fleet.log()) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20):
        await fleet.quiet.wait()


async def test_a_lost_connection_is_not_tried_again_behind_our_back(fleet, cameras, profile):
    """The shutter opens once an attempt: a request is never sent twice by the HTTP library."""
    await take(cameras, profile)  # so that the next request uses a connection that is kept alive
    set_fault(fleet, profile, "disconnect", only="")
    before = fleet.requests
    error = await fails(cameras, profile)
    assert error.cause == "disconnected"
    assert fleet.requests == before + 1


async def test_nothing_listens(cameras, profile):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        gone = profile_at(f"http://127.0.0.1:{port}/x", profile.protocol)
        error = await fails(cameras, gone)
    assert (error.cause, error.retry) == ("refused", True)


async def test_a_repeated_picture_is_stale(fleet, cameras, profile):
    """research/cameras.md: stale frames served as fresh are the commonest lie of a camera."""
    await take(cameras, profile)
    set_fault(fleet, profile, "stale", only="")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("stale", True)


async def test_the_message_shows_what_came_instead(fleet, cameras, profile):
    set_fault(fleet, profile, "html")
    error = await fails(cameras, profile)
    assert "an HTML page" in str(error)
    assert DEVICE in str(error)


async def test_after_each_fault_the_next_capture_works(fleet, cameras, profile):
    for kind in ("html", "cut", "reset", "huge", "status"):
        set_fault(fleet, profile, kind)
        await fails(cameras, profile)
        fleet.faults.update_json(json.dumps({DEVICE: None}).encode())
        await take(cameras, profile)


# --- redirects and addresses ---------------------------------------------------------------------


async def test_a_permitted_redirect_is_followed(fleet, cameras, profile):
    set_fault(fleet, profile, "redirect", location=fleet.url("cam-00002"))
    frame = await take(cameras, profile)
    assert read_comment(frame.data).device_id == "cam-00002"


async def test_a_redirect_in_circles_ends(fleet, cameras, profile):
    fleet.faults.update_json(
        json.dumps({DEVICE: {"kind": "redirect", "location": fleet.url(DEVICE)}}).encode()
    )
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("redirects", False)
    assert len(fleet.log()) == CameraSettings().max_redirects + 1


@pytest.mark.parametrize("protocol", [*ALL, "auto"])
async def test_a_forbidden_address_is_never_contacted(fleet, protocol):
    """Issue 3, bad input: an address outside what the camera settings allow."""
    address = fleet.url(DEVICE) if protocol == "auto" else address_of(fleet, protocol)
    async with Cameras(CameraSettings(allowed_networks=("10.0.0.0/8",))) as cameras:
        error = await fails(cameras, profile_at(address, protocol))
        assert (error.cause, error.retry) == ("address_not_allowed", False)
        by_name = address.replace("127.0.0.1", "localhost")
        error = await fails(cameras, profile_at(by_name, protocol))
        assert (error.cause, error.retry) == ("address_not_allowed", False)
    assert fleet.requests == 0


async def test_a_name_is_resolved_and_used(fleet, cameras):
    address = f"http://localhost:{fleet.port}/cam/{DEVICE}/snapshot.jpg"
    await take(cameras, profile_at(address, "http-snapshot"))


async def test_a_name_that_does_not_exist(cameras, profile):
    error = await fails(cameras, profile_at("http://camera.invalid/x.jpg", profile.protocol))
    assert error.cause == "unreachable"


async def test_an_unknown_protocol_is_an_error(fleet, cameras):
    """SPEC 3.1: an unknown signature or protocol is an error."""
    error = await fails(cameras, profile_at(fleet.url(DEVICE), "smoke-signals"))
    assert (error.cause, error.retry) == ("unknown_protocol", False)


# --- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["basic", "digest"])
async def test_credentials_open_the_door(fleet, cameras, profile, monkeypatch, kind):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    set_fault(fleet, profile, kind, only="")
    known = profile_at(profile.address, profile.protocol, credentials_ref="env:CAMERA_GATE")
    await take(cameras, known)
    after_first = fleet.requests
    await take(cameras, known)
    requests_a_capture = 2 if profile.protocol == "http-json" else 1
    assert fleet.requests == after_first + requests_a_capture, "what was learned was not kept"


@pytest.mark.parametrize("kind", ["basic", "digest"])
async def test_wrong_credentials_are_tried_once(fleet, cameras, profile, monkeypatch, kind):
    """research/cameras.md: retried 401s lock cameras out."""
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    set_fault(fleet, profile, kind, only="")
    known = profile_at(profile.address, profile.protocol, credentials_ref="env:CAMERA_GATE")
    error = await fails(cameras, known)
    assert (error.cause, error.retry) == ("auth", False)
    assert len(fleet.log()) == 2, "the question, and one answer to it"
    assert fleet.shutters == 0


async def test_refused_credentials_rest(fleet, cameras, profile, monkeypatch):
    """What was refused when the capture was prepared is not sent again with the capture itself."""
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    set_fault(fleet, profile, "basic", only="")
    known = profile_at(profile.address, profile.protocol, credentials_ref="env:CAMERA_GATE")
    with pytest.raises(CameraError, match="refused access"):
        await cameras.prepare(known, deadline_s=deadline())
    before = len(fleet.log())
    error = await fails(cameras, known)
    assert (error.cause, error.retry) == ("auth", False)
    assert len(fleet.log()) == before
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    await take(cameras, known)


async def test_credentials_do_not_follow_a_redirect(fleet, cameras, monkeypatch):
    """Credentials go to the profile's own origin only."""
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    async with SimulatedCameras(1, faults={DEVICE: Fault(kind="basic")}) as other:
        set_fault(fleet, profile_at("", "http-snapshot"), "redirect", location=other.url(DEVICE))
        known = profile_at(fleet.url(DEVICE), "http-snapshot", credentials_ref="env:CAMERA_GATE")
        error = await fails(cameras, known)
        assert error.cause == "auth"
        assert other.requests == 1
        assert other.shutters == 0


async def test_credentials_that_are_not_to_be_had(fleet, cameras, profile):
    known = profile_at(profile.address, profile.protocol, credentials_ref="env:CAMERA_NOT_SET")
    error = await fails(cameras, known)
    assert (error.cause, error.retry) == ("auth", False)
    assert not fleet.log()
    assert fleet.shutters == 0


# --- a peer that is stopped ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def running_fleet():
    command = [sys.executable, "-m", "connectors.cameras.simulated_onvif", "--devices", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 0, "SIGTERM must end the simulated cameras cleanly"


@pytest.fixture
def fleet_process(running_fleet):
    """The process that all such tests stop; whatever becomes of one, the next finds it running."""
    yield running_fleet
    os.kill(running_fleet[0].pid, signal.SIGCONT)


@pytest.mark.parametrize("protocol", ALL)
@pytest.mark.parametrize("warm", [False, True], ids=["new-connection", "kept-connection"])
async def test_a_stopped_peer_does_not_hold_us(fleet_process, cameras, protocol, warm):
    """SPEC 3.2: a peer that is stopped (SIGSTOP) still takes connections in its kernel's queue."""
    process, ready = fleet_process
    path = {
        "http-snapshot": f"/cam/{DEVICE}/snapshot.jpg",
        "http-json": f"/cam/{DEVICE}",
        "onvif": f"/onvif/{DEVICE}/device_service",
    }[protocol]
    profile = profile_at(f"http://127.0.0.1:{ready['port']}{path}", protocol)
    if warm:
        await take(cameras, profile)
    os.kill(process.pid, signal.SIGSTOP)
    error = await fails(cameras, profile, seconds=0.3)
    assert error.cause == "timeout"
    os.kill(process.pid, signal.SIGCONT)
    await take(cameras, profile)
