"""The rows written last, in memory: what changes often is read without asking RocksDB."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from streams.runtime.unwritten import MISSING, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.runtime.batch import StateKey


class RowCache:
    """The rows written last, in two generations of at most half the bound each.

    When the younger generation is full it becomes the older one, whose rows are dropped unless
    they were written again: so what changes often stays, and nothing is counted at a read.
    Commits and recovery write in threads of their own, so writing takes a lock; reading does not.
    """

    __slots__ = ("_half", "_lock", "_old", "_size", "_young")

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._young: dict[StateKey, bytes | None] = {}
        self._old: dict[StateKey, bytes | None] = {}
        self._size = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: StateKey) -> bytes | object | None:
        """Return the row, ``None`` if it is known to be deleted, ``MISSING`` if nothing is."""
        value: bytes | object | None = self._young.get(key, MISSING)
        return self._old.get(key, MISSING) if value is MISSING else value

    def update(self, writes: Mapping[StateKey, bytes | None]) -> None:
        """Take in rows; one written twice counts twice, so the bound errs on the small side."""
        size = size_of(writes)
        with self._lock:
            if self._size + size > self._half:
                self._old, self._young, self._size = self._young, {}, 0
            self._young.update(writes)
            self._size += size

    def clear(self) -> None:
        """Forget all: the store is written past the cache."""
        with self._lock:
            self._young, self._old, self._size = {}, {}, 0
