"""Builds the state of partitions from local rows before it is known whose they will be.

A worker that starts with its disk mostly gets the partitions back that it had. Joining the group
takes a second, most of it spent waiting; the building takes longer. So it begins at once, in a
thread, partition after partition.

What was built is used only if it is what would be built now: the store counts the changes of each
partition's rows, and the counts from before the rows were read must be the same when the partition
is opened. Whatever recovery added makes what was built before void, and it is built anew. Offsets
alone would not do: recovery also moves them over the marker of the last transaction.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.runtime.store import Store

T = TypeVar("T")
Counts = tuple[int, ...]

NAME: Final = "read-ahead"
"""Of the thread."""


class ReadAhead(Generic[T]):
    """The states that are being built, by partition."""

    def __init__(self, store: Store, tables: Iterable[str], build: Callable[[int], T]) -> None:
        """Take the store, the tables whose rows are read, and what makes a state of them."""
        self._store = store
        self._tables = tuple(tables)
        self._build = build
        self._building: dict[int, Future[tuple[Counts, T]]] = {}
        self._thread = ThreadPoolExecutor(1, NAME)

    def start(self, partitions: Iterable[int]) -> None:
        """Begin with those of the partitions that have local state in every table."""
        for number in partitions:
            if all(self._store.offset(table, number) is not None for table in self._tables):
                self._building[number] = self._thread.submit(self._make, number)

    def _make(self, number: int) -> tuple[Counts, T]:
        return self._counts(number), self._build(number)

    def _counts(self, number: int) -> Counts:
        return tuple(self._store.changes(table, number) for table in self._tables)

    def take(self, number: int) -> T | None:
        """Return the state of a partition as its rows are now, or ``None``: it is to be built.

        Waits for it, also where it has not begun: two threads would only build it in turns.

        Raises:
            StoreError: the rows could not be read.

        """
        building = self._building.pop(number, None)
        if building is None:
            return None
        counts, state = building.result()
        return state if counts == self._counts(number) else None

    def forget(self) -> None:
        """Drop what nobody has asked for, and what has not begun."""
        self._building.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)
