"""An explanation in lines for people: the answer first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.recurrence.civil import duration_text
from streams.replay.explain_due import ENDLESS_MS, IDLE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.replay.explain_types import Attempt, ChangeSeen, Explanation, Story

    Show = Callable[[int], str]

COLUMN: Final = 11
CHANGES: Final = {
    "ScheduleUpserted": "published",
    "ScheduleCancelled": "cancelled",
    "SchedulePaused": "paused",
    "ScheduleResumed": "resumed",
    "CaptureRequested": "requested",
    "AutoPaused": "paused",
    "Ended": "ended",
    "row": "so since",
}


def lines(found: Explanation, show: Show) -> Iterator[str]:
    """Yield the lines; ``show`` is how moments are written."""
    yield found.answer
    if found.advice:
        yield f"What to do: {found.advice}"
    if found.stories and found.stories[0].answer == found.answer:
        yield ""
        yield from _story(found, found.stories[0], show)
        others = found.stories[1:]
    else:
        others = found.stories
    for note in found.notes:
        yield _line("health", note)
    if others:
        yield ""
        yield "The device's other schedules and requests:"
        for one in others:
            yield f"  {_name(one)}: {one.answer}"


def _name(story: Story) -> str:
    return story.schedule_id or f"request {story.request_id}"


def _line(name: str, text: str) -> str:
    return f"{name:<{COLUMN}}{text}"


def _story(found: Explanation, story: Story, show: Show) -> Iterator[str]:
    words = f": {story.in_words}" if story.in_words else ""
    yield _line(
        "schedule" if story.schedule_id else "request",
        f"{_name(story).removeprefix('request ')}{words}",
    )
    if story.policy:
        yield _line("policy", "; ".join(story.policy))
    if story.epoch is not None:
        yield _line("epoch", f"{story.epoch}{', paused' if story.paused else ''}")
    for change in story.changes:
        yield _line(CHANGES.get(change.change, "changed"), _change(change, show))
    yield from _due(story, show)
    yield from _tick(found, story, show)
    yield from _command(story, show)
    for attempt in story.attempts:
        yield _line(f"attempt {attempt.number}", _attempt(attempt, show))
    yield from _outcome(story, show)
    for note in story.notes:
        yield _line("but", note)


def _change(change: ChangeSeen, show: Show) -> str:
    if change.change == "row":
        by = f" by request {change.request_id}" if change.request_id else ""
        return (
            f"{show(change.decided_at_ms)}{by}, by the wheel's table: the change is not in the log"
        )
    parts = [f"by request {change.request_id}" if change.request_id else "by the wheel itself"]
    if change.published_at_ms is not None:
        parts.append(f"published {show(change.published_at_ms)}")
    tick = "" if change.tick_offset is None else f" (offset {change.tick_offset})"
    parts.append(f"decided by the tick of {show(change.decided_at_ms)}{tick}")
    if change.change in {"ScheduleUpserted", "ScheduleResumed"}:
        parts.append(f"from {show(change.starts_at_ms)} on")
    if change.reason:
        parts.append(f"reason: {change.reason}")
    return ", ".join(parts)


def _due(story: Story, show: Show) -> Iterator[str]:
    nominal_ms, scheduled_ms = story.nominal_ms, story.scheduled_ms
    if nominal_ms is not None and scheduled_ms is not None:
        shift = scheduled_ms - nominal_ms
        own = f", for this device {show(scheduled_ms)} ({shift:,} ms later)" if shift else ""
        yield _line("due", f"{show(nominal_ms)}{own}")
    if story.before_ms is not None or story.after_ms is not None:
        before = "never" if story.before_ms is None else show(story.before_ms)
        after = "never" if story.after_ms is None else show(story.after_ms)
        yield _line("due", f"before it {before}, after it {after}")


def _tick(found: Explanation, story: Story, show: Show) -> Iterator[str]:
    tick = story.tick
    if tick is None:
        return
    text = f"{show(tick.time_ms)}, offset {tick.offset} of partition {found.partition}"
    if IDLE_MS < tick.gap_ms < ENDLESS_MS:
        text += f", {duration_text(tick.gap_ms)} after the one before it"
    yield _line("tick", text)


def _command(story: Story, show: Show) -> Iterator[str]:
    c = story.command
    if c is None:
        return
    text = f"{c.command_id}, issued {show(c.issued_at_ms)} (offset {c.offset})"
    if c.moved_ms:
        text += f", moved {c.moved_ms:,} ms by capacity"
    if c.over_capacity:
        text += ", over capacity"
    yield _line("command", text)
    times = f"scheduled {show(c.scheduled_ms)}, not after {show(c.not_after_ms)}"
    yield _line("", f"{times}, {c.capture_timeout_ms:,} ms an attempt")


def _attempt(attempt: Attempt, show: Show) -> str:
    text = f"armed {show(attempt.armed_at_ms)}"
    if attempt.armed_by:
        text += f" ({attempt.armed_by})"
    if attempt.ended_at_ms is None:
        return f"{text}, not ended"
    text += f", ended {show(attempt.ended_at_ms)}"
    if attempt.cause:
        text += f": {attempt.cause}"
    return f"{text} - {attempt.meaning}" if attempt.meaning else text


def _outcome(story: Story, show: Show) -> Iterator[str]:
    out = story.outcome
    if out is None:
        return
    text = f"{out.state} at {show(out.ended_at_ms)} (offset {out.offset})"
    yield _line("outcome", f"{text}: {out.cause}" if out.cause else text)
    if out.shutter_at_ms is not None:
        yield _line("shutter", f"{show(out.shutter_at_ms)}, {out.lateness_ms:,} ms late")
    if out.image is not None:
        image = out.image
        size = f"{image.width_px}x{image.height_px}, {image.image_bytes:,} bytes"
        yield _line("photo", f"{image.uri} ({size})")
        yield _line("sha256", image.sha256)
    if out.verdict is not None:
        yield _line("quality", ", ".join(out.verdict.faults) or out.verdict.reason or "good")
