"""The terms of a spec: each a set of moments that can be asked for the next and the previous one.

:data:`TERMS` is the table of kinds. A term does not know exclusions, bounds or other terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from streams.core.recurrence.cron import read_line
from streams.core.recurrence.errors import ExpressionError
from streams.core.recurrence.gates import read_sun
from streams.core.recurrence.rrule import wall_clock
from streams.core.recurrence.rule_text import LANGUAGE, read_rule
from streams.core.recurrence.sun import SunTimes
from streams.core.recurrence.wall import DayTimes
from streams.core.recurrence.zones import PINNED, TzData, Zone
from streams.core.refusal import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schemas.records import ScheduleSpec, Term
    from streams.core.recurrence.sun import Place


class Times(Protocol):
    """A set of moments, in UTC milliseconds."""

    def at_or_after(self, time_ms: int, /) -> int | None:
        """Return the first at or after a moment; null if there is none."""
        ...

    def before(self, time_ms: int, /) -> int | None:
        """Return the last before a moment; null if there is none."""
        ...


class Setting(NamedTuple):
    """What a term needs of the spec, the device and the tick."""

    zone: str
    from_ms: int | None
    place: Place | None
    data: TzData = PINNED
    language: int = LANGUAGE
    """Version of the fold's rules by which texts are read."""


class Interval:
    """``phase + n * every``, for all whole n."""

    __slots__ = ("every_ms", "phase_ms")

    def __init__(self, every_ms: int, phase_ms: int) -> None:
        self.every_ms = every_ms
        self.phase_ms = phase_ms

    def at_or_after(self, time_ms: int) -> int:
        """See :class:`Times`."""
        return time_ms + (self.phase_ms - time_ms) % self.every_ms

    def before(self, time_ms: int) -> int:
        """See :class:`Times`."""
        return time_ms - 1 - (time_ms - 1 - self.phase_ms) % self.every_ms


class Once:
    """One moment."""

    __slots__ = ("at_ms",)

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def at_or_after(self, time_ms: int) -> int | None:
        """See :class:`Times`."""
        return self.at_ms if self.at_ms >= time_ms else None

    def before(self, time_ms: int) -> int | None:
        """See :class:`Times`."""
        return self.at_ms if self.at_ms < time_ms else None


class Never:
    """No moment: what needs a place and has none."""

    __slots__ = ()

    def at_or_after(self, _time_ms: int) -> None:
        """See :class:`Times`."""

    def before(self, _time_ms: int) -> None:
        """See :class:`Times`."""


def _interval(term: ScheduleSpec | Term, _setting: Setting) -> Times:
    if term.every_ms is None:
        raise ExpressionError("every_ms", "an interval has no every_ms; give its period.")
    return Interval(term.every_ms, term.phase_ms)


def _once(term: ScheduleSpec | Term, _setting: Setting) -> Times:
    if term.at_ms is None:
        raise ExpressionError("at_ms", "a single time has no at_ms; give its time.")
    return Once(term.at_ms)


def _cron(term: ScheduleSpec | Term, setting: Setting) -> Times:
    line = read_line(term.expression)
    zone = find_zone(line.zone or setting.zone, "expression", setting.data)
    return DayTimes(line.days, line.times, zone)


def _calendar(term: ScheduleSpec | Term, setting: Setting) -> Times:
    rule = read_rule(term.expression, setting.from_ms, setting.zone, setting.data, setting.language)
    return wall_clock(rule, setting.data.zone(rule.zone))


def _sun(term: ScheduleSpec | Term, setting: Setting) -> Times:
    event, offset_ms = read_sun(term.expression, "expression")
    return Never() if setting.place is None else SunTimes(event, offset_ms, setting.place)


TERMS: Final[Mapping[str, Callable[[ScheduleSpec | Term, Setting], Times]]] = {
    "interval": _interval,
    "once": _once,
    "cron": _cron,
    "calendar": _calendar,
    "sun": _sun,
}
"""How a term of each kind is read. Each raises :class:`ExpressionError`."""


def find_zone(name: str, field: str = "zone", data: TzData = PINNED) -> Zone:
    """Return a zone; raises :class:`ExpressionError` for ``field`` if there is none."""
    try:
        return data.zone(name)
    except KeyError:
        raise ExpressionError(
            field,
            f"zone {show(name)} is not in the tz database {data.version}; expected a name"
            f" such as Europe/Paris{_near(name, data) or '.'}",
        ) from None


def _near(name: str, data: TzData) -> str:
    """Return a hint where only case or the part before the slash is wrong."""
    last = name.lower().replace(" ", "_").rpartition("/")[2]
    found = sorted(known for known in data.names() if known.lower().split("/")[-1] == last)
    return f"; did you mean {found[0]}?" if last and found else ""
