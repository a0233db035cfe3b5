"""Follows device.profiles: all there is, then whatever comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.clients.kafka import (
    CONNECT_TIMEOUT_S,
    POLL_S,
    in_words,
    partitions_of,
    reader,
    take,
)
from infra.kafka.topics import topic_name
from schemas.errors import DecodeError
from schemas.records import DeviceProfile

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from schemas.codec import Codec

PROFILES: Final = "device.profiles"


@dataclass(frozen=True, slots=True)
class News:
    """What came of device.profiles at once."""

    profiles: tuple[DeviceProfile, ...]
    gone: tuple[str, ...]
    """Devices whose profile was deleted."""
    whole: bool
    """Everything there was at the beginning has come by now."""


def follow_profiles(
    kafka: str, namespace: str, codec: Codec, tell: Callable[[News], None], stop: Event
) -> None:
    """Tell of profiles, in order of each device, until told to stop. Blocks: a thread of its own.

    A profile that cannot be read is left out; the captures app dead-letters it.

    Raises:
        BrokerError: no broker answers at first, there is no such topic, or it can be read no more.

    """
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    topic = topic_name(namespace, PROFILES)
    consumer = reader(kafka, None)
    try:
        waiting = set(range(partitions_of(consumer, kafka, topic, CONNECT_TIMEOUT_S)))
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in waiting])
        while not stop.is_set():
            profiles: list[DeviceProfile] = []
            gone: list[str] = []
            began_whole = not waiting
            for message in take(consumer, POLL_S):
                problem = message.error()
                if problem is not None:
                    if problem.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                        waiting.discard(message.partition() or 0)
                    elif not problem.retriable():
                        raise in_words(problem, kafka)
                    continue
                value = message.value()
                try:
                    if value is None:
                        gone.append((message.key() or b"").decode())
                    else:
                        profiles.append(codec.decode_as(value, DeviceProfile))
                except (DecodeError, UnicodeDecodeError):
                    continue
            if profiles or gone or began_whole == bool(waiting):
                tell(News(tuple(profiles), tuple(gone), not waiting))
    finally:
        consumer.close()
