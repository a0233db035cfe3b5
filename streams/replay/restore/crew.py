"""Who writes a restore: this process, or several of them that share the partitions.

A :class:`Hand` has a source, a target and producers of its own and does one piece of work at a
time. What is done for a partition hangs on nothing of another, so hands never wait for each other;
a :class:`Crew` says who does what (``Alone`` here; processes in ``shutterwheel/restore_jobs.py``).

Memory of a hand does not grow with the history. Of tables: the rows of one partition of one app,
about 300 bytes and the row's own. Of topics: of each of ``pour.AT_ONCE`` partitions what an archive
fetches at once (2 MiB), a block or batch (5,000 entries) and a piece; and what is on its way to the
broker (``sink.WINDOW_BYTES``): 250 MiB in all, for records of 400 bytes.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from streams.replay.log import Entry, KafkaLog
from streams.replay.restore.pour import Pourer
from streams.replay.restore.tables import folded, hash_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from schemas.codec import Codec
    from streams.replay.archive.manifest import Place
    from streams.replay.log import Log

    Told = Callable[[int, int], None]


class TableTask(msgspec.Struct, frozen=True):
    """The tables of one partition of an app."""

    app: str
    partition: int
    tables: dict[str, str]
    """Changelog topic by table."""
    ends: dict[str, int]
    """Where the source's changelogs end."""
    fold_to: int = 0
    """Fold the ticks up to this offset and write what they come to; 0: do not."""


class TableReport(msgspec.Struct):
    """The state of one app's partition, there and here."""

    app: str
    partition: int
    rows: dict[str, int]
    """By table."""
    original: str
    """State hash of the rows in the source."""
    restored: str
    """State hash of the rows that were read back from the target."""
    folded: str = ""
    """State hash of what the ticks fold to, where that was asked for."""

    @property
    def equal(self) -> bool:
        """Say whether all of them are the same."""
        return self.original == self.restored and self.folded in {"", self.original}


class Poured(NamedTuple):
    """What was written of topics."""

    records: int
    transactions: int
    markers: int


class Crew(Protocol):
    """Does the work of a restore. BrokerError, StoreError, UsageError."""

    def tables(self, tasks: list[TableTask]) -> Iterator[TableReport]:
        """Write these tables and yield what became of each, in no order."""
        ...

    def newest(self, ends: Mapping[Place, int]) -> Iterator[tuple[Place, list[int]]]:
        """Write the newest record of each key; yield their offsets in the source, by place."""
        ...

    def pour(self, ends: dict[Place, int], told: Told) -> Iterator[Poured]:
        """Write each of these partitions up to its end, every entry at its own offset."""
        ...


@dataclass(slots=True)
class Hand:
    """One that writes."""

    log: Log
    codec: Codec
    kafka: str
    namespace: str
    slot: int = 0
    """Tells its transactions from those of others."""
    _made: Pourer | None = None
    _there: KafkaLog | None = None

    def table(self, task: TableTask) -> TableReport:
        """Write the tables of a partition, no dead rows, and read them back."""
        number = task.partition
        rows = rows_of(self.log, task.tables, number, task.ends)
        report = TableReport(task.app, number, dict.fromkeys(task.tables, 0), hash_of(rows), "")
        if task.fold_to:
            rows = folded(self.log, self.codec, number, task.fold_to)
            report.folded = hash_of(rows)
        pourer, there = self._pourer(), self._read_back()
        for table, name in task.tables.items():
            kept = (Entry(0, 0, key, value) for (of, key), value in rows.items() if of == table)
            report.rows[table] = pourer.write(name, number, kept)
        rows.clear()
        ends = {name: there.ends(name)[number] for name in task.tables.values()}
        report.restored = hash_of(rows_of(there, task.tables, number, ends))
        return report

    def newest(self, place: Place, end: int) -> list[int]:
        """Write the newest record of each key of a partition; return their offsets."""
        name, number = place
        found: dict[bytes | None, Entry] = {}
        for batch in self.log.read(name, number, self.log.firsts(name)[number], end):
            for entry in batch:
                found.pop(entry.key, None)
                found[entry.key] = entry
        # Tombstones, too: who has not read on to them must still see them.
        self._pourer().write(name, number, found.values())
        return [entry.offset for entry in found.values()]

    def pour(self, ends: dict[Place, int], told: Told = lambda _done, _total: None) -> Poured:
        """Write partitions up to their ends."""
        pourer = self._pourer()
        before = pourer.records
        pourer.pour(self.log, ends, told)
        return Poured(pourer.records - before, pourer.transactions, pourer.markers)

    def _pourer(self) -> Pourer:
        if self._made is None:
            self._made = Pourer(self.kafka, self.namespace, self.slot)
        return self._made

    def _read_back(self) -> KafkaLog:
        if self._there is None:
            self._there = KafkaLog(self.kafka, self.namespace)
        return self._there

    def close(self) -> None:
        """Let go of the connections; what is done later opens new ones."""
        if self._there is not None:
            self._there.close()
            self._there = None
        if self._made is not None:
            self._made.close()


class Alone:
    """One hand does all of it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def tables(self, tasks: Iterable[TableTask]) -> Iterator[TableReport]:
        """See :class:`Crew`."""
        with closing(self._hand):
            yield from map(self._hand.table, tasks)

    def newest(self, ends: Mapping[Place, int]) -> Iterator[tuple[Place, list[int]]]:
        """See :class:`Crew`."""
        with closing(self._hand):
            for place, end in ends.items():
                yield place, self._hand.newest(place, end)

    def pour(self, ends: dict[Place, int], told: Told) -> Iterator[Poured]:
        """See :class:`Crew`."""
        with closing(self._hand):
            yield self._hand.pour(ends, told)
