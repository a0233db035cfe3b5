"""Reads what a topic holds now, to its end, once: tables for people, and look-ups.

The end is what is committed when it is reached. A compacted topic comes out as the newest value of
each key; a partition at a time can be asked for, so that one device costs one partition.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from connectors.clients.kafka import (
    CONNECT_TIMEOUT_S,
    POLL_S,
    ask,
    in_words,
    partitions_of,
    reader,
    take,
    unreachable,
)
from schemas.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Consumer, Message

    from schemas.codec import Codec

R = TypeVar("R", bound=Record)

STALL_S = 15.0
"""How long nothing may come before the end is reached."""


class Scanner:
    """A connection that reads topics to their ends."""

    def __init__(self, kafka: str, codec: Codec, client: Mapping[str, str] | None = None) -> None:
        self._kafka = kafka
        self._codec = codec
        self._consumer: Consumer = reader(kafka, client)

    def partitions(self, topic: str, timeout_s: float = CONNECT_TIMEOUT_S) -> int:
        """Return how many partitions a topic has; BrokerError if there is no answer or topic."""
        return partitions_of(self._consumer, self._kafka, topic, timeout_s)

    def messages(
        self, topic: str, partition: int | None = None, since_ms: int | None = None
    ) -> Iterator[Message]:
        """Give every committed record of a topic (or one partition), oldest first in each.

        ``since_ms``: only from the first record on that was written at this time or later.
        Raises :class:`BrokerError` for no answer, no topic, or an end that is not reached.
        """
        from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

        wanted = range(self.partitions(topic)) if partition is None else [partition]
        places = [TopicPartition(topic, n, OFFSET_BEGINNING) for n in wanted]
        if since_ms is not None:
            asked = [TopicPartition(topic, n, since_ms) for n in wanted]
            places = ask(
                self._kafka,
                lambda rest_s: self._consumer.offsets_for_times(asked, timeout=rest_s),
            )
        self._consumer.assign(places)
        open_ = set(wanted)
        moved_s = time.monotonic()
        while open_:
            for message in take(self._consumer, POLL_S):
                moved_s = time.monotonic()
                problem = message.error()
                if problem is None:
                    yield message
                elif problem.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    open_.discard(message.partition() or 0)
                elif not problem.retriable():
                    raise in_words(problem, self._kafka)
            if time.monotonic() - moved_s > STALL_S:
                raise unreachable(self._kafka, STALL_S)
        self._consumer.unassign()

    def table(
        self,
        topic: str,
        cls: type[R],
        partition: int | None = None,
        wanted: Callable[[bytes], bool] = lambda _key: True,
    ) -> list[R]:
        """Return the rows of a compacted topic whose key is wanted, in the order of their keys.

        Raises :class:`BrokerError` as :meth:`messages`, :class:`DecodeError` for a row that is not
        a ``cls``.
        """
        values = self.values(topic, partition, wanted)
        return [self._codec.decode_as(value, cls) for value in values]

    def values(
        self,
        topic: str,
        partition: int | None = None,
        wanted: Callable[[bytes], bool] = lambda _key: True,
    ) -> list[bytes]:
        """Return the newest value of each wanted key of a compacted topic, in the keys' order."""
        newest: dict[bytes, bytes] = {}
        for message in self.messages(topic, partition):
            key, value = message.key() or b"", message.value()
            if value is None:
                newest.pop(key, None)
            elif wanted(key):
                newest[key] = value
        return [newest[key] for key in sorted(newest)]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def __enter__(self) -> Scanner:  # noqa: PYI034 - made by this class alone
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
