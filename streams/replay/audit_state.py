"""The rows of a partition's state: made of a state, made into one, and compared with a snapshot.

A state holds all that its rows hold (``streams/core/partition.py``), so an audit keeps no rows
beside it: they are written out at a snapshot, once a day, and hashed as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import DeviceFacts, RequestState, ScheduleState, ShardState
from streams.core.partition import (
    BACKLOG_KEY,
    BACKLOG_SHARD,
    CLOCK_KEY,
    CLOCK_SHARD,
    TZ_KEY,
    PartitionState,
    Shard,
)
from streams.core.step import shard_row, zone_key, zone_row
from streams.core.tz import tz_row
from streams.core.tz_behind import before_key, before_row, behind_key, behind_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.codec import Codec
    from schemas.records import Record

Row = tuple[str, bytes, bytes]
"""Table, key, value."""

TABLES: Final = ("facts", "requests", "schedules", "shards")
"""In the order of ``state_hash``."""
OF: Final[dict[str, type[Record]]] = {
    "facts": DeviceFacts,
    "requests": RequestState,
    "schedules": ScheduleState,
    "shards": ShardState,
}
SHOWN: Final = 3
"""Rows that differ which are named."""


def rows_of(state: PartitionState, codec: Codec) -> Iterator[Row]:
    """Yield the rows that a wheel in this state has, in the order of (table, key)."""
    encode = codec.encode
    for device_id in sorted(state.facts, key=str.encode):
        yield "facts", device_id.encode(), encode(state.facts[device_id])
    for key, row in sorted((key.encode(), row) for key, row in state.requests.items()):
        yield "requests", key, encode(row)
    for name in sorted(state.table.index, key=str.encode):
        yield "schedules", name.encode(), encode(state.row(state.table.index[name]))
    if not state.time_ms:
        return
    shards: dict[bytes, Record] = {
        b"%d" % number: shard_row(number, shard) for number, shard in state.shards.items()
    }
    shards[CLOCK_KEY] = shard_row(CLOCK_SHARD, Shard(state.time_ms))
    if state.tz_version:
        shards[TZ_KEY] = tz_row(state.tz_version)
    for name, zone in state.zones.items():
        shards[zone_key(name)] = zone_row(state.tz_version, name, zone)
    behind = state.behind
    if behind is not None:
        for name, zone in behind.zones.items():
            shards[before_key(name)] = before_row(behind.version, name, zone)
        for number, last in behind.settled.items():
            shards[behind_key(number)] = behind_row(behind.version, number, last)
    if state.ready:
        shards[BACKLOG_KEY] = shard_row(BACKLOG_SHARD, Shard(state.floor_ms))
    for key in sorted(shards):
        yield "shards", key, encode(shards[key])


def state_of(rows: Iterable[Row], partition: int, partitions: int, codec: Codec) -> PartitionState:
    """Return the state that a wheel builds of these rows.

    Raises DecodeError for a row that makes no sense, ValueError for one that belongs elsewhere.
    """
    found: dict[str, list[Record]] = {table: [] for table in TABLES}
    for table, _, value in rows:
        if table not in OF:
            raise DecodeError("wrong_record", f"There is no table {table!r}.")
        found[table].append(codec.decode_as(value, OF[table]))
    state = PartitionState(partition, partitions)
    state.load(found["schedules"], found["shards"], found["requests"], found["facts"])  # type: ignore[arg-type]
    return state


def todays(rows: Iterable[Row], codec: Codec) -> Iterator[Row]:
    """Yield rows as today's schemas write them: an older release's are written anew."""
    headers = {table: codec.header(record) for table, record in OF.items()}
    for table, key, value in rows:
        if value.startswith(headers.get(table, b"\xff")):
            yield table, key, value
        else:
            yield table, key, codec.encode(codec.decode(value))


def differences(ours: Iterable[Row], theirs: Iterable[Row]) -> tuple[int, list[str]]:
    """Return how many rows differ, and the first of them in words; both are in order."""
    left, right = iter(ours), iter(theirs)
    a, b = next(left, None), next(right, None)
    count, words = 0, []
    while a is not None or b is not None:
        if a == b:
            a, b = next(left, None), next(right, None)
            continue
        here = a if b is None or (a is not None and a[:2] <= b[:2]) else b
        assert here is not None
        what = f"{here[0]} {here[1].decode(errors='replace')!r}".replace("\\x00", "/")
        if a is None or (b is not None and b[:2] < a[:2]):
            what, b = f"{what} is there, and should not be", next(right, None)
        elif b is None or a[:2] < b[:2]:
            what, a = f"{what} is missing", next(left, None)
        else:
            what, a, b = f"{what} differs", next(left, None), next(right, None)
        count += 1
        if count <= SHOWN:
            words.append(what)
    return count, words
