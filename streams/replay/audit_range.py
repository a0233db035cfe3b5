"""Where an audit starts and ends, and the snapshots that lie there.

Snapshots stand among the ticks, one a day. They are found by the five bytes before a record, so the
ticks are read over twice and decoded once.

A log that was begun by a copy, to another number of partitions, begins with a snapshot of no tick
of its own (``tick_offset`` below 0): there the fold begins with its rows, and not with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError, StoreError
from schemas.records import PartitionSnapshot, ScheduleTick
from streams.core.state_hash import state_hash
from streams.replay.audit_events import TICKS
from streams.replay.audit_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.codec import Codec
    from streams.replay.audit_findings import Findings
    from streams.replay.audit_state import Row
    from streams.replay.log import Log

    ReadRows = Callable[[PartitionSnapshot], list[Row]]
    """Reads the rows of a snapshot; StoreError: they are not there, or make no sense."""

BACK: Final = 100_000
"""How far before the start a snapshot is looked for first, in ticks: a day has 86,400."""


@dataclass(slots=True)
class Range:
    """The ticks that are audited, and the snapshots among them."""

    first: int
    end: int
    snapshots: dict[int, tuple[int, PartitionSnapshot]] = field(default_factory=dict)
    """Own offset and snapshot, by the offset of the tick that it is of."""
    start: PartitionSnapshot | None = None
    """The one that the fold begins with; None: at offset 0, or in the midst of the log."""
    rows: list[Row] = field(default_factory=list)
    """Its rows."""
    copied: bool = False
    """The log begins with a state that another one has led to."""


class Ticks:
    """The ticks of a partition, looked over before they are folded."""

    def __init__(
        self,
        log: Log,
        partition: int,
        codec: Codec,
        read_rows: ReadRows | None,
        findings: Findings,
        unchecked: list[str],
    ) -> None:
        """Take the log and the parts; ``unchecked`` is told what cannot be read."""
        self._log = log
        self._partition = partition
        self._codec = codec
        self._read_rows = read_rows
        self._findings = findings
        self._unchecked = unchecked
        self._tick_header = codec.header(ScheduleTick)

    def range(self, from_ms: int | None, to_ms: int | None) -> Range:
        """Return what is to be folded for the ticks between two times."""
        log, number = self._log, self._partition
        kept, log_end = log.firsts(TICKS)[number], log.ends(TICKS)[number]
        first, end = kept, log_end
        if from_ms is not None:
            first = max(kept, log.offset_at(TICKS, number, from_ms))
        if to_ms is not None:
            end = min(end, log.offset_at(TICKS, number, to_ms))
        found = Range(first, max(end, first))
        if first > kept:
            self._look_back(found, kept)
        if found.start is None and kept == 0:
            found.first = 0
        for at, snapshot in self._snapshots(found.first, log_end):
            if snapshot.tick_offset < 0 and found.first == 0:
                rows, found.copied = self.rows(snapshot), True
                if rows is not None:
                    found.start, found.rows = snapshot, rows
            if found.first <= snapshot.tick_offset < found.end:
                found.snapshots[snapshot.tick_offset] = (at, snapshot)
        return found

    def _look_back(self, found: Range, kept: int) -> None:
        """Find the last snapshot before the start whose rows can be read."""
        end, back = found.first, BACK
        while end > kept and self._read_rows is not None:
            first = max(kept, end - back)
            for _, snapshot in reversed(self._snapshots(first, end)):
                rows = self.rows(snapshot)
                if rows is not None:
                    found.start, found.rows = snapshot, rows
                    found.first = snapshot.tick_offset + 1
                    return
            end, back = first, back * 2

    def _snapshots(self, first: int, end: int) -> list[tuple[int, PartitionSnapshot]]:
        """Return the snapshots among the ticks, with their own offsets."""
        found: list[tuple[int, PartitionSnapshot]] = []
        for batch in self._log.read(TICKS, self._partition, first, end):
            for entry in batch:
                value = entry.value
                if value is None or value.startswith(self._tick_header):
                    continue
                record = self._decoded(value)
                if isinstance(record, PartitionSnapshot):
                    found.append((entry.offset, record))
        return found

    def rows(self, snapshot: PartitionSnapshot) -> list[Row] | None:
        """Return the rows of a snapshot if they are what its hash says; else report it."""
        if self._read_rows is None:
            return None
        try:
            rows = self._read_rows(snapshot)
        except StoreError as error:
            self._unchecked.append(f"The snapshot of {moment(snapshot.time_ms)}: {error}")
            return None
        try:
            same = state_hash(rows) == snapshot.state_hash
        except ValueError:
            same = False
        if same:
            return rows
        text = f"the snapshot of this tick: the rows at {snapshot.uri} are not those of its hash"
        self._findings.add(Finding("corrupt", TICKS, self._partition, snapshot.tick_offset, text))
        return None

    def first_time_ms(self, found: Range) -> int:
        """Return the time of the first tick of a range; 0: it has none."""
        for batch in self._log.read(TICKS, self._partition, found.first, found.end):
            for entry in batch:
                record = self._decoded(entry.value)
                if isinstance(record, ScheduleTick):
                    return record.time_ms
        return 0

    def first_change(self, found: Range) -> int | None:
        """Return the first event that a tick of a range was made of; None: of none."""
        for batch in self._log.read(TICKS, self._partition, found.first, found.end):
            for entry in batch:
                record = self._decoded(entry.value)
                if isinstance(record, ScheduleTick) and record.changes:
                    return record.changes[0].offset
        return None

    def _decoded(self, value: bytes | None) -> object:
        try:
            return self._codec.decode(value or b"")
        except DecodeError:
            return None  # found as the ticks are folded


def moment(at_ms: int) -> str:
    """Return a time in words, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
