"""Each command has one end, in time and sound; each end is a command's.

Results are read beside the ticks, as far as the time of the last one: so what is kept is the
commands that are open, and nothing of those that have ended but the ids of the last ``ENDED``.
That bounds the memory; what is found does not rest on it, as what came before its command waits.

A command without a result is **lost** when its deadline, its time-out and ``settle_ms`` are over
by the last tick, and open before that. One whose end came later than that is **late**.
"""

from __future__ import annotations

import math
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.columns import Batch
from schemas.errors import DecodeError
from schemas.records import CaptureCommand, CaptureResult, CaptureRevoked, ImageRef
from streams.core import ids
from streams.core.transition import verify
from streams.replay.audit_columns import ResultColumns
from streams.replay.audit_findings import Finding
from streams.replay.audit_open import EndedIds, OpenCommands
from streams.replay.audit_revoked import WAIT_MS, Revocations

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.codec import Codec
    from schemas.columns import Ints
    from schemas.records import Record
    from streams.replay.audit_columns import Looked
    from streams.replay.audit_cursor import Cursor
    from streams.replay.audit_findings import Findings
    from streams.replay.audit_open import Open
    from streams.replay.audit_quiet import Fires
    from streams.replay.log import Entry

    CheckImages = Callable[[list[ImageRef]], list[str]]
    """Says of each picture what is wrong with it; "": nothing."""

RESULTS: Final = "capture.results"
COMMANDS: Final = "capture.commands"
_TIMESTAMP: Final = attrgetter("timestamp_ms")
EARLY: Final = 65_536
"""Results that may wait for their commands: of clocks that differ."""
IMAGES: Final = 1_024
"""Pictures that are looked at together."""
TOGETHER: Final = 4_096
"""Results that are looked at together; they wait for one another."""
AT_THE_END: Final = 256
"""The same, behind the last tick: so many may be read that belong to later ones."""
FEW: Final = 24
"""So many are sooner decoded one by one."""
COPIED: Final = (
    "device_id", "schedule_id", "request_id", "epoch", "nominal_ms", "scheduled_ms",
)  # fmt: skip
"""What a result repeats of its command."""


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
        self.open = OpenCommands(codec, settle_ms)
        self.image_ids: list[int] | None = None
        """Command ids of all pictures, where they are wanted."""
        self._cursor = cursor
        self._codec = codec
        self._header = codec.header(CaptureResult)
        self._columns = ResultColumns()
        self._findings = findings
        self.since_ms = since_ms
        self._check_images = check_images
        self._pictures: list[tuple[Entry, ImageRef]] = []
        self._ended = EndedIds()
        self._revocations = Revocations()
        self._early: dict[int, tuple[Entry, CaptureResult]] = {}
        self._read_ms = 0

    def issued(self, record: Record, entry: Entry) -> None:
        """Note a command that stands in capture.commands."""
        if type(record) is not CaptureCommand:
            if isinstance(record, CaptureRevoked):
                self._revocations.note(record)
            return
        identity = record.command_id
        if identity in self._ended:
            return  # a second copy, which the pairing has found
        self.open.add(record, entry.value or b"", entry.offset)
        early = self._early.pop(identity, None) if self._early else None
        if early is not None:
            waits = self.open.pop(identity)
            assert waits is not None
            self._pair(*early, waits)

    def issued_run(self, fires: Fires, first: int, entries: list[Entry]) -> None:
        """Note commands of a run that stand there as they were made, from the ``first`` on."""
        some = slice(first, first + len(entries))
        command_ids = fires.ids[some]
        if not (
            self._ended.has_none(command_ids)
            and (not self._early or self._early.keys().isdisjoint(command_ids.tolist()))
        ):
            for entry in entries:
                self.issued(self._codec.decode(entry.value or b""), entry)
            return
        starts, until_ms = fires.starts[some], fires.not_after_ms[some]
        last_ms = np.maximum(until_ms, fires.scheduled_ms[some]) + fires.timeout_ms[some]
        rows = np.stack(
            (
                starts - starts[0], fires.sizes[some], fires.prefixes[some],
                fires.scheduled_ms[some], until_ms, last_ms + self.open.settle_ms,
                np.fromiter([entry.offset for entry in entries], np.int64, len(entries)),
            )
        )  # fmt: skip
        end = int(starts[-1] + fires.sizes[some][-1])
        self.open.add_many(command_ids, fires.data[int(starts[0]) : end], rows)

    def advance(self, until_ms: float, *, together: int = TOGETHER, whole: bool = False) -> bool:
        """Read results that were written up to a time, as soon as there are enough of them.

        ``whole``: those that are fewer as well. Say whether there were any.
        """
        self._unexplained(until_ms - WAIT_MS)
        cursor, waiting = self._cursor, self._cursor.waiting
        done = False
        while True:
            while len(waiting) < together and cursor.fill():
                pass
            if not waiting or waiting[0].timestamp_ms > until_ms:
                return done
            most = min(together, len(waiting))
            if not whole and (most < together or waiting[most - 1].timestamp_ms > until_ms):
                return done
            times = list(map(_TIMESTAMP, islice(waiting, most)))
            if max(times) > until_ms:
                most = next(n for n, time_ms in enumerate(times) if time_ms > until_ms)
            self._read_ms = max(self._read_ms, *times[:most])
            self._look(cursor.take(most))
            done = True
            if whole and together == AT_THE_END:
                return done

    def finish(self, last_ms: int, *, whole: bool) -> None:
        """Read on, and judge what is left; ``last_ms``: the last tick's time.

        ``whole``: to the end. Else only while commands are open that may still have a result.
        """
        if whole:
            self.advance(math.inf, whole=True)
        else:
            self.advance(last_ms, whole=True)
            until_ms = max(last_ms, self.open.latest_deadline_ms())
            while len(self.open) and self.advance(until_ms, together=AT_THE_END, whole=True):
                pass
        self._look_at_pictures()
        as_of_ms = max(last_ms, self._read_ms)
        for command, offset in self.open.overdue(as_of_ms):
            if command.scheduled_ms >= self.kept_from_ms:
                over_ms = as_of_ms - command.not_after_ms
                text = (
                    f"command {command.command_id} of {command.device_id} has no result, "
                    f"{over_ms:,} ms after its deadline"
                )
                self._add("lost", COMMANDS, offset, text, command.device_id)
        self._unexplained(math.inf)
        for entry, result in self._early.values():
            if ids.command_time_ms(result.command_id) < last_ms:  # else perhaps of a later tick
                self._stray(entry, result)

    # -- many at once ----------------------------------------------------------------------------

    def _look(self, entries: list[Entry]) -> None:
        """Look at results: those that are sound together, all others one by one."""
        rest = entries
        if len(entries) > FEW and len(self.open):
            rest = self._look_together(entries)
        for entry in rest:
            self._result(entry)

    def _look_together(self, entries: list[Entry]) -> list[Entry]:
        """Take the results that are sound; return the others."""
        batch = Batch([entry.value or b"" for entry in entries])
        found, good = self._columns.ids(batch, self._header)
        slots = self.open.find(found)
        [rows] = np.nonzero(good & (slots >= 0))
        if not len(rows):
            return entries
        rows = rows[self.open.firsts(slots[rows])]  # two of one command: one can be sound
        looked = self._columns.look(batch, rows, found[rows], slots[rows], self.open)
        self._take(entries, batch, rows, slots[rows], found[rows], looked)
        left = np.ones(len(entries), np.bool_)
        left[rows[looked.sound]] = False
        return [entries[n] for n in np.nonzero(left)[0].tolist()]

    def _take(
        self, entries: list[Entry], batch: Batch, rows: Ints, slots: Ints, found: Ints,
        looked: Looked,
    ) -> None:  # fmt: skip
        """Count the results that are sound, and keep their pictures to be looked at."""
        sound = looked.sound
        sound_ids = found[sound]
        opened = looked.shutter_ms[sound] > 0
        if opened.any():
            scheduled = self.open.scheduled_ms(slots[sound])
            late_ms = int((looked.shutter_ms[sound] - scheduled)[opened].max())
            self.late_ms_max = max(self.late_ms_max, late_ms)
        self.open.end(slots[sound])
        self._note_ends(sound_ids)
        for state, count in looked.states.items():
            self.states[state] = self.states.get(state, 0) + count
        pictured = sound & (looked.image >= 0)
        self.images += int(np.count_nonzero(pictured))
        if self.image_ids is not None:
            self.image_ids += found[pictured].tolist()
        if self._check_images is None:
            return
        [some] = np.nonzero(pictured)
        if len(some):
            own = [entries[n] for n in rows[some].tolist()]
            self._pictures += zip(own, looked.images(batch, some), strict=True)
        if len(self._pictures) >= IMAGES:
            self._look_at_pictures()

    # -- one by one ------------------------------------------------------------------------------

    def _result(self, entry: Entry) -> None:
        try:
            result = self._codec.decode_as(entry.value or b"", CaptureResult)
        except DecodeError as error:
            self._add("corrupt", RESULTS, entry.offset, str(error))
            return
        identity = result.command_id
        waits = self.open.pop(identity)
        if waits is not None:
            self._pair(entry, result, waits)
        elif identity in self._ended or identity in self._early:
            text = f"command {identity} of {result.device_id} has another result"
            self._add("doubled", RESULTS, entry.offset, text, result.device_id)
        elif ids.command_time_ms(identity) > self.since_ms:
            if len(self._early) >= EARLY:
                self._stray(*self._early.pop(next(iter(self._early))))
            self._early[identity] = (entry, result)

    def _note_ends(self, identities: Ints) -> None:
        self.checked += len(identities)
        self._ended.note(identities)

    def _stray(self, entry: Entry, result: CaptureResult) -> None:
        text = (
            f"command {result.command_id} of {result.device_id} was never issued, or ended before"
        )
        self._add("stray", RESULTS, entry.offset, text, result.device_id)

    def _pair(self, entry: Entry, result: CaptureResult, waits: Open) -> None:
        """Compare a result with its command."""
        self._note_ends(np.array([result.command_id], np.int64))
        self.states[result.state] = self.states.get(result.state, 0) + 1
        command, offset, device = waits.command, entry.offset, waits.command.device_id
        for text in verify(result):
            kind = "illegal"
            if text.startswith("early"):
                kind = "early"
            elif "CRC" in text:
                kind = "corrupt"
            self._add(kind, RESULTS, offset, f"command {result.command_id}: {text}", device)
        self._revocations.look(offset, entry.timestamp_ms, result, command)
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
        if result.ended_at_ms > self.open.deadline_ms(command):
            over_ms = result.ended_at_ms - command.not_after_ms
            text = f"it ended {result.state} {over_ms:,} ms after the deadline"
            self._late(offset, result, text)
        if result.image is not None:
            self.images += 1
            if self.image_ids is not None:
                self.image_ids.append(result.command_id)
            if self._check_images is not None:
                self._pictures.append((entry, result.image))
                if len(self._pictures) >= IMAGES:
                    self._look_at_pictures()

    def _unexplained(self, until_ms: float) -> None:
        """Report what was revoked by nobody."""
        for offset, _, command, cause in self._revocations.unexplained(until_ms):
            text = (
                f"command {command.command_id} ended REVOKED, {cause!r}, and no CaptureRevoked "
                f"of {command.schedule_id!r} says so"
            )
            self._add("divergent", RESULTS, offset, text, command.device_id)

    def _late(self, offset: int, result: CaptureResult, text: str) -> None:
        text = f"command {result.command_id}: {text}"
        self._add("late", RESULTS, offset, text, result.device_id)

    def _look_at_pictures(self) -> None:
        pictures, self._pictures = self._pictures, []
        if self._check_images is None or not pictures:
            return
        wrong = self._check_images([image for _, image in pictures])
        for (entry, _), text in zip(pictures, wrong, strict=True):
            if text:
                result = self._codec.decode_as(entry.value or b"", CaptureResult)
                told = f"command {result.command_id}: {text}"
                self._add("missing_image", RESULTS, entry.offset, told, result.device_id)

    def _add(self, kind: str, topic: str, offset: int, text: str, device: str = "") -> None:
        place = self._cursor.partition
        self._findings.add(Finding(kind, topic, place, offset, text, device))
