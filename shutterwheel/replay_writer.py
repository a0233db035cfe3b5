"""Writes records into a sandbox's topics, each onto the partition it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.kafka.topics import topic_name
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from shutterwheel.replay_pour import Poured

FLUSH_S: Final = 60.0


class SandboxWriter:
    """One producer for all topics of a sandbox. BrokerError where it cannot write."""

    def __init__(self, kafka: str, namespace: str) -> None:
        from confluent_kafka import Producer

        self._namespace = namespace
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "enable.idempotence": True,
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )

    def write(self, records: list[Poured]) -> None:
        """Hand records to the producer."""
        for one in records:
            while True:
                try:
                    self._producer.produce(
                        topic_name(self._namespace, one.topic),
                        one.value,
                        one.key,
                        one.partition,
                        on_delivery=self._delivered,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self.poll()

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))

    def poll(self) -> None:
        """Look what became of them."""
        self._producer.poll(0)
        if self._failed:
            raise BrokerError(f"The sandbox could not be written: {self._failed[0]}.")

    def flush(self) -> None:
        """Wait until all have been written."""
        left = self._producer.flush(FLUSH_S)
        self.poll()
        if left:
            raise BrokerError(f"{left:,} records could not be written within {FLUSH_S:.0f} s.")
