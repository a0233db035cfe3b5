"""Where wheels of an odd world write their snapshots, and what reads them back.

Real is ``Snapshots``; pretended are its thread and the blob store, which fails and is slow as it is
for pictures (``blobs_down``). A file is kept under the number of partitions and the partition, as
in earnest; another number of partitions begins anew (``world_move.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from world import World

    from schemas.records import PartitionSnapshot

    Row = tuple[str, bytes, bytes]


class Files:
    """Files of rows by URI (``streams.agents.snapshots.SnapshotPort``)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: dict[str, list[Row]] = {}
        self._newest: dict[tuple[int, int], int] = {}

    def opened(self) -> Files:
        """Return them, if the store answers."""
        self._look()
        return self

    def newest_ms(self, partition: int, partitions: int) -> int | None:
        self._look()
        return self._newest.get((partition, partitions))

    def write(
        self, partition: int, partitions: int, time_ms: int, rows: Iterable[Row]
    ) -> tuple[str, int]:
        found = list(rows)
        self._look()
        uri = f"sim:///snapshots/{partitions}/{partition}/{time_ms}-{len(self.rows)}"
        self.rows[uri] = found
        self._newest[partition, partitions] = time_ms
        return uri, sum(len(key) + len(value) for _, key, value in found)

    def read(self, snapshot: PartitionSnapshot) -> list[Row]:
        """Return the rows that a snapshot names."""
        return self.rows[snapshot.uri]

    def _look(self) -> None:
        if self._world.site.blobs_down:
            self._world.watch.met["blobs_down"] += 1
            raise StoreError("the blob store does not answer")
