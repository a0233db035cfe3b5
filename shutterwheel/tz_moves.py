"""What an upgrade of the tz data would move: zones whose clocks differ, and schedules by them.

By the functions that fire: each distinct spec is evaluated by both versions over a span, at most
``MAX_TIMES`` times, and the two lists are compared. Cost: 5 us a time and spec, not a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from streams.core.recurrence.recurrence import Recurrence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.records import ScheduleSpec
    from shutterwheel.outlook import Subject
    from streams.core.recurrence.zones import TzData

MAX_TIMES: Final = 5_000
"""Times of a spec that are compared at most."""


@dataclass(frozen=True, slots=True)
class ZoneMove:
    """A zone whose clock differs between two versions."""

    zone: str
    from_ms: int
    """The first moment from now on at which they differ."""
    was_offset_ms: int
    offset_ms: int | None
    """null: the new data do not have the zone; it stays as it is."""


@dataclass(frozen=True, slots=True)
class ScheduleMove:
    """A schedule of which times move."""

    schedule_id: str
    device_id: str
    """The first of the devices that have it so."""
    devices: int
    words: str
    was_ms: int | None
    """The first nominal time that is not there by the new data; null: only new ones come."""
    is_ms: int | None
    """The first that is not there by the old."""
    moved: int
    """How many times are not there by the new data, of those compared."""


def zone_moves(names: Iterable[str], old: TzData, new: TzData, now_ms: int) -> list[ZoneMove]:
    """Return the zones whose clocks differ from now on, the soonest first."""
    found = []
    for name in names:
        before = old.zone(name)
        if name not in new.names():
            found.append(ZoneMove(name, now_ms, before.offsets[before.segment(now_ms)], None))
            continue
        after = new.zone(name)
        moments = {now_ms, *before.starts, *after.starts}
        for at_ms in sorted(moment for moment in moments if moment >= now_ms):
            was, will = (zone.local_ms(at_ms) - at_ms for zone in (before, after))
            if was != will:
                found.append(ZoneMove(name, at_ms, was, will))
                break
    return sorted(found, key=lambda one: (one.from_ms, one.zone))


def schedule_moves(
    subjects: Iterable[Subject], old: TzData, new: TzData, now_ms: int, end_ms: int
) -> Iterator[ScheduleMove]:
    """Yield the schedules of which times move between two moments; devices of one spec together."""
    groups: dict[tuple[str, ScheduleSpec, object], list[Subject]] = {}
    for one in subjects:
        groups.setdefault((one.schedule_id, one.spec, one.place), []).append(one)
    for members in groups.values():
        first = members[0]
        before = Recurrence(first.spec, first.place, old)
        names = before.zone_names
        if not names or all(_same(name, old, new) for name in names):
            continue
        after = Recurrence(first.spec, first.place, new)
        was, will = (
            list(islice(one.between(now_ms, end_ms), MAX_TIMES)) for one in (before, after)
        )
        if len(was) == MAX_TIMES or len(will) == MAX_TIMES:  # as far as both were looked at
            limit = min(was[-1], will[-1])
            was, will = ([t for t in times if t <= limit] for times in (was, will))
        gone, come = sorted(set(was) - set(will)), sorted(set(will) - set(was))
        if gone or come:
            yield ScheduleMove(
                first.schedule_id,
                first.device_id,
                sum(one.devices for one in members),
                first.words,
                gone[0] if gone else None,
                come[0] if come else None,
                max(len(gone), len(come)),
            )


def _same(name: str, old: TzData, new: TzData) -> bool:
    return name not in new.names() or old.zone(name).same_as(new.zone(name))
