"""The fold against a brute-force model, and against itself after crashes and elsewhere.

SPEC 1.2 and 2.1 (due times), 2.2 (ids, request ids), 1.8 (epochs). The model keeps an explicit
set of what was issued and walks over every single nominal time; the fold has neither.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.records import (
    Accepted,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureRevoked,
    Ended,
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
from streams.core.schedule import REQUEST_PREFIX
from streams.core.shard import RULES_VERSION, Outputs, PartitionState, advance
from streams.core.spread import offset_ms

START_MS = ids.EPOCH_MS + 1_000_000
DEVICES = ["cam-1", "cam-2", "cam-3", "cam-4"]
SCHEDULES = ["a", "b"]

# --- what happens -----------------------------------------------------------------------------

# Mostly on a coarse grid, so that times meet: the errors lie where they are equal.
moments = st.one_of(st.integers(0, 20).map(lambda n: n * 1_000), st.integers(-2_000, 20_000))
policies = st.builds(
    CapturePolicy,
    lead_ms=st.sampled_from([0, 1, 300, 1_000, 1_000, 5_000]),
    catch_up_ms=st.sampled_from([None, None, 0, 700, 60_000]),
    spread_ms=st.sampled_from([0, 0, 1, 100]),
)
specs = st.one_of(
    st.builds(
        ScheduleSpec,
        kind=st.just("interval"),
        every_ms=st.sampled_from([100, 250, 1_000, 7_000]),
        phase_ms=st.sampled_from([0, 0, 1, 99]),
    ),
    st.builds(
        ScheduleSpec,
        kind=st.just("once"),
        at_ms=moments.map(lambda ms: START_MS + ms),
    ),
)
request_ids = st.sampled_from([f"r{i}" for i in range(40)])
devices = st.sampled_from(DEVICES)
schedules = st.sampled_from(SCHEDULES)
published = st.just(0)
events = st.one_of(
    st.builds(ScheduleUpserted, request_ids, devices, schedules, specs, policies, published),
    st.builds(ScheduleUpserted, request_ids, devices, schedules, specs, policies, published),
    st.builds(ScheduleCancelled, request_ids, devices, schedules, published),
    st.builds(SchedulePaused, request_ids, devices, schedules, st.just("rain"), published),
    st.builds(ScheduleResumed, request_ids, devices, schedules, published),
    st.builds(
        CaptureRequested,
        request_ids,
        devices,
        st.one_of(st.none(), moments.map(lambda ms: START_MS + ms)),
        policies,
        published,
    ),
)
gaps = st.one_of(st.sampled_from([0, 0, 1, 100, 1_000, 1_000, 2_000]), st.integers(0, 9_000))
worlds = st.lists(st.tuples(gaps, st.lists(events, max_size=4)), min_size=1, max_size=14)


def as_ticks(world, partitions=1, partition=0, **settings_):
    now_ms, offset = START_MS, 0
    for gap_ms, changes in world:
        now_ms += gap_ms
        mine = []
        for event in changes:
            if ids.partition_of(event.device_id, partitions) == partition:
                mine.append(TickChange(offset, event))
            offset += 1
        yield ScheduleTick(
            partition,
            partitions,
            now_ms,
            RULES_VERSION,
            "",
            TickSettings(**settings_),
            tuple(mine),
        )


# --- the model --------------------------------------------------------------------------------


@dataclass
class ModelSchedule:
    """One schedule of the model; ``settled``: what was issued or skipped in this epoch."""

    row: ScheduleState
    settled: set[int] = field(default_factory=set)

    def times(self, until_ms: int) -> list[int]:
        """Every scheduled time from the start up to ``until_ms``, by walking over all of them."""
        row = self.row
        shift = offset_ms(row.device_id, row.policy.spread_ms)
        if row.spec.kind == "once":
            every = [row.spec.at_ms + shift]
        else:
            # The phase is 0..99 and every period here divides into whole steps from a multiple.
            first = row.spec.phase_ms
            first += (START_MS - 10_000 - first) // row.spec.every_ms * row.spec.every_ms
            every = range(first + shift, until_ms + 1, row.spec.every_ms)
        return [s for s in every if row.starts_at_ms <= s <= until_ms]

    def window_ms(self) -> int:
        if self.row.policy.catch_up_ms is not None:
            return self.row.policy.catch_up_ms
        return self.row.spec.every_ms or 60_000


class Model:
    """The requirements in the plainest words, with a memory of everything."""

    def __init__(self) -> None:
        self.schedules: dict[tuple[str, str], ModelSchedule] = {}
        self.epochs: Counter[int] = Counter()
        self.known: dict[tuple[str, str], int] = {}
        self.issued: list[tuple] = []
        self.skipped: list[tuple] = []
        self.answers: list[str] = []
        self.revoked: list[tuple] = []
        self.ended: list[tuple] = []

    def tick(self, tick: ScheduleTick) -> None:
        self.issued, self.skipped, self.answers = [], [], []
        self.revoked, self.ended = [], []
        self.now = tick.time_ms
        for change in tick.changes:
            self.answers.append(self.change(change.event, tick.settings))
        for key, schedule in list(self.schedules.items()):
            self.settle(key, schedule)

    def settle(self, key, schedule: ModelSchedule) -> None:
        row, now = schedule.row, self.now
        if row.paused:
            return
        due = [s for s in schedule.times(now + row.policy.lead_ms) if s not in schedule.settled]
        late = [s for s in due if s < now]
        for s in due:
            if s >= now or (s == late[-1] and now - s <= schedule.window_ms()):
                self.issued.append((*key, row.epoch, s))
            else:
                self.skipped.append((*key, row.epoch, s))
            schedule.settled.add(s)
        if row.spec.kind == "once":
            at = row.spec.at_ms + offset_ms(row.device_id, row.policy.spread_ms)
            if at < now:
                self.end(key, row)

    def end(self, key, row) -> None:
        del self.schedules[key]
        if not key[1].startswith(REQUEST_PREFIX):
            self.ended.append((*key, row.epoch))

    def epoch(self, device_id: str) -> int:
        self.epochs[ids.shard_of(device_id)] += 1
        return self.epochs[ids.shard_of(device_id)]

    def change(self, event, tick_settings: TickSettings) -> str:
        now = self.now
        request = (event.device_id, event.request_id)
        if request in self.known and now - self.known[request] < tick_settings.request_memory_ms:
            return "known"
        if isinstance(event, CaptureRequested):
            key = (event.device_id, REQUEST_PREFIX + event.request_id)
            if key in self.schedules:
                return "known"
        else:
            key = (event.device_id, event.schedule_id)
        self.known[request] = now
        schedule = self.schedules.get(key)
        row = schedule.row if schedule else None
        if isinstance(event, CaptureRequested):
            return self.request(event, key)
        if isinstance(event, ScheduleUpserted):
            return self.upsert(event, key, schedule, tick_settings)
        if row is None:
            return "refused"
        if isinstance(event, ScheduleCancelled):
            self.epoch(event.device_id)
            self.supersede(key, schedule)
            del self.schedules[key]
            return "accepted"
        pause = isinstance(event, SchedulePaused)
        if row.paused == pause:
            return "accepted"
        epoch = self.epoch(event.device_id)
        if pause:
            self.supersede(key, schedule)
        once = row.spec.kind == "once"
        row = msgspec.structs.replace(
            row, epoch=epoch, paused=pause, starts_at_ms=now if once or pause else now + 1
        )
        self.schedules[key] = ModelSchedule(row)
        at = (row.spec.at_ms or 0) + offset_ms(row.device_id, row.policy.spread_ms)
        if once and not pause and at < now:
            self.skipped.append((*key, epoch, at))
            self.end(key, row)
        return "accepted"

    def upsert(self, event, key, schedule, tick_settings) -> str:
        row = schedule.row if schedule else None
        if row and (row.spec, row.policy) == (event.spec, event.policy):
            return "accepted"
        starts = self.now + (1 if row else tick_settings.notice_ms)
        if event.spec.kind == "once":
            starts = self.now
            if event.spec.at_ms + offset_ms(event.device_id, event.policy.spread_ms) < self.now:
                return "refused"
        elif schedule and not row.paused:
            starts = self.after_the_same(event, key, schedule, starts)
        epoch = self.epoch(event.device_id)
        if schedule:
            self.supersede(key, schedule)
        paused = row.paused if row else False
        self.schedules[key] = ModelSchedule(
            ScheduleState(*key, epoch, event.spec, event.policy, starts, paused)
        )
        return "accepted"

    def after_the_same(self, event, key, old: ModelSchedule, starts: int) -> int:
        """Each nominal time is one epoch's, wherever a change of spread moves it.

        One that the old epoch has settled is not the new one's. One that the old epoch had next,
        and that would be over now in the new one, is the new one's all the same.
        """
        new = ModelSchedule(ScheduleState(*key, 0, event.spec, event.policy, starts, False))
        first = new.times(starts + event.spec.every_ms)[0]
        before = offset_ms(event.device_id, old.row.policy.spread_ms)
        shift = offset_ms(event.device_id, event.policy.spread_ms)
        ahead = [s for s in old.times(starts + (old.row.spec.every_ms or 10**7)) if s >= starts]
        if ahead:
            nominal = ahead[0] - before
            is_time = (nominal - event.spec.phase_ms) % event.spec.every_ms == 0
            if is_time and nominal + shift < starts:
                return nominal + shift
        settled = {s - before for s in old.settled if s <= self.now}
        same = first - shift in settled
        return first + 1 if same else starts

    def request(self, event, key) -> str:
        at = self.now if event.at_ms is None else event.at_ms
        if at < self.now:
            return "refused"
        epoch = self.epoch(event.device_id)
        policy = event.policy
        if event.at_ms is None:
            policy = msgspec.structs.replace(policy, spread_ms=0)
        spec = ScheduleSpec("once", at_ms=at)
        schedule = ModelSchedule(ScheduleState(*key, epoch, spec, policy, self.now, False))
        scheduled = at + offset_ms(event.device_id, policy.spread_ms)
        if scheduled - policy.lead_ms <= self.now:
            self.issued.append((*key, epoch, scheduled))
        else:
            self.schedules[key] = schedule
        return "accepted"

    def supersede(self, key, schedule: ModelSchedule) -> None:
        row = schedule.row
        if not row.paused:
            self.skipped.extend(
                (*key, row.epoch, s) for s in schedule.times(self.now) if s not in schedule.settled
            )
        self.revoked.append((*key, row.epoch))


# --- reading the fold's outputs ---------------------------------------------------------------


def key_of(command: CaptureCommand) -> tuple[str, str, int, int]:
    """The idempotency key, with the request's name where there is no schedule."""
    schedule_id = command.schedule_id or REQUEST_PREFIX + command.request_id
    return (command.device_id, schedule_id, command.epoch, command.scheduled_ms)


def issued(outputs: Outputs) -> list[CaptureCommand]:
    return [c for c in outputs.commands if isinstance(c, CaptureCommand)]


def skipped_times(outputs: Outputs, every_ms) -> list[tuple]:
    times = []
    for d in outputs.decisions:
        if isinstance(d, Skipped):
            step = every_ms(d)
            span = range(d.first_ms, d.last_ms + 1, step) if step else [d.first_ms]
            assert len(span) == d.count
            times.extend((d.device_id, d.schedule_id, d.epoch, s) for s in span)
    return times


def encoded(outputs: Outputs) -> bytes:
    """All outputs as bytes, in their order."""
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
    state.load(
        *([r for (t, _), r in rows if t == name] for name in ("schedules", "shards", "requests"))
    )
    return state


ANSWERS = {"Accepted": "accepted", "Refused": "refused", "AlreadyKnown": "known"}


# --- the tests --------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(worlds)
def test_the_fold_does_what_the_model_does(world):
    """SPEC 2.1, 2.2: every time issued or recorded, once, at the tick where it falls due."""
    state, model = PartitionState(0, 1), Model()
    periods: dict[tuple[str, str, int], int | None] = {}
    for tick in as_ticks(world, notice_ms=300, request_memory_ms=8_000):
        for key, schedule in model.schedules.items():
            periods[*key, schedule.row.epoch] = schedule.row.spec.every_ms
        outputs = advance(state, tick)
        model.tick(tick)
        assert sorted(map(key_of, issued(outputs))) == sorted(model.issued)
        skips = skipped_times(outputs, lambda d: periods.get((d.device_id, d.schedule_id, d.epoch)))
        assert sorted(skips) == sorted(model.skipped)
        answers = [ANSWERS.get(type(d).__name__) for d in outputs.decisions]
        assert [a for a in answers if a] == model.answers
        assert sorted(
            (c.device_id, c.schedule_id, c.epoch)
            for c in outputs.commands
            if isinstance(c, CaptureRevoked)
        ) == sorted(model.revoked)
        assert sorted(
            (d.device_id, d.schedule_id, d.epoch) for d in outputs.decisions if isinstance(d, Ended)
        ) == sorted(model.ended)
        assert state.schedule_count == len(model.schedules)


@settings(max_examples=300, deadline=None)
@given(worlds, st.sampled_from([1, 2, 3, 10_000]))
def test_a_restart_at_every_tick_changes_nothing(world, max_fires):
    """SPEC 1.9, 2.4: the wheel is a cache; its rows say it all, also amid a backlog."""
    steady, tables = PartitionState(0, 1), {}
    for tick in as_ticks(world, max_fires=max_fires, request_memory_ms=8_000):
        expected = advance(steady, tick)
        state = rebuilt(tables)
        before_ms = state.next_due_ms()
        outputs = advance(state, tick)
        assert encoded(outputs) == encoded(expected)
        if before_ms is None or before_ms > tick.time_ms:
            fired = [c for c in issued(outputs) if not tick.changes]
            assert fired == []
        assert state.next_due_ms() == steady.next_due_ms()
        write(tables, outputs)


@settings(max_examples=300, deadline=None)
@given(worlds, st.integers(1, 4), st.data())
def test_a_bounded_tick_leaves_nothing_behind(world, max_fires, data):
    """What a tick may not issue stays due; drained, the same times were issued as ever."""
    state, tables, model = PartitionState(0, 1), {}, Model()
    seen: Counter[tuple] = Counter()
    expected: Counter[tuple] = Counter()
    for tick in as_ticks(world, max_fires=max_fires, notice_ms=300):
        model.tick(tick)
        expected.update(model.issued)
        outputs = advance(state, tick)
        write(tables, outputs)
        seen.update(map(key_of, issued(outputs)))
        turns = 0
        while state.next_due_ms() is not None and state.next_due_ms() <= tick.time_ms:
            turns += 1
            assert turns < 50
            if data.draw(st.booleans(), label="crash"):
                state = rebuilt(tables)
            again = msgspec.structs.replace(tick, changes=())
            outputs = advance(state, again)
            assert len(outputs.rows) > 1, "a turn that serves no shard would repeat for ever"
            write(tables, outputs)
            seen.update(map(key_of, issued(outputs)))
        assert ("shards", b"backlog") not in tables
        assert seen == expected
    assert all(count == 1 for count in seen.values())


@settings(max_examples=200, deadline=None)
@given(worlds, st.integers(1, 3), st.data())
def test_a_wheel_that_is_always_behind_is_never_early_twice_or_silent(world, max_fires, data):
    """Time goes on while shards are left over, and workers crash: none lost, none doubled."""
    state, tables = PartitionState(0, 1), {}
    rows: dict[tuple[str, str, int], ScheduleState] = {}
    settled: Counter[tuple] = Counter()
    ticks = list(as_ticks(world, max_fires=max_fires))
    last = ticks[-1]
    ticks += [msgspec.structs.replace(last, changes=())] * 60
    for tick in ticks:
        if data.draw(st.integers(0, 3), label="crash") == 0:
            state = rebuilt(tables)
        outputs = advance(state, tick)
        write(tables, outputs)
        for (table, _), row in outputs.rows.items():
            if table == "schedules" and row is not None:
                rows[row.device_id, row.schedule_id, row.epoch] = row
        for command in issued(outputs):
            settled[key_of(command)] += 1
            row = rows.get(key_of(command)[:3])
            lead_ms = 5_000 if row is None else row.policy.lead_ms
            assert command.scheduled_ms - lead_ms <= tick.time_ms
            assert command.not_after_ms >= tick.time_ms
            assert row is None or command.scheduled_ms >= row.starts_at_ms
        settled.update(
            skipped_times(
                outputs,
                lambda d: (
                    rows[d.device_id, d.schedule_id, d.epoch].spec.every_ms
                    if (d.device_id, d.schedule_id, d.epoch) in rows
                    else None
                ),
            )
        )
    assert all(count == 1 for count in settled.values())
    assert ("shards", b"backlog") not in tables
    for (table, _), row in tables.items():
        if table == "schedules" and not row.paused:
            key = (row.device_id, row.schedule_id, row.epoch)
            for s in ModelSchedule(row).times(last.time_ms + row.policy.lead_ms):
                assert settled[*key, s] == 1


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_fires_and_ids_do_not_depend_on_the_number_of_partitions(world):
    """DESIGN 'Shards', SPEC 1.2: ids, capacity and fires belong to shards."""

    def run(partitions: int):
        commands, decisions, rows = [], [], {}
        for partition in sorted({ids.partition_of(d, partitions) for d in DEVICES}):
            state = PartitionState(partition, partitions)
            for tick in as_ticks(world, partitions, partition):
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

    assert run(8) == run(16) == run(1024) == run(1)


@settings(max_examples=100, deadline=None)
@given(worlds)
def test_ids_rise_within_a_shard_and_are_unique(world):
    """SPEC 2.2: time-ordered, no coordinator."""
    state = PartitionState(0, 1)
    last: dict[int, int] = {}
    for tick in as_ticks(world):
        for command in issued(advance(state, tick)):
            shard = ids.command_shard(command.command_id)
            assert shard == ids.shard_of(command.device_id)
            assert command.command_id > last.get(shard, 0)
            assert ids.command_time_ms(command.command_id) >= tick.time_ms
            last[shard] = command.command_id


def upsert(request_id: str, at: int, **policy) -> ScheduleUpserted:
    spec = ScheduleSpec("interval", every_ms=at)
    return ScheduleUpserted(request_id, "cam-1", "a", spec, CapturePolicy(**policy), 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 1_000, 40_000]), min_size=3, max_size=8))
@example([0, 0, 0])
def test_the_same_log_gives_the_same_bytes(gaps_ms):
    """SPEC 1.10: a replay of the ticks gives what was written, byte for byte."""
    world = [(gap, [upsert(f"r{i}", 1_000 * (i + 1))]) for i, gap in enumerate(gaps_ms)]
    runs = []
    for _ in range(2):
        state = PartitionState(0, 1)
        runs.append([encoded(advance(state, tick)) for tick in as_ticks(world)])
    assert runs[0] == runs[1]


def test_the_checkers_see_a_doubled_fire():
    """The checks above can fail: a shard's clock set back issues its times again."""
    state, tables = PartitionState(0, 1), {}
    world = [(0, [upsert("r1", 1_000, lead_ms=0)]), (5_000, []), (1_000, [])]
    seen: Counter[tuple] = Counter()
    for tick in as_ticks(world):
        outputs = advance(state, tick)
        write(tables, outputs)
        seen.update(map(key_of, issued(outputs)))
        for key, row in list(tables.items()):
            if isinstance(row, ShardState):
                tables[key] = msgspec.structs.replace(row, clock_ms=tick.time_ms - 1_500)
        state = rebuilt(tables)
    assert max(seen.values()) > 1
    assert any(
        isinstance(d, Accepted)
        for d in advance(PartitionState(0, 1), next(iter(as_ticks(world)))).decisions
    )
