"""What is not committed yet, seen by whoever reads: the batches over the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.runtime.unwritten import MISSING

if TYPE_CHECKING:
    from streams.runtime.batch import Batch, StateKey
    from streams.runtime.store import Store


class Overlay:
    """Reads that see what steps have written, committed or not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches: tuple[Batch, ...] = ()

    def show(self, *batches: Batch | None) -> None:
        """Set the batches to look into, newest first."""
        self._batches = tuple(batch for batch in batches if batch is not None)

    def get(self, key: StateKey) -> bytes | None:
        """Return the value of a key as the steps so far have left it."""
        for batch in self._batches:
            value = batch.writes.get(key, MISSING)
            if value is not MISSING:
                return value if isinstance(value, bytes) else None
        return self._store.get(key)

    def pending(self, key: StateKey) -> bool:
        """Tell whether the key has a write that is not committed yet."""
        return any(key in batch.writes for batch in self._batches)
