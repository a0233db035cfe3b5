"""Why a time that was due has no command: what the wheel did instead, or that it did not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from streams.replay.explain_causes import reason_of
from streams.replay.explain_read import COMMANDS
from streams.replay.explain_reasons import Code
from streams.replay.explain_types import TickRef

if TYPE_CHECKING:
    from schemas.records import Skipped
    from streams.replay.explain_gather import Evidence
    from streams.replay.explain_read import TickSeen

IDLE_MS: Final = 5_000
"""A longer gap between ticks says that no wheel worked: they come each second, or each four where
there are 1,024 partitions (``timing_wheel.IDLE_TICK_MS_A_PARTITION``)."""
WRONG_CLOCK_MS: Final = 2_000
"""A wheel whose clock is off by more stops (``RuntimeSettings.max_skew_ms``)."""
ENDLESS_MS: Final = 1 << 60


class Verdict(NamedTuple):
    """A reason and its sentence."""

    code: Code
    text: str
    tick: TickRef | None = None
    rank: int = 0
    """0: a photo would have been due within the window; higher: it is about other things."""


class DueTime(NamedTuple):
    """A scheduled time, and from when on the wheel could have known of it."""

    scheduled_ms: int
    issue_ms: int
    """When its command was to go out."""
    decided_at_ms: int
    """The tick that accepted what it is due by."""
    starts_at_ms: int


def no_command(evidence: Evidence, name: str, due: DueTime) -> Verdict | None:
    """Return why a due time has no command; null: one was found after all, by reading on.

    ``name``: the schedule's id as decisions have it.
    """
    ask, reader, show = evidence.ask, evidence.reader, evidence.ask.show
    before, after = reader.around(due.issue_ms)
    skipped = evidence.skipped(name, due.scheduled_ms)
    if skipped is not None:
        return _skipped(evidence, skipped, before, after)
    due_at = f"it was due at {show(due.scheduled_ms)}"
    if due.scheduled_ms < due.starts_at_ms:
        text = (
            f"{due_at}, but the schedule, accepted at {show(due.decided_at_ms)}, started at "
            f"{show(due.starts_at_ms)}"
        )
        return Verdict(Code.NOT_STARTED, text)
    if after is None:
        if not ask.live:
            text = f"{due_at}, and the log ends at {show(ask.now_ms)}"
            return Verdict(Code.LOG_TOO_SHORT, text)
        if ask.now_ms < due.issue_ms + IDLE_MS:
            text = f"it is due at {show(due.scheduled_ms)}, and issued at {show(due.issue_ms)}"
            return Verdict(Code.NOT_YET, text)
        return with_gap(evidence, Verdict(Code.WHEEL_DOWN, due_at), before, None)
    if reader.first(COMMANDS) > 0 and reader.at(COMMANDS, due.issue_ms) == reader.first(COMMANDS):
        return Verdict(Code.LOG_TOO_SHORT, f"{due_at}, and {COMMANDS} has nothing so old")
    if evidence.read_on():
        return None
    tick = tick_ref(before, after)
    text = f"{due_at}, and the tick of {show(after.tick.time_ms)} passed it"
    if reader.waits():
        return Verdict(Code.WHEEL_BEHIND, f"{text}, but its shard still waits", tick)
    return Verdict(Code.LOST, f"{text}, but left no command and no reason", tick)


def _skipped(
    evidence: Evidence, skipped: Skipped, before: TickSeen | None, after: TickSeen | None
) -> Verdict:
    show = evidence.ask.show
    others = f", with {skipped.count - 1:,} more" if skipped.count > 1 else ""
    text = f"it was given up at {show(skipped.tick_time_ms)}{others}: {skipped.reason}"
    code = reason_of("SKIPPED", skipped.reason) or Code.MISFIRE_WINDOW
    return with_gap(evidence, Verdict(code, text), before, after)


def with_gap(
    evidence: Evidence, verdict: Verdict, before: TickSeen | None, after: TickSeen | None
) -> Verdict:
    """Tell of the time without ticks that a due time fell into, and of a clock that was wrong."""
    show, partition = evidence.ask.show, evidence.reader.partition
    tick = None if after is None else tick_ref(before, after)
    code, text = verdict.code, verdict.text
    if before is None or (tick is not None and tick.gap_ms <= IDLE_MS):
        return Verdict(code, text, tick, verdict.rank)
    until = f"from {show(before.tick.time_ms)}"
    until += " on" if after is None else f" to {show(after.tick.time_ms)}"
    text += f"; no wheel worked on partition {partition} {until}"
    off = [wrong for one in (before, after) if one is not None for wrong in _wrong_clock(one)]
    if off:
        code = Code.CLOCK_STOPPED
        text += f", and its clock was off by {max(off, key=abs):+,.0f} ms"
    return Verdict(code, text, tick, verdict.rank)


def _wrong_clock(seen: TickSeen) -> list[float]:
    """Return what the clock of a tick was off by, where that is more than a wheel works with."""
    clock = seen.tick.clock
    if clock is None:
        return []
    found = [clock.offset_ms, *(one.amount_ms for one in clock.corrections)]
    return [one for one in found if abs(one) > WRONG_CLOCK_MS]


def tick_ref(before: TickSeen | None, after: TickSeen) -> TickRef:
    """Return the tick that decided, and how long after the one before it came."""
    time_ms = after.tick.time_ms
    before_ms = None if before is None else before.tick.time_ms
    return TickRef(
        offset=after.offset,
        time_ms=time_ms,
        stamp_ms=after.stamp_ms,
        gap_ms=ENDLESS_MS if before_ms is None else time_ms - before_ms,
        before_ms=before_ms,
    )
