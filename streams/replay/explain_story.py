"""The schedule as it stood: its versions, made of the wheel's own decisions.

Each accepted change gives a schedule an epoch; what stands between two changes is a **version**.
Decisions say when, by whom and from when on; the spec and the policy stand in the tick that took
the change, which is looked up only for the versions that matter. Nothing is folded again: what was
decided is on the record, and that it was decided rightly is what audit is for.

What is older than the log is taken from the last snapshot before the time asked, and the changes
since; without one from the wheel's table (``wheel.schedules.changelog``), if the row has stood
since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import msgspec

from schemas.records import (
    Accepted,
    AutoPaused,
    DeviceFacts,
    Ended,
    ScheduleEvent,
    SchedulePaused,
    ScheduleState,
    ScheduleUpserted,
)
from streams.core.recurrence import Place, Recurrence, needs_place, zones
from streams.core.times import Times
from streams.replay.explain_read import EVENTS, SKEW_MS
from streams.replay.explain_types import ChangeSeen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import (
        CapturePolicy,
        Decision,
        ScheduleSpec,
    )
    from streams.core.recurrence.zones import TzData
    from streams.replay.explain_read import Reader


class Version(msgspec.Struct, frozen=True):
    """A schedule between two changes."""

    epoch: int
    decided_at_ms: int
    """The time of the tick that made it so."""
    starts_at_ms: int
    by: Accepted | AutoPaused | Ended | None
    """The latest change; null: it is older than the log."""
    upsert: Accepted | None
    """The change that gave it its spec; null as above."""
    state: Literal["alive", "cancelled", "ended"] = "alive"
    pause: Accepted | AutoPaused | None = None
    """The change that paused it."""
    paused: bool = False
    row: ScheduleState | None = None
    """From the wheel's table, where its spec's change is older than the log."""


def versions(decisions: Iterable[Decision], base: Version | None = None) -> list[Version]:
    """Return the versions of one schedule, from all decisions about it in their order.

    With ``base``: from those since a version that is known from elsewhere.
    """
    found: list[Version] = [] if base is None else [base]
    now = base
    for one in decisions:
        if isinstance(one, Accepted | AutoPaused | Ended):
            after = _after(now, one)
            if after is not now and after is not None:
                found.append(after)
                now = after
    return found


def _after(now: Version | None, one: Accepted | AutoPaused | Ended) -> Version | None:
    at_ms = one.tick_time_ms
    base = now or Version(one.epoch, at_ms, at_ms, None, None)
    if isinstance(one, Ended):
        return _next(base, one, at_ms, state="ended")
    if isinstance(one, AutoPaused):
        return _next(base, one, at_ms, paused=True, pause=one)
    if now is not None and now.state == "alive" and now.epoch == one.epoch:
        return now  # it was so already
    match one.change:
        case "ScheduleUpserted":
            alive = now is not None and now.state == "alive"
            paused, pause = (base.paused, base.pause) if alive else (False, None)
            return Version(one.epoch, at_ms, one.starts_at_ms, one, one, paused=paused, pause=pause)
        case "SchedulePaused":
            return _next(base, one, at_ms, paused=True, pause=one)
        case "ScheduleResumed":
            return _next(base, one, one.starts_at_ms, paused=False, pause=None)
        case "ScheduleCancelled":
            return _next(base, one, at_ms, state="cancelled")
    return now


def _next(
    base: Version, one: Accepted | AutoPaused | Ended, starts_at_ms: int, **changed: object
) -> Version:
    return msgspec.structs.replace(
        base,
        epoch=one.epoch,
        decided_at_ms=one.tick_time_ms,
        starts_at_ms=starts_at_ms,
        by=one,
        **changed,
    )


def of_row(row: ScheduleState) -> Version:
    """Return what a row says of a schedule that has not changed since it was so."""
    return Version(
        row.epoch, row.starts_at_ms, row.starts_at_ms, None, None, paused=row.paused, row=row
    )


def in_force(found: list[Version], at_ms: int) -> Version | None:
    """Return the version that a time belongs to; null: there was none yet.

    A change takes over from its start on: what is due between its tick and that belongs to the
    version before it, if that was alive and not paused.
    """
    index = len(found) - 1
    while index >= 0 and found[index].decided_at_ms > at_ms:
        index -= 1
    if index < 0:
        return None
    version = found[index]
    if index and version.starts_at_ms > at_ms and version.state == "alive" and not version.paused:
        before = found[index - 1]
        if before.state == "alive" and not before.paused:
            return before
    return version


class Due(NamedTuple):
    """When a version of a schedule is due on its device."""

    spec: ScheduleSpec
    policy: CapturePolicy
    recurrence: Recurrence
    times: Times
    ends_ms: int | None
    """The end that its count has set."""

    def near(self, at_ms: int, window_ms: int) -> list[tuple[int, int]]:
        """Return the (nominal, scheduled) times next to a moment, one of both within the window."""
        nominal = {self.recurrence.at_or_after(at_ms), self.recurrence.before(at_ms)}
        for scheduled in (self.times.at_or_after(at_ms), self.times.before(at_ms)):
            if scheduled is not None:
                nominal.add(self.times.nominal(scheduled))
        found: list[tuple[int, int]] = []
        for one in nominal:
            if one is None:
                continue
            scheduled_ms = self.times.scheduled(one)
            if self.ends_ms is not None and scheduled_ms >= self.ends_ms:
                continue
            if distance_ms((one, scheduled_ms), at_ms) <= window_ms:
                found.append((one, scheduled_ms))
        return found


def distance_ms(moments: tuple[int, ...], at_ms: int) -> int:
    """Return how far the nearest of some moments is from a time."""
    return min(abs(one - at_ms) for one in moments)


class Asked(NamedTuple):
    """The event behind an accepted change, and where it and its tick stand."""

    event: ScheduleEvent
    tick_offset: int | None
    event_offset: int


class Schedules:
    """The specs, policies and times of one device's versions."""

    def __init__(self, reader: Reader, device_id: str) -> None:
        self._reader = reader
        self._device_id = device_id
        self._asked: dict[tuple[str, int], Asked | None] = {}
        self._places: dict[int, Place | None] = {}

    def asked(self, one: Accepted | None) -> Asked | None:
        """Return the event of an accepted change; null: it is not in the log any more."""
        if one is None:
            return None
        key = one.request_id, one.tick_time_ms
        if key not in self._asked:
            self._asked[key] = self.find(*key)
        return self._asked[key]

    def find(self, request_id: str, tick_time_ms: int) -> Asked | None:
        """Return the event of a request that a tick of this time took."""
        for seen in self._reader.ticks_at(tick_time_ms, request_id):
            for change in seen.tick.changes:
                event = change.event
                if (event.request_id, event.device_id) == (request_id, self._device_id):
                    return Asked(event, seen.offset, change.offset)
        first = self._reader.at(EVENTS, tick_time_ms - 360 * SKEW_MS)
        end = self._reader.at(EVENTS, tick_time_ms + SKEW_MS)
        key = self._device_id.encode()
        kinds = ScheduleEvent.__args__
        for entry, found in self._reader.of_key(EVENTS, key, first, end, *kinds):
            event = cast("ScheduleEvent", found)
            if event.request_id == request_id:
                return Asked(event, None, entry.offset)
        return None

    def spec(self, version: Version) -> tuple[ScheduleSpec, CapturePolicy] | None:
        """Return what a version asks for; null: that is older than the log."""
        if version.row is not None:
            return version.row.spec, version.row.policy
        found = self.asked(version.upsert)
        event = None if found is None else found.event
        return (event.spec, event.policy) if isinstance(event, ScheduleUpserted) else None

    def place(self, at_ms: int) -> Place | None:
        """Return where the wheel took the device to stand at a time."""
        if at_ms not in self._places:
            self._places[at_ms] = self._find_place(at_ms)
        return self._places[at_ms]

    def _find_place(self, at_ms: int) -> Place | None:
        _, written_ms, profile = self._reader.profile(self._device_id.encode())
        if profile is not None and written_ms <= at_ms and not profile.removed:
            latitude, longitude = profile.latitude, profile.longitude
            if latitude is not None and longitude is not None:
                return Place(latitude, longitude)
        start = self._reader.begin(at_ms)
        for seen in self._reader.ticks_back(self._device_id, at_ms, start.began.tick_offset):
            for fact in reversed(seen.tick.facts):
                if (fact.device_id, fact.kind) == (self._device_id, "place"):
                    if fact.latitude is None or fact.longitude is None:
                        return None
                    return Place(fact.latitude, fact.longitude)
        row = start.rows.get(("facts", self._device_id.encode()))
        if isinstance(row, DeviceFacts) and None not in {row.latitude, row.longitude}:
            return Place(cast("float", row.latitude), cast("float", row.longitude))
        return None

    def _tz(self, at_ms: int) -> TzData:
        """Return the tz data of the ticks at a time, if they are at hand; else those here."""
        before, after = self._reader.around(at_ms)
        seen = before or after
        found = None if seen is None else zones.data_of(seen.tick.tz_version)
        return found or zones.PINNED

    def times(self, version: Version, at_ms: int) -> Due | None:
        """Return when a version is due, where the device stood; null: its spec is not known."""
        found = self.spec(version)
        if found is None:
            return None
        spec, policy = found
        place = self.place(at_ms) if needs_place(spec) else None
        recurrence = Recurrence(spec, place)
        if recurrence.zone_names and (data := self._tz(at_ms)) is not zones.PINNED:
            recurrence = Recurrence(spec, place, data)
        ends_ms = None
        if version.row is not None:
            ends_ms = version.row.ends_at_ms
        elif version.upsert is not None and recurrence.period_ms is None:
            plain = Times(recurrence, policy, self._device_id)
            ends_ms = plain.end_after_count(version.upsert.starts_at_ms)
        times = Times(recurrence, policy, self._device_id, ends_ms)
        return Due(spec, policy, recurrence, times, ends_ms)

    def change(self, version: Version, one: Accepted | AutoPaused | Ended | None) -> ChangeSeen:
        """Return a change of a version, with all that the log has of it."""
        if isinstance(one, AutoPaused | Ended):
            ticks = self._reader.ticks_at(one.tick_time_ms)
            return ChangeSeen(
                change=type(one).__name__, request_id="", epoch=one.epoch, published_at_ms=None,
                decided_at_ms=one.tick_time_ms, starts_at_ms=one.tick_time_ms,
                tick_offset=ticks[0].offset if ticks else None, event_offset=None,
                reason=one.reason,
            )  # fmt: skip
        if one is None:
            row = version.row
            seen = version if row is None else of_row(row)
            return ChangeSeen(
                change="row", request_id=row.paused_by if row else "", epoch=seen.epoch,
                published_at_ms=None, decided_at_ms=seen.decided_at_ms,
                starts_at_ms=seen.starts_at_ms, tick_offset=None, event_offset=None,
                reason=row.pause_reason if row else "",
            )  # fmt: skip
        found = self.asked(one)
        event = found.event if found is not None else None
        return ChangeSeen(
            change=one.change, request_id=one.request_id, epoch=one.epoch,
            published_at_ms=event.published_at_ms if event is not None else None,
            decided_at_ms=one.tick_time_ms, starts_at_ms=one.starts_at_ms,
            tick_offset=found.tick_offset if found is not None else None,
            event_offset=found.event_offset if found is not None else None,
            reason=event.reason if isinstance(event, SchedulePaused) else "",
        )  # fmt: skip

    def request(self, one: Accepted) -> ChangeSeen:
        """Return a request for a single photo, with all that the log has of it."""
        return self.change(Version(one.epoch, one.tick_time_ms, one.starts_at_ms, one, one), one)

    def changes(self, version: Version) -> tuple[ChangeSeen, ...]:
        """Return what made a version: its spec's change, the one that paused it, the latest."""
        found = [self.change(version, version.upsert)]
        for one in (version.pause, version.by):
            if one is not None and one is not version.upsert:
                seen = self.change(version, one)
                if seen not in found:
                    found.append(seen)
        return tuple(found)
