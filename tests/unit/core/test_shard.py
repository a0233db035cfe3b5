"""The rules of the fold, one by one (SPEC 1.8, 1.9, 2.1, 2.2). The whole is in simulation/."""

from __future__ import annotations

import msgspec
import pytest

from schemas.records import (
    Accepted,
    AlreadyKnown,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureRevoked,
    Ended,
    Refused,
    RequestState,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleState,
    ScheduleTick,
    ScheduleUpserted,
    ShardState,
    Skipped,
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.schedule import MAX_AHEAD
from streams.core.shard import FORGET_MAX, RULES_VERSION, Outputs, PartitionState, advance
from streams.core.spread import offset_ms

T0 = ids.EPOCH_MS + 10_000_000
SHARD = ids.shard_of("cam-1")


class World:
    """One partition that holds all shards, and what its tables came to."""

    def __init__(self, **settings) -> None:
        self.state = PartitionState(0, 1)
        self.settings = TickSettings(**settings)
        self.tables: dict[tuple[str, bytes], object] = {}
        self.requests = 0

    def at(self, ms: int, *events) -> Outputs:
        """Tick at ``ms`` after T0."""
        changes = tuple(TickChange(i, event) for i, event in enumerate(events))
        tick = ScheduleTick(0, 1, T0 + ms, RULES_VERSION, "", self.settings, changes)
        outputs = advance(self.state, tick)
        for key, row in outputs.rows.items():
            if row is None:
                self.tables.pop(key, None)
            else:
                self.tables[key] = row
        return outputs

    def restart(self) -> None:
        rows = {
            name: [row for (table, _), row in self.tables.items() if table == name]
            for name in ("schedules", "shards", "requests")
        }
        self.state = PartitionState(0, 1)
        self.state.load(rows["schedules"], rows["shards"], rows["requests"])

    def _id(self) -> str:
        self.requests += 1
        return f"r{self.requests}"

    def every(self, every_ms=10_000, device_id="cam-1", schedule_id="a", **policy):
        spec = ScheduleSpec("interval", every_ms=every_ms)
        policy = CapturePolicy(**policy)
        return ScheduleUpserted(self._id(), device_id, schedule_id, spec, policy, 0)

    def once(self, ms: int, **policy):
        spec = ScheduleSpec("once", at_ms=T0 + ms)
        return ScheduleUpserted(self._id(), "cam-1", "a", spec, CapturePolicy(**policy), 0)

    def cancel(self):
        return ScheduleCancelled(self._id(), "cam-1", "a", 0)

    def pause(self, reason="rain"):
        return SchedulePaused(self._id(), "cam-1", "a", reason, 0)

    def resume(self):
        return ScheduleResumed(self._id(), "cam-1", "a", 0)

    def request(self, ms=None, **policy):
        at_ms = None if ms is None else T0 + ms
        return CaptureRequested(self._id(), "cam-1", at_ms, CapturePolicy(**policy), 0)


def times(outputs: Outputs) -> list[int]:
    """Scheduled times of the commands, after T0."""
    return [c.scheduled_ms - T0 for c in outputs.commands if isinstance(c, CaptureCommand)]


def of(outputs: Outputs, kind):
    return [r for r in [*outputs.decisions, *outputs.commands] if isinstance(r, kind)]


def the(outputs: Outputs, kind):
    (found,) = of(outputs, kind)
    return found


# --- intervals --------------------------------------------------------------------------------


def test_the_worked_example_of_the_docstring():
    """SPEC 2.1: issued when lead before its time has come, not a millisecond earlier."""
    world = World()
    world.at(1_000)
    accepted = the(world.at(2_000, world.every()), Accepted)
    assert (accepted.epoch, accepted.starts_at_ms, accepted.change) == (
        1,
        T0 + 3_000,
        "ScheduleUpserted",
    )
    assert world.state.next_due_ms() == T0 + 5_000
    assert times(world.at(4_999)) == []
    assert times(world.at(5_000)) == [10_000]
    assert times(world.at(14_999)) == []
    assert times(world.at(15_000)) == [20_000]
    revoked = the(world.at(16_000, world.cancel()), CaptureRevoked)
    assert (revoked.device_id, revoked.schedule_id, revoked.epoch) == ("cam-1", "a", 1)
    assert world.state.next_due_ms() is None
    assert times(world.at(90_000)) == []


def test_a_command_says_all_there_is_to_know():
    world = World()
    world.at(0, world.every(spread_ms=10_000, catch_up_ms=700, priority=3, capture_timeout_ms=900))
    offset = offset_ms("cam-1", 10_000)
    command = the(world.at(5_000 + offset), CaptureCommand)
    assert command == CaptureCommand(
        command_id=ids.command_id(T0 + 5_000 + offset, SHARD, 0),
        device_id="cam-1",
        schedule_id="a",
        request_id="",
        epoch=1,
        nominal_ms=T0 + 10_000,
        scheduled_ms=T0 + 10_000 + offset,
        not_after_ms=T0 + 10_000 + offset + 700,
        capture_timeout_ms=900,
        priority=3,
        issued_at_ms=T0 + 5_000 + offset,
    )


def test_a_new_schedule_starts_after_the_notice():
    world = World(notice_ms=1_000)
    outputs = world.at(500, world.every(1_000, lead_ms=5_000))
    assert times(outputs) == [2_000, 3_000, 4_000, 5_000]


def test_what_is_accepted_at_an_equal_time_is_issued_at_once():
    """DESIGN 'Ticks': an equal time moves no timer, its changes always apply."""
    world = World()
    world.at(500)
    assert times(world.at(500, world.every(1_000))) == [2_000, 3_000, 4_000, 5_000]
    assert times(world.at(500)) == []
    assert times(world.at(1_500)) == [6_000]


def test_a_fire_writes_only_counters():
    """DESIGN: nothing periodic is written down."""
    world = World()
    world.at(0, world.every())
    outputs = world.at(5_000)
    assert outputs.rows == {
        ("shards", b"%d" % SHARD): ShardState(
            SHARD, T0 + 5_000, ids.command_id(T0 + 5_000, SHARD, 0), 1
        ),
        ("shards", b"clock"): ShardState(-1, T0 + 5_000, 0, 0),
    }


def test_an_idle_tick_writes_only_the_clock():
    assert list(World().at(0).rows) == [("shards", b"clock")]


# --- misfire ----------------------------------------------------------------------------------


def test_after_an_outage_the_latest_late_time_is_issued_and_the_rest_recorded_once():
    world = World()
    world.at(0, world.every(10_000, lead_ms=0))
    world.restart()
    outputs = world.at(57_000)
    assert times(outputs) == [50_000]
    skipped = the(outputs, Skipped)
    assert (skipped.first_ms - T0, skipped.last_ms - T0, skipped.count) == (10_000, 40_000, 4)
    assert skipped.reason.startswith("misfire:")
    assert times(world.at(60_000)) == [60_000]


def test_outside_the_window_all_are_recorded():
    world = World()
    world.at(0, world.every(10_000, lead_ms=0, catch_up_ms=1_000))
    outputs = world.at(57_000)
    assert times(outputs) == []
    assert the(outputs, Skipped).count == 5


def test_times_within_the_lead_are_not_late():
    world = World()
    world.at(0, world.every(1_000, lead_ms=5_000))
    outputs = world.at(7_500)
    assert times(outputs) == [7_000, *range(8_000, 12_001, 1_000)]
    assert the(outputs, Skipped).last_ms == T0 + 6_000


# --- changes and epochs -----------------------------------------------------------------------


def test_a_change_revokes_the_old_epoch_and_issues_its_times_again():
    """SPEC 1.8: the epoch tells the two apart."""
    world = World()
    world.at(0, world.every(10_000))
    world.at(5_000)
    outputs = world.at(6_000, world.every(10_000, priority=1))
    assert the(outputs, Accepted).epoch == 2
    assert the(outputs, CaptureRevoked).epoch == 1
    command = the(outputs, CaptureCommand)
    assert (command.scheduled_ms - T0, command.epoch) == (10_000, 2)
    assert outputs.commands.index(command) == 1


def test_the_same_again_changes_nothing():
    world = World()
    world.at(0, world.every())
    outputs = world.at(6_000, world.every())
    assert the(outputs, Accepted).epoch == 1
    assert the(outputs, Accepted).starts_at_ms == T0 + 1_000
    assert of(outputs, CaptureRevoked) == []
    assert ("schedules", b"cam-1\0a") not in outputs.rows


def test_a_time_that_comes_with_the_change_is_recorded():
    world = World()
    world.at(0, world.every(10_000, lead_ms=0))
    outputs = world.at(10_000, world.pause())
    assert times(outputs) == []
    assert the(outputs, Skipped).count == 1


def test_what_was_due_and_not_issued_is_recorded_when_a_change_supersedes_it():
    world = World()
    world.at(0, world.every(10_000, lead_ms=0))
    skipped = the(world.at(35_000, world.cancel()), Skipped)
    assert (skipped.first_ms - T0, skipped.last_ms - T0, skipped.count) == (10_000, 30_000, 3)
    assert "cancelled" in skipped.reason


def test_a_paused_schedule_is_silent_until_it_is_resumed():
    world = World()
    world.at(0, world.every(1_000, lead_ms=0))
    outputs = world.at(500, world.pause())
    assert the(outputs, CaptureRevoked).epoch == 1
    row = world.tables["schedules", b"cam-1\0a"]
    assert (row.paused, row.pause_reason, row.epoch) == (True, "rain", 2)
    world.restart()
    assert world.state.next_due_ms() is None
    assert world.at(9_500).decisions == []
    outputs = world.at(9_600, world.resume())
    assert the(outputs, Accepted).epoch == 3
    assert of(outputs, Skipped) == []
    assert times(world.at(10_000)) == [10_000]


def test_pausing_and_resuming_twice_changes_nothing():
    world = World()
    world.at(0, world.every())
    assert the(world.at(1, world.resume()), Accepted).epoch == 1
    world.at(2, world.pause())
    outputs = world.at(3, world.pause("other"))
    assert the(outputs, Accepted).epoch == 2
    assert of(outputs, CaptureRevoked) == []
    assert world.tables["schedules", b"cam-1\0a"].pause_reason == "rain"


def test_a_new_spec_does_not_unpause():
    world = World()
    world.at(0, world.every())
    world.at(1, world.pause())
    outputs = world.at(2, world.every(2_000))
    assert the(outputs, Accepted).epoch == 3
    row = world.tables["schedules", b"cam-1\0a"]
    assert (row.paused, row.pause_reason, row.spec.every_ms) == (True, "rain", 2_000)
    assert times(world.at(60_000)) == []


@pytest.mark.parametrize("ask", ["cancel", "pause", "resume"])
def test_an_unknown_schedule_is_refused(ask):
    world = World()
    refused = the(world.at(0, getattr(world, ask)()), Refused)
    assert refused.code == "unknown_schedule"
    assert "'cam-1'" in refused.reason
    assert "'a'" in refused.reason


def test_a_schedule_voided_within_its_tick_issues_nothing():
    world = World()
    world.at(500)
    outputs = world.at(500, world.every(1_000), world.cancel())
    assert times(outputs) == []
    assert world.state.schedule_count == 0


def test_epochs_are_counted_by_shard():
    world = World()
    other = next(f"x{i}" for i in range(100_000) if ids.shard_of(f"x{i}") != SHARD)
    outputs = world.at(0, world.every(), world.every(device_id=other), world.every(20_000))
    assert [d.epoch for d in outputs.decisions] == [1, 1, 2]


# --- once -------------------------------------------------------------------------------------


def test_a_single_time_is_issued_once_and_ends_when_it_is_over():
    world = World()
    world.at(0, world.once(10_000))
    assert times(world.at(4_999)) == []
    assert times(world.at(5_000)) == [10_000]
    world.restart()
    assert world.at(10_000).decisions == []
    outputs = world.at(10_001)
    assert the(outputs, Ended).epoch == 1
    assert outputs.rows["schedules", b"cam-1\0a"] is None
    assert world.state.schedule_count == 0
    assert world.state.next_due_ms() is None


def test_a_single_time_issued_at_its_very_time_ends_after_it():
    """Until it is over, publishing it again must find it."""
    world = World()
    world.at(0, world.once(10_000, lead_ms=0))
    outputs = world.at(10_000)
    assert (times(outputs), outputs.decisions) == ([10_000], [])
    assert the(world.at(10_000, world.once(10_000, lead_ms=0)), Accepted).epoch == 1
    assert the(world.at(10_001), Ended).epoch == 1


def test_a_single_time_cancelled_after_it_was_issued_is_not_called_skipped():
    world = World()
    world.at(0, world.once(10_000, lead_ms=0))
    world.at(10_000)
    outputs = world.at(12_000, world.cancel())
    assert [type(d) for d in outputs.decisions] == [Accepted]


def test_a_single_time_can_be_cancelled_while_its_command_waits():
    world = World()
    world.at(0, world.once(10_000))
    world.at(5_000)
    assert the(world.at(7_000, world.cancel()), CaptureRevoked).epoch == 1


def test_publishing_a_single_time_again_does_not_take_a_second_photo():
    world = World()
    world.at(0, world.once(10_000))
    world.at(5_000)
    outputs = world.at(7_000, world.once(10_000))
    assert the(outputs, Accepted).epoch == 1
    assert outputs.commands == []
    assert the(world.at(20_000, world.once(10_000)), Accepted).epoch == 1
    assert the(world.at(20_001, world.once(10_000)), Refused).code == "past"


def test_a_single_time_within_the_notice_is_issued_at_once():
    world = World(notice_ms=1_000)
    assert times(world.at(0, world.once(10))) == [10]
    assert times(world.at(0, world.once(0))) == [0]


def test_a_time_in_the_past_is_refused():
    """Issue 3 'Bad input'."""
    world = World()
    for event in (world.once(-1), world.request(-1)):
        refused = the(world.at(0, event), Refused)
        assert refused.code == "past"
        assert str(T0 - 1) in refused.reason


def test_a_time_beyond_ten_years_is_refused():
    world = World()
    eleven_years_ms = 11 * 366 * 86_400_000
    for event in (world.once(eleven_years_ms), world.request(eleven_years_ms)):
        assert the(world.at(0, event), Refused).code == "too_far"


@pytest.mark.parametrize(("late_ms", "fires"), [(60_000, [10_000]), (60_001, [])])
def test_a_late_single_time_is_issued_within_its_window_and_ends(late_ms, fires):
    world = World()
    world.at(0, world.once(10_000, lead_ms=0))
    outputs = world.at(10_000 + late_ms)
    assert times(outputs) == fires
    assert len(of(outputs, Skipped)) == (not fires)
    assert the(outputs, Ended)


def test_a_single_time_that_passed_in_a_pause_is_recorded_and_ends():
    world = World()
    world.at(0, world.once(10_000))
    world.at(1_000, world.pause())
    world.at(60_000)
    outputs = world.at(61_000, world.resume())
    assert [type(d) for d in outputs.decisions] == [Accepted, Skipped, Ended]
    assert world.state.schedule_count == 0


def test_a_single_time_paused_after_it_was_issued_is_issued_again():
    world = World()
    world.at(0, world.once(10_000))
    world.at(5_000)
    world.at(6_000, world.pause())
    command = the(world.at(7_000, world.resume()), CaptureCommand)
    assert (command.scheduled_ms - T0, command.epoch) == (10_000, 3)


# --- requests ---------------------------------------------------------------------------------


def test_a_request_for_now_is_answered_with_its_command():
    world = World()
    outputs = world.at(3, world.request(spread_ms=60_000))
    command = the(outputs, CaptureCommand)
    assert (command.nominal_ms, command.scheduled_ms) == (T0 + 3, T0 + 3)
    assert (command.schedule_id, command.request_id, command.epoch) == ("", "r1", 1)
    assert command.not_after_ms == T0 + 60_003
    accepted = the(outputs, Accepted)
    assert (accepted.command_id, accepted.schedule_id) == (command.command_id, "")
    assert world.state.schedule_count == 0


def test_a_request_for_later_waits_and_ends_without_a_word():
    world = World()
    world.at(0, event := world.request(20_000))
    world.restart()
    assert world.state.next_due_ms() == T0 + 15_000
    outputs = world.at(15_000)
    command = the(outputs, CaptureCommand)
    assert (command.schedule_id, command.request_id) == ("", "r1")
    known = the(world.at(15_001, event), AlreadyKnown)
    assert (known.first, known.command_id) == ("accepted", command.command_id)
    outputs = world.at(20_001)
    assert outputs.decisions == []
    assert world.state.schedule_count == 0


def test_a_repeat_is_already_known_for_the_window():
    """SPEC 2.2: thirty minutes by default, and what became of the first."""
    world = World()
    event = world.every()
    world.at(0, event)
    world.restart()
    outputs = world.at(1_799_999, event)
    known = the(outputs, AlreadyKnown)
    assert (known.first, known.first_tick_time_ms, known.epoch) == ("accepted", T0, 1)
    assert the(world.at(1_800_000, event), Accepted).epoch == 1


def test_a_refusal_is_remembered_with_its_reason():
    world = World()
    event = world.cancel()
    refused = the(world.at(0, event), Refused)
    known = the(world.at(5, event), AlreadyKnown)
    assert (known.first, known.reason) == ("refused", refused.reason)


def test_a_repeat_within_one_tick_is_known():
    world = World()
    event = world.request()
    outputs = world.at(0, event, event)
    assert [type(d) for d in outputs.decisions] == [Accepted, AlreadyKnown]
    assert len(times(outputs)) == 1


def test_the_memory_of_another_request_of_that_name_is_left_alone():
    world = World(request_memory_ms=1_000)
    world.at(0, world.request(20_000))
    refused = ScheduleCancelled("r1", "cam-1", "a", 0)
    world.at(14_500, refused)
    assert times(world.at(15_000)) == [20_000]
    assert the(world.at(15_001, refused), AlreadyKnown).command_id is None


def test_a_waiting_request_is_known_beyond_the_window():
    world = World(request_memory_ms=1_000)
    event = world.request(3_600_000)
    world.at(0, event)
    known = the(world.at(2_000, event), AlreadyKnown)
    assert (known.first, known.first_tick_time_ms) == ("accepted", T0)


def test_forgetting_is_bounded_and_survives_restarts():
    """SPEC 2.2: rows are deleted, the oldest first, at most FORGET_MAX a tick."""
    world = World(request_memory_ms=1_000)
    for i in range(FORGET_MAX + 10):
        world.state.requests.remember(RequestState("cam-1", f"q{i:05}", T0, "refused"))
        world.tables["requests", b"cam-1\0q%05d" % i] = RequestState(
            "cam-1", f"q{i:05}", T0, "refused"
        )
    assert not any(t == "requests" for t, _ in world.at(999).rows)
    gone = [key for (table, key), row in world.at(1_000).rows.items() if table == "requests"]
    assert gone == [b"cam-1\0q%05d" % i for i in range(FORGET_MAX)]
    world.restart()
    gone = [key for (table, key), row in world.at(1_001).rows.items() if table == "requests"]
    assert gone == [b"cam-1\0q%05d" % (FORGET_MAX + i) for i in range(10)]
    assert world.state.request_count == 0


# --- bad input and bugs -----------------------------------------------------------------------


def test_an_invalid_event_is_refused_and_not_remembered():
    world = World()
    event = world.every(0)
    for _ in range(2):
        outputs = world.at(0, event)
        assert the(outputs, Refused).code == "bad_every_ms"
        assert list(outputs.rows) == [("shards", b"clock")]


def test_a_device_of_another_partition_is_refused():
    home = ids.partition_of("cam-1", 8)
    state = PartitionState((home + 1) % 8, 8)
    changes = (TickChange(0, World().every()),)
    tick = ScheduleTick((home + 1) % 8, 8, T0, RULES_VERSION, "", TickSettings(), changes)
    outputs = advance(state, tick)
    assert the(outputs, Refused).code == "wrong_partition"
    assert list(outputs.rows) == [("shards", b"clock")]


@pytest.mark.parametrize(
    ("field", "value"), [("time_ms", T0 - 1), ("partition", 1), ("rules_version", 99)]
)
def test_a_tick_that_cannot_follow_is_a_bug(field, value):
    state = PartitionState(0, 2)
    tick = ScheduleTick(0, 2, T0, RULES_VERSION, "", TickSettings(), ())
    advance(state, tick)
    with pytest.raises(ValueError, match=str(value)):
        advance(state, msgspec.structs.replace(tick, **{field: value}))
    advance(state, tick)


def test_rows_of_another_partition_are_a_bug():
    home = ids.partition_of("cam-1", 8)
    row = ScheduleState(
        "cam-1", "a", 1, ScheduleSpec("once", at_ms=T0), CapturePolicy(), T0, paused=False
    )
    with pytest.raises(ValueError, match=f"shard {SHARD}"):
        PartitionState((home + 1) % 8, 8).load([row], [], [])


# --- the bound --------------------------------------------------------------------------------


def test_a_bounded_tick_serves_whole_shards_and_says_what_is_left():
    devices = [f"cam-{i}" for i in range(40)]
    world = World(max_fires=10)
    world.at(0, *(world.every(device_id=d, lead_ms=0) for d in devices))
    outputs = world.at(10_000)
    assert 0 < len(times(outputs)) <= 10
    assert outputs.rows["shards", b"backlog"] == ShardState(-2, T0, 0, 0)
    assert world.state.next_due_ms() == T0 + 10_000
    seen, turns = times(outputs), 0
    while ("shards", b"backlog") in world.tables:
        turns += 1
        assert turns < 40
        world.restart()
        seen += times(world.at(10_000))
    assert seen == [10_000] * 40
    assert world.state.next_due_ms() == T0 + 20_000


def test_what_falls_due_where_a_waiting_shard_stands_is_not_lost():
    """A schedule taken over amid a backlog is issued from where its shard is, not from the tick."""
    devices = [f"cam-{i}" for i in range(40)]
    for lead_ms in (9_000, 11_000, 19_999, 20_000, 20_001):
        world = World(max_fires=1)
        world.at(0, *(world.every(device_id=d, lead_ms=0) for d in devices))
        world.at(10_000)
        new = [world.every(device_id=d, schedule_id="b", lead_ms=lead_ms) for d in devices]
        seen = times(world.at(10_000, *new))
        while ("shards", b"backlog") in world.tables:
            world.restart()
            seen += times(world.at(10_000))
        first = list(range(20_000, 10_001 + lead_ms, 10_000))
        assert sorted(s for s in seen if s > 10_000) == sorted(first * 40)


def test_shards_that_wait_longest_are_served_first():
    """A partition that is always behind serves all of its shards in turn."""
    devices, shards = [], set()
    for i in range(1_000):
        if ids.shard_of(f"cam-{i}") not in shards and len(shards) < 5:
            shards.add(ids.shard_of(f"cam-{i}"))
            devices.append(f"cam-{i}")
    world = World(max_fires=1)
    world.at(0, *(world.every(1_000, device_id=d, lead_ms=0, catch_up_ms=0) for d in devices))
    served = []
    for turn in range(1, 11):
        served += [c.device_id for c in of(world.at(turn * 1_000), CaptureCommand)]
        world.restart()
    assert sorted(served) == sorted(devices * 2)


def test_a_schedule_holds_a_bounded_number_of_commands_ahead():
    world = World()
    world.at(500)
    outputs = world.at(500, world.every(100, lead_ms=100 * MAX_AHEAD))
    assert len(times(outputs)) <= MAX_AHEAD + 1


@pytest.mark.parametrize(
    ("misfire", "catch_up_ms", "made_up", "skipped"),
    [
        ("latest", 60_000, [30_000], [(20_000, 28_000, 5)]),
        ("all", 60_000, [20_000, 22_000, 24_000, 26_000, 28_000, 30_000], []),
        ("earliest", 60_000, [20_000], [(22_000, 30_000, 5)]),
        ("latest", 500, [], [(20_000, 30_000, 6)]),
    ],
)
def test_a_shorter_period_under_a_late_nominal_time_goes_by_the_misfire_policy(
    misfire, catch_up_ms, made_up, skipped
):
    """Found by the simulator: all of them were issued at once, or forgotten without a word."""
    world = World(notice_ms=0)
    spec, policy = ScheduleSpec("interval", every_ms=30_000), CapturePolicy(spread_ms=29_000)
    world.at(0, ScheduleUpserted("first", "cam-1", "a", spec, policy, 0))
    nominal_ms = -T0 % 30_000
    now_ms = nominal_ms + offset_ms("cam-1", 29_000) - 100  # its own time is ahead
    assert (nominal_ms, now_ms) == (20_000, 31_967)
    world.at(now_ms - 3_000)
    policy = CapturePolicy(misfire=misfire, catch_up_ms=catch_up_ms)
    changed = ScheduleSpec("interval", every_ms=2_000)
    outputs = world.at(now_ms, ScheduleUpserted("second", "cam-1", "a", changed, policy, 0))
    late = [ms for ms in times(outputs) if ms < now_ms]
    told = [(s.first_ms - T0, s.last_ms - T0, s.count) for s in of(outputs, Skipped)]
    assert (late, told) == (made_up, skipped)


@pytest.mark.parametrize("between", [(), ("second",), ("pause",), ("second", "pause")])
def test_a_time_that_was_had_is_not_ahead_again_under_a_longer_period(between):
    """Found by simulated world 501016: the photo of one nominal time was taken twice."""
    world = World(notice_ms=0)

    def change(name, at_ms, every_ms, spread_ms):
        spec = ScheduleSpec("interval", every_ms=every_ms)
        policy = CapturePolicy(spread_ms=spread_ms, misfire="skip")
        return world.at(at_ms, ScheduleUpserted(name, "cam-1", "a", spec, policy, 0))

    nominal_ms = -T0 % 60_000
    assert nominal_ms >= 5_000
    assert offset_ms("cam-1", 59_000) > 12_000, "so it is ahead again"
    change("first", 0, 5_000, 0)
    had = [ms for at_ms in range(1_000, nominal_ms + 8_000, 1_000) for ms in times(world.at(at_ms))]
    assert nominal_ms in had
    assert nominal_ms + 5_000 in had, "another one was had since"
    at_ms = nominal_ms + 10_500
    if "second" in between:
        change("second", at_ms, 15_000, 7_500)
    if "pause" in between:
        world.at(at_ms + 100, SchedulePaused("pause", "cam-1", "a", "why", 0))
    outputs = [change("third", at_ms + 300, 60_000, 59_000)]
    if "pause" in between:
        outputs += [world.at(at_ms + 500, ScheduleResumed("resume", "cam-1", "a", 0))]
    outputs += [world.at(ms) for ms in range(at_ms + 1_000, nominal_ms + 125_000, 1_000)]
    nominal = [c.nominal_ms - T0 for o in outputs for c in of(o, CaptureCommand)]
    assert nominal_ms not in nominal
    assert nominal[-1] == nominal_ms + 60_000
