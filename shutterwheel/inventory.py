"""What a cluster has: its devices and schedules, read once, and a manifest beside them.

Cost: compacted topics are read to their ends, at some 10 µs a record; of one device, one partition.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.clients.events import now_ms
from connectors.clients.kafka import make_codec
from connectors.clients.scan import Scanner
from infra.kafka.topics import topic_name
from schemas.records import DeviceProfile, ScheduleState
from shutterwheel.outlook import warnings_of
from shutterwheel.plan import Ownership, make_plan
from streams.core.ids import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shutterwheel.context import Cluster
    from shutterwheel.manifest import Manifest
    from shutterwheel.plan import Plan

SCHEDULES: Final = "wheel.schedules.changelog"
PROFILES: Final = "device.profiles"


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
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        if asked.devices or asked.has_groups or asked.needs_places:
            with waiting("reading the devices", quiet=quiet):
                profiles = _profiles(scanner, cluster)
        expanded, warnings = asked.expand(profiles)
        if asked.schedules or asked.owner:
            concerns = Ownership.of(expanded).concerns
            with waiting("reading the schedules", quiet=quiet):
                topic = topic_name(cluster.namespace, SCHEDULES)
                rows = scanner.table(topic, ScheduleState, None, concerns)
    at_ms = now_ms()
    surprises = warnings_of(expanded, profiles, at_ms)
    plan = make_plan(expanded, profiles, rows, at_ms, force=force)
    return Compared(expanded, plan, (*warnings, *surprises), tuple(profiles))


def read_rows(cluster: Cluster, device_id: str | None = None) -> list[ScheduleState]:
    """Return the rows of the wheel's table, by device and schedule, or those of one device."""
    topic = topic_name(cluster.namespace, SCHEDULES)
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        if device_id is None:
            return scanner.table(topic, ScheduleState)
        begin = f"{device_id}\0".encode()
        home = partition_of(device_id, scanner.partitions(topic))
        return scanner.table(topic, ScheduleState, home, lambda key: key.startswith(begin))


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
