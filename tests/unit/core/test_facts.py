"""Facts in ticks: places, failing devices, and what the fold makes of them (issue 5)."""

from __future__ import annotations

import msgspec
import pytest
from test_shard import T0, World, of, the, times

from schemas.records import (
    Accepted,
    AutoPaused,
    CapturePolicy,
    CaptureRevoked,
    DeviceFact,
    DeviceFacts,
    Refused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
)
from streams.core.changes import WAITS
from streams.core.facts import PAUSED_BY, check_fact
from streams.core.shard import RULES_VERSION, Outputs, advance

DAYLIGHT = ScheduleSpec("interval", every_ms=10_000, daylight="sunrise..sunset")
DAY = {"latitude": 0.0, "longitude": 179.0}
"""Where it is noon at T0."""


class Fleet(World):
    """A partition that is told facts."""

    def learn(self, ms: int, *facts: DeviceFact) -> Outputs:
        tick = ScheduleTick(0, 1, T0 + ms, RULES_VERSION, "", self.settings, (), facts)
        outputs = advance(self.state, tick)
        for key, row in outputs.rows.items():
            if row is None:
                self.tables.pop(key, None)
            else:
                self.tables[key] = row
        return outputs

    def restart(self) -> None:
        super().restart()
        state, names = type(self.state)(0, 1), ("schedules", "shards", "requests", "facts")
        state.load(*([r for (t, _), r in self.tables.items() if t == name] for name in names))
        self.state = state

    def daylight(self, **policy) -> ScheduleUpserted:
        return ScheduleUpserted(self._id(), "cam-1", "a", DAYLIGHT, CapturePolicy(**policy), 0)


def failing(failures: int, cause: str = "timeout: no answer") -> DeviceFact:
    return DeviceFact("cam-1", "failing", failures=failures, cause=cause)


def test_a_schedule_waits_for_its_place_and_says_so():
    world = Fleet()
    outputs = world.at(0, world.daylight())
    assert the(outputs, Accepted).epoch == 1
    assert (the(outputs, Skipped).reason, the(outputs, Skipped).count) == (WAITS, 0)
    world.restart()
    assert world.state.next_due_ms() is None
    outputs = world.learn(3_000, DeviceFact("cam-1", "place", **DAY))
    assert the(outputs, CaptureRevoked).epoch == 1
    assert world.tables["facts", b"cam-1"] == DeviceFacts("cam-1", 0.0, 179.0)
    world.restart()
    assert times(world.at(5_000)) == [10_000]
    outputs = world.learn(6_000, DeviceFact("cam-1", "place"))
    assert the(outputs, CaptureRevoked).reason == "the device's place has changed"
    assert the(outputs, Skipped).reason == WAITS
    assert world.state.next_due_ms() is None


def test_a_place_that_changes_nothing_makes_no_epoch():
    world = Fleet()
    world.learn(0, DeviceFact("cam-1", "place", **DAY))
    world.at(0, world.daylight(), world.every(schedule_id="b"))
    assert list(world.learn(1, DeviceFact("cam-1", "place", **DAY)).rows) == [("shards", b"clock")]
    near = DeviceFact("cam-1", "place", 0.001, 179.001)
    assert world.learn(2, near).commands == []


def test_a_device_that_fails_pauses_what_asks_for_it_and_says_who_and_why():
    world = Fleet()
    world.at(0, world.every(pause_after_failures=3), world.every(schedule_id="b"))
    outputs = world.learn(6_000, failing(3))
    paused = the(outputs, AutoPaused)
    assert (paused.schedule_id, paused.epoch) == ("a", 3)
    assert paused.reason.startswith("3 captures of the device failed in a row, the last: timeout")
    assert [(r.schedule_id, r.epoch) for r in of(outputs, CaptureRevoked)] == [("a", 1)]
    row = world.tables["schedules", b"cam-1\0a"]
    assert (row.paused, row.paused_by, row.pause_reason) == (True, PAUSED_BY, paused.reason)
    assert not world.tables["schedules", b"cam-1\0b"].paused


def test_a_resume_gives_as_many_attempts_as_at_first():
    """The worked example of the docstring."""
    world = Fleet()
    world.at(0, world.every(pause_after_failures=3))
    assert of(world.learn(1, failing(3)), AutoPaused)
    world.learn(2, failing(4))
    world.at(3, world.resume())
    assert world.tables["schedules", b"cam-1\0a"].failures_from == 4
    world.restart()
    assert of(world.learn(4, failing(5), failing(6)), AutoPaused) == []
    assert "3 captures" in the(world.learn(5, failing(7)), AutoPaused).reason


def test_a_photo_begins_the_count_anew_and_resumes_nothing():
    world = Fleet()
    world.learn(0, failing(5))
    world.at(0, world.every(pause_after_failures=4))
    assert world.tables["schedules", b"cam-1\0a"].failures_from == 5
    world.learn(1, DeviceFact("cam-1", "recovered"))
    assert ("facts", b"cam-1") not in world.tables
    assert world.tables["schedules", b"cam-1\0a"].failures_from == 0
    world.restart()
    assert of(world.learn(2, failing(3)), AutoPaused) == []
    assert of(world.learn(3, failing(4)), AutoPaused)
    assert of(world.learn(4, DeviceFact("cam-1", "recovered")), Accepted) == []
    assert world.tables["schedules", b"cam-1\0a"].paused


def test_who_paused_stands_in_the_row():
    world = Fleet()
    world.at(0, world.every())
    event = world.pause("rain")
    world.at(1, event)
    assert world.tables["schedules", b"cam-1\0a"].paused_by == event.request_id
    world.at(2, world.resume())
    assert world.tables["schedules", b"cam-1\0a"].paused_by == ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"device_id": ""}, "bad_device_id"),
        ({"kind": "rumour"}, "bad_fact"),
        ({"kind": "failing", "failures": -1}, "bad_failures"),
        ({"latitude": None}, "bad_place"),
        ({"longitude": 181.0}, "bad_place"),
        ({"latitude": float("nan")}, "bad_place"),
        ({"latitude": float("inf")}, "bad_place"),
    ],
)
def test_what_cannot_be_changes_nothing(changes, code):
    fact = msgspec.structs.replace(DeviceFact("cam-1", "place", 1.0, 2.0), **changes)
    refusal = check_fact(fact)
    assert refusal is not None
    assert refusal.code == code
    assert list(Fleet().learn(0, fact).rows) == [("shards", b"clock")]


def test_a_fact_of_another_partition_changes_nothing():
    world = Fleet()
    tick = ScheduleTick(0, 1, T0, RULES_VERSION, "", world.settings, (), (failing(3),))
    state = type(world.state)(1, 1024)
    outputs = advance(state, msgspec.structs.replace(tick, partition=1, partitions=1024))
    assert state.facts == {}
    assert list(outputs.rows) == [("shards", b"clock")]


def test_a_window_that_is_over_is_refused_and_one_that_ends_says_so():
    world = Fleet()
    spec = ScheduleSpec("interval", every_ms=10_000, until_ms=T0)
    over = ScheduleUpserted("q", "cam-1", "a", spec, CapturePolicy(), 0)
    assert the(world.at(0, over), Refused).code == "never"
