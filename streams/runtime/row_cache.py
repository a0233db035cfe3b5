"""The rows written last, in memory: what changes often is read without asking RocksDB."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from streams.runtime.unwritten import emptied, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.runtime.batch import StateKey


class RowCache:
    """The rows written last, in two generations of at most half the bound each.

    When the younger generation is full it becomes the older one, whose rows are dropped unless
    they were written again: so what changes often stays, and nothing is counted at a read.
    Commits and recovery write in threads of their own, so writing takes a lock; reading does not.
    """

    __slots__ = ("_half", "_lock", "_size", "generations")

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self.generations: tuple[dict[StateKey, bytes | None], ...] = ({}, {})
        """The younger and the older rows; ``None``: known to be deleted. To be read."""
        self._size = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return sum(map(len, self.generations))

    def update(self, writes: Mapping[StateKey, bytes | None]) -> None:
        """Take in rows; one written twice counts twice, so the bound errs on the small side."""
        size = size_of(writes)
        old: dict[StateKey, bytes | None] = {}
        with self._lock:
            if self._size + size > self._half:
                old = self.generations[1]
                self.generations, self._size = ({}, self.generations[0]), 0
            self.generations[0].update(writes)
            self._size += size
        emptied(old)

    def clear(self) -> None:
        """Forget all: the store is written past the cache."""
        with self._lock:
            self.generations, self._size = ({}, {}), 0
