"""Reads whole topics as a committed reader sees them, to the end as it is now *uncommitted*.

Behind a decision that was seen, the marker of another partition may still be on its way, and what
a killed worker has left open hides everything behind it until the broker has aborted it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.kafka.admin import admin_client, cluster_metadata
from infra.kafka.offsets import list_offsets

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0


def values(kafka: str, topic: str) -> Iterator[bytes]:
    """Yield the values of a topic, in the order of each partition; no value is b""."""
    admin = admin_client(kafka)
    partitions = cluster_metadata(admin, kafka).topics[topic].partitions
    ends = list_offsets(admin, [(topic, number) for number in partitions], "latest", PATIENCE_S)
    waiting = {number: end for (_, number), end in ends.items() if end}
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "chain-reader",  # demanded; nothing is joined or committed
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in waiting])
        deadline_s = time.monotonic() + PATIENCE_S
        while waiting:
            assert time.monotonic() < deadline_s, f"{topic} does not get to {waiting}"
            for message in consumer.consume(5_000, 0.05):
                error = message.error()
                if error is None:
                    yield message.value() or b""
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise AssertionError(f"{topic}: {error.str()}")
                elif message.offset() >= waiting.get(message.partition(), 0):
                    waiting.pop(message.partition(), None)
    finally:
        consumer.close()
