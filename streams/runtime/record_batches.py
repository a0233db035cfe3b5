"""Outputs of a transaction as Kafka's record batches, in rounds of requests.

A batch is one partition's, of up to a megabyte, with the producer's id, its epoch and the sequence
of its first record: a broker takes each batch once however often it is sent, and in order. A
partition that has more than one batch sends them one after another, each in a round of its own.
aiokafka's builder (compiled) makes the bytes: half a microsecond a record, where handing a record
to librdkafka and having it sent takes three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka.record._protocols import DefaultRecordBatchBuilderProtocol as Builder

    from streams.runtime.batch import Message
    from streams.runtime.wire import Producer, TopicPartition

BATCH_BYTES: Final = 1_000_000
"""Less than what brokers take by default (message.max.bytes); a larger record goes alone."""
_MAGIC: Final = 2
_NO_COMPRESSION: Final = 0
_TRANSACTIONAL: Final = 1
_SEQUENCES: Final = 0x7FFFFFFF


@dataclass(slots=True)
class Built:
    """A batch that is ready to be sent."""

    data: bytearray
    records: int
    last: bool = False
    """Whether it is its partition's last one of the transaction."""


@dataclass(slots=True)
class Round:
    """What goes in one request a broker: one batch a partition."""

    batches: dict[TopicPartition, Built] = field(default_factory=dict)
    size: int = 0


class RecordBatches:
    """Builds batches; keeps the sequence of each partition over the life of a producer's epoch."""

    def __init__(self, producer: Producer, request_bytes: int) -> None:
        """Take who we are, and the bytes beyond which a round takes no further batch."""
        self._producer = producer
        self._request_bytes = request_bytes
        self._next: dict[TopicPartition, int] = {}

    def build(
        self, outputs: Iterable[tuple[TopicPartition, list[Message]]], now_ms: int
    ) -> list[Round]:
        """Return the rounds in which these messages go, those of a partition in their order."""
        rounds: list[Round] = []
        for place, messages in outputs:
            built = self._batches(place, messages, now_ms)
            built[-1].last = True
            number = 0
            for batch in built:
                while number < len(rounds) and (
                    rounds[number].size + len(batch.data) > self._request_bytes
                ):
                    number += 1
                if number == len(rounds):
                    rounds.append(Round())
                rounds[number].batches[place] = batch
                rounds[number].size += len(batch.data)
                number += 1
        return rounds

    def _batches(self, place: TopicPartition, messages: list[Message], now_ms: int) -> list[Built]:
        limit = min(BATCH_BYTES, self._request_bytes)
        built: list[Built] = []
        builder, count = self._builder(place, limit), 0
        append = builder.append
        for key, value, _ in messages:
            if append(count, now_ms, key, value, []) is None:
                built.append(self._finish(place, builder, count))
                builder, count = self._builder(place, limit), 0
                append = builder.append
                append(0, now_ms, key, value, [])
            count += 1
        built.append(self._finish(place, builder, count))
        return built

    def _builder(self, place: TopicPartition, limit: int) -> Builder:
        return DefaultRecordBatchBuilder(
            _MAGIC,
            _NO_COMPRESSION,
            _TRANSACTIONAL,
            *self._producer,
            self._next.get(place, 0),
            limit,
        )

    def _finish(self, place: TopicPartition, builder: Builder, count: int) -> Built:
        self._next[place] = (self._next.get(place, 0) + count) & _SEQUENCES
        return Built(builder.build(), count)


def by_partition(
    outputs: Iterable[tuple[str, list[Message]]],
) -> dict[TopicPartition, list[Message]]:
    """Sort messages by topic and partition, those of one partition in their order."""
    found: dict[TopicPartition, list[Message]] = {}
    for topic, messages in outputs:
        for message in messages:
            place = (topic, message[2])
            rows = found.get(place)
            if rows is None:
                found[place] = [message]
            else:
                rows.append(message)
    return found
