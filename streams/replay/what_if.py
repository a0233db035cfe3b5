"""The past under another policy: a range of ticks folded twice, as it was and as it might be.

Both folds begin with the same state and have the same ticks: the same times, events and facts. The
second has the policy laid over (``what_if_policy.py``): over the events of the range, over the
settings of its ticks, and over the schedules that stand already as the range begins. What that
last one means can be asked in two ways:

* **published** (the default): as if someone had published each of those schedules again, with its
  new policy, at the range's first tick. The rules themselves then decide what becomes of it, so
  the moment of the change is part of the answer: commands that are out and not armed are revoked, a
  nominal time that moves over the change is had once, a ``count`` begins anew, and a schedule that
  would not take the policy (a spread longer than its period) is refused and stays as it was.
* **always**: as if the policy had stood since the log began. The second fold begins there, too.

**What counts** is captures by their *nominal* time, ``from`` <= nominal < ``to``: those whose
commands were out before the range began are in, and those that a policy moves beyond its end are
not lost. To see these, both folds go on after the range with made-up ticks, a second apart, in
which nothing is asked for, until every such time has passed. Where a log ends before ``to`` the
same made-up ticks show what is to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.errors import UsageError
from schemas.records import (
    Accepted,
    AutoPaused,
    CaptureCommand,
    CaptureRequested,
    Ended,
    Refused,
    ScheduleState,
    ScheduleTick,
    ScheduleUpserted,
    Skipped,
    TickChange,
)
from streams.core.schedule import REQUEST_PREFIX
from streams.replay.refold import Refold, fold_to, ticks_of
from streams.replay.what_if_diff import Accounting, Difference, Example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.codec import Codec
    from schemas.records import (
        CapturePolicy,
        CaptureRevoked,
        Decision,
        ScheduleEvent,
    )
    from streams.core.shard import Outputs
    from streams.replay.log import Log
    from streams.replay.start import Began, ReadRows
    from streams.replay.what_if_policy import WhatIf

    Commands = list[CaptureCommand | CaptureRevoked]
    Publish = Callable[[ScheduleState, CapturePolicy, str], ScheduleEvent]
    """Makes the event by which upstream would have published a schedule: the schedule as it
    stands, its policy, a request id."""

REQUEST: Final = "what-if/"
"""Begins the request ids of what the comparison itself publishes."""
STEP_MS: Final = 1_000
"""Between two made-up ticks."""
TELL_TICKS: Final = 1_000
REFUSED: Final = "refused"


@dataclass(slots=True)
class PartitionDifference:
    """What differs in one partition."""

    partition: int
    difference: Difference
    ticks: int = 0
    """Of the range."""
    before: int = 0
    """Ticks that were folded to come to it."""
    began: Began | None = None
    """Where these began, on the side of the past."""
    made_up: int = 0
    changed: int = 0
    """Schedules that stood as the range began and took another policy."""
    refused: int = 0
    """Those that would not take it."""


class _Comparison:
    """One partition being folded twice."""

    def __init__(self, partition: int, policy: WhatIf, from_ms: int, to_ms: int) -> None:
        self._policy = policy
        self._from_ms, self._to_ms = from_ms, to_ms
        self.found = PartitionDifference(partition, Difference())
        self.out: Commands = []
        """Commands that were out as the range began, and what was revoked of them."""
        self._accounting: Accounting | None = None
        self._last: ScheduleTick | None = None

    # -- before the range ------------------------------------------------------------------------

    def seen(self, tick: ScheduleTick, outputs: Outputs) -> None:
        """Keep the commands of a tick before the range whose times lie in it."""
        self._last = tick
        _keep(self.out, outputs.commands, self._from_ms)

    # -- the range -------------------------------------------------------------------------------

    def begin(self, past: Refold, other: Refold, out: Commands) -> None:
        """Count what was out already; ``out``: the same of the other side."""
        self.found.before, self.found.began = past.ticks, past.began
        self._accounting = Accounting(self._from_ms, self._to_ms)
        for fold in (past, other):
            for row in fold.rows.values():
                if isinstance(row, ScheduleState):
                    self._widen(row.policy, self._changed(row))
        self._accounting.issued(False, self.out)
        self._accounting.issued(True, out)

    def _widen(self, *policies: CapturePolicy) -> None:
        """Note how far these can move a time."""
        for one in policies:
            window_ms = one.spread_ms + one.jitter_ms + one.tolerance_ms
            self.accounting.reach_ms = max(self.accounting.reach_ms, window_ms)

    def _changed(self, row: ScheduleState) -> CapturePolicy:
        schedule_id = "" if row.schedule_id.startswith(REQUEST_PREFIX) else row.schedule_id
        return self._policy.policy(row.device_id, schedule_id, row.policy)

    @property
    def accounting(self) -> Accounting:
        assert self._accounting is not None
        return self._accounting

    def published(self, fold: Refold, publish: Publish) -> tuple[TickChange, ...]:
        """Return the changes by which the schedules that stand take the policy."""
        changes: list[TickChange] = []
        for (table, _), row in sorted(fold.rows.items()):
            if table != "schedules" or not isinstance(row, ScheduleState):
                continue
            if row.schedule_id.startswith(REQUEST_PREFIX):
                continue  # a request is asked once; it stands as it was asked
            policy = self._changed(row)
            if policy != row.policy:
                changes.append(TickChange(0, publish(row, policy, REQUEST + row.schedule_id)))
        return tuple(changes)

    def step(
        self, tick: ScheduleTick, past: Outputs, then: Outputs, *, made_up: bool = False
    ) -> None:
        """Count what both folds made of a tick."""
        self._last = tick
        accounting = self.accounting
        for change in tick.changes:
            if isinstance(change.event, ScheduleUpserted | CaptureRequested):
                changed = self._policy.event(change.event)
                self._widen(change.event.policy, getattr(changed, "policy", change.event.policy))
        for after, outputs in ((False, past), (True, then)):
            accounting.issued(after, outputs.commands)
            if not made_up:
                for decision in outputs.decisions:
                    self._decided(after, decision)
        accounting.pass_to(tick.time_ms)
        if made_up:
            self.found.made_up += 1
        else:
            self.found.ticks += 1

    def _decided(self, after: bool, decision: Decision) -> None:
        side = self.accounting.side(after)
        ours = getattr(decision, "request_id", "").startswith(REQUEST)
        if isinstance(decision, Skipped):
            self.accounting.skipped(after, decision)
        elif isinstance(decision, Accepted):
            if ours:
                self.found.changed += 1
            else:
                side.accepted += 1
        elif isinstance(decision, Refused):
            if ours:
                self._refused(decision)
            else:
                side.refused[decision.code] += 1
        elif isinstance(decision, AutoPaused):
            side.paused += 1
        elif isinstance(decision, Ended):
            side.ended += 1

    def _refused(self, decision: Refused) -> None:
        self.found.refused += 1
        self.accounting.found.example(
            REFUSED,
            Example(
                decision.device_id,
                decision.schedule_id,
                "",
                decision.tick_time_ms,
                None,
                None,
                decision.reason,
            ),
        )

    # -- after it --------------------------------------------------------------------------------

    def made_up(self, past: Refold, other: Refold) -> Iterator[ScheduleTick]:
        """Yield ticks until every nominal time of the range has passed on both sides."""
        last = self._last
        if last is None:
            return
        until_ms = self._to_ms + self.accounting.reach_ms + STEP_MS
        bare = msgspec.structs.replace(last, changes=(), facts=(), clock=None)
        time_ms = last.time_ms
        while time_ms < until_ms:
            waits = past.state.ready or other.state.ready
            time_ms = time_ms if waits else min(time_ms + STEP_MS, until_ms)
            yield msgspec.structs.replace(bare, time_ms=time_ms)


def _keep(
    out: Commands,
    commands: Commands,
    from_ms: int,
) -> None:
    for command in commands:
        if isinstance(command, CaptureCommand):
            if command.nominal_ms >= from_ms:
                out.append(command)
        elif out:
            out.append(command)


def what_if(
    log: Log,
    partition: int,
    codec: Codec,
    policy: WhatIf,
    from_ms: int,
    to_ms: int,
    publish: Publish,
    *,
    always: bool = False,
    tell: Callable[[int, int], None] = lambda _ticks, _time_ms: None,
    read_rows: ReadRows | None = None,
) -> PartitionDifference:
    """Fold the ticks with ``from_ms`` <= time < ``to_ms`` as they were and under ``policy``.

    ``publish`` makes events as upstream does; ``tell`` is told now and then how many ticks were
    folded since, and the time of the last one; ``read_rows`` reads the rows of the snapshot that
    the past begins with. Raises :class:`UsageError` where the range has no tick, or where the log
    does not reach back far enough.
    """
    if from_ms >= to_ms:
        raise UsageError("The range is empty: its beginning must lie before its end.")
    work = _Comparison(partition, policy, from_ms, to_ms)
    past, following = fold_to(log, partition, codec, from_ms, work.seen, read_rows=read_rows)
    tell(past.ticks, from_ms)
    first: tuple[TickChange, ...] = ()
    if always:
        other, out = _always(log, partition, codec, policy, from_ms)
    else:
        other, out = past.fork(), work.out
        first = work.published(other, publish)
    work.begin(past, other, out)
    for _, tick in ticks_of(log, partition, codec, following, to_ms):
        work.step(tick, past.apply(tick), other.apply(policy.tick(tick, first)))
        first = ()
        if work.found.ticks % TELL_TICKS == 0:
            tell(TELL_TICKS, tick.time_ms)
    tell(work.found.ticks % TELL_TICKS, to_ms)
    if not work.found.ticks:
        return work.found
    for tick in work.made_up(past, other):
        work.step(tick, past.apply(tick), other.apply(policy.tick(tick)), made_up=True)
    work.found.difference = work.accounting.close()
    return work.found


def _always(
    log: Log, partition: int, codec: Codec, policy: WhatIf, from_ms: int
) -> tuple[Refold, Commands]:
    """Fold what lies before the range under the policy, too."""
    if log.firsts("schedule.ticks")[partition]:
        raise UsageError("'Always' needs the log from its beginning, which is not kept any more.")
    out: Commands = []
    fold = Refold(partition, log.partitions("schedule.ticks"))
    for _, tick in ticks_of(log, partition, codec, 0, from_ms):
        _keep(out, fold.apply(policy.tick(tick)).commands, from_ms)
    return fold, out
