"""What a tick does with each change that upstream asked for.

One function a kind of event; the rules they follow stand in ``shard.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from schemas.records import (
    AlreadyKnown,
    CaptureRequested,
    RequestState,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpserted,
)
from streams.core import ids
from streams.core.partition import schedule_key
from streams.core.requests import request_key
from streams.core.schedule import (
    HORIZON_MS,
    KINDS,
    REQUEST_PREFIX,
    first_scheduled_at_or_after,
    validate,
)
from streams.core.spread import offset_ms
from streams.core.step import schedule_id_of

if TYPE_CHECKING:
    from schemas.records import ScheduleEvent, ScheduleResumed
    from streams.core.step import Step

Found = tuple[int, ScheduleState]
"""Index and row of a schedule."""


def change(step: Step, event: ScheduleEvent) -> None:
    """Decide one event and do what it asks."""
    refusal = validate(event)
    if refusal is not None:
        step.refuse(event, refusal.code, refusal.reason, remember=False)
        return
    state, number = step.state, ids.shard_of(event.device_id)
    if number % state.partitions != state.partition:
        step.refuse(
            event,
            "wrong_partition",
            f"device {event.device_id!r} belongs to partition {number % state.partitions}, not"
            f" {state.partition}; publish with Kafka's murmur2 partitioner.",
            remember=False,
        )
        return
    if _already_known(step, event):
        return
    if isinstance(event, CaptureRequested):
        _request(step, event, number)
        return
    found = state.find(schedule_key(event.device_id, event.schedule_id))
    if isinstance(event, ScheduleUpserted):
        _upsert(step, event, number, found)
    elif found is None:
        step.refuse(
            event,
            "unknown_schedule",
            f"device {event.device_id!r} has no schedule {event.schedule_id!r}; check both names,"
            " or publish the schedule first.",
            remember=True,
        )
    elif isinstance(event, ScheduleCancelled):
        step.accept(event, step.next_epoch(number), step.now_ms)
        _supersede(step, found, "the schedule was cancelled")
        step.remove(found[0])
    elif isinstance(event, SchedulePaused):
        _pause(step, event, number, found)
    else:
        _resume(step, event, number, found)


def _already_known(step: Step, event: ScheduleEvent) -> bool:
    """Answer a repeated request with what became of the first (SPEC 2.2)."""
    key = request_key(event.device_id, event.request_id)
    row = step.state.requests.find(key, step.now_ms, step.settings.request_memory_ms)
    if row is None and isinstance(event, CaptureRequested):
        # Its window is over, but the request itself still waits: it is not taken a second time.
        waiting = step.state.find(schedule_key(event.device_id, REQUEST_PREFIX + event.request_id))
        if waiting is not None:
            first = waiting[1]
            row = RequestState(
                first.device_id, event.request_id, first.starts_at_ms, "accepted", first.epoch
            )
    if row is None:
        return False
    step.decisions.append(
        AlreadyKnown(
            request_id=event.request_id,
            device_id=event.device_id,
            schedule_id=schedule_id_of(event),
            tick_time_ms=step.now_ms,
            first=row.outcome,
            first_tick_time_ms=row.tick_time_ms,
            epoch=row.epoch,
            reason=row.reason,
            command_id=row.command_id,
        )
    )
    return True


def _upsert(step: Step, event: ScheduleUpserted, number: int, found: Found | None) -> None:
    row = None if found is None else found[1]
    if row is not None and row.spec == event.spec and row.policy == event.policy:
        step.accept(event, row.epoch, row.starts_at_ms)
        return
    starts_at_ms = step.now_ms + (step.settings.notice_ms if row is None else 1)
    if _is_once(event.spec):
        starts_at_ms = step.now_ms
        at_ms = first_scheduled_at_or_after(event.spec, event.policy, event.device_id, 0)
        if _refuse_time(step, event, at_ms):
            return
    epoch = step.next_epoch(number)
    step.accept(event, epoch, starts_at_ms)
    if found is not None:
        _supersede(step, found, "the schedule was changed")
    _start(
        step,
        ScheduleState(
            event.device_id,
            event.schedule_id,
            epoch,
            event.spec,
            event.policy,
            starts_at_ms,
            paused=row is not None and row.paused,
            pause_reason="" if row is None else row.pause_reason,
        ),
        number,
    )


def _pause(step: Step, event: SchedulePaused, number: int, found: Found) -> None:
    row = found[1]
    if row.paused:
        step.accept(event, row.epoch, row.starts_at_ms)
        return
    epoch = step.next_epoch(number)
    step.accept(event, epoch, step.now_ms)
    _supersede(step, found, "the schedule was paused")
    paused = msgspec.structs.replace(
        row, epoch=epoch, starts_at_ms=step.now_ms, paused=True, pause_reason=event.reason
    )
    _start(step, paused, number)


def _resume(step: Step, event: ScheduleResumed, number: int, found: Found) -> None:
    index, row = found
    if not row.paused:
        step.accept(event, row.epoch, row.starts_at_ms)
        return
    epoch = step.next_epoch(number)
    starts_at_ms = step.now_ms + (0 if _is_once(row.spec) else 1)
    step.accept(event, epoch, starts_at_ms)
    resumed = msgspec.structs.replace(
        row, epoch=epoch, starts_at_ms=starts_at_ms, paused=False, pause_reason=""
    )
    if _is_once(row.spec):
        end_ms = step.state.end_ms(row)
        if end_ms <= step.now_ms:
            step.skip(resumed, end_ms - 1, end_ms - 1, 1, "paused when its time came")
            step.end(index, resumed)
            return
    _start(step, resumed, number)


def _request(step: Step, event: CaptureRequested, number: int) -> None:
    policy, now_ms = event.policy, step.now_ms
    at_ms = now_ms if event.at_ms is None else event.at_ms
    if _refuse_time(step, event, at_ms):
        return
    if event.at_ms is None and policy.spread_ms:
        policy = msgspec.structs.replace(policy, spread_ms=0)  # 'as soon as can be' is not spread
    scheduled_ms = at_ms + offset_ms(event.device_id, policy.spread_ms)
    epoch = step.next_epoch(number)
    row = ScheduleState(
        event.device_id,
        REQUEST_PREFIX + event.request_id,
        epoch,
        ScheduleSpec("once", at_ms=at_ms),
        policy,
        now_ms,
        paused=False,
    )
    if scheduled_ms - policy.lead_ms <= now_ms:
        step.accept(event, epoch, scheduled_ms, step.issue(row, number, scheduled_ms))
    else:
        step.accept(event, epoch, scheduled_ms)
        _start(step, row, number)


def _is_once(spec: ScheduleSpec) -> bool:
    return KINDS[spec.kind].period_ms(spec) is None


def _refuse_time(step: Step, event: ScheduleUpserted | CaptureRequested, at_ms: int | None) -> bool:
    """Refuse a single time that is over or too far ahead."""
    now_ms = step.now_ms
    if at_ms is None or at_ms < now_ms:
        step.refuse(
            event,
            "past",
            f"the time {at_ms} ms UTC was over when the request was taken at {now_ms}; publish a"
            " time in the future.",
            remember=True,
        )
        return True
    if at_ms > now_ms + HORIZON_MS:
        step.refuse(
            event,
            "too_far",
            f"the time {at_ms} ms UTC is more than ten years after {now_ms}, when the request was"
            " taken; publish an earlier time, in milliseconds.",
            remember=True,
        )
        return True
    return False


def _supersede(step: Step, found: Found, why: str) -> None:
    """Void what an epoch has issued, and record what was due of it and not issued."""
    index, row = found
    if not row.paused:
        period_ms = KINDS[row.spec.kind].period_ms(row.spec)
        due_ms = step.state.wheel.due[index]
        first_ms = due_ms + row.policy.lead_ms
        ended = period_ms is None and due_ms == step.state.end_ms(row)
        if first_ms <= step.now_ms and not ended:
            steps = (step.now_ms - first_ms) // period_ms if period_ms else 0
            last_ms = first_ms + steps * (period_ms or 0)
            step.skip(row, first_ms, last_ms, steps + 1, f"{why} before this was issued")
    step.state.unschedule(index)
    step.revoke(row, why)


def _start(step: Step, row: ScheduleState, number: int) -> None:
    """Keep a new or changed row and set its timer to its first time, be that past already."""
    index = step.keep(row, number)
    if row.paused:
        return
    scheduled_ms = first_scheduled_at_or_after(
        row.spec, row.policy, row.device_id, row.starts_at_ms
    )
    if scheduled_ms is None:
        raise AssertionError(f"schedule {row.schedule_id!r} of {row.device_id!r} never starts")
    step.state.wheel.insert(index, scheduled_ms - row.policy.lead_ms)
    key = step.state.keys[index]
    step.started.pop(key, None)
    step.started[key] = None


def issue_started(step: Step) -> None:
    """Issue what started schedules have due up to where their shards are (C in ``shard.py``).

    After all changes: a schedule that a later change of the same tick voids issues nothing.
    """
    state = step.state
    for key in step.started:
        found = state.find(key)
        if found is None or found[1].paused:
            continue
        index, row = found
        number, lead_ms = state.shard_number(index), row.policy.lead_ms
        issued_ms = state.issued_ms(number)
        due_ms = state.wheel.due[index]
        if due_ms > issued_ms:
            continue
        scheduled_ms: int | None = due_ms + lead_ms
        while scheduled_ms is not None and scheduled_ms - lead_ms <= issued_ms:
            step.issue(row, number, scheduled_ms)
            scheduled_ms = first_scheduled_at_or_after(
                row.spec, row.policy, row.device_id, scheduled_ms + 1
            )
        state.schedule(index)
