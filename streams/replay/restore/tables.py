"""The tables of an app: from their changelogs, or made anew by folding ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import UsageError
from schemas.records import ScheduleTick
from streams.core.shard import PartitionState, advance
from streams.core.state_hash import state_hash
from streams.runtime.marks import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.codec import Codec
    from streams.replay.log import Log

TICKS: Final = "schedule.ticks"
Rows = dict[tuple[str, bytes], bytes]
"""Values by table and key."""


def rows_of(log: Log, tables: Mapping[str, str], partition: int, ends: Mapping[str, int]) -> Rows:
    """Return the rows of one partition, by the changelogs of its tables up to ``ends``.

    Memory: the rows of this partition.
    """
    rows: Rows = {}
    for table, topic in tables.items():
        first = log.firsts(topic)[partition]
        for batch in log.read(topic, partition, first, ends[topic]):
            for _, _, key, value in batch:
                if key is None or key == KEY:
                    continue
                if value is None:
                    rows.pop((table, key), None)
                else:
                    rows[table, key] = value
    return rows


def folded(log: Log, codec: Codec, partition: int, end: int) -> Rows:
    """Return the rows of the wheel of one partition, by folding all its ticks up to ``end``.

    UsageError where the first of them are not there any more.
    """
    if log.firsts(TICKS)[partition]:
        raise UsageError(
            f"The ticks of partition {partition} do not begin at offset 0: their tables cannot be "
            "folded from nothing. Restore them from the changelogs."
        )
    state = PartitionState(partition, log.partitions(TICKS))
    rows: Rows = {}
    for batch in log.read(TICKS, partition, 0, end):
        for entry in batch:
            tick = codec.decode_as(entry.value or b"", ScheduleTick)
            for place, row in advance(state, tick).rows.items():
                if row is None:
                    rows.pop(place, None)
                else:
                    rows[place] = codec.encode(row)
    return rows


def hash_of(rows: Rows) -> str:
    """Return the state hash of a partition's rows, hexadecimal."""
    return state_hash((table, key, rows[table, key]) for table, key in sorted(rows)).hex()
