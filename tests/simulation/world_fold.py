"""States of the fold as the checkers make them, and time zone data that changes under them."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from world_watch import CODEC

from schemas.records import DeviceFacts, RequestState, ShardState
from streams.agents.schedule_rows import schedule_rows
from streams.core.partition import PartitionState
from streams.core.recurrence import recurrence, zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.records import Record

ZONES = ("Europe/Paris", "Asia/Kolkata")
"""Those whose rules a government changes."""


def load_state(
    rows_of: Callable[[str], dict[bytes, bytes]], number: int, partitions: int
) -> PartitionState:
    """Build the state of a partition of its committed rows."""

    def decoded(table: str, cls: type[Record]) -> list[Record]:
        return [CODEC.decode_as(value, cls) for _, value in sorted(rows_of(table).items())]

    state = PartitionState(number, partitions)
    schedules = schedule_rows([v for _, v in sorted(rows_of("schedules").items())], CODEC)
    state.load(
        schedules,
        decoded("shards", ShardState),  # type: ignore[arg-type]
        decoded("requests", RequestState),  # type: ignore[arg-type]
        decoded("facts", DeviceFacts),  # type: ignore[arg-type]
    )
    return state


class ZoneData:
    """The tz database of a world: the real one, and from some moment on another version.

    The wheels of a version start together, so the one that is pinned is theirs, under its name; what
    came before is not at hand, as in a new release.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[int, int]] = []
        """(UTC second, what the zones' clocks are moved by from then on)"""
        self.versions: list[str] = []
        """The name of the version with which each change came."""
        self._offset = zones._offset_ms

    def offset_ms(self, info: object, second: int, until: int | None = None) -> int:
        """Return a clock's offset; ``until``: by the first so many changes only."""
        found = self._offset(info, second)  # type: ignore[arg-type]
        if getattr(info, "key", "") in ZONES:
            found += sum(shift for since, shift in self.changes[:until] if second >= since)
        return found

    def change(self, since_s: int, shift_ms: int, version: str) -> None:
        """Publish a new version: clocks are moved from a second on."""
        self.changes.append((since_s, shift_ms))
        self.versions.append(version)
        zones.PINNED.version = version
        forget()

    @contextlib.contextmanager
    def all_at_hand(self) -> Iterator[None]:
        """Have every version at hand, and the real one pinned again: as for ``audit --tz``."""
        patched, zones._offset_ms = zones._offset_ms, self._offset  # type: ignore[assignment]
        pinned, others = zones.PINNED.version, dict(zones._others)
        zones.PINNED.version = zones.TZ_VERSION
        if self.changes:
            forget()
        for count, version in enumerate(self.versions, 1):
            zones.know(_Version(version, self, count))
        try:
            yield
        finally:
            zones._others.clear()
            zones._others.update(others)
            zones.PINNED.version, zones._offset_ms = pinned, patched
            if self.changes:
                forget()


class _Version(zones.TzData):
    """One version of a world's tz data, whatever came after it."""

    __slots__ = ("_data", "_until")

    def __init__(self, version: str, data: ZoneData, until: int) -> None:
        super().__init__(version, zones.PINNED.root)
        self._data, self._until = data, until

    def _read(self, name: str) -> zones.Zone:
        before = zones._offset_ms
        zones._offset_ms = partial(self._data.offset_ms, until=self._until)  # type: ignore[assignment]
        try:
            return super()._read(name)
        finally:
            zones._offset_ms = before


def forget() -> None:
    """Have zones read anew."""
    zones.PINNED.forget()
    recurrence._compiled.cache_clear()


@contextlib.contextmanager
def zone_data() -> Iterator[ZoneData]:
    """Have a world's own tz data in force."""
    data = ZoneData()
    zones._offset_ms, before = data.offset_ms, zones._offset_ms  # type: ignore[assignment]
    try:
        yield data
    finally:
        zones._offset_ms = before
        zones.PINNED.version = zones.TZ_VERSION
        if data.changes:
            forget()
