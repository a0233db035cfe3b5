"""What the wheel does with many entries at once, in columns (``wheel.py``).

An entry is four bytes, a due time eight. Looking times up one by one costs 30 ns each as long as
they are in the caches and 100 to 200 where they are not, as after a tenth of a second in which
others worked; in columns 2 to 25.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    Indices = npt.NDArray[np.uint32]
    Times = npt.NDArray[np.int64]


def times_of(due: array[int]) -> Times:
    """Return the times as a column: the same memory, so nobody may keep it."""
    return np.frombuffer(due, np.int64)


def column(entries: array[int]) -> Indices:
    """Return entries as a column: the same memory."""
    return np.frombuffer(entries, np.uint32)


def entries_of(indices: Indices) -> array[int]:
    """Return indices as entries."""
    return array("I", indices.tobytes())


def earliest(due: array[int], entries: array[int]) -> int:
    """Return the least time of entries, of which there is one."""
    return int(times_of(due)[column(entries)].min())


def parted(due: array[int], entries: array[int], now_ms: int) -> tuple[array[int], array[int]]:
    """Return the entries that are due by a time, and the others."""
    indices = column(entries)
    ready = times_of(due)[indices] <= now_ms
    return entries_of(indices[ready]), entries_of(indices[~ready])


def between(due: array[int], entries: array[int], low_ms: int, high_ms: int) -> array[int]:
    """Return the entries that are due after a time, up to another one, each once."""
    indices = column(entries)
    times = times_of(due)[indices]
    return entries_of(np.unique(indices[(low_ms < times) & (times <= high_ms)]))


def after(due: array[int], rows: Iterable[array[int]], clock_ms: int) -> Indices:
    """Return the entries of all rows that are due after a time, each once."""
    columns = [column(entries) for entries in rows]
    if not columns:
        return np.empty(0, np.uint32)
    indices = np.unique(np.concatenate(columns))
    return indices[times_of(due)[indices] > clock_ms]


def set_times(due: array[int], indices: Times, times: Times, clock_ms: int) -> Times | None:
    """Set the times of those that wait for nothing, to times to come; return which were not.

    That is a column of positions. Null, and nothing is done, where an index comes twice.
    """
    all_times = times_of(due)
    before = all_times[indices]
    marks = -2 - np.arange(len(indices))
    all_times[indices] = marks
    if not np.array_equal(all_times[indices], marks):
        all_times[indices] = before
        return None
    plain = (before <= clock_ms) & (times > clock_ms)
    all_times[indices] = np.where(plain, times, before)
    return np.flatnonzero(~plain)


def by_number(indices: Indices, numbers: Times) -> Iterator[tuple[int, bytes]]:
    """Yield the entries of each number, ascending; those of one in the order they had."""
    if not len(indices):
        return
    low, high = int(numbers.min()), int(numbers.max())
    small = numbers - low
    if high - low <= np.iinfo(np.uint16).max:
        small = small.astype(np.uint16)  # these are sorted in passes over their bytes
    order = np.argsort(small, kind="stable")
    small, data = small[order], indices[order].tobytes()
    cuts = [0, *(np.flatnonzero(small[1:] != small[:-1]) + 1).tolist(), len(indices)]
    firsts = (small[cuts[:-1]].astype(np.int64) + low).tolist()
    for number, begin, end in zip(firsts, cuts[:-1], cuts[1:], strict=True):
        yield number, data[4 * begin : 4 * end]
