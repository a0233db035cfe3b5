"""What the timing wheel keeps in memory of one partition: its rows, and the wheel over them.

Everything here can be made again from the rows of the four tables (``load``); nothing here is
decided. The rules are in ``shard.py``, which also says what the clocks mean.

Schedules have dense indices, so that the wheel can hold them in four bytes. Equal specs, policies
and schedule names are shared between rows: a million devices have few different ones.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from streams.core import ids
from streams.core.recurrence import Place, compile_spec, needs_place
from streams.core.requests import RequestMemory
from streams.core.schedule import MAX_LEAD_MS
from streams.core.times import Times, first_scheduled, is_once
from streams.core.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import (
        CapturePolicy,
        DeviceFacts,
        RequestState,
        ScheduleSpec,
        ScheduleState,
        ShardState,
    )
    from streams.core.recurrence import Recurrence

CLOCK_SHARD = -1
"""Shard number of the row that holds the time of the partition's last tick."""
CLOCK_KEY = b"clock"
BACKLOG_SHARD = -2
"""Shard number of the row that stands while shards wait for their commands."""
BACKLOG_KEY = b"backlog"
_SHARED_MAX = 65_536
"""The most values kept for sharing; then the collection starts anew."""

_UNKNOWN = 0xFFFF
"""A shard number that was not worked out yet: real ones are 0 to 1,023."""
GROW = 256
"""By how many indices the wheel grows at a time: growing costs a call, an index 8 bytes."""

T = TypeVar("T")


def schedule_key(device_id: str, schedule_id: str) -> str:
    """Return the key of a row of ``schedules``."""
    return f"{device_id}\0{schedule_id}"


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
        self.index: dict[str, int] = {}
        """Index of a schedule by its key."""
        self.keys: list[str] = []
        self.rows: list[ScheduleState | None] = []
        self.recurrences: list[Recurrence] = []
        """Recurrence by index; devices of one spec share one."""
        self.facts: dict[str, DeviceFacts] = {}
        """What is known of a device, by its id."""
        self.watched: dict[str, set[int]] = {}
        """Schedules that facts of their device may change, by the device's id."""
        self.shard_numbers = array("H")
        """Shard by index; ``_UNKNOWN`` until it is asked for (``shard_number``)."""
        self._free: list[int] = []
        self._specs: dict[ScheduleSpec, tuple[ScheduleSpec, Recurrence, bool]] = {}
        self._policies: dict[CapturePolicy, CapturePolicy] = {}
        self.least_lead_ms = MAX_LEAD_MS
        """The least lead of any schedule since the state was made; no decision rests on it."""
        self._names: dict[str, str] = {}

    @property
    def clock_ms(self) -> int:
        """Time of the last tick; 0 before the first."""
        return self.time_ms

    @property
    def schedule_count(self) -> int:
        """Schedules held, paused ones and requests that wait for their time included."""
        return len(self.index)

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
        schedules: Iterable[ScheduleState],
        shards: Iterable[ShardState],
        requests: Iterable[RequestState],
        facts: Iterable[DeviceFacts] = (),
    ) -> None:
        """Fill an empty state from the rows of its tables, in any order, and build the wheel."""
        if self.index or self.shards or self.time_ms:
            raise ValueError("a state is loaded once, before its first tick")
        backlog_ms: int | None = None
        for row in shards:
            if row.shard == CLOCK_SHARD:
                self.time_ms = row.clock_ms
            elif row.shard == BACKLOG_SHARD:
                backlog_ms = row.clock_ms
            else:
                self._check_shard(row.shard)
                self.shards[row.shard] = shard_of_row(row)
        self.floor_ms = self.time_ms if backlog_ms is None else backlog_ms
        self.wheel.advance(self.floor_ms)
        self.requests = RequestMemory(requests)
        self.facts = {fact.device_id: fact for fact in facts}  # before what rests on them
        # As a rule every shard stands at the partition's time; then a schedule's shard decides
        # nothing until it is due, and working it out is a third of the cost of loading a row.
        level = all(shard.clock_ms <= self.floor_ms for shard in self.shards.values())
        for schedule in schedules:
            index = self.put(schedule, _UNKNOWN)
            if not level or not index:
                self.shard_number(index)  # of the first in any case: do they belong here?
            self._schedule(index, self.floor_ms if level else self._issued_ms(index))

    def shard_number(self, index: int) -> int:
        """Return the shard of an index in use."""
        number = self.shard_numbers[index]
        if number == _UNKNOWN:
            number = ids.shard_of(self.row(index).device_id)
            self._check_shard(number)
            self.shard_numbers[index] = number
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
        index = self.index.get(key)
        return None if index is None else (index, self.row(index))

    def row(self, index: int) -> ScheduleState:
        """Return the row of an index in use."""
        row = self.rows[index]
        if row is None:
            raise AssertionError(f"index {index} is not in use")
        return row

    def put(self, row: ScheduleState, number: int) -> int:
        """Keep a row, new or changed, without a timer; return its index."""
        name = _shared(self._names, row.schedule_id)
        spec, recurrence, placed = self._specs.get(row.spec) or self._compile(row.spec)
        policy = _shared(self._policies, row.policy)
        if placed:
            recurrence = compile_spec(spec, self.place(row.device_id))
        if not (name is row.schedule_id and spec is row.spec and policy is row.policy):
            row = msgspec.structs.replace(row, schedule_id=name, spec=spec, policy=policy)
        self.least_lead_ms = min(self.least_lead_ms, row.policy.lead_ms)
        key = schedule_key(row.device_id, row.schedule_id)
        index = self.index.get(key)
        if index is not None:
            self.unschedule(index)
            self._unwatch(index)
            self.rows[index] = row
            self.recurrences[index] = recurrence
        elif self._free:
            index = self._free.pop()
            self.rows[index] = row
            self.recurrences[index] = recurrence
            self.keys[index] = key
            self.shard_numbers[index] = number
        else:
            index = len(self.rows)
            self.rows.append(row)
            self.recurrences.append(recurrence)
            self.keys.append(key)
            self.shard_numbers.append(number)
            if index >= len(self.wheel.due):
                self.wheel.grow(index + GROW)
        self.index[key] = index
        if placed or policy.pause_after_failures:
            self.watched.setdefault(row.device_id, set()).add(index)
        return index

    def _compile(self, spec: ScheduleSpec) -> tuple[ScheduleSpec, Recurrence, bool]:
        """Keep a new spec, with its recurrence and whether it needs a place."""
        if len(self._specs) >= _SHARED_MAX:
            self._specs.clear()
        kept = self._specs[spec] = (spec, compile_spec(spec, None), needs_place(spec))
        return kept

    def recurrence(self, spec: ScheduleSpec, device_id: str) -> Recurrence:
        """Return the recurrence of a valid spec where a device stands."""
        spec, recurrence, placed = self._specs.get(spec) or self._compile(spec)
        return compile_spec(spec, self.place(device_id)) if placed else recurrence

    def place(self, device_id: str) -> Place | None:
        """Return where a device stands, if that is known."""
        fact = self.facts.get(device_id)
        if fact is None or fact.latitude is None or fact.longitude is None:
            return None
        return Place(fact.latitude, fact.longitude)

    def _unwatch(self, index: int) -> None:
        """Take a schedule off those that facts may change."""
        if not self.watched:
            return
        device_id = self.row(index).device_id
        indices = self.watched.get(device_id)
        if indices is not None:
            indices.discard(index)
            if not indices:
                del self.watched[device_id]

    def remove(self, index: int) -> None:
        """Forget a schedule and its timer."""
        self.unschedule(index)
        self._unwatch(index)
        del self.index[self.keys[index]]
        self.rows[index] = None
        self.keys[index] = ""
        self._free.append(index)

    def unschedule(self, index: int) -> None:
        """Take a schedule's timer away, also where the wheel gave it out already."""
        self.wheel.cancel(index)
        number = self.shard_numbers[index]
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
        elif not self.waits_for_place(row.spec, row.device_id):
            self.wheel.insert(index, self.end_ms(index, after_ms))
        else:
            self.wheel.cancel(index)

    def waits_for_place(self, spec: ScheduleSpec, device_id: str) -> bool:
        """Say whether a spec has no times because nobody knows where the device stands."""
        return needs_place(spec) and self.place(device_id) is None

    def end_ms(self, index: int, after_ms: int) -> int:
        """Return when a schedule without a time from ``after_ms`` on is over: after its last one.

        At its start, where it never had one. A single time is over after it, whenever that is.
        """
        row = self.row(index)
        times = Times.of(self.recurrences[index], row)
        last_ms = times.at_or_after(0) if is_once(row.spec) else times.before(after_ms)
        if last_ms is None or (last_ms < row.starts_at_ms and not is_once(row.spec)):
            return row.starts_at_ms
        return last_ms + 1

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


def _shared(values: dict[T, T], value: T) -> T:
    """Return the one kept value that is equal to ``value``."""
    kept = values.get(value)
    if kept is None:
        if len(values) >= _SHARED_MAX:
            values.clear()
        values[value] = kept = value
    return kept
