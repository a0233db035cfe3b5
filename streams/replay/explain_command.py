"""What became of a command: its attempts, its outcome, and which reason that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.records import CaptureResult
from streams.core.transition import RUNNING
from streams.replay.explain_causes import (
    attempt_advice,
    attempt_words,
    reason_of_result,
)
from streams.replay.explain_read import COMMANDS, PROFILES, RESULTS
from streams.replay.explain_reasons import Code
from streams.replay.explain_types import Attempt, CommandSeen, Outcome

if TYPE_CHECKING:
    from schemas.records import CaptureCommand, Transition
    from streams.replay.explain_gather import Evidence
    from streams.replay.explain_read import Placed

COMMIT_MS: Final = 2_000
"""How long after its last moment a capture may take to be on the record."""
SHIFT_MS: Final = 1_000
"""A photo farther than this from the time asked for is said to be elsewhere, and why."""


class Fate(NamedTuple):
    """How a command ended, or that it has not."""

    code: Code
    text: str
    """What follows 'No photo: ' or 'There is a photo: '."""
    outcome: Outcome | None
    attempts: tuple[Attempt, ...]
    advice: str = ""
    """In place of the reason's own."""


def seen(offset: int, command: CaptureCommand) -> CommandSeen:
    """Return a command as it is shown."""
    c = command
    return CommandSeen(
        offset=offset, command_id=c.command_id, epoch=c.epoch, nominal_ms=c.nominal_ms,
        scheduled_ms=c.scheduled_ms, not_after_ms=c.not_after_ms, issued_at_ms=c.issued_at_ms,
        capture_timeout_ms=c.capture_timeout_ms, priority=c.priority, overlap=c.overlap,
        moved_ms=c.moved_ms, over_capacity=c.over_capacity,
    )  # fmt: skip


def how_it_ended(evidence: Evidence, offset: int, command: CaptureCommand) -> Fate:
    """Return what became of a command."""
    placed = evidence.results.get(command.command_id)
    if placed is None:
        return _open(evidence, offset, command)
    result = placed.record
    assert isinstance(result, CaptureResult), "nothing else is kept there"
    attempts = attempts_of(result.transitions)
    outcome = _outcome(placed, result)
    code = reason_of_result(result) or Code.FAILED
    if result.state == "SUCCESS":
        code, text = _photo(evidence, command, result, code)
        return Fate(code, text, outcome, attempts)
    what = f"command {command.command_id} ended {result.state}"
    text = f"{what} at {evidence.ask.show(result.ended_at_ms)}: {result.cause}"
    failed = [one.cause for one in attempts if one.cause not in {"", "overlap", result.cause}]
    if failed and result.state != "FAILED":
        text += f"; before that an attempt failed: {failed[-1]}"
    advice = ""
    if code in {Code.FAILED, Code.BAD_PHOTO}:
        advice = attempt_advice(result.cause)
        meaning = attempt_words(result.cause)
        text += f" - {meaning}" if meaning else ""
    if code is Code.DEVICE_UNKNOWN:
        letter = next((one for one in evidence.letters if one.topic == PROFILES), None)
        if letter is not None:
            code, text = (
                Code.PROFILE_REFUSED,
                f"{text}; its profile became a dead letter ({letter.code}): {letter.reason}",
            )
    return Fate(code, text, outcome, attempts, advice)


def _outcome(placed: Placed, result: CaptureResult) -> Outcome:
    shutter_ms = result.shutter_at_ms
    return Outcome(
        offset=placed.offset,
        state=result.state,
        cause=result.cause,
        ended_at_ms=result.ended_at_ms,
        shutter_at_ms=shutter_ms,
        lateness_ms=None if shutter_ms is None else shutter_ms - result.scheduled_ms,
        image=result.image,
        verdict=result.verdict,
    )


def _photo(
    evidence: Evidence, command: CaptureCommand, result: CaptureResult, code: Code
) -> tuple[Code, str]:
    """Return why a photo that is there may not be where it was looked for."""
    ask, show = evidence.ask, evidence.ask.show
    scheduled_ms, shutter_ms = command.scheduled_ms, result.shutter_at_ms
    text = f"command {command.command_id}, scheduled {show(scheduled_ms)}"
    if shutter_ms is not None:
        text += f", shutter {shutter_ms - scheduled_ms} ms after that"
    image = result.image
    if image is not None and image.keep_until_ms is not None and ask.now_ms >= image.keep_until_ms:
        return (
            Code.PHOTO_GONE,
            f"{text}, gave one, which was kept until {show(image.keep_until_ms)}",
        )
    if code is Code.PHOTO_RECOVERED:
        text += "; its worker was lost after it was taken, and the next one found it"
    if code is Code.PHOTO_LATE:
        text += f", at attempt {result.attempt}"
    if code is not Code.PHOTO_THERE or abs(scheduled_ms - ask.at_ms) <= SHIFT_MS:
        return code, text
    away_ms, unmoved_ms = abs(scheduled_ms - ask.at_ms), scheduled_ms - command.moved_ms
    if command.moved_ms and abs(unmoved_ms - ask.at_ms) < away_ms:
        text += f"; capacity moved it forward by {command.moved_ms:,} ms from {show(unmoved_ms)}"
        return Code.MOVED_BY_CAPACITY, text
    if abs(command.nominal_ms - ask.at_ms) < away_ms:
        text += (
            f"; that is {unmoved_ms - command.nominal_ms:,} ms into the window of its nominal time"
            f" {show(command.nominal_ms)}"
        )
        return Code.SPREAD, text
    return code, text


def _open(evidence: Evidence, offset: int, command: CaptureCommand) -> Fate:
    """Return why a command has no result."""
    show, now_ms = evidence.ask.show, evidence.ask.now_ms
    what = f"command {command.command_id}"
    for letter in evidence.letters:
        where = letter.topic, letter.partition, letter.offset
        if where == (COMMANDS, evidence.reader.partition, offset):
            text = f"{what} became a dead letter ({letter.code}): {letter.reason}"
            return Fate(Code.COMMAND_DEAD_LETTERED, text, None, ())
    if now_ms < command.scheduled_ms:
        text = f"{what} waits for {show(command.scheduled_ms)}"
        return Fate(Code.COMMAND_WAITS, text, None, ())
    if now_ms <= command.not_after_ms + command.capture_timeout_ms + COMMIT_MS:
        text = f"{what} is open: it may be taken until {show(command.not_after_ms)}"
        return Fate(Code.CAPTURE_RUNS, text, None, ())
    reader = evidence.reader
    if reader.first(RESULTS) > 0 and reader.at(RESULTS, command.scheduled_ms) == reader.first(
        RESULTS
    ):
        text = f"{RESULTS} has nothing so old: what became of {what} is not known any more"
        return Fate(Code.LOG_TOO_SHORT, text, None, ())
    text = f"{what} has no result, and its last moment was {show(command.not_after_ms)}"
    return Fate(Code.NO_RESULT, text, None, ())


def attempts_of(transitions: tuple[Transition, ...]) -> tuple[Attempt, ...]:
    """Return the attempts that a capture's transitions tell of."""
    found: list[Attempt] = []
    for n, one in enumerate(transitions):
        if one.to_state != RUNNING:
            continue
        end = transitions[n + 1] if n + 1 < len(transitions) else None
        cause = "" if end is None else end.cause
        found.append(
            Attempt(
                number=one.attempt,
                armed_at_ms=one.at_ms,
                armed_by=one.cause,
                ended_at_ms=None if end is None else end.at_ms,
                cause=cause,
                meaning=attempt_words(cause),
                advice=attempt_advice(cause),
            )
        )
    return tuple(found)


def best(
    commands: list[tuple[int, CaptureCommand]], evidence: Evidence
) -> tuple[int, CaptureCommand]:
    """Return the command that a question is about: the nearest; of one time the one that counts.

    Of several commands of one nominal time, that is the one with a photo, else one that was not
    revoked, else the latest.
    """

    def rank(entry: tuple[int, CaptureCommand]) -> tuple[int, int, int]:
        _, command = entry
        placed = evidence.results.get(command.command_id)
        result = placed.record if placed is not None else None
        state = result.state if isinstance(result, CaptureResult) else ""
        counts = {"SUCCESS": 0, "REVOKED": 2}.get(state, 1)
        return (abs(command.nominal_ms - nominal_ms), counts, -command.command_id)

    nearest = min(commands, key=lambda entry: evidence.distance_ms(entry[1]))
    nominal_ms = nearest[1].nominal_ms
    return min(commands, key=rank)
