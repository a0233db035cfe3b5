"""The capture executor's agent: arming, lease, shutter, what is given up and what is found again."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from agent_parts import CODEC, FakeApp, kafka_record

from schemas.errors import CameraError
from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureRevoked,
    DeadLetter,
    DeviceProfile,
    ImageRef,
)
from streams.agents.capture_executor import (
    CHANGELOGS,
    COMMANDS,
    CaptureExecutor,
)
from streams.agents.capture_settings import (
    AdmissionSettings,
    ExecutorSettings,
    for_partitions,
    suited,
)
from streams.agents.device_profiles import TOPIC as PROFILES
from streams.agents.ports import Opening, Photo
from streams.core import ids
from streams.core.breaker import BreakerPolicy
from streams.runtime.group import boottime_ms
from streams.runtime.handover import Handover
from streams.runtime.settings import RuntimeSettings

PARTITIONS = 8
DEVICES = [d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS) == 0]
DEVICE = DEVICES[0]
IMAGE = ImageRef("file:///x.jpg", "0" * 64, 3, 1, 1, "jpeg")


class HandPhotos:
    """Cameras that answer when the test says so; it counts shutters."""

    def __init__(self) -> None:
        self.shutters: list[int] = []
        self.last: list[bool] = []
        self.answers: list[asyncio.Future[Photo]] = []
        self.stored: ImageRef | None = None
        self.refused: set[str] = set()
        self.hosts: dict[str, str] = {}
        self.unprepared: set[str] = set()
        self.prepared: list[tuple[str, float]] = []
        self.prepare_fails = False
        self.heeds_deadline = True

    def check_profile(self, profile: DeviceProfile) -> None:
        if profile.device_id in self.refused:
            raise CameraError("address_not_allowed", "not that one", retry=False)

    def host(self, profile: DeviceProfile) -> str:
        return self.hosts.get(profile.device_id, "")

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        return profile.device_id in self.unprepared

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        self.prepared.append((profile.device_id, deadline_s))
        if self.prepare_fails:
            raise CameraError("refused", "nothing listens there")

    def take_now(self, _profile: DeviceProfile, _command: CaptureCommand) -> Photo | None:
        return None

    async def take(
        self,
        _profile: DeviceProfile,
        command: CaptureCommand,
        *,
        deadline_s: float,
        opening: Opening,
    ) -> Photo:
        self.shutters.append(command.command_id)
        self.last.append(opening.last)
        answer: asyncio.Future[Photo] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        async with asyncio.timeout_at(deadline_s if self.heeds_deadline else None):
            return await answer

    async def find(self, _command: CaptureCommand) -> ImageRef | None:
        return self.stored


class Bench:
    """An executor on a fake app, with one device known."""

    def __init__(self, max_in_flight: int = 1_000, gather_ms: int = 0, **admission: Any) -> None:
        self.app = FakeApp((COMMANDS, PROFILES), CHANGELOGS)
        self.photos = HandPhotos()
        self.executor = CaptureExecutor(
            self.app.settings,
            ExecutorSettings(
                gather_ms=gather_ms,
                max_in_flight=max_in_flight,
                admission=AdmissionSettings(**admission),
            ),
            self.photos,
            CODEC,
            self.app.clock,
            self.app.metrics,
            PARTITIONS,
        )
        self.executor._app = self.app  # type: ignore[assignment]
        self.partition = self.app.open(0, self.executor)
        self.results: list[CaptureResult] = []
        for device_id in DEVICES:
            self.know(DeviceProfile(device_id, "http://127.0.0.1/x", "http-snapshot"))
        self.app.group.renew(boottime_ms())

    def know(self, profile: DeviceProfile) -> None:
        with self.app.step(self.partition) as step:
            self.executor._devices.on_profiles(self.partition, [kafka_record(profile, 0)], step)

    def command(
        self, command_id: int = 1, in_ms: int = 5_000, **changes: int | str
    ) -> CaptureCommand:
        now_ms = self.app.clock.ms
        found = CaptureCommand(
            command_id, DEVICE, "s", "", 1, now_ms + in_ms, now_ms + in_ms, now_ms + in_ms + 5_000,
            3_000, 0, now_ms,
        )  # fmt: skip
        return (
            found
            if not changes
            else type(found)(
                **{**{name: getattr(found, name) for name in found.__struct_fields__}, **changes}
            )
        )

    def receive(self, *records: object) -> None:
        with self.app.step(self.partition) as step:
            self.executor.on_commands(
                self.partition,
                [kafka_record(r, n) for n, r in enumerate(records)],  # type: ignore[arg-type]
                step,
            )

    async def at(self, offset_ms: int) -> None:
        """Move the wall clock and let what is due happen."""
        self.app.clock.ms += offset_ms
        self.executor._arming._timers._wake()
        self.executor._shutters._wake()
        for _ in range(5):
            await asyncio.sleep(0)

    async def searched(self, offset_ms: int) -> None:
        """The same for what is searched for in the blob store."""
        self.app.clock.ms += offset_ms
        self.executor._search._again._wake()
        for _ in range(5):
            await asyncio.sleep(0)

    def commit(self) -> list[CaptureResult]:
        found = [r for _, r in self.app.commit() if isinstance(r, CaptureResult)]
        self.results += found
        return found


async def test_the_shutter_opens_on_time_after_running_is_committed() -> None:
    """DESIGN 'Captures': armed first, committed, and only then the shutter; never early."""
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_400)  # arming begins 600 ms before
    await bench.at(600)  # its time has come, but RUNNING is not committed
    assert bench.photos.shutters == []
    bench.commit()
    await bench.at(0)
    assert bench.photos.shutters == [1]
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 2.0))
    await asyncio.sleep(0.01)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("SUCCESS", 1)
    assert result.shutter_at_ms is not None
    assert result.shutter_at_ms >= result.scheduled_ms


async def test_a_millisecond_early_is_too_early() -> None:
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(499)
    assert bench.photos.shutters == []
    await bench.at(1)
    assert bench.photos.shutters == [1]


async def test_a_shutter_that_is_due_goes_before_arming_and_ends() -> None:
    """Issue 5: whoever is about to keep the event loop busy opens first what has come due."""
    bench = Bench()
    first, second, third = DEVICES[:3]
    bench.receive(
        bench.command(1, device_id=first),
        bench.command(2, in_ms=5_100, device_id=second),
        bench.command(3, in_ms=5_600, device_id=third),
    )
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.clock.ms += 500
    bench.executor._arming._timers._wake()  # the third's; the loop has not come to the first's shutter
    await asyncio.sleep(0)
    assert bench.photos.shutters == [1]
    bench.commit()
    bench.app.clock.ms += 100
    bench.executor._on_searched(bench.partition.state, 3, IMAGE)  # any end that is written
    await asyncio.sleep(0)
    assert bench.photos.shutters == [1, 2]


async def test_a_crowd_that_expires_together_is_not_handed_over_within_itself() -> None:
    """Each that is given up is written at once, which looks for shutters that are due."""
    bench = Bench()
    many = [d for d in (f"m-{n}" for n in range(36_000)) if ids.partition_of(d, PARTITIONS) == 0]
    bench.receive(*(bench.command(n, device_id=d) for n, d in enumerate(many, 1)))
    bench.commit()
    bench.app.clock.ms += 4_500
    while len(bench.executor._arming):
        bench.executor._arming._timers._wake()
    bench.commit()
    bench.app.clock.ms += 60_000
    while len(bench.executor._shutters):
        bench.executor._shutters._wake()
    assert bench.app.failures == []
    assert [r.state for r in bench.commit()].count("EXPIRED") == len(many) > 4_000


async def test_a_photo_for_now_is_armed_as_it_comes_and_waits_for_one_commit() -> None:
    """Also one of a backlog; what can still wait does."""
    bench = Bench()
    bench.receive(bench.command(1, in_ms=0), bench.command(2, in_ms=700, device_id=DEVICES[1]))
    await bench.at(0)
    assert bench.photos.shutters == []
    assert [bench.partition.state.find_open(n).state for n in (1, 2)] == ["RUNNING", "PENDING"]
    bench.commit()
    await bench.at(0)
    assert bench.photos.shutters == [1]


async def test_a_revocation_that_comes_with_a_photo_for_now_is_heard() -> None:
    bench = Bench()
    bench.receive(bench.command(in_ms=0), CaptureRevoked(DEVICE, "s", 1, 1, "cancelled"))
    (result,) = bench.commit()
    assert result.state == "REVOKED"
    await bench.at(0)
    assert bench.photos.shutters == []


async def test_a_photo_for_now_of_a_device_whose_breaker_is_open_is_not_armed() -> None:
    bench = Bench(breaker=BreakerPolicy(failures=1, open_ms=300_000))
    bench.executor.admission.troubled.failure(DEVICE, "auth", bench.app.clock.ms, quick=False)
    bench.receive(bench.command(1, in_ms=0), bench.command(2, in_ms=0, device_id=DEVICES[1]))
    bench.commit()
    await bench.at(0)
    (result,) = bench.commit()
    assert (result.command_id, result.state) == (1, "EXPIRED")
    assert result.cause.startswith("breaker_open")
    assert bench.photos.shutters == [2]


async def test_without_a_lease_no_shutter_opens() -> None:
    """DESIGN 'Captures': a worker that was stopped and wakes takes no photo."""
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.group._renewed_at_ms = boottime_ms() - 5_001
    await bench.at(500)
    await bench.at(20)
    assert bench.photos.shutters == []
    bench.app.group.renew(boottime_ms())
    await bench.at(20)
    assert bench.photos.shutters == [1]


async def test_without_a_lease_until_not_after_it_expires() -> None:
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.group.lost()
    await bench.at(6_000)
    (result,) = bench.commit()
    assert (result.state, bench.photos.shutters) == ("EXPIRED", [])


async def test_a_revoked_command_takes_no_photo() -> None:
    bench = Bench()
    bench.receive(bench.command())
    bench.receive(CaptureRevoked(DEVICE, "s", 1, 1, "paused"))
    (result,) = bench.commit()
    await bench.at(5_500)
    bench.commit()
    await bench.at(500)
    assert (result.state, bench.photos.shutters) == ("REVOKED", [])


async def test_a_released_partition_opens_no_shutter_and_is_found_again() -> None:
    """DESIGN 'Captures': giving a partition up starts nothing; the next owner goes on."""
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.partition.open = False
    await bench.executor.drain([bench.partition])
    bench.executor.closed(bench.partition)
    bench.commit()
    await bench.at(1_000)
    assert bench.photos.shutters == []
    again = bench.app.open(0, bench.executor)
    await bench.at(0)
    bench.commit()
    await bench.at(0)
    assert bench.photos.shutters == [1]
    assert again.state.open_count == 1


@pytest.mark.parametrize(("stored", "state"), [(IMAGE, "SUCCESS"), (None, "RUNNING")])
async def test_a_capture_whose_worker_died_is_decided_by_its_blob(
    stored: ImageRef | None, state: str
) -> None:
    """DESIGN 'Captures': found: SUCCESS, cause recovered; not found: another attempt, marked."""
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()  # RUNNING is on the record; the worker dies here
    bench.executor.closed(bench.partition)
    bench.photos.stored = stored
    partition = bench.app.open(0, bench.executor)
    await asyncio.sleep(0.01)
    await bench.at(500)
    results = bench.commit()
    if stored is not None:
        assert [(r.state, r.cause, r.attempt) for r in results] == [("SUCCESS", "recovered", 1)]
        assert partition.state.open_count == 0
    else:
        entry = partition.state.find_open(1)
        assert (entry.state, entry.attempt) == (state, 2)


async def test_what_is_in_flight_is_awaited_when_a_partition_is_given_up() -> None:
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    draining = asyncio.ensure_future(bench.executor.drain([bench.partition]))
    await asyncio.sleep(0.01)
    assert not draining.done()
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 2.0))
    await asyncio.wait_for(draining, 5.0)
    assert [r.state for r in bench.commit()] == ["SUCCESS"]


async def test_shutters_beyond_the_bound_wait_their_turn() -> None:
    """CONVENTIONS 6: sockets and memory are bounded."""
    bench = Bench(max_in_flight=2, hot_share=0.0)
    commands = [bench.command(n, device_id=DEVICES[n], schedule_id="") for n in range(1, 5)]
    bench.receive(*commands)
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    assert bench.photos.shutters == [1, 2]
    for answer in bench.photos.answers:
        answer.set_result(Photo(IMAGE, 1.0, 2.0))
    await asyncio.sleep(0.01)
    assert bench.photos.shutters == [1, 2, 3, 4]


async def test_a_camera_error_is_told_and_tried_again() -> None:
    """SPEC 3.2: bounded retries; the transitions say why."""
    bench = Bench()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    bench.photos.answers[0].set_exception(CameraError("refused", "nothing listens there"))
    await asyncio.sleep(0.01)
    assert bench.commit() == []
    await bench.at(100)
    bench.commit()
    await bench.at(100)
    bench.photos.answers[1].set_exception(CameraError("auth", "wrong password", retry=False))
    await asyncio.sleep(0.01)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("FAILED", 2)
    assert any("nothing listens there" in t.cause for t in result.transitions)


NEW_DEVICE = next(
    d for d in (f"new-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS) == 0
)


async def _first_attempt_of_a_new_device(bench: Bench) -> None:
    bench.receive(bench.command(device_id=NEW_DEVICE))
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    await asyncio.sleep(0.01)
    assert bench.commit() == []


async def test_an_unknown_device_fails_with_advice_after_its_retries() -> None:
    bench = Bench()
    await _first_attempt_of_a_new_device(bench)
    results: list[CaptureResult] = []
    for _ in range(100):
        await bench.at(20)
        await asyncio.sleep(0.001)
        results += bench.commit()
    (result,) = results
    assert (result.state, result.attempt) == ("FAILED", 4)
    assert "shutterwheel device add" in result.cause


async def test_a_profile_that_comes_after_its_command_is_in_time_for_a_retry() -> None:
    bench = Bench()
    await _first_attempt_of_a_new_device(bench)
    profile = DeviceProfile(NEW_DEVICE, "http://127.0.0.1/x", "http-snapshot")
    with bench.app.step(bench.partition) as step:
        bench.executor._devices.on_profiles(bench.partition, [kafka_record(profile, 1)], step)
    for _ in range(20):
        await bench.at(20)
        bench.commit()
    assert len(bench.photos.answers) == 1


def test_a_profile_that_can_never_work_is_dead_lettered_and_changes_nothing() -> None:
    async def run() -> list[DeadLetter]:
        bench = Bench()
        bench.app.commit()
        bench.photos.refused.add(DEVICE)
        bad = DeviceProfile(DEVICE, "http://8.8.8.8/x", "http-snapshot")
        with bench.app.step(bench.partition) as step:
            bench.executor._devices.on_profiles(bench.partition, [kafka_record(bad, 1)], step)
        letters = [r for _, r in bench.app.commit() if isinstance(r, DeadLetter)]
        kept = bench.executor._devices.profile(bench.partition, DEVICE)
        assert kept.address == "http://127.0.0.1/x"
        return letters

    (letter,) = asyncio.run(run())
    assert (letter.code, letter.topic) == ("address_not_allowed", PROFILES)


async def test_poison_among_commands_is_dead_lettered_alone() -> None:
    bench = Bench()
    bench.app.commit()
    bench.receive(bench.command(1), DeviceProfile("x", "y", "z"), bench.command(2, schedule_id=""))
    found = [r for _, r in bench.app.commit()]
    assert [r.code for r in found if isinstance(r, DeadLetter)] == ["wrong_record"]
    assert bench.partition.state.open_count == 2


# -- a rebalance -----------------------------------------------------------------------------------


async def paused(bench: Bench) -> int:
    """Do as ``Tenancy.pause``: the last steps, the last commit, no more of them."""
    until_ms = await bench.executor.pausing([bench.partition])
    bench.partition.open, bench.partition.shutters_until_ms = False, until_ms
    bench.commit()
    bench.partition.pause()
    return until_ms


async def test_what_falls_due_in_a_pause_is_armed_before_it_and_opens_on_time() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=800))
    bench.commit()
    until_ms = await paused(bench)
    assert until_ms >= bench.app.clock.ms + 800
    await bench.at(799)
    assert bench.photos.shutters == []
    await bench.at(1)
    assert bench.photos.shutters == [1]


async def test_what_ends_in_a_pause_is_written_when_the_partition_is_resumed() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=100))
    await bench.at(0)
    bench.commit()
    await bench.at(100)
    await paused(bench)
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 1.0))
    await bench.at(0)
    assert bench.commit() == []
    bench.partition.resume(bench.partition.membership)
    bench.executor.resumed(bench.partition)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("SUCCESS", 1)


async def test_what_comes_after_the_agreed_moment_waits_until_the_partition_is_resumed() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=900), bench.command(2, in_ms=1_500))
    bench.commit()
    until_ms = await paused(bench)
    await bench.at(until_ms - bench.app.clock.ms + 1_000)
    assert bench.photos.shutters == [], "the first came to its turn after the agreed moment"
    bench.partition.resume(bench.partition.membership)
    bench.executor.resumed(bench.partition)
    await bench.at(0)
    assert bench.photos.shutters == [1]
    bench.commit()
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 1.0))
    await bench.at(0)
    assert bench.photos.shutters == [1, 2]


async def test_a_lost_partition_opens_the_shutters_agreed_on_and_no_others() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=500), bench.command(2, in_ms=1_001))
    await bench.at(402)
    bench.commit()
    await paused(bench)
    bench.partition.shutters_until_ms = bench.app.clock.ms + 300
    bench.partition.lose()
    bench.executor.closed(bench.partition)
    await bench.at(98)
    assert bench.photos.shutters == [1]
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 1.0))
    await bench.at(5_000)
    assert bench.photos.shutters == [1]
    assert bench.commit() == [], "another writes for it now"
    assert bench.app.failures == []


async def found_again(bench: Bench, *, generation: int, until_ms: int) -> None:
    """Open the partition anew, as its next owner."""
    bench.partition.lose()
    bench.executor.closed(bench.partition)
    membership = bench.partition.membership
    bench.partition = bench.app.open(
        0, bench.executor, Handover(membership.generation - 1 + generation, until_ms)
    )


async def test_a_shutter_left_unopened_opens_on_time_with_the_next_owner() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=500))
    await bench.at(0)
    bench.commit()
    await found_again(bench, generation=0, until_ms=bench.app.clock.ms + 499)
    await bench.at(500)
    assert bench.photos.shutters == [1]
    bench.photos.answers[0].set_result(Photo(IMAGE, 1.0, 1.0))
    await bench.at(0)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("SUCCESS", 1)


async def test_an_attempt_that_may_be_going_on_elsewhere_is_awaited_before_another() -> None:
    """Until it is over by both clocks: each may be ``max_skew`` off (seed 20261128022)."""
    bench = Bench()
    bench.receive(bench.command(1, in_ms=500, not_after_ms=bench.app.clock.ms + 20_000))
    await bench.at(0)
    bench.commit()
    await found_again(bench, generation=0, until_ms=bench.app.clock.ms + 500)
    await bench.searched(500 + 3_000)
    assert bench.photos.shutters == []
    assert bench.commit() == []
    await bench.searched(2 * bench.app.settings.max_skew_ms - 500)
    assert bench.photos.shutters == []
    assert bench.commit() == []
    await bench.searched(500)
    await bench.at(0)
    bench.commit()
    await bench.at(0)
    assert bench.photos.shutters == [1], "nobody can be at it any more"


async def test_a_photo_that_another_worker_took_is_found() -> None:
    bench = Bench()
    bench.receive(bench.command(1, in_ms=500))
    await bench.at(0)
    bench.commit()
    await found_again(bench, generation=0, until_ms=bench.app.clock.ms + 500)
    await bench.searched(700)
    bench.photos.stored = IMAGE
    await bench.searched(500)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("SUCCESS", 1)
    assert bench.photos.shutters == []


async def test_an_older_handover_does_not_say_that_a_shutter_is_unopened() -> None:
    """Its owner may have got the partition back, opened the shutter and died."""
    bench = Bench()
    bench.receive(bench.command(1, in_ms=500))
    await bench.at(0)
    bench.commit()
    bench.photos.stored = IMAGE
    await found_again(bench, generation=-1, until_ms=bench.app.clock.ms)
    await bench.at(0)
    (result,) = bench.commit()
    assert result.state == "SUCCESS"
    assert bench.photos.shutters == []


# -- breakers, priorities, preparing (issue 6 'Executor') ------------------------------------------


async def armed(bench: Bench, *commands: CaptureCommand) -> None:
    """Bring commands to where only their time has to come."""
    bench.receive(*commands)
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(499)


async def fail(bench: Bench, number: int, cause: str = "timeout") -> None:
    bench.photos.answers[number].set_exception(CameraError(cause, "no", retry=cause != "auth"))
    await bench.at(0)


async def test_a_capture_that_meets_an_open_breaker_is_on_the_record() -> None:
    """ADR 0016: EXPIRED at once, with its cause, and the camera is not asked."""
    bench = Bench()
    late = bench.command(2, in_ms=8_000, schedule_id="")
    await armed(bench, bench.command(1, schedule_id=""), late)
    await bench.at(1)
    await fail(bench, 0, "auth")
    assert [(r.state, r.command_id) for r in bench.commit()] == [("FAILED", 1)]
    await bench.at(2_500)  # the second is to be armed, 2.4 s later; the breaker is open for 300 s
    (result,) = bench.commit()
    assert (result.state, result.shutter_at_ms, result.attempt) == ("EXPIRED", None, 0)
    assert result.cause.startswith("breaker_open: failure 1 in a row was 'auth'")
    assert [t.to_state for t in result.transitions] == ["PENDING", "EXPIRED"]
    assert bench.photos.shutters == [1]


async def test_a_retry_waits_pending_until_the_probe_is_due() -> None:
    """ADR 0016: the breaker stretches the backoff; the capture stays revocable meanwhile."""
    bench = Bench(breaker=BreakerPolicy(failures=1, open_ms=3_000))
    await armed(bench, bench.command(1))
    await bench.at(1)
    await fail(bench, 0)
    bench.commit()
    for _ in range(23):
        await bench.at(100)
        assert bench.commit() == []
        entry = bench.partition.state.find_open(1)
        assert (entry.state, entry.attempt) == ("PENDING", 1)
    await bench.at(100)  # 600 ms before the probe it is armed
    bench.commit()
    await bench.at(599)
    assert bench.photos.shutters == [1]
    await bench.at(1)
    assert bench.photos.shutters == [1, 1]
    armings = [t.cause for t in bench.partition.state.find_open(1).transitions if t.attempt][::2]
    assert armings == [
        "armed by slot 0 in generation 1",
        "armed by slot 0 in generation 1; the probe of a breaker that failure 1 in a row opened",
    ]
    bench.photos.answers[1].set_result(Photo(IMAGE, 1.0, 1.0))
    await bench.at(0)
    assert [r.state for r in bench.commit()] == ["SUCCESS"]
    assert bench.app.metrics.open_breakers.read() == 0


async def test_a_breaker_that_opens_after_arming_holds_the_shutter() -> None:
    """ADR 0016: two captures of one device; the second is RUNNING when the first opens it."""
    bench = Bench(breaker=BreakerPolicy(failures=1, open_ms=3_000))
    await armed(bench, bench.command(1), bench.command(2, schedule_id="", priority=9))
    await bench.at(1)
    assert bench.photos.shutters == [1]
    await fail(bench, 0, "refused")
    await bench.at(2_999)
    assert bench.photos.shutters == [1]
    await bench.at(1)
    assert bench.photos.shutters == [1, 2], "the probe, and one at a time"


async def test_a_device_that_rarely_answers_gets_fewer_retries() -> None:
    """SPEC 3.2: retries weighted by health, and the record says so."""
    bench = Bench()
    for _ in range(17):
        bench.executor.admission.troubled.failure(DEVICE, "refused", 0, quick=True)
        bench.executor.admission.troubled.photo(DEVICE, quick=True)
    for _ in range(14):
        bench.executor.admission.troubled.failure(DEVICE, "refused", 0, quick=True)
    await armed(bench, bench.command(1))
    await bench.at(1)
    await fail(bench, 0)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("FAILED", 1)
    assert result.cause.endswith("(attempt 1 of 1: 1 of its 16 attempts before gave a photo)")
    assert bench.app.metrics.retry_budgets["0"] == 1


async def test_new_credentials_close_a_breaker() -> None:
    """Issue 6: what was held against a device is forgotten as its profile changes."""
    bench = Bench()
    await armed(bench, bench.command(1))
    await bench.at(1)
    await fail(bench, 0, "auth")
    assert bench.app.metrics.open_breakers.read() == 1
    again = DeviceProfile(DEVICE, "http://127.0.0.1/x", "http-snapshot")
    bench.know(again)
    assert bench.app.metrics.open_breakers.read() == 1, "written again, it is the same"
    bench.executor._devices.profile(bench.partition, DEVICE)
    bench.know(msgspec.structs.replace(again, credentials_ref="env:CAMERA_NEW"))
    assert bench.app.metrics.open_breakers.read() == 0


async def test_a_device_is_made_ready_in_the_lead() -> None:
    """Issue 6: connections opened in the lead time, so that the shutter is one round trip."""
    bench = Bench()
    bench.photos.unprepared = {DEVICE, DEVICES[1], DEVICES[2]}
    bench.executor.admission.troubled.failure(DEVICES[1], "timeout", 0, quick=False)
    for _ in range(3):  # slow, but it answers: it gains the most by it
        bench.executor.admission.troubled.photo(DEVICES[2], quick=False)
    began_s = asyncio.get_running_loop().time()
    await armed(bench, *[bench.command(n, device_id=DEVICES[n], schedule_id="") for n in range(4)])
    assert [device_id for device_id, _ in bench.photos.prepared] == [DEVICE, DEVICES[2]]
    assert all(began_s < at_s <= began_s + 60.0 for _, at_s in bench.photos.prepared)
    assert bench.app.metrics.preparations["ready"] == 2


async def test_preparations_are_bounded_over_in_time_and_their_failures_counted() -> None:
    """Issue 6: bounded; failures only counted; the captures are tried all the same."""
    bench = Bench(prepare_at_once=2)
    bench.photos.unprepared = set(DEVICES)
    bench.photos.prepare_fails = True
    await armed(
        bench, *[bench.command(n, device_id=DEVICES[n], schedule_id="") for n in range(1, 6)]
    )
    await bench.at(1)
    assert sorted(bench.photos.shutters) == [1, 2, 3, 4, 5]
    metrics = bench.app.metrics.preparations
    assert (metrics["ready"], metrics["failed"], metrics["left_out"]) == (0, 2, 3)


async def test_preparing_keeps_the_bound_of_a_host() -> None:
    """Issue 6: a bounded number to a host, in the lead as well."""
    bench = Bench(per_host=2)
    bench.photos.unprepared = set(DEVICES)
    bench.photos.hosts = dict.fromkeys(DEVICES[1:4], "nvr")
    await armed(
        bench, *[bench.command(n, device_id=DEVICES[n], schedule_id="") for n in range(1, 6)]
    )
    assert [device_id for device_id, _ in bench.photos.prepared] == [
        *DEVICES[1:3], *DEVICES[4:6],
    ]  # fmt: skip
    assert bench.app.metrics.preparations["left_out"] == 1
    assert len(bench.executor._preparation) == len(bench.executor._preparation._hosts) == 0


async def test_an_adapter_that_does_not_end_is_cancelled_and_on_the_record() -> None:
    """Issue 6: capture_timeout covers everything, whatever an adapter does."""
    bench = Bench()
    bench.photos.heeds_deadline = False
    await armed(bench, bench.command(1, not_after_ms=bench.app.clock.ms + 6_000))
    await bench.at(1)
    for _ in range(33):
        bench.app.clock.ms += 100
        bench.executor.admission.step(bench.app.clock.ms)
        await bench.at(0)
    (result,) = bench.commit()
    assert (result.state, result.attempt) == ("FAILED", 1)
    assert "its adapter did not end within 3,000 ms" in result.cause
    assert len(bench.executor._attempts) == 0


@pytest.mark.parametrize(("partitions", "arm_ms"), [(8, 600), (64, 600), (256, 600), (1024, 1_173)])
def test_captures_are_armed_earlier_where_commits_gather_longer(tmp_path, partitions, arm_ms):
    """What is armed as a commit begins waits a gathering (683 ms for 2 x 1,024) and its half."""
    runtime = suited(RuntimeSettings("captures", "0", "-", tmp_path))
    executor = for_partitions(ExecutorSettings(), runtime, partitions)
    assert executor.arm_ms == arm_ms
    assert executor.cover_ms == round(1_000 * arm_ms / 600)
