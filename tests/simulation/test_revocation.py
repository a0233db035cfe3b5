"""Revocation by epoch: the fold and the state machine of captures joined, without Kafka (issue 5).

A schedule of one device is changed, paused, resumed, cancelled and published again while its
commands are on their way, armed, or being taken by a camera that fails and a worker that dies. Its
nominal times are those of every full second all along, so it can be said of each of them what must
have become of it: one photo, never two; and where there is none, the record says why. SPEC 1.8,
2.4.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureResult,
    CaptureRevoked,
    DeviceCaptures,
    DeviceEvent,
    ImageRef,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    TickChange,
    TickSettings,
)
from streams.core import capture, ids
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.transition import EXPIRED, FAILED, PENDING, REVOKED, RUNNING, SUCCESS, verify

T0 = ids.EPOCH_MS + 1_000_000
DEVICE, SCHEDULE = "cam-1", "a"
ARM_MS, TICK_MS, STEP_MS = 600, 200, 50
IMAGE = ImageRef("file:///x", "ab" * 32, 9, 1, 1, "jpeg")


@dataclass
class World:
    """One device, its schedule, its wheel and its executor; time moves in steps of 50 ms."""

    lag_ms: int = 0
    """How long a command is on its way."""
    shoot_ms: int = 100
    fails: frozenset[int] = frozenset()
    """Which photos, counted from 0, fail; the camera is well otherwise."""
    now_ms: int = T0
    wheel: PartitionState = field(default_factory=lambda: PartitionState(0, 1))
    row: DeviceCaptures = field(default_factory=lambda: DeviceCaptures(DEVICE))
    way: deque[tuple[int, CaptureCommand | CaptureRevoked]] = field(default_factory=deque)
    issued: list[CaptureCommand] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    results: list[CaptureResult] = field(default_factory=list)
    events: list[DeviceEvent] = field(default_factory=list)
    open_until: dict[int, int] = field(default_factory=dict)
    """Shutters that are open, and when their photo is there."""
    photos: list[int] = field(default_factory=list)
    """Nominal times of which a photo was really taken."""
    shots: int = 0
    down_until_ms: int = 0
    pauses: list[list[int]] = field(default_factory=list)
    begun_ms: int | None = None
    requests: int = 0

    # --- upstream and the wheel -------------------------------------------------------------------

    def tick(self, *events) -> None:
        changes = tuple(TickChange(n, event) for n, event in enumerate(events))
        tick = ScheduleTick(
            0, 1, self.now_ms, RULES_VERSION, "", TickSettings(notice_ms=0), changes
        )
        outputs = advance(self.wheel, tick)
        for command in outputs.commands:
            self.way.append((self.now_ms + self.lag_ms, command))
            if isinstance(command, CaptureCommand):
                self.issued.append(command)
        self.skipped += [d for d in outputs.decisions if isinstance(d, Skipped)]

    def ask(self, what: str, policy: CapturePolicy) -> None:
        self.requests += 1
        request = f"r{self.requests}"
        resting = bool(self.pauses) and self.pauses[-1][1] < 0
        if what == "upsert":
            spec = ScheduleSpec("interval", every_ms=1_000)
            event = ScheduleUpserted(request, DEVICE, SCHEDULE, spec, policy, 0)
            self.begun_ms = self.now_ms if self.begun_ms is None else self.begun_ms
            if resting and self.wheel.schedule_count == 0:
                self.pauses[-1][1] = self.now_ms
        elif what == "pause":
            event = SchedulePaused(request, DEVICE, SCHEDULE, "rain", 0)
            if not resting and self.wheel.schedule_count:
                self.pauses.append([self.now_ms, -1])
        elif what == "cancel":
            event = ScheduleCancelled(request, DEVICE, SCHEDULE, 0)
            if not resting and self.wheel.schedule_count:
                self.pauses.append([self.now_ms, -1])
        else:
            event = ScheduleResumed(request, DEVICE, SCHEDULE, 0)
            if resting and self.wheel.schedule_count:
                self.pauses[-1][1] = self.now_ms
        self.tick(event)

    # --- the executor -----------------------------------------------------------------------------

    def apply(self, change: capture.Change) -> None:
        self.row = change.state
        self.results += change.results
        self.events += change.events

    def work(self) -> None:
        now = self.now_ms
        while self.way and self.way[0][0] <= now:
            _, record = self.way.popleft()
            if isinstance(record, CaptureCommand):
                self.apply(capture.on_command(self.row, record, now))
            else:
                self.apply(capture.on_revoked(self.row, record, now))
        for held in self.row.open:
            command_id, opens_ms = held.command.command_id, capture.not_before_ms(held)
            if held.state == PENDING and now >= opens_ms - ARM_MS:
                self.apply(capture.on_arming(self.row, command_id, now))
            elif held.state == RUNNING and command_id in self.open_until:
                if now >= self.open_until[command_id]:
                    self.photo(command_id, held.command.nominal_ms)
            elif held.state == RUNNING:
                self.shutter(held)

    def shutter(self, held) -> None:
        now, command_id = self.now_ms, held.command.command_id
        match capture.shutter_decision(now, held, lease_alive=True, row=self.row):
            case "open":
                assert now >= held.command.scheduled_ms
                self.open_until[command_id] = now + self.shoot_ms
            case "expired":
                self.apply(capture.on_expired(self.row, command_id, now, "late"))
            case "overlap_skip":
                self.apply(capture.on_overlapped(self.row, command_id, now))

    def photo(self, command_id: int, nominal_ms: int) -> None:
        del self.open_until[command_id]
        self.shots += 1
        if self.shots - 1 in self.fails:
            failed = capture.on_failure(
                self.row, command_id, "timeout", "no answer", None, self.now_ms
            )
            self.apply(failed)
        else:
            self.photos.append(nominal_ms)
            self.apply(capture.on_success(self.row, command_id, IMAGE, None, None, self.now_ms))

    def crash(self) -> None:
        """The worker dies; whoever comes next finds what was RUNNING, and no photo of it."""
        self.open_until.clear()
        for held in self.row.open:
            if held.state == RUNNING:
                command_id = held.command.command_id
                self.apply(capture.on_recovered(self.row, command_id, self.now_ms, None))

    # --- time ---------------------------------------------------------------------------------------

    def run(self, ms: int) -> None:
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms += STEP_MS
            if self.now_ms % TICK_MS == 0:
                self.tick()
            if self.now_ms >= self.down_until_ms:
                self.work()

    def play(self, script) -> None:
        self.ask("upsert", CapturePolicy(catch_up_ms=60_000))
        for what, policy, wait_ms in script:
            if what == "crash":
                self.crash()
                self.down_until_ms = self.now_ms + 1_500
            else:
                self.ask(what, policy)
            self.run(wait_ms)
        end_ms = self.now_ms
        self.ask("pause", CapturePolicy())  # nothing new; what is on its way comes to its end
        self.run(1_000)
        for _ in range(80):
            if self.row.open or self.way:
                self.run(1_000)
        self.check(end_ms)

    # --- what must have become of it ------------------------------------------------------------------

    def check(self, end_ms: int) -> None:
        assert not self.row.open
        ended = Counter(r.command_id for r in self.results)
        assert ended == Counter(c.command_id for c in self.issued), "'fired' or 'revoked', once"
        for result in self.results:
            assert verify(result) == ()
        doubled = {n: k for n, k in Counter(self.photos).items() if k > 1}
        assert not doubled, f"doubled: {doubled}"
        by_nominal: dict[int, list[CaptureResult]] = {}
        for result in self.results:
            by_nominal.setdefault(result.nominal_ms, []).append(result)
        first_ms = self.begun_ms + 1_000 if self.begun_ms is not None else end_ms
        for nominal_ms in range(-(-first_ms // 1_000) * 1_000, end_ms - 2_000, 1_000):
            if nominal_ms not in self.photos:
                assert self.why(nominal_ms, by_nominal.get(nominal_ms, [])), nominal_ms - T0

    def why(self, nominal_ms: int, results: list[CaptureResult]) -> bool:
        """Whether the record says why there is no photo of this time."""
        if any(
            start - 1_000 <= nominal_ms and (stop < 0 or nominal_ms <= stop)
            for start, stop in self.pauses
        ):
            return True  # it may have been due, with its spread, while the schedule rested
        if any(s.first_ms - 1_000 <= nominal_ms <= s.last_ms for s in self.skipped):
            return True
        # A change of the schedule is no reason: the next epoch takes the photo.
        return any(
            r.state in {FAILED, EXPIRED}
            or r.cause.startswith("overlap")
            or r.cause.endswith(("was paused", "was cancelled"))
            for r in results
        )


policies = st.builds(
    CapturePolicy,
    lead_ms=st.sampled_from([0, 1_000, 1_000, 5_000]),
    catch_up_ms=st.just(60_000),
    spread_ms=st.sampled_from([0, 0, 500, 1_000]),
    jitter_ms=st.just(0),
    overlap=st.sampled_from(["allow", "allow", "skip", "buffer_one"]),
    priority=st.integers(0, 3),
)
scripts = st.lists(
    st.tuples(
        st.sampled_from(
            ["upsert", "upsert", "upsert", "pause", "resume", "resume", "cancel", "crash"]
        ),
        policies,
        st.sampled_from([0, 50, 250, 400, 700, 1_300]) | st.integers(0, 4_000),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    scripts,
    st.sampled_from([0, 100, 900]),
    st.sampled_from([50, 400, 1_500]),
    st.frozensets(st.integers(0, 20), max_size=4),
)
def test_no_photo_is_doubled_or_lost_by_a_change(script, lag_ms, shoot_ms, fails):
    """Whatever is changed when, within the lead and across the arming."""
    World(lag_ms=lag_ms, shoot_ms=shoot_ms, fails=fails).play(script)


def test_one_that_took_over_a_rival_is_not_revoked_for_the_rival() -> None:
    """Found by hypothesis: the rival's time lay before the change, its stand-in's behind it."""
    world = World(lag_ms=900, shoot_ms=400)
    plain = CapturePolicy(catch_up_ms=60_000)
    late = CapturePolicy(lead_ms=1_000, catch_up_ms=60_000, spread_ms=500)
    ahead = CapturePolicy(lead_ms=1_000, catch_up_ms=60_000)
    world.play(
        [
            ("upsert", plain, 400),
            ("upsert", plain, 301),
            ("upsert", late, 400),
            ("resume", plain, 1_300),
            ("upsert", ahead, 700),
            ("upsert", plain, 400),
            ("crash", plain, 250),
            ("upsert", plain, 1_300),
        ]
    )
    assert T0 + 3_000 in world.photos


def commands(world: World, epoch: int) -> list[int]:
    return [c.scheduled_ms - T0 for c in world.issued if c.epoch == epoch]


def states(world: World, nominal_ms: int) -> list[tuple[str, str]]:
    """State and the first word of the cause of each command of a nominal time, in order of ids."""
    found = sorted(world.results, key=lambda r: r.command_id)
    return [(r.state, r.cause.partition(":")[0]) for r in found if r.nominal_ms == T0 + nominal_ms]


def begun(lead_ms: int = 2_000, **more: int) -> World:
    world = World()
    world.ask("upsert", CapturePolicy(lead_ms=lead_ms, catch_up_ms=60_000, **more))
    world.run(3_100)
    return world


def test_pause_and_resume_within_the_lead_take_the_photo_once():
    """What waits is revoked and issued again; what is armed stays, and its successor yields."""
    world = begun()
    world.ask("pause", CapturePolicy())
    world.run(100)
    world.ask("resume", CapturePolicy())
    world.run(4_000)
    assert states(world, 4_000) == [(REVOKED, "revoked"), (SUCCESS, "")]
    assert states(world, 5_000) == [(REVOKED, "revoked"), (SUCCESS, "")]
    assert states(world, 3_000) == [(SUCCESS, "")]


def test_pause_and_resume_while_it_is_armed_take_the_photo_once():
    world = begun()
    world.run(500)  # 3,600: the shutter of 4,000 is armed
    world.ask("pause", CapturePolicy())
    world.run(50)
    world.ask("resume", CapturePolicy())
    world.run(4_000)
    assert sorted(states(world, 4_000)) == [(REVOKED, "superseded"), (SUCCESS, "")]
    assert Counter(world.photos)[T0 + 4_000] == 1


def test_a_change_leaves_what_is_late_already_to_its_epoch():
    """A worker was down over 4,000; a change at 4,500 does not issue it again, nor revoke it."""
    world = begun()
    world.down_until_ms = world.now_ms + 2_500
    world.run(1_400)
    world.ask("upsert", CapturePolicy(lead_ms=2_000, catch_up_ms=60_000, priority=5))
    world.run(5_000)
    assert states(world, 4_000) == [(SUCCESS, "")]
    assert [r.epoch for r in world.results if r.nominal_ms == T0 + 4_000] == [1]
    assert states(world, 5_000) == [(REVOKED, "revoked"), (SUCCESS, "")] or states(
        world, 5_000
    ) == [(REVOKED, "superseded"), (SUCCESS, "")]


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0, 1_000), (1_000, 0)])
def test_a_spread_that_moves_a_time_over_the_change_takes_its_photo_once(before_ms, after_ms):
    world = begun(spread_ms=before_ms)
    world.run(300)  # amid the second: the nominal time is on both sides of the change
    world.ask("upsert", CapturePolicy(lead_ms=2_000, catch_up_ms=60_000, spread_ms=after_ms))
    world.run(5_000)
    photos = Counter(world.photos)
    assert [photos[T0 + n * 1_000] for n in range(2, 7)] == [1] * 5


def test_a_cancelled_schedule_says_so_of_each_command():
    world = begun()
    world.ask("cancel", CapturePolicy())
    world.run(5_000)
    assert states(world, 4_000) == [(REVOKED, "revoked")]
    assert all("cancelled" in r.cause for r in world.results if r.state == REVOKED)


def test_the_checks_see_a_lost_and_a_doubled_photo():
    world = begun()
    world.run(4_000)
    world.photos.remove(T0 + 4_000)
    world.results = [r for r in world.results if r.nominal_ms != T0 + 4_000]
    world.issued = [c for c in world.issued if c.nominal_ms != T0 + 4_000]
    end_ms = world.now_ms
    world.ask("pause", CapturePolicy())
    world.run(3_000)
    with pytest.raises(AssertionError, match="4000"):
        world.check(end_ms)
    world.photos += [T0 + 4_000] * 2
    with pytest.raises(AssertionError, match="doubled"):
        world.check(end_ms)
