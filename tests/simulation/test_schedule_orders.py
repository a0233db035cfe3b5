"""The fold against a slow oracle, over every kind of schedule, policy and fact (issue 5).

No order of upserts, cancels, pauses, resumes, facts and ticks fires early, twice, or not at all
without a recorded reason; a worker that starts from the rows at any point has the same future; the
number of partitions changes nothing. SPEC 1.2, 1.5, 1.8, 2.1, 2.2.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_oracle import Oracle

from schemas.records import (
    AutoPaused,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureRevoked,
    DeviceFact,
    Ended,
    Exclusion,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    Term,
    TickChange,
    TickSettings,
)
from streams.core import ids
from streams.core.changes import WAITS
from streams.core.recurrence import Place, compile_spec
from streams.core.schedule import validate
from streams.core.shard import RULES_VERSION, Outputs, PartitionState, advance

START_MS = ids.EPOCH_MS + 1_000_000
DEVICES = ["cam-1", "cam-2", "cam-3"]
DAY, NIGHT = Place(0.0, 179.0), Place(0.0, 90.0)
"""At the start it is noon at the one and about sunrise at the other."""


def sunrise_at(ms: int) -> str:
    """Return an expression whose time at ``NIGHT`` is so long after the start."""
    rise = compile_spec(ScheduleSpec("sun", expression="sunrise"), NIGHT)
    shift = (START_MS + ms - rise.at_or_after(START_MS - 43_200_000)) // 1_000
    return f"sunrise{'+' if shift >= 0 else '-'}{abs(shift)}s"


# --- what happens -----------------------------------------------------------------------------

moments = st.one_of(st.integers(0, 20).map(lambda n: n * 1_000), st.integers(-2_000, 20_000)).map(
    lambda ms: START_MS + ms
)
maybe = moments | st.none() | st.none() | st.none()
counts = st.sampled_from([None, None, None, 1, 3])
terms = st.lists(
    st.one_of(
        st.builds(Term, st.just("once"), at_ms=moments),
        st.builds(Term, st.just("interval"), every_ms=st.sampled_from([700, 3_000])),
        st.just(Term("cron", expression="*/7 * * * * *")),
    ),
    max_size=2,
).map(tuple)
expressions = st.sampled_from(["* * * * * *", "0,1,2,7,20,21 * * * * *", "*/5 * * * * *"])
specs = st.one_of(
    st.builds(ScheduleSpec, st.just("interval"), st.sampled_from([100, 250, 1_000, 7_000])),
    st.builds(
        ScheduleSpec,
        kind=st.just("interval"),
        every_ms=st.sampled_from([250, 1_000]),
        phase_ms=st.sampled_from([0, 99]),
        also=terms,
        from_ms=maybe,
        until_ms=maybe,
        max_count=counts,
    ),
    st.builds(
        ScheduleSpec,
        kind=st.just("cron"),
        expression=expressions,
        also=terms,
        exclude=st.sampled_from([(), (Exclusion(hours="00:16:45-00:16:50"),)]),
        until_ms=maybe,
        max_count=counts,
    ),
    st.builds(ScheduleSpec, kind=st.just("once"), at_ms=moments),
    st.builds(ScheduleSpec, kind=st.just("once"), at_ms=moments, also=terms),
    st.builds(
        ScheduleSpec,
        kind=st.just("interval"),
        every_ms=st.just(1_000),
        daylight=st.just("sunrise..sunset"),
        max_count=counts,
    ),
    st.just(ScheduleSpec("sun", expression=sunrise_at(6_000))),
    st.just(ScheduleSpec("cron", expression="*/9 * * * * *", also=(Term("sun", expression=sunrise_at(8_000)),))),
)  # fmt: skip
policies = st.builds(
    CapturePolicy,
    lead_ms=st.sampled_from([0, 1, 300, 1_000, 5_000]),
    catch_up_ms=st.sampled_from([None, None, 0, 700, 60_000]),
    spread_ms=st.sampled_from([0, 0, 50, 200]),
    priority=st.integers(0, 2),
    misfire=st.sampled_from(["latest", "latest", "skip", "earliest", "all"]),
    jitter_ms=st.sampled_from([0, 0, 50]),
    tolerance_ms=st.sampled_from([0, 1_000, 3_500]),
    deadline_ms=st.sampled_from([None, None, 500, 3_000]),
    pause_after_failures=st.sampled_from([0, 3, 4]),
)
devices, schedules = st.sampled_from(DEVICES), st.sampled_from("ab")
requests, never = st.sampled_from([f"r{i}" for i in range(40)]), st.just(0)
upserts = st.builds(ScheduleUpserted, requests, devices, schedules, specs, policies, never)
events = st.one_of(
    upserts,
    upserts,
    upserts,
    st.builds(ScheduleCancelled, requests, devices, schedules, never),
    st.builds(SchedulePaused, requests, devices, schedules, st.just("rain"), never),
    st.builds(ScheduleResumed, requests, devices, schedules, never),
    st.builds(CaptureRequested, requests, devices, moments | st.none(), policies, never),
).filter(lambda event: validate(event) is None)
places = st.sampled_from([DAY, NIGHT, None]).map(
    lambda place: {} if place is None else {"latitude": place[0], "longitude": place[1]}
)
facts = st.one_of(
    st.builds(lambda device, place: DeviceFact(device, "place", **place), devices, places),
    st.builds(DeviceFact, devices, st.just("failing"), failures=st.integers(3, 9)),
    st.builds(DeviceFact, devices, st.just("recovered")),
)
gaps = st.one_of(st.sampled_from([0, 0, 1, 100, 1_000, 1_000, 2_000]), st.integers(0, 9_000))
worlds = st.lists(
    st.tuples(gaps, st.lists(events, max_size=4), st.lists(facts, max_size=2)),
    min_size=1,
    max_size=12,
)

close = st.builds(
    ScheduleUpserted,
    requests,
    st.just("cam-1"),
    st.just("a"),
    st.sampled_from(
        [
            ScheduleSpec("interval", every_ms=1_000),
            ScheduleSpec("interval", every_ms=1_000, max_count=5),
            ScheduleSpec("cron", expression="* * * * * *"),
        ]
    ),
    st.builds(
        CapturePolicy,
        lead_ms=st.sampled_from([0, 300, 2_000]),
        catch_up_ms=st.sampled_from([None, 0, 400]),
        spread_ms=st.sampled_from([0, 300, 600]),
        jitter_ms=st.sampled_from([0, 400]),
        misfire=st.sampled_from(["latest", "skip", "all"]),
    ),
    never,
)
close_worlds = st.lists(
    st.tuples(st.integers(0, 700), st.lists(close, max_size=1), st.just([])), max_size=16
)
"""One schedule whose spread changes again and again, while its times are at hand."""


def as_ticks(world, partitions=1, partition=0, **settings_):
    now_ms, offset = START_MS, 0

    def mine(device: str) -> bool:
        return ids.partition_of(device, partitions) == partition

    for gap_ms, changes, learned in world:
        now_ms += gap_ms
        offset += len(changes)
        yield ScheduleTick(
            partition,
            partitions,
            now_ms,
            RULES_VERSION,
            "",
            TickSettings(**settings_),
            tuple(TickChange(offset, event) for event in changes if mine(event.device_id)),
            tuple(fact for fact in learned if mine(fact.device_id)),
        )


# --- reading the fold's outputs ---------------------------------------------------------------


def of(outputs: Outputs, kind):
    return [r for r in [*outputs.decisions, *outputs.commands] if isinstance(r, kind)]


def key_of(command: CaptureCommand) -> tuple[str, str, int, int]:
    """The idempotency key, with the time before the herd rule moved it."""
    schedule_id = command.schedule_id or "request/" + command.request_id
    at_ms = command.scheduled_ms - command.moved_ms
    return (command.device_id, schedule_id, command.epoch, at_ms)


def three(record) -> tuple[str, str, int]:
    return (record.device_id, record.schedule_id, record.epoch)


def encoded(outputs: Outputs) -> bytes:
    return msgspec.json.encode(
        [
            [[type(r).__name__, r] for r in outputs.decisions],
            [[type(r).__name__, r] for r in outputs.commands],
            [[table, key.hex(), row] for (table, key), row in outputs.rows.items()],
        ]
    )


def write(tables: dict, outputs: Outputs) -> None:
    for key, row in outputs.rows.items():
        if row is None:
            tables.pop(key, None)
        else:
            tables[key] = row


def rebuilt(tables: dict, partition: int = 0, partitions: int = 1) -> PartitionState:
    """A worker that starts with nothing but the tables, in an order of their own."""
    rows = list(tables.items())
    random.Random(len(rows)).shuffle(rows)
    state = PartitionState(partition, partitions)
    names = ("schedules", "shards", "requests", "facts")
    state.load(*([r for (t, _), r in rows if t == name] for name in names))
    return state


# --- the tests --------------------------------------------------------------------------------

ANSWERS = {"Accepted": "accepted", "Refused": "refused", "AlreadyKnown": "known"}


@settings(max_examples=500, deadline=None)
@given(worlds | close_worlds)
def test_the_fold_does_what_the_oracle_does(world):
    """Every time is issued or on the record, once, at the tick at which it falls due."""
    horizon = START_MS + sum(gap for gap, _, _ in world) + 30_000
    state, oracle = PartitionState(0, 1), Oracle(START_MS - 10_000, horizon)
    for tick in as_ticks(world, notice_ms=300, request_memory_ms=8_000):
        outputs = advance(state, tick)
        oracle.tick(tick)
        issued = of(outputs, CaptureCommand)
        assert sorted(map(key_of, issued)) == sorted(oracle.issued)
        for command in issued:
            assert command.moved_ms == 0
            assert command.nominal_ms <= command.scheduled_ms
            assert command.not_after_ms >= tick.time_ms
        skips = [s for s in of(outputs, Skipped) if s.count]
        wanted = Counter(oracle.skipped)
        for skip in skips:
            times = [
                s for s in wanted if s[:3] == three(skip) and skip.first_ms <= s[3] <= skip.last_ms
            ]
            assert len(times) == skip.count, skip
            assert {skip.first_ms, skip.last_ms} <= {s[3] for s in times}
            for s in times:
                wanted[s] -= 1
        assert not +wanted, "given up without a word"
        waits = [three(s) for s in of(outputs, Skipped) if s.reason == WAITS]
        assert sorted(waits) == sorted(oracle.waiting)
        assert sorted(map(three, of(outputs, CaptureRevoked))) == sorted(oracle.revoked)
        assert sorted(map(three, of(outputs, Ended))) == sorted(oracle.ended)
        assert sorted(map(three, of(outputs, AutoPaused))) == sorted(oracle.auto_paused)
        answers = [ANSWERS.get(type(d).__name__) for d in outputs.decisions]
        assert [a for a in answers if a] == oracle.answers
        assert state.schedule_count == len(oracle.books)


@settings(max_examples=250, deadline=None)
@given(worlds, st.sampled_from([1, 2, 10_000]), st.sampled_from([0, 1, 2]))
def test_a_worker_that_starts_from_the_rows_has_the_same_future(world, max_fires, capacity):
    """SPEC 1.9, 2.4: at every tick, amid backlogs and booked seconds."""
    steady, tables = PartitionState(0, 1), {}
    for tick in as_ticks(
        world, max_fires=max_fires, request_memory_ms=8_000, capacity_per_shard=capacity
    ):
        expected = advance(steady, tick)
        state = rebuilt(tables)
        assert encoded(advance(state, tick)) == encoded(expected)
        assert state.next_due_ms() == steady.next_due_ms()
        write(tables, expected)
        assert state.facts == steady.facts
        assert len(state.watched) == len(steady.watched)


@settings(max_examples=100, deadline=None)
@given(worlds, st.sampled_from([0, 1, 2]))
def test_the_number_of_partitions_changes_nothing(world, capacity):
    """DESIGN 'Shards': fires, ids, capacity and decisions belong to shards."""

    def run(partitions: int):
        commands, decisions, rows = [], [], {}
        for partition in sorted({ids.partition_of(d, partitions) for d in DEVICES}):
            state = PartitionState(partition, partitions)
            for tick in as_ticks(world, partitions, partition, capacity_per_shard=capacity):
                outputs = advance(state, tick)
                commands += outputs.commands
                decisions += outputs.decisions
                write(rows, outputs)
        rows.pop(("shards", b"clock"))
        return (
            sorted(map(msgspec.json.encode, commands)),
            sorted(map(msgspec.json.encode, decisions)),
            {key: msgspec.json.encode(row) for key, row in rows.items()},
        )

    assert run(8) == run(1024) == run(1)


@settings(max_examples=100, deadline=None)
@given(worlds)
def test_the_same_log_gives_the_same_bytes(world):
    """SPEC 1.10: whatever a process has evaluated before."""
    runs = []
    for _ in range(2):
        state = PartitionState(0, 1)
        runs.append([encoded(advance(state, tick)) for tick in as_ticks(world)])
        compile_spec(ScheduleSpec("cron", expression="* * * * * *")).at_or_after(START_MS * 2)
    assert runs[0] == runs[1]


@settings(max_examples=300, deadline=None)
@given(worlds, st.sampled_from([1, 2]))
def test_a_capacity_moves_times_within_their_tolerance_and_loses_none(world, capacity):
    """Issue 5 'Herds': never early, never beyond the tolerance; where it yields, it says so."""
    free, state = PartitionState(0, 1), PartitionState(0, 1)
    policies_: dict[tuple[str, str, int], CapturePolicy] = {}
    seconds: Counter[tuple[int, int]] = Counter()
    kept: Counter[tuple[int, int]] = Counter()
    at: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for tick in as_ticks(world):
        expected = of(advance(free, tick), CaptureCommand)
        bound = msgspec.structs.replace(tick.settings, capacity_per_shard=capacity)
        outputs = advance(state, msgspec.structs.replace(tick, settings=bound))
        issued = of(outputs, CaptureCommand)
        assert sorted(map(key_of, issued)) == sorted(map(key_of, expected))
        for (table, _), row in outputs.rows.items():
            if table == "schedules" and row is not None:
                policies_[three(row)] = row.policy
        for c in issued:
            shard, fires_ms = ids.shard_of(c.device_id), max(c.scheduled_ms, tick.time_ms)
            seconds[shard, fires_ms // 1_000] += 1
            kept[shard, fires_ms // 1_000] += not c.over_capacity
            policy = policies_.get(key_of(c)[:3])
            tolerance = 3_500 if policy is None else policy.tolerance_ms
            wanted_ms = max(c.scheduled_ms - c.moved_ms, tick.time_ms)
            assert 0 <= fires_ms - wanted_ms <= tolerance
            assert not (c.moved_ms and c.over_capacity)
            assert c.scheduled_ms <= c.not_after_ms
            at.setdefault(key_of(c)[:3], []).append((key_of(c)[3], c.scheduled_ms))
        for c in issued:
            if c.over_capacity:
                shard, begin = ids.shard_of(c.device_id), max(c.scheduled_ms, tick.time_ms) // 1_000
                assert seconds[shard, begin] > capacity
    assert max(kept.values(), default=0) <= capacity
    for times in at.values():
        times.sort()
        moved = [s for _, s in times]
        assert moved == sorted(set(moved)), "two times of a schedule have met or changed places"


@pytest.mark.parametrize("jump_ms", [86_400_000 * 30, 86_400_000 * 3_650])
def test_a_far_jump_of_the_clock_is_no_burst(jump_ms):
    """SPEC 1.5: forward by ten years and the clock stands still until time has caught up."""
    state, every = PartitionState(0, 1), []
    for n, spec in enumerate(
        [
            ScheduleSpec("interval", every_ms=1_000),
            ScheduleSpec("cron", expression="* * * * * *"),
            ScheduleSpec("cron", expression="0 3 * * *", zone="Europe/Paris"),
            ScheduleSpec("interval", every_ms=60_000, daylight="sunrise..sunset"),
        ]
    ):
        policy = CapturePolicy(misfire=["latest", "all", "earliest", "latest"][n])
        every.append(ScheduleUpserted(f"r{n}", "cam-1", f"s{n}", spec, policy, 0))
    place = DeviceFact("cam-1", "place", 48.0, 2.0)
    changes = tuple(TickChange(n, event) for n, event in enumerate(every))
    tick = ScheduleTick(
        0, 1, START_MS, RULES_VERSION, "", TickSettings(max_fires=10**6), changes, (place,)
    )
    advance(state, tick)
    later = msgspec.structs.replace(tick, time_ms=START_MS + jump_ms, changes=(), facts=())
    outputs = advance(state, later)
    per = Counter(c.schedule_id for c in of(outputs, CaptureCommand))
    assert all(count <= 110 for count in per.values()), per
    assert {s.schedule_id for s in of(outputs, Skipped)} >= {"s0", "s1", "s2"}
    for _ in range(3):  # the clock was set back: time stands still, nothing comes twice
        assert of(advance(state, later), CaptureCommand) == []
    with pytest.raises(ValueError, match="before the clock"):
        advance(state, tick)
