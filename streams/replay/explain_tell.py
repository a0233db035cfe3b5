"""Puts a verdict into a story: the schedule in words, its policy, who changed it, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.records import Accepted
from streams.core.recurrence import describe, needs_place
from streams.core.recurrence.civil import duration_text
from streams.core.spread import offset_ms
from streams.replay.explain_command import Fate, seen
from streams.replay.explain_reasons import REASONS, Code
from streams.replay.explain_types import Story

if TYPE_CHECKING:
    from schemas.records import CaptureCommand, CapturePolicy, CaptureRequested
    from streams.replay.explain_due import Verdict
    from streams.replay.explain_gather import Evidence
    from streams.replay.explain_story import Version


class Ranked(NamedTuple):
    """A story and how near it comes to the question; less is nearer."""

    rank: tuple[int, int, int]
    story: Story


def tell(
    evidence: Evidence,
    schedule_id: str,
    version: Version | None,
    verdict: Verdict,
    moments: tuple[int, int] | None = None,
    request: Accepted | CaptureRequested | None = None,
    far_ms: int = 0,
) -> Ranked:
    """Return the story of a time without a command; ``moments``: nominal and scheduled.

    Without moments ``far_ms`` says how near the time is that was kept from being due.
    """
    ask = evidence.ask
    told = _Told(evidence, version)
    nominal_ms, scheduled_ms = moments or (None, None)
    before_ms, after_ms = (None, None) if moments else told.next_to()
    epoch = None if version is None else version.epoch
    changes = told.changes
    if isinstance(request, Accepted):
        epoch, changes = request.epoch, (evidence.schedules.request(request),)
    story = Story(
        schedule_id=schedule_id,
        request_id="" if request is None else request.request_id,
        code=verdict.code,
        answer=sentence(evidence, verdict),
        advice=advice_of(verdict.code, evidence, schedule_id),
        in_words=told.words,
        policy=told.policy,
        zone=told.zone,
        epoch=epoch,
        changes=changes,
        paused=version is not None and version.paused,
        nominal_ms=nominal_ms,
        scheduled_ms=scheduled_ms,
        before_ms=before_ms,
        after_ms=after_ms,
        tick=verdict.tick,
        notes=told.notes(schedule_id, verdict.text),
    )
    if moments is not None:
        far_ms = min(abs(one - ask.at_ms) for one in moments)
    return Ranked((verdict.rank, far_ms, 1), story)


def tell_command(
    evidence: Evidence,
    version: Version | None,
    verdict: Verdict,
    issued: tuple[int, CaptureCommand],
    ended: Fate,
) -> Ranked:
    """Return the story of a command."""
    offset, command = issued
    told, schedule_id = _Told(evidence, version), command.schedule_id
    request = next(
        (one for one in evidence.requests() if one.request_id == command.request_id), None
    )
    changes = told.changes
    if command.request_id and request is not None:
        changes = (evidence.schedules.request(request),)
    story = Story(
        schedule_id=schedule_id,
        request_id=command.request_id,
        code=verdict.code,
        answer=sentence(evidence, verdict),
        advice=ended.advice or advice_of(verdict.code, evidence, schedule_id, command.command_id),
        in_words=told.words,
        policy=told.policy,
        zone=told.zone,
        epoch=command.epoch,
        changes=changes,
        paused=version is not None and version.paused,
        nominal_ms=command.nominal_ms,
        scheduled_ms=command.scheduled_ms - command.moved_ms,
        tick=verdict.tick,
        command=seen(offset, command),
        attempts=ended.attempts,
        outcome=ended.outcome,
        notes=() if REASONS[verdict.code].photo else told.notes(schedule_id),
    )
    return Ranked(
        (verdict.rank, evidence.distance_ms(command), 0 if REASONS[verdict.code].photo else 1),
        story,
    )


def sentence(evidence: Evidence, verdict: Verdict) -> str:
    """Return the answer: what there is or is not, and why."""
    reason = REASONS[verdict.code]
    if reason.photo:
        return f"There is a photo: {verdict.text}."
    at = evidence.ask.show(evidence.ask.at_ms)
    under_way = {Code.NOT_YET, Code.COMMAND_WAITS, Code.CAPTURE_RUNS}
    no = "No photo yet for" if verdict.code in under_way else "No photo at"
    return f"{no} {at}: {verdict.text.removesuffix('.')}."


def advice_of(code: Code, evidence: Evidence, schedule_id: str, command_id: int = 0) -> str:
    """Return what to do about a reason."""
    return (
        REASONS[code]
        .advice.replace("{device}", evidence.ask.device_id)
        .replace("{schedule}", schedule_id)
        .replace("{command}", str(command_id))
    )


class _Told:
    """What a story says of a version, whatever the reason."""

    def __init__(self, evidence: Evidence, version: Version | None) -> None:
        self._evidence = evidence
        self._version = version
        self.words, self.zone = "", ""
        self.policy: tuple[str, ...] = ()
        self.changes = () if version is None else evidence.schedules.changes(version)
        found = None if version is None else evidence.schedules.spec(version)
        if found is not None:
            spec, policy = found
            at_ms = evidence.ask.at_ms
            place = evidence.schedules.place(at_ms) if needs_place(spec) else None
            self.words, self.zone = describe(spec, policy, place), spec.zone
            self.policy = tuple(policy_words(policy, evidence.ask.device_id))

    def next_to(self) -> tuple[int | None, int | None]:
        """Return the due times before and after the moment."""
        version, at_ms = self._version, self._evidence.ask.at_ms
        due = None if version is None else self._evidence.schedules.times(version, at_ms)
        if due is None or version is None or version.state != "alive":
            return None, None
        before_ms = due.times.before(at_ms)
        if before_ms is not None and before_ms < version.starts_at_ms:
            before_ms = None
        return before_ms, due.times.at_or_after(at_ms)

    def notes(self, schedule_id: str, told: str = "") -> tuple[str, ...]:
        """Return what else was asked of the schedule and did not come in."""
        since_ms = 0 if self._version is None else self._version.decided_at_ms
        return tuple(
            f"{one.text.removesuffix('.')}."
            for one in self._evidence.problems_since(since_ms, schedule_id)
            if schedule_id and one.schedule_id == schedule_id and one.text != told
        )


def policy_words(policy: CapturePolicy, device_id: str) -> list[str]:
    """Return the policy of a schedule, a sentence for each part that can matter."""
    window = "one period" if policy.catch_up_ms is None else duration_text(policy.catch_up_ms)
    lead, timeout = duration_text(policy.lead_ms), duration_text(policy.capture_timeout_ms)
    found = [
        f"issued {lead} ahead, with a timeout of {timeout} an attempt",
        f"misfire {policy.misfire}, wanted for {window}",
        f"overlap {policy.overlap}",
    ]
    if policy.deadline_ms is not None:
        found.append(f"never later than {duration_text(policy.deadline_ms)}")
    if policy.spread_ms:
        found.append(
            f"spread over {duration_text(policy.spread_ms)}: this device is "
            f"{offset_ms(device_id, policy.spread_ms):,} ms into it"
        )
    if policy.jitter_ms:
        found.append(f"jitter up to {duration_text(policy.jitter_ms)}")
    if policy.tolerance_ms:
        found.append(f"may be moved by capacity up to {duration_text(policy.tolerance_ms)}")
    if policy.priority:
        found.append(f"priority {policy.priority}")
    if policy.quality != "off":
        found.append(f"bad photos: {policy.quality}")
    if policy.keep_ms:
        found.append(f"photos are kept for {duration_text(policy.keep_ms)}")
    if policy.pause_after_failures:
        found.append(f"paused after {policy.pause_after_failures} failures in a row")
    return found
