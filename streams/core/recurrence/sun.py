"""The sun at a place: sunrise, sunset, dawn, dusk and solar noon.

**Formulas.** NOAA's solar calculator (gml.noaa.gov/grad/solcalc, "Solar Calculation Details"),
which are the low-precision ones of Meeus, "Astronomical Algorithms", 2nd ed., chapters 25 and 28:
geometric mean longitude and anomaly, equation of the centre, apparent longitude, obliquity,
declination, equation of time; then the hour angle at which the sun's centre stands at an altitude.

=========  ==============================================================================
sunrise    -0.833 degrees: upper limb on the horizon, refraction of 34', radius of 16'
dawn       -6 degrees: civil twilight begins; ``dusk`` ends it
noon       the sun crosses the meridian
=========  ==============================================================================

The declination moves while the sun climbs, so each event is computed twice, the second time for
the moment found by the first. Good to a minute below 72 degrees of latitude (NOAA's own claim),
less near the circle of the midnight sun, where the sun grazes the horizon. Height above the sea
and mountains are not regarded. Times are rounded to whole seconds.

**Days.** Solar day d is the 24 hours around the noon of calendar day d at the place; each event
belongs to one. **Polar day and night**: an event that does not come that day is no event; schedules
go on with the next. Within half a degree of a pole there is no event at all.

**Determinism.** Only ``sin``, ``cos``, ``tan``, ``asin`` and ``acos`` may differ between
platforms, in the last bit: 1e-11 s, so two machines round a time differently once in some 1e10.

Cost: 6 to 10 us an event, and a day at a place is remembered by those who ask.
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import acos, asin, cos, degrees, radians, sin, tan
from typing import Final, NamedTuple

from streams.core.recurrence.civil import BEGIN_DAY, DAY_MS, END_DAY, END_MS, HOUR_MS

EVENTS: Final = ("dawn", "sunrise", "noon", "sunset", "dusk")
"""In the order of a day."""
MAX_LATITUDE: Final = 89.5
"""Nearer to a pole there is no event: elsewhere each event comes on some day of every year."""
_SEARCH_DAYS: Final = 400
"""An event that does not come for so long never does (see ``MAX_LATITUDE``)."""

_OVER_MS: Final = HOUR_MS
"""No event lies farther outside of its solar day: the equation of time is below 17 minutes."""
_DAYS_KEPT: Final = 4

_ALTITUDES: Final = {"dawn": -6.0, "dusk": -6.0, "sunrise": -0.833, "sunset": -0.833}
MORNING: Final = frozenset(["dawn", "sunrise"])
_EPOCH_2000_DAY: Final = 10_957.5
"""Days from 1970 to noon on 1 January 2000 (J2000)."""


class Place(NamedTuple):
    """Where a device stands."""

    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""


def noon_ms(place: Place, day: int) -> int:
    """Return the mean noon of a calendar day at a place: the middle of its solar day."""
    return day * DAY_MS + DAY_MS // 2 - round(place.longitude * 240_000)


def event_ms(event: str, place: Place, day: int) -> int | None:
    """Return when an event comes on a solar day, in UTC; null if it does not."""
    middle_ms = noon_ms(place, day)
    declination, equation_s = _sun(middle_ms)
    if event == "noon":
        _, equation_s = _sun(middle_ms - round(equation_s * 1000))
        return middle_ms - round(equation_s) * 1000
    if abs(place.latitude) > MAX_LATITUDE:
        return None
    side = -1 if event in MORNING else 1
    found_s = 0.0
    for _ in range(2):
        angle = _hour_angle(place.latitude, declination, _ALTITUDES[event])
        if angle is None:
            return None
        found_s = side * angle * 240 - equation_s
        declination, equation_s = _sun(middle_ms + round(found_s * 1000))
    return middle_ms + round(found_s) * 1000


def is_high(event: str, place: Place, day: int) -> bool:
    """Say whether the sun stands above the altitude of an event at noon: polar day, not night."""
    declination, _ = _sun(noon_ms(place, day))
    altitude = 90 - abs(place.latitude - degrees(declination))
    return altitude > _ALTITUDES.get(event, 0.0)


def _sun(utc_ms: int) -> tuple[float, float]:
    """Return the sun's declination in radians and the equation of time in seconds."""
    century = (utc_ms / DAY_MS - _EPOCH_2000_DAY) / 36_525
    longitude = (280.46646 + century * (36_000.76983 + century * 0.0003032)) % 360
    anomaly = radians((357.52911 + century * (35_999.05029 - 0.0001537 * century)) % 360)
    eccentricity = 0.016708634 - century * (0.000042037 + 0.0000001267 * century)
    centre = (
        sin(anomaly) * (1.914602 - century * (0.004817 + 0.000014 * century))
        + sin(2 * anomaly) * (0.019993 - 0.000101 * century)
        + sin(3 * anomaly) * 0.000289
    )
    node = radians(125.04 - 1_934.136 * century)
    apparent = radians(longitude + centre - 0.00569 - 0.00478 * sin(node))
    mean_obliquity = 23.439291 - century * (0.0130042 + century * (1.64e-7 - century * 5.04e-7))
    obliquity = radians(mean_obliquity + 0.00256 * cos(node))
    declination = asin(sin(obliquity) * sin(apparent))
    y = tan(obliquity / 2) ** 2
    twice = radians(2 * longitude)
    equation = (
        y * sin(twice)
        - 2 * eccentricity * sin(anomaly)
        + 4 * eccentricity * y * sin(anomaly) * cos(twice)
        - 0.5 * y * y * sin(2 * twice)
        - 1.25 * eccentricity * eccentricity * sin(2 * anomaly)
    )
    return declination, degrees(equation) * 240


def _hour_angle(latitude: float, declination: float, altitude: float) -> float | None:
    """Return the hour angle, in degrees, at which the sun's centre stands at an altitude."""
    north = radians(latitude)
    cosine = (sin(radians(altitude)) - sin(north) * sin(declination)) / (
        cos(north) * cos(declination)
    )
    return degrees(acos(cosine)) if -1 <= cosine <= 1 else None


class SunTimes:
    """An event at a place, moved by an offset: one time a solar day, or none."""

    __slots__ = ("_event_ms", "event", "offset_ms", "place")

    def __init__(self, event: str, offset_ms: int, place: Place) -> None:
        self.event = event
        self.offset_ms = offset_ms
        self.place = place
        self._event_ms = lru_cache(maxsize=_DAYS_KEPT)(partial(event_ms, event, place))

    def _solar_day(self, time_ms: int) -> int:
        """Return the solar day that an event without its offset would be in."""
        return (time_ms - self.offset_ms - noon_ms(self.place, 0) + DAY_MS // 2) // DAY_MS

    def at_or_after(self, time_ms: int) -> int | None:
        """Return the first time at or after another; null: none before 2100."""
        first = max(self._solar_day(time_ms - _OVER_MS), BEGIN_DAY)
        for day in range(first, min(first + _SEARCH_DAYS, END_DAY)):
            found = self._event_ms(day)
            if found is not None and found + self.offset_ms >= time_ms:
                return found + self.offset_ms if found + self.offset_ms < END_MS else None
        return None

    def before(self, time_ms: int) -> int | None:
        """Return the last time before another; null: none since 1970."""
        last = min(self._solar_day(time_ms + _OVER_MS), END_DAY - 1)
        for day in range(last, max(last - _SEARCH_DAYS, BEGIN_DAY - 1), -1):
            found = self._event_ms(day)
            if found is not None and found + self.offset_ms < time_ms:
                return found + self.offset_ms if found + self.offset_ms < END_MS else None
        return None
