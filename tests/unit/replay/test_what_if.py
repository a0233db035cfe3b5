"""The past under another policy; DESIGN.md 'Replay, audit, explain', issue 7 ('replay')."""

from __future__ import annotations

from io import BytesIO

import msgspec
import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import CODEC, START_MS, Recording, upserts
from test_shard_fold import worlds

from schemas.catalogue import current_schemas
from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.ids import FingerprintIds, fingerprint_id
from schemas.records import (
    CapturePolicy,
    DeviceFact,
    ScheduleCancelled,
    ScheduleSpec,
    ScheduleUpserted,
)
from streams.replay.again import fold_again, sha256_of_all
from streams.replay.what_if import what_if
from streams.replay.what_if_diff import Difference
from streams.replay.what_if_policy import Rule, WhatIf

CAMERAS = [f"cam-{n}" for n in range(40)]
TICK_SETTINGS = [{}, {"capacity_per_shard": 1}, {"max_fires": 1}]
"""None out of the way, a herd, a backlog in every tick."""


def publish(row, policy, request_id):
    return ScheduleUpserted(request_id, row.device_id, row.schedule_id, row.spec, policy, 0)


def compare(log, policy: WhatIf, from_ms: int, to_ms: int, **how) -> Difference:
    total = Difference()
    for partition in range(log.partitions("schedule.ticks")):
        found = what_if(
            log, partition, CODEC, policy, START_MS + from_ms, START_MS + to_ms, publish, **how
        )
        total.add(found.difference)
    accounted(total)
    return total


def accounted(found: Difference) -> None:
    """Nothing is lost in the accounts."""
    assert found.before.stand == found.same + found.moved + found.gone
    assert found.after.stand == found.same + found.moved + found.added
    assert found.before.issued == found.before.stand + found.before.revoked
    assert found.after.issued == found.after.stand + found.after.revoked
    assert sum(found.before.per_second.values()) == found.before.stand
    assert sum(found.after.per_second.values()) == found.after.stand
    assert sum(found.moved_ms.values()) == found.moved
    assert sum(found.gone_why.values()) == found.gone


def fleet(policy: CapturePolicy | None = None, seconds: int = 120, **settings_: int) -> Recording:
    recording = Recording()
    recording.tick(0, upserts(CAMERAS, policy=policy), **settings_)
    recording.run(1, seconds, **settings_)
    return recording


def recorded(world, **settings_: int) -> Recording:
    recording = Recording()
    now_ms = 0
    for gap_ms, events in world:
        now_ms += gap_ms
        recording.tick(now_ms, events, **settings_)
    return recording


# --- the same rules -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(worlds, st.integers(0, 30_000), st.booleans(), st.sampled_from(TICK_SETTINGS))
def test_the_same_policy_gives_the_same_bytes_and_no_difference(world, begin_ms, always, ticks):
    """Whatever was asked and whenever the range begins: a fold made of rows goes on as the other."""
    recording = recorded(world, **ticks)
    end_ms = 1 + max(e.timestamp_ms for e in recording.log.entries("schedule.ticks", 0)) - START_MS
    from_ms = min(begin_ms, end_ms - 1)
    found = compare(recording.log, WhatIf(), from_ms, end_ms, always=always)
    assert found.empty
    assert not found.examples
    again = fold_again(recording.log, 0, CODEC, START_MS + from_ms, START_MS + end_ms)
    assert again.difference is None
    assert again.sha256 == again.sha256_found


@settings(max_examples=40)
@given(
    worlds,
    st.integers(0, 30_000),
    st.sampled_from(
        [
            {"spread_ms": 100},
            {"spread_ms": 60_000},
            {"lead_ms": 300},
            {"misfire": "skip"},
            {"misfire": "all", "catch_up_ms": 60_000},
            {"jitter_ms": 90},
        ]
    ),
    st.sampled_from(TICK_SETTINGS),
    st.booleans(),
)
def test_the_accounts_hold_under_any_policy(world, begin_ms, fields, ticks, always):
    recording = recorded(world)
    end_ms = 1 + max(e.timestamp_ms for e in recording.log.entries("schedule.ticks", 0)) - START_MS
    policy = WhatIf((Rule(fields),), ticks)
    compare(recording.log, policy, min(begin_ms, end_ms - 1), end_ms, always=always)


# --- other rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("always", [False, True])
def test_a_spread_lowers_the_peak_and_loses_nothing(always):
    recording = fleet()
    found = compare(
        recording.log, WhatIf((Rule({"spread_ms": 10_000}),)), 47_000, 97_000, always=always
    )
    assert found.before.peak[0] == 40
    assert found.after.peak[0] < 12
    assert found.before.stand == 40 * 5
    assert found.gone == found.added == 0
    assert found.moved + found.same == 200
    assert all(0 < late_ms < 10_000 for late_ms in found.moved_ms)
    assert found.moved_percentile(0.0) <= found.moved_percentile(0.5) <= found.moved_percentile(1.0)
    [first, *_] = found.examples["moved"]
    assert first.before_ms == first.nominal_ms
    # Published at the beginning, what is out already for times to come is revoked and issued anew.
    assert bool(found.after.revoked) is not always
    assert found.before.revoked == 0


def test_a_spread_taken_away_has_the_peak_back():
    recording = fleet(CapturePolicy(spread_ms=10_000))
    found = compare(recording.log, WhatIf((Rule({"spread_ms": 0}),)), 40_000, 90_000, always=True)
    assert found.after.peak[0] == 40
    assert all(late_ms < 0 for late_ms in found.moved_ms)


def test_a_capacity_moves_what_tolerates_it_and_lets_the_rest_through():
    one_shard = [f"cam-{n}" for n in range(20_000) if _shard(f"cam-{n}") == 7][:6]
    recording = Recording()
    policy = CapturePolicy(tolerance_ms=3_000)
    recording.tick(0, upserts(one_shard, policy=policy))
    recording.run(1, 60)
    found = compare(recording.log, WhatIf(settings={"capacity_per_shard": 2}), 21_000, 51_000)
    assert found.before.peak[0] == 6
    assert found.after.peak[0] == 2
    assert set(found.moved_ms) == {1_000, 2_000}
    assert found.gone == found.added == 0
    tight = compare(recording.log, WhatIf(settings={"capacity_per_shard": 1}), 21_000, 51_000)
    assert tight.after.over_capacity > 0


def test_a_misfire_policy_shows_in_what_a_stopped_wheel_made_up_for():
    recording = fleet(seconds=30)
    recording.run(47, 80)  # nothing ticked for 17 s: the lead of 5 s does not cover it
    found = compare(recording.log, WhatIf((Rule({"misfire": "skip"}),)), 20_000, 70_000)
    assert found.gone == 40
    [(why, count)] = found.gone_why.items()
    assert why.startswith("skipped: ")
    assert count == 40
    assert sum(found.after.skipped.values()) > sum(found.before.skipped.values())
    assert found.examples["gone"][0].why == why


def test_a_shorter_lead_takes_the_same_photos():
    found = compare(fleet().log, WhatIf((Rule({"lead_ms": 1_000}),)), 40_000, 90_000)
    assert found.same == found.before.stand == found.after.stand
    assert found.after.revoked == 0 or found.gone == 0


def test_other_terms_are_told_apart_from_another_time():
    found = compare(fleet().log, WhatIf((Rule({"priority": 3}),)), 40_000, 90_000)
    assert found.moved == found.gone == found.added == 0
    assert found.other_terms == found.same - (found.same - found.other_terms) > 0
    assert not found.empty


def test_what_is_cancelled_while_its_time_was_moved_is_said_to_be_revoked():
    """'3 captures would have been revoked' (issue 7)."""
    recording = fleet(seconds=52)
    gone = [ScheduleCancelled(f"x-{one}", one, "s", 0) for one in CAMERAS]
    recording.tick(52_000, gone)
    recording.run(53, 80)
    found = compare(recording.log, WhatIf((Rule({"spread_ms": 10_000}),)), 20_000, 70_000)
    assert found.before.stand == 40 * 4  # at 20, 30, 40 and 50 s
    assert found.gone > 0
    assert set(found.gone_why) <= {"revoked: the schedule was cancelled", "not due"}
    assert found.gone_why["revoked: the schedule was cancelled"] > 0


@pytest.mark.parametrize(("before_ms", "stands"), [(599, True), (600, False)])
def test_what_is_armed_is_taken_though_it_is_revoked(before_ms, stands):
    """DESIGN 'Captures': until RUNNING is committed a command is revocable, then no more."""
    recording = fleet(seconds=50)
    gone = [ScheduleCancelled(f"x-{one}", one, "s", 0) for one in CAMERAS]
    recording.tick(50_000 - before_ms, gone)
    recording.run(50, 60)
    found = compare(recording.log, WhatIf(), 41_000, 59_000)
    assert found.before.stand == (40 if stands else 0)
    assert found.before.revoked == (0 if stands else 40)
    assert found.empty


def test_a_policy_that_a_schedule_would_refuse_leaves_it_as_it_is():
    recording = fleet()
    found = what_if(
        recording.log,
        0,
        CODEC,
        WhatIf((Rule({"spread_ms": 60_000}),)),
        START_MS + 40_000,
        START_MS + 90_000,
        publish,
    )
    assert found.refused == 40
    assert found.changed == 0
    assert found.difference.same == found.difference.before.stand
    assert "spread" in found.difference.examples["refused"][0].why


def test_a_rule_is_for_those_it_names():
    recording = Recording(2)
    recording.tick(0, upserts(CAMERAS) + upserts(CAMERAS, schedule_id="line-1"))
    recording.run(1, 60)
    rules = (
        Rule({"spread_ms": 9_000}, schedules=("line-*",)),
        Rule({"spread_ms": 0}, devices=frozenset(CAMERAS[:20])),
    )
    found = compare(recording.log, WhatIf(rules), 20_000, 50_000, always=True)
    assert {one.schedule_id for one in found.examples["moved"]} == {"line-1"}
    assert found.moved <= 20 * 3
    assert found.moved > 40


def test_captures_beyond_the_end_of_the_range_are_not_lost():
    """A time that the spread moves over the end is moved, not gone: made-up ticks go on."""
    recording = fleet(seconds=61)
    found = compare(
        recording.log, WhatIf((Rule({"spread_ms": 10_000}),)), 20_000, 61_000, always=True
    )
    assert found.gone == found.added == 0
    assert found.before.stand == found.after.stand == 40 * 5  # the nominal time 60 s is in it
    assert max(found.after.per_second) * 1_000 > START_MS + 61_000


def test_facts_of_the_past_count_on_both_sides():
    recording = Recording()
    policy = CapturePolicy(pause_after_failures=3)
    recording.tick(0, upserts(["cam-1"], policy=policy))
    recording.run(1, 30)
    recording.tick(30_000, facts=[DeviceFact("cam-1", "failing", failures=3, cause="timeout")])
    recording.run(31, 60)
    found = compare(
        recording.log, WhatIf((Rule({"pause_after_failures": 0}),)), 10_000, 60_000, always=True
    )
    assert found.before.paused == 1
    assert found.after.paused == 0
    assert found.added > 0
    assert found.examples["added"][0].why.startswith("revoked: ") or found.added


def test_ranges_that_cannot_be_are_refused():
    recording = fleet(seconds=3)
    with pytest.raises(UsageError, match="empty"):
        compare(recording.log, WhatIf(), 10, 10)
    entries = recording.log.entries("schedule.ticks", 0)
    del entries[0]
    with pytest.raises(UsageError, match="not kept any more"):
        compare(recording.log, WhatIf(), 0, 5_000)


# --- the same bytes -------------------------------------------------------------------------------


def test_the_same_log_gives_the_same_bytes_at_any_partition_count():
    """SPEC 2.2: ids follow from the ticks; each partition has its hash, and there is one of all."""
    recording = Recording(4)
    recording.tick(0, upserts(CAMERAS))
    recording.run(1, 40)
    parts = [fold_again(recording.log, n, CODEC, START_MS, START_MS + 60_000) for n in range(4)]
    assert sum(part.commands for part in parts) == 40 * 4
    assert sum(part.decisions for part in parts) == 40
    assert sum(part.changes for part in parts) == 40
    assert sha256_of_all(parts) == sha256_of_all(parts, found=True)
    later = fold_again(recording.log, 1, CODEC, START_MS + 20_000, START_MS + 30_000)
    assert later.before == 20
    assert later.ticks == 10
    assert later.difference is None


@pytest.mark.parametrize("what", ["changed", "removed", "added", "last"])
def test_a_command_that_the_fold_does_not_make_is_found(what):
    recording = fleet(seconds=40)
    entries = recording.log.entries("capture.commands", 0)
    middle = len(entries) // 2
    command = CODEC.decode(entries[middle].value)
    other = msgspec.structs.replace(command, scheduled_ms=command.scheduled_ms + 1)
    if what == "changed":
        entries[middle] = entries[middle]._replace(value=CODEC.encode(other))
    elif what == "removed":
        del entries[middle]
    else:
        at = len(entries) if what == "last" else middle
        last = CODEC.decode(entries[-1].value)
        extra = msgspec.structs.replace(last, command_id=last.command_id + 1)
        entry = entries[-1]._replace(
            offset=entries[-1].offset + 1, value=CODEC.encode(extra if what == "last" else other)
        )
        entries.insert(at, entry)
        for n, one in enumerate(entries):
            entries[n] = one._replace(offset=n)
    found = fold_again(recording.log, 0, CODEC, START_MS, START_MS + 60_000)
    assert found.difference is not None
    assert found.difference.topic == "capture.commands"
    if what == "last":
        assert found.difference.folded == ""
    else:
        assert found.difference.folded.startswith("CaptureCommand(")
    assert found.sha256 != found.sha256_found or what == "last"


def test_commands_that_are_not_kept_any_more_are_left_out():
    recording = fleet(seconds=40)
    del recording.log.entries("capture.commands", 0)[:50]
    found = fold_again(recording.log, 0, CODEC, START_MS, START_MS + 60_000)
    assert found.difference is None
    assert found.kept_from_ms is not None
    assert 0 < found.commands < 110


def test_what_an_older_release_wrote_is_compared_field_by_field():
    """Its bytes are of another schema: what it did not have is the default, the rest is equal."""
    today = current_schemas()["shutterwheel.CaptureCommand"]
    schema = {**today, "fields": [f for f in today["fields"] if "default" not in f]}
    codec = Codec(FingerprintIds(released={"shutterwheel.CaptureCommand": {1: schema}}))
    header = b"\0" + fingerprint_id(schema).to_bytes(4, "big")
    recording = fleet(seconds=40)
    entries = recording.log.entries("capture.commands", 0)

    def older(entry, **changed):
        record = msgspec.structs.replace(CODEC.decode(entry.value), **changed)
        out = BytesIO()
        schemaless_writer(out, parse_schema(schema), msgspec.to_builtins(record))
        return entry._replace(value=header + out.getvalue())

    entries[5], entries[6] = older(entries[5]), older(entries[6])
    found = fold_again(recording.log, 0, codec, START_MS, START_MS + 60_000)
    assert found.difference is None
    assert found.other_schema == 2
    assert found.sha256 == found.sha256_found
    entries[7] = older(entries[7], capture_timeout_ms=9)
    found = fold_again(recording.log, 0, codec, START_MS, START_MS + 60_000)
    assert found.difference is not None
    assert found.difference.offset == 7


def test_refusals_of_what_was_never_in_a_tick_are_counted_apart():
    from schemas.records import Refused

    recording = fleet(seconds=10)
    entries = recording.log.entries("schedule.decisions", 0)
    bad = Refused("bad", "cam-1", "s", START_MS, "bad_id", "words")
    entries.insert(3, entries[3]._replace(value=CODEC.encode(bad)))
    for n, one in enumerate(entries):
        entries[n] = one._replace(offset=n)
    found = fold_again(recording.log, 0, CODEC, START_MS, START_MS + 60_000)
    assert found.difference is None
    assert found.bad_events == 1


def _shard(device_id: str) -> int:
    from streams.core import ids

    return ids.shard_of(device_id)


def test_a_schedule_of_the_past_keeps_its_spec():
    recording = Recording()
    spec = ScheduleSpec("cron", expression="*/10 * * * * *")
    recording.tick(0, [ScheduleUpserted("r", "cam-1", "c", spec, CapturePolicy(), 0)])
    recording.run(1, 60)
    found = compare(recording.log, WhatIf((Rule({"spread_ms": 5_000}),)), 20_000, 50_000)
    assert found.before.stand == found.after.stand == 3
