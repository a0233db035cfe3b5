"""When a schedule is due: the union of its terms, narrowed down by its gates, remembered.

**Theory.** ``at_or_after(t)`` takes the least of the terms' answers and asks each gate; a gate that
is shut says when it opens, and the search goes on from there. ``before`` is its mirror. Both are
functions of (spec, place, tz data) alone, so a preview and a fire cannot differ.

**Shared.** A million devices have a few thousand recurrences. :func:`compile_spec` gives one object
for equal (spec, place), and that keeps a row of consecutive occurrences it has worked out: a device
adds its spread offset and looks its time up by bisection. Each occurrence is worked out once,
whoever asks first. The row moves with time; it holds at most ``WINDOW`` times (8 bytes each), and a
question far from it starts it anew, so memory is bounded and a far jump costs one evaluation.

**Cost.** 0.3 us for a time in the row; 5 to 10 us to work one out, more with many terms, 20 us for
the sun. Not thread-safe: a thread that previews makes its own by ``Recurrence(spec, place)``.

**Ends.** Nothing but intervals is due from 2100 on. A search that leaps over ``MAX_LEAPS`` shut
spans in a row (eleven years of days) says that there is no time any more.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from streams.core.recurrence.gates import (
    Daylight,
    Exclusions,
    Validity,
    read_daylight,
    read_exclusion,
)
from streams.core.recurrence.sun import Place
from streams.core.recurrence.terms import TERMS, Interval, Setting, find_zone
from streams.core.recurrence.zones import PINNED, AskedTzData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import ScheduleSpec
    from streams.core.recurrence.gates import Gate
    from streams.core.recurrence.terms import Times
    from streams.core.recurrence.zones import TzData

WINDOW: Final = 1_024
"""The most occurrences a recurrence remembers: 8 KB."""
STEPS: Final = 64
"""How many occurrences the row grows by to reach a time; farther, it starts anew there."""
MAX_LEAPS: Final = 4_000
MAX_COMPILED: Final = 32_768
"""Recurrences kept; each is a few hundred bytes and its row."""
PLACE_DIGITS: Final = 2
"""Places are rounded to 0.01 degrees: about 1 km, at most some 5 s of a sun time, and the cameras
of a site are one place."""
SAMPLE_FROM_MS: Final = 1_767_225_600_000
"""1 January 2026: where samples for ``typical_gap_ms`` and ``crowd_ms`` begin."""
SAMPLE_GAPS: Final = 32
SAMPLE_CROWD: Final = 512
_FAR_MS: Final = 1 << 62


class Recurrence:
    """The times of one spec at one place, by one version of the tz data."""

    def __init__(self, spec: ScheduleSpec, place: Place | None, data: TzData = PINNED) -> None:
        """Read a spec; raises ``ExpressionError`` where ``check_spec`` refuses it."""
        if place is not None:
            place = rounded(place)  # so that one made alone answers as the shared one does
        zone = find_zone(spec.zone, data=data)
        asked = AskedTzData(data)
        setting = Setting(spec.zone, spec.from_ms, place, asked)
        self.spec = spec
        self.lacks_place = place is None and needs_place(spec)
        """Some of it hangs on the sun and there is no place: that part is never due."""
        self.terms: tuple[Times, ...] = (
            TERMS[spec.kind](spec, setting),
            *(TERMS[term.kind](term, setting) for term in spec.also),
        )
        self._gates: list[Gate] = []
        if spec.from_ms is not None or spec.until_ms is not None:
            self._gates.append(Validity(spec.from_ms, spec.until_ms))
        if spec.exclude:
            asked.zone(spec.zone)
            self._gates.append(Exclusions(map(read_exclusion, spec.exclude), zone))
        if spec.daylight:
            self._gates.append(Daylight(*read_daylight(spec.daylight), place))
        self.zone_names = frozenset(asked.asked)
        """The zones whose rules its times hang on; empty for intervals, single times, the sun."""
        only = self.terms[0]
        simple = len(self.terms) == 1 and not self._gates
        self._interval = only if simple and isinstance(only, Interval) else None
        self.period_ms = (
            self._interval.every_ms
            if self._interval is not None and spec.max_count is None
            else None
        )
        """The distance of all times, where nothing narrows or ends a plain interval; else null."""
        self._row = array("q")
        """Consecutive occurrences: all there are from ``_from_ms`` to the last of them."""
        self._from_ms = 0
        self._none_ms = _FAR_MS
        """From here on there is none, as far as was found out."""
        self._gap_ms = -1
        self._crowds: dict[int, int | None] = {}
        self._lasts = lru_cache(maxsize=64)(self._count)

    def at_or_after(self, time_ms: int) -> int | None:
        """Return the first time at or after a moment; null: there is none any more."""
        row = self._row
        if row and self._from_ms <= time_ms <= row[-1]:
            return row[bisect_left(row, time_ms)]
        if self._interval is not None:
            return self._interval.at_or_after(time_ms)
        return self._look(time_ms)

    def before(self, time_ms: int) -> int | None:
        """Return the last time strictly before a moment; null: there was none."""
        if self._interval is not None:
            return self._interval.before(time_ms)
        if self.at_or_after(time_ms) is not None:  # and so the row may reach to here
            row = self._row
            if self._from_ms <= time_ms <= row[-1]:
                at = bisect_left(row, time_ms)
                if at:
                    return row[at - 1]
                found = self.find_before(time_ms)
                if found is not None and len(row) < WINDOW:
                    row.insert(0, found)  # between the two there is none
                    self._from_ms = found
                return found
        return self.find_before(time_ms)

    def between(self, first_ms: int, end_ms: int) -> Iterator[int]:
        """Yield the times from ``first_ms`` (included) to ``end_ms`` (not included), in order."""
        time_ms = self.at_or_after(first_ms)
        while time_ms is not None and time_ms < end_ms:
            yield time_ms
            time_ms = self.at_or_after(time_ms + 1)

    def last_ms(self, start_ms: int) -> int | None:
        """Return the last time that ``max_count`` leaves to an epoch that starts at ``start_ms``.

        Null if the spec sets no count, or fewer times than that are left anyhow. O(1) for a plain
        interval, else the count is walked through once a start and remembered.
        """
        return None if self.spec.max_count is None else self._lasts(start_ms)

    @property
    def typical_gap_ms(self) -> int | None:
        """The median distance of 32 times from 2026 on (or the spec's start); null: only one."""
        if self._gap_ms < 0:
            times = self._sample(SAMPLE_GAPS + 1)
            gaps = sorted(after - before for before, after in pairwise(times))
            self._gap_ms = gaps[len(gaps) // 2] if gaps else 0
        return self._gap_ms or None

    def crowd_ms(self, count: int) -> int | None:
        """Return the least time in which ``count`` + 1 times lie, of 512 from 2026 on; or null."""
        if count not in self._crowds:
            times = self._sample(SAMPLE_CROWD)
            spans = [late - early for early, late in zip(times, times[count:], strict=False)]
            self._crowds[count] = min(spans, default=None)
        return self._crowds[count]

    # --- working it out -------------------------------------------------------------------------

    def find_at_or_after(self, time_ms: int) -> int | None:
        """As ``at_or_after``, worked out anew and not remembered."""
        for _ in range(MAX_LEAPS):
            found = self._first_of_terms(time_ms)
            if found is None:
                return None
            opens = found
            for gate in self._gates:
                moment = gate.open_at_or_after(opens)
                if moment is None:
                    return None
                opens = moment
            if opens == found:
                return found
            time_ms = opens
        return None

    def find_before(self, time_ms: int) -> int | None:
        """As ``before``, worked out anew and not remembered."""
        for _ in range(MAX_LEAPS):
            found = self._last_of_terms(time_ms)
            if found is None:
                return None
            opens = found
            for gate in self._gates:
                moment = gate.open_at_or_before(opens)
                if moment is None:
                    return None
                opens = moment
            if opens == found:
                return found
            time_ms = opens + 1
        return None

    def _first_of_terms(self, time_ms: int) -> int | None:
        terms = self.terms
        if len(terms) == 1:
            return terms[0].at_or_after(time_ms)
        found = [t for term in terms if (t := term.at_or_after(time_ms)) is not None]
        return min(found, default=None)

    def _last_of_terms(self, time_ms: int) -> int | None:
        terms = self.terms
        if len(terms) == 1:
            return terms[0].before(time_ms)
        found = [t for term in terms if (t := term.before(time_ms)) is not None]
        return max(found, default=None)

    # --- the row --------------------------------------------------------------------------------

    def _look(self, time_ms: int) -> int | None:
        """Answer what the row does not hold, and let it hold it from now on."""
        if time_ms >= self._none_ms:
            return None
        row = self._row
        if row and time_ms > row[-1]:
            for _ in range(STEPS):
                after_ms = row[-1] + 1
                found = self.find_at_or_after(after_ms)
                if found is None:
                    self._none_ms = min(self._none_ms, after_ms)
                    return None
                row.append(found)
                if found >= time_ms:
                    self._trim()
                    return found
        elif row:
            for _ in range(STEPS):
                found = self.find_before(self._from_ms)
                if found is None or found < time_ms:
                    self._from_ms = time_ms if found is None else found + 1
                    return row[0]
                row.insert(0, found)
                self._from_ms = found
                if found == time_ms or len(row) > WINDOW:
                    break
            if self._from_ms == time_ms:
                return time_ms
        found = self.find_at_or_after(time_ms)
        if found is None:
            self._none_ms = min(self._none_ms, time_ms)
            return None
        self._row = array("q", (found,))
        self._from_ms = time_ms
        return found

    def _trim(self) -> None:
        if len(self._row) > WINDOW:
            del self._row[: WINDOW // 2]
            self._from_ms = self._row[0]

    def _sample(self, count: int) -> list[int]:
        times: list[int] = []
        time_ms = max(SAMPLE_FROM_MS, self.spec.from_ms or 0)
        while len(times) < count:
            found = self.find_at_or_after(time_ms)
            if found is None:
                break
            times.append(found)
            time_ms = found + 1
        return times

    def _count(self, start_ms: int) -> int | None:
        count = self.spec.max_count or 0
        if self._interval is not None:
            return self._interval.at_or_after(start_ms) + (count - 1) * self._interval.every_ms
        time_ms = start_ms - 1
        for _ in range(count):
            found = self.find_at_or_after(time_ms + 1)
            if found is None:
                return None
            time_ms = found
        return time_ms


def needs_place(spec: ScheduleSpec) -> bool:
    """Say whether a spec hangs on where the device is."""
    return (
        spec.kind == "sun" or bool(spec.daylight) or any(term.kind == "sun" for term in spec.also)
    )


def compile_spec(
    spec: ScheduleSpec, place: Place | None = None, data: TzData = PINNED
) -> Recurrence:
    """Return the recurrence of a valid spec at a place: the same object for the same arguments.

    The place is rounded (``PLACE_DIGITS``), and left out where the spec does not hang on it.
    Raises ``ExpressionError`` where ``check_spec`` refuses the spec.
    """
    if place is not None:
        place = rounded(place) if needs_place(spec) else None
    return _compiled(spec, place, data)


def rounded(place: Place) -> Place:
    """Return the place that times are worked out for."""
    return Place(round(place[0], PLACE_DIGITS), round(place[1], PLACE_DIGITS))


_compiled: Final = lru_cache(maxsize=MAX_COMPILED)(Recurrence)
