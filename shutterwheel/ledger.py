"""The ledger of a check: what is laid before it, entry by entry, and what that adds up to.

A (series, scheduled time) is one whole number, the **key**: the series' number, then 44 bits of
milliseconds. So a million captures are a few dictionaries from numbers to numbers. Entries come in
the order commands, shutters, results, pictures; then :meth:`Ledger.close` goes through what was
due.

See ``check.py`` for what each count means.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from shutterwheel.expected import TIME_BITS, series_of
from streams.core.ids import command_time_ms
from streams.core.transition import FAILED, REVOKED, SUCCESS, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.records import CaptureCommand, CaptureResult
    from shutterwheel.evidence import Seen, Shutter
    from shutterwheel.expected import Plan, Series, Span

MAX_FINDINGS: Final = 20
"""Sentences that are kept; the counts go on."""
MAX_OF_A_KIND: Final = 5
"""Of them about one kind of fault, so that many of one do not hide another."""
MAX_CAUSES: Final = 50
"""Different causes that are told apart."""

_TIME_MASK: Final = (1 << TIME_BITS) - 1
_SUPERSEDED: Final = re.compile(r"superseded: command (\d+) of epoch \d+ is ")


@dataclass(slots=True)
class Ledger:
    """What was asked for, what is there, and the counts."""

    plan: Plan
    started_ms: int
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)
    """FAILED by cause."""
    lateness_ms: array[int] = field(default_factory=lambda: array("q"))
    """Of first attempts, by the results."""
    seen_us: array[int] = field(default_factory=lambda: array("q"))
    """Lateness of first shutters, by the cameras' logs."""
    first_ms: int | None = None
    """End of the first SUCCESS."""
    last_ms: int = 0
    image_bytes: int = 0
    _numbers: dict[Series, int] = field(default_factory=dict)
    _names: list[Series] = field(default_factory=list)
    _commands: dict[int, int] = field(default_factory=dict)
    """Key, by command id."""
    _moved_ms: dict[int, int] = field(default_factory=dict)
    """How far the herd rule has moved a command, by its id; its key is that of the time before."""
    _issued: dict[int, int] = field(default_factory=dict)
    """Epoch of the last command, by key."""
    _ended: set[int] = field(default_factory=set)
    """Command ids that have a result."""
    _photographed: set[int] = field(default_factory=set)
    """Command ids that ended in SUCCESS."""
    _pictured: set[int] = field(default_factory=set)
    """Keys with a picture in the store."""
    _taken: dict[int, str] = field(default_factory=dict)
    """State of the result that counts, by key."""
    _revoked: dict[int, str] = field(default_factory=dict)
    """Cause of the last REVOKED, by key."""
    _opened: dict[int, int] = field(default_factory=dict)
    """Shutters the cameras saw, by command id."""
    _early: set[int] = field(default_factory=set)
    _doubled: set[int] = field(default_factory=set)
    """Keys that are counted as duplicated."""

    def count(self, what: str, sentence: Callable[[], str] | str = "") -> None:
        """Add one to a count; keep the sentence if there is room."""
        number = self.counts[what] = self.counts.get(what, 0) + 1
        if sentence and number <= MAX_OF_A_KIND and len(self.findings) < MAX_FINDINGS:
            text = sentence if isinstance(sentence, str) else sentence()
            self.findings.append(f"{what}: {text}")

    def key(self, series: Series, scheduled_ms: int) -> int:
        """Return the key of a time."""
        number = self._numbers.get(series)
        if number is None:
            number = self._numbers[series] = len(self._names)
            self._names.append(series)
        return number << TIME_BITS | scheduled_ms

    def name(self, key: int) -> str:
        """Return a key in words."""
        device_id, schedule_id = self._names[key >> TIME_BITS]
        at = datetime.fromtimestamp((key & _TIME_MASK) / 1000, UTC)
        text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{schedule_id!r} of {device_id!r} at {text}"

    # -- what is laid before it ------------------------------------------------------------------

    def command(self, command: CaptureCommand) -> None:
        """Enter a command: asked for, and only once."""
        command_id, moved_ms = command.command_id, command.moved_ms
        key = self.key(series_of(command), command.scheduled_ms - moved_ms)
        if command_id in self._commands:
            self._double(key, lambda: f"command {command_id} stands there twice")
            return
        self._commands[command_id] = key
        if moved_ms:
            self.count("moved")
            self._moved_ms[command_id] = moved_ms
        if self._issued.get(key) == command.epoch:
            self._double(key, lambda: f"a second command ({command_id}) of one epoch")
        self._issued[key] = command.epoch
        objection = self.plan.objection(command, command.issued_at_ms, moved_ms)
        if objection:
            self.count("unexpected", lambda: f"command {command_id}, {self.name(key)}: {objection}")

    def shutter(self, shutter: Shutter) -> None:
        """Enter a line of a camera's log."""
        if not shutter.shutter or not shutter.command_id:
            return
        number = shutter.command_id
        command_id = int(number) if number.isdecimal() else -1
        key = self._commands.get(command_id)
        if key is None:
            if command_id < 0 or command_time_ms(command_id) >= self.started_ms:
                who = f"{shutter.device_id!r} opened its shutter"
                self.count("unexpected", f"{who} for command {number[:40]!r}, which is not known")
            return
        self.count("shutters")
        due_ms = (key & _TIME_MASK) + self._moved_ms.get(command_id, 0)
        late_us = shutter.at_us - due_ms * 1000
        if late_us < 0:
            self._too_early(command_id, key, f"{-late_us / 1000:.3f} ms, by the camera's log")
        before = self._opened.get(command_id, 0)
        if not before:
            self.seen_us.append(late_us)
        self._opened[command_id] = before + 1

    def result(self, seen: Seen) -> None:
        """Enter a result: its walk, its picture, and whether its time has one already."""
        result = seen.result
        command_id = result.command_id
        moved_ms = self._moved_ms.get(command_id, 0)
        key = self.key(series_of(result), result.scheduled_ms - moved_ms)
        if command_id in self._ended:
            self._double(key, lambda: f"a second result of command {command_id}: {result.state}")
            return
        self._ended.add(command_id)
        self._check_command(result, key)
        wrong = [text for text in verify(result) if not text.startswith("early")]
        if wrong:
            self.count("illegal", lambda: f"result of {command_id}, {self.name(key)}: {wrong[0]}")
        self._check_state(result, key)
        self._check_shutter(result, key)
        if result.image is not None:
            self.image_bytes += result.image.image_bytes
            self.count("images")
            if seen.image:
                self.count("bad_images", lambda: f"{self.name(key)}: {seen.image}")
            else:
                self.count("verified")

    def blob(self, command_id: int) -> None:
        """Enter a picture that is in the store."""
        key = self._commands.get(command_id)
        if key is None:
            return  # of an earlier run, or of another namespace that shares the store
        if key in self._pictured:
            self._double(key, "two pictures in the store")
        self._pictured.add(key)
        if command_id not in self._photographed:
            self.count("strays")

    def _double(self, key: int, what: Callable[[], str] | str) -> None:
        if key not in self._doubled:
            self._doubled.add(key)
            text = what if isinstance(what, str) else what()
            self.count("duplicated", lambda: f"{self.name(key)}: {text}")

    def _too_early(self, command_id: int, key: int, text: str) -> None:
        if command_id not in self._early:
            self._early.add(command_id)
            self.count("early", lambda: f"{self.name(key)}: {text}")

    def _check_command(self, result: CaptureResult, key: int) -> None:
        """Compare with the command; one issued before the run is not in the ledger."""
        command_id, known = result.command_id, self._commands.get(result.command_id)
        if known == key:
            return
        if known is not None:
            text = f"it names {self.name(key)}, but its command {self.name(known)}"
            self.count("illegal", f"result of {command_id}: {text}")
            return
        issued_ms = command_time_ms(command_id)
        objection = (
            "nobody issued its command"
            if issued_ms >= self.started_ms
            else self.plan.objection(result, issued_ms)
        )
        if objection:
            text = f"result of {command_id}, {self.name(key)}: {objection}"
            self.count("unexpected", text)

    def _check_state(self, result: CaptureResult, key: int) -> None:
        state = result.state
        if state == REVOKED:
            self.count("revoked")
            self._revoked[key] = result.cause
            return
        before = self._taken.get(key)
        if before is not None:
            self._double(key, lambda: f"ended {before}, then {state} by {result.command_id}")
        if before is None or state == SUCCESS:
            self._taken[key] = state
        if state == FAILED:
            cause = result.cause.partition(":")[0][:60]
            if cause not in self.causes and len(self.causes) >= MAX_CAUSES:
                cause = "other"
            self.causes[cause] = self.causes.get(cause, 0) + 1
        elif state == SUCCESS:
            self.count("photos")
            self._photographed.add(result.command_id)
            ended_ms = result.ended_at_ms
            self.first_ms = ended_ms if self.first_ms is None else min(self.first_ms, ended_ms)
            self.last_ms = max(self.last_ms, ended_ms)

    def _check_shutter(self, result: CaptureResult, key: int) -> None:
        if result.shutter_at_ms is not None:
            late_ms = result.shutter_at_ms - result.scheduled_ms
            if late_ms < 0:
                self._too_early(result.command_id, key, f"{-late_ms} ms, by its result")
            if result.attempt == 1:
                self.lateness_ms.append(late_ms)
        opened = self._opened.get(result.command_id, 0)
        if opened > result.attempt:
            self._double(key, f"the shutter opened {opened} times in {result.attempt} attempts")

    # -- the sum ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Go through what was due, then through what is left."""
        rivals, ahead = self._rivals(), self._moved_ahead()
        lost: set[int] = set()
        for span, scheduled_ms in self.plan.due(self.started_ms):
            key = self.key(span.series, scheduled_ms)
            if key in ahead and key not in self._taken:
                continue
            self.count("due")
            state = self._taken.pop(key, None) or self._excuse(span, scheduled_ms, key, rivals)
            if state == "lost":
                lost.add(key)
                self.count("lost", self._why_lost(key))
            else:
                self.count(state)
        for key in self._taken:
            if (key & _TIME_MASK) < self.started_ms:
                self.count("taken_before")
            elif self.plan.is_after_end(self._names[key >> TIME_BITS], key & _TIME_MASK):
                self.count("taken_after_cancel")
            else:
                self.count("open")
        for command_id, key in self._commands.items():
            if command_id not in self._ended and key not in lost:
                self._no_result(command_id, key, ahead)

    def _moved_ahead(self) -> set[int]:
        """Return the keys of commands without a result that were moved past what is judged yet."""
        found: set[int] = set()
        for command_id, moved_ms in self._moved_ms.items():
            key = self._commands[command_id]
            span = self.plan.span_of(self._names[key >> TIME_BITS], self._issued[key])
            at_ms = (key & _TIME_MASK) + moved_ms
            if command_id not in self._ended and span and at_ms > self.plan.settled_ms(span):
                found.add(key)
        return found

    def _rivals(self) -> frozenset[int]:
        """Return the commands in whose favour others were revoked, and that did end."""
        found: set[int] = set()
        for cause in self._revoked.values():
            match = _SUPERSEDED.match(cause)
            if match and self._commands.get(int(match[1])) in self._taken:
                found.add(int(match[1]))
        return frozenset(found)

    def _excuse(self, span: Span, scheduled_ms: int, key: int, rivals: frozenset[int]) -> str:
        """Return what a due time comes to that has no result but, perhaps, a REVOKED."""
        cause = self._revoked.get(key, "")
        if cause.startswith("revoked:") and span.ends_ms is not None:
            return "revoked_due" if span.ends_ms <= scheduled_ms + span.window_ms else "lost"
        if cause.startswith("overlap:"):
            return "revoked_due"
        match = _SUPERSEDED.match(cause)
        if match and int(match[1]) in rivals:
            rival = self._names[self._commands[int(match[1])] >> TIME_BITS]
            return "superseded" if rival == span.series else "lost"
        return "lost"

    def _why_lost(self, key: int) -> str:
        cause = self._revoked.get(key)
        if cause is not None:
            return f"{self.name(key)} only ended REVOKED ({cause})"
        command = "its command was issued" if key in self._issued else "no command was issued"
        return f"{self.name(key)} has no result, and {command}"

    def _no_result(self, command_id: int, key: int, ahead: set[int]) -> None:
        """Count a command without a result: its time may lie ahead, as it is or as it was moved."""
        span = self.plan.span_of(self._names[key >> TIME_BITS], self._issued[key])
        runs = span if span is not None and span.ends_ms is None else None
        if key in ahead or (runs and (key & _TIME_MASK) > self.plan.end_ms(runs)):
            self.count("open")
        else:
            self.count("lost", lambda: f"command {command_id}, {self.name(key)}, has no result")
