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
from streams.core.misfire import late_times, reason_of
from streams.core.partition import schedule_key
from streams.core.recurrence import Recurrence
from streams.core.recurrence.rule_text import LANGUAGE
from streams.core.requests import request_key
from streams.core.schedule import HORIZON_MS, REQUEST_PREFIX, validate
from streams.core.step import schedule_id_of
from streams.core.times import Times, catch_up_window_ms, first_scheduled, is_once
from streams.core.wheel import NEVER

if TYPE_CHECKING:
    from schemas.records import CapturePolicy, ScheduleEvent, ScheduleResumed
    from streams.core.herd import Fire
    from streams.core.step import Step

Found = tuple[int, ScheduleState]
"""Index and row of a schedule."""
OVER_IS_OVER = 5
"""The rules since which a change leaves out all nominal times that are over, not the last one."""
WAITS = "waits for the device's place: its profile has no latitude and longitude yet"


def change(step: Step, event: ScheduleEvent) -> None:
    """Decide one event and do what it asks."""
    refusal = validate(event, step.state.tz, min(step.rules, LANGUAGE))
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
        supersede(step, found, "the schedule was cancelled")
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
    spec, device_id, once = event.spec, event.device_id, is_once(event.spec)
    recurrence = step.state.recurrence(spec, device_id, event.schedule_id)
    from_ms = step.now_ms + (0 if once else 1)
    """From here on the old epoch's times are void."""
    starts_at_ms = step.now_ms + step.settings.notice_ms if row is None else from_ms
    if once:
        starts_at_ms = step.now_ms
    elif found is not None and step.rules >= 2:
        times = Times(recurrence, event.policy, device_id)
        starts_at_ms = _with_the_same(step, found, times, event.policy, starts_at_ms)
    ends_at_ms: int | None = None
    if recurrence.period_ms is None:  # a plain interval has times for ever
        times = Times(recurrence, event.policy, device_id)
        first_ms = times.at_or_after(0 if once else starts_at_ms)
        if first_ms is not None and not once:
            first_ms = max(first_ms, step.now_ms)  # one that the start takes in is not refused
        if not recurrence.lacks_place and _refuse_time(step, event, first_ms):
            return
        ends_at_ms = times.end_after_count(starts_at_ms)
    epoch = step.next_epoch(number)
    step.accept(event, epoch, starts_at_ms)
    if found is not None:
        supersede(step, found, "the schedule was changed", from_ms)
    facts = step.state.facts.get(device_id)
    start(
        step,
        ScheduleState(
            device_id,
            event.schedule_id,
            epoch,
            spec,
            event.policy,
            starts_at_ms,
            paused=row is not None and row.paused,
            pause_reason="" if row is None else row.pause_reason,
            paused_by="" if row is None else row.paused_by,
            ends_at_ms=ends_at_ms,
            failures_from=0 if facts is None else facts.failures,
        ),
        number,
    )


def _is_shifted(policy: CapturePolicy) -> bool:
    return policy.spread_ms > 0 or policy.jitter_ms > 0


def _with_the_same(
    step: Step, found: Found, times: Times, policy: CapturePolicy, starts_at_ms: int
) -> int:
    """Return the start at which a new epoch has each nominal time of the old one once.

    A change of spread moves nominal times over the moment of the change. One that the old epoch has
    issued may lie behind it now: its photo was taken, and the start leaves it out. One that the old
    epoch had ahead may be over now: its command is void, and the start takes it in as a late one,
    if the policy makes up for such.
    """
    index, row = found
    if not (_is_shifted(row.policy) or _is_shifted(policy)):
        return starts_at_ms
    old = Times.of(step.state.recurrences[index], row)
    if row.paused:
        if step.rules < OVER_IS_OVER:
            return starts_at_ms
        return _behind_what_is_over(old, times, row.starts_at_ms, starts_at_ms)
    last_ms, next_ms = old.before(starts_at_ms), old.at_or_after(starts_at_ms)
    if next_ms is not None and next_ms >= row.starts_at_ms and policy.misfire != "skip":
        at_ms = times.of_nominal(old.nominal(next_ms))
        if at_ms is not None and at_ms < starts_at_ms:
            return at_ms
    if step.rules >= OVER_IS_OVER:
        due_ms = step.state.wheel.due[index] + row.policy.lead_ms  # from here on none was issued
        return _behind_what_is_over(old, times, min(due_ms, starts_at_ms), starts_at_ms)
    first_ms = times.at_or_after(starts_at_ms)
    if first_ms is None or last_ms is None or last_ms < row.starts_at_ms:
        return starts_at_ms
    if step.state.wheel.due[index] + row.policy.lead_ms <= last_ms:
        return starts_at_ms  # it was not issued yet
    return first_ms + 1 if times.nominal(first_ms) == old.nominal(last_ms) else starts_at_ms


def _behind_what_is_over(old: Times, times: Times, over_ms: int, starts_at_ms: int) -> int:
    """Return the start that leaves out every nominal time whose old time lies before ``over_ms``.

    Not only the last one: a longer period, if it is spread over more, has one of long ago ahead.
    Nor only what the old epoch has had: what lies before its start was over then, and an epoch
    before it may have had it.
    """
    first_ms = times.at_or_after(starts_at_ms)
    while first_ms is not None:
        nominal_ms = times.nominal(first_ms)
        if nominal_ms >= over_ms:  # as are all behind it
            break
        old_ms = old.of_nominal(nominal_ms)
        if old_ms is not None and old_ms < over_ms:
            starts_at_ms = first_ms + 1
        first_ms = times.at_or_after(first_ms + 1)
    return starts_at_ms


def _pause(step: Step, event: SchedulePaused, number: int, found: Found) -> None:
    row = found[1]
    if row.paused:
        step.accept(event, row.epoch, row.starts_at_ms)
        return
    epoch = step.next_epoch(number)
    step.accept(event, epoch, step.now_ms)
    by = event.request_id if step.rules >= 2 else ""
    rest(step, found, epoch, "the schedule was paused", event.reason, by)


def rest(step: Step, found: Found, epoch: int, why: str, reason: str, by: str) -> None:
    """Pause a schedule: void what it has issued, and let it be due for nothing."""
    row = found[1]
    supersede(step, found, why)
    paused = msgspec.structs.replace(
        row,
        epoch=epoch,
        starts_at_ms=step.now_ms,
        paused=True,
        pause_reason=reason,
        paused_by=by,
    )
    start(step, paused, step.state.shard_number(found[0]))


def _resume(step: Step, event: ScheduleResumed, number: int, found: Found) -> None:
    index, row = found
    if not row.paused:
        step.accept(event, row.epoch, row.starts_at_ms)
        return
    epoch = step.next_epoch(number)
    once = is_once(row.spec)
    starts_at_ms = step.now_ms + (0 if once else 1)
    if step.rules >= OVER_IS_OVER and not once:  # a change while it was paused left some out
        starts_at_ms = max(starts_at_ms, row.starts_at_ms)
    step.accept(event, epoch, starts_at_ms)
    facts = step.state.facts.get(row.device_id)
    resumed = msgspec.structs.replace(
        row,
        epoch=epoch,
        starts_at_ms=starts_at_ms,
        paused=False,
        pause_reason="",
        paused_by="",
        failures_from=0 if facts is None else facts.failures,
    )
    state = step.state
    if first_scheduled(state.recurrences[index], resumed, starts_at_ms) is None:
        if once:
            at_ms = state.end_ms(index, resumed, 0) - 1
            step.skip(resumed, at_ms, at_ms, 1, "paused when its time came")
        if not state.recurrences[index].lacks_place:
            step.end(index, resumed)
            return
    start(step, resumed, number)


def _request(step: Step, event: CaptureRequested, number: int) -> None:
    policy, now_ms = event.policy, step.now_ms
    at_ms = now_ms if event.at_ms is None else event.at_ms
    if _refuse_time(step, event, at_ms):
        return
    if event.at_ms is None and _is_shifted(policy):  # 'as soon as can be' is not spread
        policy = msgspec.structs.replace(policy, spread_ms=0, jitter_ms=0)
    epoch = step.next_epoch(number)
    spec = ScheduleSpec("once", at_ms=at_ms)
    recurrence = Recurrence(spec, None)
    scheduled_ms = Times(recurrence, policy, event.device_id).scheduled(at_ms)
    row = ScheduleState(
        event.device_id,
        REQUEST_PREFIX + event.request_id,
        epoch,
        spec,
        policy,
        now_ms,
        paused=False,
    )
    if scheduled_ms - policy.lead_ms <= now_ms:
        fire = (scheduled_ms, row, at_ms, recurrence)
        step.accept(event, epoch, scheduled_ms, step.fire(number, (fire,)))
    else:
        step.accept(event, epoch, scheduled_ms)
        start(step, row, number)


def _refuse_time(step: Step, event: ScheduleUpserted | CaptureRequested, at_ms: int | None) -> bool:
    """Refuse a first time that is over, too far ahead, or none."""
    now_ms = step.now_ms
    if at_ms is None:
        step.refuse(
            event,
            "never",
            f"the schedule has no time after {now_ms} ms UTC, when the request was taken; check"
            " its expression, its exclusions and its window of validity.",
            remember=True,
        )
        return True
    if at_ms < now_ms:
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


def supersede(step: Step, found: Found, why: str, from_ms: int = 0) -> None:
    """Void what an epoch has issued, and record what was due of it and not issued.

    What was issued for times before ``from_ms`` stays: the next epoch does not issue it again.
    """
    index, row = found
    state = step.state
    if not row.paused:
        times = Times.of(state.recurrences[index], row)
        first_ms: int | None = state.wheel.due[index] + row.policy.lead_ms
        if state.wheel.due[index] != NEVER and first_ms is not None and first_ms <= step.now_ms:
            first_ms = times.at_or_after(first_ms)  # none: its timer is that of its end
            last_ms = times.before(step.now_ms + 1)
            if first_ms is not None and last_ms is not None:
                step.skip_times(times, row, first_ms, last_ms, f"{why} before this was issued")
    state.unschedule(index)
    step.revoke(row, why, from_ms)


def start(step: Step, row: ScheduleState, number: int) -> None:
    """Keep a new or changed row and set its timer to its first time, be that past already."""
    state, index = step.state, step.keep(row, number)
    if row.paused:
        return
    scheduled_ms = first_scheduled(state.recurrences[index], row, row.starts_at_ms)
    state.set_timer(index, row, scheduled_ms, row.starts_at_ms)
    if state.recurrences[index].lacks_place:
        step.skip(row, step.now_ms, step.now_ms, 0, WAITS)
    if scheduled_ms is None:
        return
    key = state.keys[index]
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
        recurrence = state.recurrences[index]
        times = Times.of(recurrence, row)
        scheduled_ms = times.at_or_after(due_ms + lead_ms)
        fires: list[Fire] = []
        if scheduled_ms is not None and scheduled_ms < step.now_ms:  # taken in by _with_the_same
            window_ms = catch_up_window_ms(row.policy, recurrence.typical_gap_ms)
            if step.rules >= 3:  # a new period may have had more times since
                misfire = row.policy.misfire
                end_ms = min(step.now_ms, issued_ms + lead_ms + 1)  # what is behind is the shard's
                left_ms = window_ms - (step.now_ms - end_ms)
                late = late_times(times, scheduled_ms, end_ms, left_ms, misfire)
                why = reason_of(misfire, window_ms, issued=bool(late.issue))
                for first_ms, last_ms in late.skipped:
                    step.skip_times(times, row, first_ms, last_ms, why)
                fires += [(at_ms, row, times.nominal(at_ms), recurrence) for at_ms in late.issue]
                scheduled_ms = times.at_or_after(end_ms)
            elif step.now_ms - scheduled_ms > window_ms:
                why = reason_of(row.policy.misfire, window_ms, issued=False)
                step.skip_times(times, row, scheduled_ms, scheduled_ms, why)
                scheduled_ms = times.at_or_after(step.now_ms)
        while scheduled_ms is not None and scheduled_ms - lead_ms <= issued_ms:
            fires.append((scheduled_ms, row, times.nominal(scheduled_ms), recurrence))
            scheduled_ms = times.at_or_after(scheduled_ms + 1)
        if fires:
            step.fire(number, fires)
        state.schedule(index)
