"""Quiet ticks that are folded together make what the fold makes of each (DESIGN 'Replay')."""

from __future__ import annotations

import random

import pytest
from audit_world import CODEC, START_MS

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    DeviceFact,
    Exclusion,
    ScheduleCancelled,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from streams.core.recurrence import TZ_VERSION
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.replay.audit_quiet import QuietFold
from streams.replay.audit_state import rows_of

PARTITIONS = 256
"""So that the four shards of partition 0 have several devices each."""


def devices(count):
    """Ids of devices of partition 0."""
    from streams.core import ids

    found, number = [], 0
    while len(found) < count:
        number += 1
        name = f"cam-{number}{'-é' if number % 5 == 0 else ''}"
        if ids.partition_of(name, PARTITIONS) == 0:
            found.append(name)
    return found


def tick(time_ms, *events, facts=(), **settings):
    made = {"notice_ms": 500, "request_memory_ms": 120_000, **settings}
    changes = tuple(TickChange(n, event) for n, event in enumerate(events))
    return ScheduleTick(
        0, PARTITIONS, time_ms, RULES_VERSION, TZ_VERSION, TickSettings(**made), changes, facts
    )


def history(seed):
    """Ticks of a busy partition: all kinds of schedules, gaps, bursts, repeats, bounds."""
    chance, names = random.Random(seed), devices(24)
    now_ms, ticks = START_MS, []
    policies = [
        CapturePolicy(lead_ms=2_000), CapturePolicy(lead_ms=5_000, spread_ms=10_000),
        CapturePolicy(catch_up_ms=90_000, priority=3, quality="mark", keep_ms=86_400_000),
        CapturePolicy(lead_ms=900, misfire="all", image="label width=1280", overlap="skip"),
        CapturePolicy(deadline_ms=4_000),
    ]  # fmt: skip
    specs = [ScheduleSpec("interval", ms) for ms in (10_000, 10_000, 15_000, 60_000)]
    if seed % 4 < 2:  # one whose gaps are shorter than the spread of some; one that ends
        policies.append(CapturePolicy(lead_ms=2_000, spread_ms=150_000))
        specs += [
            ScheduleSpec("cron", expression="*/3,1 * * * *"),
            ScheduleSpec("cron", expression="* * * * *", exclude=(Exclusion(hours="08:02-08:04"),)),
            ScheduleSpec("interval", 10_000, until_ms=START_MS + 90_000),
        ]
    if seed % 2:
        policies.append(CapturePolicy(jitter_ms=2_000))
        specs += [
            ScheduleSpec("interval", 10_000, max_count=3),
            ScheduleSpec("cron", expression="* * * * *"),
        ]
    settings = {"max_fires": 8} if seed % 3 == 0 else {}
    if seed % 7 == 6:
        settings["capacity_per_shard"] = 2
    for number in range(160):
        now_ms += chance.choice((1_000,) * 30 + (100, 0, 2_500, 45_000))
        events, facts = [], ()
        if number % 40 == 0 or chance.random() < 0.03:
            for name in chance.sample(names, 12 if number == 0 else 2):
                request = f"r-{number}-{name}"
                schedule = chance.choice("abc")
                events.append(
                    chance.choice(
                        [
                            ScheduleUpserted(
                                request, name, schedule, chance.choice(specs),
                                chance.choice(policies), now_ms,
                            ),
                        ] * 5 + [
                            ScheduleCancelled(request, name, schedule, now_ms),
                            CaptureRequested(request, name, now_ms + 9_000, policies[0], now_ms),
                        ]
                    )
                )  # fmt: skip
        if chance.random() < 0.02:
            facts = (DeviceFact(chance.choice(names), "place", 48.0, 2.0),)
        ticks.append(tick(now_ms, *events, facts=facts, **settings))
    return ticks


def one_by_one(ticks):
    state, made = PartitionState(0, PARTITIONS), []
    for one in ticks:
        made += map(CODEC.encode, advance(state, one).commands)
    return made, list(rows_of(state, CODEC))


def together(ticks, most):
    state, made, folded = PartitionState(0, PARTITIONS), [], 0
    quiet = QuietFold(state, CODEC)
    at = 0
    while at < len(ticks):
        run = []
        for one in ticks[at : at + most]:
            before_ms = run[-1].time_ms if run else state.time_ms
            if one.changes or one.facts or one.time_ms <= before_ms:
                break
            run.append(one)
        count, fires = quiet.fold(run) if run else (0, None)
        folded += count
        if fires is not None:
            data = fires.data.tobytes()
            made += [
                data[start : start + size]
                for start, size in zip(fires.starts.tolist(), fires.sizes.tolist(), strict=True)
            ]
        if not count:
            outputs = advance(state, ticks[at])
            quiet.changed(outputs)
            made += map(CODEC.encode, outputs.commands)
        at += count or 1
    return made, list(rows_of(state, CODEC)), folded


@pytest.mark.parametrize("seed", range(28))
def test_a_run_makes_what_its_ticks_make(seed):
    """The same commands, byte for byte and in order, and the same state."""
    ticks = history(seed)
    made, rows = one_by_one(ticks)
    assert len(made) > 50
    for most in (1, 7, 64):
        mine, mine_rows, folded = together(ticks, most)
        assert mine == made
        assert mine_rows == rows
        if seed % 7 == 6:
            assert folded == 0, "a bound on capacity is the fold's"
        else:
            assert folded > (100 if seed % 2 == 0 and seed % 3 else 0)


def test_a_shift_is_cut_where_it_would_reach_the_next_occurrence():
    """At 9:00 and 9:01, of a schedule that is due every three minutes and is spread over 150 s."""
    spec = ScheduleSpec("cron", expression="*/3,1 * * * *")
    policy = CapturePolicy(lead_ms=2_000, spread_ms=150_000)
    events = [
        ScheduleUpserted(f"r-{name}", name, "s", spec, policy, START_MS) for name in devices(9)
    ]
    at_ms = START_MS + 57 * 60_000
    ticks = [tick(at_ms, *events)] + [tick(at_ms + 1_000 * n) for n in range(1, 600)]
    made, rows = one_by_one(ticks)
    mine, mine_rows, folded = together(ticks, 256)
    assert mine == made
    assert mine_rows == rows
    assert folded == 599
    nine_ms = START_MS + 60 * 60_000
    assert any(CODEC.decode(one).scheduled_ms == nine_ms + 60_000 - 1 for one in made)


def test_a_long_time_without_a_tick_is_not_worked_out_in_columns():
    """A partition that stood still for a month has 260,000 times of each schedule to give up."""
    state = PartitionState(0, PARTITIONS)
    spec, policy = ScheduleSpec("interval", 10_000), CapturePolicy()
    events = [
        ScheduleUpserted(f"r-{name}", name, "s", spec, policy, START_MS) for name in devices(9)
    ]
    advance(state, tick(START_MS, *events))
    quiet = QuietFold(state, CODEC)
    later_ms = START_MS + 30 * 86_400_000
    assert quiet.fold([tick(START_MS + 1_000), tick(later_ms)])[0] == 1
    assert quiet.fold([tick(later_ms)]) == (0, None)
    assert len(advance(state, tick(later_ms)).decisions) == 9


def test_what_a_result_repeats_is_counted():
    """The first seven fields of a command, which its result begins with."""
    state = PartitionState(0, PARTITIONS)
    advance(
        state,
        tick(
            START_MS,
            ScheduleUpserted(
                "r", devices(1)[0], "s", ScheduleSpec("interval", 10_000), CapturePolicy(), START_MS
            ),
        ),
    )
    _, fires = QuietFold(state, CODEC).fold([tick(START_MS + 1_000 * n) for n in range(1, 30)])
    data = fires.data.tobytes()
    command = CODEC.decode(data[: int(fires.sizes[0])])
    end = 5 + int(fires.prefixes[0])
    assert data[end : end + 6] == CODEC.table("long")[command.not_after_ms]
    assert fires.timeout_ms[0] == command.capture_timeout_ms
    assert (fires.not_after_ms[0], fires.issued_ms[0]) == (
        command.not_after_ms, command.issued_at_ms,
    )  # fmt: skip
