"""Each command has one end, in time and sound; each end is a command's.

Results are read beside the ticks, as far as the time of the last one: so what is kept is the
commands that are open, and nothing of those that have ended but the ids of the last ``ENDED``.
That bounds the memory; what is found does not rest on it, as what came before its command waits.

A command without a result is **lost** when its deadline, its time-out and ``settle_ms`` are over
by the last tick, and open before that. One whose end came later than that is **late**.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.encoders import varint
from schemas.errors import DecodeError
from schemas.records import CaptureCommand, CaptureResult
from streams.core import ids
from streams.core.transition import SUCCESS, verify
from streams.replay.audit_findings import Finding
from streams.replay.audit_sound import SoundResults

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.codec import Codec
    from schemas.records import ImageRef, Record
    from streams.replay.audit_cursor import Cursor
    from streams.replay.audit_findings import Findings
    from streams.replay.log import Entry

    CheckImages = Callable[[list[ImageRef]], list[str]]
    """Says of each picture what is wrong with it; "": nothing."""

RESULTS: Final = "capture.results"
COMMANDS: Final = "capture.commands"
ENDED: Final = 65_536
"""Ids of captures that ended which are remembered, so that a second end is told from a stray."""
EARLY: Final = 65_536
"""Results that may wait for their commands: of clocks that differ."""
IMAGES: Final = 1_024
"""Pictures that are looked at together."""
COPIED: Final = (
    "device_id", "schedule_id", "request_id", "epoch", "nominal_ms", "scheduled_ms",
)  # fmt: skip
"""What a result repeats of its command."""


class Open(NamedTuple):
    """A command that has no result yet."""

    command: CaptureCommand
    entry: Entry


class ResultCheck:
    """The results of a partition beside its commands."""

    def __init__(
        self,
        cursor: Cursor,
        codec: Codec,
        findings: Findings,
        since_ms: int,
        settle_ms: int,
        check_images: CheckImages | None = None,
    ) -> None:
        """Take the results from a place on; those of commands issued up to ``since_ms`` pass by."""
        self.checked = 0
        self.images = 0
        self.states: dict[str, int] = {}
        self.late_ms_max = 0
        """Of scheduled time to shutter."""
        self.kept_from_ms = 0
        """Results of captures that ended before this may not be kept any more."""
        self.open: dict[bytes, Open] = {}
        """By the bytes of the command's id."""
        self.image_ids: list[int] | None = None
        """Command ids of all pictures, where they are wanted."""
        self._cursor = cursor
        self._codec = codec
        self._sound = SoundResults(codec)
        self._findings = findings
        self.since_ms = since_ms
        self._settle_ms = settle_ms
        self._check_images = check_images
        self._pictures: list[tuple[int, CaptureResult]] = []
        self._ended: dict[bytes, None] = {}
        self._early: dict[bytes, tuple[Entry, CaptureResult]] = {}
        self._read_ms = 0

    def issued(self, record: Record, entry: Entry) -> None:
        """Note a command that stands in capture.commands."""
        if type(record) is not CaptureCommand:
            return
        key = self._sound.key(entry.value or b"") or varint(record.command_id)
        if key in self._ended:
            return  # a second copy, which the pairing has found
        self.open[key] = Open(record, entry)
        if self._early:
            early = self._early.pop(key, None)
            if early is not None:
                self._pair(*early, self.open.pop(key))

    def advance(self, until_ms: int) -> None:
        """Read the results that were written up to a time."""
        cursor, waiting, look = self._cursor, self._cursor.waiting, self._result
        while (waiting or cursor.fill()) and waiting[0].timestamp_ms <= until_ms:
            cursor.read += 1
            look(waiting.popleft())

    def finish(self, last_ms: int, *, whole: bool) -> None:
        """Read on, and judge what is left; ``last_ms``: the last tick's time.

        ``whole``: to the end. Else only while commands are open that may still have a result.
        """
        patience_ms = max((self._deadline_ms(one.command) for one in self.open.values()), default=0)
        while (entry := self._cursor.peek()) is not None:
            if not whole and (not self.open or entry.timestamp_ms > max(last_ms, patience_ms)):
                break
            self._cursor.pop()
            self._result(entry)
        self._look_at_pictures()
        as_of_ms = max(last_ms, self._read_ms)
        for key, waits in list(self.open.items()):
            if self._deadline_ms(waits.command) >= as_of_ms:
                continue
            command = waits.command
            del self.open[key]
            if command.scheduled_ms >= self.kept_from_ms:
                over_ms = as_of_ms - command.not_after_ms
                text = (
                    f"command {command.command_id} of {command.device_id} has no result, "
                    f"{over_ms:,} ms after its deadline"
                )
                self._add("lost", COMMANDS, waits.entry.offset, text, command.device_id)
        for entry, result in self._early.values():
            if ids.command_time_ms(result.command_id) < last_ms:  # else perhaps of a later tick
                self._stray(entry, result)

    def _deadline_ms(self, command: CaptureCommand) -> int:
        return (
            max(command.not_after_ms, command.scheduled_ms)
            + command.capture_timeout_ms
            + self._settle_ms
        )

    def _result(self, entry: Entry) -> None:
        self._read_ms = max(self._read_ms, entry.timestamp_ms)
        if self._check_images is None and self._is_sound(entry.value or b""):
            return
        try:
            result = self._codec.decode_as(entry.value or b"", CaptureResult)
        except DecodeError as error:
            self._add("corrupt", RESULTS, entry.offset, str(error))
            return
        identity = result.command_id
        key = varint(identity)
        waits = self.open.pop(key, None)
        if waits is not None:
            self._pair(entry, result, waits)
        elif key in self._ended or key in self._early:
            text = f"command {identity} of {result.device_id} has another result"
            self._add("doubled", RESULTS, entry.offset, text, result.device_id)
        elif ids.command_time_ms(identity) > self.since_ms:
            if len(self._early) >= EARLY:
                self._stray(*self._early.pop(next(iter(self._early))))
            self._early[key] = (entry, result)

    def _is_sound(self, value: bytes) -> bool:
        """Look at a result without decoding it; False: it is to be looked at in full."""
        key = self._sound.key(value)
        waits = None if key is None else self.open.get(key)
        if key is None or waits is None:
            return False
        command = waits.command
        found = self._sound.look(value, command, waits.entry.value or b"")
        if found is None or found.ended_ms > self._deadline_ms(command):
            return False
        del self.open[key]
        self._note_end(key, SUCCESS)
        self.images += 1
        if self.image_ids is not None:
            self.image_ids.append(command.command_id)
        late_ms = found.shutter_ms - command.scheduled_ms
        self.late_ms_max = max(self.late_ms_max, late_ms)
        return True

    def _note_end(self, key: bytes, state: str) -> None:
        self.checked += 1
        ended, states = self._ended, self.states
        ended[key] = None
        if len(ended) > ENDED:
            del ended[next(iter(ended))]
        states[state] = states.get(state, 0) + 1

    def _stray(self, entry: Entry, result: CaptureResult) -> None:
        text = (
            f"command {result.command_id} of {result.device_id} was never issued, or ended before"
        )
        self._add("stray", RESULTS, entry.offset, text, result.device_id)

    def _pair(self, entry: Entry, result: CaptureResult, waits: Open) -> None:
        """Compare a result with its command."""
        self._note_end(varint(result.command_id), result.state)
        command, offset, device = waits.command, entry.offset, waits.command.device_id
        for text in verify(result):
            kind = "illegal"
            if text.startswith("early"):
                kind = "early"
            elif "CRC" in text:
                kind = "corrupt"
            self._add(kind, RESULTS, offset, f"command {result.command_id}: {text}", device)
        wrong = [name for name in COPIED if getattr(result, name) != getattr(command, name)]
        if wrong:
            text = f"command {result.command_id}: {', '.join(wrong)} not as in the command"
            self._add("divergent", RESULTS, offset, text, device)
        shutter_ms = result.shutter_at_ms
        if shutter_ms is not None:
            self.late_ms_max = max(self.late_ms_max, shutter_ms - command.scheduled_ms)
            if shutter_ms > command.not_after_ms:
                over_ms = shutter_ms - command.not_after_ms
                text = f"the shutter opened {over_ms:,} ms after the deadline"
                self._late(offset, result, text)
        if result.ended_at_ms > self._deadline_ms(command):
            over_ms = result.ended_at_ms - command.not_after_ms
            text = f"it ended {result.state} {over_ms:,} ms after the deadline"
            self._late(offset, result, text)
        if result.image is not None:
            self.images += 1
            if self.image_ids is not None:
                self.image_ids.append(result.command_id)
            if self._check_images is not None:
                self._pictures.append((offset, result))
                if len(self._pictures) >= IMAGES:
                    self._look_at_pictures()

    def _late(self, offset: int, result: CaptureResult, text: str) -> None:
        text = f"command {result.command_id}: {text}"
        self._add("late", RESULTS, offset, text, result.device_id)

    def _look_at_pictures(self) -> None:
        pictures, self._pictures = self._pictures, []
        if self._check_images is None or not pictures:
            return
        wrong = self._check_images([r.image for _, r in pictures if r.image is not None])
        for (offset, result), text in zip(pictures, wrong, strict=True):
            if text:
                told = f"command {result.command_id}: {text}"
                self._add("missing_image", RESULTS, offset, told, result.device_id)

    def _add(self, kind: str, topic: str, offset: int, text: str, device: str = "") -> None:
        place = self._cursor.partition
        self._findings.add(Finding(kind, topic, place, offset, text, device))
