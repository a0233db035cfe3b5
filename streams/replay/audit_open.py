"""The commands that are open, in columns, with their bytes: what results are compared with.

A command is kept as the bytes that stand in its topic and as the few numbers that its result must
keep to. Bytes lie one behind the other in one buffer; what has ended leaves a hole, and when holes
outnumber the living all are moved together. So the memory is that of the commands that are open,
four times at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from schemas.columns import PAD, words_of
from schemas.encoders import varint
from schemas.records import CaptureCommand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from schemas.codec import Codec
    from schemas.columns import Bytes, Ints, Words

START, SIZE, PREFIX, SCHEDULED, NOT_AFTER, DEADLINE, OFFSET = range(7)
"""Columns: where the bytes begin, how many they are, how many of them a result repeats (without
the header); then times, and where the command stands."""
COLUMNS: Final = 7
ROOM: Final = 4_096
"""Holes that are no reason to move all together."""
HEADER: Final = 5


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
        self._slots: dict[int, int] = {}
        self._used = 0
        self._table: Ints = np.zeros((COLUMNS, ROOM), np.int64)
        self._filled = 0
        self._data: Bytes = np.zeros(1 << 20, np.uint8)
        self.words: Words = words_of(self._data)

    @property
    def data(self) -> Bytes:
        """Return the bytes of all, and room behind them."""
        return self._data

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def ids(self) -> list[int]:
        """Return the ids of all."""
        return list(self._slots)

    def __contains__(self, identity: int) -> bool:
        return identity in self._slots

    def add(self, command: CaptureCommand, value: bytes, offset: int) -> None:
        """Take in one command that stands in its topic."""
        strings = self._strings
        prefix = sum(
            map(
                len,
                (
                    varint(command.command_id), strings[command.device_id],
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
        rows = np.array(row, np.int64).reshape(COLUMNS, 1)
        self.add_many([command.command_id], np.frombuffer(value, np.uint8), rows)

    def add_many(self, ids: Sequence[int], data: Bytes, rows: Ints) -> None:
        """Take in commands whose bytes are ``data``; ``rows``: their columns, starts in these."""
        count, size = len(ids), len(data)
        if self._used + count > self._table.shape[1] or self._filled + size > len(self._data) - PAD:
            self._make_room(count, size)
        first, used = self._filled, self._used
        self._data[first : first + size] = data
        self._filled += size
        self._table[:, used : used + count] = rows
        self._table[START, used : used + count] += first
        self._slots.update(zip(ids, range(used, used + count), strict=True))
        self._used += count

    def deadline_ms(self, command: CaptureCommand) -> int:
        """Return until when a command must have its result."""
        latest_ms = max(command.not_after_ms, command.scheduled_ms)
        return latest_ms + command.capture_timeout_ms + self.settle_ms

    def find(self, ids: Sequence[int]) -> Ints:
        """Return the slot of each id; -1: it is not open."""
        find = self._slots.get
        return np.fromiter([find(one, -1) for one in ids], np.int64, len(ids))

    def columns(self, slots: Ints) -> Ints:
        """Return the columns of slots."""
        return self._table[:, slots]

    def scheduled_ms(self, slots: Ints) -> Ints:
        """Return the scheduled times of slots."""
        return cast("Ints", self._table[SCHEDULED, slots])

    def end(self, ids: Sequence[int]) -> None:
        """Forget commands that have ended; each must be open."""
        for one in ids:
            del self._slots[one]

    def pop(self, identity: int) -> Open | None:
        """Take one out; None: it is not open."""
        slot = self._slots.pop(identity, None)
        return None if slot is None else self._open(slot)

    def latest_deadline_ms(self) -> int:
        """Return the latest deadline of all; 0: there is none."""
        if not self._slots:
            return 0
        return int(self._table[DEADLINE, list(self._slots.values())].max())

    def overdue(self, as_of_ms: int) -> Iterator[Open]:
        """Take out and yield those whose deadline is before a time."""
        for identity, slot in list(self._slots.items()):
            if self._table[DEADLINE, slot] < as_of_ms:
                del self._slots[identity]
                yield self._open(slot)

    def _open(self, slot: int) -> Open:
        start, size = int(self._table[START, slot]), int(self._table[SIZE, slot])
        value = self._data[start : start + size].tobytes()
        return Open(self._codec.decode_as(value, CaptureCommand), int(self._table[OFFSET, slot]))

    def _make_room(self, count: int, size: int) -> None:
        """Move the living together, into more room if they need it."""
        ids, slots = list(self._slots), np.array(list(self._slots.values()), np.int64)
        table = self._table[:, slots]
        ends = np.cumsum(table[SIZE])
        filled = int(ends[-1]) if len(ends) else 0
        data: npt.NDArray[np.uint8] = np.zeros(
            max(len(self._data), 4 * (filled + size) + PAD), np.uint8
        )
        memory, at = self._data, 0
        for start, length in zip(table[START].tolist(), table[SIZE].tolist(), strict=True):
            data[at : at + length] = memory[start : start + length]
            at += length
        table[START] = ends - table[SIZE]
        used = len(ids)
        self._table = np.zeros((COLUMNS, max(self._table.shape[1], 4 * (used + count))), np.int64)
        self._table[:, :used] = table
        self._used, self._filled = used, filled
        self._data, self.words = data, words_of(data)
        self._slots = dict(zip(ids, range(used), strict=True))
