"""What a tick under other time zone data does: an upgrade of the tz data is an event in the log.

Each tick names the version of the tz data it is folded by. Where that is not the version of the
tick before, the tick is the upgrade, and the fold acts on it before facts and changes: on all
schedules at once, or in slices from rules version 5 on (``tz_slices.py``).

**What the state keeps.** Rows of ``shards``, apart from the counters: the version, and the table of
each zone that a schedule of the partition uses, from 1970 to 2100 (about 2 KB a zone). So the fold
knows the clock as it was when the upgrade comes, whatever is installed; and ticks of an older
version can be folded again from a snapshot on (:func:`why_not`).

**What was had, and what is to come.** A wall-clock time that names its hour is the same time under
either data: 08:30 is 08:30, at another moment maybe. With n the first nominal time that the old
data have to come (not issued, or ahead of the tick's time), H = the latest time that the old
clock showed before n is the last that was had, so what is to come is all that is later than H *on
the new clock*, and begins at ``moment(H + 1)``. Times of other kinds (intervals, lines with every
hour, the sun) are moments, and begin at n.

* **Later by the new data** (the clock was put back): times between the old moment and the new one
  were had and are not taken again; what was issued ahead for too early is revoked and is due anew.
* **Earlier by the new data**: what should have been by now is late, and goes by the schedule's
  misfire policy: made up for within its catch-up window, or a ``Skipped`` says it was not.
* **The same as far as was issued**: nothing happens, the next times are just worked out by the new
  data. That is the common case, since governments mostly tell before they do. Where the new data
  have a time in between that was had by the old, the start in the row is moved behind it: a worker
  that starts from its rows would take it again (rules 4 did).

In the first two a schedule begins a new epoch, as with any change: ``CaptureRevoked`` for what is
ahead, and a ``Skipped`` of no time that says from when to when its next time has moved. A command
that is armed as the tick is made (600 ms) is beyond recall, as ever. A schedule that mixes kinds
has one start: what lies before it of a kind that should have begun earlier is ``Skipped`` with the
reason. An end by count moves with its time.

Example: 08:30 every day. The upgrade comes at 08:00 by the old clock, 07:00 by the new one. A
command for 08:30 that is ahead is void, and the next time comes in 90 minutes. Had the upgrade come
at 08:45 (07:45), the photo of 08:30 would be there: the next time is tomorrow's.

Rules of version 4 on. A state whose rows name no version (of older rules) notes it and moves
nothing. A zone that the new data do not have stays as it was. Cost: 30 us for a schedule that
moves, 40 us for one of a changed zone that does not, nothing for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.records import ScheduleUpserted, ShardState, TzTable
from streams.core.changes import start
from streams.core.partition import TZ_KEY, TZ_SHARD
from streams.core.recurrence import zones
from streams.core.recurrence.civil import clock_text, day_text
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.hours import Either
from streams.core.recurrence.recurrence import Recurrence
from streams.core.recurrence.wall import WallClock
from streams.core.step import SINCE_RULES, zone_key
from streams.core.times import Times
from streams.core.wheel import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import ScheduleState, ScheduleTick
    from streams.core.partition import PartitionState
    from streams.core.recurrence.terms import Times as Term
    from streams.core.recurrence.zones import TzData
    from streams.core.step import Step

COMPARED_MAX: Final = 256
"""Times ahead that are compared: a lead holds some 100."""
SINCE_KEPT: Final = 5
"""The version of the rules from which on a row's start is moved behind times that were had."""
REMEMBERED: Final = 4
"""Times before now that are worked out beforehand."""
_DAY_MS: Final = 86_400_000


def follow(step: Step, version: str) -> None:
    """Go over to the tz data of a tick, where they are not those of the tick before."""
    state = step.state
    if version == state.tz_version:
        return
    before, kept, noted = state.tz_version, dict(state.zones), set(state.zones)
    used = _used(state)
    # Data that nobody has at hand under this version are taken to be the pinned ones: who makes a
    # tick has them, and who folds it again asks ``why_not`` first.
    known = zones.data_of(version) or zones.PINNED
    missing = {name: kept[name] for name in used & kept.keys() if name not in known.names()}
    data = zones.KeptTzData(version, missing, known) if missing else known
    old = state.recurrences
    changed = {name for name in used if name in kept and not kept[name].same_as(data.zone(name))}
    same = data is state.tz and not changed
    state.follow(version, data)
    if not same:
        state.recurrences = list(old)
        zoned = [key for key, index in state.table.index.items() if old[index].zone_names]
        warm: set[Recurrence] = set()  # by identity
        for key in sorted(zoned):
            index = state.table.index[key]
            row = state.row(index)
            state.recurrences[index] = state.compiled.where(
                row.spec, state.facts.get(row.device_id)
            )
            if before and not changed.isdisjoint(old[index].zone_names):
                for one in (old[index], state.recurrences[index]):
                    if one not in warm:
                        warm.add(one)
                        remember(one, step.now_ms)
                Moving(step, index, row, old[index], f"{before} to {version}").settle()
    for name in sorted(noted - used):
        step.rows["shards", zone_key(name)] = None
    step.rows["shards", TZ_KEY] = tz_row(version)
    for name in sorted(used):
        step.note_zone(name)


def tz_row(version: str) -> ShardState:
    """Return the row that holds the version alone."""
    return ShardState(TZ_SHARD, 0, 0, 0, tz=TzTable(version))


def why_not(state: PartitionState, tick: ScheduleTick) -> str:
    """Return why a tick cannot be folded with the tz data that are at hand; empty: it can.

    A version is at hand if it is the pinned one or was given (``zones.know``). Of another one the
    state has the zones in use, if it was loaded with them: that will do until a change brings one
    that is not among them.
    """
    version = tick.tz_version
    if zones.data_of(version) is not None:
        return ""
    if tick.rules_version < SINCE_RULES or state.tz_version != version:
        return f"tz {version} made them, and here is tz {zones.TZ_VERSION}"
    for entry in tick.changes:
        if isinstance(entry.event, ScheduleUpserted):
            name = _unknown_zone(state, entry.event)
            if name is not None:
                return f"tz {version} made them, here is tz {zones.TZ_VERSION}, and {name} is new"
    return ""


def at_hand(version: str, rules_version: int) -> bool:
    """Say whether a state that was left by a tick can be gone on with here."""
    return rules_version >= SINCE_RULES or zones.data_of(version) is not None


def _unknown_zone(state: PartitionState, event: ScheduleUpserted) -> str | None:
    """Return a zone that an event names and the state does not have; null: there is none."""
    try:
        names = Recurrence(event.spec, None, state.tz).zone_names
    except ExpressionError:
        return event.spec.zone or "what it names"  # whether it is one is the other data's to say
    return min(names - set(state.zones), default=None)


def moved_zones(state: PartitionState, data: TzData) -> set[str]:
    """Return the zones in use whose clocks differ under other tz data."""
    there = data.names()
    return {
        name
        for name, zone in state.zones.items()
        if name in there and not zone.same_as(data.zone(name))
    }


def remember(recurrence: Recurrence, now_ms: int) -> None:
    """Have a recurrence remember its times around now: each device asks for those before, too."""
    from_ms = now_ms
    for _ in range(REMEMBERED):
        found = recurrence.find_before(from_ms)
        if found is None:
            break
        from_ms = found
    recurrence.at_or_after(from_ms)
    recurrence.at_or_after(now_ms)


def _used(state: PartitionState) -> set[str]:
    found: set[str] = set()
    for index in state.table.index.values():
        found |= state.recurrences[index].zone_names
    return found


class Moving:
    """One schedule of a zone whose rules have changed."""

    def __init__(
        self, step: Step, index: int, row: ScheduleState, old: Recurrence, versions: str
    ) -> None:
        self._step = step
        self._index = index
        self._row = row
        self._old = old
        self._new = step.state.recurrences[index]
        self._versions = versions

    def settle(self) -> None:
        """Let the schedule go on by the new data; see the top of the file."""
        step, row, state = self._step, self._row, self._step.state
        ends_at_ms = self._end()
        moved = msgspec.structs.replace(row, ends_at_ms=ends_at_ms)
        if moved != row:
            step.amend(self._index, moved)
        if row.paused or self._new.lacks_place:
            return
        old, new = Times.of(self._old, row), Times.of(self._new, moved)
        first_ms = self._first_due(old)
        ahead_ms = old.at_or_after(max(step.now_ms + 1, row.starts_at_ms))
        known = [time for time in (first_ms, ahead_ms) if time is not None]
        from_ms = min(known, default=None)
        nominal_ms = step.now_ms + 1 if from_ms is None else old.nominal(from_ms)
        begins = [self._begin(*pair, nominal_ms) for pair in self._pairs()]
        begin_ms = begins[0] if len(set(begins)) == 1 else max(*begins, nominal_ms)
        starts_at_ms = self._start(new, begin_ms)
        next_ms = new.at_or_after(starts_at_ms)
        if not self._same(old, new, from_ms, next_ms, first_ms):
            self._restart(moved, starts_at_ms, from_ms, next_ms)
        elif first_ms is None:
            state.schedule(self._index)  # its timer is that of its end
        elif step.rules >= SINCE_KEPT and self._from_rows(new, row) != first_ms:
            step.amend(self._index, msgspec.structs.replace(moved, starts_at_ms=starts_at_ms))
        self._tell_lost(begins, begin_ms)

    def _from_rows(self, new: Times, row: ScheduleState) -> int | None:
        """Return the next time that a worker would find which starts from the row as it is."""
        state = self._step.state
        issued_ms = state.issued_ms(state.shard_number(self._index))
        return new.at_or_after(max(issued_ms + row.policy.lead_ms + 1, row.starts_at_ms))

    def _start(self, new: Times, begin_ms: int) -> int:
        """Return from when on scheduled times are to come, those of a nominal time on.

        No later than need be: other data may move times back before the next tick. No earlier than
        the schedule was to begin: what would be, is over.
        """
        row, starts_at_ms = self._row, self._step.now_ms + 1
        next_ms = self._new.at_or_after(begin_ms)
        if next_ms is None:
            return max(starts_at_ms, row.starts_at_ms)
        next_ms = new.scheduled(next_ms)
        had_ms, last_ms = new.before(next_ms), new.before(row.starts_at_ms)
        if next_ms < row.starts_at_ms and last_ms is not None:
            why = f"the tz data have changed from {self._versions}"
            why += "; by them these were over before the schedule began"
            self._step.skip_times(new, row, next_ms, last_ms, why)
        if next_ms < starts_at_ms:
            starts_at_ms = next_ms
        elif had_ms is not None:
            starts_at_ms = max(starts_at_ms, had_ms + 1)
        return max(starts_at_ms, row.starts_at_ms)

    def _first_due(self, old: Times) -> int | None:
        """Return the first time that was not issued; null: there is none."""
        due_ms = self._step.state.wheel.due[self._index]
        return None if due_ms == NEVER else old.at_or_after(due_ms + self._row.policy.lead_ms)

    def _pairs(self) -> Iterator[tuple[Term, Term]]:
        """Yield each term by the old data and by the new."""
        for old, new in zip(self._old.terms, self._new.terms, strict=True):
            if isinstance(old, Either) and isinstance(new, Either):
                yield from zip(old.parts, new.parts, strict=True)
            else:
                yield old, new

    def _begin(self, old: Term, new: Term, nominal_ms: int) -> int:
        """Return from when on a term's times by the new data were not had by the old."""
        if not (isinstance(old, WallClock) and isinstance(new, WallClock)) or old.real_time:
            return nominal_ms
        return new.zone.moment_ms(old.zone.shown_ms(nominal_ms - 1) + 1)

    def _end(self) -> int | None:
        """Return the end by count, moved with the time that is the last."""
        ends_at_ms = self._row.ends_at_ms
        if ends_at_ms is None:
            return None
        old = Times(self._old, self._row.policy, self._row.device_id)
        new = Times(self._new, self._row.policy, self._row.device_id)
        last_ms = old.nominal(ends_at_ms - 1)
        for before, after in self._pairs():
            if not isinstance(before, WallClock) or before.real_time:
                continue
            if before.at_or_after(last_ms) == last_ms:
                assert isinstance(after, WallClock), "a term is of one kind under any data"
                last_ms = after.zone.moment_ms(before.zone.shown_ms(last_ms))
                break
        scheduled_ms = new.of_nominal(last_ms)
        return (last_ms if scheduled_ms is None else scheduled_ms) + 1

    def _same(
        self, old: Times, new: Times, from_ms: int | None, next_ms: int | None, end_ms: int | None
    ) -> bool:
        """Say whether all that was issued ahead, and what is next, is the same by both."""
        for _ in range(COMPARED_MAX):
            if from_ms != next_ms:
                return False
            if from_ms is None or next_ms is None or from_ms == end_ms:
                return True
            from_ms, next_ms = old.at_or_after(from_ms + 1), new.at_or_after(next_ms + 1)
        return False

    def _restart(
        self, row: ScheduleState, starts_at_ms: int, from_ms: int | None, next_ms: int | None
    ) -> None:
        step = self._step
        number = step.state.shard_number(self._index)
        why = f"the tz data have changed from {self._versions}"
        step.state.unschedule(self._index)
        step.revoke(row, why, step.now_ms + 1)
        epoch = step.next_epoch(number)
        moved = msgspec.structs.replace(row, epoch=epoch, starts_at_ms=starts_at_ms)
        was_ms, is_ms = from_ms or step.now_ms, next_ms or step.now_ms
        told = f"{why}: its next time was {_utc(from_ms)} and is {_utc(next_ms)}"
        step.skip(moved, min(was_ms, is_ms), max(was_ms, is_ms), 0, told)
        start(step, moved, number)

    def _tell_lost(self, begins: list[int], begin_ms: int) -> None:
        """Record times of terms that should have begun before the start of them all."""
        found: list[int] = []
        for own_ms, (_, term) in zip(begins, self._pairs(), strict=True):
            time_ms = term.at_or_after(own_ms)
            while time_ms is not None and time_ms < begin_ms and len(found) < COMPARED_MAX:
                if self._new.at_or_after(time_ms) == time_ms:
                    found.append(time_ms)
                time_ms = term.at_or_after(time_ms + 1)
        if found:
            why = f"the tz data have changed from {self._versions}; its other times were had"
            row = self._step.state.row(self._index)
            self._step.skip(row, min(found), max(found), len(set(found)), why)


def _utc(time_ms: int | None) -> str:
    if time_ms is None:
        return "none"
    day, rest = divmod(time_ms, _DAY_MS)
    return f"{day_text(day)} {clock_text(rest // 1000)} UTC"
