"""The clock of a device, believed against our monotonic clock.

A UsernameToken holds the device's own time; a camera that is two hours off refuses one with ours.
So the device is asked once, and its time runs on from there by a clock that nobody sets:

    asked at monotonic 100.0 s, the device says 12:00:00
    at monotonic 160.0 s its time is 12:01:00, whatever happened to our wall clock in between

Where from, in this order: ``UTCDateTime`` of GetSystemDateAndTime, which devices should answer to
anybody; the HTTP header ``Date`` of any answer of theirs, a refusal included. Some devices give
their local time as UTC: where the two disagree, a refusal is answered with the other one, once.

Both have whole seconds, so a half is added; a device takes tokens some seconds (ipycam: 300) old.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

HALF_SECOND: Final = timedelta(milliseconds=500)
TOLERANCE_S: Final = 2.0
"""How far two readings of one clock may be apart: a whole second each, and the way."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """A reading of a device's clock."""

    utc: datetime
    """What it showed."""
    monotonic_s: float
    """When we read it, on our monotonic clock."""
    source: str
    """``GetSystemDateAndTime``, ``Date header`` or ``our own clock``."""

    def at(self, monotonic_s: float) -> datetime:
        """Return what the device's clock shows at a moment of our monotonic clock."""
        return self.utc + timedelta(seconds=monotonic_s - self.monotonic_s)

    def skew_ms(self, monotonic_s: float, wall_ms: int) -> int:
        """Return how far the device's clock is ahead of our wall clock, in milliseconds."""
        return round(self.at(monotonic_s).timestamp() * 1000) - wall_ms

    def agrees(self, other: DeviceTime) -> bool:
        """Say whether both can be readings of one clock."""
        there = other.at(self.monotonic_s)
        return abs((self.utc - there).total_seconds()) <= TOLERANCE_S


def from_utc(utc: datetime | None, monotonic_s: float) -> DeviceTime | None:
    """Return the reading of a GetSystemDateAndTime; None: there is none."""
    if utc is None:
        return None
    return DeviceTime(utc + HALF_SECOND, monotonic_s, "GetSystemDateAndTime")


def from_date_header(value: str, monotonic_s: float) -> DeviceTime | None:
    """Return the reading of an HTTP ``Date`` header; None: it is empty or no date."""
    try:
        utc = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if utc.tzinfo is None:
        utc = utc.replace(tzinfo=UTC)
    return DeviceTime(utc.astimezone(UTC) + HALF_SECOND, monotonic_s, "Date header")


def from_our_own(wall_ms: int, monotonic_s: float) -> DeviceTime:
    """Return our own time as the device's: the best guess where it says nothing."""
    utc = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return DeviceTime(utc, monotonic_s, "our own clock")
