"""Compares what the ticks make with what stands in a topic, byte for byte and in order.

Both are lists that should be the same. Where they are not, the words of the records tell which one
is missing, added or changed:

* the same identity (a command's id; device, schedule, epoch and tick of the rest) with other bytes:
  **divergent**, and both are passed;
* what was made stands further on, within ``AHEAD`` entries: those before it were **added**, or are
  **doubled** if they were there before;
* what stands there is of an earlier tick: it was added; of a later one: what was made is **lost**.

So one record that was removed, added or changed gives one finding, and the comparing goes on.

**Where the bytes begin.** After a snapshot it is not known which entry is the first of the next
tick. Entries of before are passed until one is what a tick makes (``aligning``).

Bytes under another schema id than today's are compared by what they say: the schema of a topic may
change while the system runs.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from schemas.codec import HEADER_BYTES
from schemas.errors import DecodeError
from schemas.records import CaptureCommand
from streams.replay.audit_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.codec import Codec
    from schemas.records import Record
    from streams.replay.audit_cursor import Cursor
    from streams.replay.audit_findings import Findings
    from streams.replay.audit_quiet import Fires
    from streams.replay.log import Entry

ONE_BY_ONE: Final = 16
"""Records that are compared one by one where a run of them differs; then runs are tried again."""
RUN: Final = 4_096
"""Most records that are compared at once."""
_VALUE: Final = attrgetter("value")
RECENT: Final = 4_096
"""Entries that are remembered, so that a second one is told from one that nobody made."""


class Pairing:
    """One topic that the wheel writes, beside what its ticks make."""

    def __init__(
        self,
        cursor: Cursor,
        codec: Codec,
        findings: Findings,
        found: Callable[[Record, Entry], None],
        aside: Callable[[Record], bool] = lambda _record: False,
    ) -> None:
        """Take the topic from a place on.

        ``found`` is told each record that stands there, with its entry; ``aside`` says whether one
        that no tick made has its place all the same.
        """
        self.checked = 0
        self.aligning = False
        """The first entries are of before: those up to ``aligned_ms`` are passed."""
        self.aligned_ms = 0
        self.kept_from_ms = 0
        """What was made by ticks up to this time may not be kept any more."""
        self._cursor = cursor
        self._codec = codec
        self._findings = findings
        self._found = found
        self._aside = aside
        self._recent: deque[bytes | None] = deque(maxlen=RECENT)

    def expect(self, records: Sequence[Record]) -> None:
        """Compare what a tick makes with the next entries."""
        cursor, encode, found, recent = (
            self._cursor, self._codec.encode, self._found, self._recent,
        )  # fmt: skip
        waiting = cursor.waiting
        for record in records:
            value = encode(record)
            if (waiting or cursor.fill()) and waiting[0].value == value:
                entry = waiting.popleft()
                cursor.read += 1
                self.checked += 1
                recent.append(value)
                found(record, entry)
                matched = True
            else:
                matched = self._search(record, value)
                self.checked += matched
            if matched and self.aligning:
                self.aligning = False

    def expect_run(self, fires: Fires, found: Callable[[Fires, int, list[Entry]], None]) -> None:
        """Compare the commands of a run of ticks with the next entries, many at once.

        ``found`` is told the first of some that stand there, and their entries.
        """
        data, starts, sizes = fires.data.tobytes(), fires.starts.tolist(), fires.sizes.tolist()
        count, at, most = len(starts), 0, RUN
        while at < count:
            entries = self._cursor.ahead(min(most, count - at))
            same = _same(entries, data, starts[at:], sizes[at:])
            if same:
                taken = self._cursor.take(same)
                self.checked += same
                self._recent.extend(map(_VALUE, taken))
                self.aligning = False
                found(fires, at, taken)
                at += same
                if same == len(entries):
                    most = min(2 * most, RUN)
                    continue
            most = 4 * ONE_BY_ONE
            some = range(at, min(at + ONE_BY_ONE, count))
            self.expect([self._codec.decode(data[starts[n] : starts[n] + sizes[n]]) for n in some])
            at = some.stop

    def as_they_are(self, before_ms: int) -> None:
        """Take what stands there of ticks before a time, where nothing can be made to compare."""
        while (entry := self._cursor.peek()) is not None:
            record = self._decoded(entry)
            if record is not None and tick_time_ms(record) >= before_ms:
                return
            self._cursor.pop()
            if record is not None and not self._aside(record):
                self._take(entry, record)

    def finish(self, until_ms: int) -> None:
        """Look at what stands behind the last that was made, of ticks up to a time."""
        while (entry := self._cursor.peek()) is not None:
            record = self._decoded(entry)
            if record is not None and tick_time_ms(record) > until_ms:
                return
            self._cursor.pop()
            if record is not None:
                self._added(entry, record)

    def _search(self, record: Record, value: bytes) -> bool:
        """Find the place of a record that is not the next; report what lies in between."""
        made_ms = tick_time_ms(record)
        while (entry := self._cursor.peek()) is not None:
            other = self._decoded(entry)
            if other is None:
                self._cursor.pop()
                following = self._cursor.peek()
                if following is None or following.value != value:
                    return True  # it stood in the place of this one
                continue
            if other == record and entry.value is not None and entry.value[:HEADER_BYTES] != value[
                :HEADER_BYTES
            ]:  # fmt: skip
                self._cursor.pop()
                self._take(entry, record)
                return True
            if entry.value == value:
                self._cursor.pop()
                self._take(entry, record)
                return True
            if self._aside(other):
                self._cursor.pop()
                self.checked += 1
                continue
            if identity(other) == identity(record):
                self._cursor.pop()
                self._take(entry, other)
                text = f"{_differing(record, other)} not what the tick of {made_ms} makes"
                self._add("divergent", entry.offset, text, other)
                return True
            if not self._is_before(other, made_ms, value):
                break
            self._cursor.pop()
            self._added(entry, other)
        if made_ms > self.kept_from_ms:
            self._lost(record)
        return False

    def _is_before(self, other: Record, made_ms: int, value: bytes) -> bool:
        """Say whether an entry is none of the ticks from this one on."""
        other_ms = tick_time_ms(other)
        if other_ms != made_ms:
            return other_ms < made_ms
        return any(entry.value == value for entry in self._cursor.ahead())

    def _added(self, entry: Entry, record: Record) -> None:
        """Report an entry that no tick made, unless it is of before."""
        if self._aside(record):
            self.checked += 1
            return
        self._take(entry, record, new=False)
        if self.aligning and tick_time_ms(record) <= self.aligned_ms:
            return
        if entry.value in self._recent:
            self._add("doubled", entry.offset, "it is there a second time", record)
        else:
            self._add("divergent", entry.offset, "no tick makes it", record)

    def _take(self, entry: Entry, record: Record, *, new: bool = True) -> None:
        self._found(record, entry)
        if new:
            self._recent.append(entry.value)

    def _decoded(self, entry: Entry) -> Record | None:
        """Return what an entry says; None, and a finding, where it makes no sense."""
        try:
            record = self._codec.decode(entry.value or b"")
            tick_time_ms(record)
        except (DecodeError, AttributeError) as error:
            self._findings.add(
                Finding(
                    "corrupt", self._cursor.topic, self._cursor.partition, entry.offset, str(error)
                )
            )
            return None
        return record

    def _lost(self, record: Record) -> None:
        entry = self._cursor.peek()
        # The place to look at is where it should stand: before this one.
        offset = -1 if entry is None else entry.offset
        text = f"{_told(record)} is not there"
        text += ", at the end" if entry is None else ", before this offset"
        self._add("lost", offset, text, record)

    def _add(self, kind: str, offset: int, text: str, record: Record) -> None:
        device = str(getattr(record, "device_id", ""))
        if kind != "lost":
            text = f"{_told(record)}: {text}"
        place = self._cursor.partition
        self._findings.add(Finding(kind, self._cursor.topic, place, offset, text, device))


def _same(entries: Sequence[Entry], data: bytes, starts: list[int], sizes: list[int]) -> int:
    """Return how many entries hold the bytes of a run of records, up to the first that does not."""
    values = list(map(_VALUE, entries))
    count = len(values)
    if not count:
        return 0
    end = starts[count - 1] + sizes[count - 1]
    if None not in values:
        whole = b"".join(values)
        if whole == data[starts[0] : end] and list(map(len, values)) == sizes[:count]:
            return count
    for n, value in enumerate(values):
        if value != data[starts[n] : starts[n] + sizes[n]]:
            return n
    return count


def tick_time_ms(record: Record) -> int:
    """Return the time of the tick that a command or decision names."""
    if isinstance(record, CaptureCommand):
        return record.issued_at_ms
    return int(getattr(record, "tick_time_ms"))  # noqa: B009  # of several classes


def identity(record: Record) -> object:
    """Return what makes a record the same one, whatever else it says."""
    if isinstance(record, CaptureCommand):
        return record.command_id
    names = ("device_id", "schedule_id", "request_id", "epoch", "tick_time_ms", "first_ms")
    return (type(record), *(getattr(record, name, None) for name in names))


def _told(record: Record) -> str:
    name = type(record).__name__
    if isinstance(record, CaptureCommand):
        return f"{name} {record.command_id} of {record.device_id}"
    return f"{name} of {getattr(record, 'device_id', '?')} in the tick of {tick_time_ms(record)}"


def _differing(ours: Record, theirs: Record) -> str:
    """Return the fields in which two records of a class differ, as a subject with its verb."""
    names = [n for n in ours.__struct_fields__ if getattr(ours, n) != getattr(theirs, n, None)]
    if not names:
        return "the bytes are"
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
