"""Schedules that an upgrade of the tz data has not reached yet, and what they go by until it does.

An upgrade moves at most ``MOVED_MAX`` schedules of a shard in one tick (``tz.py``), in the order of
their keys. A shard with some left is **behind**: its schedules up to a key, the last one that was
looked at, go by the new data, those after it by the old. Which of them one goes by is a function of
its key alone, so what is changed or new meanwhile needs no mark of its own, and a schedule that has
not been reached fires, is changed, paused and resumed as if the upgrade were yet to come.

Only zones whose clocks differ matter. In rows of ``shards``, until no shard is behind:

* ``tz-before/ZONE``: the table of such a zone before the upgrade;
* ``tz-behind/N``: of shard N, the key up to which it has come.

What waits is a heap of keys a shard: made in O(1) a key, read in order as far as is needed.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from schemas.records import ShardState, TzTable
from streams.core.compiled import Compiled
from streams.core.recurrence.zones import FAR_MS, KeptTzData, Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.core.recurrence import Recurrence
    from streams.core.recurrence.zones import TzData

BEFORE_SHARD: Final = -4
"""Shard number of the rows of zones as they were."""


class Behind:
    """The part of a partition that an upgrade has not come to."""

    __slots__ = ("compiled", "settled", "version", "waiting", "zones")

    def __init__(self, version: str, zones: Mapping[str, Zone], data: TzData) -> None:
        """Take the version before, its zones whose clocks differ, and the data for all others."""
        self.version = version
        self.zones = dict(zones)
        self.compiled = Compiled(KeptTzData(version, self.zones, data))
        """Recurrences by the old data."""
        self.settled: dict[int, str] = {}
        """The last key that was looked at, by shard; shards that are not there are not behind."""
        self.waiting: dict[int, list[str]] = {}
        """By shard, a heap of keys: those to come, and some of schedules that are gone."""

    def base(self, data: TzData) -> None:
        """Take all other zones from elsewhere."""
        self.compiled = Compiled(KeptTzData(self.version, self.zones, data))

    def begin(self, number: int, keys: list[str]) -> None:
        """Let a shard be behind, with schedules that wait in it."""
        heapify(keys)
        self.settled[number], self.waiting[number] = "", keys

    def concerns(self, recurrence: Recurrence) -> bool:
        """Say whether times hang on a zone whose clock differs."""
        return not recurrence.zone_names.isdisjoint(self.zones)

    def has(self, number: int, key: str) -> bool:
        """Say whether a schedule of a shard, whatever its zone, is one that was not reached."""
        settled = self.settled.get(number)
        return settled is not None and key > settled

    def add(self, number: int, key: str) -> None:
        """Let a schedule wait that is new or has been changed; more than once is once."""
        heappush(self.waiting[number], key)

    def pop(self, number: int) -> str:
        """Take the next key of a shard; empty: none is left."""
        heap, settled = self.waiting[number], self.settled[number]
        while heap:
            key = heappop(heap)
            if key > settled:
                self.settled[number] = key
                return key
        return ""

    def is_through(self, number: int, waits: Callable[[str], bool]) -> bool:
        """Say whether no key is left of which ``waits`` is true."""
        heap, settled = self.waiting[number], self.settled[number]
        while heap and (heap[0] <= settled or not waits(heap[0])):
            heappop(heap)
        return not heap

    def end(self, number: int) -> None:
        """Let a shard be behind no more."""
        del self.settled[number], self.waiting[number]


def behind_of(rows: Iterable[ShardState], data: TzData) -> Behind | None:
    """Return what these rows say of a partition; null: they are none."""
    tables = [(row.shard, row.tz) for row in rows if row.tz is not None]
    before = {table.zone: zone_of(table) for shard, table in tables if shard == BEFORE_SHARD}
    if not before:
        return None
    behind = Behind(tables[0][1].version, before, data)
    for shard, table in tables:
        if shard != BEFORE_SHARD:
            behind.begin(shard, [])
            behind.settled[shard] = table.zone
    return behind


def zone_of(table: TzTable) -> Zone:
    """Return the zone that a row holds."""
    starts = (-FAR_MS, *table.starts_ms)
    return Zone(table.zone, list(zip(starts, table.offsets_ms, strict=True)))


def before_key(name: str) -> bytes:
    """Return the key of the row of a zone as it was."""
    return b"tz-before/" + name.encode()


def before_row(version: str, name: str, zone: Zone) -> ShardState:
    """Return the row of a zone as it was."""
    return ShardState(BEFORE_SHARD, 0, 0, 0, tz=table_of(version, name, zone))


def behind_key(number: int) -> bytes:
    """Return the key of the row of a shard that is behind."""
    return b"tz-behind/%d" % number


def behind_row(version: str, number: int, key: str) -> ShardState:
    """Return the row of a shard that is behind a version's end, up to the key of a schedule."""
    return ShardState(number, 0, 0, 0, tz=TzTable(version, key))


def table_of(version: str, name: str, zone: Zone) -> TzTable:
    """Return the table of a zone as a row holds it."""
    changes = zone.changes()
    return TzTable(
        version,
        name,
        tuple([start for start, _ in changes[1:]]),
        tuple([offset for _, offset in changes]),
    )
