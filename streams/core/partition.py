"""What the timing wheel keeps in memory of one partition: its rows, and the wheel over them.

Everything here can be made again from the rows of the four tables (``load``); nothing here is
decided. The rules are in ``shard.py``, which also says what the clocks mean.

Schedules have dense indices, so that the wheel can hold them in four bytes
(``schedule_table.py``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

from streams.core import ids
from streams.core.compiled import Compiled, place_of
from streams.core.first_times import first_times
from streams.core.ids_many import FEW, shards_of
from streams.core.recurrence import zones
from streams.core.recurrence.zones import PINNED
from streams.core.requests import RequestMemory
from streams.core.schedule import MAX_LEAD_MS
from streams.core.schedule_table import (
    SEPARATOR,
    UNKNOWN_SHARD,
    Alike,
    ScheduleTable,
    device_of,
    schedule_key,
)
from streams.core.times import Times, first_scheduled, is_once
from streams.core.tz_behind import behind_of, zone_of
from streams.core.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.records import (
        CapturePolicy,
        DeviceFacts,
        RequestState,
        ScheduleSpec,
        ScheduleState,
        ShardState,
        TzTable,
    )
    from streams.core.recurrence import Place, Recurrence
    from streams.core.recurrence.zones import TzData, Zone
    from streams.core.tz_behind import Behind

__all__ = ["PartitionState", "Shard", "schedule_key"]

CLOCK_SHARD = -1
"""Shard number of the row that holds the time of the partition's last tick."""
CLOCK_KEY = b"clock"
BACKLOG_SHARD = -2
"""Shard number of the row that stands while shards wait for their commands."""
BACKLOG_KEY = b"backlog"
TZ_SHARD = -3
"""Shard number of the rows that hold the tz data of the last tick (``tz.py``)."""
TZ_KEY = b"tz"
"""Key of the row with their version; a zone's begins with it and a slash."""
GROW = 256
"""By how many indices the wheel grows at a time: growing costs a call, an index 8 bytes."""


@dataclass(slots=True)
class Shard:
    """The counters of one logical shard, as in its row."""

    clock_ms: int = 0
    last_id: int = 0
    epoch: int = 0
    booked: dict[int, int] = field(default_factory=dict)
    """Captures that the herd rule has let into each second (``herd.py``)."""


def shard_of_row(row: ShardState) -> Shard:
    """Return the counters that a row holds."""
    booked = {row.booked_from_s + n: count for n, count in enumerate(row.booked) if count}
    return Shard(row.clock_ms, row.last_id, row.epoch, booked)


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
        self.recurrences: list[Recurrence] = []
        """Recurrence by index; devices of one spec share one."""
        self.tz_version = ""
        """Version of the tz data of the last tick; empty before the first that noted it."""
        self.zones: dict[str, Zone] = {}
        """Zones that schedules have used since that version, by name: those in the rows."""
        self.facts: dict[str, DeviceFacts] = {}
        """What is known of a device, by its id."""
        self.watched: dict[str, set[int]] = {}
        """Schedules that facts of their device may change, by the device's id."""
        self.compiled = Compiled(PINNED)
        """Where recurrences come from."""
        self.behind: Behind | None = None
        """The schedules that an upgrade of the tz data has not come to yet, while there are any."""
        self.least_lead_ms = MAX_LEAD_MS
        """The least lead of any schedule since the state was made; no decision rests on it."""

    @property
    def clock_ms(self) -> int:
        """Time of the last tick; 0 before the first."""
        return self.time_ms

    @property
    def tz(self) -> TzData:
        """The tz data that recurrences are made of; but what is behind."""
        return self.compiled.data

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
        facts: Iterable[DeviceFacts] = (),
    ) -> None:
        """Fill an empty state from the rows of its tables, in any order, and build the wheel."""
        if self.schedule_count or self.shards or self.time_ms:
            raise ValueError("a state is loaded once, before its first tick")
        backlog_ms: int | None = None
        behind: list[ShardState] = []
        for row in shards:
            if row.shard == CLOCK_SHARD:
                self.time_ms = row.clock_ms
            elif row.shard == BACKLOG_SHARD:
                backlog_ms = row.clock_ms
            elif row.tz is None:
                self._check_shard(row.shard)
                self.shards[row.shard] = shard_of_row(row)
            elif row.shard == TZ_SHARD:
                self._load_tz(row.tz)
            else:
                behind.append(row)
        self.compiled = Compiled(zones.data_with(self.tz_version, self.zones))
        self.behind = behind_of(behind, self.tz)
        self.floor_ms = self.time_ms if backlog_ms is None else backlog_ms
        self.wheel.advance(self.floor_ms)
        self.requests = RequestMemory(requests)
        self.facts = {fact.device_id: fact for fact in facts}  # before what rests on them
        # As a rule every shard stands at the partition's time; then a schedule's shard decides
        # nothing until it is due, and working it out is a third of the cost of loading a row.
        level = all(shard.clock_ms <= self.floor_ms for shard in self.shards.values())
        for rows in schedules:
            if isinstance(rows, Alike):
                self._load(rows, level)
            else:
                index = self.put(rows, UNKNOWN_SHARD)
                self._load_timers(range(index, index + 1), level)

    def _load_tz(self, table: TzTable) -> None:
        self.tz_version = table.version
        if table.zone:
            self.zones[table.zone] = zone_of(table)

    def _load(self, rows: Alike, level: bool) -> None:
        """Take in rows that are alike, many at once where that is possible."""
        indices = self.table.extend(rows)
        self.wheel.grow(indices.stop)
        like = rows.like
        lead_ms = like.policy.lead_ms
        self._keep_new(indices, like.spec, like.policy)
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

    def by_shard(self, indices: Sequence[int]) -> dict[int, list[int]]:
        """Return indices in use by shard; those of many at once, as one costs 2 us."""
        shards, keys = self.table.shards, self.keys
        unknown = [index for index in indices if shards[index] == UNKNOWN_SHARD]
        devices = [keys[index].partition(SEPARATOR)[0].encode() for index in unknown]
        numbers = shards_of(devices)
        for number in set(numbers):
            self._check_shard(number)
        for index, number in zip(unknown, numbers, strict=True):
            shards[index] = number
        found: defaultdict[int, list[int]] = defaultdict(list)
        for index in indices:
            found[shards[index]].append(index)
        return found

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
        recurrence, placed = self.compiled.of(row.spec)
        if placed:
            recurrence = self.compiled.at(row.spec, self.place(row.device_id))
        if self.behind is not None:
            recurrence = self._of_behind(index, row, recurrence, self.behind)
        if index == len(self.recurrences):
            self.recurrences.append(recurrence)
        else:
            self.recurrences[index] = recurrence
        if placed or row.policy.pause_after_failures:
            self.watched.setdefault(row.device_id, set()).add(index)
        elif self.watched:
            self._unwatch(index)
        return index

    def _keep_new(self, indices: range, spec: ScheduleSpec, policy: CapturePolicy) -> None:
        """Keep the recurrence of new rows of one spec, and which of them facts may change."""
        recurrence, placed = self.compiled.of(spec)
        self.recurrences.extend(repeat(recurrence, len(indices)))
        if placed or policy.pause_after_failures:
            for index in indices:
                device_id = device_of(self.keys[index])
                self.watched.setdefault(device_id, set()).add(index)
                if placed:
                    self.recurrences[index] = self.compiled.at(spec, self.place(device_id))
        if self.behind is not None and self.behind.concerns(recurrence):
            for index in indices:
                row, own = self.row(index), self.recurrences[index]
                self.recurrences[index] = self._of_behind(index, row, own, self.behind)

    def _of_behind(
        self, index: int, row: ScheduleState, recurrence: Recurrence, behind: Behind
    ) -> Recurrence:
        """Let a schedule wait that was not reached; return its recurrence by the data before.

        Of any other the one that is given, which is that by the new data.
        """
        number, key = self.shard_number(index), self.keys[index]
        if not behind.concerns(recurrence) or not behind.has(number, key):
            return recurrence
        behind.add(number, key)
        return behind.compiled.where(row.spec, self.facts.get(row.device_id))

    def follow(self, version: str, data: TzData) -> None:
        """Make recurrences of other tz data from now on; timers are the business of ``tz.py``."""
        self.tz_version = version
        self.zones.clear()
        self.compiled = Compiled(data)

    def recurrence(self, spec: ScheduleSpec, device_id: str, schedule_id: str) -> Recurrence:
        """Return what a schedule's recurrence is, of a valid spec, where its device stands."""
        facts, behind = self.facts.get(device_id), self.behind
        found = self.compiled.where(spec, facts)
        if behind is not None and behind.concerns(found):
            key = schedule_key(device_id, schedule_id)
            if behind.has(ids.shard_of(device_id), key):
                return behind.compiled.where(spec, facts)
        return found

    def place(self, device_id: str) -> Place | None:
        """Return where a device stands, as exactly as recurrences tell places apart, if known."""
        return place_of(self.facts.get(device_id))

    def _unwatch(self, index: int) -> None:
        """Take a schedule off those that facts may change."""
        device_id = device_of(self.keys[index])
        indices = self.watched.get(device_id)
        if indices is not None:
            indices.discard(index)
            if not indices:
                del self.watched[device_id]

    def remove(self, index: int) -> None:
        """Forget a schedule and its timer."""
        self.unschedule(index)
        if self.watched:
            self._unwatch(index)
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
        after_ms = max(after_ms, row.starts_at_ms)
        scheduled_ms = first_scheduled(self.recurrences[index], row, after_ms)
        self.set_timer(index, row, scheduled_ms, after_ms)

    def set_timer(
        self, index: int, row: ScheduleState, scheduled_ms: int | None, after_ms: int
    ) -> None:
        """Let a schedule be due for its next time; where it has none after ``after_ms``, to end.

        One that waits for its device's place is due for nothing.
        """
        if scheduled_ms is not None:
            self.wheel.insert(index, scheduled_ms - row.policy.lead_ms)
        elif not self.recurrences[index].lacks_place:
            self.wheel.insert(index, self.end_ms(index, row, after_ms))
        else:
            self.wheel.cancel(index)

    def end_ms(self, index: int, row: ScheduleState, after_ms: int) -> int:
        """Return when a schedule without a time from ``after_ms`` on is over: after its last one.

        At its start, where it never had one. A single time is over after it, whenever that is.
        """
        times, once = Times.of(self.recurrences[index], row), is_once(row.spec)
        last_ms = times.at_or_after(0) if once else times.before(after_ms)
        if last_ms is None or (last_ms < row.starts_at_ms and not once):
            return row.starts_at_ms
        return last_ms + 1

    def take_due(self, now_ms: int) -> None:
        """Move the wheel to ``now_ms`` and what it gives out to ``ready``."""
        taken, ready = self.wheel.advance(now_ms), self.ready
        if len(taken) < FEW:
            for index in taken:
                ready.setdefault(self.shard_number(index), set()).add(index)
            return
        for number, indices in self.by_shard(taken).items():
            ready.setdefault(number, set()).update(indices)
