"""What is asked and what is answered: plain values, in UTC milliseconds, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from schemas.records import ImageRef, QualityVerdict
from streams.replay.explain_reasons import Code
from streams.replay.start import Began

WINDOW_MS: Final = 60_000
"""How far from the time asked for a photo may have been due, to be the one that is meant."""
MAX_WINDOW_MS: Final = 86_400_000


def show_utc(at_ms: int) -> str:
    """Return a moment as ISO 8601 in UTC."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds")[:-6].removesuffix(".000") + "Z"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question: what of this device at this time?"""

    device_id: str
    at_ms: int
    now_ms: int
    window_ms: int = WINDOW_MS
    live: bool = True
    """The log goes on; false: it is an archive, and its end counts as now."""
    schedule_id: str | None = None
    """Only this schedule; ``""`` of a CaptureRequested."""
    command_id: int | None = None
    """Only this command."""
    show: Callable[[int], str] = show_utc
    """How moments stand in sentences."""


class ChangeSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a schedule: who asked for it, and the tick that took it."""

    change: str
    """The event's record, ``AutoPaused``, ``Ended``, or ``row``: only its outcome is known."""
    request_id: str
    epoch: int
    published_at_ms: int | None
    decided_at_ms: int
    """The tick's time."""
    starts_at_ms: int
    tick_offset: int | None
    event_offset: int | None
    reason: str = ""
    """Of a pause or an end."""


class TickRef(msgspec.Struct, frozen=True, kw_only=True):
    """The tick that decided, and the one before it."""

    offset: int
    time_ms: int
    stamp_ms: int
    """When the broker took it."""
    gap_ms: int
    """Since the tick before; about a second where a wheel worked."""
    before_ms: int | None


class CommandSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The command and where it stands in capture.commands."""

    offset: int
    command_id: int
    epoch: int
    nominal_ms: int
    scheduled_ms: int
    not_after_ms: int
    issued_at_ms: int
    capture_timeout_ms: int
    priority: int
    overlap: str
    moved_ms: int
    over_capacity: bool


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a capture."""

    number: int
    armed_at_ms: int
    armed_by: str
    ended_at_ms: int | None
    cause: str
    meaning: str
    advice: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended, from capture.results."""

    offset: int
    state: str
    cause: str
    ended_at_ms: int
    shutter_at_ms: int | None
    lateness_ms: int | None
    """Shutter minus scheduled time; null: no shutter opened."""
    image: ImageRef | None
    verdict: QualityVerdict | None


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of one schedule, or one request, of the device."""

    schedule_id: str
    """Empty for a CaptureRequested."""
    request_id: str = ""
    code: Code
    answer: str
    advice: str
    in_words: str = ""
    policy: tuple[str, ...] = ()
    zone: str = ""
    epoch: int | None = None
    changes: tuple[ChangeSeen, ...] = ()
    """What made the schedule what it was then: the spec's change first, the latest one last."""
    paused: bool = False
    nominal_ms: int | None = None
    scheduled_ms: int | None = None
    """The device's own time: nominal, spread and jitter."""
    before_ms: int | None = None
    after_ms: int | None = None
    """The due times next to the window, where none is in it."""
    tick: TickRef | None = None
    command: CommandSeen | None = None
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    notes: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: of the story that is nearest to the question, and the other stories."""

    device_id: str
    at_ms: int
    now_ms: int
    window_ms: int
    partition: int
    code: Code
    photo: bool
    answer: str
    advice: str
    stories: tuple[Story, ...]
    notes: tuple[str, ...] = ()
    records_read: int = 0
    """Looked at, most of them as bytes only."""
    began: Began | None = None
    """With which snapshot, or why with none; null: no state of before was needed."""
