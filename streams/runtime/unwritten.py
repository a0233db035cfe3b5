"""Rows that are committed and not yet written to RocksDB.

A row that changes often need not be written each time: its changelog has it, and recovery reads
from the offset that stands beside the rows. So committed rows are gathered, and written in one go
when there are many or the first of them has waited for ``max_age_s``: the newest value of each, in
key order, and then the offsets they bring us to. A worker that is killed reads so much more of its
changelog at its next start; one that ends in order writes all before.

Two generations: one that gathers, and one that is being written in a thread of its own. A third is
not begun: whoever would do so waits, so memory is bounded by twice ``max_bytes``.

RocksDB's binding keeps the interpreter's lock while it works, so each row that is not written is
time for shutters.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.runtime.batch import StateKey

    Places = dict[tuple[str, int], int]
    """The next changelog offset by table and partition."""

MISSING: Final = object()
"""Nothing is known of a row here; ``None`` is a row that was deleted."""
REST: Final = 4.0
"""How long the writer rests for each second of writing, so that the event loop has its turn; not
where somebody waits for it."""
ROW_BYTES: Final = 260
"""What a row in memory takes beside its value: tuple, key, and its place in the dict."""


def emptied(rows: dict[StateKey, bytes | None]) -> None:
    """Let go of rows one by one: 100,000 at once are 40 ms in which no shutter opens.

    Who has the dict still may miss a row that he would have found: it is in RocksDB by now.
    """
    while rows:
        rows.popitem()


def size_of(rows: Mapping[StateKey, bytes | None]) -> int:
    """Return about what rows take in memory."""
    return ROW_BYTES * len(rows) + sum(map(len, filter(None, rows.values())))


class Unwritten:
    """The rows of one store that wait to be written."""

    def __init__(
        self,
        write: Callable[[Mapping[StateKey, bytes | None], Mapping[tuple[str, int], int]], None],
        max_bytes: int,
        max_age_s: float,
    ) -> None:
        """Take what writes rows and then offsets; it is called in a thread, once at a time."""
        self._write = write
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self.generations: tuple[dict[StateKey, bytes | None], ...] = ({}, {})
        """The rows that gather and those that are being written; ``None``: deleted. To be read."""
        self._offsets: Places = {}
        self._size = 0
        self._since_s = 0.0
        self._writing: Future[None] | None = None
        self._lock = Lock()
        self._hurry = Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    def __len__(self) -> int:
        return sum(map(len, self.generations))

    def add(
        self, rows: Mapping[StateKey, bytes | None], offsets: Mapping[tuple[str, int], int]
    ) -> None:
        """Take in what one commit has left; may wait for the disk.

        Raises:
            StoreError: what was taken in before could not be written.

        """
        with self._lock:
            if not self._offsets:
                self._since_s = time.monotonic()
            self.generations[0].update(rows)
            self._offsets.update(offsets)
            self._size += size_of(rows)
            writing = self._writing is not None and not self._writing.done()
            if not writing:
                self._wait()  # which tells whether it went well
            full = self._size >= self._max_bytes
            if full or (not writing and time.monotonic() - self._since_s >= self._max_age_s):
                self._begin()

    def rest(self, took_s: float) -> None:
        """Called by the writer between two pieces, with the time that the last one took."""
        self._hurry.wait(took_s * REST)

    def flush(self) -> None:
        """Write all of it, and wait for that. Raises StoreError as ``add``."""
        with self._lock:
            self._begin()
            self._wait()

    def close(self) -> None:
        """Write all of it, and let go of the thread. Raises StoreError as ``add``."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def _begin(self) -> None:
        self._wait()
        young, _ = self.generations
        if not self._offsets and not young:
            return
        offsets, self._offsets = self._offsets, {}
        self.generations, self._size = ({}, young), 0
        self._hurry.clear()
        self._writing = self._thread.submit(self._write_old, offsets)

    def _write_old(self, offsets: Places) -> None:
        old = self.generations[1]
        self._write(old, offsets)
        self.generations = (self.generations[0], {})
        emptied(old)

    def _wait(self) -> None:
        if self._writing is not None:
            self._hurry.set()
            self._writing.result()
