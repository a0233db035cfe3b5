"""Real cameras over ONVIF and HTTP, and the streams ONVIF leads to: ipycam (with a wrong clock),
motion, GStreamer (issue 6).

They are started by tests/peers and skipped, with the reason, where a program is missing.
"""

from __future__ import annotations

import asyncio

import pytest
import simplejpeg
from gst_rtsp import GstRtspServer, Mount
from ipycam_peer import IpycamPeer
from motion_peer import MotionPeer
from test_camera_contract import DEVICE, deadline, fails, profile_at, take

from connectors.cameras import Cameras
from connectors.cameras.simulated_onvif import SimulatedOnvif, Traits
from schemas.errors import CameraError
from schemas.records import DeviceProfile

TWO_HOURS_MS = 7_200_000
SECRET = "env:CAMERA_PEER"


@pytest.fixture(scope="module")
def ipycam(tmp_path_factory):
    """A camera two hours off, which tells nobody its time who has not logged in."""
    with IpycamPeer(tmp_path_factory.mktemp("ipycam"), clock="+2h") as peer:
        yield peer


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    with MotionPeer(tmp_path_factory.mktemp("motion")) as peer:
        yield peer


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


def profile_of(peer, monkeypatch, address, protocol, password=None):
    monkeypatch.setenv("CAMERA_PEER", f"{peer.user}:{password or peer.password}")
    return DeviceProfile(f"{peer.name}-1", address, protocol, credentials_ref=SECRET)


async def decoded(cameras, profile):
    await cameras.prepare(profile, deadline_s=deadline())
    frame = await take(cameras, profile)
    height, width, _ = simplejpeg.decode_jpeg(frame.data).shape
    assert (width, height) == (frame.width_px, frame.height_px)
    return frame


@pytest.mark.parametrize("protocol", ["onvif", "auto"])
async def test_onvif_with_a_clock_that_is_two_hours_off(ipycam, cameras, monkeypatch, protocol):
    """Issue 6: a camera two hours off by faketime; WS-Security needs its time, not ours."""
    address = ipycam.onvif_url if protocol == "onvif" else f"http://127.0.0.1:{ipycam.port}/"
    profile = profile_of(ipycam, monkeypatch, address, protocol)
    await decoded(cameras, profile)
    known = cameras.known(profile)
    assert (known.protocol, known.login, known.way) == ("onvif", "WS-Security", "snapshot")
    assert known.clock == "Date header", "it refuses GetSystemDateAndTime without a login"
    assert abs(known.skew_ms - TWO_HOURS_MS) < 60_000


async def test_the_ways_of_a_real_camera_one_after_the_other(ipycam, cameras, monkeypatch):
    """Issue 6: snapshot before sub-stream before main stream, all by one ONVIF device."""
    profile = profile_of(ipycam, monkeypatch, ipycam.onvif_url, "onvif")
    await take(cameras, profile)
    assert cameras.known(profile).ways == ("snapshot", "sub-stream", "main-stream")
    device = cameras._onvif._devices.get(profile.device_id, profile.address)
    for kind, size in (("sub-stream", (320, 180)), ("main-stream", (640, 360))):
        way = device.ways.best(now_s())
        device.ways.failed(way, "http_404", now_s())
        frame = await take(cameras, profile)
        assert cameras.known(profile).way == kind
        assert (frame.width_px, frame.height_px) == size


async def test_onvif_leads_to_a_stream(cameras, tmp_path):
    """A device without a snapshot: its sub stream, of H.265, by the adapter of ``rtsp``."""
    mounts = [
        Mount(f"/{DEVICE}/sub-1", codec="h265", warm=True),
        Mount(f"/{DEVICE}/main-1", codec="h264", warm=True),
    ]
    with GstRtspServer(tmp_path, mounts) as peer:
        traits = Traits(login="wsse", snapshot=False, rtsp=f"192.168.1.64:{peer.port}")
        async with SimulatedOnvif(1, traits=traits) as onvif:
            profile = profile_at(onvif.service(DEVICE), "onvif", credentials_ref=SECRET)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CAMERA_PEER", "admin:secret")
                await decoded(cameras, profile)
                await take(cameras, profile)
            assert cameras.known(profile).way == "sub-stream"
            assert onvif.operations["SetSynchronizationPoint"] >= 1
            assert onvif.shutters == 0


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
async def test_a_real_rtsp_server_is_known_by_its_status_line(cameras, tmp_path, scheme):
    """SPEC 3.1: by the response's signature, whatever the address was taken for."""
    with GstRtspServer(tmp_path, [Mount("/cam", codec="mjpeg", warm=True)]) as peer:
        address = f"{scheme}://127.0.0.1:{peer.port}/cam"
        profile = profile_at(address, "auto")
        await decoded(cameras, profile)
        known = cameras.known(profile)
        assert (known.protocol, known.address) == ("rtsp", f"rtsp://127.0.0.1:{peer.port}/cam")


def now_s():
    return asyncio.get_running_loop().time()


async def test_onvif_methods_of_a_real_camera(ipycam, cameras, monkeypatch):
    profile = profile_of(ipycam, monkeypatch, ipycam.onvif_url, "onvif")
    answer = await cameras.invoke(profile, "GetDeviceInformation", {}, deadline_s=deadline())
    assert b"PythonCam" in answer
    with pytest.raises(CameraError) as caught:
        await cameras.invoke(profile, "reboot", {}, deadline_s=deadline())
    assert caught.value.cause == "soap_fault", "this one cannot"


async def test_a_wrong_password_for_a_real_camera(ipycam, cameras, monkeypatch):
    profile = profile_of(ipycam, monkeypatch, ipycam.onvif_url, "onvif", "secret-but-wrong")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("auth", False)
    assert "its clock is +72" in str(error)


async def test_mjpeg_of_a_real_camera(ipycam, cameras, monkeypatch):
    """Issue 6: plain multipart MJPEG as a source, behind Basic."""
    address = f"http://127.0.0.1:{ipycam.port}/stream.mjpeg"
    await decoded(cameras, profile_of(ipycam, monkeypatch, address, "http-snapshot"))


@pytest.mark.parametrize("protocol", ["http-snapshot", "auto"])
@pytest.mark.parametrize("what", ["snapshot_url", "stream_url"])
async def test_http_digest(motion, cameras, monkeypatch, protocol, what):
    """Issue 6: motion, HTTP snapshot and MJPEG behind Digest."""
    profile = profile_of(motion, monkeypatch, getattr(motion, what), protocol)
    await decoded(cameras, profile)
    await take(cameras, profile)
    assert cameras.known(profile).protocol == "http-snapshot"


async def test_http_digest_with_a_wrong_password(motion, cameras, monkeypatch):
    profile = profile_of(motion, monkeypatch, motion.snapshot_url, "auto", "secret-but-wrong")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("auth", False)


async def test_a_real_camera_that_is_stopped(ipycam, cameras, monkeypatch):
    """SPEC 3.2: SIGSTOP: the kernel takes the connection, nobody answers."""
    profile = profile_of(ipycam, monkeypatch, ipycam.onvif_url, "onvif")
    await take(cameras, profile)
    ipycam.pause()
    try:
        error = await fails(cameras, profile, seconds=0.3)
    finally:
        ipycam.resume()
    assert (error.cause, error.retry) == ("timeout", True)
