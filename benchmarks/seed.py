"""Puts a large fleet's schedules where the wheel would have left them, without waiting for it.

To publish 1.2 million schedules takes minutes, in which those that are there fire already. So the
events, the answers to them, the rows and the wheel's offsets are written as they would be had all
been accepted in one tick; none is due before ``starts_at_ms``. A wheel that is started then
recovers them as after any other start, and the checker (``shutterwheel/check.py``) reads the same
topics as ever. Profiles are published; the captures worker takes them in itself.

Cost: 12 microseconds a profile, 40 a schedule.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from benchmarks.load import PARTITIONS, SCHEDULE, device_ids, profiles
from connectors.clients import events
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import Accepted, ScheduleState, ShardState
from streams.agents import capture_executor, device_profiles, timing_wheel
from streams.core import ids
from streams.core.partition import CLOCK_KEY, CLOCK_SHARD, schedule_key

if TYPE_CHECKING:
    from benchmarks.load import Rig

DECISIONS: Final = "schedule.decisions"
FLUSH_S: Final = 60.0
KNOWN_S: Final = 240.0
"""The longest that the captures workers may take to know a fleet."""
ROOM: Final = 200_000
"""Records that wait in the producer at most."""
LOOK: Final = 2_000


class Writer:
    """Writes records of any topic of a namespace as fast as the broker takes them."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._namespace = namespace
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,  # else batches may change places
                "linger.ms": 20,
                "batch.size": 256 * 1024,
                "queue.buffering.max.messages": 2 * ROOM,
            }
        )
        self._written = 0

    def put(
        self, topic: str, key: bytes, value: bytes | None, partition: int, at_ms: int = 0
    ) -> None:
        """Write one record, ``None`` deletes; ``at_ms``: its time, 0: now, none to come."""
        name = topic_name(self._namespace, topic)
        self._producer.produce(name, value, key, partition, timestamp=at_ms)
        self._written += 1
        if self._written % LOOK == 0:
            self._producer.poll(0)
            while len(self._producer) > ROOM:
                self._producer.poll(0.05)

    def flush(self) -> None:
        """Wait until the broker has all of it.

        Raises:
            BrokerError: it does not come to have it.

        """
        if self._producer.flush(FLUSH_S):
            raise BrokerError("The fleet could not be written in time.")


def write_profiles(rig: Rig, namespace: str, devices: int) -> None:
    """Publish the profiles of null cameras."""
    writer, encode = Writer(rig.kafka, namespace), make_codec().encode
    for profile in profiles(devices, None):
        device_id = profile.device_id
        home = ids.partition_of(device_id, PARTITIONS)
        writer.put(device_profiles.TOPIC, device_id.encode(), encode(profile), home)
    writer.flush()


def known(rig: Rig, namespace: str) -> int:
    """Return how many profiles the captures workers have taken in."""
    topic = topic_name(namespace, capture_executor.CHANGELOGS[device_profiles.TABLE])
    parts = [(topic, number) for number in range(PARTITIONS)]
    return sum(list_offsets(admin_client(rig.kafka), parts, "latest", FLUSH_S).values())


def write_schedules(
    rig: Rig, namespace: str, devices: int, every_ms: int, starts_at_ms: int
) -> None:
    """Write a schedule of each device, spread over its whole period, and what became of it."""
    writer, encode = Writer(rig.kafka, namespace), make_codec().encode
    now_ms = time.time_ns() // 1_000_000
    for number, device_id in enumerate(device_ids(devices), 1):
        event = events.upserted(
            device_id, SCHEDULE, every=every_ms, spread=every_ms, request_id=f"seed-{number}"
        )
        answer = Accepted(
            request_id=event.request_id,
            device_id=device_id,
            schedule_id=SCHEDULE,
            epoch=number,
            tick_time_ms=now_ms,
            starts_at_ms=starts_at_ms,
            change=type(event).__name__,
        )
        row = ScheduleState(
            device_id, SCHEDULE, number, event.spec, event.policy, starts_at_ms, paused=False
        )
        home, key = ids.partition_of(device_id, PARTITIONS), device_id.encode()
        writer.put(timing_wheel.EVENTS, key, encode(event), home)
        writer.put(DECISIONS, key, encode(answer), home)
        row_key = schedule_key(device_id, SCHEDULE).encode()
        writer.put(timing_wheel.CHANGELOGS["schedules"], row_key, encode(row), home)
    clock = encode(ShardState(CLOCK_SHARD, now_ms, 0, 0))
    for partition in range(PARTITIONS):
        writer.put(timing_wheel.CHANGELOGS["shards"], CLOCK_KEY, clock, partition)
    writer.flush()
    _commit(rig, namespace)


def _commit(rig: Rig, namespace: str) -> None:
    """Have the wheel's group stand at the end of the events: it has answered them."""
    admin, topic = admin_client(rig.kafka), topic_name(namespace, timing_wheel.EVENTS)
    parts = [(topic, number) for number in range(PARTITIONS)]
    ends = list_offsets(admin, parts, "latest", FLUSH_S)
    group = f"{namespace}.{timing_wheel.APP}"
    at = [TopicPartition(*part, end) for part, end in ends.items()]
    asked = ConsumerGroupTopicPartitions(group, at)
    admin.alter_consumer_group_offsets([asked])[group].result(FLUSH_S)
