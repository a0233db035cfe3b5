"""The queue between a publisher and the broker: idempotent, bounded, with reports of delivery."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from connectors.clients.kafka import (
    POLL_S,
    common_settings,
    in_words,
    partitions_of,
    setting_error,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import KafkaError, Message

    Delivered = Callable[[KafkaError | None, Message], None]

QUEUE_RECORDS = 50_000
"""Records that may wait in memory for the broker; then publishing waits."""
QUEUE_KBYTES = 64 * 1_024
WRITE_TIMEOUT_MS = 10_000
"""After this a record that the broker did not acknowledge has failed."""


class Outbox:
    """One producer. May be shared between threads."""

    def __init__(self, kafka: str, client: Mapping[str, str] | None, timeout_s: float) -> None:
        """Make the producer; ``timeout_s`` bounds the wait for room. UsageError: bad settings."""
        self._kafka = kafka
        self._timeout_s = timeout_s
        settings = {
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.timeout.ms": WRITE_TIMEOUT_MS,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            **common_settings(kafka, client),
            "enable.idempotence": True,  # with it, acks=all
        }
        try:
            self._producer = Producer(settings)
        except Exception as error:
            raise setting_error(error) from error

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; BrokerError: no answer, or no such topic."""
        return partitions_of(self._producer, self._kafka, topic, self._timeout_s)

    def put(
        self, topic: str, key: bytes, value: bytes | None, partition: int, delivered: Delivered
    ) -> None:
        """Queue a record; ``delivered`` hears what became of it, from :meth:`serve`.

        Waits where the queue is full. Raises :class:`BrokerError` if no room comes, or the record
        cannot be sent at all.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(topic, value, key, partition, on_delivery=delivered)
            except BufferError:
                if time.monotonic() > deadline_s:
                    raise unreachable(self._kafka, self._timeout_s) from None
                self._producer.poll(POLL_S)
            except KafkaException as error:
                raise in_words(error.args[0], self._kafka) from error
            else:
                self._producer.poll(0)
                return

    def serve(self, timeout_s: float) -> int:
        """Hand out reports of delivery; return how many."""
        return self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait until every record is delivered or has failed; return how many are still out."""
        return self._producer.flush(timeout_s)

    def close(self) -> None:
        """Drop what is still out, and close the connections."""
        self._producer.purge()
        self._producer.close()
