"""Why there is a photo of a device at a time, or why there is none (SPEC 1.3, DESIGN 'Replay').

``explain(log, codec, ask)`` reads one partition of a log, on a cluster or anywhere else, and says
the schedule as it stood, who changed it, the tick that decided, the command, its attempts and its
outcome; and of all reasons that there can be (``explain_reasons.py``) the one that holds.

::

    decisions ─▶ the schedule as it stood ──▶ due at that time? ──no──▶ why not
    ticks     ─▶ its spec, its changes          │yes
    commands  ─────────────────────────────▶ a command? ──no──▶ skipped, late, lost
    results   ─────────────────────────────▶ how it ended

Where a device has several schedules, the answer is of the one whose time is nearest to the
question; the others stand behind it. Reading is bounded as ``explain_read.py`` says; the answer is
the same whether there is a snapshot to begin with or not, as long as the topics keep it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.errors import ShutterwheelError
from schemas.records import (
    CaptureRequested,
    DeviceFailing,
    DeviceOffline,
    DeviceOnline,
    DeviceRecovered,
    DeviceReset,
    ScheduleCancelled,
    SchedulePaused,
)
from streams.core import ids
from streams.replay.explain_due import Verdict
from streams.replay.explain_gather import Evidence
from streams.replay.explain_judge import judge, judge_request, of_command
from streams.replay.explain_read import TICKS, Reader, partition_of_command
from streams.replay.explain_reasons import REASONS, Code
from streams.replay.explain_tell import Ranked, advice_of, sentence, tell
from streams.replay.explain_types import Ask, Explanation

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import DeviceEvent
    from streams.replay.log import Log
    from streams.replay.start import ReadRows

HEALTH_MS: Final = 3_600_000
"""How long before the time asked for the device's health is told."""
MAX_STORIES: Final = 50
"""Schedules of a device that are told of, the nearest first."""
MAX_NOTES: Final = 5


class UnknownCommandError(ShutterwheelError):
    """No such command is in the log."""

    advice = "Check the id and the namespace; what is older than the topics keep is not known."


def explain(log: Log, codec: Codec, ask: Ask, read_rows: ReadRows | None = None) -> Explanation:
    """Answer a question; UsageError where the log has no ticks, BrokerError as ``Log.read``.

    ``read_rows`` reads the rows of snapshots; StoreError of it is told in ``began``.
    """
    partition = ids.partition_of(ask.device_id, log.partitions(TICKS))
    with Reader(log, codec, partition, read_rows) as reader:
        return _answer(Evidence(reader, ask))


def _answer(evidence: Evidence) -> Explanation:
    ask, reader = evidence.ask, evidence.reader
    ranked = _stories(evidence)
    device = _of_device(evidence, ranked)
    if device is not None:
        code, answer = device.code, sentence(evidence, device)
        advice = advice_of(code, evidence, ask.schedule_id or "")
    else:
        story = ranked[0].story
        code, answer, advice = story.code, story.answer, story.advice
    return Explanation(
        device_id=ask.device_id,
        at_ms=ask.at_ms,
        now_ms=ask.now_ms,
        window_ms=ask.window_ms,
        partition=reader.partition,
        code=code,
        photo=REASONS[code].photo,
        answer=answer,
        advice=advice,
        stories=tuple(one.story for one in ranked[:MAX_STORIES]),
        notes=tuple(_notes(evidence)),
        records_read=reader.records_read,
        began=None if reader.start is None else reader.start.began,
    )


def explain_command(
    log: Log, codec: Codec, command_id: int, ask: Ask, read_rows: ReadRows | None = None
) -> Explanation:
    """Answer what became of a command; of ``ask`` only now, window and show count.

    UnknownCommandError where the log has no such command.
    """
    with Reader(log, codec, partition_of_command(log, command_id), read_rows) as reader:
        found = reader.command(command_id)
        if found is None:
            raise UnknownCommandError(f"No command {command_id} is in this log.")
        asked = msgspec.structs.replace(
            ask,
            device_id=found.device_id,
            at_ms=found.scheduled_ms,
            schedule_id=found.schedule_id,
            command_id=command_id,
        )
        return _answer(Evidence(reader, asked))


def _stories(evidence: Evidence) -> list[Ranked]:
    """Return the stories of the device's schedules and requests, the nearest first."""
    ask, found = evidence.ask, list[Ranked]()
    schedules = {*evidence.stories, *(c.schedule_id for _, c in evidence.commands)} - {""}
    for schedule_id in sorted(schedules):
        if ask.schedule_id in {None, schedule_id}:
            story = judge(evidence, schedule_id)
            if story is not None:
                found.append(story)
    if not ask.schedule_id and ask.command_id is None:
        found += [judge_request(evidence, one) for one in evidence.requests()]
        found += _refused_requests(evidence)
    if not ask.schedule_id:
        found += _unknown_requests(evidence, {one.story.request_id for one in found})
    found.sort(key=lambda one: one.rank)
    return found


def _refused_requests(evidence: Evidence) -> list[Ranked]:
    """Return the stories of single photos that were asked for at that time and not taken."""
    found: list[Ranked] = []
    for one in evidence.problems:
        event = one.event
        if isinstance(event, CaptureRequested):
            at_ms = one.at_ms if event.at_ms is None else event.at_ms
            if abs(at_ms - evidence.ask.at_ms) <= evidence.ask.window_ms:
                verdict = Verdict(one.code, one.text)
                found.append(tell(evidence, "", None, verdict, (at_ms, at_ms), event))
    return found


def _unknown_requests(evidence: Evidence, told: set[str]) -> list[Ranked]:
    """Return the stories of requests of which the log has the command, but not the decision."""
    return [
        of_command(evidence, "", at, command)
        for at, command in evidence.commands
        if command.request_id and command.request_id not in told and evidence.is_near(command)
    ]


def _of_device(evidence: Evidence, ranked: list[Ranked]) -> Verdict | None:
    """Return what holds for the device as a whole; null: the nearest story is the answer."""
    ask, reader = evidence.ask, evidence.reader
    if ranked and ranked[0].rank[0] <= 0:
        return None
    first = reader.first_tick()
    if first is not None and reader.first(TICKS) > 0 and ask.at_ms < first.tick.time_ms:
        text = f"the ticks of partition {reader.partition} begin at {ask.show(first.tick.time_ms)}"
        return Verdict(Code.LOG_TOO_SHORT, text)
    if ranked:
        return None
    wanted = None if not ask.schedule_id else ask.schedule_id
    mine = [
        one
        for one in evidence.problems_since(0, wanted)
        if not isinstance(one.event, SchedulePaused | ScheduleCancelled)
    ]
    if mine:
        return Verdict(mine[-1].code, mine[-1].text)
    known, written_ms, profile = reader.profile(evidence.key)
    if not (known or evidence.decisions or evidence.commands):
        text = f"there is no device {ask.device_id!r} here: nothing is known of it"
        return Verdict(Code.NO_SUCH_DEVICE, text)
    which = "it had no schedule" if wanted is None else f"it had no schedule {wanted!r}"
    text = f"{which} then, and nobody asked for a photo"
    if known and (profile is None or profile.removed):
        text += f"; the device was removed at {ask.show(written_ms)}"
    later = [v for one in evidence.stories.values() for v in one if v.decided_at_ms > ask.at_ms]
    if later:
        text += f"; the first change after it is of {ask.show(later[0].decided_at_ms)}"
    return Verdict(Code.NO_SCHEDULE, text)


def _notes(evidence: Evidence) -> list[str]:
    """Return what was told of the device's health before the time."""
    ask = evidence.ask
    told = evidence.reader.device_events(evidence.key, ask.at_ms - HEALTH_MS, evidence.high_ms)
    return [_health(one, ask) for one in told[-MAX_NOTES:]]


def _health(event: DeviceEvent, ask: Ask) -> str:
    at = ask.show(event.at_ms)
    match event:
        case DeviceOffline():
            return f"{at}: the device went offline, last heard of {ask.show(event.last_seen_ms)}."
        case DeviceOnline():
            return f"{at}: the device came online."
        case DeviceFailing():
            return f"{at}: {event.failures} captures failed in a row, the last: {event.cause}."
        case DeviceRecovered():
            return f"{at}: a capture succeeded after {event.failures} failures in a row."
        case DeviceReset():
            return f"{at}: the device was told to start again: {event.cause}."
