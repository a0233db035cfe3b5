"""What the log says of a device around a time, gathered once for all of its schedules."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec

from schemas.errors import DecodeError
from schemas.records import (
    Accepted,
    AlreadyKnown,
    CaptureCommand,
    CaptureRequested,
    CaptureResult,
    CaptureRevoked,
    Refused,
    ScheduleEvent,
    ScheduleResumed,
    ScheduleUpserted,
    Skipped,
)
from streams.core.schedule import REQUEST_PREFIX
from streams.replay.explain_read import COMMANDS, DECISIONS, EVENTS, FAR, SKEW_MS, TICKS, Reader
from streams.replay.explain_reasons import Code
from streams.replay.explain_story import Schedules, Version, distance_ms, in_force, of_row, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import DeadLetter, Decision, ScheduleState
    from streams.replay.explain_read import Placed
    from streams.replay.explain_types import Ask

EVENT_TYPES: Final = ScheduleEvent.__args__
UNKNOWN_LEAD_MS: Final = 300_000
"""How long before its time a command is looked for whose schedule is not known."""
RESULT_MS: Final = 600_000
"""How long after a command's last moment its result is looked for."""


class Problem(NamedTuple):
    """Something upstream asked for that did not come in."""

    at_ms: int
    code: Code
    schedule_id: str | None
    """Null: it cannot be read, so nobody knows."""
    event: ScheduleEvent | None
    text: str


class Evidence:
    """The records of one device around the time that is asked for."""

    def __init__(self, reader: Reader, ask: Ask) -> None:
        """Read them, by the reader of the device's partition."""
        self.key = ask.device_id.encode()
        self.reader = reader
        if not ask.live:
            ask = msgspec.structs.replace(ask, now_ms=reader.last_tick_ms())
        self.ask = ask
        self.schedules = Schedules(reader, ask.device_id)
        self.low_ms, self.high_ms = ask.at_ms - ask.window_ms, ask.at_ms + ask.window_ms
        self.last, self.served = reader.around(self.high_ms)
        """The last tick before the end of the window, and the first after it."""
        self.until_ms = self.served.tick.time_ms if self.served is not None else ask.now_ms
        self.decisions = [one for _, one in reader.decisions(self.key, self.until_ms + SKEW_MS)]
        self.stories = self._stories()
        lead_ms = self._lead_ms()
        first = reader.at(COMMANDS, self.low_ms - lead_ms - SKEW_MS)
        self._read_to = reader.at(COMMANDS, self.until_ms + 3 * SKEW_MS)
        self.commands: list[tuple[int, CaptureCommand]] = []
        self.revoked: list[CaptureRevoked] = []
        self.results: dict[int, Placed] = {}
        self._take(first, self._read_to)

    # --- schedules ------------------------------------------------------------------------------

    def _stories(self) -> dict[str, list[Version]]:
        """Return the versions of each schedule of the device, by its id."""
        sorted_out: dict[str, list[Decision]] = {}
        for one in self.decisions:
            if one.schedule_id and not one.schedule_id.startswith(REQUEST_PREFIX):
                sorted_out.setdefault(one.schedule_id, []).append(one)
        found = {name: versions(of_it) for name, of_it in sorted_out.items()}
        if self.reader.first(DECISIONS) > 0:
            for row, kept in self._older():
                known = in_force(found.get(row.schedule_id, []), self.ask.at_ms)
                older = known is None or self.schedules.spec(known) is None
                begins = row.starts_at_ms <= self.ask.at_ms
                if older and begins and not row.schedule_id.startswith(REQUEST_PREFIX):
                    later = sorted_out.get(row.schedule_id, []) if kept is not None else []
                    later = [one for one in later if one.tick_time_ms > (kept or 0)]
                    found[row.schedule_id] = versions(later, of_row(row))
        return found

    def _older(self) -> Iterator[tuple[ScheduleState, int | None]]:
        """Yield schedules whose changes the log may not keep: as a snapshot has them, or as now.

        With each the time of its snapshot, from which on its changes are kept; null: of the wheel's
        own table, which has what stands now.
        """
        reader, device_id = self.reader, self.ask.device_id
        start = reader.begin(self.low_ms)
        snapshot_ms = start.began.snapshot_ms
        if snapshot_ms is not None and reader.kept_from_ms(DECISIONS) <= snapshot_ms:
            begin = f"{device_id}\0".encode()
            for (table, key), row in start.rows.items():
                if table == "schedules" and key.startswith(begin):
                    yield cast("ScheduleState", row), snapshot_ms
        for row in reader.rows(device_id):
            yield row, None

    def requests(self) -> list[Accepted]:
        """Return the requests for single photos that were due within the window."""
        return [
            one
            for one in self.decisions
            if isinstance(one, Accepted)
            and one.change == "CaptureRequested"
            and abs(one.starts_at_ms - self.ask.at_ms) <= self.ask.window_ms
        ]

    def _lead_ms(self) -> int:
        """Return how long before its time a command of this device may have been issued."""
        found = [5_000]
        for of_it in self.stories.values():
            for at_ms in (self.low_ms, self.high_ms):
                version = in_force(of_it, at_ms)
                spec = None if version is None else self.schedules.spec(version)
                if spec is not None:
                    found.append(spec[1].lead_ms + spec[1].tolerance_ms)
                elif version is not None:
                    found.append(UNKNOWN_LEAD_MS)
        for one in self.requests():
            asked = self.schedules.asked(one)
            if asked is not None and isinstance(asked.event, CaptureRequested):
                found.append(asked.event.policy.lead_ms + asked.event.policy.tolerance_ms)
        return max(found) if self.stories else max(*found, UNKNOWN_LEAD_MS)

    def skipped(self, schedule_id: str, scheduled_ms: int) -> Skipped | None:
        """Return the decision that gave a time of a schedule up."""
        for one in self.decisions:
            if (
                isinstance(one, Skipped)
                and one.schedule_id == schedule_id
                and one.count
                and one.first_ms <= scheduled_ms <= one.last_ms
            ):
                return one
        return None

    # --- commands and results -------------------------------------------------------------------

    def _take(self, first: int, end: int) -> None:
        """Read commands from a range, and the results of those that are asked for."""
        found = self.reader.commands(self.key, first, end)
        self.revoked += [one for _, one in found if isinstance(one, CaptureRevoked)]
        new = [(at, one) for at, one in found if isinstance(one, CaptureCommand)]
        self.commands += new
        asked = [one for _, one in new if self.is_near(one)]
        if not asked:
            return
        from_ms = min(one.issued_at_ms for one in asked)
        until_ms = max(one.not_after_ms + one.capture_timeout_ms for one in asked) + RESULT_MS
        wanted = {one.command_id for one in asked}
        for placed in self.reader.results(self.key, wanted, from_ms, until_ms):
            assert isinstance(placed.record, CaptureResult), "nothing else is yielded"
            self.results[placed.record.command_id] = placed

    def is_near(self, command: CaptureCommand) -> bool:
        """Say whether a command may be the one that is asked for."""
        if self.ask.command_id is not None:
            return command.command_id == self.ask.command_id
        return self.distance_ms(command) <= self.ask.window_ms

    def distance_ms(self, command: CaptureCommand) -> int:
        """Return how far a command's moments are from the time asked for."""
        scheduled_ms = command.scheduled_ms
        moments = (command.nominal_ms, scheduled_ms, scheduled_ms - command.moved_ms)
        return distance_ms(moments, self.ask.at_ms)

    def near(self, schedule_id: str, request_id: str = "") -> list[tuple[int, CaptureCommand]]:
        """Return the commands of a schedule, or a request, that may be the one asked for."""
        return [
            (at, one)
            for at, one in self.commands
            if (one.schedule_id, one.request_id) == (schedule_id, request_id) and self.is_near(one)
        ]

    def read_on(self) -> bool:
        """Look further for commands that came late; say whether there were any."""
        before = len(self.commands)
        end = min(self._read_to + FAR, self.reader.end(COMMANDS))
        self._take(self._read_to, end)
        self._read_to = end
        return len(self.commands) > before

    # --- what did not come in -------------------------------------------------------------------

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """Dead letters about the device."""
        return self.reader.letters(self.ask.device_id)

    @cached_property
    def problems(self) -> list[Problem]:
        """What upstream asked for and did not get, in its order."""
        found = [*self._refused(), *self._dead(), *self._unread()]
        return sorted(found, key=lambda one: one.at_ms)

    def problems_since(self, since_ms: int, schedule_id: str | None) -> list[Problem]:
        """Return those of a schedule (null: any), or of nobody knows which, up to the window."""
        return [
            one
            for one in self.problems
            if since_ms < one.at_ms <= self.high_ms
            and (schedule_id is None or one.schedule_id in {schedule_id, None})
        ]

    def _refused(self) -> Iterator[Problem]:
        show = self.ask.show
        for one in self.decisions:
            at_ms = one.tick_time_ms
            if isinstance(one, Refused):
                text = f"request {one.request_id} was refused at {show(at_ms)}: {one.reason}"
                found = self.schedules.find(one.request_id, at_ms)
                event = None if found is None else found.event
                yield Problem(at_ms, Code.REFUSED, one.schedule_id, event, text)
            elif isinstance(one, AlreadyKnown):
                found = self.schedules.find(one.request_id, at_ms)
                first = self.schedules.find(one.request_id, one.first_tick_time_ms)
                if found is None or first is None or not _differ(found.event, first.event):
                    continue  # sent twice, as upstreams do
                text = (
                    f"request {one.request_id} came again at {show(at_ms)} and asked for something"
                    f" else than at {show(one.first_tick_time_ms)}, when it was {one.first}"
                )
                yield Problem(at_ms, Code.REQUEST_REPEATED, one.schedule_id, found.event, text)

    def _dead(self) -> Iterator[Problem]:
        answered = {one.request_id for one in self.decisions if isinstance(one, Refused)}
        for letter in self.letters:
            if letter.topic != EVENTS:
                continue
            event = self._event_of(letter)
            if event is not None and event.request_id in answered:
                continue
            text = (
                f"the record at offset {letter.offset} of {EVENTS}, partition {letter.partition},"
                f" of {self.ask.show(letter.timestamp_ms)} became a dead letter ({letter.code}):"
                f" {letter.reason}"
            )
            schedule_id = None if event is None else getattr(event, "schedule_id", "")
            yield Problem(letter.timestamp_ms, Code.DEAD_LETTERED, schedule_id, event, text)

    def _event_of(self, letter: DeadLetter) -> ScheduleEvent | None:
        try:
            record = self.reader.codec.decode(letter.value or b"")
        except DecodeError:
            return None
        return cast("ScheduleEvent", record) if isinstance(record, EVENT_TYPES) else None

    def _unread(self) -> Iterator[Problem]:
        answered = {
            one.request_id
            for one in self.decisions
            if isinstance(one, Accepted | Refused | AlreadyKnown)
        }
        dead = {
            one.offset
            for one in self.letters
            if (one.topic, one.partition) == (EVENTS, self.reader.partition)
        }
        begin = self.reader.first_tick()
        begin_ms = 0 if begin is None else begin.tick.time_ms
        if begin is not None and self.reader.first(TICKS) == 0:
            begin_ms = 0
        for entry, event in self.reader.events_before(self.key, self.high_ms):
            if entry.offset in dead or event.request_id in answered:
                continue
            if entry.timestamp_ms < begin_ms:
                continue  # its answer is older than the log
            text = (
                f"request {event.request_id} of {self.ask.show(entry.timestamp_ms)} stands in"
                f" {EVENTS} at offset {entry.offset}, and no tick has taken it yet"
            )
            schedule_id = getattr(event, "schedule_id", "")
            yield Problem(entry.timestamp_ms, Code.EVENT_UNREAD, schedule_id, event, text)


def _differ(one: ScheduleEvent, other: ScheduleEvent) -> bool:
    """Say whether two events of one request id ask for different things."""
    if type(one) is not type(other):
        return True
    if isinstance(one, ScheduleUpserted) and isinstance(other, ScheduleUpserted):
        return (one.schedule_id, one.spec, one.policy) != (
            other.schedule_id, other.spec, other.policy,
        )  # fmt: skip
    if isinstance(one, ScheduleResumed) and isinstance(other, ScheduleResumed):
        return one.schedule_id != other.schedule_id
    return False
