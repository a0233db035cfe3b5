"""Where replay begins: at the last snapshot before the range, with the same bytes as from the log's
beginning; issue 7 ('replay'), ADR 0022 and 0025."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import CODEC, START_MS, Recording, upserts
from test_shard_fold import worlds

from schemas.errors import UsageError
from schemas.records import CapturePolicy, PartitionSnapshot, ScheduleUpserted
from shutterwheel.replay_pour import make_plan
from shutterwheel.replay_run import Source
from streams.replay.again import fold_again
from streams.replay.start import NO_STORE, Starts, began_words
from streams.replay.what_if import what_if
from streams.replay.what_if_policy import Rule, WhatIf

CAMERAS = [f"cam-{n}" for n in range(12)]


def publish(row, policy, request_id):
    return ScheduleUpserted(request_id, row.device_id, row.schedule_id, row.spec, policy, 0)


def again(recording: Recording, from_ms: int, to_ms: int, read_rows=None):
    return fold_again(
        recording.log,
        0,
        CODEC,
        START_MS + from_ms,
        START_MS + to_ms,
        read_rows=read_rows,
    )


@settings(max_examples=40)
@given(worlds, st.integers(0, 30_000), st.integers(0, 12), st.sampled_from([{}, {"max_fires": 1}]))
def test_the_bytes_are_the_same_with_a_snapshot_wherever_it_was_made(world, begin_ms, at, ticks):
    """Whatever was asked, in the midst of a backlog too."""
    recording = Recording()
    now_ms = 0
    for number, (gap_ms, events) in enumerate(world):
        now_ms += gap_ms
        recording.tick(now_ms, events, **ticks)
        if number == at:
            recording.snapshot()
    from_ms = min(begin_ms, now_ms)
    whole = again(recording, from_ms, now_ms + 1)
    found = again(recording, from_ms, now_ms + 1, recording.rows)
    assert whole.difference is None
    assert found.difference is None
    assert found.sha256 == whole.sha256 == found.sha256_found
    assert (found.ticks, found.commands, found.decisions, found.changes) == (
        whole.ticks,
        whole.commands,
        whole.decisions,
        whole.changes,
    )
    assert found.before <= whole.before


def day(**policy) -> Recording:
    """Some hours, a tick a minute, with a snapshot each hour and changes on the way."""
    recording = Recording(2)
    spread = CapturePolicy(lead_ms=600_000, spread_ms=60_000, **policy)
    recording.tick(0, upserts(CAMERAS, every_ms=1_200_000, policy=spread))
    for minute in range(1, 360):
        changed = upserts([CAMERAS[minute % 12]], every_ms=900_000, request=f"m{minute}")
        recording.tick(minute * 60_000, changed if minute % 17 == 0 else ())
        if minute % 60 == 0:
            recording.snapshot()
    return recording


def test_another_policy_differs_by_the_same_wherever_the_fold_began():
    recording = day()
    from_ms, to_ms = START_MS + 301 * 60_000, START_MS + 350 * 60_000
    policy = WhatIf((Rule({"spread_ms": 120_000, "lead_ms": 300_000}),))
    for number in range(2):
        whole = what_if(recording.log, number, CODEC, policy, from_ms, to_ms, publish)
        found = what_if(
            recording.log, number, CODEC, policy, from_ms, to_ms, publish, read_rows=recording.rows
        )
        assert found.difference == whole.difference
        assert not found.difference.empty
        assert found.before < whole.before == 301
        assert found.began is not None
        assert found.began.snapshot_ms == START_MS + 180 * 60_000  # leads of an hour lie between


def test_what_is_poured_into_a_sandbox_is_the_same_wherever_the_fold_began():
    recording = day()
    recording.log.append("device.profiles", 0, None, None, 0)
    for topic in ("device.profiles", "device.events"):
        recording.log.append(topic, 0, None, None, 0)
        recording.log.entries(topic, 0).clear()
    from_ms, to_ms = START_MS + 301 * 60_000, START_MS + 350 * 60_000
    source = Source(recording.log, CODEC, "here", from_ms, to_ms, (0, 1))
    whole = make_plan(source, None)
    found = make_plan(replace(source, read_rows=recording.rows), None)
    assert sorted(found.first) == sorted(whole.first)
    assert found.past == whole.past
    assert found.timed == whole.timed
    assert found.ticks_before < whole.ticks_before
    assert {one.snapshot_ms for one in found.began} == {START_MS + 180 * 60_000}


def test_it_is_said_where_it_began_and_why_not_later():
    recording = day()
    from_ms, to_ms = 302 * 60_000, 350 * 60_000
    found = again(recording, from_ms, to_ms, recording.rows)
    assert found.began is not None
    assert found.before == 1  # the minute between
    assert found.began.snapshot_ms == START_MS + 300 * 60_000
    assert began_words([found.began]).startswith("with the snapshot of 2026-")
    newest = found.began.uri
    del recording.files[newest]
    second = again(recording, from_ms, to_ms, recording.rows)
    assert second.began is not None
    assert second.began.snapshot_ms == START_MS + 240 * 60_000
    assert second.began.passed_over[0].endswith(f"{newest} is not there.")
    table, key, value = recording.files[second.began.uri][-1]
    recording.files[second.began.uri][-1] = (table, key, value[:-1] + b"\x7f")
    third = again(recording, from_ms, to_ms, recording.rows)
    assert third.began is not None
    assert third.began.snapshot_ms == START_MS + 180 * 60_000
    assert "not those of its hash" in third.began.passed_over[1]
    assert found.sha256 == second.sha256 == third.sha256 == third.sha256_found
    none = again(recording, from_ms, to_ms)
    assert none.began is not None
    assert none.began.passed_over == (NO_STORE,)
    assert began_words([none.began]) == f"with nothing, at the beginning of the log: {NO_STORE}"
    assert "; 1 of 2 partitions" in began_words([none.began, third.began])


def test_a_log_whose_beginning_is_gone_is_replayed_from_a_snapshot_or_refused():
    recording = day()
    entries = recording.log.entries("schedule.ticks", 0)
    del entries[:100]
    found = again(recording, 302 * 60_000, 350 * 60_000, recording.rows)
    assert found.difference is None
    assert found.commands > 0
    with pytest.raises(UsageError, match=r"not kept any more.*no blob store was named"):
        again(recording, 301 * 60_000, 310 * 60_000)
    with pytest.raises(UsageError, match="the ticks have no snapshot up to"):
        again(recording, 110 * 60_000, 310 * 60_000, recording.rows)


def test_a_snapshot_of_other_partitions_is_none_of_ours():
    recording = day()
    entries = recording.log.entries("schedule.ticks", 0)
    for n, entry in enumerate(entries):
        if (entry.value or b"").startswith(CODEC.header(PartitionSnapshot)):
            other = msgspec.structs.replace(CODEC.decode(entry.value), partitions=4)
            entries[n] = entry._replace(value=CODEC.encode(other))
    starts = Starts(recording.log, CODEC, 0, recording.rows)
    start = starts.at(START_MS + 301 * 60_000, recording.log.ends("schedule.ticks")[0])
    assert start.snapshot is None
    assert start.began.passed_over[0].endswith("is of 4 partitions")
    assert len(start.began.passed_over) == 5
