"""The fold: what one tick of time makes of a partition's schedules. The only thing that decides.

``advance(state, tick)`` reads nothing but its arguments. The same rows and the same ticks give the
same outputs, byte for byte, on any machine, for any number of partitions (SPEC 1.2, 2.1, 2.2).

What holds after every tick
---------------------------
A scheduled time s of a schedule that is not paused falls **due** at s - lead. Every shard has a
time C up to which it has **issued**::

    every s >= starts_at with s - lead <= C was issued as a command or stands in a Skipped;
    of this epoch nothing else was.

So no schedule has a fire state: after a restart its next time is the first s >= starts_at with
s - lead > C, and a fire writes nothing but its shard's counters.

The clocks
----------
- Row ``clock`` (shard -1): the time T of the last tick.
- A tick brings **whole shards** from their C to T, the shards with the oldest C first, until it
  has issued ``max_fires``. As a rule that is all of them; then C = T for every shard, whatever
  its row says. A shard's row holds the C it had when the row was last written.
- Where shards are left over, the row ``backlog`` (shard -2) stands beside: its clock is the oldest
  C of the shards left over, and the C of any shard is the later of that and its own row's clock.
  Shards that were served have written T into their rows. Shards with nothing due count from the
  backlog's clock; they have nothing due since, so nothing is issued twice. The tick that serves
  the last shard deletes the row.
- Cut at a shard, never within one: a position within a shard would have to be written down. So a
  tick issues more than ``max_fires`` where one shard alone has more due; and the last shard it
  serves may go over where a schedule has several times to make up for. Oldest C first, so a
  partition that is always behind serves its shards in turn.
- What a *change* makes due at once is issued with it, beside the bound: all times with
  s - lead <= C, at most ``MAX_AHEAD`` + 1 of them. Those in (C, T] belong to the shard's ordinary
  share of the tick.

When a schedule is copied to another partition count, its shard's C (as computed above) goes with
it as the clock of the shard's row.

Order within a tick
-------------------
Changes in their order: for each its decision, what it revokes, and the command of a request that
is due. Then what started schedules have due up to C, in the order of their last changes. Then the
shards by (C, number), each: its decisions by key (device id, NUL, schedule id); its commands by
(scheduled time, key). Command ids are given in that order, so within a shard they do not depend on
the number of partitions.

Choices of the fold
-------------------
- Other tz data come first (``tz.py``, in slices: ``tz_slices.py``), then facts about devices
  (``facts.py``), then changes, then what is due.
- A new schedule starts ``notice_ms`` after its tick; a changed or resumed one at T + 1: the old
  epoch's commands of times from T + 1 on that are not armed are revoked, and their times are issued
  again. Those of times up to T are late, not void: they stay, unless it is a pause or a cancel. A
  nominal time that a new spread moves over the change is had once (``changes._with_the_same``).
- ``once`` starts at T. Its row stays until its time is over, so that it can be cancelled while its
  command waits for the shutter, and so that publishing it again changes nothing. In the same way
  any schedule without further times (validity over, count reached) ends after its last one: its
  timer is then that of its end, a time after which a recurrence has none.
- An upsert equal to the row changes nothing and answers with the row's epoch. An upsert does not
  unpause: a paused schedule stays paused with its new spec. Times that pass while a schedule is
  paused are not reported one by one: the pause is the record.
- Times that were due but not issued when a change superseded them (a worker was down) are Skipped.
- Late times go by the schedule's policy (``misfire.py``), and what exceeds a shard's capacity is
  moved forward (``herd.py``).
- A CaptureRequested that is not due yet waits as a ``once`` named "request/" + request id.
- Requests that fail ``validate`` are refused but not remembered: their ids make no row.

Worked example: every 10 s, lead 5 s, notice 1 s, ticks each second. Accepted at T = 2 s with C =
1 s: starts_at = 3 s, first s = 10 s, due at 5 s. The tick at 5 s issues it; the one at 15 s the
next. Cancelled at 16 s: CaptureRevoked (epoch 1) reaches the executor 4 s before the shutter.

Cost (CPython 3.11, a shared core): 4 us a fire where many fall together, 8 us where a tick of one
second finds 333 fires in 280 shards (100,000 schedules, 300 s, spread); 20 us an accepted change;
6 to 7 us a schedule to rebuild; 350 bytes a schedule in memory, of which the wheel has 12.5.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from streams.core import tz, tz_slices
from streams.core.changes import change, issue_started
from streams.core.facts import learn
from streams.core.misfire import late_intervals, late_times, reason_of
from streams.core.partition import (
    BACKLOG_KEY,
    BACKLOG_SHARD,
    CLOCK_KEY,
    CLOCK_SHARD,
    PartitionState,
    Shard,
)
from streams.core.spread import offset_ms
from streams.core.step import SINCE_RULES, Outputs, Step, shard_row
from streams.core.times import Times, catch_up_window_ms

if TYPE_CHECKING:
    from schemas.records import ScheduleState, ScheduleTick
    from streams.core.herd import Fire
    from streams.core.recurrence import Recurrence

__all__ = ["RULES_VERSION", "Outputs", "PartitionState", "advance"]

RULES_VERSION = 5
"""Version of the rules of this module; a tick names the one it was folded by.

5, from 4: an upgrade of the tz data moves some schedules of each shard in a tick, and the ticks
after it go on (``tz_slices.py``); it moved all in one. And a change of spread leaves out all
nominal times that are over by the old epoch, be it paused; it left out the last one, and one of
before, which a longer period still had ahead, was photographed twice.

4, from 3: calendar rules of hours and less, of weeks, with EXDATE and RDATE are taken; a tick of
another tz version than the one before is the upgrade, and the fold acts on it (``tz.py``).

3, from 2: where a changed schedule takes a late nominal time in and has had others of its own since
(its new period is shorter than the spread), all of these go by the misfire policy. They were issued
all at once, or forgotten without a word.

2, from 1: a change spares commands whose time is over (``CaptureRevoked.from_ms``) and leaves out a
nominal time that the old epoch has had; a row says who paused it. The policies, facts and herds
came with it, and are off by default.
"""
KNOWN_RULES = (1, 2, 3, 4, 5)
"""Ticks of these versions fold as they did when they were written."""
FORGET_MAX = 1_000
"""The most request ids one tick forgets, so that a step stays short."""


def advance(state: PartitionState, tick: ScheduleTick) -> Outputs:
    """Fold one tick into ``state``, which is changed in place, and return the outputs.

    ValueError, before anything is changed, for a tick that cannot follow: of another partition or
    other rules, or earlier than the state's clock. A tick of an equal time moves no timer; its
    changes apply, and what the tick before left over is issued.
    """
    if (tick.partition, tick.partitions) != (state.partition, state.partitions):
        raise ValueError(
            f"a tick of partition {tick.partition} of {tick.partitions} for partition"
            f" {state.partition} of {state.partitions}"
        )
    if tick.rules_version not in KNOWN_RULES:
        raise ValueError(f"rules version {tick.rules_version} is none of {KNOWN_RULES}")
    if tick.time_ms < state.time_ms:
        raise ValueError(f"tick time {tick.time_ms} is before the clock {state.time_ms}")
    step = Step(state, tick.time_ms, tick.settings, tick.rules_version)
    if tick.rules_version >= tz_slices.SINCE_RULES or state.behind is not None:
        tz_slices.follow(step, tick.tz_version)
    elif tick.rules_version >= SINCE_RULES:
        tz.follow(step, tick.tz_version)
    for fact in tick.facts:
        learn(step, fact)
    for entry in tick.changes:
        change(step, entry.event)
    issue_started(step)
    _fire(step)
    _forget(step)
    _write_clocks(step)
    return Outputs(step.decisions, step.commands, step.rows)


def _fire(step: Step) -> None:
    """Bring shards up to the tick's time, those behind first, as many as the bound allows."""
    state = step.state
    state.take_due(step.now_ms)
    bound = step.settings.max_fires
    done = len(step.commands)
    served = False
    order = sorted(state.ready)
    if state.floor_ms != state.time_ms:  # a backlog; without one every C is the same
        order.sort(key=state.issued_ms)
    for number in order:
        if served and done + len(state.ready[number]) > bound:
            break
        done += _fire_shard(step, number)
        served = True


def _fire_shard(step: Step, number: int) -> int:
    """Settle all that is due of a shard; return how much work that was, in records or timers."""
    state = step.state
    before = len(step.decisions)
    indices = sorted(state.ready.pop(number), key=state.keys.__getitem__)
    fires: list[Fire] = []
    for index in indices:
        row, recurrence = state.row(index), state.recurrences[index]
        if recurrence.period_ms is not None and not row.policy.jitter_ms:  # times.is_plain, inlined
            _settle_interval(step, index, row, recurrence, fires)
        else:
            _settle(step, index, row, recurrence, fires)
    fires.sort(key=itemgetter(0))  # stable: equal times stay in the order of their keys
    if fires:
        step.fire(number, fires)
    step.shard(number).clock_ms = step.now_ms
    return max(len(indices), len(fires) + len(step.decisions) - before)


def _settle_interval(
    step: Step, index: int, row: ScheduleState, recurrence: Recurrence, fires: list[Fire]
) -> None:
    """Collect the times of a plain interval that are due, late ones by the misfire policy."""
    wheel, now_ms, policy = step.state.wheel, step.now_ms, row.policy
    lead_ms, period_ms = policy.lead_ms, recurrence.period_ms or 0
    shift_ms = offset_ms(row.device_id, policy.spread_ms)
    scheduled_ms = wheel.due[index] + lead_ms
    if scheduled_ms < now_ms:
        if policy.misfire != "latest":
            _settle(step, index, row, recurrence, fires)
            return
        window_ms = catch_up_window_ms(policy, period_ms)
        late = late_intervals(scheduled_ms, period_ms, now_ms, window_ms)
        if late.skipped_count:
            step.skip(
                row,
                late.skipped_first_ms,
                late.skipped_last_ms,
                late.skipped_count,
                reason_of("latest", window_ms, issued=late.issue_ms is not None),
            )
        if late.issue_ms is not None:
            fires.append((late.issue_ms, row, late.issue_ms - shift_ms, recurrence))
        scheduled_ms = late.next_ms
    while scheduled_ms - lead_ms <= now_ms:
        fires.append((scheduled_ms, row, scheduled_ms - shift_ms, recurrence))
        scheduled_ms += period_ms
    wheel.insert(index, scheduled_ms - lead_ms)


def _settle(
    step: Step, index: int, row: ScheduleState, recurrence: Recurrence, fires: list[Fire]
) -> None:
    """Collect the times of any schedule that are due, or end one that has none any more."""
    state, now_ms, policy = step.state, step.now_ms, row.policy
    lead_ms, times = policy.lead_ms, Times.of(recurrence, row)
    scheduled_ms = times.at_or_after(state.wheel.due[index] + lead_ms)
    if scheduled_ms is not None and scheduled_ms < now_ms:
        window_ms = catch_up_window_ms(policy, recurrence.typical_gap_ms)
        late = late_times(times, scheduled_ms, now_ms, window_ms, policy.misfire)
        why = reason_of(policy.misfire, window_ms, issued=bool(late.issue))
        for first_ms, last_ms in late.skipped:
            step.skip_times(times, row, first_ms, last_ms, why)
        fires += [(at_ms, row, times.nominal(at_ms), recurrence) for at_ms in late.issue]
        scheduled_ms = times.at_or_after(now_ms)
    while scheduled_ms is not None and scheduled_ms - lead_ms <= now_ms:
        fires.append((scheduled_ms, row, times.nominal(scheduled_ms), recurrence))
        scheduled_ms = times.at_or_after(scheduled_ms + 1)
    after_ms = max(row.starts_at_ms, now_ms + lead_ms + 1)
    if scheduled_ms is None and state.end_ms(index, row, after_ms) <= now_ms:
        step.end(index, row)
    else:
        state.set_timer(index, row, scheduled_ms, after_ms)


def _forget(step: Step) -> None:
    """Delete request rows whose memory is over."""
    memory_ms = step.settings.request_memory_ms
    for key in step.state.requests.forget(step.now_ms, memory_ms, FORGET_MAX):
        step.rows["requests", key.encode()] = None


def _write_clocks(step: Step) -> None:
    """Move the clocks (see 'The clocks' above) and write the rows of the shards that changed."""
    state, rows = step.state, step.rows
    had_backlog = state.floor_ms != state.time_ms
    state.time_ms = step.now_ms
    state.floor_ms = min(map(state.issued_ms, state.ready), default=step.now_ms)
    for number in sorted(step.touched):
        shard = state.shards[number]
        shard.clock_ms = max(shard.clock_ms, state.floor_ms)
        rows["shards", b"%d" % number] = shard_row(number, shard)
    rows["shards", CLOCK_KEY] = shard_row(CLOCK_SHARD, Shard(step.now_ms))
    if state.ready:
        rows["shards", BACKLOG_KEY] = shard_row(BACKLOG_SHARD, Shard(state.floor_ms))
    elif had_backlog:
        rows["shards", BACKLOG_KEY] = None
