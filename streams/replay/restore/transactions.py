"""Transactions of a restore: for gaps that are long, and clusters that let nobody write markers.

Several partitions share one: it costs some 10 ms. A broker tells the offset of each first record.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias

from confluent_kafka import KafkaException, Producer

from infra.kafka.offsets import list_offsets
from schemas.errors import BrokerError
from streams.replay.log import SILENCE_S, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError, Message
    from confluent_kafka.admin import AdminClient

    DeliveryCall: TypeAlias = Callable[[KafkaError | None, Message], None]

PAUSE_S: Final = 0.005


Run: TypeAlias = tuple[str, int, int, list[Entry]]
"""Topic, partition, offset of the first record, records."""


class Transactions:
    """Writes transactions under an identity of its own. BrokerError."""

    def __init__(self, kafka: str, admin: AdminClient, identity: str) -> None:
        self._kafka = kafka
        self._admin = admin
        self._identity = identity
        self._made: Producer | None = None
        self._failed: list[str] = []
        self._marked: dict[tuple[str, int], int] = {}
        """Ends of partitions whose last marker may not be there yet."""
        self.count = 0

    def write(self, runs: Iterable[Run], *, commit: bool) -> None:
        """Write these records and end the transaction."""
        producer = self._producer()
        self.count += 1
        try:
            producer.begin_transaction()
            for name, partition, at, entries in runs:
                self._produce(producer, name, partition, entries, self._expect(name, partition, at))
                self._marked[name, partition] = at + len(entries) + 1
            self._flush(producer)
            if commit:
                producer.commit_transaction(SILENCE_S)
            else:
                producer.abort_transaction(SILENCE_S)
        except KafkaException as error:
            raise BrokerError(f"{self._kafka} ends no transaction: {error}.") from error

    def await_markers(self) -> None:
        """Wait until markers are written: a transaction ends a moment before they are."""
        expected, self._marked = self._marked, {}
        deadline = time.monotonic() + SILENCE_S
        while expected:
            found = list_offsets(self._admin, expected, "latest", SILENCE_S)
            expected = {place: at for place, at in expected.items() if found[place] < at}
            if expected and time.monotonic() > deadline:
                name, partition = next(iter(expected))
                raise BrokerError(f"{name}-{partition} has no end of its transaction.")
            if expected:
                time.sleep(PAUSE_S)

    def _producer(self) -> Producer:
        """Return the producer, made when the first transaction is."""
        if self._made is None:
            self._made = Producer(
                {
                    "bootstrap.servers": self._kafka,
                    "transactional.id": self._identity,
                    "linger.ms": 0,  # a transaction is sent as soon as it is whole
                    "batch.size": 1_000_000,
                    "message.max.bytes": 2_200_000,
                    "compression.type": "zstd",
                    "log_level": 2,
                }
            )
            try:
                self._made.init_transactions(SILENCE_S)
            except KafkaException as error:
                raise BrokerError(f"{self._kafka} begins no transaction: {error}.") from error
        return self._made

    def _expect(self, name: str, partition: int, offset: int) -> DeliveryCall:
        """Return the delivery call of a first record: it must lie where it lay."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed.append(f"{name}-{partition}: {error.str()}")
            elif message.offset() != offset:
                self._failed.append(
                    f"{name}-{partition}: offset {message.offset()} where {offset} was expected; "
                    "somebody else writes there"
                )

        return delivered

    def _produce(
        self,
        producer: Producer,
        name: str,
        partition: int,
        entries: list[Entry],
        call: DeliveryCall,
    ) -> None:
        """Hand entries to the producer in their order; ``call``: told of the first of them."""
        told: DeliveryCall | None = call
        for _, at_ms, key, value in entries:
            while True:
                try:
                    producer.produce(name, value, key, partition, told, timestamp=at_ms)
                    break
                except BufferError:
                    self._await_room(producer)
            told = None
        producer.poll(0)

    def _await_room(self, producer: Producer) -> None:
        waiting, deadline = len(producer), time.monotonic() + SILENCE_S
        while len(producer) >= waiting:
            producer.poll(0.05)
            if time.monotonic() > deadline:
                raise BrokerError(f"{self._kafka} takes no more records.")

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(SILENCE_S)
        if left:
            raise BrokerError(f"{left} records were not acknowledged in {SILENCE_S:.0f} s.")
        if self._failed:
            raise BrokerError(f"A record did not come to its place: {self._failed[0]}.")
