"""The commands that are open, in columns, with their bytes: what results are compared with.

A command is kept as the bytes that stand in its topic and as the few numbers that its result must
keep to. Bytes lie one behind the other in one buffer; what has ended leaves a hole, and when holes
outnumber the living all are moved together. So the memory is that of the commands that are open,
four times at most.

**Found by its id**: a partition issues ids that grow, so a command is where a search in a sorted
column ends. One that does not grow (of a tick of the same time, of a sequence that carried, or
tampered with) is in a dictionary beside it, which is empty as a rule. So are the ids of captures
that ended: ids that are greater than all of them are none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from schemas.columns import PAD, words_of
from schemas.encoders import varint
from schemas.records import CaptureCommand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.codec import Codec
    from schemas.columns import Bytes, Flags, Ints, Words

START, SIZE, PREFIX, SCHEDULED, NOT_AFTER, DEADLINE, OFFSET, ID, KEY = range(9)
"""Columns: where the bytes begin, how many they are, how many of them a result repeats (without
the header); then times, and where the command stands; its id, and the greatest id up to it."""
GIVEN: Final = 7
"""Columns that whoever adds commands knows."""
COLUMNS: Final = 9
ROOM: Final = 4_096
"""Holes that are no reason to move all together."""
HEADER: Final = 5
ENDED: Final = 65_536
"""Ids of captures that ended which are remembered at least, so that a second end is told from a
stray; twice as many at most."""


class Open(NamedTuple):
    """A command that has no result yet."""

    command: CaptureCommand
    offset: int


class OpenCommands:
    """Commands without a result, by their ids."""

    def __init__(self, codec: Codec, settle_ms: int) -> None:
        """Take what decodes them; a result may come ``settle_ms`` after all is over."""
        self._codec = codec
        self._strings = codec.table("string")
        self.settle_ms = settle_ms
        self._odd: dict[int, int] = {}
        """Slots of ids that were not greater than those before them."""
        self._last = -1
        """The greatest id."""
        self._live = 0
        self._used = 0
        self._table: Ints = np.zeros((COLUMNS, ROOM), np.int64)
        self._open: Flags = np.zeros(ROOM, np.bool_)
        self._marks: Ints = np.zeros(ROOM, np.int64)
        self._filled = 0
        self._data: Bytes = np.zeros(1 << 20, np.uint8)
        self.words: Words = words_of(self._data)

    @property
    def data(self) -> Bytes:
        """Return the bytes of all, and room behind them."""
        return self._data

    def __len__(self) -> int:
        return self._live

    @property
    def ids(self) -> list[int]:
        """Return the ids of all."""
        found: list[int] = self._table[ID, self._living()].tolist()
        return found

    def __contains__(self, identity: int) -> bool:
        return self._slot(identity) >= 0

    def add(self, command: CaptureCommand, value: bytes, offset: int) -> None:
        """Take in one command that stands in its topic; one that is open is it no more."""
        strings, identity = self._strings, command.command_id
        prefix = sum(
            map(
                len,
                (
                    varint(identity), strings[command.device_id],
                    strings[command.schedule_id], strings[command.request_id],
                    varint(command.epoch), varint(command.nominal_ms),
                    varint(command.scheduled_ms),
                ),
            )
        )  # fmt: skip
        row = (
            0, len(value), prefix, command.scheduled_ms, command.not_after_ms,
            self.deadline_ms(command), offset,
        )  # fmt: skip
        rows = np.array(row, np.int64).reshape(GIVEN, 1)
        self._add(np.array([identity], np.int64), np.frombuffer(value, np.uint8), rows)

    def add_many(self, ids: Ints, data: Bytes, rows: Ints) -> None:
        """Take in commands whose bytes are ``data``; ``rows``: their columns, starts in these."""
        if int(ids[0]) > self._last and (ids[1:] > ids[:-1]).all():
            self._add(ids, data, rows)
            return
        ends = rows[START] + rows[SIZE]
        for n, (first, end) in enumerate(zip(rows[START].tolist(), ends.tolist(), strict=True)):
            row = rows[:, n : n + 1].copy()
            row[START] = 0
            self._add(ids[n : n + 1], data[first:end], row)

    def _add(self, ids: Ints, data: Bytes, rows: Ints) -> None:
        """Take in one command, or some whose ids grow."""
        count, size = len(ids), len(data)
        if self._used + count > len(self._open) or self._filled + size > len(self._data) - PAD:
            self._make_room(count, size)
        first, used = self._filled, self._used
        if int(ids[0]) <= self._last:
            identity = int(ids[0])
            self._close(self._slot(identity))
            self._odd[identity] = used
        self._last = max(self._last, int(ids[-1]))
        self._data[first : first + size] = data
        self._filled += size
        some = slice(used, used + count)
        self._table[:GIVEN, some] = rows
        self._table[START, some] += first
        self._table[ID, some] = ids
        self._table[KEY, some] = ids if count > 1 else self._last
        self._open[some] = True
        self._live += count
        self._used += count

    def deadline_ms(self, command: CaptureCommand) -> int:
        """Return until when a command must have its result."""
        latest_ms = max(command.not_after_ms, command.scheduled_ms)
        return latest_ms + command.capture_timeout_ms + self.settle_ms

    def find(self, ids: Ints) -> Ints:
        """Return the slot of each id; -1: it is not open."""
        if not self._live:
            return np.full(len(ids), -1, np.int64)
        table = self._table[:, : self._used]
        at = np.minimum(table[KEY].searchsorted(ids), self._used - 1)
        slots = np.where((table[ID][at] == ids) & self._open[at], at, -1)
        if self._odd:
            find = self._odd.get
            others = np.fromiter([find(one, -1) for one in ids.tolist()], np.int64, len(ids))
            slots = np.where(others >= 0, others, slots)
        return slots

    def firsts(self, slots: Ints) -> Flags:
        """Say which slots stand there for the first time."""
        numbers = np.arange(len(slots))
        self._marks[slots[::-1]] = numbers[::-1]
        found: Flags = self._marks[slots] == numbers
        return found

    def columns(self, slots: Ints) -> Ints:
        """Return the columns of slots."""
        return self._table[:, slots]

    def scheduled_ms(self, slots: Ints) -> Ints:
        """Return the scheduled times of slots."""
        return cast("Ints", self._table[SCHEDULED, slots])

    def end(self, slots: Ints) -> None:
        """Forget commands that have ended, each once; they must be open."""
        self._open[slots] = False
        self._live -= len(slots)
        if self._odd:
            for identity in self._table[ID, slots].tolist():
                self._odd.pop(identity, None)

    def pop(self, identity: int) -> Open | None:
        """Take one out; None: it is not open."""
        slot = self._slot(identity)
        self._close(slot)
        return None if slot < 0 else self._read(slot)

    def latest_deadline_ms(self) -> int:
        """Return the latest deadline of all; 0: there is none."""
        return int(self._table[DEADLINE, self._living()].max(initial=0))

    def overdue(self, as_of_ms: int) -> Iterator[Open]:
        """Take out and yield those whose deadline is before a time."""
        slots = self._living()
        for slot in slots[self._table[DEADLINE, slots] < as_of_ms].tolist():
            self._close(slot)
            yield self._read(slot)

    def _living(self) -> Ints:
        return np.nonzero(self._open[: self._used])[0]

    def _slot(self, identity: int) -> int:
        return int(self.find(np.array([identity], np.int64))[0])

    def _close(self, slot: int) -> None:
        if slot >= 0:
            self.end(np.array([slot], np.int64))

    def _read(self, slot: int) -> Open:
        start, size = int(self._table[START, slot]), int(self._table[SIZE, slot])
        value = self._data[start : start + size].tobytes()
        return Open(self._codec.decode_as(value, CaptureCommand), int(self._table[OFFSET, slot]))

    def _make_room(self, count: int, size: int) -> None:
        """Move the living together, into more room if they need it."""
        slots = self._living()
        table = self._table[:, slots]
        used = len(slots)
        starts, sizes = table[START], table[SIZE]
        filled = int(sizes.sum())
        data: Bytes = np.zeros(max(len(self._data), 4 * (filled + size) + PAD), np.uint8)
        # Neighbours move as one.
        [cuts] = np.nonzero(starts[1:] != starts[:-1] + sizes[:-1])
        firsts = [0, *(cuts + 1).tolist()] if used else []
        at = 0
        for first, last in zip(firsts, [*firsts[1:], used], strict=False):
            begin, end = int(starts[first]), int(starts[last - 1] + sizes[last - 1])
            data[at : at + end - begin] = self._data[begin:end]
            at += end - begin
        table[START] = np.cumsum(sizes) - sizes
        room = max(len(self._open), 4 * (used + count))
        self._table = np.zeros((COLUMNS, room), np.int64)
        self._table[:, :used] = table
        self._open, self._marks = np.zeros(room, np.bool_), np.zeros(room, np.int64)
        self._open[:used] = True
        self._used, self._filled = used, filled
        self._data, self.words = data, words_of(data)
        self._odd = {one: int(slots.searchsorted(slot)) for one, slot in self._odd.items()}


class EndedIds:
    """The ids of captures that have ended: the last ``ENDED`` at least."""

    def __init__(self) -> None:
        self._parts: list[Ints] = []
        """Those that are in no set yet: nobody has asked."""
        self._some: set[int] = set()
        self._before: list[Ints] = []
        self._some_before: set[int] = set()
        self._count = 0
        self._most = -1

    def note(self, ids: Ints) -> None:
        """Take in some."""
        if not len(ids):
            return
        if self._count >= ENDED:
            self._before, self._some_before = self._parts, self._some
            self._parts, self._some, self._count = [], set(), 0
        self._parts.append(ids)
        self._count += len(ids)
        self._most = max(self._most, int(ids.max()))

    def __contains__(self, identity: int) -> bool:
        if identity > self._most:
            return False
        for parts, some in ((self._parts, self._some), (self._before, self._some_before)):
            for part in parts:
                some.update(part.tolist())
            parts.clear()
            if identity in some:
                return True
        return False

    def has_none(self, ids: Ints) -> bool:
        """Say whether none of some ids is among them."""
        return int(ids.min()) > self._most or not any(one in self for one in ids.tolist())
