"""Time zones as tables of whole numbers, from the pinned tz data; and the one rule for DST.

**The rule.** A wall-clock time L happens at *the first moment at which the clock of the zone shows
L or a later time*. Nothing else is said anywhere, and all of this follows:

* a time that exists once is itself;
* a time that a change of the clock leaps over happens at the moment after the gap, and several
  of them (02:15, 02:30) are one moment, so they happen once;
* a time that is shown twice happens the first time only;
* a later time never happens before an earlier one, so schedules keep their order.

Times that are *not* of the wall clock but of an hour that repeats ('every 5 minutes') go on in real
time instead: see ``wall.py``.

**Theory.** A zone is a row of segments with one offset each, ``local = utc + offset``. Beside the
offset each segment keeps the **high water**: the latest wall-clock time shown before it. What was
ever shown up to a moment u is ``max(high, u + offset)``, which never falls, so L is looked up in
it by bisection, also through odd histories (two changes within a day, a day that was left out).

**Example.** Paris, 29 March 2026, 02:00 becomes 03:00 at 01:00 UTC: the segment from 01:00 has the
offset 2 h and high 01:59:59.999, so 02:30 is first reached at its start, 01:00 UTC. On 25 October
03:00 becomes 02:00 at 01:00 UTC: that segment has high 02:59:59.999, so 02:30 was reached in the
segment before, at 00:30 UTC.

**Data.** The ``tzdata`` package, pinned in ``pyproject.toml``, never the system's: read once a
zone, through the standard library's ``ZoneInfo.from_file``. Its offsets are asked for every seven
days from 1970 to 2100 and each change is narrowed down to its second (a test compares with every
transition in the files). 5 to 9 ms a zone at first use, and about 8 KB; a look-up takes 0.2 us.

A :class:`TzData` is one version of the database. There is one as a rule, :data:`PINNED`; a state
that was made under another one brings its zones with it (``streams/core/tz.py``), and an audit can
be given whole versions (:func:`know`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import tzdata

from streams.core.recurrence.civil import BEGIN_DAY, DAY_S, END_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

TZ_VERSION: Final = tzdata.IANA_VERSION
"""Version of the tz database that every time zone here is taken from, such as ``2026f``."""
UTC: Final = "UTC"
_STEP_S: Final = 7 * DAY_S
FAR_MS: Final = 1 << 62
"""Beyond all time: the first segment of a zone starts at its negative."""


class Zone:
    """One zone: when its clock changes, and what it shows. All in milliseconds; immutable."""

    __slots__ = ("ends", "highs", "name", "offsets", "peaks", "starts")

    def __init__(self, name: str, changes: list[tuple[int, int]]) -> None:
        """Take (start, offset) of each segment in order; the first begins before all time."""
        self.name = name
        """As the database has it."""
        self.starts = [start for start, _ in changes]
        self.offsets = [offset for _, offset in changes]
        self.ends = [*self.starts[1:], FAR_MS]
        self.highs: list[int] = []
        """The latest wall-clock time shown before each segment."""
        self.peaks: list[int] = []
        """The latest wall-clock time shown up to the end of each segment; never falls."""
        high = -FAR_MS
        for end, offset in zip(self.ends, self.offsets, strict=True):
            self.highs.append(high)
            high = max(high, end - 1 + offset)
            self.peaks.append(high)

    def segment(self, utc_ms: int) -> int:
        """Return the index of the segment that a moment is in."""
        return bisect_right(self.starts, utc_ms) - 1

    def local_ms(self, utc_ms: int) -> int:
        """Return what the clock shows at a moment."""
        return utc_ms + self.offsets[bisect_right(self.starts, utc_ms) - 1]

    def shown_ms(self, utc_ms: int) -> int:
        """Return the latest time that the clock has shown up to a moment, itself included."""
        at = bisect_right(self.starts, utc_ms) - 1
        return max(utc_ms + self.offsets[at], self.highs[at])

    def moment_ms(self, local_ms: int) -> int:
        """Return the first moment at which the clock shows this time or a later one."""
        at = bisect_left(self.peaks, local_ms)
        return max(local_ms - self.offsets[at], self.starts[at])

    def changes(self) -> list[tuple[int, int]]:
        """Return (start, offset) of each segment: what it was made of."""
        return list(zip(self.starts, self.offsets, strict=True))

    def same_as(self, other: Zone) -> bool:
        """Say whether both clocks show the same at any time from 1970 to 2100."""
        return self.starts == other.starts and self.offsets == other.offsets

    def exists(self, local_ms: int) -> bool:
        """Say whether the clock ever shows this time: false within a gap."""
        return self.local_ms(self.moment_ms(local_ms)) == local_ms


class TzData:
    """One version of the tz database: its zones by name, each read at its first use and kept."""

    __slots__ = ("_kept", "_names", "root", "version")

    def __init__(self, version: str, root: Traversable) -> None:
        """Take a folder as the ``tzdata`` package is one: ``zones`` and ``zoneinfo/`` in it."""
        self.version = version
        self.root = root
        self._kept: dict[str, Zone] = {}
        self._names: frozenset[str] | None = None

    @property
    def base_version(self) -> str:
        """The version that zones are of which nobody has kept."""
        return self.version

    def names(self) -> frozenset[str]:
        """Return every name there is, links included."""
        if self._names is None:
            listed = (self.root / "zones").read_text(encoding="ascii")
            self._names = frozenset(listed.split())
        return self._names

    def zone(self, name: str) -> Zone:
        """Return a zone by its IANA name; an empty name is UTC.

        Raises ``KeyError`` for a name that the database does not have.
        """
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = self._read(name)
        return kept

    def forget(self) -> None:
        """Read zones anew from now on."""
        self._kept.clear()

    def _read(self, name: str) -> Zone:
        if name in {"", UTC}:
            return Zone(UTC, [(-FAR_MS, 0)])
        if name not in self.names():
            raise KeyError(name)
        with self.root.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            return Zone(name, changes_of(ZoneInfo.from_file(file, key=name)))


class KeptTzData(TzData):
    """A version of which only some zones are at hand, as a state has kept them (``tz.py``).

    All others are those of ``base``.
    """

    __slots__ = ("_base", "kept")

    def __init__(self, version: str, kept: Mapping[str, Zone], base: TzData) -> None:
        super().__init__(version, base.root)
        self.kept = dict(kept)
        self._base = base

    @property
    def base_version(self) -> str:
        """See :class:`TzData`."""
        return self._base.base_version

    def names(self) -> frozenset[str]:
        """See :class:`TzData`."""
        return self._base.names() | frozenset(self.kept)

    def zone(self, name: str) -> Zone:
        """See :class:`TzData`."""
        return self.kept.get(name) or self._base.zone(name)


class AskedTzData(TzData):
    """Another one, with a note of the zones that were asked for."""

    __slots__ = ("_base", "asked")

    def __init__(self, base: TzData) -> None:
        super().__init__(base.version, base.root)
        self._base = base
        self.asked: set[str] = set()

    def names(self) -> frozenset[str]:
        """See :class:`TzData`."""
        return self._base.names()

    def zone(self, name: str) -> Zone:
        """See :class:`TzData`."""
        if name not in {"", UTC}:
            self.asked.add(name)
        return self._base.zone(name)


def changes_of(info: ZoneInfo) -> list[tuple[int, int]]:
    """Return (start, offset) in milliseconds of each segment of a zone, from 1970 to 2100."""
    before = _offset_ms(info, BEGIN_DAY * DAY_S)
    changes = [(-FAR_MS, before)]
    for second in range(BEGIN_DAY * DAY_S + _STEP_S, END_DAY * DAY_S, _STEP_S):
        after = _offset_ms(info, second)
        if after != before:
            changes.append((_change_s(info, second - _STEP_S, second) * 1000, after))
            before = after
    return changes


PINNED: Final = TzData(TZ_VERSION, resources.files(tzdata))
"""The tz database of this release."""
_others: dict[str, TzData] = {}


def zone(name: str) -> Zone:
    """Return a zone of the pinned database, see :meth:`TzData.zone`."""
    return PINNED.zone(name)


def zone_names() -> frozenset[str]:
    """Return every name of the pinned database, links included."""
    return PINNED.names()


def know(data: TzData) -> None:
    """Have another version at hand beside the pinned one, for logs that were made under it."""
    _others[data.version] = data


def data_of(version: str) -> TzData | None:
    """Return a version of the tz database that is at hand; null: it is not."""
    return PINNED if version == PINNED.version else _others.get(version)


def data_with(version: str, kept: Mapping[str, Zone]) -> TzData:
    """Return the tz data of a version with the zones that were kept, all others as at hand.

    Those are the pinned ones where the version is not at hand.
    """
    data = data_of(version) or PINNED
    return KeptTzData(version, kept, data) if kept else data


def _offset_ms(info: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, info).utcoffset()
    assert offset is not None, "a zone has an offset at any time"
    return int(offset.total_seconds()) * 1000


def _change_s(info: ZoneInfo, before: int, after: int) -> int:
    """Return the second in (before, after] at which the offset becomes that of ``after``."""
    wanted = _offset_ms(info, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset_ms(info, middle) == wanted:
            after = middle
        else:
            before = middle
    return after
