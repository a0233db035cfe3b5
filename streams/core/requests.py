"""The memory of request ids (SPEC 2.2): what became of each, for a window of time.

Rows are kept by key and, for forgetting, in buckets of one tick time each, oldest first. A bucket
is emptied in the order of its keys, so what a tick forgets follows from the rows alone and is the
same after a restart. Kept: about 0.4 kB a request of the last 30 minutes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import RequestState


def request_key(device_id: str, request_id: str) -> str:
    """Return the key of a row of ``requests``."""
    return f"{device_id}\0{request_id}"


class RequestMemory:
    """The rows of ``requests`` of one partition."""

    __slots__ = ("_buckets", "_rows")

    def __init__(self, rows: Iterable[RequestState] = ()) -> None:
        self._rows: dict[str, RequestState] = {}
        self._buckets: deque[tuple[int, list[str]]] = deque()
        for row in sorted(rows, key=lambda row: row.tick_time_ms):
            self.remember(row)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: str, now_ms: int, memory_ms: int) -> RequestState | None:
        """Return what became of a request, if that is not longer ago than the memory."""
        row = self._rows.get(key)
        return row if row is not None and now_ms - row.tick_time_ms < memory_ms else None

    def get(self, key: str) -> RequestState | None:
        """Return a row that was not forgotten yet, however old."""
        return self._rows.get(key)

    def items(self) -> Iterable[tuple[str, RequestState]]:
        """Return all rows that were not forgotten yet, by key, in no order."""
        return self._rows.items()

    def remember(self, row: RequestState) -> None:
        """Keep a new row; its time is not before that of any other."""
        key = request_key(row.device_id, row.request_id)
        self._rows[key] = row
        if not self._buckets or self._buckets[-1][0] != row.tick_time_ms:
            self._buckets.append((row.tick_time_ms, []))
        self._buckets[-1][1].append(key)

    def amend(self, row: RequestState) -> None:
        """Replace a row by one of the same key and time."""
        self._rows[request_key(row.device_id, row.request_id)] = row

    def forget(self, now_ms: int, memory_ms: int, limit: int) -> list[str]:
        """Drop up to ``limit`` rows that are older than the memory; return their keys."""
        dropped: list[str] = []
        while self._buckets and now_ms - self._buckets[0][0] >= memory_ms:
            time_ms, keys = self._buckets[0]
            keys.sort(reverse=True)
            while keys:
                if len(dropped) == limit:
                    return dropped
                key = keys.pop()
                row = self._rows.get(key)
                if row is not None and row.tick_time_ms == time_ms:
                    del self._rows[key]
                    dropped.append(key)
            self._buckets.popleft()
        return dropped
