"""The rows of ``schedules`` of one partition in memory: columns by a dense index.

A row is its device, its schedule id, its epoch, and the rest: spec, policy, start, pause. Whole
fleets have the rest in common, as it comes from one line of a manifest and starts with one tick.
So the rest is kept once, as the row it was first seen in, its **like**; a row of its own costs a
key, an epoch and a pointer to its like. ``row`` puts them together when somebody asks.

Worked example: a million schedules ``cam-… every-5m`` accepted in 5,000 ticks have 5,000 likes,
which all share one spec and one policy. Asked for ``cam-7``, the table splits its key
``cam-7 NUL every-5m`` and takes the rest from the like of its tick.

Cost (CPython 3.11): 0.5 us to put a row together; 166 bytes a schedule with its timer, of which the
key and its place in the dictionary have 130. With an object a row it was 350.
"""

from __future__ import annotations

from array import array
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState

SEPARATOR = "\0"
"""Between device id and schedule id of a key: no id holds it."""
UNKNOWN_SHARD = 0xFFFF
"""A shard number that was not worked out yet: real ones are 0 to 1,023."""
IDS = 3
"""Fields of a row that are its own: device, schedule, epoch."""
SHARED_MAX = 65_536
"""The most values kept for sharing; then the collection starts anew."""

T = TypeVar("T")


class Alike(NamedTuple):
    """Rows that differ in nothing but device, schedule id and epoch."""

    like: ScheduleState
    """A row with all that they have in common."""
    keys: list[str]
    device_ids: list[bytes]
    """UTF-8; the device of each key, as it was at hand where the keys were made."""
    epochs: list[int]


def schedule_key(device_id: str, schedule_id: str) -> str:
    """Return the key of a row of ``schedules``."""
    return f"{device_id}{SEPARATOR}{schedule_id}"


def device_of(key: str) -> str:
    """Return the device of a key."""
    return key.partition(SEPARATOR)[0]


class ScheduleTable:
    """Schedules by index; an index that is free is used again. No timer: that is the wheel's."""

    __slots__ = (
        "_epochs",
        "_free",
        "_last_like",
        "_last_tail",
        "_likes",
        "_policies",
        "_shared",
        "_specs",
        "index",
        "keys",
        "shards",
    )

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        """Index of a schedule by its key."""
        self.keys: list[str] = []
        """Key by index; empty where the index is free."""
        self.shards = array("H")
        """Shard by index; ``UNKNOWN_SHARD`` until somebody has worked it out."""
        self._epochs: array[int] = array("q")
        self._likes: list[ScheduleState | None] = []
        self._free: list[int] = []
        self._shared: dict[ScheduleState, ScheduleState] = {}
        self._specs: dict[ScheduleSpec, ScheduleSpec] = {}
        self._policies: dict[CapturePolicy, CapturePolicy] = {}
        self._last_tail: tuple[object, ...] = ()
        """What the last row said besides its ids and epoch."""
        self._last_like: ScheduleState

    def __len__(self) -> int:
        return len(self.index)

    def row(self, index: int) -> ScheduleState:
        """Return the row of an index in use."""
        like = self._likes[index]
        if like is None:
            raise AssertionError(f"index {index} is not in use")
        device_id, _, schedule_id = self.keys[index].partition(SEPARATOR)
        return msgspec.structs.replace(
            like, device_id=device_id, schedule_id=schedule_id, epoch=self._epochs[index]
        )

    def parts(self, index: int) -> tuple[str, str, int, ScheduleState | None]:
        """Return device, schedule, epoch and what else there is of an index, not put together.

        The last is one object for all that are alike, without ids and epoch; none: it is free.
        """
        device_id, _, schedule_id = self.keys[index].partition(SEPARATOR)
        return device_id, schedule_id, self._epochs[index], self._likes[index]

    def put(self, row: ScheduleState, shard: int) -> int:
        """Keep a row, new or changed; return its index."""
        key = schedule_key(row.device_id, row.schedule_id)
        index = self.index.get(key)
        if index is None:
            index = self.index[key] = self._new(key, shard)
        self._likes[index] = self._like(row)
        self._epochs[index] = row.epoch
        return index

    def _new(self, key: str, shard: int) -> int:
        if self._free:
            index = self._free.pop()
            self.keys[index] = key
            self.shards[index] = shard
            return index
        self.keys.append(key)
        self.shards.append(shard)
        self._likes.append(None)
        self._epochs.append(0)
        return len(self.keys) - 1

    def extend(self, rows: Alike) -> range:
        """Keep rows whose keys are new, under new indices; return these.

        ValueError, and the table is of no use any more, if a key was there.
        """
        first, count = len(self.keys), len(rows.keys)
        indices = range(first, first + count)
        self.keys += rows.keys
        self._epochs.extend(rows.epochs)
        self.shards.extend(repeat(UNKNOWN_SHARD, count))
        self._likes.extend(repeat(self._like(rows.like), count))
        before = len(self.index)
        self.index.update(zip(rows.keys, indices, strict=True))
        if len(self.index) != before + count or len(self._epochs) != len(self.keys):
            raise ValueError("a key stands there twice, or rows are not whole")
        return indices

    def remove(self, index: int) -> None:
        """Forget a schedule; its index is free."""
        del self.index[self.keys[index]]
        self._likes[index] = None
        self.keys[index] = ""
        self._free.append(index)

    def _like(self, row: ScheduleState) -> ScheduleState:
        """Return what is kept of a row besides its ids and epoch: one object for equal ones."""
        tail = msgspec.structs.astuple(row)[IDS:]
        if tail == self._last_tail:  # a fleet comes with one spec; to hash it takes longer
            return self._last_like
        spec, policy = _shared(self._specs, row.spec), _shared(self._policies, row.policy)
        like = _shared(
            self._shared,
            msgspec.structs.replace(
                row, device_id="", schedule_id="", epoch=0, spec=spec, policy=policy
            ),
        )
        self._last_tail, self._last_like = tail, like
        return like


def _shared(values: dict[T, T], value: T) -> T:
    """Return the one kept value that is equal to ``value``."""
    kept = values.get(value)
    if kept is None:
        if len(values) >= SHARED_MAX:
            values.clear()
        values[value] = kept = value
    return kept
