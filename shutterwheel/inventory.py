"""What a cluster has: its devices and schedules, read once, and a manifest beside them.

Cost: compacted topics are read to their ends, at some 5 µs a record; of one device, one partition.
Rows of schedules are then taken apart at 2 to 4 µs each (``streams/agents/schedule_rows.py``).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.clients.events import now_ms
from connectors.clients.kafka import make_codec
from connectors.clients.scan import Scanner
from infra.kafka.topics import topic_name
from schemas.records import DeviceProfile, ScheduleState, ShardState
from shutterwheel.outlook import warnings_of
from shutterwheel.plan import Ownership, make_plan
from streams.agents.schedule_rows import schedule_rows
from streams.core.ids import partition_of
from streams.core.partition import TZ_SHARD
from streams.core.tz_behind import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.codec import Codec
    from shutterwheel.context import Cluster
    from shutterwheel.manifest import Manifest
    from shutterwheel.plan import Plan
    from streams.core.recurrence.zones import Zone

SCHEDULES: Final = "wheel.schedules.changelog"
PROFILES: Final = "device.profiles"
SHARDS: Final = "wheel.shards.changelog"


@dataclass(frozen=True, slots=True)
class Compared:
    """A file, expanded, and what applying it would do."""

    asked: Manifest
    plan: Plan
    warnings: tuple[str, ...]
    profiles: tuple[DeviceProfile, ...]


def compare(
    asked: Manifest, cluster: Cluster, *, force: bool = False, quiet: bool = False
) -> Compared:
    """Read what there is and compare.

    Reads device.profiles (if it matters) and the wheel's table to their ends, and decodes only the
    rows that the file is about. Raises :class:`BrokerError` if the broker does not answer.
    """
    profiles: list[DeviceProfile] = []
    rows: list[ScheduleState] = []
    codec = make_codec(cluster.registry)
    with Scanner(cluster.kafka, codec) as scanner:
        if asked.devices or asked.has_groups or asked.needs_places:
            with waiting("reading the devices", quiet=quiet):
                profiles = _profiles(scanner, cluster)
        expanded, warnings = asked.expand(profiles)
        if asked.schedules or asked.owner:
            concerns = Ownership.of(expanded).concerns
            with waiting("reading the schedules", quiet=quiet):
                topic = topic_name(cluster.namespace, SCHEDULES)
                rows = _rows(scanner.values(topic, None, concerns), codec)
    at_ms = now_ms()
    surprises = warnings_of(expanded, profiles, at_ms)
    plan = make_plan(expanded, profiles, rows, at_ms, force=force)
    return Compared(expanded, plan, (*warnings, *surprises), tuple(profiles))


def read_rows(cluster: Cluster, device_id: str | None = None) -> list[ScheduleState]:
    """Return the rows of the wheel's table, by device and schedule, or those of one device."""
    topic = topic_name(cluster.namespace, SCHEDULES)
    codec = make_codec(cluster.registry)
    with Scanner(cluster.kafka, codec) as scanner:
        if device_id is None:
            return _rows(scanner.values(topic), codec)
        begin = f"{device_id}\0".encode()
        home = partition_of(device_id, scanner.partitions(topic))
        return _rows(scanner.values(topic, home, lambda key: key.startswith(begin)), codec)


def _rows(values: list[bytes], codec: Codec) -> list[ScheduleState]:
    """Return rows by device and schedule; equal specs and policies are one object each."""
    found: list[ScheduleState] = []
    for group in schedule_rows(values, codec):
        like = group.like
        rest = [getattr(like, name) for name in ScheduleState.__struct_fields__[3:]]
        for key, epoch in zip(group.keys, group.epochs, strict=True):
            device_id, _, schedule_id = key.partition("\0")
            found.append(ScheduleState(device_id, schedule_id, epoch, *rest))
    found.sort(key=lambda row: (row.device_id, row.schedule_id))
    return found


def read_tz(cluster: Cluster) -> tuple[str, dict[str, Zone]]:
    """Return the version of the tz data of the wheel's last ticks, and the zones it has kept.

    Empty where it has noted none. Where partitions differ, as one has no worker, the least version.
    """
    topic = topic_name(cluster.namespace, SHARDS)
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        rows = scanner.table(topic, ShardState)
    tables = [row.tz for row in rows if row.tz is not None and row.shard == TZ_SHARD]
    version = min((table.version for table in tables), default="")
    kept = [table for table in tables if table.zone and table.version == version]
    return version, {table.zone: zone_of(table) for table in kept}


def read_profiles(cluster: Cluster, device_id: str | None = None) -> list[DeviceProfile]:
    """Return the devices there are, or the one that is asked for, if it is known."""
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        return _profiles(scanner, cluster, device_id)


def _profiles(
    scanner: Scanner, cluster: Cluster, device_id: str | None = None
) -> list[DeviceProfile]:
    topic = topic_name(cluster.namespace, PROFILES)
    if device_id is None:
        found = scanner.table(topic, DeviceProfile)
    else:
        home = partition_of(device_id, scanner.partitions(topic))
        key = device_id.encode()
        found = scanner.table(topic, DeviceProfile, home, lambda one: one == key)
    return [one for one in found if not one.removed]


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    from shutterwheel.show import console

    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield
    else:
        with out.status(what):
            yield
