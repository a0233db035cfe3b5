"""What ``shutterwheel replay`` runs in its own process: partition after partition of a log.

The log is opened in one place (:func:`open_log`), so that all of replay reads from a cluster or
from whatever else can be read as one.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.clients.events import now_ms
from schemas.errors import UsageError
from schemas.records import DeviceProfile, ScheduleUpserted
from shutterwheel import logs_at
from streams.core.ids import partition_of
from streams.replay.again import fold_again
from streams.replay.played import Played, Player, compare_results
from streams.replay.refold import TICKS, ticks_of
from streams.replay.what_if import what_if
from streams.replay.what_if_diff import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.codec import Codec
    from schemas.records import CapturePolicy, ScheduleState
    from shutterwheel.context import Cluster
    from shutterwheel.what_if_file import WhatIfFile
    from streams.replay.again import Again
    from streams.replay.log import Log
    from streams.replay.start import ReadRows
    from streams.replay.what_if import PartitionDifference

    Tell = Callable[[int, int, int], None]
    """Partition, ticks folded since, time of the last of them."""

PROFILES: Final = "device.profiles"
FOR_EVER_MS: Final = 1 << 62
LOOK: Final = 1_000
"""Entries at the end of a partition in which its last tick is looked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """A log, how its records are read, and what of it is replayed."""

    log: Log
    codec: Codec
    where: str
    """In words."""
    from_ms: int
    to_ms: int
    partitions: tuple[int, ...]
    read_rows: ReadRows | None = None
    """Reads the rows of snapshots, to begin with; null: folds begin with the log."""


def open_log(cluster: Cluster, archive: str = "") -> tuple[Log, Codec, str]:
    """Return the log to replay, its codec, and where it is, in words."""
    if archive:
        found: Log = logs_at.open_log(archive=archive)
        return found, logs_at.codec_of(found, cluster.registry), f"the archive at {archive}"
    namespace = f", namespace {cluster.namespace}" if cluster.namespace else ""
    log = logs_at.open_log(cluster.kafka, cluster.namespace)
    return log, logs_at.codec_of(log, cluster.registry), f"{cluster.kafka}{namespace}"


def make_source(
    log: Log,
    codec: Codec,
    where: str,
    from_ms: int | None,
    to_ms: int | None,
    last_ms: int | None,
    device: str | None,
    blobs: str = "",
) -> Source:
    """Return what is to be replayed; what is not given is the log's first or last tick.

    Raises :class:`UsageError` for a range that is empty or has no tick.
    """
    count = log.partitions(TICKS)
    first_ms, end_ms = _span(log, codec, count)
    if last_ms is not None:
        from_ms = (to_ms or end_ms) - last_ms
    begin = first_ms if from_ms is None else max(from_ms, first_ms)
    end = end_ms if to_ms is None else min(to_ms, end_ms)
    if begin >= end:
        from connectors.clients.values import show_moment

        raise UsageError(
            f"There is nothing to replay: the ticks of {where} go from {show_moment(first_ms)} to "
            f"{show_moment(end_ms)}, and --from must lie before --to."
        )
    chosen = tuple(range(count)) if device is None else (partition_of(device, count),)
    return Source(log, codec, where, begin, end, chosen, logs_at.rows_reader(blobs))


def _span(log: Log, codec: Codec, partitions: int) -> tuple[int, int]:
    """Return the time of the first tick that is kept and the time after the last one."""
    firsts, ends = log.firsts(TICKS), log.ends(TICKS)
    begin: list[int] = []
    end: list[int] = []
    for number in range(partitions):
        first, last = firsts[number], ends[number]
        if first >= last:
            continue
        for _, tick in ticks_of(log, number, codec, first, FOR_EVER_MS, min(last, first + LOOK)):
            begin.append(tick.time_ms)
            break
        found = [*ticks_of(log, number, codec, max(first, last - LOOK), FOR_EVER_MS, last)]
        if found:
            end.append(found[-1].tick.time_ms)
    if not begin or not end:
        raise UsageError("There is no tick in this log: nothing was ever decided here.")
    return min(begin), max(end) + 1


@dataclass(slots=True)
class Folded:
    """A range that was folded again."""

    parts: list[Again]
    took_s: float
    played: Played | None = None
    """How the commands ended with cameras that always answer, where that was asked for."""

    @property
    def ticks(self) -> int:
        """All that were folded, those before the range included."""
        return sum(part.ticks + part.before for part in self.parts)

    @property
    def ok(self) -> bool:
        """Say whether every byte is what was written."""
        return all(part.difference is None for part in self.parts)


@dataclass(slots=True)
class Compared:
    """A range that was folded under another policy."""

    difference: Difference
    parts: list[PartitionDifference]
    took_s: float
    profiles: int = 0

    def total(self, name: str) -> int:
        """Return the sum of a count over the partitions."""
        return sum(getattr(part, name) for part in self.parts)


@dataclass(slots=True)
class _Quiet:
    """The collector rests while millions of small things are made that are in no circle."""

    was: bool = field(default_factory=gc.isenabled)

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()


def run_again(source: Source, tell: Tell, *, play: bool = False) -> Folded:
    """Fold the range under the rules of its ticks and compare the outputs byte for byte.

    With ``play`` the commands are given to cameras that always answer, and the ends compared.
    """
    began_s = time.perf_counter()
    parts: list[Again] = []
    played = Played() if play else None
    with _Quiet():
        for number in source.partitions:
            player = Player() if play else None
            part = fold_again(
                source.log,
                number,
                source.codec,
                source.from_ms,
                source.to_ms,
                lambda ticks, at_ms, n=number: tell(n, ticks, at_ms),  # type: ignore[misc]
                player,
                source.read_rows,
            )
            parts.append(part)
            if player is not None and played is not None:
                played.add(
                    compare_results(source.log, number, source.codec, player, source.from_ms)
                )
    return Folded(parts, time.perf_counter() - began_s, played)


def run_what_if(source: Source, asked: WhatIfFile, tell: Tell, *, always: bool) -> Compared:
    """Fold the range as it was and under another policy."""
    began_s = time.perf_counter()
    profiles = read_profiles(source) if asked.needs_profiles else []
    policy = asked.resolved(profiles)
    total = Difference()
    parts: list[PartitionDifference] = []
    with _Quiet():
        for number in source.partitions:
            part = what_if(
                source.log,
                number,
                source.codec,
                policy,
                source.from_ms,
                source.to_ms,
                published,
                always=always,
                tell=lambda ticks, at_ms, n=number: tell(n, ticks, at_ms),  # type: ignore[misc]
                read_rows=source.read_rows,
            )
            parts.append(part)
            total.add(part.difference)
    if not sum(part.ticks for part in parts):
        raise UsageError("There is no tick in this range: the wheel was not running then.")
    return Compared(total, parts, time.perf_counter() - began_s, len(profiles))


def published(row: ScheduleState, policy: CapturePolicy, request_id: str) -> ScheduleUpserted:
    """Return the event by which upstream would have published a schedule with another policy."""
    return ScheduleUpserted(
        request_id, row.device_id, row.schedule_id, row.spec, policy, row.starts_at_ms
    )


def read_profiles(
    source: Source, partitions: Sequence[int] | None = None, before_ms: int | None = None
) -> list[DeviceProfile]:
    """Return the devices that the log knows, by id; the newest profile of each counts.

    ``before_ms``: of those published before then, where one is kept.
    """
    log, codec = source.log, source.codec
    firsts, ends = log.firsts(PROFILES), log.ends(PROFILES)
    found: dict[str, DeviceProfile] = {}
    until_ms = now_ms() if before_ms is None else before_ms
    for number in source.partitions if partitions is None else partitions:
        for batch in log.read(PROFILES, number, firsts[number], ends[number]):
            for entry in batch:
                if entry.value is None:
                    if entry.key is not None and entry.timestamp_ms < until_ms:
                        found.pop(entry.key.decode(errors="replace"), None)
                    continue
                profile = codec.decode_as(entry.value, DeviceProfile)
                # Compaction may have left only a later one: better than none.
                if entry.timestamp_ms < until_ms or profile.device_id not in found:
                    found[profile.device_id] = profile
    return sorted((one for one in found.values() if not one.removed), key=lambda one: one.device_id)
