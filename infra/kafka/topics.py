"""The one definition of topics: who writes what where, how it is keyed, and how long it is kept.

Three places are served by it: the embedded broker and any other cluster (``create_topics``), and
the generated ``docker-compose.kafka.yml`` (``infra.kafka.compose``). A topic has **one writer**:
that is its access-control list, and it answers 'who could have written this'.

Every topic has the same number of partitions P, a power of two up to 1,024, so that a device's
records lie on the same partition number everywhere (``shard mod P``) and one task can own them
all. That holds for the changelogs and for ``dead.letters`` too.

Names carry an optional namespace, so that a replay can be poured into a sandbox:
``topic_name("", "schedule.events")`` is ``schedule.events`` and
``topic_name("sandbox", "schedule.events")`` is ``sandbox.schedule.events``.

**Compacted topics.** Kafka compacts closed segments only, so what a recovering worker has to read
is the live rows plus everything since the last segment was closed and cleaned. The defaults (1 GiB
or 7 days a segment, half of it dirty) would make that half a gigabyte a partition for a table of
a few megabytes; 64 MiB or one hour bounds it at a second or two of reading. Tombstones and
transaction markers are kept a day: a reader that began before a deletion must still see it, and
no recovery takes a day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from schemas import records as r
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

Cleanup = Literal["delete", "compact"]
TimestampType = Literal["CreateTime", "LogAppendTime"]

MAX_PARTITIONS = 1024
"""Logical shards; a partition holds at least one."""
DEFAULT_PARTITIONS = 8

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LONG_MS = 30 * DAY_MS
"""What audit, replay and restore can reach back to."""

LOG_BYTES_AN_INDEX_BYTE = 256
"""An index takes 12 bytes for each 4,096 of its log at most, so a segment is full before its index.
Kafka's own 10 MiB lie in memory as a hole, of which the first write has the kernel fill as much as
it reads ahead: with 8 MiB, as some machines have it, 7 ms a partition and topic, and as much page
cache."""

_MEBIBYTE = 1024 * 1024
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_DELETE_SETTINGS: tuple[tuple[str, str], ...] = (
    # A whole segment is dropped at a time: 256 MiB keeps what lies beyond the retention small.
    ("segment.bytes", str(256 * _MEBIBYTE)),
)
_COMPACT_SETTINGS: tuple[tuple[str, str], ...] = (
    ("segment.bytes", str(64 * _MEBIBYTE)),
    ("segment.ms", str(HOUR_MS)),
    ("min.cleanable.dirty.ratio", "0.2"),
    ("delete.retention.ms", str(DAY_MS)),
    # Even a partition that is rarely written is compacted once a day.
    ("max.compaction.lag.ms", str(DAY_MS)),
)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic, without its namespace."""

    name: str
    records: tuple[type[r.Record], ...]
    """What may stand in it; in a compacted topic a null value besides, which deletes the key."""
    key: str
    """What the key's bytes are, in words."""
    writer: str
    """The only component that writes it."""
    cleanup: Cleanup
    retention_ms: int
    """How long a record is kept at least; -1 in a compacted topic: the newest of a key for ever."""
    timestamp_type: TimestampType = "CreateTime"
    extra: tuple[tuple[str, str], ...] = field(default=())
    """Topic settings beyond those that follow from ``cleanup``."""

    def config(self, replication: int) -> dict[str, str]:
        """Return the Kafka topic settings for this replication factor."""
        settings = _COMPACT_SETTINGS if self.cleanup == "compact" else _DELETE_SETTINGS
        own = {**dict(settings), **dict(self.extra)}
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "message.timestamp.type": self.timestamp_type,
            # With three copies one may be away and acknowledged records still have two.
            "min.insync.replicas": "2" if replication >= 3 else "1",
            "segment.index.bytes": str(int(own["segment.bytes"]) // LOG_BYTES_AN_INDEX_BYTE),
            **own,
        }


def _changelog(name: str, record: type[r.Record], key: str, writer: str) -> TopicSpec:
    return TopicSpec(name, (record,), key, writer, "compact", -1)


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(
        name="schedule.events",
        records=(
            r.ScheduleUpserted,
            r.ScheduleCancelled,
            r.SchedulePaused,
            r.ScheduleResumed,
            r.CaptureRequested,
        ),
        key="device_id",
        writer="upstream",
        cleanup="delete",
        retention_ms=LONG_MS,
    ),
    TopicSpec(
        name="schedule.ticks",
        records=(r.ScheduleTick, r.PartitionSnapshot),
        key="partition",
        writer="timing wheel",
        cleanup="delete",
        retention_ms=LONG_MS,
        # The broker's clock stands beside the wheel's own in each tick: the wheel compares them.
        timestamp_type="LogAppendTime",
    ),
    TopicSpec(
        name="schedule.decisions",
        records=(r.Accepted, r.AlreadyKnown, r.Refused, r.Skipped, r.AutoPaused, r.Ended),
        key="device_id",
        writer="timing wheel",
        cleanup="delete",
        retention_ms=LONG_MS,
    ),
    TopicSpec(
        name="capture.commands",
        records=(r.CaptureCommand, r.CaptureRevoked),
        key="device_id",
        writer="timing wheel",
        cleanup="delete",
        retention_ms=7 * DAY_MS,
    ),
    TopicSpec(
        name="capture.results",
        records=(r.CaptureResult,),
        key="device_id",
        writer="state machine",
        cleanup="delete",
        retention_ms=LONG_MS,
    ),
    TopicSpec(
        name="device.heartbeats",
        records=(r.DeviceHeartbeat,),
        key="device_id",
        writer="gateway, pollers",
        cleanup="delete",
        retention_ms=6 * HOUR_MS,
        # When a device was heard of is the broker's word: no sender's clock puts it off or on.
        timestamp_type="LogAppendTime",
        # The default segment lives 7 days, and only whole segments are dropped.
        extra=(("segment.ms", str(HOUR_MS)), ("segment.bytes", str(64 * _MEBIBYTE))),
    ),
    TopicSpec(
        name="device.loads",
        records=(r.DeviceLoad,),
        key="device_id",
        writer="device health",
        cleanup="delete",
        retention_ms=HOUR_MS,
        extra=(("segment.ms", str(HOUR_MS)), ("segment.bytes", str(64 * _MEBIBYTE))),
    ),
    TopicSpec(
        name="device.profiles",
        records=(r.DeviceProfile,),
        key="device_id",
        writer="discovery, operator",
        cleanup="compact",
        retention_ms=-1,
    ),
    TopicSpec(
        name="device.events",
        records=(
            r.DeviceOnline,
            r.DeviceOffline,
            r.DeviceFailing,
            r.DeviceReset,
            r.DeviceRecovered,
        ),
        key="device_id",
        # Failing and recovered are the state machine's, the others device health's (ADR 0012).
        writer="state machine, device health",
        cleanup="delete",
        retention_ms=7 * DAY_MS,
    ),
    TopicSpec(
        name="dead.letters",
        records=(r.DeadLetter,),
        key="as it was",
        writer="any",
        cleanup="delete",
        retention_ms=LONG_MS,
        # A dead letter wraps the record as it was: one of the largest size must still fit.
        extra=(("max.message.bytes", str(2 * _MEBIBYTE)),),
    ),
    _changelog(
        "wheel.schedules.changelog",
        r.ScheduleState,
        'device_id + "\\0" + schedule_id',
        "timing wheel",
    ),
    _changelog("wheel.shards.changelog", r.ShardState, "shard, ascii decimal", "timing wheel"),
    _changelog(
        "wheel.requests.changelog",
        r.RequestState,
        'device_id + "\\0" + request_id',
        "timing wheel",
    ),
    _changelog("wheel.facts.changelog", r.DeviceFacts, "device_id", "timing wheel"),
    TopicSpec(
        "captures.captures.changelog",
        (r.OpenCapture, r.DeviceCaptures),
        'device_id + "\\0" + command_id, or device_id',
        "state machine",
        "compact",
        -1,
        # No capture is armed or expired by a clock that is not the broker's: see capture_state.py.
        timestamp_type="LogAppendTime",
    ),
    TopicSpec(
        "devices.health.changelog",
        (r.DeviceHealth,),
        "device_id",
        "device health",
        "compact",
        -1,
        # Nobody is announced by a clock that is not the broker's: see device_health.py.
        timestamp_type="LogAppendTime",
    ),
    _changelog("captures.profiles.changelog", r.DeviceProfile, "device_id", "capture executor"),
)
"""Every topic of the system."""

_BY_NAME = {spec.name: spec for spec in TOPICS}


def topic(name: str) -> TopicSpec:
    """Return the definition of the topic ``name`` (without a namespace).

    Raises:
        KeyError: there is no such topic; that is a bug in the caller.

    """
    return _BY_NAME[name]


def check_namespace(namespace: str) -> str:
    """Return ``namespace`` as it is if it may be one.

    Raises:
        UsageError: it is not empty and not 1 to 64 ASCII letters, digits, ``-`` or ``_``.

    """
    if namespace and not _NAMESPACE.fullmatch(namespace):
        message = (
            f"The namespace {namespace!r} cannot be used: 1 to 64 ASCII letters, digits, '-' or "
            "'_', beginning with a letter or digit, were expected."
        )
        raise UsageError(message)
    return namespace


def topic_name(namespace: str, name: str) -> str:
    """Return the topic's name on the broker: ``NS.name``, or ``name`` where NS is empty."""
    return f"{check_namespace(namespace)}.{name}" if namespace else name


def check_partitions(partitions: int) -> int:
    """Return ``partitions`` as it is if it is a power of two from 1 to 1,024.

    Raises:
        UsageError: it is not. Devices belong to 1,024 logical shards, and a partition holds
            ``1024 / partitions`` of them.

    """
    if not 1 <= partitions <= MAX_PARTITIONS or partitions & (partitions - 1):
        message = (
            f"{partitions} partitions cannot be: a power of two from 1 to {MAX_PARTITIONS} was "
            "expected."
        )
        raise UsageError(message)
    return partitions


def names(namespace: str, specs: Iterable[TopicSpec] = TOPICS) -> list[str]:
    """Return the names on the broker of these topics, in the order of their definition."""
    return [topic_name(namespace, spec.name) for spec in specs]
