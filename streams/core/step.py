"""One tick at work: what it has given out so far, and the few things it can do.

``changes.py`` and ``shard.py`` decide; this module writes down what they decided, in records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from schemas.records import (
    Accepted,
    CaptureCommand,
    CaptureRequested,
    CaptureRevoked,
    CommandId,
    Ended,
    Refused,
    RequestState,
    ShardState,
    Skipped,
)
from streams.core import ids
from streams.core.herd import place
from streams.core.partition import TZ_KEY, TZ_SHARD, PartitionState, Shard
from streams.core.requests import request_key
from streams.core.schedule import REQUEST_PREFIX
from streams.core.times import COUNT_MAX, Times, not_after_ms
from streams.core.tz_behind import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.records import (
        Decision,
        DeviceFacts,
        Record,
        ScheduleEvent,
        ScheduleState,
        TickSettings,
    )
    from streams.core.herd import Fire
    from streams.core.recurrence.zones import Zone

Rows = dict[tuple[str, bytes], "Record | None"]
"""Rows to write, by table name and key; null deletes the row."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a tick gives to the world, in the order in which it is to be written."""

    decisions: list[Decision]
    commands: list[CaptureCommand | CaptureRevoked]
    rows: Rows


def shard_row(number: int, shard: Shard) -> ShardState:
    """Return the row of a shard's counters."""
    booked = shard.booked
    if not booked:
        return ShardState(number, shard.clock_ms, shard.last_id, shard.epoch)
    first, last = min(booked), max(booked)
    counts = tuple([booked.get(second, 0) for second in range(first, last + 1)])
    return ShardState(number, shard.clock_ms, shard.last_id, shard.epoch, first, counts)


SINCE_RULES = 4
"""The version of the rules from which on the fold follows the tz data of its ticks (``tz.py``)."""


def zone_key(name: str) -> bytes:
    """Return the key of the row of a zone."""
    return b"%s/%s" % (TZ_KEY, name.encode())


def zone_row(version: str, name: str, zone: Zone) -> ShardState:
    """Return the row of a zone's table."""
    return ShardState(TZ_SHARD, 0, 0, 0, tz=table_of(version, name, zone))


def schedule_id_of(event: ScheduleEvent) -> str:
    """Return the schedule an event names; empty for a CaptureRequested."""
    return "" if isinstance(event, CaptureRequested) else event.schedule_id


class Step:
    """The state, the tick's time and settings, and the outputs so far."""

    __slots__ = (
        "commands",
        "decisions",
        "now_ms",
        "rows",
        "rules",
        "settings",
        "started",
        "state",
        "touched",
    )

    def __init__(
        self, state: PartitionState, now_ms: int, settings: TickSettings, rules: int
    ) -> None:
        self.state = state
        self.now_ms = now_ms
        self.settings = settings
        self.rules = rules
        """Version of the rules that the tick names."""
        self.decisions: list[Decision] = []
        self.commands: list[CaptureCommand | CaptureRevoked] = []
        self.rows: Rows = {}
        self.started: dict[str, None] = {}
        """Keys of schedules that a change of this tick let start, in the order of the changes."""
        self.touched: set[int] = set()
        """Shards whose counters changed."""

    def shard(self, number: int) -> Shard:
        """Return a shard's counters, to be changed."""
        self.touched.add(number)
        shard = self.state.shards.get(number)
        if shard is None:
            shard = self.state.shards[number] = Shard()
        return shard

    def next_epoch(self, number: int) -> int:
        """Count one accepted change of a shard."""
        shard = self.shard(number)
        shard.epoch += 1
        return shard.epoch

    # --- answers --------------------------------------------------------------------------------

    def accept(
        self, event: ScheduleEvent, epoch: int, starts_at_ms: int, command_id: int | None = None
    ) -> None:
        """Answer that a request was taken, and remember it."""
        self.decisions.append(
            Accepted(
                request_id=event.request_id,
                device_id=event.device_id,
                schedule_id=schedule_id_of(event),
                epoch=epoch,
                tick_time_ms=self.now_ms,
                starts_at_ms=starts_at_ms,
                change=type(event).__name__,
                command_id=command_id,
            )
        )
        self._remember(event, "accepted", epoch=epoch, command_id=command_id)

    def refuse(self, event: ScheduleEvent, code: str, reason: str, *, remember: bool) -> None:
        """Answer that a request was not taken."""
        self.decisions.append(
            Refused(
                request_id=event.request_id,
                device_id=event.device_id,
                schedule_id=schedule_id_of(event),
                tick_time_ms=self.now_ms,
                code=code,
                reason=reason,
            )
        )
        if remember:
            self._remember(event, "refused", reason=reason)

    def _remember(
        self,
        event: ScheduleEvent,
        outcome: str,
        *,
        epoch: int | None = None,
        reason: str = "",
        command_id: int | None = None,
    ) -> None:
        row = RequestState(
            event.device_id, event.request_id, self.now_ms, outcome, epoch, reason, command_id
        )
        self.state.requests.remember(row)
        self.rows["requests", request_key(row.device_id, row.request_id).encode()] = row

    # --- schedules ------------------------------------------------------------------------------

    def keep(self, row: ScheduleState, number: int) -> int:
        """Write a schedule's row, without a timer; return its index."""
        index = self.state.put(row, number)
        self.rows["schedules", self.state.keys[index].encode()] = row
        if self.rules >= SINCE_RULES:
            for name in sorted(self.state.recurrences[index].zone_names - self.state.zones.keys()):
                self.note_zone(name)
        return index

    def note_zone(self, name: str) -> None:
        """Keep the table of a zone that a schedule uses (``tz.py``)."""
        state = self.state
        zone = state.zones[name] = state.tz.zone(name)
        self.rows["shards", zone_key(name)] = zone_row(state.tz_version, name, zone)

    def amend(self, index: int, row: ScheduleState) -> None:
        """Write a schedule's row with nothing changed that its timer rests on."""
        self.state.table.put(row, self.state.table.shards[index])
        self.rows["schedules", self.state.keys[index].encode()] = row

    def remove(self, index: int) -> None:
        """Delete a schedule's row."""
        self.rows["schedules", self.state.keys[index].encode()] = None
        self.state.remove(index)

    def end(self, index: int, row: ScheduleState) -> None:
        """Delete a schedule that has no further time; a request ends without a word."""
        if not row.schedule_id.startswith(REQUEST_PREFIX):
            self.decisions.append(
                Ended(row.device_id, row.schedule_id, row.epoch, self.now_ms, _end_reason(row))
            )
        self.remove(index)

    def skip_times(
        self, times: Times, row: ScheduleState, first_ms: int, last_ms: int, reason: str
    ) -> None:
        """Record all times of a schedule from one to another, both included, as given up."""
        count = times.count(first_ms, last_ms)
        if count == COUNT_MAX:
            reason += f" ({COUNT_MAX} times or more)"
        self.skip(row, first_ms, last_ms, count, reason)

    def skip(
        self, row: ScheduleState, first_ms: int, last_ms: int, count: int, reason: str
    ) -> None:
        """Record times that are given up."""
        self.decisions.append(
            Skipped(
                row.device_id,
                row.schedule_id,
                row.epoch,
                self.now_ms,
                first_ms,
                last_ms,
                count,
                reason,
            )
        )

    # --- commands -------------------------------------------------------------------------------

    def revoke(self, row: ScheduleState, reason: str, from_ms: int = 0) -> None:
        """Void the commands of a schedule up to its present epoch, of times from ``from_ms`` on."""
        self.commands.append(
            CaptureRevoked(
                row.device_id, row.schedule_id, row.epoch, self.now_ms, reason,
                from_ms if self.rules >= 2 else 0,
            )
        )  # fmt: skip

    def fire(self, number: int, fires: Sequence[Fire]) -> CommandId:
        """Issue the commands of some times of a shard, in order, as far as its capacity goes.

        Return the last one's id.
        """
        shard = self.shard(number)
        capacity, last_id = self.settings.capacity_per_shard, CommandId(0)
        if capacity:
            for placed in place(fires, shard.booked, self.now_ms, capacity):
                moved_ms = placed.at_ms - placed.fire[0]
                last_id = self._issue(shard, number, placed.fire, moved_ms, placed.over_capacity)
            return last_id
        if shard.booked:
            shard.booked.clear()
        for fire in fires:
            last_id = self._issue(shard, number, fire, 0, False)
        return last_id

    def _issue(
        self, shard: Shard, number: int, fire: Fire, moved_ms: int, over_capacity: bool
    ) -> CommandId:
        """Issue the command of one scheduled time; return its id."""
        scheduled_ms, row, nominal_ms, recurrence = fire
        command_id = shard.last_id = ids.next_command_id(shard.last_id, self.now_ms, number)
        policy, schedule_id, request_id = row.policy, row.schedule_id, ""
        gap_ms = recurrence.period_ms or recurrence.typical_gap_ms
        if schedule_id.startswith(REQUEST_PREFIX):
            request_id, schedule_id = schedule_id[len(REQUEST_PREFIX) :], ""
            self._tell_request(row, request_id, command_id)
        self.commands.append(
            CaptureCommand(
                command_id,
                row.device_id,
                schedule_id,
                request_id,
                row.epoch,
                nominal_ms,
                scheduled_ms + moved_ms,
                not_after_ms(scheduled_ms, moved_ms, gap_ms, policy),
                policy.capture_timeout_ms,
                policy.priority,
                self.now_ms,
                policy.overlap,
                moved_ms,
                over_capacity,
                policy.quality,
                policy.keep_ms,
                policy.image,
            )
        )
        return command_id

    def know(self, facts: DeviceFacts) -> None:
        """Keep what is known of a device; nothing known is no row."""
        nothing = facts.latitude is None and facts.longitude is None and not facts.failures
        device_id = facts.device_id
        if nothing:
            self.state.facts.pop(device_id, None)
        else:
            self.state.facts[device_id] = facts
        self.rows["facts", device_id.encode()] = None if nothing else facts

    def _tell_request(self, row: ScheduleState, request_id: str, command_id: int) -> None:
        """Note the command in the memory of a request that had to wait for its time."""
        key = request_key(row.device_id, request_id)
        known = self.state.requests.get(key)
        if known is not None and known.epoch == row.epoch:
            known = msgspec.structs.replace(known, command_id=command_id)
            self.state.requests.amend(known)
            self.rows["requests", key.encode()] = known


def _end_reason(row: ScheduleState) -> str:
    spec = row.spec
    if row.ends_at_ms is not None:
        return f"it was due {spec.max_count} times"
    if spec.until_ms is not None:
        return "its validity is over"
    return "its time is over" if spec.kind == "once" else "it has no further time"
