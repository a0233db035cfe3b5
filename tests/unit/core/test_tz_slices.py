"""An upgrade of the tz data is cut into slices (issue 5; DESIGN.md, "Ticks", "Shards").

Not all at once, none forgotten, and what a worker decides that starts in the midst of it is the same.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    TickChange,
    TickSettings,
)
from streams.core import ids, tz
from streams.core.partition import PartitionState
from streams.core.recurrence.civil import HOUR_MS
from streams.core.shard import RULES_VERSION, advance
from streams.core.state_hash import state_hash
from streams.core.tz_slices import MOVED_MAX
from streams.replay.audit_state import rows_of
from tests.unit.core.tz_world import CODEC, DAY, MINUTE, OTHER, ZONE, World, at, cron, versions

MANY = 2 * MOVED_MAX + 1
NAMES = [f"s{n:02}" for n in range(MANY)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The versions by name."""
    yield from versions(tmp_path_factory.mktemp("tz"))


def filled(line: str = "30 8 * * *", **policy) -> World:
    """A world with more schedules of a device than a tick moves."""
    world = World()
    for name in NAMES:
        world.put(cron(line), name, **policy)
    return world


def moved(outputs) -> list[str]:
    return [d.schedule_id for d in outputs.decisions if isinstance(d, Skipped)]


def extra_rows(outputs) -> dict[bytes, bool]:
    """Which rows of an upgrade under way are written (true) or deleted (false)."""
    return {
        key: row is not None
        for (_, key), row in outputs.rows.items()
        if key.startswith((b"tz-before/", b"tz-behind/"))
    }


def test_a_tick_moves_some_and_the_next_ticks_go_on(data):
    world = filled()
    slices = [world.tick(at(1), version="later"), world.tick(at(1)), world.tick(at(1) + 1)]
    assert [moved(one) for one in slices] == [
        NAMES[:MOVED_MAX],
        NAMES[MOVED_MAX : 2 * MOVED_MAX],
        NAMES[2 * MOVED_MAX :],
    ]
    behind = b"tz-behind/%d" % ids.shard_of("cam-1")
    before = b"tz-before/" + ZONE.encode()
    assert [extra_rows(one) for one in slices] == [
        {before: True, behind: True},
        {behind: True},
        {before: False, behind: False},
    ]
    assert extra_rows(world.tick(at(2))) == {}
    assert world.state.behind is None
    world.tick(at(8.5))
    assert world.times() == [at(8.5)] * MANY


def test_as_many_as_a_tick_moves_leave_nothing_in_the_rows(data):
    world = World()
    for name in NAMES[:MOVED_MAX]:
        world.put(cron("30 8 * * *"), name)
    outputs = world.tick(at(1), version="later")
    assert moved(outputs) == NAMES[:MOVED_MAX]
    assert extra_rows(outputs) == {}


def test_a_schedule_that_was_not_reached_goes_by_the_old_data(data):
    """It fires by them, and what is changed or new beside it does, until its turn comes."""
    world = filled()
    last = NAMES[-1]
    world.tick(at(7.5) - 1, version="later")
    world.tick(at(7.5), ScheduleUpserted("r", "cam-1", "s99", cron("30 8 * * *"), CapturePolicy(lead_ms=0), 0))  # fmt: skip
    # The second slice was moved at 07:30 sharp, before what is due: the third was due then.
    assert [c.schedule_id for _, c in world.commands] == [last, "s99"]
    world.tick(at(7.6))
    for hour in (8.5, 31.5, 32.5):
        world.tick(at(hour))
    # By the new clock 08:30 comes at 08:30 UTC: those that had it have the next one tomorrow.
    times = {name: [c.scheduled_ms for _, c in world.commands if c.schedule_id == name] for name in (*NAMES, "s99")}  # fmt: skip
    assert times.pop(last) == times.pop("s99") == [at(7.5), at(8.5, 1)]
    assert set(map(tuple, times.values())) == {(at(8.5), at(8.5, 1))}


def test_a_shard_with_few_is_through_at_once_and_others_go_on(data):
    world = filled()
    event = ScheduleUpserted("r", "cam-2", "s", cron("30 8 * * *"), CapturePolicy(lead_ms=0), 0)
    world.tick(None, event)
    assert moved(world.tick(at(1), version="later")).count("s") == 1
    world.tick(None, ScheduleUpserted("q", "cam-2", "t", cron("30 8 * * *"), CapturePolicy(), 0))
    assert world.state.recurrences[world.state.table.index["cam-2\0t"]].at_or_after(at(1)) == at(8.5)  # fmt: skip


def test_what_is_gone_meanwhile_is_not_waited_for(data):
    world = filled()
    world.tick(at(1), version="later")
    gone = [ScheduleCancelled(f"c-{name}", "cam-1", name, 0) for name in NAMES[MOVED_MAX:]]
    world.tick(at(1), *gone)
    world.restart()
    outputs = world.tick(at(1.1))
    assert set(extra_rows(outputs).values()) == {False}
    assert world.state.behind is None


def test_the_next_upgrade_waits_for_the_one_that_is_under_way(data):
    """Workers of two releases take turns: each version is gone through, in slices."""
    world = filled()
    world.tick(at(1), version="later")
    seen = []
    for minute, version in enumerate(["old", "later", "old", "old", "old", "old", "old"]):
        if minute == 1:
            world.restart()
        world.tick(at(1.1) + minute, version=version)
        seen.append((world.state.tz_version, world.state.behind is not None))
    assert seen == [
        ("later", True), ("later", False), ("old", True), ("old", True), ("old", False),
        ("old", False), ("old", False),
    ]  # fmt: skip
    world.tick(at(7.5))
    assert world.times() == [at(7.5)] * MANY


def test_a_new_zone_is_taken_from_the_data_of_the_tick_while_an_upgrade_waits(data):
    world = filled()
    world.tick(at(1), version="soon")
    world.version = "later"
    world.put(cron("0 9 * * *", OTHER), "there")
    rows = world.outputs[-1].rows
    assert rows["shards", tz.zone_key(OTHER)].tz.version == "soon"
    assert world.state.tz_version == "soon"


def test_on_another_partition_count_the_same_slices_have_the_same_ids(data):
    """The bound is a shard's: how many partitions there are changes nothing."""

    def fold(partitions: int) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {}
        for number in range(partitions):
            state = PartitionState(number, partitions)
            devices = [f"cam-{n}" for n in range(12) if ids.partition_of(f"cam-{n}", partitions) == number]  # fmt: skip
            policy = CapturePolicy(lead_ms=20 * MINUTE, spread_ms=60_000)
            changes = tuple(
                TickChange(
                    n, ScheduleUpserted(f"r-{device}-{name}", device, name, cron("30 8 * * *"), policy, 0)
                )
                for n, (device, name) in enumerate((d, name) for d in devices for name in NAMES)
            )  # fmt: skip
            for at_ms, version in ((DAY, "old"), (at(7.25), "old"), (at(7.3), "later"), (at(7.35), "later"), (at(7.4), "later"), (at(8.5), "later")):  # fmt: skip
                tick = ScheduleTick(number, partitions, at_ms, RULES_VERSION, version, TickSettings(), changes)  # fmt: skip
                outputs = advance(state, tick)
                for one in (*outputs.decisions, *outputs.commands):
                    found.setdefault(one.device_id, []).append(one)
                changes = ()
        return found

    alone = fold(1)
    assert fold(4) == alone
    assert sum(isinstance(one, CaptureCommand) for one in alone["cam-1"]) == 2 * MANY


# --- any story: each time once or on the record, and the same from any start -----------------------


@st.composite
def stories(draw):
    minutes = st.integers(1, 26 * 60)
    versions = st.sampled_from(["earlier", "later", "soon", "soon-back", "old"])
    lines = st.sampled_from(["30 8 * * *", "0 1,7,8,20 * * *", "*/20 6-9 * * *"])
    changes = st.tuples(minutes, st.sampled_from("upcr"), st.integers(0, MANY + 2))
    return {
        "upgrades": dict(draw(st.lists(st.tuples(minutes, versions), min_size=1, max_size=3))),
        "lines": draw(st.lists(lines, min_size=1, max_size=3)),
        "step": draw(st.sampled_from([7, 30, 60])),
        "lead_ms": draw(st.sampled_from([0, 30 * MINUTE])),
        "events": draw(st.lists(changes, max_size=8)),
        "restarts": draw(st.sets(minutes, max_size=6)),
    }


def event_of(kind: str, number: int, request: str):
    name = f"s{number:02}"
    match kind:
        case "u":
            return ScheduleUpserted(request, "cam-1", name, cron("15 8,9 * * *"), CapturePolicy(lead_ms=0), 0)  # fmt: skip
        case "p":
            return SchedulePaused(request, "cam-1", name, "", 0)
        case "r":
            return ScheduleResumed(request, "cam-1", name, 0)
        case _:
            return ScheduleCancelled(request, "cam-1", name, 0)


def run(story, *, restarts: bool, end: int = 34 * 60) -> World:
    """Fold a story; an upgrade is followed by a few ticks close together, as ticks are."""
    world = World()
    lines = story["lines"]
    for n, name in enumerate(NAMES):
        world.put(cron(lines[n % len(lines)]), name, lead_ms=story["lead_ms"])
    events: dict[int, list] = {}
    for n, (minute, kind, number) in enumerate(story["events"]):
        events.setdefault(minute, []).append(event_of(kind, number, f"e{n}"))
    close = {minute + after for minute in story["upgrades"] for after in range(4)}
    again = story["restarts"] | {minute + 1 for minute in story["upgrades"]}
    minutes = sorted({*range(1, 34 * 60, story["step"]), *close, *events, *again})
    for minute in minutes:
        if minute > end:
            break
        if restarts and minute in again:
            world.restart()
        version = story["upgrades"].get(minute, "")
        world.tick(DAY + minute * MINUTE, *events.get(minute, ()), version=version)
    return world


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stories())
@example({"upgrades": {1: "earlier", 366: "soon"}, "lines": ["0 1,7,8,20 * * *"], "step": 7, "lead_ms": 0, "events": [], "restarts": set()})  # fmt: skip
def test_a_worker_that_starts_in_the_midst_of_it_decides_the_same(data, story):
    one, other = run(story, restarts=True), run(story, restarts=False)
    assert [o.decisions for o in one.outputs] == [o.decisions for o in other.outputs]
    assert [o.commands for o in one.outputs] == [o.commands for o in other.outputs]
    assert [o.rows for o in one.outputs] == [o.rows for o in other.outputs]
    assert state_hash(rows_of(one.state, CODEC)) == state_hash(rows_of(other.state, CODEC))
    kept = [row for row in rows_of(one.state, CODEC) if row[1].startswith(b"tz-be")]
    assert bool(kept) == (one.state.behind is not None)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stories())
def test_the_rows_that_ticks_write_are_those_that_an_audit_expects(data, story):
    """A snapshot may be taken in the midst of an upgrade."""
    world, written = run(story, restarts=False, end=max(story["upgrades"]) + 1), {}
    for outputs in world.outputs:
        for place, row in outputs.rows.items():
            if row is None:
                written.pop(place, None)
            else:
                written[place] = CODEC.encode(row)
    assert {(table, key): value for table, key, value in rows_of(world.state, CODEC)} == written


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stories())
def test_each_schedule_has_each_time_of_the_wall_clock_once_or_its_loss_is_told(data, story):
    """08:30 is had at the moment that one of the versions has it, and once."""
    story = {**story, "lines": ["30 8 * * *"], "events": [], "lead_ms": 0}
    world = run(story, restarts=True)
    clocks = [found.zone(ZONE) for found in data.values() if ZONE in found.names()]
    day_ms = 24 * HOUR_MS
    wanted = [DAY + n * day_ms + 8 * HOUR_MS + 30 * MINUTE for n in range(2)]
    for name in NAMES:
        had = [c.nominal_ms for _, c in world.commands if c.schedule_id == name]
        lost = [s for _, s in world.skipped if s.schedule_id == name and s.count]
        for local in wanted:
            moments = {zone.moment_ms(local) for zone in clocks}
            assert max(moments) - min(moments) == 2 * HOUR_MS, "the days do not meet"
            if max(moments) > world.now:
                continue
            found = [moment for moment in had if moment in moments]
            told = [s for s in lost if any(s.first_ms <= m <= s.last_ms for m in moments)]
            assert len(found) <= 1
            assert found or told, (name, (local - DAY) / HOUR_MS)
