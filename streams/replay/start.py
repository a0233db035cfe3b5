"""The state to begin with: the last snapshot before a time whose rows can be read.

A state that is made of a snapshot's rows (``snapshots.py``) is the one that a fold from the log's
beginning would have, so what comes after is the same, byte for byte.

Rows that are not there, or are not those of the hash, are passed over for an earlier snapshot's,
and in the end for the log's beginning. Which it was is said: :class:`Start`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from schemas.errors import DecodeError, StoreError
from streams.replay.audit_range import moment
from streams.replay.audit_state import OF
from streams.replay.scan import Scanner
from streams.replay.snapshots import TICKS, Snapshots, rows_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.codec import Codec
    from schemas.records import PartitionSnapshot, Record
    from streams.replay.audit_state import Row
    from streams.replay.log import Log

    ReadRows = Callable[[PartitionSnapshot], list[Row]]
    """Reads the rows of a snapshot; StoreError: they are not there, or make no sense."""

NO_STORE: Final = "no blob store was named to read snapshots from"
MAX_PASSED: Final = 5
"""Snapshots that are tried; where so many cannot be read, the store is not the one."""


class Began(msgspec.Struct, frozen=True):
    """Where a state was begun, as it is reported."""

    partition: int
    tick_offset: int
    """The first tick that was folded, or looked at."""
    snapshot_ms: int | None = None
    """The time of the snapshot; null: the log's beginning."""
    uri: str = ""
    """Where its rows are."""
    passed_over: tuple[str, ...] = ()
    """Why no later snapshot was begun with, or none at all."""


class Start(NamedTuple):
    """A snapshot and its rows, or that there is none."""

    began: Began
    snapshot: PartitionSnapshot | None = None
    rows: dict[tuple[str, bytes], Record] = {}  # noqa: RUF012 - nobody writes into it
    """By table and key."""


class Starts:
    """The snapshots of one partition."""

    def __init__(
        self,
        log: Log,
        codec: Codec,
        partition: int,
        read_rows: ReadRows | None,
        scanner: Scanner | None = None,
    ) -> None:
        """Take the log; without ``read_rows`` there is nothing but the log's beginning."""
        self._log, self._codec, self._partition = log, codec, partition
        self._read_rows = read_rows
        self._snapshots = Snapshots(scanner or Scanner(log), codec, partition)
        self._known: dict[int, Start] = {}
        """By the snapshot's own offset, those that were read; rows are read once."""

    def at(self, at_ms: int, end: int) -> Start:
        """Return the last snapshot of a time up to ``at_ms``, before offset ``end`` of the ticks.

        Raises BrokerError as the log does.
        """
        first = self._log.firsts(TICKS)[self._partition]
        if self._read_rows is None:
            return Start(Began(self._partition, first, passed_over=(NO_STORE,)))
        passed: list[str] = []
        found = 0
        for offset, snapshot in self._snapshots.newest_first(first, end):
            if snapshot.time_ms > at_ms:
                continue
            found += 1
            start = self._start(offset, snapshot, passed, self._read_rows)
            if start is not None:
                return start
            if len(passed) == MAX_PASSED:
                break
        if not found:
            passed.append(f"the ticks have no snapshot up to {moment(at_ms)}")
        return Start(Began(self._partition, first, passed_over=tuple(passed)))

    def _start(
        self, offset: int, snapshot: PartitionSnapshot, passed: list[str], read_rows: ReadRows
    ) -> Start | None:
        """Return the start that a snapshot is; null: its rows cannot be had, and why is said."""
        if offset in self._known:
            return self._known[offset]
        name = f"the snapshot of {moment(snapshot.time_ms)}"
        if snapshot.partitions != self._log.partitions(TICKS):
            passed.append(f"{name} is of {snapshot.partitions} partitions")
            return None
        try:
            decoded = decoded_rows(rows_named(snapshot, read_rows), self._codec)
        except (StoreError, DecodeError, ValueError) as error:
            passed.append(f"{name}: {error}")
            return None
        began = Began(
            self._partition, snapshot.tick_offset + 1, snapshot.time_ms, snapshot.uri, tuple(passed)
        )
        start = Start(began, snapshot, decoded)
        self._known[offset] = start
        return start


def decoded_rows(rows: Sequence[Row], codec: Codec) -> dict[tuple[str, bytes], Record]:
    """Return rows as records by table and key; DecodeError for one that makes no sense."""
    found: dict[tuple[str, bytes], Record] = {}
    for table, key, value in rows:
        if table not in OF:
            raise DecodeError("wrong_record", f"There is no table {table!r}.")
        found[table, key] = codec.decode_as(value, OF[table])
    return found


def began_words(parts: Sequence[Began]) -> str:
    """Return in words where partitions were begun."""
    taken = [one for one in parts if one.snapshot_ms is not None]
    if not taken:
        why = next((text for one in parts for text in one.passed_over), "")
        return "with nothing, at the beginning of the log" + (f": {why}" if why else "")
    first_ms = min(one.snapshot_ms or 0 for one in taken)
    last_ms = max(one.snapshot_ms or 0 for one in taken)
    if first_ms == last_ms:
        words = f"with the snapshot of {moment(first_ms)}"
    else:
        words = f"with the snapshots of {moment(first_ms)} to {moment(last_ms)}"
    rest = len(parts) - len(taken)
    if rest:
        why = next((t for p in parts if p.snapshot_ms is None for t in p.passed_over), "")
        words += f"; {rest:,} of {len(parts):,} partitions at the beginning of the log: {why}"
    return words
