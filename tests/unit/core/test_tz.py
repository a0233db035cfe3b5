"""An upgrade of the tz data is an event: what moves, what does not (DESIGN.md, "Ticks"; issue 5).

Versions of the database are written for the tests (``tz_world.py``).
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.records import (
    CapturePolicy,
    Exclusion,
    SchedulePaused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Term,
    TickChange,
    TickSettings,
)
from streams.core import ids, tz
from streams.core.partition import TZ_KEY, PartitionState
from streams.core.recurrence import zones
from streams.core.recurrence.civil import HOUR_MS
from streams.core.shard import RULES_VERSION, advance
from streams.core.state_hash import state_hash
from streams.replay.audit_state import rows_of, state_of
from tests.unit.core.tz_trees import tree
from tests.unit.core.tz_world import (
    CODEC,
    DAY,
    HOUR,
    MINUTE,
    OTHER,
    ZONE,
    World,
    at,
    cron,
    versions,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The versions by name."""
    yield from versions(tmp_path_factory.mktemp("tz"))


def test_times_that_come_later_are_not_had_twice(data):
    """08:30 was photographed at 07:30 UTC; at 07:45 the data say that it comes at 08:30 UTC."""
    world = World()
    world.put(cron("30 8 * * *"))
    world.tick(at(7.5))
    world.tick(at(7.75), version="later")
    for hour in range(8, 36):
        world.tick(at(hour + 0.5))
    assert world.times() == [at(7.5), at(8.5, 1)]
    assert world.state.tz_version == "later"


def test_times_that_come_later_are_due_anew_and_what_was_ahead_is_void(data):
    world = World()
    world.put(cron("30 8 * * *"), lead_ms=20 * MINUTE)
    world.tick(at(7.25))
    assert world.times() == [at(7.5)]
    world.tick(at(7.3), version="later")
    assert [one.from_ms for one in world.revoked] == [at(7.3) + 1]
    world.tick(at(8.5))
    assert world.times() == [at(8.5)]
    told = world.skipped[0][1]
    assert told.count == 0
    assert told.reason == (
        "the tz data have changed from old to later: its next time was 2026-09-01 07:30 UTC and is"
        " 2026-09-01 08:30 UTC"
    )


@pytest.mark.parametrize(
    ("misfire", "catch_up_ms", "issued", "count"),
    [
        ("latest", HOUR_MS, [at(6.5)], 0),
        ("latest", 10 * MINUTE, [], 1),
        ("skip", HOUR_MS, [], 1),
        ("earliest", HOUR_MS, [at(6.5)], 0),
        ("all", HOUR_MS, [at(6.5)], 0),
    ],
)
def test_times_that_come_earlier_go_by_the_misfire_policy(
    data, misfire, catch_up_ms, issued, count
):
    """At 07:00 UTC, 08:00 by the old clock and 09:00 by the new one: 08:30 is half an hour ago."""
    world = World()
    world.put(cron("30 8 * * *"), misfire=misfire, catch_up_ms=catch_up_ms)
    world.tick(at(7), version="earlier")
    assert world.times() == issued
    lost = [(s.first_ms, s.last_ms, s.count) for _, s in world.skipped if s.count]
    assert lost == ([(at(6.5), at(6.5), 1)] if count else [])
    world.tick(at(6.5, 1))
    assert world.times() == [*issued, at(6.5, 1)]


def test_a_schedule_whose_next_times_are_the_same_goes_on_as_it_was(data):
    world = World()
    world.put(cron("30 8 * * *"), lead_ms=5_000)
    outputs = world.tick(at(7), version="soon")
    assert (outputs.commands, outputs.decisions) == ([], [])
    assert world.state.find("cam-1\0s")[1].epoch == 1
    world.tick(at(7.5))
    world.tick(at(6.5, 1))
    assert world.times() == [at(7.5), at(6.5, 1)]


def test_a_time_that_was_had_is_not_had_again_by_a_worker_that_starts_after_the_upgrade(data):
    """08:00 was had at 06:00 UTC; by the data since then it comes at 07:00, and next is 20:00."""
    world = World("earlier")
    world.put(cron("0 7,8,20 * * *"))
    for hour in (5, 6):
        world.tick(at(hour))
    outputs = world.tick(at(6.1), version="soon")
    assert (outputs.commands, outputs.decisions) == ([], [])
    world.restart()
    for hour in range(7, 20):
        world.tick(at(hour))
    assert world.times() == [at(5), at(6), at(18)]


def test_other_zones_and_times_without_one_are_not_touched(data):
    world = World()
    world.put(cron("0 9 * * *", OTHER), "there")
    world.put(ScheduleSpec("interval", every_ms=HOUR_MS), "plain", lead_ms=5_000)
    world.put(cron("*/10 * * * *"), "real", lead_ms=5_000)  # every hour: it goes on in real time
    before = {s: world.state.find(f"cam-1\0{s}")[1] for s in ("there", "plain", "real")}
    outputs = world.tick(at(0.3), version="later")
    assert outputs.decisions == []
    assert {s: world.state.find(f"cam-1\0{s}")[1] for s in before} == before


def test_an_upgrade_is_in_the_rows_once_and_the_zones_with_it(data):
    world = World()
    world.put(cron("30 8 * * *"))
    first = world.outputs[0].rows
    assert first["shards", TZ_KEY].tz.version == "old"
    assert first["shards", tz.zone_key(ZONE)].tz.offsets_ms == (HOUR_MS,)
    assert ("shards", TZ_KEY) not in world.tick(at(1)).rows
    rows = world.tick(at(2), version="soon").rows
    assert rows["shards", TZ_KEY].tz.version == "soon"
    assert rows["shards", tz.zone_key(ZONE)].tz.offsets_ms == (HOUR_MS, 2 * HOUR_MS)
    assert ("shards", TZ_KEY) not in world.tick(at(3)).rows


def test_a_zone_that_is_used_no_more_is_forgotten_with_the_next_upgrade(data):
    world = World()
    world.put(cron("30 8 * * *"))
    world.put(cron("30 8 * * *", OTHER))
    rows = world.tick(at(1), version="same").rows
    assert rows["shards", tz.zone_key(ZONE)] is None
    assert rows["shards", tz.zone_key(OTHER)].tz.version == "same"


def test_a_zone_that_the_new_data_do_not_have_stays_as_it_was(data):
    world = World()
    world.put(cron("30 8 * * *"))
    world.tick(at(1), version="gone")
    world.restart()
    world.tick(at(7.5))
    assert world.times() == [at(7.5)]


def test_a_paused_schedule_stays_paused_and_has_its_times_by_the_new_data_then(data):
    world = World()
    world.put(cron("30 8 * * *"))
    world.tick(at(1), SchedulePaused("p", "cam-1", "s", "", 0))
    outputs = world.tick(at(7), version="later")
    assert (outputs.commands, outputs.decisions) == ([], [])


def test_an_end_by_count_moves_with_the_time_that_is_the_last(data):
    world = World()
    world.put(cron("30 8 * * *", max_count=2))
    world.tick(at(7), version="soon")  # from noon on an hour earlier
    for hour in range(7, 60):
        world.tick(at(hour + 0.5))
    assert world.times() == [at(7.5), at(6.5, 1)]


def test_a_mixed_schedule_has_each_moment_once_and_says_what_it_lost(data):
    """Every 10 minutes beside 08:30: what was had is not had again, and 08:30 is on the record."""
    world = World()
    world.put(
        ScheduleSpec("interval", every_ms=10 * MINUTE, also=(Term("cron", expression="35 8 * * *"),), zone=ZONE)
    )  # fmt: skip
    for minute in range(0, 7 * 60 + 1, 10):
        world.tick(DAY + minute * MINUTE)
    world.tick(at(7.05), version="earlier")
    for minute in range(7 * 60 + 10, 8 * 60, 10):
        world.tick(DAY + minute * MINUTE)
    assert {after - before for before, after in pairwise(world.times())} == {10 * MINUTE}
    lost = [(s.first_ms, s.count) for _, s in world.skipped]
    assert lost == [(at(6) + 35 * MINUTE, 1)]


def test_blackout_hours_follow_the_clock(data):
    world = World()
    spec = ScheduleSpec("interval", every_ms=HOUR_MS, zone=ZONE, exclude=(Exclusion(hours="08:00-10:00"),))  # fmt: skip
    world.put(spec)
    world.tick(at(1), version="later")
    for hour in range(1, 13):
        world.tick(at(hour))
    assert [(time - DAY) // HOUR_MS for time in world.times()] == [*range(8), 10, 11, 12]


def test_rules_of_older_versions_move_nothing_and_note_nothing(data):
    world = World(rules=3)
    world.put(cron("30 8 * * *"))
    outputs = world.tick(at(7), version="later")
    assert all(key != TZ_KEY for _, key in outputs.rows)
    assert world.state.tz_version == ""


def test_a_state_of_older_rules_notes_the_version_and_moves_nothing(data):
    world = World(version=zones.TZ_VERSION, rules=3)
    world.put(cron("30 8 * * *", "Europe/Paris"))
    world.rules = 4
    outputs = world.tick(at(1))
    assert outputs.decisions == []
    assert {key for table, key in outputs.rows if table == "shards"} == {b"clock", TZ_KEY, b"tz/Europe/Paris"}  # fmt: skip


# --- two versions of the data, any schedule of one zone, any moment of the upgrade ----------------

HOURS = st.lists(st.integers(0, 23), min_size=1, max_size=5, unique=True)


@st.composite
def stories(draw):
    hours = ",".join(map(str, sorted(draw(HOURS))))
    minute = draw(st.sampled_from(["0", "30", "*/20", "5,55"]))
    versions = draw(st.lists(st.sampled_from(["earlier", "later", "soon", "soon-back", "far", "old"]), min_size=1, max_size=3))  # fmt: skip
    upgrades = sorted(draw(st.lists(st.integers(1, 40 * 60), min_size=len(versions), max_size=len(versions))))  # fmt: skip
    return {
        "line": f"{minute} {hours} * * *",
        "upgrades": dict(zip(upgrades, versions, strict=True)),
        "step": draw(st.sampled_from([3, 7, 60, 180])),
        "lead_ms": draw(st.sampled_from([0, 5_000, 30 * MINUTE])),
        "misfire": draw(st.sampled_from(["latest", "skip", "earliest", "all"])),
        "catch_up_ms": draw(st.sampled_from([None, 0, 10 * MINUTE, 3 * HOUR_MS])),
        "restart": draw(st.booleans()),
    }


def run(story) -> World:
    world = World()
    world.put(
        cron(story["line"]),
        lead_ms=story["lead_ms"],
        misfire=story["misfire"],
        catch_up_ms=story["catch_up_ms"],
    )
    minutes = sorted({*range(1, 50 * 60, story["step"]), *story["upgrades"]})
    for minute in minutes:
        version = story["upgrades"].get(minute, "")
        if version and story["restart"]:
            world.restart()
        world.tick(DAY + minute * MINUTE, version=version)
    return world


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stories())
@example({"line": "30 8 * * *", "upgrades": {460: "later", 470: "old"}, "step": 1, "lead_ms": 0, "misfire": "latest", "catch_up_ms": None, "restart": True})  # fmt: skip
@example({"line": "30 1 * * *", "upgrades": {1: "earlier"}, "step": 3, "lead_ms": 0, "misfire": "latest", "catch_up_ms": None, "restart": False})  # fmt: skip
def test_each_time_of_the_wall_clock_is_had_once_or_its_loss_is_on_the_record(data, story):
    """Whatever the versions and the moments of the upgrades, late or in time."""
    world = run(story)
    hours = {int(hour) for hour in story["line"].split()[1].split(",")}
    minutes = {"0": {0}, "30": {30}, "*/20": {0, 20, 40}, "5,55": {5, 55}}[story["line"].split()[0]]
    wanted = [
        DAY + n * MINUTE
        for n in range(-24 * 60, 96 * 60)
        if n // 60 % 24 in hours and n % 60 in minutes
    ]
    had: set[int] = set()
    for version, command in world.commands:
        zone = data[version].zone(ZONE)
        these = {local for local in wanted if zone.moment_ms(local) == command.nominal_ms}
        assert these, "a time of the schedule, by the data it was issued under"
        assert not these <= had, f"{command} was had before"
        had |= these
    lost: set[int] = set()
    for version, skipped in world.skipped:
        zone = data[version].zone(ZONE)
        if skipped.count:
            lost |= {l for l in wanted if skipped.first_ms <= zone.moment_ms(l) <= skipped.last_ms}  # noqa: E741
    last = data[world.version].zone(ZONE)
    begun = data["old"].zone(ZONE).local_ms(DAY) + 1
    for local in wanted:
        if begun <= local and last.moment_ms(local) <= world.now:
            assert local in had or local in lost, (local - DAY) / HOUR_MS


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stories())
def test_the_same_ticks_give_the_same_rows_from_any_start(data, story):
    """A worker that starts from its rows before each upgrade ends as one that never stopped."""
    one, other = run({**story, "restart": True}), run({**story, "restart": False})
    assert [o.commands for o in one.outputs] == [o.commands for o in other.outputs]
    assert [o.decisions for o in one.outputs] == [o.decisions for o in other.outputs]
    assert state_hash(rows_of(one.state, CODEC)) == state_hash(rows_of(other.state, CODEC))


def test_what_was_folded_under_data_that_are_not_here_can_be_folded_again_from_its_rows(
    data, tmp_path
):
    """The state brings its zones; a change with a zone that it has not is the end of it."""
    here = {ZONE: (HOUR, [])}
    away = tree(tmp_path, "away", {**here, OTHER: (0, [])})
    zones.know(away)
    world = World("away")
    world.put(cron("30 8 * * *"))
    rows, mark = list(rows_of(world.state, CODEC)), len(world.ticks)
    world.tick(at(7.5))
    world.put(cron("0 8 * * *"), "second")
    world.put(cron("0 8 * * *", OTHER), "third")
    world.tick(at(8))
    del zones._others["away"]

    again = state_of(rows, 0, 1, CODEC)
    for number in range(mark, mark + 2):
        assert tz.why_not(again, world.ticks[number]) == ""
        assert advance(again, world.ticks[number]) == world.outputs[number]
    assert f"{OTHER} is new" in tz.why_not(again, world.ticks[mark + 2])
    fresh = PartitionState(0, 1)
    assert "tz away made them" in tz.why_not(fresh, world.ticks[0])


def test_on_another_partition_count_the_same_moves_have_the_same_ids(data):
    """What an upgrade makes is a shard's own: ids, epochs and order within a device (DESIGN)."""

    def fold(partitions: int) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {}
        for number in range(partitions):
            state = PartitionState(number, partitions)
            devices = [f"cam-{n}" for n in range(24) if ids.partition_of(f"cam-{n}", partitions) == number]  # fmt: skip
            policy = CapturePolicy(lead_ms=20 * MINUTE, spread_ms=60_000)
            changes = tuple(
                TickChange(
                    n, ScheduleUpserted(f"r-{device}", device, "s", cron("30 8 * * *"), policy, 0)
                )
                for n, device in enumerate(devices)
            )
            for at_ms, version in ((DAY, "old"), (at(7.25), "old"), (at(7.3), "later"), (at(8.5), "later")):  # fmt: skip
                tick = ScheduleTick(number, partitions, at_ms, RULES_VERSION, version, TickSettings(), changes)  # fmt: skip
                outputs = advance(state, tick)
                for one in (*outputs.decisions, *outputs.commands):
                    found.setdefault(one.device_id, []).append(one)
                changes = ()
        return found

    alone = fold(1)
    assert fold(4) == alone
    assert {type(one).__name__ for one in alone["cam-1"]} == {
        *("Accepted", "CaptureCommand", "CaptureRevoked", "Skipped"),
    }
