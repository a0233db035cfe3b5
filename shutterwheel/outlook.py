"""When schedules will fire, and what may surprise in them: the wheel's own functions, asked early.

A preview is ``streams.core.times.Times`` over ``streams.core.recurrence``, which is what the fold
fires by: the two cannot differ. What a preview cannot know is what is still to come: changes,
pauses, and the herd rule, which moves captures where a shard has too many.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from connectors.clients.values import show_moment
from schemas.errors import UsageError
from streams.core.recurrence import Place, compile_spec, describe, needs_place, warnings
from streams.core.recurrence.zones import zone, zone_names
from streams.core.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from schemas.records import CapturePolicy, DeviceProfile, ScheduleSpec, ScheduleState
    from shutterwheel.manifest import Manifest, ScheduleEntry
    from streams.core.recurrence.zones import Zone

PLACES_TRIED: Final = 4
"""Places of one schedule that are looked at for surprises."""
_WEEKDAYS: Final = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
"""1 January 1970 was a Thursday."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A schedule of one device, wherever it was found."""

    device_id: str
    """Empty: none is known; then there is no spread."""
    schedule_id: str
    spec: ScheduleSpec
    policy: CapturePolicy
    place: Place | None = None
    devices: int = 1
    """How many devices have it so."""
    state: ScheduleState | None = None
    """As the wheel has it, if it has."""

    @property
    def times(self) -> Times:
        """Its scheduled times."""
        ends_ms = None if self.state is None else self.state.ends_at_ms
        recurrence = compile_spec(self.spec, self.place)
        return Times(recurrence, self.policy, self.device_id, ends_ms)

    @property
    def words(self) -> str:
        """When it is due, in words."""
        return _described(self.spec, self.policy, self.place)

    @property
    def waits_for_place(self) -> bool:
        """Whether it hangs on the sun and its device's place is not known."""
        return self.place is None and needs_place(self.spec)

    def next(self, from_ms: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (nominal, scheduled) of the times at or after a moment, ``count`` at most."""
        times = self.times
        if self.state is not None:
            from_ms = max(from_ms, self.state.starts_at_ms)
        elif self.spec.max_count is not None:
            end_ms = times.end_after_count(from_ms)
            recurrence = compile_spec(self.spec, self.place)
            times = Times(recurrence, self.policy, self.device_id, end_ms)
        for _ in range(count):
            scheduled_ms = times.at_or_after(from_ms)
            if scheduled_ms is None:
                return
            yield times.nominal(scheduled_ms), scheduled_ms
            from_ms = scheduled_ms + 1

    def next_ms(self, now_ms: int) -> int | None:
        """Return the next scheduled time; null: it rests, waits for a place, or is over."""
        if self.state is not None and self.state.paused:
            return None
        return next((scheduled for _, scheduled in self.next(now_ms, 1)), None)

    def last_ms(self, now_ms: int) -> int | None:
        """Return when it was last due as it is now; null: not yet.

        Whether there was a photo is not said: that stands in capture.results.
        """
        found = self.times.before(now_ms)
        begin_ms = 0 if self.state is None else self.state.starts_at_ms
        return None if found is None or found < begin_ms else found


@lru_cache(maxsize=4_096)
def _described(spec: ScheduleSpec, policy: CapturePolicy, place: Place | None) -> str:
    """Return the words; a million rows have few different ones."""
    return describe(spec, policy, place)


def place_of(profile: DeviceProfile | None) -> Place | None:
    """Return where a device stands, as far as is known."""
    if profile is None or profile.latitude is None or profile.longitude is None:
        return None
    return Place(profile.latitude, profile.longitude)


def subject_of_row(row: ScheduleState, profiles: Mapping[str, DeviceProfile]) -> Subject:
    """Return a row of the wheel's table as a subject."""
    return Subject(
        row.device_id,
        row.schedule_id,
        row.spec,
        row.policy,
        place_of(profiles.get(row.device_id)),
        state=row,
    )


def subjects_of_file(
    asked: Manifest, profiles: Mapping[str, DeviceProfile], device_id: str | None = None
) -> list[Subject]:
    """Return each schedule of an expanded manifest for its first device, or for the one named."""
    found = []
    for entry in asked.schedules:
        members = entry.device_ids
        if device_id is not None and device_id not in members:
            continue
        chosen = device_id or _first_placed(entry, profiles)
        found.append(
            Subject(
                chosen,
                entry.schedule_id,
                entry.spec,
                entry.policy,
                place_of(profiles.get(chosen)),
                devices=1 if device_id else len(members),
            )
        )
    return found


def _first_placed(entry: ScheduleEntry, profiles: Mapping[str, DeviceProfile]) -> str:
    """Return the device that a schedule is best shown for."""
    members = entry.device_ids
    if needs_place(entry.spec):
        placed = (one for one in members if place_of(profiles.get(one)) is not None)
        return next(placed, members[0] if members else "")
    return members[0] if members else ""


# --- surprises ------------------------------------------------------------------------------------


def warnings_of(asked: Manifest, profiles: Iterable[DeviceProfile], now_ms: int) -> tuple[str, ...]:
    """Return what may surprise in an expanded manifest, in words, each with its place in the file.

    Costs some 10 ms a schedule of the file.
    """
    known = {one.device_id: one for one in profiles}
    known.update((one.device_id, one) for one in asked.devices)
    found: list[str] = []
    for entry in asked.schedules:
        if not entry.device_ids:
            continue
        places: dict[Place | None, int] = {None: 0}
        if needs_place(entry.spec):
            places.clear()
            for device_id in entry.device_ids:
                at = place_of(known.get(device_id))
                places[at] = places.get(at, 0) + 1
        said: dict[str, None] = {}
        for at, count in list(places.items())[:PLACES_TRIED]:
            of = (
                f" ({count:,} of {len(entry.device_ids):,} devices)" if at is None and count else ""
            )
            for text in warnings(entry.spec, entry.policy, at, now_ms):
                said.setdefault(text.removesuffix(".") + f"{of}.")
        found += [f"{entry.when}: schedule {entry.schedule_id!r}: {text}" for text in said]
    return tuple(found)


# --- times as people read them --------------------------------------------------------------------


def find_zone(name: str, what: str = "--zone") -> Zone:
    """Return a zone of the pinned tz data; UsageError for a name that it does not have."""
    try:
        return zone(name)
    except KeyError:
        near = difflib.get_close_matches(name, zone_names(), 1)
        hint = f"did you mean {near[0]!r}?" if near else "expected a name such as Europe/Paris."
        raise UsageError(f"{what} {name!r} is not in the tz database; {hint}") from None


def show_local(at_ms: int, where: Zone) -> str:
    """Return a moment as the wall clock of a zone shows it, with its offset from UTC."""
    local_ms = where.local_ms(at_ms)
    day = local_ms // 86_400_000
    offset_s = (local_ms - at_ms) // 1_000
    sign, rest = ("-", -offset_s) if offset_s < 0 else ("+", offset_s)
    text = show_moment(local_ms).removesuffix("Z").removesuffix(".000").replace("T", " ")
    return f"{_WEEKDAYS[day % 7]} {text} {sign}{rest // 3600:02}:{rest // 60 % 60:02}"
