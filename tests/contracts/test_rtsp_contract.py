"""What the RTSP adapter must do (SPEC 3.1, 3.2; issue 6, 'Devices').

The peer is the simulated RTSP camera over real sockets; it knows when it took each picture, and
makes the faults. Real servers: test_rtsp_peers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import msgspec
import pytest
import simplejpeg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from own_certificate import own_certificate

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.rtsp_settings import RtspSettings
from connectors.cameras.simulated_rtsp import Camera, RtspFault, SimulatedRtsp
from connectors.cameras.simulated_rtsp_media import read_number
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

CODECS = ("h264", "h265", "jpeg")
STEPS = ("DESCRIBE", "SETUP", "PLAY")


def command(device_id="cam"):
    return CaptureCommand(
        command_id=7,
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


def profile_of(camera, device_id="cam", **more):
    address = more.pop("address", None) or camera.url
    return DeviceProfile(device_id=device_id, address=address, protocol="rtsp", **more)


async def take(cameras, profile, *, seconds=20.0):
    return await cameras.capture(profile, command(profile.device_id), deadline_s=deadline(seconds))


async def fresh(cameras, camera, *, seconds=20.0, **more):
    """Take a photo and check that it was taken after the shutter; return frame and number."""
    shutter_ms = time.time_ns() / 1e6
    frame = await take(cameras, profile_of(camera, **more), seconds=seconds)
    number = read_number(frame.data)
    assert camera.taken_ms(number) >= shutter_ms, "the picture is older than its shutter"
    return frame, number


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


async def quiet(camera):
    async with asyncio.timeout(20):
        await camera.quiet.wait()


def settings(**more):
    return CameraSettings(rtsp=RtspSettings(**more))


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        yield cameras


@pytest.fixture
async def camera():
    async with SimulatedRtsp() as camera:
        yield camera


def adapter(cameras):
    return cameras._adapters["rtsp"]


# --- what goes well ------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", CODECS)
async def test_a_capture_returns_a_picture_taken_after_the_shutter(cameras, codec, transport):
    async with SimulatedRtsp(Camera(codec=codec, transports=(transport,))) as camera:
        await cameras.connect(profile_of(camera), deadline_s=deadline())
        assert "SETUP" not in camera.requests
        numbers = []
        for _ in range(2):
            frame, number = await fresh(cameras, camera)
            numbers.append(number)
            height, width, _ = simplejpeg.decode_jpeg(frame.data).shape
            assert (frame.width_px, frame.height_px) == (width, height) == (320, 240)
            assert (frame.format, len(frame.sha256)) == ("jpeg", 64)
        assert numbers[0] < numbers[1]


@pytest.mark.parametrize("ahead_ms", [0, 7_200_000, -7_200_000])
@pytest.mark.parametrize("codec", CODECS)
async def test_the_frame_has_the_cameras_own_time(cameras, codec, ahead_ms):
    """From RTCP sender reports, right or wrong; a wrong clock makes no old picture new."""
    async with SimulatedRtsp(Camera(codec=codec, clock_ahead_ms=ahead_ms)) as camera:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
        await until(lambda: adapter(cameras)._warm._kept[_key(camera)].session.stream.clock._report)
        frame, number = await fresh(cameras, camera)
        assert frame.frame_at_ms == pytest.approx(camera.taken_ms(number) + ahead_ms, abs=1)


def _key(camera, device_id="cam"):
    return device_id, camera.url, ""


async def test_without_reports_the_frame_has_no_time(cameras):
    async with SimulatedRtsp(Camera(reports=False)) as camera:
        frame, _ = await fresh(cameras, camera)
        assert frame.frame_at_ms is None


@pytest.mark.parametrize("sets", ["sdp", "stream", "both"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_parameter_sets_come_by_either_way(cameras, codec, sets):
    async with SimulatedRtsp(Camera(codec=codec, sets=sets)) as camera:
        await fresh(cameras, camera)


async def test_a_large_picture_of_many_packets(cameras):
    for codec in CODECS:
        async with SimulatedRtsp(Camera(codec=codec, width_px=1280, height_px=720, fps=10)) as one:
            frame, _ = await fresh(cameras, one)
            assert (frame.width_px, frame.height_px) == (1280, 720)


async def test_many_at_once_with_few_streams_and_one_decoder():
    async with SimulatedRtsp() as camera, Cameras(settings(max_sessions=4, decoders=1)) as cameras:
        names = [f"cam-{n}" for n in range(20)]
        await asyncio.gather(*(fresh(cameras, camera, device_id=name) for name in names))
        await quiet(camera)
        assert camera.accepted == 20


async def test_over_ipv6(cameras):
    async with SimulatedRtsp(host="::1") as camera:
        frame = await take(cameras, profile_of(camera, address=f"rtsp://[::1]:{camera.port}/cam"))
        assert read_number(frame.data)


async def test_a_name_is_resolved_and_used(cameras, camera):
    await take(cameras, profile_of(camera, address=f"rtsp://localhost:{camera.port}/cam"))


async def test_a_stream_is_torn_down(cameras, camera):
    await fresh(cameras, camera)
    await quiet(camera)
    assert camera.requests == ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]


# --- freshness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("reports", [True, False])
async def test_a_stream_that_begins_with_old_pictures_does_not_pass_them_off(
    cameras, codec, reports
):
    """Some cameras and recorders send the last group of pictures at once when asked to play."""
    kind = Camera(codec=codec, gop=150, reports=reports, sync_on_request=False)
    async with SimulatedRtsp(kind, fault=RtspFault("cached")) as camera:
        await until(lambda: len(camera.last_group()) > 20 or codec == "jpeg")
        await fresh(cameras, camera)


@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_a_long_group_of_pictures_times_out_cold_and_not_warm(cameras, codec):
    """Issue 6: a warm session takes the next picture, however far the next key frame is."""
    async with SimulatedRtsp(Camera(codec=codec, gop=100_000)) as camera:
        for _ in range(2):
            await fresh(cameras, camera)
        camera.camera = msgspec.structs.replace(camera.camera, sync_on_request=False)
        for _ in range(3):
            await cameras.prepare(profile_of(camera), deadline_s=deadline())
            await fresh(cameras, camera)
        error = await fails(cameras, profile_of(camera, "another"), seconds=0.5)
        assert (error.cause, error.retry) == ("timeout", True)
        assert "no key frame" in str(error)


async def test_the_next_attempt_goes_on_waiting_where_the_last_one_ended(cameras):
    """A key frame every two seconds and half a second for a photo: the stream plays on meanwhile."""
    async with SimulatedRtsp(Camera(gop=100, sync_on_request=False)) as camera:
        await until(lambda: len(camera.last_group()) > 10)
        assert (await fails(cameras, profile_of(camera), seconds=0.5)).cause == "timeout"
        for _ in range(40):
            with contextlib.suppress(CameraError):
                await fresh(cameras, camera, seconds=0.5)
                break
        else:
            pytest.fail("no photo")
        assert camera.accepted == 1


async def test_a_key_frame_is_asked_for(cameras):
    """RTCP picture loss indication: a camera that knows it sends a key frame at once."""
    async with SimulatedRtsp(Camera(gop=100_000)) as camera:
        await until(lambda: len(camera.last_group()) > 2)
        await fresh(cameras, camera)


# --- warm sessions -------------------------------------------------------------------------------


async def test_a_prepared_stream_is_used_and_then_ended(cameras, camera):
    await cameras.prepare(profile_of(camera), deadline_s=deadline())
    assert camera.requests == ["DESCRIBE", "SETUP", "PLAY"]
    await cameras.prepare(profile_of(camera), deadline_s=deadline())
    await fresh(cameras, camera)
    await quiet(camera)
    assert camera.requests == ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]


async def test_a_device_photographed_often_keeps_its_stream(cameras, camera):
    for _ in range(5):
        await fresh(cameras, camera)
    assert camera.accepted == 2, "the second photo showed that it is often"
    assert adapter(cameras).warm_sessions == 1


async def test_photos_at_the_same_time_share_a_warm_stream(cameras, camera):
    await cameras.prepare(profile_of(camera), deadline_s=deadline())
    await asyncio.gather(*(cameras._adapters["rtsp"].capture(
        profile_of(camera), command(), deadline_s=deadline()) for _ in range(5)))  # fmt: skip
    assert camera.accepted == 1


async def test_warm_streams_are_bounded_and_the_oldest_goes_first():
    async with SimulatedRtsp() as camera, Cameras(settings(warm_sessions=2)) as cameras:
        for name in ("a", "b", "c"):
            for _ in range(2):
                await fresh(cameras, camera, device_id=name)
        assert sorted(key[0] for key in adapter(cameras)._warm._kept) == ["b", "c"]
        await until(lambda: len(camera.connections) == 2)


async def test_a_promised_stream_gives_its_place_to_none():
    async with SimulatedRtsp() as camera, Cameras(settings(warm_sessions=2)) as cameras:
        for name in ("a", "b", "c"):
            await cameras.prepare(profile_of(camera, name), deadline_s=deadline())
        assert sorted(key[0] for key in adapter(cameras)._warm._kept) == ["a", "b"]
        assert len(camera.connections) == 2
        await fresh(cameras, camera, device_id="c")


async def test_an_idle_stream_is_ended():
    async with SimulatedRtsp() as camera, Cameras(settings(warm_idle_ms=1_000)) as cameras:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
        await quiet(camera)
        assert adapter(cameras).warm_sessions == 0
        assert camera.requests[-1] == "TEARDOWN"


async def test_a_warm_stream_is_kept_alive(cameras):
    async with SimulatedRtsp(Camera(timeout_s=1)) as camera:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
        await until(lambda: "GET_PARAMETER" in camera.requests)


async def test_a_warm_stream_that_the_camera_ended_is_opened_again(cameras, camera):
    await cameras.prepare(profile_of(camera), deadline_s=deadline())
    for connection in list(camera.connections):
        connection.abort()
    await quiet(camera)
    await fresh(cameras, camera)


async def test_a_warm_stream_that_fell_silent_is_opened_again(cameras, camera):
    """research/cameras.md: a camera that began anew may leave the old session without packets."""
    await cameras.prepare(profile_of(camera), deadline_s=deadline())
    for connection in camera.connections:
        connection._playing = False
    await fresh(cameras, camera)
    assert camera.accepted == 2


async def test_close_ends_warm_streams(camera):
    async with Cameras() as cameras:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
    await quiet(camera)
    assert (await fails(cameras, profile_of(camera))).cause == "unreachable"


async def test_a_prepare_that_fails_leaves_nothing(cameras):
    async with SimulatedRtsp(fault=RtspFault("hang", "PLAY")) as camera:
        with pytest.raises(CameraError):
            await cameras.prepare(profile_of(camera), deadline_s=deadline(0.2))
        await quiet(camera)
        camera.fault = None
        await fresh(cameras, camera)


# --- transports ----------------------------------------------------------------------------------


async def test_a_refused_transport_is_learnt(cameras):
    """Issue 6: TCP with UDP fallback on 461, which is remembered."""
    async with SimulatedRtsp(Camera(transports=("udp",))) as camera:
        await fresh(cameras, camera)
        assert camera.requests.count("SETUP") == 2
        await fresh(cameras, camera)
        assert camera.requests.count("SETUP") == 3
        assert camera.accepted == 2


async def test_udp_that_is_silent_makes_way_for_tcp():
    """Issue 6: UDP silent for about a second → TCP; then TCP at once."""
    silent = RtspFault("udp-silent")
    async with (
        SimulatedRtsp(fault=silent) as one,
        Cameras(settings(transports=("udp", "tcp"))) as c,
    ):
        await fresh(c, one)
        assert one.accepted == 2
        await fresh(c, one)
        assert one.accepted == 3


async def test_a_camera_that_takes_no_transport(cameras):
    async with SimulatedRtsp(Camera(transports=())) as camera:
        error = await fails(cameras, profile_of(camera))
        assert error.cause == "no_transport"
        assert "TCP and UDP" in str(error)


async def test_packets_from_elsewhere_are_not_taken(cameras):
    """Over UDP, only the camera's own address counts."""
    async with SimulatedRtsp(Camera(transports=("udp",))) as camera:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
        session = adapter(cameras)._warm._kept[_key(camera)].session
        await until(lambda: session.stream.packets > 3)
        for connection in camera.connections:
            connection._playing = False
        before = session.stream.packets
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.2", 0)
        )
        friend, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        packet = next(iter(camera.connections))._packet(1, b"\x61\x80x", marker=True)
        stranger.sendto(packet, ("127.0.0.1", session._udp.ports[0]))
        friend.sendto(packet, ("127.0.0.1", session._udp.ports[0]))
        await until(lambda: session.stream.packets > before)
        stranger.close()
        friend.close()
        assert session.stream.packets == before + 1


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize(
    ("kind", "cause", "retry"),
    [
        ("cut", "disconnected", True),
        ("close", "disconnected", True),
        ("reset", "disconnected", True),
        ("not-rtsp", "bad_answer", True),
        ("endless", "bad_answer", True),
    ],
)
async def test_a_fault_at_each_step_has_its_cause(cameras, camera, at, kind, cause, retry):
    """SPEC 3.2: each way of failing is named, and says whether another attempt can help."""
    camera.fault = RtspFault(kind, at)
    error = await fails(cameras, profile_of(camera))
    assert (error.cause, error.retry) == (cause, retry), str(error)
    await quiet(camera)
    camera.fault = None
    await fresh(cameras, camera)


@pytest.mark.parametrize(
    ("status", "cause", "retry"),
    [
        (302, "redirects", False),
        (401, "auth", False),
        (403, "auth", False),
        (404, "rtsp_404", False),
        (453, "rtsp_453", True),
        (503, "rtsp_503", True),
    ],
)
async def test_a_status_has_its_cause(cameras, camera, status, cause, retry):
    """A redirect is refused over RTSP: nothing it names is contacted."""
    camera.fault = RtspFault(
        "status", "DESCRIBE", status=status, location="rtsp://169.254.169.254/"
    )
    error = await fails(cameras, profile_of(camera))
    assert (error.cause, error.retry) == (cause, retry), str(error)
    assert camera.accepted == 1


@pytest.mark.parametrize("kind", ["hang", "drip"])
@pytest.mark.parametrize("at", [*STEPS, "STREAM"])
async def test_the_deadline_covers_everything(cameras, camera, kind, at):
    """SPEC 3.2: the deadline cancels the I/O at every step, and frees the socket."""
    camera.fault = RtspFault(kind, at)
    error = await fails(cameras, profile_of(camera), seconds=0.3)
    assert (error.cause, error.retry) == ("timeout", True)
    assert at == "STREAM" or at in str(error)
    await quiet(camera)


@pytest.mark.parametrize(
    ("kind", "causes"),
    [
        ("cut", {"disconnected"}),
        ("close", {"disconnected"}),
        ("reset", {"disconnected"}),
        ("damaged", {"undecodable"}),
        ("garbage", {"timeout", "undecodable"}),
        ("noise", {"timeout", "undecodable"}),
        ("endless", {"timeout"}),
        ("flood", {"timeout", "too_large"}),
    ],
)
@pytest.mark.parametrize("codec", ["h264", "h265"])
async def test_a_faulty_stream_gives_no_picture(codec, kind, causes):
    """Of a million random packets a hundred make a picture: then ``noise`` is undecodable."""
    async with (
        SimulatedRtsp(Camera(codec=codec), fault=RtspFault(kind)) as camera,
        Cameras(settings(max_gop_bytes=64 * 1024, warm_sessions=0)) as cameras,
    ):
        error = await fails(cameras, profile_of(camera), seconds=0.7)
        assert error.cause in causes, str(error)
        await quiet(camera)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", CODECS)
async def test_lost_packets_cost_pictures_and_no_truth(cameras, codec, transport):
    """Issue 6: access units with sequence gaps are dropped, nothing is smeared over."""
    kind = Camera(codec=codec, transports=(transport,), gop=4)
    async with SimulatedRtsp(kind, fault=RtspFault("lossy", every=11)) as camera:
        for _ in range(3):
            await fresh(cameras, camera)


@pytest.mark.parametrize("codec", CODECS)
async def test_packets_in_disorder_over_udp_are_put_in_order(cameras, codec):
    kind = Camera(codec=codec, transports=("udp",))
    async with SimulatedRtsp(kind, fault=RtspFault("disorder")) as camera:
        await fresh(cameras, camera)


async def test_a_deadline_in_the_past_contacts_nobody(cameras, camera):
    error = await fails(cameras, profile_of(camera), seconds=-1.0)
    assert error.cause == "timeout"
    assert camera.accepted == 0


@pytest.mark.parametrize("warm", [False, True])
async def test_cancelling_frees_the_socket(cameras, camera, warm):
    if warm:
        await cameras.prepare(profile_of(camera), deadline_s=deadline())
    camera.fault = RtspFault("hang")
    task = asyncio.create_task(take(cameras, profile_of(camera)))
    await until(lambda: "PLAY" in camera.requests)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await quiet(camera)


async def test_nothing_listens(cameras, camera):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = await fails(cameras, profile_of(camera, address=f"rtsp://127.0.0.1:{port}/x"))
    assert (error.cause, error.retry) == ("refused", True)


async def test_tls_that_is_none(cameras, camera):
    async def answer(_reader, writer):
        writer.write(b"no TLS is spoken here\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await fails(cameras, profile_of(camera, address=f"rtsps://127.0.0.1:{port}/x"))
    assert (error.cause, error.retry) == ("tls", False)


@contextlib.asynccontextmanager
async def behind_tls(camera, pem):
    """Stand before a camera, with this certificate and key; yield the port."""
    streams = set()

    async def pass_on(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def answer(reader, writer):
        to_camera = await asyncio.open_connection("127.0.0.1", camera.port)
        for one in (pass_on(reader, to_camera[1]), pass_on(to_camera[0], writer)):
            streams.add(asyncio.create_task(one))

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*streams)


async def test_a_stream_over_tls_names_the_certificate_that_the_camera_showed(
    camera, tmp_path, monkeypatch
):
    """SPEC 1.7: into the photo's label; a stream kept warm is of the same camera still."""
    certificate, key = own_certificate("gate-1")
    pem = tmp_path / "camera.pem"
    pem.write_bytes(key + certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with behind_tls(camera, pem) as port, Cameras(settings(transports=("tcp",))) as cameras:
        address = camera.url.replace("rtsp://", "rtsps://").replace(f":{camera.port}", f":{port}")
        for _ in range(2):
            frame, _ = await fresh(cameras, camera, address=address)
            assert frame.certificate_sha256 == certificate.fingerprint(hashes.SHA256()).hex()
        assert (await take(cameras, profile_of(camera, "clear"))).certificate_sha256 == ""
        monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    async with behind_tls(camera, pem) as port, Cameras() as cameras:
        error = await fails(cameras, profile_of(camera, address=f"rtsps://127.0.0.1:{port}/x"))
    assert (error.cause, error.retry) == ("tls", False)


async def test_a_picture_larger_than_the_settings_allow(camera):
    async with Cameras(CameraSettings(max_image_bytes=1_000)) as cameras:
        error = await fails(cameras, profile_of(camera))
    assert (error.cause, error.retry) == ("too_large", False)


async def test_a_stream_has_no_methods(cameras, camera):
    with pytest.raises(CameraError) as caught:
        await cameras.invoke(profile_of(camera), "reboot", {}, deadline_s=deadline())
    assert caught.value.cause == "unknown_protocol"


# --- addresses -----------------------------------------------------------------------------------


async def test_a_forbidden_address_is_never_contacted(camera):
    """The IP that is connected is the one that is judged, also behind a name."""
    async with Cameras(CameraSettings(allowed_networks=("10.0.0.0/8",))) as cameras:
        for address in (camera.url, f"rtsp://localhost:{camera.port}/cam"):
            error = await fails(cameras, profile_of(camera, address=address))
            assert (error.cause, error.retry) == ("address_not_allowed", False)
    assert camera.accepted == 0


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://127.0.0.1/x", "bad_address"),
        ("rtsp://u:secret@127.0.0.1/x", "bad_address"),
        ("rtsp://169.254.169.254/x", "address_not_allowed"),
        ("rtsp://", "bad_address"),
        ("rtsp://camera.invalid/x", "unreachable"),
    ],
)
async def test_an_address_that_cannot_be_used(cameras, camera, address, cause):
    error = await fails(cameras, profile_of(camera, address=address))
    assert error.cause == cause


def test_a_profile_is_checked_without_io():
    cameras = Cameras()
    cameras.check_profile(
        DeviceProfile(device_id="c", address="rtsp://10.0.0.1/x", protocol="rtsp")
    )
    with pytest.raises(CameraError):
        cameras.check_profile(
            DeviceProfile(device_id="c", address="http://10.0.0.1/x", protocol="rtsp")
        )
    with pytest.raises(CameraError):
        cameras.check_profile(
            DeviceProfile(device_id="c", address="rtsp://10.0.0.1/x", protocol="http-snapshot")
        )


# --- credentials ---------------------------------------------------------------------------------

PASSWORD = 'secret%40 :/"?ß'


@pytest.mark.parametrize(
    "offered",
    [("basic",), ("digest",), ("digest-sha256",), ("basic", "digest"), ("digest", "digest-sha256")],
)
async def test_credentials_open_the_door(cameras, monkeypatch, offered):
    """Digest, else Basic; whatever stands in a password goes through (percent, colon, quote)."""
    monkeypatch.setenv("CAMERA_GATE", f"admin:{PASSWORD}")
    async with SimulatedRtsp(Camera(auth=offered, password=PASSWORD)) as camera:
        await fresh(cameras, camera, credentials_ref="env:CAMERA_GATE")
        await quiet(camera)
        assert camera.requests == ["DESCRIBE", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]


@pytest.mark.parametrize("offered", [("basic",), ("digest",), ("basic", "digest")])
async def test_wrong_credentials_are_tried_once(cameras, monkeypatch, offered):
    """research/cameras.md: retried 401s lock cameras out."""
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    async with SimulatedRtsp(Camera(auth=offered)) as camera:
        error = await fails(cameras, profile_of(camera, credentials_ref="env:CAMERA_GATE"))
        assert (error.cause, error.retry) == ("auth", False)
        assert camera.requests == ["DESCRIBE", "DESCRIBE"], "the question, and one answer to it"


async def test_no_credentials_where_they_are_wanted(cameras):
    async with SimulatedRtsp(Camera(auth=("digest",))) as camera:
        error = await fails(cameras, profile_of(camera))
        assert (error.cause, error.retry) == ("auth", False)
        assert camera.requests == ["DESCRIBE"]


@pytest.mark.parametrize("value", [None, "Bearer token-of-secret"])
async def test_credentials_that_are_not_to_be_had(cameras, camera, monkeypatch, value):
    if value:
        monkeypatch.setenv("CAMERA_GATE", value)
    error = await fails(cameras, profile_of(camera, credentials_ref="env:CAMERA_GATE"))
    assert (error.cause, error.retry) == ("auth", False)
    assert camera.accepted == 0


# --- a peer that is stopped ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def running_camera():
    command = [sys.executable, "-m", "connectors.cameras.simulated_rtsp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 0, "SIGTERM must end the simulated camera cleanly"


@pytest.fixture
def camera_process(running_camera):
    """The process that all such tests stop; whatever becomes of one, the next finds it running."""
    yield running_camera
    os.kill(running_camera[0].pid, signal.SIGCONT)


@pytest.mark.parametrize("warm", [False, True], ids=["new-stream", "warm-stream"])
async def test_a_stopped_peer_does_not_hold_us(camera_process, cameras, warm):
    """SPEC 3.2: aiortsp's own session would wait for an answer to its TEARDOWN."""
    process, ready = camera_process
    profile = DeviceProfile(device_id="cam", address=ready["url"], protocol="rtsp")
    if warm:
        await cameras.prepare(profile, deadline_s=deadline())
    os.kill(process.pid, signal.SIGSTOP)
    error = await fails(cameras, profile, seconds=0.3)
    assert error.cause == "timeout"
    async with asyncio.timeout(10):  # the sockets are closed, though nobody answers
        for connection in adapter(cameras)._connections:
            await connection.closed.wait()
    os.kill(process.pid, signal.SIGCONT)
    await take(cameras, profile)
