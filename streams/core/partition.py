"""What the timing wheel keeps in memory of one partition: its rows, and the wheel over them.

Everything here can be made again from the rows of the four tables (``load``); nothing here is
decided. The rules are in ``shard.py``, which also says what the clocks mean.

Schedules have dense indices, so that the wheel can hold them in four bytes
(``schedule_table.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

from streams.core import ids
from streams.core.first_times import first_times
from streams.core.recurrence import Place, Recurrence, needs_place, zones
from streams.core.recurrence.recurrence import PLACE_DIGITS
from streams.core.recurrence.zones import FAR_MS, PINNED, TzData, Zone
from streams.core.requests import RequestMemory
from streams.core.schedule import MAX_LEAD_MS
from streams.core.schedule_table import (
    SHARED_MAX,
    UNKNOWN_SHARD,
    Alike,
    ScheduleTable,
    device_of,
    schedule_key,
)
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
        TzTable,
    )

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


def zone_of(table: TzTable) -> Zone:
    """Return the zone that a row holds."""
    starts = (-FAR_MS, *table.starts_ms)
    return Zone(table.zone, list(zip(starts, table.offsets_ms, strict=True)))


def place_of(facts: DeviceFacts | None) -> Place | None:
    """Return a device's place, rounded: the cameras of a site are one place."""
    if facts is None or facts.latitude is None or facts.longitude is None:
        return None
    return Place(round(facts.latitude, PLACE_DIGITS), round(facts.longitude, PLACE_DIGITS))


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
        """Recurrence by index; devices of one spec share one. They are this partition's own: a
        recurrence remembers what it was asked, and another thread may be building another one."""
        self.tz_version = ""
        """Version of the tz data of the last tick; empty before the first that noted it."""
        self.tz: TzData = PINNED
        """The tz data that recurrences are made of."""
        self.zones: dict[str, Zone] = {}
        """Zones that schedules have used since that version, by name: those in the rows."""
        self.facts: dict[str, DeviceFacts] = {}
        """What is known of a device, by its id."""
        self.watched: dict[str, set[int]] = {}
        """Schedules that facts of their device may change, by the device's id."""
        self._specs: dict[ScheduleSpec, tuple[Recurrence, bool]] = {}
        self._placed: dict[tuple[ScheduleSpec, Place | None], Recurrence] = {}
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
        facts: Iterable[DeviceFacts] = (),
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
            elif row.tz is not None:
                self._load_tz(row.tz)
            else:
                self._check_shard(row.shard)
                self.shards[row.shard] = shard_of_row(row)
        self.tz = zones.data_with(self.tz_version, self.zones)
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
        recurrence, placed = self._specs.get(row.spec) or self._compile(row.spec)
        if placed:
            recurrence = self._at_place(row.spec, row.device_id)
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
        recurrence, placed = self._specs.get(spec) or self._compile(spec)
        self.recurrences.extend(repeat(recurrence, len(indices)))
        if placed or policy.pause_after_failures:
            for index in indices:
                device_id = device_of(self.keys[index])
                self.watched.setdefault(device_id, set()).add(index)
                if placed:
                    self.recurrences[index] = self._at_place(spec, device_id)

    def _compile(self, spec: ScheduleSpec) -> tuple[Recurrence, bool]:
        """Keep a new spec's recurrence, and whether it needs a place."""
        if len(self._specs) >= SHARED_MAX:
            self._specs.clear()
        kept = self._specs[spec] = (Recurrence(spec, None, self.tz), needs_place(spec))
        return kept

    def _at_place(self, spec: ScheduleSpec, device_id: str) -> Recurrence:
        """Return the recurrence of a spec that needs a place, shared within the site."""
        what = (spec, self.place(device_id))
        kept = self._placed.get(what)
        if kept is None:
            if len(self._placed) >= SHARED_MAX:
                self._placed.clear()
            kept = self._placed[what] = Recurrence(*what, self.tz)
        return kept

    def follow(self, version: str, data: TzData) -> None:
        """Make recurrences of other tz data from now on; timers are the business of ``tz.py``."""
        self.tz_version, self.tz = version, data
        self.zones.clear()
        self._specs.clear()
        self._placed.clear()

    def recurrence(self, spec: ScheduleSpec, device_id: str) -> Recurrence:
        """Return the recurrence of a valid spec where a device stands."""
        recurrence, placed = self._specs.get(spec) or self._compile(spec)
        return self._at_place(spec, device_id) if placed else recurrence

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
        ready, shard_number = self.ready, self.shard_number
        for index in self.wheel.advance(now_ms):
            number = shard_number(index)
            waiting = ready.get(number)
            if waiting is None:
                ready[number] = {index}
            else:
                waiting.add(index)
