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
  tick issues more than ``max_fires`` only where one shard alone has more. Oldest C first, so a
  partition that is always behind serves its shards in turn.
- What a *change* makes due at once is issued with the change: all times with s - lead <= C, at
  most ``MAX_AHEAD`` + 1 of them. Those in (C, T] are the shard's ordinary share of the tick.

When a schedule is copied to another partition count, its shard's C (as computed above) goes with
it as the clock of the shard's row.

Order within a tick
-------------------
Changes in their order: for each its decision, then what it revokes, then what it issues. Then the
shards by (C, number), each: its decisions by key (device id, NUL, schedule id); its commands by
(scheduled time, key). Command ids are given in that order, so within a shard they do not depend on
the number of partitions.

Choices of the fold
-------------------
- A new schedule starts ``notice_ms`` after its tick; a changed or resumed one at T + 1: the old
  epoch's commands that are not armed are revoked and their times are issued again.
- ``once`` starts at T. Its row stays until its time is over, so that it can be cancelled while its
  command waits for the shutter, and so that publishing it again changes nothing.
- An upsert equal to the row changes nothing and answers with the row's epoch. An upsert does not
  unpause: a paused schedule stays paused with its new spec. Times that pass while a schedule is
  paused are not reported one by one: the pause is the record.
- Times that were due but not issued when a change superseded them (a worker was down) are Skipped.
- A CaptureRequested that is not due yet waits as a ``once`` named "request/" + request id.
- Requests that fail ``validate`` are refused but not remembered: their ids make no row.

Worked example: every 10 s, lead 5 s, notice 1 s, ticks each second. Accepted at T = 2 s with C =
1 s: starts_at = 3 s, first s = 10 s, due at 5 s. The tick at 5 s issues it; the one at 15 s the
next. Cancelled at 16 s: CaptureRevoked (epoch 1) reaches the executor 4 s before the shutter.

Cost: MEASURED_HERE
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from schemas.records import (
    Accepted,
    AlreadyKnown,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureRevoked,
    Decision,
    Ended,
    Record,
    Refused,
    RequestState,
    ScheduleCancelled,
    ScheduleEvent,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleState,
    ScheduleTick,
    ScheduleUpserted,
    ShardState,
    Skipped,
)
from streams.core import ids
from streams.core.misfire import Missed, late_intervals, late_once
from streams.core.partition import (
    BACKLOG_KEY,
    BACKLOG_SHARD,
    CLOCK_KEY,
    CLOCK_SHARD,
    PartitionState,
    Shard,
    schedule_key,
)
from streams.core.requests import request_key
from streams.core.schedule import (
    HORIZON_MS,
    KINDS,
    REQUEST_PREFIX,
    catch_up_window_ms,
    first_scheduled_at_or_after,
    not_after_ms,
    validate,
)
from streams.core.spread import offset_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RULES_VERSION", "Outputs", "PartitionState", "advance"]

RULES_VERSION = 1
"""Version of the rules of this module; a tick names the one it was folded by."""
FORGET_MAX = 1_000
"""The most request ids one tick forgets, so that a step stays short."""

Table = str
Rows = dict[tuple[Table, bytes], Record | None]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a tick gives to the world. ``rows``: by table and key; null deletes the row."""

    decisions: list[Decision]
    commands: list[CaptureCommand | CaptureRevoked]
    rows: Rows


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
    if tick.rules_version != RULES_VERSION:
        raise ValueError(f"rules version {tick.rules_version} is not {RULES_VERSION}")
    if tick.time_ms < state.time_ms:
        raise ValueError(f"tick time {tick.time_ms} is before the clock {state.time_ms}")
    step = _Step(state, tick)
    for change in tick.changes:
        step.change(change.event)
    step.fire()
    step.finish()
    return Outputs(step.decisions, step.commands, step.rows)
