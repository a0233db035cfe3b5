"""ONVIF devices and their peculiarities (issue 6, 'Devices'; SPEC 3.1).

The peer is the simulated ONVIF camera over real sockets: strict about tokens, nonces and clocks,
and it counts what it refused. Real ones are in test_onvif_peers.py.
"""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from test_camera_contract import DEVICE, deadline, fails, profile_at, take

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.null_camera import tiny_frame
from connectors.cameras.simulated_onvif import SimulatedOnvif, Traits
from schemas.errors import CameraError
from schemas.records import DeviceProfile

HOUR_S = 3_600.0
SECRET = "env:CAMERA_GATE"


class Streams:
    """Stands for the adapter of ``rtsp``: notes what it is handed, and fails as told."""

    def __init__(self):
        self.captured = []
        self.prepared = []
        self.fails = {}

    async def connect(self, profile, *, deadline_s):
        pass

    async def prepare(self, profile, *, deadline_s):
        self.prepared.append(profile)

    async def capture(self, profile, command, *, deadline_s):
        self.captured.append(profile)
        await asyncio.sleep(0.01)  # as long as a handshake, so that others get their turn
        for part, cause in self.fails.items():
            if part in profile.address:
                raise CameraError(cause, "as told")
        return tiny_frame()

    async def invoke(self, profile, method, arguments, *, deadline_s):
        raise AssertionError

    async def close(self):
        pass


@pytest.fixture
async def fleet():
    async with SimulatedOnvif(3) as fleet:
        yield fleet


@pytest.fixture
async def cameras():
    async with Cameras() as cameras:
        cameras._adapters.pop("rtsp", None)
        yield cameras


@pytest.fixture
def streams(cameras):
    streams = Streams()
    cameras._adapters["rtsp"] = streams
    return streams


@pytest.fixture
def gate(monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")


@pytest.fixture
def profile(fleet, gate):
    return profile_at(fleet.service(DEVICE), "onvif", credentials_ref=SECRET)


def break_snapshot(fleet, kind, **more):
    fault = {"kind": kind, "only": "snapshot", **more}
    fleet.faults.update_json(json.dumps({DEVICE: fault}).encode())


def mend_snapshot(fleet):
    fleet.faults.update_json(json.dumps({DEVICE: None}).encode())


# --- logins and clocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("refuse_time", [False, True], ids=["time-for-all", "time-refused"])
@pytest.mark.parametrize("skew_s", [0.0, 2 * HOUR_S, -2 * HOUR_S, 20 * 365 * 24 * HOUR_S])
async def test_a_token_has_the_time_of_the_device(fleet, cameras, profile, skew_s, refuse_time):
    """Issue 6: clock-skew correction, also where GetSystemDateAndTime is refused (HTTP Date)."""
    fleet.traits = Traits(login="wsse", skew_s=skew_s, refuse_time=refuse_time)
    await take(cameras, profile)
    assert fleet.refused[DEVICE] == 0, "a token was refused on the way"
    known = cameras.known(profile)
    assert known.login == "WS-Security"
    assert known.clock == ("Date header" if refuse_time else "GetSystemDateAndTime")
    assert abs(known.skew_ms - skew_s * 1000) < 60_000


async def test_a_device_that_hides_its_time_is_asked_once(fleet, cameras, profile):
    fleet.traits = Traits(login="wsse", skew_s=2 * HOUR_S, refuse_time=True, date_header=False)
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("auth", False)
    assert fleet.refused[DEVICE] == 1


async def test_a_device_that_calls_its_local_time_utc(fleet, cameras, profile):
    """Real firmware does: its Date header contradicts it, and the right token is sent, once."""
    fleet.traits = Traits(login="wsse", utc_lies_s=9 * HOUR_S)
    await take(cameras, profile)
    assert fleet.refused[DEVICE] == 1
    assert cameras.known(profile).clock == "Date header"


async def test_a_clock_that_is_set_while_we_know_it(fleet, cameras, profile):
    """A camera finds its time server: tokens by the old time are refused, but not our password."""
    fleet.traits = Traits(login="wsse", skew_s=2 * HOUR_S)
    await take(cameras, profile)
    fleet.traits.skew_s = 0.0
    await cameras.invoke(profile, "GetDeviceInformation", {}, deadline_s=deadline())
    assert fleet.refused[DEVICE] == 1
    assert abs(cameras.known(profile).skew_ms) < 60_000


async def test_our_own_clock_may_jump(fleet, cameras, profile, monkeypatch):
    """The offset is kept against a monotonic clock: our wall clock counts for nothing later."""
    fleet.traits = Traits(login="wsse", skew_s=2 * HOUR_S)
    await take(cameras, profile)
    monkeypatch.setattr("connectors.cameras.onvif_calls.wall_ms", lambda: 0)
    await cameras.invoke(profile, "GetDeviceInformation", {}, deadline_s=deadline())
    assert fleet.refused[DEVICE] == 0


async def test_http_digest(fleet, cameras, profile):
    fleet.traits = Traits(login="digest", refuse_time=True)
    await take(cameras, profile)
    assert fleet.refused[DEVICE] == 0
    assert cameras.known(profile).login == "HTTP"


async def test_a_device_that_asks_nobody_gets_no_credentials(fleet, cameras, profile):
    await take(cameras, profile)
    assert cameras.known(profile).login == "none"


@pytest.mark.parametrize("login", ["wsse", "digest"])
async def test_a_wrong_password_is_sent_once(fleet, cameras, profile, monkeypatch, login):
    """research/cameras.md: cameras lock accounts; a preparation and a capture are one try."""
    monkeypatch.setenv("CAMERA_GATE", "admin:secret-but-wrong")
    fleet.traits = Traits(login=login)
    with pytest.raises(CameraError) as caught:
        await cameras.prepare(profile, deadline_s=deadline())
    assert (caught.value.cause, caught.value.retry) == ("auth", False)
    for _ in range(3):
        assert (await fails(cameras, profile)).cause == "auth"
    assert fleet.refused[DEVICE] == 1
    monkeypatch.setenv("CAMERA_GATE", "admin:secret")
    await take(cameras, profile)
    assert fleet.refused[DEVICE] == 1


async def test_a_bearer_token_is_no_wsse_login(fleet, cameras, profile, monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "Bearer secret-token")
    fleet.traits = Traits(login="wsse")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("auth", False)
    assert fleet.refused[DEVICE] == 0


async def test_no_credentials_are_none(fleet, cameras):
    fleet.traits = Traits(login="wsse")
    error = await fails(cameras, profile_at(fleet.service(DEVICE), "onvif"))
    assert (error.cause, error.retry) == ("auth", False)
    assert "names no credentials" in str(error)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    ["0.0.0.0:80", "192.168.1.64", "192.168.1.64:8899", "169.254.169.254", "camera.invalid:81"],
)
async def test_a_device_that_names_another_host(fleet, cameras, profile, said):
    """Issue 6: XAddr and snapshot are taken at the address we reached (NAT, 0.0.0.0)."""
    fleet.traits = Traits(login="wsse", host=said)
    await take(cameras, profile)
    assert fleet.shutters == 1


async def test_a_soap_request_is_not_redirected_to_another_host(fleet, cameras, profile):
    """The address policy judges redirects; and what proves who we are stays with the device."""
    async with SimulatedOnvif(3, host="127.0.0.2") as other:
        for location, cause in (
            ("http://169.254.169.254/latest/", "address_not_allowed"),
            (other.service(DEVICE), "redirects"),
            ("ftp://127.0.0.1/", "bad_address"),
        ):
            fleet.traits = Traits(login="wsse", redirect=location)
            error = await fails(cameras, profile)
            assert (error.cause, error.retry) == (cause, False)
        assert other.requests == 0


async def test_a_soap_request_is_redirected_on_its_own_host(fleet, cameras, profile):
    async with SimulatedOnvif(3, traits=Traits(login="wsse")) as moved:
        fleet.traits = Traits(login="wsse", redirect=moved.service(DEVICE))
        await take(cameras, profile)
        assert moved.operations["GetServices"] == 1


# --- ways ----------------------------------------------------------------------------------------


async def test_the_snapshot_is_the_best_way(fleet, cameras, streams, profile):
    await take(cameras, profile)
    assert fleet.shutters == 1
    assert not streams.captured
    known = cameras.known(profile)
    assert known.way == "snapshot"
    assert known.ways == ("snapshot", "sub-stream", "main-stream")


async def test_a_snapshot_that_moved_is_found_in_the_same_attempt(fleet, cameras, streams, profile):
    """Issue 6: re-learnt when it breaks, after a firmware update for instance."""
    await take(cameras, profile)
    fleet.traits.firmware = 2
    await take(cameras, profile)
    assert fleet.shutters == 2
    assert not streams.captured
    fleet.traits.firmware = 3
    await cameras.prepare(profile, deadline_s=deadline())
    await take(cameras, profile)
    assert fleet.shutters == 3


async def test_a_snapshot_that_is_gone_moved_ahead_of_the_shutter(fleet, cameras, profile, caplog):
    """``prepare`` finds out, so that the shutter is a single round trip all the same."""
    await take(cameras, profile)
    fleet.traits.firmware = 2
    assert not cameras.wants_prepare(profile)
    for connection in tuple(fleet.connections):
        connection.abort()
    async with asyncio.timeout(20):
        await fleet.quiet.wait()
        while not cameras.wants_prepare(profile):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    with caplog.at_level(logging.WARNING):
        await cameras.prepare(profile, deadline_s=deadline())
    assert "snapshot moved" in caplog.text
    before = fleet.requests
    await take(cameras, profile)
    assert fleet.requests == before + 1


async def test_the_next_way_in_the_same_attempt(fleet, cameras, streams, profile, caplog):
    """Issue 6: snapshot before sub-stream before main stream; nobody is waited for."""
    await take(cameras, profile)
    break_snapshot(fleet, "status", status=404)
    with caplog.at_level(logging.WARNING):
        await take_again(cameras, profile)
    assert "its snapshot is given up (http_404); next: sub-stream" in caplog.text
    assert [one.address.rpartition("/")[2] for one in streams.captured] == ["sub-1"]
    asked = fleet.requests
    await take_again(cameras, profile)
    assert len(streams.captured) == 2
    assert cameras.known(profile).way == "sub-stream"
    assert cameras.known(profile).ways[0].startswith("snapshot: given up for ")
    assert not [one for one in fleet.log() if one.kind == "snapshot"][2:], (
        "the broken way was tried"
    )
    assert fleet.requests > asked, "no key frame was asked for"
    streams.fails = {"sub-1": "rtsp_404"}
    await take_again(cameras, profile)
    assert streams.captured[-1].address.endswith("/main-1")


async def test_a_snapshot_that_never_ends_is_given_up(fleet, cameras, streams, profile):
    """HA #176500: an endpoint that never completes. Three times, then the stream is tried."""
    await take(cameras, profile)
    break_snapshot(fleet, "never")
    for _ in range(3):
        assert (await fails(cameras, profile, seconds=0.2)).cause == "timeout"
    await take_again(cameras, profile)
    assert len(streams.captured) == 1


async def test_a_snapshot_that_is_always_old_is_given_up(fleet, cameras, streams, profile):
    """research/cameras.md: stale pictures are the commonest lie; they count against the way."""
    await take(cameras, profile)
    break_snapshot(fleet, "stale")
    for _ in range(3):
        assert (await fails(cameras, profile)).cause == "stale"
    await take_again(cameras, profile)
    assert len(streams.captured) == 1


async def test_when_every_way_failed_the_best_way_says_why(fleet, cameras, streams, profile):
    break_snapshot(fleet, "html")
    streams.fails = {"sub-1": "rtsp_404", "main-1": "no_video"}
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("not_an_image", True)
    assert str(error).count("by the next way") == 2
    mend_snapshot(fleet)
    profiles = fleet.operations["GetProfiles"]
    await take(cameras, profile)
    assert fleet.operations["GetProfiles"] == profiles + 1, "it was not learnt anew"


async def test_a_refused_login_is_not_tried_by_another_way(fleet, cameras, streams, profile):
    await take(cameras, profile)
    break_snapshot(fleet, "status", status=401)
    assert (await fails(cameras, profile)).cause == "auth"
    assert not streams.captured


async def test_a_stream_is_handed_over(fleet, cameras, streams, profile):
    """The seam to the adapter of ``rtsp``: a profile whose address is the stream."""
    fleet.traits = Traits(login="wsse", snapshot=False, rtsp="192.168.1.64:8554")
    await cameras.prepare(profile, deadline_s=deadline())
    assert [one.address for one in streams.prepared] == [f"rtsp://127.0.0.1:8554/{DEVICE}/sub-1"]
    assert fleet.operations["SetSynchronizationPoint"] == 1, "it plays: now a key frame is of use"
    await take_again(cameras, profile)
    (there,) = streams.captured
    assert (there.protocol, there.device_id, there.credentials_ref) == ("rtsp", DEVICE, SECRET)
    assert fleet.operations["SetSynchronizationPoint"] == 2
    streams.plays = lambda profile: True
    await cameras.prepare(profile, deadline_s=deadline())
    await take_again(cameras, profile)
    assert fleet.operations["SetSynchronizationPoint"] == 2, "what plays has its key frame"
    assert fleet.operations["GetStreamUri"] == 1
    assert fleet.shutters == 0


async def test_no_way_at_all(fleet, cameras, profile):
    fleet.traits = Traits(snapshot=False)
    for learnt in (1, 2):
        error = await fails(cameras, profile)
        assert (error.cause, error.retry) == ("no_way", False)
        assert fleet.operations["GetProfiles"] == learnt, "it stays unknown until it offers one"


async def take_again(cameras, profile):
    """Take a photo that may be the tiny one again."""
    try:
        await take(cameras, profile)
    except CameraError as error:
        if error.cause != "stale":
            raise


# --- what devices there are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "traits",
    [
        Traits(media=2),
        Traits(services=False),
        Traits(sub_stream=False),
        Traits(login="wsse", media=2),
        Traits(login="digest", services=False),
    ],
    ids=str,
)
async def test_generations(fleet, cameras, streams, profile, traits):
    fleet.traits = traits
    await take(cameras, profile)
    assert fleet.shutters == 1
    traits.snapshot = False
    await cameras.connect(profile, deadline_s=deadline())
    await take_again(cameras, profile)
    kind = "sub-1" if traits.sub_stream else "main-1"
    assert streams.captured[0].address.endswith(kind)


async def test_the_channels_of_a_recorder(fleet, cameras, streams):
    """Issue 6: channels of a recorder are kept apart; the address names the video source."""
    fleet.traits = Traits(channels=4, snapshot=False)
    for channel, stream in (("", "sub-1"), ("source-3", "sub-3"), ("main-2", "main-2")):
        profile = profile_at(fleet.service(DEVICE, channel), "onvif")
        await take_again(cameras, profile)
        assert streams.captured[-1].address.endswith(stream)
    error = await fails(cameras, profile_at(fleet.service(DEVICE, "source-9"), "onvif"))
    assert error.cause == "no_way"
    assert "source-1, source-2, source-3, source-4" in str(error)


async def test_a_device_is_learnt_once(fleet, cameras, profile):
    await asyncio.gather(*(cameras.prepare(profile, deadline_s=deadline()) for _ in range(5)))
    await take(cameras, profile)
    await take(cameras, profile)
    assert fleet.operations["GetProfiles"] == 1


async def test_what_is_known_is_bounded(fleet):
    async with Cameras(CameraSettings(way_memory_devices=2)) as cameras:
        for number in (1, 2, 3):
            name = f"cam-{number:05d}"
            await take(cameras, DeviceProfile(name, fleet.service(name), "onvif"))
        assert len(cameras._onvif._devices) == 2


async def test_reboot(fleet, cameras, profile):
    """Issue 6: reboot; sent once, and what was learnt is forgotten: clocks and addresses change."""
    fleet.traits = Traits(login="wsse")
    answer = await cameras.invoke(profile, "reboot", {}, deadline_s=deadline())
    assert b"Rebooting" in answer
    assert fleet.operations["SystemReboot"] == 1
    assert cameras.known(profile) is None


async def test_methods(fleet, cameras, profile):
    answer = await cameras.invoke(profile, "GetDeviceInformation", {}, deadline_s=deadline())
    assert b"Simulated" in answer
    await cameras.invoke(profile, "SetSynchronizationPoint", {}, deadline_s=deadline())
    assert fleet.operations["SetSynchronizationPoint"] == 1
    with pytest.raises(CameraError) as caught:
        await cameras.invoke(
            profile, "SetSynchronizationPoint", {"profile": "none"}, deadline_s=deadline()
        )
    assert caught.value.cause == "soap_fault"
    with pytest.raises(CameraError, match="no method 'FactoryDefault'"):
        await cameras.invoke(profile, "FactoryDefault", {}, deadline_s=deadline())
    assert fleet.shutters == 0


# --- answers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["GetSystemDateAndTime", "GetServices", "GetProfiles"])
@pytest.mark.parametrize(
    ("answer", "cause", "retry"),
    [
        ("bomb", "bad_answer", False),
        ("external-entity", "bad_answer", False),
        ("huge", "too_large", False),
        ("many", "too_large", False),
        ("html", "bad_answer", True),
        ("cut", "bad_answer", True),
        ("empty", "bad_answer", True),
        ("empty-body", "bad_answer", True),
        ("http-503", "http_503", True),
    ],
)
async def test_bad_answers(fleet, cameras, profile, operation, answer, cause, retry):
    """Bounded and hardened: a billion laughs, entities of files, endless answers, login pages."""
    fleet.traits = Traits(answer=answer, answer_to=operation)
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == (cause, retry), str(error)
    assert "root" not in str(error)


@pytest.mark.parametrize("operation", ["GetSystemDateAndTime", "GetServices", "GetSnapshotUri"])
async def test_the_deadline_covers_the_learning(fleet, cameras, profile, operation):
    """SPEC 3.2: a device that does not answer while it is learnt costs the deadline, no socket."""
    fleet.traits = Traits(answer="never", answer_to=operation)
    error = await fails(cameras, profile, seconds=0.5)
    assert (error.cause, error.retry) == ("timeout", True)
    async with asyncio.timeout(20):
        await fleet.quiet.wait()
    fleet.traits = Traits()
    await take(cameras, profile)


async def test_a_deep_answer_is_no_harm(fleet, cameras, profile):
    fleet.traits = Traits(answer="deep", answer_to="GetProfiles")
    assert (await fails(cameras, profile)).cause == "no_way"


async def test_a_fault_is_named(fleet, cameras, profile):
    fleet.traits = Traits(answer="fault", answer_to="GetProfiles")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("soap_fault", False)
    assert "Out of memory" in str(error)


async def test_a_device_that_forbids(fleet, cameras, profile):
    fleet.traits = Traits(answer="forbidden", answer_to="GetProfiles")
    error = await fails(cameras, profile)
    assert (error.cause, error.retry) == ("auth", False)


@pytest.mark.parametrize("answer", ["fault", "http-500", "html", "cut"])
async def test_a_device_without_a_usable_snapshot_has_its_streams(
    fleet, cameras, streams, profile, answer
):
    fleet.traits = Traits(answer=answer, answer_to="GetSnapshotUri")
    await cameras.prepare(profile, deadline_s=deadline())
    assert cameras.known(profile).way == "sub-stream"


async def test_an_address_that_is_no_device_service(fleet, cameras):
    error = await fails(cameras, profile_at(f"http://127.0.0.1:{fleet.port}/health", "onvif"))
    assert error.cause == "bad_answer"
    error = await fails(cameras, profile_at(f"http://127.0.0.1:{fleet.port}/nothing", "onvif"))
    assert (error.cause, error.retry) == ("http_404", False)
