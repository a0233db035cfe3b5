"""Every schedule event is in a tick or in a dead letter, once, and as it was published.

The wheel takes the events of a partition in their order, and writes the dead letter of a bad one in
the transaction that passes it. So ticks and letters each name offsets that only grow, and the
events are read beside them: an event before the next change of a tick must be the next letter's.

A letter of an event that could be read has its Refused among the decisions; those come from no
tick, so :class:`Letters` also says whether a decision is one of them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import DeadLetter, Refused, ScheduleEvent, ScheduleUpserted
from streams.replay.audit_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.codec import Codec
    from schemas.records import Record, ScheduleTick
    from streams.replay.audit_cursor import Cursor
    from streams.replay.audit_findings import Findings

EVENTS: Final = "schedule.events"
TICKS: Final = "schedule.ticks"
DECISIONS: Final = "schedule.decisions"
LETTERS: Final = "dead.letters"
WHEEL: Final = "wheel"
EVENT_TYPES: Final = ScheduleEvent.__args__
SHOWN: Final = 256
"""Most characters of an id that the wheel repeats in a Refused."""
CUT: Final = "bytes is cut)"
"""How the reason of a letter ends whose value was too long for it."""


class Letters:
    """The dead letters of the schedule events of a partition."""

    def __init__(self, cursor: Cursor, codec: Codec, findings: Findings, since: int) -> None:
        """Take the letters from a place on; those of events before ``since`` do not count."""
        self._cursor = cursor
        self._codec = codec
        self._findings = findings
        self._since = since
        self._letters: deque[tuple[int, DeadLetter]] = deque()
        """Own offset, letter; of events that were not passed yet."""
        self._refusals: deque[tuple[int, DeadLetter, Record]] = deque()
        """The same, with the event, whose Refused was not met yet."""
        self._last = since - 1

    def of(self, offset: int) -> tuple[int, DeadLetter] | None:
        """Return the letter of an event, at most once; those of earlier ones were asked before."""
        while self._last < offset and self._pull():
            pass
        while self._letters and self._letters[0][1].offset < offset:
            at, letter = self._letters.popleft()
            self._add(at, "divergent", f"a dead letter of {_event(letter.offset)}, which is none")
        if self._letters and self._letters[0][1].offset == offset:
            return self._letters.popleft()
        return None

    def refused(self, record: Record) -> bool:
        """Say whether a decision is the Refused of the next letter that must have one."""
        if not isinstance(record, Refused):
            return False
        while not self._refusals and self._pull():
            pass
        if not self._refusals:
            return False
        _, letter, event = self._refusals[0]
        if _answer(letter, event) != (
            *(record.request_id, record.device_id, record.schedule_id),
            *(record.code, record.reason),
        ):
            return False
        self._refusals.popleft()
        return True

    def finish(self, until_ms: int) -> None:
        """Report letters up to a time whose Refused did not come."""
        for at, letter, event in self._refusals:
            if letter.at_ms <= until_ms and letter.offset <= self._last:
                device = _answer(letter, event)[1]
                self._add(at, "lost", f"{_event(letter.offset)} has no Refused decision", device)

    def _pull(self) -> bool:
        """Read up to the next letter of a schedule event."""
        while self._cursor.peek() is not None:
            entry = self._cursor.pop()
            try:
                letter = self._codec.decode_as(entry.value or b"", DeadLetter)
            except DecodeError as error:
                self._add(entry.offset, "corrupt", str(error))
                continue
            if letter.topic != EVENTS or letter.app != WHEEL or letter.offset < self._since:
                continue
            if letter.offset <= self._last:
                self._add(entry.offset, "doubled", f"another dead letter of {_event(self._last)}")
                continue
            self._last = letter.offset
            self._letters.append((entry.offset, letter))
            event = self._refusable(letter)
            if event is not None:
                self._refusals.append((entry.offset, letter, event))
            return True
        return False

    def _refusable(self, letter: DeadLetter) -> Record | None:
        """Return the event of a letter that the wheel answers."""
        try:
            event = self._codec.decode(letter.value or b"")
        except DecodeError:
            return None
        return event if isinstance(event, EVENT_TYPES) else None

    def _add(self, offset: int, kind: str, text: str, device_id: str = "") -> None:
        place = self._cursor.partition
        self._findings.add(Finding(kind, LETTERS, place, offset, text, device_id))


def _event(offset: int) -> str:
    return f"the event at offset {offset}"


def _answer(letter: DeadLetter, event: Record) -> tuple[str, str, str, str, str]:
    """Return what the wheel's Refused of a letter says."""
    return (
        str(getattr(event, "request_id", ""))[:SHOWN],
        str(getattr(event, "device_id", ""))[:SHOWN],
        str(getattr(event, "schedule_id", ""))[:SHOWN],
        letter.code,
        letter.reason,
    )


class EventCheck:
    """Reads the events of a partition beside its ticks."""

    def __init__(
        self, cursor: Cursor, letters: Letters, codec: Codec, findings: Findings, since: int
    ) -> None:
        """Begin with the event at ``since``: what was before is not looked at."""
        self.checked = 0
        self._cursor = cursor
        self._letters = letters
        self._codec = codec
        self._upserted = codec.header(ScheduleUpserted)
        self._findings = findings
        self._since = since
        self._last = since - 1

    def tick(
        self,
        at: int,
        tick: ScheduleTick,
        data: bytes | None = None,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Compare the changes of a tick with the events.

        ``spans``: where the events, all of them ScheduleUpserted, stand in the tick's bytes.
        """
        for n, change in enumerate(tick.changes):
            offset, event = change.offset, change.event
            if offset < self._since:
                continue  # what it was made of is not kept any more
            device = event.device_id
            if offset <= self._last:
                text = f"{_event(offset)} was passed before, and is in the tick at {at} again"
                self._add("doubled", TICKS, at, text, device)
                continue
            self._last = offset
            self._up_to(offset)
            entry = self._cursor.peek()
            if entry is None or entry.offset != offset:
                text = f"a change of {_event(offset)}, which is not there"
                self._add("divergent", TICKS, at, text, device)
                continue
            self._cursor.pop()
            self.checked += 1
            if spans is None or data is None:
                value = self._codec.encode(event)
            else:
                value = self._upserted + data[slice(*spans[n])]
            if entry.value != value and not self._is(entry.value, event):
                text = f"it says other than the change in the tick at offset {at}"
                self._add("divergent", EVENTS, offset, text, device)
            if self._letters.of(offset) is not None:
                text = f"it is in the tick at offset {at} and in a dead letter"
                self._add("doubled", EVENTS, offset, text, device)

    def finish(self, until_ms: int) -> None:
        """Look at the events behind the last change: old ones must be in dead letters."""
        while (entry := self._cursor.peek()) is not None:
            if not self._passed(entry.timestamp_ms <= until_ms):
                return

    def _up_to(self, offset: int) -> None:
        while (entry := self._cursor.peek()) is not None and entry.offset < offset:
            self._passed(True)

    def _passed(self, due: bool) -> bool:
        """Take the next event, which is in no tick; False: it is in no letter, and is not due."""
        entry = self._cursor.peek()
        assert entry is not None
        found = self._letters.of(entry.offset)
        if found is None and not due:
            return False
        self._cursor.pop()
        self.checked += 1
        if found is None:
            device = ""
            try:
                device = str(getattr(self._codec.decode(entry.value or b""), "device_id", ""))
                text = "it is in no tick and no dead letter"
            except DecodeError as error:
                text = f"it is in no dead letter, and makes no sense: {error}"
            self._add("unread", EVENTS, entry.offset, text, device)
            return True
        letter = found[1]
        if entry.value != letter.value and not letter.reason.endswith(CUT):
            text = f"its dead letter, at offset {found[0]}, holds other bytes"
            self._add("divergent", EVENTS, entry.offset, text)
        return True

    def _is(self, value: bytes | None, event: Record) -> bool:
        """Compare by value: upstream may write a number longer, or by an older schema."""
        try:
            return self._codec.decode(value or b"") == event
        except DecodeError:
            return False

    def _add(self, kind: str, topic: str, offset: int, text: str, device: str = "") -> None:
        place = self._cursor.partition
        self._findings.add(Finding(kind, topic, place, offset, text, device))
