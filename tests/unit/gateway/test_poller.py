"""Devices that send no heartbeats are asked for them: issue 6 (poll or receive)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.base import CameraSettings
from connectors.cameras.registry import Cameras
from connectors.cameras.simulated import SimulatedCameras, device_id
from connectors.gateway.poller import LOOK_MS, Poller, PollSettings
from schemas.errors import BrokerError, CameraError, UsageError
from schemas.records import DeviceHeartbeat, DeviceProfile
from streams.core.spread import offset_ms

START_MS = 1_800_000_000_000


class World:
    """A clock and cameras that a test moves; each poll waits until it is let go, if so told."""

    def __init__(self, at_ms: int = START_MS, **settings: object) -> None:
        self.ms = at_ms
        self.beats: list[DeviceHeartbeat] = []
        self.outcomes: Counter[str] = Counter()
        self.asked: list[tuple[int, DeviceProfile]] = []
        self.under_way: Counter[str] = Counter()
        self.most = 0
        self.gate: asyncio.Event | None = None
        self.causes: dict[str, str] = {}
        options = {"every_ms": 10_000, **settings}
        self.poller = Poller(
            PollSettings(**options),  # type: ignore[arg-type]
            self,
            self.beats.append,
            lambda outcome: self.outcomes.update([outcome]),
            lambda: self.ms,
        )

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        self.asked.append((self.ms, profile))
        host = profile.address
        self.under_way[host] += 1
        self.most = max(self.most, sum(self.under_way.values()))
        try:
            if self.gate is not None:
                await self.gate.wait()
            cause = self.causes.get(profile.device_id)
            if cause:
                raise CameraError(cause, "as the test wants it")
        finally:
            self.under_way[host] -= 1

    async def pass_ms(self, ms: int) -> None:
        for _ in range(ms // LOOK_MS):
            self.ms += LOOK_MS
            self.poller.look()
            for _ in range(4):
                await asyncio.sleep(0)


def camera(n: int, host: str = "", **more: object) -> DeviceProfile:
    address = f"http://{host or f'10.0.0.{n}'}/"
    return DeviceProfile(f"cam-{n}", address, "http-snapshot", **more)  # type: ignore[arg-type]


async def test_each_device_is_asked_once_a_period_at_its_own_moment():
    world = World()
    for n in range(50):
        world.poller.learn(camera(n))
    await world.pass_ms(30_000)
    asked = Counter(profile.device_id for _, profile in world.asked)
    assert set(asked.values()) == {3}
    for at_ms, profile in world.asked:
        late_ms = (at_ms - offset_ms(profile.device_id, 10_000)) % 10_000
        assert late_ms < LOOK_MS
    a_second = Counter(at_ms // 1_000 for at_ms, _ in world.asked)
    assert max(a_second.values()) <= 15  # spread, where all at once would be 50


async def test_a_heartbeats_number_is_its_periods_and_grows_over_restarts():
    first = World()
    first.poller.learn(camera(1))
    await first.pass_ms(20_000)
    second = World(first.ms)
    second.poller.learn(camera(1))
    await second.pass_ms(20_000)
    numbers = [beat.sequence for beat in first.beats + second.beats]
    assert len(numbers) >= 4
    assert numbers == sorted(set(numbers))
    assert all(beat.cpu != beat.cpu for beat in first.beats)  # NaN: not known


async def test_a_poll_never_logs_in_and_a_refusal_is_a_sign_of_life():
    """A poller with a wrong password would lock a camera's account."""
    world = World()
    world.poller.learn(camera(1, credentials_ref="env:CAMERA_GATE"))
    for n, cause in enumerate(("auth", "http_503", "timeout", "refused", "address_not_allowed")):
        world.poller.learn(camera(10 + n))
        world.causes[f"cam-{10 + n}"] = cause
    await world.pass_ms(10_000)
    assert all(profile.credentials_ref == "" for _, profile in world.asked)
    assert {beat.device_id for beat in world.beats} == {"cam-1", "cam-10", "cam-11"}
    assert world.outcomes == {"alive": 3, "timeout": 1, "refused": 1, "address_not_allowed": 1}


async def test_polls_are_bounded_in_all_and_to_a_host():
    world = World(at_once=8, per_host=2)
    world.gate = asyncio.Event()
    for n in range(40):
        world.poller.learn(camera(n, host="recorder"))
    for n in range(40, 60):
        world.poller.learn(camera(n))
    await world.pass_ms(9_900)
    assert world.under_way["http://recorder/"] == 2
    assert world.most == 8  # the recorder's others do not keep the rest waiting
    world.gate.set()
    await world.pass_ms(2_000)
    assert {beat.device_id for beat in world.beats} == {f"cam-{n}" for n in range(60)}
    assert world.most == 8


async def test_a_device_that_still_waits_is_left_out_and_counted():
    world = World()
    world.gate = asyncio.Event()
    world.poller.learn(camera(1))
    await world.pass_ms(30_000)
    assert len(world.asked) == 1
    assert world.outcomes == {"late": 2}


async def test_a_poll_ends_at_its_timeout():
    world = World(timeout_ms=10)
    world.gate = asyncio.Event()
    world.poller.learn(camera(1))
    await world.pass_ms(10_000)
    deadline = asyncio.get_running_loop().time() + 10
    while not world.outcomes["timeout"]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
    assert world.beats == []


async def test_a_heartbeat_that_cannot_be_handed_on_ends_the_poller():
    """A poller that goes on without a broker would only look as if it worked."""

    def full(_beat: DeviceHeartbeat) -> None:
        raise BrokerError("no room")

    world = World()
    poller = Poller(PollSettings(every_ms=1_000), world, full)
    poller.learn(camera(1))
    with pytest.raises(BrokerError, match="no room"):
        await asyncio.wait_for(poller.run(), 20)


async def test_what_is_removed_or_nobodys_business_is_not_asked():
    world = World()
    world.poller.learn(camera(1))
    world.poller.learn(camera(2))
    world.poller.learn(DeviceProfile("cam-3", "null:", "null-camera"))
    world.poller.learn(camera(2, removed=True))
    assert len(world.poller) == 1
    await world.pass_ms(10_000)
    assert {profile.device_id for _, profile in world.asked} == {"cam-1"}
    world.poller.learn(camera(1, host="elsewhere"))
    await world.pass_ms(10_000)
    assert world.asked[-1][1].address == "http://elsewhere/"


@given(st.integers(1, 8), st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=30))
def test_shares_divide_the_devices_among_pollers(pollers: int, names: list[str]):
    asked: Counter[str] = Counter()
    for k in range(pollers):
        world = World(share=(k, pollers))
        for name in names:
            world.poller.learn(DeviceProfile(name, "http://h/", "http-snapshot"))
        asked.update(list(world.poller._index))
    assert asked == Counter(names)


@pytest.mark.parametrize(
    "wrong", [{"every_ms": 999}, {"at_once": 0}, {"share": (1, 1)}, {"share": (0, 2_000)}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(UsageError):
        PollSettings(**wrong)


async def test_real_adapters_and_sockets_tell_the_living_from_the_dead():
    """Simulated cameras over HTTP: one answers, one is silent, one has no listener."""
    beats: dict[str, DeviceHeartbeat] = {}
    outcomes: Counter[str] = Counter()
    enough = asyncio.Event()

    def count(outcome: str) -> None:
        outcomes.update([outcome])
        if all(outcomes[one] for one in ("alive", "refused", "timeout")):
            enough.set()

    cameras = Cameras(CameraSettings())
    fleet = SimulatedCameras(2, width_px=96, height_px=96)
    await fleet.start()
    try:
        fleet.faults.update_json(b'{"%s": {"kind": "never"}}' % device_id(2).encode())
        poller = Poller(
            PollSettings(every_ms=1_000, timeout_ms=500),
            cameras,
            lambda beat: beats.setdefault(beat.device_id, beat),  # type: ignore[arg-type,return-value]
            count,
        )
        for name, url in (
            ("good", fleet.url(device_id(1))),
            ("silent", fleet.url(device_id(2))),
            ("none", "http://127.0.0.1:9/"),
        ):
            poller.learn(DeviceProfile(name, url, "http-snapshot"))
        task = asyncio.ensure_future(poller.run())
        await asyncio.wait_for(enough.wait(), 20)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    finally:
        await fleet.stop()
        await cameras.close()
    assert set(beats) == {"good"}
    assert set(outcomes) == {"alive", "refused", "timeout"}


async def test_a_camera_that_hangs_up_at_head_is_asked_all_the_same():
    """It is known for that, and was then believed to be there however long it was gone."""
    cameras = Cameras(CameraSettings())
    fleet = SimulatedCameras(1, width_px=96, height_px=96)
    await fleet.start()
    clock = asyncio.get_running_loop().time
    profile = DeviceProfile("cam", fleet.url(device_id(1)), "http-snapshot")
    try:
        fleet.faults.update_json(b'{"%s": {"kind": "disconnect"}}' % device_id(1).encode())
        for _ in range(2):
            await cameras.connect(profile, deadline_s=clock() + 10)
        await fleet.stop()
        with pytest.raises(CameraError, match="cam"):
            for _ in range(500):  # until the end of the connection that is at hand is heard of
                await cameras.connect(profile, deadline_s=clock() + 10)
                await asyncio.sleep(0.01)
    finally:
        await cameras.close()
