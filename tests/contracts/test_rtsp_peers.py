"""The RTSP adapter against real servers: GStreamer, VLC, aio-rtsp-toolkit (issue 6, 'How it is
shown'). The same promises as against the simulated camera, as far as a real server can be asked."""

from __future__ import annotations

import pytest
import simplejpeg
from aio_rtsp import AioRtspServer
from gst_rtsp import GstRtspServer, Mount
from test_rtsp_contract import adapter, command, deadline, fails, until
from vlc_rtsp import VlcRtspServer

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.rtsp_settings import RtspSettings
from schemas.records import DeviceProfile

CODECS = ("h264", "h265", "mjpeg")
MOUNTS = (
    *(Mount(f"/{codec}", codec=codec) for codec in CODECS),
    *(Mount(f"/{codec}-udp", codec=codec, transports=("udp",)) for codec in CODECS),
    Mount("/tcp-only", transports=("tcp",)),
    Mount("/in-band", parameter_sets_s=-1),
)


@pytest.fixture(scope="module")
def gst(tmp_path_factory):
    with GstRtspServer(tmp_path_factory.mktemp("gst"), MOUNTS) as peer:
        yield peer


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


def profile_at(address, **more):
    return DeviceProfile(**({"device_id": "cam", "address": address, "protocol": "rtsp"} | more))


async def take(cameras, profile):
    """Take a photo of the adapter itself: a server that stopped between two viewers begins its test
    picture anew, which the check for stale pictures would find."""
    return await adapter(cameras).capture(profile, command(), deadline_s=deadline())


async def test_gstreamer_is_asked_for_a_key_frame(cameras, tmp_path):
    """The next one comes in 100 s by itself; a picture loss indication brings it at once. And whoever
    watches already goes on watching: the stream does not begin anew for a photo."""
    with GstRtspServer(tmp_path, [Mount("/long", gop_frames=1_000, warm=True)]) as peer:
        watching = profile_at(peer.url(), device_id="watching")
        await cameras.prepare(watching, deadline_s=deadline())
        (kept,) = adapter(cameras)._warm._kept.values()
        stream = kept.session.stream
        await until(lambda: stream.gop.units)
        seen = stream.gop.units[-1].ticks
        await two_pictures(cameras, profile_at(peer.url()))
        await until(lambda: stream.gop.units and stream.gop.units[-1].ticks != seen)
        assert stream.gop.units[-1].ticks > seen
        assert stream.lost == 0


async def two_pictures(cameras, profile, size=(640, 360)):
    """Take a photo cold and one warm; return them. Real pictures, and not the same."""
    frames = [await take(cameras, profile)]
    await cameras.prepare(profile, deadline_s=deadline())
    frames.append(await take(cameras, profile))
    for frame in frames:
        assert (frame.width_px, frame.height_px) == size
        pixels = simplejpeg.decode_jpeg(frame.data)
        assert pixels.std() > 5, "a picture of one grey"
    return frames


@pytest.mark.parametrize("mount", [mount.path for mount in MOUNTS])
async def test_gstreamer(gst, cameras, mount):
    await cameras.connect(profile_at(gst.url(mount)), deadline_s=deadline())
    await two_pictures(cameras, profile_at(gst.url(mount)))
    (learnt,) = adapter(cameras)._learnt.values()
    assert learnt == ("udp" if mount.endswith("-udp") else "tcp")


async def test_gstreamer_refuses_udp_and_gives_tcp(gst):
    async with Cameras(CameraSettings(rtsp=RtspSettings(transports=("udp", "tcp")))) as cameras:
        await take(cameras, profile_at(gst.url("/tcp-only")))
        assert list(adapter(cameras)._learnt.values()) == ["tcp"]
        await take(cameras, profile_at(gst.url("/h264")))
        assert list(adapter(cameras)._learnt.values()) == ["tcp", "udp"]


@pytest.mark.parametrize("offered", [("basic",), ("digest",), ("basic", "digest")])
async def test_gstreamer_with_credentials(cameras, tmp_path, monkeypatch, offered):
    with GstRtspServer(tmp_path, [Mount("/cam")], auth=offered) as peer:
        monkeypatch.setenv("CAMERA_GST", f"{peer.user}:{peer.password}")
        await take(cameras, profile_at(peer.url(), credentials_ref="env:CAMERA_GST"))
        monkeypatch.setenv("CAMERA_GST", f"{peer.user}:another")
        error = await fails(cameras, profile_at(peer.url(), credentials_ref="env:CAMERA_GST"))
        assert (error.cause, error.retry) == ("auth", False)
        error = await fails(cameras, profile_at(peer.url()))
        assert error.cause == "auth"


async def test_gstreamer_stopped(gst, cameras):
    """SPEC 3.2: SIGSTOP costs the deadline and nothing beyond it, cold and warm."""
    profile = profile_at(gst.url("/h264"))
    for warm in (False, True):
        if warm:
            await cameras.prepare(profile, deadline_s=deadline())
        gst.pause()
        try:
            error = await fails(cameras, profile, seconds=0.5)
        finally:
            gst.resume()
        assert error.cause == "timeout"
        await take(cameras, profile)


async def test_vlc(cameras, tmp_path):
    """VLC takes UDP only, and answers TCP with 461."""
    with VlcRtspServer(tmp_path) as peer:
        await two_pictures(cameras, profile_at(peer.url))
        assert list(adapter(cameras)._learnt.values()) == ["udp"]


async def test_aio_rtsp_toolkit(tmp_path):
    """It takes TCP only, and answers UDP with 461."""
    settings = CameraSettings(rtsp=RtspSettings(transports=("udp", "tcp")))
    with AioRtspServer(tmp_path, ("h264", "h265")) as peer:
        async with Cameras(settings) as cameras:
            for codec in peer.codecs:
                await two_pictures(cameras, profile_at(peer.url(codec)))
            assert set(adapter(cameras)._learnt.values()) == {"tcp"}
