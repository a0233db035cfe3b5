"""When a schedule is due: a stand-in with intervals and single times, until the language lands."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import ScheduleSpec


class Place(NamedTuple):
    """Where a device stands."""

    latitude: float
    longitude: float


class Recurrence:
    """The nominal times of a spec."""

    def __init__(self, spec: ScheduleSpec, place: Place | None) -> None:
        self._from_ms = spec.from_ms
        self._until_ms = spec.until_ms
        self._terms = [spec, *spec.also]
        self._shut = spec.daylight != "" and place is None
        plain = spec.from_ms is None and spec.until_ms is None
        plain = plain and spec.kind == "interval" and not spec.also and not spec.daylight
        self.period_ms = spec.every_ms if plain else None
        self.typical_gap_ms = min((t.every_ms for t in self._terms if t.every_ms), default=None)

    def at_or_after(self, time_ms: int) -> int | None:
        """Return the first time at or after another."""
        if self._from_ms is not None:
            time_ms = max(time_ms, self._from_ms)
        found: list[int] = []
        for term in self._terms:
            if term.every_ms:
                found.append(time_ms + (term.phase_ms - time_ms) % term.every_ms)
            elif term.at_ms is not None and term.at_ms >= time_ms:
                found.append(term.at_ms)
        first = min(found, default=None)
        over = first is not None and self._until_ms is not None and first >= self._until_ms
        return None if over or self._shut else first

    def before(self, time_ms: int) -> int | None:
        """Return the last time before another."""
        if self._until_ms is not None:
            time_ms = min(time_ms, self._until_ms)
        found: list[int] = []
        for term in self._terms:
            if term.every_ms:
                found.append(time_ms - 1 - (time_ms - 1 - term.phase_ms) % term.every_ms)
            elif term.at_ms is not None and term.at_ms < time_ms:
                found.append(term.at_ms)
        last = max(found, default=None)
        early = last is not None and self._from_ms is not None and last < self._from_ms
        return None if early or self._shut else last

    def between(self, first_ms: int, end_ms: int) -> Iterator[int]:
        """Yield the times from ``first_ms`` on and before ``end_ms``."""
        found = self.at_or_after(first_ms)
        while found is not None and found < end_ms:
            yield found
            found = self.at_or_after(found + 1)


@lru_cache(maxsize=4_096)
def compile_spec(spec: ScheduleSpec, place: Place | None) -> Recurrence:
    """Return the recurrence of a spec at a place."""
    return Recurrence(spec, place)
