"""An upgrade of the tz data, cut into slices: so many schedules of each shard in a tick.

What happens to one schedule is the business of ``tz.py``; here is when. A schedule whose zone has
changed costs 30 to 80 us, and a zone may have a million of them. So a tick moves at most
``MOVED_MAX`` of a shard, in the order of their keys, and the next tick goes on (``tz_behind.py``
holds what is left). Until its turn comes a schedule goes by the old data, as if the upgrade were
later for it: had and to come are told apart at the tick that moves it, so the rule of ``tz.py``
holds for each by itself.

The bound is a shard's, so what comes of it does not depend on the number of partitions (DESIGN,
'Shards'). With 1.2 million schedules of one zone a shard has 1,170 and is through after 293 ticks,
five minutes where a tick comes each second; of eight partitions each tick moves 512.

An upgrade begins when the one before is through: while workers of two releases take turns, as they
do when these are rolled out, a tick may name data that must wait. A zone that the state has not
noted is then taken from the tick's data.

Rules of version 5 on; those of 4 move all at once (``tz.follow``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.core.compiled import Compiled
from streams.core.partition import TZ_KEY
from streams.core.recurrence import zones
from streams.core.step import zone_key
from streams.core.tz import Moving, remember, tz_row
from streams.core.tz_behind import Behind, before_key, before_row, behind_key, behind_row

if TYPE_CHECKING:
    from streams.core.partition import PartitionState
    from streams.core.recurrence import Recurrence
    from streams.core.step import Step

SINCE_RULES: Final = 5
"""The version of the rules from which on upgrades are cut."""
MOVED_MAX: Final = 4
"""Schedules of a shard that a tick looks at."""


def follow(step: Step, version: str) -> None:
    """Go on with an upgrade that is under way, or begin one if the tick names other tz data."""
    state = step.state
    if state.behind is not None:
        _base(state, state.behind, version)
        _move(step, state.behind)
    elif version != state.tz_version:
        _begin(step, version)


def _base(state: PartitionState, behind: Behind, version: str) -> None:
    """Take zones that the state has not noted from the data of the tick."""
    given = zones.data_of(version) or zones.PINNED
    if given.version != state.tz.base_version:
        data = zones.KeptTzData(state.tz_version, state.zones, given)
        state.compiled = Compiled(data)
        behind.base(data)


def _begin(step: Step, version: str) -> None:
    """Note the new data, and move the first schedules of each shard."""
    state = step.state
    before, kept = state.tz_version, dict(state.zones)
    indices = state.table.index.values()
    distinct = set(map(state.recurrences.__getitem__, indices))  # by identity
    used: set[str] = set().union(*(one.zone_names for one in distinct))
    known = zones.data_of(version) or zones.PINNED  # see tz.follow
    missing = {name: kept[name] for name in used & kept.keys() if name not in known.names()}
    data = zones.KeptTzData(version, missing, known) if missing else known
    state.follow(version, data)
    changed = {name for name in used & kept.keys() if not kept[name].same_as(data.zone(name))}
    for name in sorted(kept.keys() - used):
        step.rows["shards", zone_key(name)] = None
    step.rows["shards", TZ_KEY] = tz_row(version)
    for name in sorted(used):
        step.note_zone(name)
    if not before:  # nobody knows by what it was folded
        for index in [i for i in indices if state.recurrences[i].zone_names]:
            row = state.row(index)
            state.recurrences[index] = state.compiled.where(
                row.spec, state.facts.get(row.device_id)
            )
        return
    behind = Behind(before, {name: kept[name] for name in changed}, data)
    touched = {one for one in distinct if behind.concerns(one)}
    found = state.by_shard([i for i in indices if state.recurrences[i] in touched])
    for number, those in found.items():
        behind.begin(number, [state.keys[index] for index in those])
    if behind.settled:
        state.behind = behind
        _move(step, behind)
    if behind.settled:
        for name in sorted(changed):
            step.rows["shards", before_key(name)] = before_row(before, name, kept[name])


def _move(step: Step, behind: Behind) -> None:
    """Move the next schedules of each shard that is behind."""
    state = step.state
    noted = any(behind.settled.values())
    warm: set[Recurrence] = set()  # by identity
    versions = f"{behind.version} to {state.tz_version}"
    for number in sorted(behind.settled):
        was_noted = bool(behind.settled[number])
        for _ in range(MOVED_MAX):
            index = _next(step, behind, number)
            if index is None:
                break
            row, old = state.row(index), state.recurrences[index]
            new = state.recurrences[index] = state.compiled.where(
                row.spec, state.facts.get(row.device_id)
            )
            for one in (old, new):
                if one not in warm:
                    warm.add(one)
                    remember(one, step.now_ms)
            Moving(step, index, row, old, versions).settle()
        key = behind_key(number)
        if behind.is_through(number, lambda name: _waits(step, behind, name) is not None):
            behind.end(number)
            if was_noted:
                step.rows["shards", key] = None
        else:
            step.rows["shards", key] = behind_row(behind.version, number, behind.settled[number])
    if not behind.settled:
        state.behind = None
        for name in sorted(behind.zones) if noted else ():
            step.rows["shards", before_key(name)] = None


def _next(step: Step, behind: Behind, number: int) -> int | None:
    """Return the next schedule of a shard that waits; null: none is left."""
    while key := behind.pop(number):
        index = _waits(step, behind, key)
        if index is not None:
            return index
    return None


def _waits(step: Step, behind: Behind, key: str) -> int | None:
    """Return the index of a key whose schedule is there, and of a zone that has changed."""
    state = step.state
    index = state.table.index.get(key)
    if index is None or not behind.concerns(state.recurrences[index]):
        return None
    return index
