"""What a run should have taken: every scheduled time, from what was asked and what was answered.

The checker must not ask the wheel what the wheel should have done. This module reads the upstream
events and the answers to them, and does the arithmetic anew, without the wheel's code::

    scheduled = phase_ms + n * every_ms + spread offset          (or at_ms + spread offset)

Where a spec says more than a period or a moment (cron, calendar rules, exclusions, an end) or there
is jitter, the times are those of ``streams/core/recurrence``, which has tests of its own against
other libraries. What depends on a device's place (sun, daylight) is not expected: the history of
places is not read here. What a herd has moved is known by the time it had before.

**Spans.** Each accepted change of a schedule begins a span of times of one epoch, and ends the one
before it at the tick that took the change::

    upsert taken at 12:00:00.300       cancel taken at 12:00:40.700
        | starts_at 12:00:01.300           |
    ----+---o---------o---------o---------o-+-------o------
            12:00:10  :20       :30       :40       :50 is not due: revoked, or armed already

A time is **due** if it lies in a span, at or before the span's end, and in no ``Skipped``. A span
that nothing ended runs to the last tick of its partition. Answers are matched with events in the
order of the log: the k-th answer to a request id of a device is for its k-th event.

Cost: 2 microseconds an expected time; some 600 bytes a schedule.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.records import (
    Accepted,
    AlreadyKnown,
    AutoPaused,
    CaptureRequested,
    Ended,
    Refused,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleUpserted,
    Skipped,
)
from streams.core.recurrence import compile_spec, needs_place
from streams.core.spread import jitter_ms, offset_ms
from streams.core.times import Times, not_after_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from schemas.records import CaptureCommand, CapturePolicy, CaptureResult, Record

REQUEST: Final = "request/"
"""Begins the schedule id under which a CaptureRequested stands in a Skipped."""
NO_PERIOD_WINDOW_MS: Final = 60_000
"""How late the photo of a single time is wanted unless its policy says otherwise."""
TIME_BITS: Final = 44
"""Bits of the milliseconds in a key; they last until the year 2527."""

Series = tuple[str, str]
"""Device id and schedule id; for a CaptureRequested ``request/`` and its request id."""


def series_of(record: CaptureCommand | CaptureResult) -> Series:
    """Return whose time a command or result is about."""
    return record.device_id, record.schedule_id or REQUEST + record.request_id


@dataclass(slots=True)
class Span:
    """The times of a series from one accepted change to the next."""

    series: Series
    partition: int
    epoch: int
    anchor_ms: int
    """One scheduled time of the span; all others are whole periods away."""
    every_ms: int | None
    """None: the anchor is the only time."""
    offset_ms: int
    """Scheduled less nominal."""
    window_ms: int
    """How late a photo of it is wanted."""
    starts_at_ms: int
    ends_ms: int | None = None
    """Time of the tick that ended it; None: nothing did."""
    rich: Times | None = None
    """Its times, where they are more than an anchor and a period."""
    unknown: bool = False
    """Its times depend on a place: none is expected and none is objected to."""

    def has(self, scheduled_ms: int) -> bool:
        """Say whether this is one of the span's times, were it never to end."""
        if self.unknown:
            return True
        if self.rich is not None:
            found = self.rich.at_or_after(scheduled_ms)
            return found == scheduled_ms and scheduled_ms >= self.starts_at_ms
        if self.every_ms is None:
            return scheduled_ms == self.anchor_ms
        aligned = (scheduled_ms - self.anchor_ms) % self.every_ms == 0
        return aligned and scheduled_ms >= self.starts_at_ms

    def is_nominal(self, nominal_ms: int, scheduled_ms: int) -> bool:
        """Say whether this is the nominal time of that scheduled one."""
        if self.unknown:
            return True
        if self.rich is not None:
            return self.rich.of_nominal(nominal_ms) == scheduled_ms
        return scheduled_ms - nominal_ms == self.offset_ms

    def times(self, from_ms: int, to_ms: int) -> Iterable[int]:
        """Return the span's times within ``from_ms`` to ``to_ms``, both included."""
        low = max(from_ms, self.starts_at_ms)
        if self.unknown:
            return ()
        if self.rich is not None:
            return self._rich_times(self.rich, low, to_ms)
        if self.every_ms is None:
            return range(self.anchor_ms, self.anchor_ms + (low <= self.anchor_ms <= to_ms))
        return range(low + (self.anchor_ms - low) % self.every_ms, to_ms + 1, self.every_ms)

    @staticmethod
    def _rich_times(times: Times, low_ms: int, to_ms: int) -> Iterator[int]:
        found = times.at_or_after(low_ms)
        while found is not None and found <= to_ms:
            yield found
            found = times.at_or_after(found + 1)


@dataclass(slots=True)
class _Row:
    """A schedule as its last accepted change left it."""

    spec: ScheduleSpec
    policy: CapturePolicy
    epoch: int
    paused: bool
    ends_at_ms: int | None = None
    """What its maximum count left to it as it was accepted; a pause does not move it."""
    span: Span | None = None


@dataclass(slots=True)
class Plan:
    """What was asked and accepted, and the times that follow from it."""

    last_tick_ms: Mapping[int, int]
    """Time of the last tick, by partition: nothing is expected after it."""
    settle_ms: int = 0
    """How long before the last tick a time must lie to be expected, where its span still runs."""
    spans: list[Span] = field(default_factory=list)
    skipped: int = 0
    skipped_reasons: dict[str, int] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    """Answers that cannot be: a sentence each."""
    _by_series: dict[Series, list[Span]] = field(default_factory=dict)
    _rows: dict[Series, _Row] = field(default_factory=dict)
    _asked: dict[tuple[int, str, str], deque[Record]] = field(default_factory=dict)
    _skips: dict[tuple[Series, int], list[tuple[int, int]]] = field(default_factory=dict)

    # -- reading ---------------------------------------------------------------------------------

    def event(self, partition: int, event: Record) -> None:
        """Take one record of schedule.events, in the order of its partition."""
        if isinstance(event, EVENTS):
            key = (partition, event.device_id, event.request_id)
            self._asked.setdefault(key, deque()).append(event)

    def decision(self, partition: int, decision: Record, *, complete: bool = True) -> None:
        """Take one record of schedule.decisions, in the order of its partition, after all events.

        ``complete``: the partition's events reach back to the first one ever written.
        """
        if isinstance(decision, Accepted | AlreadyKnown | Refused):
            key = (partition, decision.device_id, decision.request_id)
            waiting = self._asked.get(key)
            if not waiting:
                if complete:
                    self.strange.append(
                        f"an answer ({type(decision).__name__}) to request {decision.request_id!r}"
                        f" of {decision.device_id!r} that nobody made, or a second one"
                    )
                return
            event = waiting.popleft()
            if not waiting:
                del self._asked[key]
            if isinstance(decision, Accepted):
                self._accepted(partition, event, decision)
        elif isinstance(decision, Skipped):
            self._skipped(decision)
        elif isinstance(decision, AutoPaused):
            row = self._rows.get((decision.device_id, decision.schedule_id))
            if row is not None:
                _end(row, decision.tick_time_ms)
                row.paused = True
        elif isinstance(decision, Ended):
            self._rows.pop((decision.device_id, decision.schedule_id), None)

    def unanswered(self) -> Iterator[str]:
        """Yield a sentence for each event that has no answer."""
        for (_, device_id, request_id), events in self._asked.items():
            for event in events:
                kind = type(event).__name__
                yield f"request {request_id!r} ({kind}) of {device_id!r} was never answered"

    def _accepted(self, partition: int, event: Record, answer: Accepted) -> None:
        if isinstance(event, CaptureRequested):
            at_ms = answer.tick_time_ms if event.at_ms is None else event.at_ms
            offset = 0 if event.at_ms is None else _shift_ms(event.device_id, event.policy, at_ms)
            series = (event.device_id, REQUEST + event.request_id)
            window_ms = not_after_ms(0, 0, None, event.policy)
            self._add(
                Span(series, partition, answer.epoch, at_ms + offset, None, offset, window_ms, 0)
            )
            return
        series = (answer.device_id, answer.schedule_id)
        row = self._rows.get(series)
        if row is not None:
            if row.epoch == answer.epoch:
                return  # it asked for what is so already
            _end(row, answer.tick_time_ms)
        if isinstance(event, ScheduleUpserted):
            paused = row is not None and row.paused
            ends_ms = _end_by_count(event, answer.starts_at_ms)
            row = _Row(event.spec, event.policy, answer.epoch, paused, ends_ms)
            self._rows[series] = row
        elif row is None:
            return  # what it changed was accepted before the history that is kept
        elif isinstance(event, ScheduleCancelled):
            del self._rows[series]
            return
        row.epoch = answer.epoch
        if isinstance(event, SchedulePaused):
            row.paused = True
        elif isinstance(event, ScheduleResumed):
            row.paused = False
        if not row.paused:
            row.span = self._add(_span(series, partition, row, answer.starts_at_ms))

    def _add(self, span: Span) -> Span:
        self.spans.append(span)
        self._by_series.setdefault(span.series, []).append(span)
        return span

    def _skipped(self, decision: Skipped) -> None:
        self.skipped += decision.count
        reasons = self.skipped_reasons
        reasons[decision.reason] = reasons.get(decision.reason, 0) + decision.count
        key = ((decision.device_id, decision.schedule_id), decision.epoch)
        self._skips.setdefault(key, []).append((decision.first_ms, decision.last_ms))

    # -- asking ----------------------------------------------------------------------------------

    def due(self, from_ms: int) -> Iterator[tuple[Span, int]]:
        """Yield each span and scheduled time, from ``from_ms`` on, that a photo is due for."""
        for span in self.spans:
            times = span.times(from_ms, self.end_ms(span))
            skips = self._skips.get((span.series, span.epoch)) if self._skips else None
            for scheduled_ms in times:
                if skips is None or not _within(skips, scheduled_ms):
                    yield span, scheduled_ms

    def end_ms(self, span: Span) -> int:
        """Return the last moment at which a time of this span is due."""
        if span.ends_ms is not None:
            return span.ends_ms
        return self.settled_ms(span)

    def settled_ms(self, span: Span) -> int:
        """Return the last moment at which what is due on this span's partition must have ended."""
        return self.last_tick_ms.get(span.partition, 0) - self.settle_ms

    def span_of(self, series: Series, epoch: int) -> Span | None:
        """Return the span of this epoch."""
        for span in self._by_series.get(series, ()):
            if span.epoch == epoch:
                return span
        return None

    def is_after_end(self, series: Series, scheduled_ms: int) -> bool:
        """Say whether this would be a time of the series, had a change not ended it before."""
        return any(
            span.ends_ms is not None and scheduled_ms > span.ends_ms and span.has(scheduled_ms)
            for span in self._by_series.get(series, ())
        )

    def objection(
        self, record: CaptureCommand | CaptureResult, issued_ms: int, moved_ms: int = 0
    ) -> str:
        """Return why nobody asked for this command, as the end of a sentence; "": it was.

        ``moved_ms`` is how far the herd rule has moved it.
        """
        series, time_ms = series_of(record), record.scheduled_ms - moved_ms
        span = self.span_of(series, record.epoch)
        if span is None:
            return f"no accepted change of {series[1]!r} has the epoch {record.epoch}"
        if not span.has(time_ms):
            return f"{time_ms} is not a time of {series[1]!r}"
        if not span.is_nominal(record.nominal_ms, time_ms):
            return f"its nominal time {record.nominal_ms} is wrong"
        if span.ends_ms is not None and issued_ms > span.ends_ms:
            return f"{series[1]!r} was ended {issued_ms - span.ends_ms} ms before it was issued"
        skips = self._skips.get((series, span.epoch))
        if skips and _within(skips, time_ms):
            return "its time is one that was skipped"
        return ""


EVENTS: Final = (
    ScheduleUpserted,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    CaptureRequested,
)


def _span(series: Series, partition: int, row: _Row, starts_at_ms: int) -> Span:
    """Return the span that a change of a schedule begins."""
    spec, policy = row.spec, row.policy
    if not _is_simple(spec, policy):
        return _rich_span(series, partition, row, starts_at_ms)
    offset = offset_ms(series[0], policy.spread_ms)
    nominal_ms = spec.phase_ms if spec.every_ms is not None else spec.at_ms or 0
    window_ms = policy.catch_up_ms
    if window_ms is None:
        window_ms = NO_PERIOD_WINDOW_MS
        if spec.every_ms is not None:
            window_ms = max(spec.every_ms, policy.capture_timeout_ms)
    return Span(
        series, partition, row.epoch, nominal_ms + offset, spec.every_ms, offset, window_ms,
        starts_at_ms,
    )  # fmt: skip


def _shift_ms(device_id: str, policy: CapturePolicy, nominal_ms: int) -> int:
    """Return how far a single time is moved from its nominal one."""
    shift_ms = offset_ms(device_id, policy.spread_ms)
    if policy.jitter_ms:
        shift_ms += jitter_ms(device_id, nominal_ms, policy.jitter_ms)
    return shift_ms


def _end_by_count(event: ScheduleUpserted, starts_at_ms: int) -> int | None:
    if event.spec.max_count is None or needs_place(event.spec):
        return None
    times = Times(compile_spec(event.spec), event.policy, event.device_id)
    return times.end_after_count(starts_at_ms)


def _is_simple(spec: ScheduleSpec, policy: CapturePolicy) -> bool:
    """Say whether the spec is nothing but a period or a moment."""
    bare = ScheduleSpec(spec.kind, spec.every_ms, spec.phase_ms, spec.at_ms)
    return (
        spec.kind in {"interval", "once"}
        and spec == bare
        and not policy.jitter_ms
        and policy.deadline_ms is None
    )


def _rich_span(series: Series, partition: int, row: _Row, starts_at_ms: int) -> Span:
    """Return a span whose times are a recurrence's."""
    policy = row.policy
    recurrence = compile_spec(row.spec)
    times = Times(recurrence, policy, series[0], row.ends_at_ms)
    window_ms = not_after_ms(0, 0, recurrence.typical_gap_ms, policy)
    return Span(
        series, partition, row.epoch, 0, None, 0, window_ms, starts_at_ms, rich=times,
        unknown=needs_place(row.spec),
    )  # fmt: skip


def _end(row: _Row, tick_ms: int) -> None:
    """End the span that runs, if one does."""
    if row.span is not None:
        row.span.ends_ms = tick_ms
        row.span = None


def _within(ranges: list[tuple[int, int]], time_ms: int) -> bool:
    return any(first <= time_ms <= last for first, last in ranges)
