"""Marks: written before a log is read, so that what is read cannot be of the past.

A broker that was stopped for longer than its session and wakes believes for a while that it leads
what it led. It then tells where a partition ends, or which offsets a group has committed, as they
were when it was stopped: up to 0.2 s long, on three embedded brokers. State recovered from such an
answer is older than the log, and nothing later would notice.

What such a broker cannot do is to acknowledge a write, as its followers follow another. So whoever
must not read the past writes a mark first, and has read far enough when the mark was read:

* in **each changelog partition** a tombstone under a key that no table uses. Where it was written
  to is where reading must get to. No record of an earlier owner can be committed behind it: the
  group's generation has passed by then, and offsets are sent after the flush.
* among **the group's offsets** a number, committed by us as the member that we are, for a partition
  the group does not read. An answer to the question for offsets counts if it holds the number: then
  it also holds what was sent before, as all offsets of a group stand in one partition. (A number,
  as librdkafka does not hand the metadata of offsets on unharmed: ``handover.py``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, Message, Producer

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable

TopicAndPartition = tuple[str, int]

KEY: Final = b"\x00mark"
"""No device id and no shard's number has a NUL in front."""


def mark_changelogs(
    bootstrap: str, partitions: Iterable[TopicAndPartition], timeout_ms: int
) -> dict[TopicAndPartition, int]:
    """Write a mark to each of these partitions; return the offset after it.

    Raises:
        BrokerError: one was not acknowledged within ``timeout_ms``.

    """
    wanted = list(partitions)
    ends: dict[TopicAndPartition, int] = {}
    failures: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(f"{message.topic()}-{message.partition()}: {error.str()}")
        else:
            ends[str(message.topic()), int(message.partition() or 0)] = (message.offset() or 0) + 1

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "linger.ms": 0,
            "message.timeout.ms": timeout_ms,
            "log_level": 2,
        }
    )
    for topic, partition in wanted:
        producer.produce(topic, None, KEY, partition, delivered)
    producer.flush(timeout_ms / 1000.0)
    if len(ends) < len(wanted):
        why = failures[0] if failures else "no answer"
        raise BrokerError(
            f"{len(wanted) - len(ends)} of {len(wanted)} changelog partitions cannot be written "
            f"to ({why})."
        )
    return ends
