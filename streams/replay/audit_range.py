"""Where an audit starts and ends, and the snapshots that lie there.

Snapshots stand among the ticks, one a day (``snapshots.py``): so the ticks are looked over before
they are read and decoded.

A log that was begun by a copy, to another number of partitions, begins with a snapshot of no tick
of its own (``tick_offset`` below 0): there the fold begins with its rows, and not with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.errors import DecodeError, StoreError
from schemas.records import ScheduleTick
from streams.replay.audit_events import TICKS
from streams.replay.audit_findings import Finding
from streams.replay.scan import Scanner
from streams.replay.snapshots import Snapshots, rows_named

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import PartitionSnapshot
    from streams.replay.audit_findings import Findings
    from streams.replay.audit_state import Row
    from streams.replay.log import Log
    from streams.replay.start import ReadRows


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
        self._snapshots = Snapshots(Scanner(log), codec, partition)

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
        for at, snapshot in self._snapshots.between(found.first, log_end):
            if snapshot.tick_offset < 0 and found.first == 0:
                rows, found.copied = self.rows(snapshot), True
                if rows is not None:
                    found.start, found.rows = snapshot, rows
            if found.first <= snapshot.tick_offset < found.end:
                found.snapshots[snapshot.tick_offset] = (at, snapshot)
        return found

    def _look_back(self, found: Range, kept: int) -> None:
        """Find the last snapshot before the start whose rows can be read."""
        if self._read_rows is None:
            return
        for _, snapshot in self._snapshots.newest_first(kept, found.first):
            rows = self.rows(snapshot)
            if rows is not None:
                found.start, found.rows = snapshot, rows
                found.first = snapshot.tick_offset + 1
                return

    def rows(self, snapshot: PartitionSnapshot) -> list[Row] | None:
        """Return the rows of a snapshot if they are what its hash says; else report it."""
        if self._read_rows is None:
            return None
        try:
            return rows_named(snapshot, self._read_rows)
        except StoreError as error:
            self._unchecked.append(f"The snapshot of {moment(snapshot.time_ms)}: {error}")
        except ValueError as error:
            offset = snapshot.tick_offset
            text = f"the snapshot of this tick: {error}"
            self._findings.add(Finding("corrupt", TICKS, self._partition, offset, text))
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
