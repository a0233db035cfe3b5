"""Why one schedule of a device gave no photo at a time: the case at hand, in a sentence.

In this order: a command of that time, and what became of it; a due time without a command, and what
the wheel did instead; no due time, and what kept it from being one. Nothing is decided here: it is
read off what was decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from schemas.records import CapturePolicy, ScheduleResumed, ScheduleUpserted
from streams.core.recurrence import check_spec, needs_place
from streams.core.schedule import REQUEST_PREFIX
from streams.replay.explain_causes import reason_of
from streams.replay.explain_command import best, how_it_ended
from streams.replay.explain_due import DueTime, Verdict, no_command, tick_ref
from streams.replay.explain_gates import times_of, ungated, why_not_due
from streams.replay.explain_reasons import Code
from streams.replay.explain_story import distance_ms, in_force
from streams.replay.explain_tell import Ranked, tell, tell_command

if TYPE_CHECKING:
    from schemas.records import Accepted, CaptureCommand
    from streams.replay.explain_gather import Evidence, Problem
    from streams.replay.explain_story import Due, Version

NEVER_MS: Final = 1 << 60
VOIDED: Final = {
    Code.PAUSED,
    Code.AUTO_PAUSED,
    Code.CANCELLED,
    Code.CHANGED,
}
"""Ends of a command that a change of its schedule has made."""


def judge(evidence: Evidence, schedule_id: str) -> Ranked | None:
    """Return the story of one schedule; null: there is nothing to say of it at that time."""
    ask = evidence.ask
    found = evidence.stories.get(schedule_id, [])
    issued = evidence.near(schedule_id)
    command = best(issued, evidence) if issued else None
    if ask.command_id is not None:
        return None if command is None else of_command(evidence, schedule_id, *command)
    near, then = _next_due(evidence, found), in_force(found, ask.at_ms)
    due_ms = NEVER_MS if near is None else distance_ms(near.moments, ask.at_ms)
    issued_ms = NEVER_MS if command is None else evidence.distance_ms(command[1])
    kept_ms = NEVER_MS if then is None else _kept_from(evidence, then)
    if then is not None and (nearest_ms := min(due_ms, issued_ms, kept_ms)):
        problem, asked_ms = asked_in_vain(evidence, schedule_id, then)
        if problem is not None and asked_ms < nearest_ms:
            verdict = Verdict(problem.code, problem.text)
            return tell(evidence, schedule_id, then, verdict, far_ms=asked_ms)
    if then is not None and kept_ms < min(due_ms, issued_ms):
        verdict = _not_due(evidence, schedule_id, then, kept_ms)
        return tell(evidence, schedule_id, then, verdict, far_ms=kept_ms)
    same = command is not None and near is not None and near.nominal_ms == command[1].nominal_ms
    if command is not None and (same or issued_ms <= due_ms):
        return of_command(evidence, schedule_id, *command)
    if near is not None:
        version, scheduled_ms = near.version, near.scheduled_ms
        issue_ms = scheduled_ms - near.due.policy.lead_ms
        due = DueTime(scheduled_ms, issue_ms, version.decided_at_ms, version.starts_at_ms)
        told = no_command(evidence, schedule_id, due)
        if told is None:
            return judge(evidence, schedule_id)
        return tell(evidence, schedule_id, version, told, near.moments)
    if then is None:
        return None
    return tell(evidence, schedule_id, then, _not_due(evidence, schedule_id, then, ask.window_ms))


def _kept_from(evidence: Evidence, version: Version) -> int:
    """Return how near a time is that pause, cancel, exclusion or daylight kept from being due."""
    ask = evidence.ask
    due = evidence.schedules.times(version, ask.at_ms)
    if due is None or due.recurrence.lacks_place or version.state == "ended":
        return NEVER_MS
    near = due.near(ask.at_ms, ask.window_ms)
    if version.state == "alive" and not version.paused:
        place = evidence.schedules.place(ask.at_ms) if needs_place(due.spec) else None
        near = ungated(due, place, ask)
    return min((distance_ms(one, ask.at_ms) for one in near), default=NEVER_MS)


def judge_request(evidence: Evidence, request: Accepted) -> Ranked:
    """Return the story of a request for a single photo."""
    commands = evidence.near("", request.request_id)
    if commands:
        at, command = best(commands, evidence)
        return of_command(evidence, "", at, command)
    asked = evidence.schedules.asked(request)
    policy = None if asked is None else getattr(asked.event, "policy", None)
    scheduled_ms = request.starts_at_ms
    issue_ms = scheduled_ms - (5_000 if policy is None else policy.lead_ms)
    due = DueTime(scheduled_ms, issue_ms, request.tick_time_ms, request.tick_time_ms)
    verdict = no_command(evidence, REQUEST_PREFIX + request.request_id, due)
    if verdict is None:
        return judge_request(evidence, request)
    moments = scheduled_ms, scheduled_ms
    return tell(evidence, "", None, verdict, moments, request)


# --- what was due ---------------------------------------------------------------------------------


class Near(NamedTuple):
    """A time at which a version of a schedule was due."""

    version: Version
    due: Due
    nominal_ms: int
    scheduled_ms: int

    @property
    def moments(self) -> tuple[int, int]:
        """The two times by which a photo may be asked for."""
        return self.nominal_ms, self.scheduled_ms


def _next_due(evidence: Evidence, found: list[Version]) -> Near | None:
    """Return the due time next to the one asked for, of the version that it belongs to."""
    ask, near = evidence.ask, list[Near]()
    first = in_force(found, evidence.low_ms)
    for version in found:
        at_hand = version is first or evidence.low_ms < version.decided_at_ms <= evidence.high_ms
        if not at_hand or version.state != "alive" or version.paused:
            continue
        due = evidence.schedules.times(version, ask.at_ms)
        if due is None or due.recurrence.lacks_place:
            continue
        for nominal_ms, scheduled_ms in due.near(ask.at_ms, ask.window_ms):
            if in_force(found, scheduled_ms) is version:
                near.append(Near(version, due, nominal_ms, scheduled_ms))
    return min(
        near, key=lambda one: (distance_ms(one.moments, ask.at_ms), one.scheduled_ms), default=None
    )


def of_command(
    evidence: Evidence, schedule_id: str, offset: int, command: CaptureCommand
) -> Ranked:
    """Return the story of a command, whatever became of it."""
    ended = how_it_ended(evidence, offset, command)
    before, after = evidence.reader.around(command.issued_at_ms)
    tick = None if after is None else tick_ref(before, after)
    found = evidence.stories.get(schedule_id, [])
    version = next((one for one in reversed(found) if one.epoch == command.epoch), None)
    if version is None:  # a change of the device's place gives an epoch without a decision
        version = in_force(found, command.scheduled_ms)
    text = ended.text
    if ended.code in VOIDED:
        voider = next((one for one in found if one.epoch > command.epoch), None)
        if voider is not None:
            version = voider
            change = evidence.schedules.change(voider, voider.by)
            by = f"request {change.request_id}" if change.request_id else "the wheel itself"
            why = f", reason: {change.reason}" if change.reason else ""
            text += f" ({change.change} by {by} at {evidence.ask.show(change.decided_at_ms)}{why})"
    verdict = Verdict(ended.code, text, tick)
    return tell_command(evidence, version, verdict, (offset, command), ended)


# --- it was not due -------------------------------------------------------------------------------


def _not_due(evidence: Evidence, schedule_id: str, version: Version, window_ms: int) -> Verdict:
    """Return why a schedule was due for nothing within a window, that of the question or less."""
    ask, show = msgspec.structs.replace(evidence.ask, window_ms=window_ms), evidence.ask.show
    due = evidence.schedules.times(version, ask.at_ms)
    would_be = due is not None and bool(due.near(ask.at_ms, ask.window_ms))
    if version.state != "alive":
        rank = 0 if would_be and version.state == "cancelled" else 4
        return _dead(evidence, schedule_id, version, rank)
    if version.paused:
        for one in evidence.problems_since(version.decided_at_ms, schedule_id):
            if isinstance(one.event, ScheduleResumed):
                return Verdict(one.code, one.text, rank=0 if would_be else 3)
        code, text = _paused(evidence, schedule_id, version)
        return Verdict(code, text, rank=0 if would_be or due is None else 3)
    if due is None:
        text = f"the log does not hold what schedule {schedule_id!r} of epoch {version.epoch} was"
        return Verdict(Code.LOG_TOO_SHORT, text, rank=1)
    if due.recurrence.lacks_place or not would_be:
        place = evidence.schedules.place(ask.at_ms) if needs_place(due.spec) else None
        why = why_not_due(due, place, ask)
        text = f"schedule {schedule_id!r}: {why.text}"
        return Verdict(why.code, text, rank=0 if why.would_be else 2)
    text = f"schedule {schedule_id!r} starts at {show(version.starts_at_ms)}"
    return Verdict(Code.NOT_STARTED, text)


def _dead(evidence: Evidence, schedule_id: str, version: Version, rank: int) -> Verdict:
    """Return how a schedule came to be no more."""
    change = evidence.schedules.change(version, version.by)
    at = evidence.ask.show(version.decided_at_ms)
    if version.state == "cancelled":
        text = f"schedule {schedule_id!r} was cancelled at {at} by request {change.request_id}"
        return Verdict(Code.CANCELLED, text, rank=rank)
    code = reason_of("ENDED", change.reason) or Code.NO_FURTHER_TIME
    return Verdict(code, f"schedule {schedule_id!r} ended at {at}: {change.reason}", rank=rank)


def _paused(evidence: Evidence, schedule_id: str, version: Version) -> tuple[Code, str]:
    change = evidence.schedules.change(version, version.pause)
    at = evidence.ask.show(change.decided_at_ms)
    row = version.row if version.pause is None else None
    if change.change == "AutoPaused" or (row is not None and row.paused_by == "shutterwheel"):
        return Code.AUTO_PAUSED, f"the wheel paused {schedule_id!r} at {at}: {change.reason}"
    why = f" (reason: {change.reason})" if change.reason else ""
    return (
        Code.PAUSED,
        f"schedule {schedule_id!r} was paused at {at} by request {change.request_id}{why}",
    )


# --- it was asked for in vain ---------------------------------------------------------------------


def asked_in_vain(
    evidence: Evidence, schedule_id: str, version: Version | None
) -> tuple[Problem | None, int]:
    """Return what would have made the schedule due, had it come in, and how near to the time.

    The latest one since a version. What nobody can read might have: it counts as at the window's
    edge.
    """
    since_ms = 0 if version is None else version.decided_at_ms
    for one in reversed(evidence.problems_since(since_ms, schedule_id)):
        far_ms = _asked_ms(evidence, one)
        if far_ms is not None:
            return one, far_ms
    return None, NEVER_MS


def _asked_ms(evidence: Evidence, problem: Problem) -> int | None:
    """Return how near to the time a photo was asked for; null: none was."""
    ask, event = evidence.ask, problem.event
    if event is None:
        return ask.window_ms
    if not isinstance(event, ScheduleUpserted):
        return None
    if check_spec(event.spec) is not None:
        return ask.window_ms
    place = evidence.schedules.place(ask.at_ms) if needs_place(event.spec) else None
    near = times_of(event.spec, CapturePolicy(), place, ask)
    return min((distance_ms(one, ask.at_ms) for one in near), default=None)
