"""Recurrences of one partition: one for all schedules of a spec, by one version of the tz data.

They are the partition's own: a recurrence remembers what it was asked, and another thread may be
building another partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.recurrence import Place, Recurrence, needs_place
from streams.core.recurrence.recurrence import PLACE_DIGITS
from streams.core.schedule_table import SHARED_MAX

if TYPE_CHECKING:
    from schemas.records import DeviceFacts, ScheduleSpec
    from streams.core.recurrence.zones import TzData


def place_of(facts: DeviceFacts | None) -> Place | None:
    """Return a device's place, rounded: the cameras of a site are one place."""
    if facts is None or facts.latitude is None or facts.longitude is None:
        return None
    return Place(round(facts.latitude, PLACE_DIGITS), round(facts.longitude, PLACE_DIGITS))


class Compiled:
    """The recurrences that were asked for, at most ``SHARED_MAX`` of each kind."""

    __slots__ = ("_placed", "_specs", "data")

    def __init__(self, data: TzData) -> None:
        """Take the tz data that they are made of."""
        self.data = data
        self._specs: dict[ScheduleSpec, tuple[Recurrence, bool]] = {}
        self._placed: dict[tuple[ScheduleSpec, Place | None], Recurrence] = {}

    def of(self, spec: ScheduleSpec) -> tuple[Recurrence, bool]:
        """Return a valid spec's recurrence without a place, and whether it hangs on one."""
        kept = self._specs.get(spec)
        if kept is None:
            if len(self._specs) >= SHARED_MAX:
                self._specs.clear()
            kept = self._specs[spec] = (Recurrence(spec, None, self.data), needs_place(spec))
        return kept

    def at(self, spec: ScheduleSpec, place: Place | None) -> Recurrence:
        """Return the recurrence of a spec that hangs on a place, shared within the site."""
        what = (spec, place)
        kept = self._placed.get(what)
        if kept is None:
            if len(self._placed) >= SHARED_MAX:
                self._placed.clear()
            kept = self._placed[what] = Recurrence(*what, self.data)
        return kept

    def where(self, spec: ScheduleSpec, facts: DeviceFacts | None) -> Recurrence:
        """Return the recurrence of a valid spec where a device stands."""
        recurrence, placed = self.of(spec)
        return self.at(spec, place_of(facts)) if placed else recurrence
