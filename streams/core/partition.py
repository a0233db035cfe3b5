"""What the timing wheel keeps in memory of one partition: its rows, and the wheel over them.

Everything here can be made again from the rows of the three tables (``load``); nothing here is
decided. The rules are in ``shard.py``, which also says what the clocks mean.

Schedules have dense indices, so that the wheel can hold them in four bytes
(``schedule_table.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core import ids
from streams.core.first_times import first_times
from streams.core.requests import RequestMemory
from streams.core.schedule import KINDS, MAX_LEAD_MS, first_scheduled_at_or_after
from streams.core.schedule_table import UNKNOWN_SHARD, Alike, ScheduleTable, schedule_key
from streams.core.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import RequestState, ScheduleState, ShardState

__all__ = ["PartitionState", "Shard", "schedule_key"]

CLOCK_SHARD = -1
"""Shard number of the row that holds the time of the partition's last tick."""
CLOCK_KEY = b"clock"
BACKLOG_SHARD = -2
"""Shard number of the row that stands while shards wait for their commands."""
BACKLOG_KEY = b"backlog"
GROW = 256
"""By how many indices the wheel grows at a time: growing costs a call, an index 8 bytes."""


@dataclass(slots=True)
class Shard:
    """The counters of one logical shard, as in its row."""

    clock_ms: int = 0
    last_id: int = 0
    epoch: int = 0


class PartitionState:
    """The state of one partition. Mutable; owned by one partition's steps, changed by them only."""

    def __init__(self, partition: int, partitions: int) -> None:
        ids.shards_of_partition(partition, partitions)  # refuses numbers that cannot be
        self.partition = partition
        self.partitions = partitions
        self.time_ms = 0
        """Time of the last tick; 0 before the first."""
        self.floor_ms = 0
        """Every shard has issued all that was due up to here."""
        self.wheel = Wheel(0)
        self.ready: dict[int, set[int]] = {}
        """Schedules by shard that the wheel gave out and that were not settled yet."""
        self.shards: dict[int, Shard] = {}
        self.requests = RequestMemory()
        self.table = ScheduleTable()
        self.keys = self.table.keys
        """Key of a schedule by its index."""
        self.least_lead_ms = MAX_LEAD_MS
        """The least lead of any schedule since the state was made; no decision rests on it."""

    @property
    def clock_ms(self) -> int:
        """Time of the last tick; 0 before the first."""
        return self.time_ms

    @property
    def schedule_count(self) -> int:
        """Schedules held, paused ones and requests that wait for their time included."""
        return len(self.table)

    @property
    def request_count(self) -> int:
        """Request ids remembered."""
        return len(self.requests)

    def next_due_ms(self) -> int | None:
        """Return the earliest time at which a tick has something to issue or to end.

        The clock itself where commands wait already; null where nothing is due ever.
        """
        if self.ready:
            return self.time_ms
        due_ms = self.wheel.next_due()
        return None if due_ms is None else max(due_ms, self.time_ms)

    def load(
        self,
        schedules: Iterable[ScheduleState | Alike],
        shards: Iterable[ShardState],
        requests: Iterable[RequestState],
    ) -> None:
        """Fill an empty state from the rows of its tables, in any order, and build the wheel."""
        if self.schedule_count or self.shards or self.time_ms:
            raise ValueError("a state is loaded once, before its first tick")
        backlog_ms: int | None = None
        for row in shards:
            if row.shard == CLOCK_SHARD:
                self.time_ms = row.clock_ms
            elif row.shard == BACKLOG_SHARD:
                backlog_ms = row.clock_ms
            else:
                self._check_shard(row.shard)
                self.shards[row.shard] = Shard(row.clock_ms, row.last_id, row.epoch)
        self.floor_ms = self.time_ms if backlog_ms is None else backlog_ms
        self.wheel.advance(self.floor_ms)
        self.requests = RequestMemory(requests)
        # As a rule every shard stands at the partition's time; then a schedule's shard decides
        # nothing until it is due, and working it out is a third of the cost of loading a row.
        level = all(shard.clock_ms <= self.floor_ms for shard in self.shards.values())
        for rows in schedules:
            if isinstance(rows, Alike):
                self._load(rows, level)
            else:
                index = self.put(rows, UNKNOWN_SHARD)
                self._load_timers(range(index, index + 1), level)

    def _load(self, rows: Alike, level: bool) -> None:
        """Take in rows that are alike, many at once where that is possible."""
        indices = self.table.extend(rows)
        self.wheel.grow(indices.stop)
        like = rows.like
        lead_ms = like.policy.lead_ms
        self.least_lead_ms = min(self.least_lead_ms, lead_ms)
        first, rest = indices[:1], indices[1:]
        self._load_timers(first, level)
        if like.paused or not rest:
            return
        after_ms = max(like.starts_at_ms, self.floor_ms + lead_ms + 1)
        times = first_times(like.spec, like.policy, rows.device_ids, after_ms) if level else None
        # The first was asked by itself: what it answered shows whether both ways agree.
        if times is None or times[0] - lead_ms != self.wheel.due[first[0]]:
            self._load_timers(rest, level)
            return
        self.wheel.insert_many(rest, [time_ms - lead_ms for time_ms in times[1:]])

    def _load_timers(self, indices: range, level: bool) -> None:
        for index in indices:
            if not level or not index:
                self.shard_number(index)  # of the first in any case: do they belong here?
            self._schedule(index, self.floor_ms if level else self._issued_ms(index))

    def shard_number(self, index: int) -> int:
        """Return the shard of an index in use."""
        number = self.table.shards[index]
        if number == UNKNOWN_SHARD:
            number = ids.shard_of(self.row(index).device_id)
            self._check_shard(number)
            self.table.shards[index] = number
        return number

    def _check_shard(self, number: int) -> None:
        if number % self.partitions != self.partition:
            raise ValueError(
                f"a row of shard {number} in partition {self.partition} of {self.partitions}"
            )

    def issued_ms(self, number: int) -> int:
        """Return up to when a shard has issued all that was due."""
        shard = self.shards.get(number)
        return self.floor_ms if shard is None else max(self.floor_ms, shard.clock_ms)

    def find(self, key: str) -> tuple[int, ScheduleState] | None:
        """Return index and row of a schedule."""
        index = self.table.index.get(key)
        return None if index is None else (index, self.row(index))

    def row(self, index: int) -> ScheduleState:
        """Return the row of an index in use, put together: 0.5 us."""
        return self.table.row(index)

    def put(self, row: ScheduleState, number: int) -> int:
        """Keep a row, new or changed, without a timer; return its index."""
        self.least_lead_ms = min(self.least_lead_ms, row.policy.lead_ms)
        index = self.table.put(row, number)
        if index < len(self.wheel.due):
            self.unschedule(index)
        else:
            self.wheel.grow(index + GROW)
        return index

    def remove(self, index: int) -> None:
        """Forget a schedule and its timer."""
        self.unschedule(index)
        self.table.remove(index)

    def unschedule(self, index: int) -> None:
        """Take a schedule's timer away, also where the wheel gave it out already."""
        self.wheel.cancel(index)
        number = self.table.shards[index]
        waiting = self.ready.get(number)  # of one that was due: its number is known
        if waiting is not None:
            waiting.discard(index)
            if not waiting:
                del self.ready[number]

    def schedule(self, index: int) -> None:
        """Set the timer of a schedule to its first time after what its shard has issued."""
        self._schedule(index, self._issued_ms(index))

    def _issued_ms(self, index: int) -> int:
        return self.issued_ms(self.shard_number(index))

    def _schedule(self, index: int, issued_ms: int) -> None:
        row = self.row(index)
        if row.paused:
            return
        lead_ms = row.policy.lead_ms
        after_ms = issued_ms + lead_ms + 1
        scheduled_ms = first_scheduled_at_or_after(
            row.spec, row.policy, row.device_id, max(row.starts_at_ms, after_ms)
        )
        if scheduled_ms is not None:
            self.wheel.insert(index, scheduled_ms - lead_ms)
        else:
            self.wheel.insert(index, self.end_ms(row))

    def end_ms(self, row: ScheduleState) -> int:
        """Return when a schedule without a period is over: the moment after its one time."""
        scheduled_ms = first_scheduled_at_or_after(row.spec, row.policy, row.device_id, 0)
        if scheduled_ms is None or KINDS[row.spec.kind].period_ms(row.spec) is not None:
            raise AssertionError(f"schedule {row.schedule_id!r} of {row.device_id!r} has no end")
        return scheduled_ms + 1

    def take_due(self, now_ms: int) -> None:
        """Move the wheel to ``now_ms`` and what it gives out to ``ready``."""
        ready, shard_number = self.ready, self.shard_number
        for index in self.wheel.advance(now_ms):
            number = shard_number(index)
            waiting = ready.get(number)
            if waiting is None:
                ready[number] = {index}
            else:
                waiting.add(index)
