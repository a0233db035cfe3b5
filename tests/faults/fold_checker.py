"""Is the wheel's state the fold of its journal? Folds the ticks anew and compares; pure.

``advance`` decides nothing but from state and tick, so the ticks of a partition, folded from its
beginning, give every row of the wheel's tables and every command it can have issued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.records import ScheduleTick
from streams.core.shard import PartitionState, advance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.codec import Codec
    from schemas.records import Record

State = dict[tuple[str, bytes], "Record"]
"""Rows by (table, key)."""


def fold(partition: int, partitions: int, ticks: Iterable[ScheduleTick]) -> tuple[State, list]:
    """Return the rows and the commands that these ticks of a partition make."""
    state = PartitionState(partition, partitions)
    rows: State = {}
    commands: list[Record] = []
    for tick in ticks:
        outputs = advance(state, tick)
        commands += outputs.commands
        for at, row in outputs.rows.items():
            if row is None:
                rows.pop(at, None)
            else:
                rows[at] = row
    return rows, commands


def differences(
    partition: int,
    partitions: int,
    codec: Codec,
    ticks: Iterable[bytes],
    tables: Mapping[str, Mapping[bytes, bytes]],
    commands: Iterable[bytes],
) -> list[str]:
    """Return what differs between the fold of the ticks and what the topics hold.

    Args:
        partition: which.
        partitions: of how many.
        codec: decodes the records.
        ticks: the journal of the partition.
        tables: the last value of each key of each table's changelog.
        commands: capture.commands of the partition.

    """
    records = map(codec.decode, ticks)  # snapshots stand beside them
    rows, wanted = fold(partition, partitions, (r for r in records if isinstance(r, ScheduleTick)))
    found = {
        (table, key): codec.decode(value)
        for table, kept in tables.items()
        for key, value in kept.items()
    }
    wrong = [
        f"{partition}:{at} is {found.get(at)}, not {rows.get(at)}"
        for at in sorted(rows.keys() | found.keys())
        if rows.get(at) != found.get(at)
    ]
    issued = [codec.decode(value) for value in commands]
    if issued != wanted:
        wrong.append(f"{partition}: {len(issued)} commands issued, {len(wanted)} by the ticks")
    return wrong
