"""The checker of a run finds every planted fault, and nothing where nothing is wrong.

A small world is made up whole: events, decisions, commands, results. Each test changes one thing.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.blobs.store import BlobStore
from connectors.cameras.simulated import LogEntry
from schemas.records import (
    Accepted,
    AlreadyKnown,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureResult,
    ImageRef,
    OpenCapture,
    Refused,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleState,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    Term,
    TickChange,
    TickSettings,
)
from shutterwheel.check import RunReport, judge, spread
from shutterwheel.evidence import Facts, Seen, check_images
from shutterwheel.expected import Plan
from streams.core import capture, ids
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.transition import NEW, PENDING, RUNNING, step

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.records import Decision, Record, ScheduleEvent

START = ids.EPOCH_MS + 1_000_000_000
CAM = "cam-00001"
P = 3
"""The partition of everything here; the checker takes it from the topic."""
POLICY = CapturePolicy()


def upsert(request: str, every_ms: int = 10_000, policy: CapturePolicy = POLICY, phase_ms: int = 0):
    spec = ScheduleSpec("interval", every_ms=every_ms, phase_ms=phase_ms)
    return ScheduleUpserted(request, CAM, "s", spec, policy, START)


def command_of(state: ScheduleState, number: int, scheduled_ms: int, issued_ms: int):
    return CaptureCommand(
        ids.command_id(issued_ms, ids.shard_of(CAM), number), CAM, state.schedule_id, "",
        state.epoch, scheduled_ms, scheduled_ms, scheduled_ms + 10_000, 3_000, 0, issued_ms,
    )  # fmt: skip


def image_of(command: CaptureCommand) -> ImageRef:
    return ImageRef(f"file:///blobs/{command.command_id}.jpg", "0" * 64, 100, 8, 8, "jpeg")


def succeeded(command: CaptureCommand, late_ms: int = 2) -> CaptureResult:
    at_ms = command.scheduled_ms + late_ms
    entry = OpenCapture(command, NEW, 0, command.scheduled_ms, ())
    entry = step(entry, NEW, PENDING, command.issued_at_ms)
    entry = step(entry, PENDING, RUNNING, command.scheduled_ms - 400)
    return ended(command, entry, "SUCCESS", at_ms, image_of(command))


def ended(command, entry, state, at_ms, image=None, cause=""):
    entry = step(entry, entry.state, state, max(at_ms, command.issued_at_ms), cause)
    return CaptureResult(
        command.command_id, command.device_id, command.schedule_id, command.request_id,
        command.epoch, command.nominal_ms, command.scheduled_ms, state, cause, entry.attempt,
        entry.transitions[-1].at_ms, at_ms if entry.attempt else None, image, None,
        entry.transitions,
    )  # fmt: skip


def revoked(command: CaptureCommand, cause: str = "revoked: the schedule was cancelled"):
    entry = OpenCapture(command, NEW, 0, command.scheduled_ms, ())
    entry = step(entry, NEW, PENDING, command.issued_at_ms)
    return ended(command, entry, "REVOKED", command.scheduled_ms - 100, cause=cause)


def log_line(command: CaptureCommand, late_us: int = 2_500, **changes) -> LogEntry:
    at_us = command.scheduled_ms * 1000 + late_us
    entry = LogEntry(1, CAM, at_us // 1000, at_us, "snapshot", True, str(command.command_id), "")
    return msgspec.structs.replace(entry, **changes)


@dataclass
class World:
    """One schedule, every 10 s from START + 1 s, cancelled at 45.7 s: times at 10, 20, 30 and 40 s.

    The commands for 50 s was issued too, and revoked.
    """

    events: list[ScheduleEvent] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    commands: list[Record] = field(default_factory=list)
    results: list[Seen] = field(default_factory=list)
    shutters: list[LogEntry] = field(default_factory=list)
    blobs: list[int] = field(default_factory=list)
    last_tick_ms: int = START + 60_000
    settle_ms: int = 0
    started_ms: int = START

    def judge(self) -> RunReport:
        plan = Plan({P: self.last_tick_ms}, self.settle_ms)
        for event in self.events:
            plan.event(P, event)
        for decision in self.decisions:
            plan.decision(P, decision)
        return judge(
            Facts(
                plan, self.started_ms, iter(self.commands), iter(self.shutters),
                iter(self.results), iter(self.blobs), [],
            )
        )  # fmt: skip

    def accept(self, event, epoch, tick_ms, starts_at_ms, **more):
        schedule = getattr(event, "schedule_id", "")
        self.events.append(event)
        self.decisions.append(
            Accepted(
                event.request_id, CAM, schedule, epoch, tick_ms, starts_at_ms,
                type(event).__name__, **more,
            )
        )  # fmt: skip

    def add(self, command: CaptureCommand, result: CaptureResult | None = None) -> None:
        self.commands.append(command)
        if result is not None:
            self.results.append(Seen(result))
            if result.image is not None:
                self.blobs.append(command.command_id)
                self.shutters.append(log_line(command))


@pytest.fixture
def state() -> ScheduleState:
    event = upsert("r1")
    return ScheduleState(CAM, "s", 1, event.spec, event.policy, START + 1_000, paused=False)


@pytest.fixture
def world(state: ScheduleState) -> World:
    world = World()
    world.accept(upsert("r1"), 1, START, START + 1_000)
    world.accept(ScheduleCancelled("r2", CAM, "s", START), 2, START + 45_700, START + 45_700)
    for n in range(1, 5):
        command = command_of(state, n, START + n * 10_000, START + n * 10_000 - 5_000)
        world.add(command, succeeded(command, late_ms=n))
    last = command_of(state, 5, START + 50_000, START + 45_000)
    world.add(last, revoked(last))
    return world


COUNTS = ("lost", "duplicated", "early", "unexpected", "illegal", "unanswered")


def faults(report: RunReport) -> dict[str, int]:
    return {name: n for name in COUNTS if (n := getattr(report, name))}


def test_a_faultless_run(world: World):
    report = world.judge()
    assert (report.due, report.succeeded, report.revoked) == (4, 4, 1)
    assert report.ok
    assert faults(report) == {}
    assert report.findings == ()
    assert report.first_photo_s == 10.001
    assert report.lateness_ms is not None
    assert msgspec.to_builtins(report.lateness_ms) == {"p50": 2, "p90": 4, "p99": 4, "max": 4}
    assert (report.images.count, report.images.sha256_verified, report.images.bytes) == (4, 4, 400)
    assert report.shutters == 4
    assert report.camera_lateness_ms is not None
    assert report.camera_lateness_ms.max == 2.5


def test_the_report_has_the_names_that_the_demo_promises(world: World):
    """Issue 3, 'How it is shown'."""
    written = json.loads(world.judge().to_json())
    assert {"due", "succeeded", "failed", "expired", "lost", "duplicated", "early"} < set(written)
    assert set(written["lateness_ms"]) == {"p50", "p90", "p99", "max"}
    assert {"count", "bytes", "sha256_verified"} < set(written["images"])
    assert written["first_photo_s"] == 10.001
    assert {"command", "date", "machine", "versions"} < set(written)


# --- planted faults -------------------------------------------------------------------------------


def test_a_photo_that_nobody_took_is_lost(world: World):
    del world.commands[1], world.results[1], world.shutters[1], world.blobs[1]
    report = world.judge()
    assert faults(report) == {"lost": 1}
    assert not report.ok
    assert "no command was issued" in report.findings[0]


def test_a_command_without_a_result_is_lost_once(world: World):
    del world.results[1]
    report = world.judge()
    assert faults(report) == {"lost": 1}
    assert (report.due, report.succeeded) == (4, 3)
    assert "its command was issued" in report.findings[0]


def test_a_revoked_command_without_a_result_is_lost(world: World):
    del world.results[4]
    assert faults(world.judge()) == {"lost": 1}


def test_two_results_of_one_command(world: World):
    world.results.append(world.results[2])
    report = world.judge()
    assert faults(report) == {"duplicated": 1}
    assert report.images.count == 4


def test_one_command_twice(world: World):
    world.commands.append(world.commands[2])
    assert faults(world.judge()) == {"duplicated": 1}


def test_two_photos_of_one_time_under_two_commands(world: World, state: ScheduleState):
    again = command_of(state, 99, START + 20_000, START + 15_100)
    world.add(again, succeeded(again))
    assert faults(world.judge()) == {"duplicated": 1}


def test_two_pictures_of_one_time_in_the_store(world: World, state: ScheduleState):
    """The second epoch's command was revoked, but its picture is there."""
    world.events.insert(1, upsert("r3", phase_ms=0))
    world.decisions.insert(
        1, Accepted("r3", CAM, "s", 5, START + 15_000, START + 15_001, "ScheduleUpserted")
    )
    changed = msgspec.structs.replace(state, epoch=5)
    again = command_of(changed, 99, START + 20_000, START + 15_100)
    world.add(again, revoked(again, "superseded: command 1 of epoch 1 is RUNNING"))
    rest = [msgspec.structs.replace(c, epoch=5) for c in world.commands[2:5]]
    world.commands[2:5] = rest
    for n, command in enumerate(rest, 2):
        old = world.results[n].result
        world.results[n] = Seen(msgspec.structs.replace(old, epoch=command.epoch))
    assert world.judge().ok
    world.blobs.append(again.command_id)
    report = world.judge()
    assert faults(report) == {"duplicated": 1}
    assert report.images.strays == 1


def test_more_shutters_than_attempts(world: World):
    world.shutters.append(log_line(world.commands[0], 7_000))
    assert faults(world.judge()) == {"duplicated": 1}


def test_an_early_shutter_by_the_result(world: World):
    world.results[0] = Seen(succeeded(world.commands[0], late_ms=-1))
    report = world.judge()
    assert faults(report) == {"early": 1}
    assert "by its result" in report.findings[0]


def test_an_early_shutter_by_the_cameras_log(world: World):
    world.shutters[0] = log_line(world.commands[0], -1)
    report = world.judge()
    assert faults(report) == {"early": 1}
    assert "by the camera's log" in report.findings[0]


def test_a_shutter_early_by_both_is_counted_once(world: World):
    world.shutters[0] = log_line(world.commands[0], -1_000)
    world.results[0] = Seen(succeeded(world.commands[0], late_ms=-1))
    assert faults(world.judge()) == {"early": 1}


def test_a_picture_that_is_not_as_it_was_stored(world: World):
    world.results[0] = Seen(world.results[0].result, "its picture's SHA-256 differs")
    report = world.judge()
    assert not report.ok
    assert faults(report) == {}
    assert (report.images.count, report.images.sha256_verified) == (4, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 7},
        {"scheduled_ms": START + 21_000},
        {"nominal_ms": START + 19_999},
        {"schedule_id": "t"},
        {"issued_at_ms": START + 45_701},
    ],
)
def test_a_command_nobody_asked_for(world: World, changes):
    world.commands.append(
        msgspec.structs.replace(
            world.commands[4], command_id=ids.command_id(START + 45_000, 0, 77), **changes
        )
    )
    assert world.judge().unexpected == 1


def test_a_time_before_the_schedules_start_is_unexpected(world: World, state: ScheduleState):
    world.started_ms = START - 20_000
    early = command_of(state, 9, START, START - 5_000)
    world.add(early, succeeded(early))
    assert world.judge().unexpected == 1


def test_a_result_without_a_command(world: World):
    del world.commands[0]
    world.shutters.pop(0)
    report = world.judge()
    assert faults(report) == {"unexpected": 1}
    assert "nobody issued" in report.findings[0]


def test_a_shutter_for_no_known_command(world: World):
    stranger = str(ids.command_id(START + 5, 0, 9))
    world.shutters += [
        log_line(world.commands[0], command_id=stranger),
        log_line(world.commands[0], command_id="x"),
        log_line(world.commands[0], command_id=""),
        log_line(world.commands[0], command_id=stranger, shutter=False),
        log_line(world.commands[0], command_id=str(ids.command_id(START - 5, 0, 9))),
    ]
    assert faults(world.judge()) == {"unexpected": 2}


@pytest.mark.parametrize("fault", ["crc", "walk", "state"])
def test_a_result_whose_transitions_are_wrong(world: World, fault: str):
    """SPEC 2.4."""
    result = world.results[0].result
    first, *rest = result.transitions
    if fault == "crc":
        first = msgspec.structs.replace(first, crc64=first.crc64 ^ 1)
    changes = {
        "crc": {"transitions": (first, *rest)},
        "walk": {"transitions": tuple(rest)},
        "state": {"cause": "because"},
    }[fault]
    world.results[0] = Seen(msgspec.structs.replace(result, **changes))
    assert faults(world.judge()) == {"illegal": 1}


def test_a_result_that_names_another_time_than_its_command(world: World):
    moved = msgspec.structs.replace(world.results[0].result, scheduled_ms=START + 10_001)
    world.results[0] = Seen(moved)
    assert world.judge().illegal == 1


def test_an_event_without_an_answer_and_an_answer_without_an_event(world: World):
    world.events.append(upsert("r9"))
    world.decisions.append(Refused("r8", CAM, "s", START, "past", "It is over."))
    world.decisions.append(world.decisions[0])
    assert faults(world.judge()) == {"unanswered": 1, "unexpected": 2}


def test_a_record_that_cannot_be_read_is_illegal():
    facts = Facts(Plan({}), START, (), (), (), (), ["capture.results[0]@7: cut off"])
    assert judge(facts).illegal == 1


# --- what is no fault -----------------------------------------------------------------------------


def test_a_photo_armed_before_the_cancellation_may_still_be_taken(world: World):
    world.results[4] = Seen(succeeded(world.commands[4]))
    report = world.judge()
    assert faults(report) == {}
    assert (report.due, report.taken_after_cancel, report.revoked) == (4, 1, 0)


def test_a_due_photo_that_only_ended_revoked(world: World):
    """Overdue while no worker was there, then cancelled: on the record while it was wanted still."""
    world.shutters.clear()
    world.results[3] = Seen(revoked(world.commands[3]))
    report = world.judge()
    assert report.ok
    assert report.revoked_due == 1
    world.results[2] = Seen(revoked(world.commands[2]))
    report = world.judge()
    assert report.revoked_due == 1
    assert faults(report) == {"lost": 1}


def test_a_photo_turned_away_without_a_rival_is_lost(world: World):
    world.results[3] = Seen(revoked(world.commands[3], "overflow: 64 captures are open already"))
    del world.shutters[3]
    assert faults(world.judge()) == {"lost": 1}


def test_times_that_were_skipped_are_not_due(world: World):
    del world.commands[1:3], world.results[1:3], world.shutters[1:3], world.blobs[1:3]
    reason = "misfire: not issued in time"
    world.decisions.insert(
        1, Skipped(CAM, "s", 1, START + 35_000, START + 20_000, START + 30_000, 2, reason)
    )
    report = world.judge()
    assert faults(report) == {}
    assert (report.due, report.skipped, report.skipped_reasons) == (2, 2, {reason: 2})


def test_a_time_that_was_skipped_and_taken_is_unexpected(world: World):
    world.decisions.insert(
        1, Skipped(CAM, "s", 1, START + 35_000, START + 20_000, START + 20_000, 1, "misfire")
    )
    assert world.judge().unexpected == 1


def test_a_schedule_that_runs_is_due_up_to_the_last_tick(world: World, state: ScheduleState):
    del world.events[1], world.decisions[1]
    world.results.pop()
    world.last_tick_ms = START + 49_999
    report = world.judge()
    assert faults(report) == {}
    assert (report.due, report.open) == (4, 1)
    world.last_tick_ms = START + 50_000
    assert faults(world.judge()) == {"lost": 1}
    world.settle_ms = 1
    assert faults(world.judge()) == {}


def test_a_repeated_request_changes_nothing(world: World):
    world.events.insert(1, upsert("r1"))
    world.decisions.insert(1, AlreadyKnown("r1", CAM, "s", START + 5_000, "accepted", START))
    world.events.insert(2, upsert("r5"))
    world.decisions.insert(
        2, Accepted("r5", CAM, "s", 1, START + 6_000, START + 1_000, "ScheduleUpserted")
    )
    report = world.judge()
    assert report.ok
    assert report.due == 4


def test_times_while_paused_are_not_due(state: ScheduleState):
    world = World(last_tick_ms=START + 49_000)
    world.accept(upsert("r1"), 1, START, START + 1_000)
    world.accept(SchedulePaused("r2", CAM, "s", "rain", START), 2, START + 12_000, START + 12_000)
    world.accept(ScheduleResumed("r3", CAM, "s", START), 3, START + 32_000, START + 32_001)
    for n, (second, epoch) in enumerate([(10, 1), (40, 3)]):
        at_ms = START + second * 1_000
        command = command_of(msgspec.structs.replace(state, epoch=epoch), n, at_ms, at_ms - 5_000)
        world.add(command, succeeded(command))
    report = world.judge()
    assert report.ok
    assert report.due == 2


def test_older_schedules_owe_nothing_from_before_the_run(world: World):
    """A second start: what was issued before the run began is not in the commands that are read."""
    world.started_ms = START + 26_000
    del world.commands[:3], world.results[:1], world.shutters[:2]
    report = world.judge()
    assert faults(report) == {}
    assert (report.due, report.taken_before) == (2, 1)


def test_a_request_is_due_once(world: World):
    policy = CapturePolicy(spread_ms=0)
    world.accept(
        CaptureRequested("q1", CAM, START + 25_000, policy, START), 3, START, START + 25_000
    )
    report = world.judge()
    assert (report.due, report.lost) == (5, 1)
    command = CaptureCommand(
        ids.command_id(START + 20_000, 1, 1), CAM, "", "q1", 3, START + 25_000, START + 25_000,
        START + 85_000, 3_000, 0, START + 20_000,
    )  # fmt: skip
    world.add(command, succeeded(command))
    assert world.judge().ok


def test_a_failed_capture_is_counted_by_cause(world: World):
    command = world.commands[0]
    entry = OpenCapture(command, NEW, 0, command.scheduled_ms, ())
    entry = step(entry, NEW, PENDING, command.issued_at_ms)
    entry = step(entry, PENDING, RUNNING, command.scheduled_ms - 400)
    at_ms = command.scheduled_ms + 3
    world.results[0] = Seen(ended(command, entry, "FAILED", at_ms, cause="refused: nobody there"))
    report = world.judge()
    assert report.ok
    assert (report.succeeded, report.failed, report.failed_causes) == (3, 1, {"refused": 1})


# --- against the fold itself ----------------------------------------------------------------------


RICH = (
    ScheduleSpec("cron", expression="* * * * * *"),
    ScheduleSpec("cron", expression="*/2 * * * * *", zone="Asia/Kathmandu", max_count=2),
    ScheduleSpec("interval", every_ms=700, until_ms=START + 4_000),
    ScheduleSpec("interval", every_ms=1_000, from_ms=START + 2_000, max_count=3),
    ScheduleSpec(
        "interval", every_ms=1_100, also=(Term("once", at_ms=START + 1_234), Term("interval", 900))
    ),
)


@st.composite
def histories(draw: st.DrawFn):
    """Changes and requests by the tick of 100 ms at which they come."""
    changes: dict[int, list[ScheduleEvent]] = {}
    for n in range(draw(st.integers(1, 8))):
        request, schedule = f"r{n}", draw(st.sampled_from(["a", "b"]))
        at = draw(st.integers(0, 50))
        policy = CapturePolicy(
            lead_ms=draw(st.sampled_from([0, 500, 2_000])),
            spread_ms=draw(st.sampled_from([0, 300])),
            jitter_ms=draw(st.sampled_from([0, 0, 250])),
            misfire=draw(st.sampled_from(["latest", "latest", "skip", "earliest", "all"])),
            tolerance_ms=draw(st.sampled_from([0, 2_000])),
        )
        spec = draw(st.sampled_from(RICH))
        every = draw(st.sampled_from([300, 700, 1_000]))
        event: ScheduleEvent = draw(
            st.sampled_from(
                [
                    ScheduleUpserted(
                        request, CAM, schedule, ScheduleSpec("interval", every_ms=every), policy, 0
                    ),
                    ScheduleUpserted(
                        request, CAM, schedule,
                        ScheduleSpec("once", at_ms=START + at * 100 + every), policy, 0,
                    ),
                    ScheduleUpserted(request, CAM, schedule, spec, policy, 0),
                    ScheduleCancelled(request, CAM, schedule, 0),
                    SchedulePaused(request, CAM, schedule, "", 0),
                    ScheduleResumed(request, CAM, schedule, 0),
                    CaptureRequested(request, CAM, None, policy, 0),
                    CaptureRequested(request, CAM, START + at * 100 + every, policy, 0),
                ]
            )
        )  # fmt: skip
        changes.setdefault(at, []).append(event)
    gap = draw(st.integers(0, 50))
    capacity = draw(st.sampled_from([0, 0, 1, 2]))
    return changes, range(gap, gap + draw(st.integers(0, 30))), capacity


MOVED_PAST_THE_END = (
    {
        0: [upsert("r0", 1_000, CapturePolicy(lead_ms=500))],
        23: [
            CaptureRequested(
                "r1",
                CAM,
                START + 3_300,
                CapturePolicy(lead_ms=0, spread_ms=300, tolerance_ms=2_000),
                0,
            )
        ],
    },
    range(35, 65),
    1,
)
"""An outage, then one photo a step: the request's is moved 2 s, past the last tick looked at."""


@given(histories())
@example(MOVED_PAST_THE_END)
def test_it_expects_exactly_what_the_fold_and_the_state_machine_do(history):
    """The arithmetic here and the wheel's agree on any history, outages of the wheel included."""
    changes, outage, capacity = history
    partition = ids.partition_of(CAM, 8)
    state = PartitionState(partition, 8)
    world = World(started_ms=START)
    row = capture.DeviceCaptures(CAM)
    waiting: list[ScheduleEvent] = []
    clock_ms = START
    for n in range(80):
        clock_ms = START + n * 100
        waiting += changes.get(n, [])
        row = run_due(world, row, clock_ms)
        if n in outage:
            continue
        world.events += waiting
        tick = ScheduleTick(
            partition, 8, clock_ms, RULES_VERSION, "", TickSettings(capacity_per_shard=capacity),
            tuple(TickChange(0, event) for event in waiting),
        )  # fmt: skip
        waiting = []
        outputs = advance(state, tick)
        world.decisions += outputs.decisions
        for command in outputs.commands:
            world.commands.append(command)
            if isinstance(command, CaptureCommand):
                change = capture.on_command(row, command, clock_ms)
            else:
                change = capture.on_revoked(row, command, clock_ms)
            row = change.state
            world.results += map(Seen, change.results)
        world.last_tick_ms = clock_ms
    row = run_due(world, row, clock_ms)
    report = world.judge()
    assert faults(report) == {}, report.findings
    whole = report.succeeded + report.failed + report.expired + report.lost
    assert report.due == whole + report.revoked_due + report.superseded


def test_a_photo_moved_past_what_is_judged_is_open_and_one_moved_less_is_lost(world: World, state):
    """One without a result, of the schedule's last second, moved ahead by the herd rule."""
    command = command_of(state, 6, START + 40_000, START + 35_000)
    moved = msgspec.structs.replace(command, scheduled_ms=START + 62_000, moved_ms=22_000)
    world.commands[3], world.results[3:4] = moved, []
    assert (world.judge().lost, world.judge().due, world.judge().open) == (0, 3, 1)
    world.last_tick_ms = START + 63_000
    assert (world.judge().lost, world.judge().due, world.judge().open) == (1, 4, 0)


def run_due(world: World, row: capture.DeviceCaptures, now_ms: int) -> capture.DeviceCaptures:
    """Arm what comes within 400 ms, open the shutters that are due."""
    for entry in row.open:
        command = entry.command
        if entry.state == PENDING and command.scheduled_ms - 400 <= now_ms:
            change = capture.on_arming(row, command.command_id, now_ms)
            row = change.state
            world.results += map(Seen, change.results)
    for entry in row.open:
        command = entry.command
        if entry.state == RUNNING and command.scheduled_ms <= now_ms:
            change = capture.on_success(
                row, command.command_id, image_of(command), None, now_ms, now_ms
            )
            row = change.state
            world.results += map(Seen, change.results)
    return row


# --- pictures and percentiles ---------------------------------------------------------------------


def test_pictures_are_read_back_and_hashed(tmp_path: Path):
    store = BlobStore.open(tmp_path)
    (tmp_path / "a b.jpg").write_bytes(b"as it was")
    sha = hashlib.sha256(b"as it was").hexdigest()
    good = ImageRef(store.uri("a%20b.jpg"), sha, 9, 8, 8, "jpeg")
    cases = {
        "": good,
        "cannot be read": msgspec.structs.replace(good, uri=store.uri("other.jpg")),
        "SHA-256 differs": msgspec.structs.replace(good, sha256="0" * 64),
        "has 9 bytes, not 10": msgspec.structs.replace(good, image_bytes=10),
        "is not in the blob store": msgspec.structs.replace(good, uri="s3://else/where.jpg"),
    }
    with ThreadPoolExecutor(2) as threads:
        verdicts = check_images([*cases.values()] * 100, store, threads)
    store.close()
    assert len(verdicts) == 500
    for text, verdict in zip([*cases] * 100, verdicts, strict=True):
        assert text in verdict
        assert bool(text) == bool(verdict)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=300))
def test_percentiles_are_values_that_so_many_do_not_exceed(values: list[int]):
    found = spread(values)
    assert found is not None
    assert found.max == max(values)
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99)):
        assert value in values
        assert sum(v <= value for v in values) * 100 >= percent * len(values)
        assert sum(v < value for v in values) * 100 < percent * len(values)


def test_no_values_have_no_percentiles():
    assert spread([]) is None
