"""The snapshots of a partition: where they stand among its ticks, and the rows that they name.

The wheel writes the rows of each partition to the blob store once a day, and beside its ticks a
PartitionSnapshot that names the tick, the file and the rows' hash (ADR 0022). So of 86,400 records
one is a snapshot: they are found by the five bytes before a record, those of a tick being the usual
ones (``scan.py``), and only what begins otherwise is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import PartitionSnapshot, ScheduleTick
from streams.core.state_hash import state_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.codec import Codec
    from streams.replay.audit_state import Row
    from streams.replay.scan import Scanner
    from streams.replay.start import ReadRows

    Found = tuple[int, PartitionSnapshot]
    """Its own offset, and the snapshot."""

TICKS: Final = "schedule.ticks"
BACK: Final = 200_000
"""Offsets of the first step backwards: a day has 86,400 ticks, each with its marker."""


class Snapshots:
    """The snapshots of one partition."""

    def __init__(self, scanner: Scanner, codec: Codec, partition: int) -> None:
        """Take what searches the log."""
        self._scanner, self._codec, self._partition = scanner, codec, partition
        self._tick = codec.header(ScheduleTick)

    def between(self, first: int, end: int) -> list[Found]:
        """Return those of ``first`` <= offset < ``end``; raises BrokerError as the log does."""
        found: list[Found] = []
        for looked in self._scanner.besides(TICKS, self._partition, first, end, self._tick):
            for entry in looked.found:
                try:
                    record = self._codec.decode(entry.value or b"")
                except DecodeError:
                    continue  # an audit finds it as the ticks are folded
                if isinstance(record, PartitionSnapshot):
                    found.append((entry.offset, record))
        return found

    def newest_first(self, first: int, end: int) -> Iterator[Found]:
        """Yield the same from the last one on; no more is read than is asked for."""
        step = BACK
        while end > first:
            low = max(first, end - step)
            yield from reversed(self.between(low, end))
            end, step = low, step * 2


def rows_named(snapshot: PartitionSnapshot, read_rows: ReadRows) -> list[Row]:
    """Return the rows that a snapshot names.

    Raises StoreError where they cannot be read, ValueError where they are not those of its hash.
    """
    rows = read_rows(snapshot)
    try:
        same = state_hash(rows) == snapshot.state_hash
    except ValueError:
        same = False
    if not same:
        raise ValueError(f"the rows at {snapshot.uri} are not those of its hash")
    return rows
