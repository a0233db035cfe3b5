"""One batch, one Kafka transaction.

A transaction holds outputs, changelog records and the next input offsets, and is fenced by the
membership the batch was made under. ``Transactor.perform`` does all of it in one go in a thread:

    begin -> produce -> flush -> (clock check) -> send offsets (the fence) -> commit

The fence: the coordinator refuses the offsets of a generation that has passed. They are sent for
**every partition the batch touched**, unchanged where nothing was read, because an empty list
sends nothing and fences nothing. The flush comes before the fence, so that a failed delivery or a
broker whose clock disagrees is known while the transaction can still be thrown away.

Whatever goes wrong here, the process stops and is started again: a worker in doubt never carries
on. Only an answer that did not come is asked for again, as librdkafka allows for offsets and
commits, until the broker's patience is over.

The transactional.id is fixed for a slot: a restarted worker's ``init_transactions`` aborts what it
had left open. The transaction timeout (5 s) bounds how long a dead one can hold up readers, and how
long sending the offsets is awaited: by then everything else is acknowledged, the transaction is
open at the broker, and its time runs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from confluent_kafka import (
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
    libversion,
)

from schemas.errors import BrokerError, ClockError, FencedError, UsageError
from streams.runtime.faults import Faults
from streams.runtime.group import Membership, group_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message as Delivered

    from streams.runtime.batch import Batch, Message
    from streams.runtime.settings import RuntimeSettings

_FENCED = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)

_POLL_EVERY = 1_000
"""Messages between two looks at librdkafka's deliveries."""
_AFTER_TIMEOUT_S = 2.0
"""How long after its timeout the broker's clean-up has surely aborted a transaction."""
_ROOM_S = 0.05
"""How long deliveries are awaited before a full queue is tried again."""


DeliveryCall: TypeAlias = "Callable[[KafkaError | None, Delivered], None]"


@dataclass(slots=True)
class Committed:
    """What is known after a commit."""

    changelog_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Next offset of each (topic, partition) that a message with a mark went to."""
    took_ms: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict)
    """Seconds of ``produce``, ``flush`` and ``end`` (offsets and commit)."""


class Transactor:
    """The transactional producer of one worker slot. Not for two threads at a time."""

    def __init__(
        self,
        settings: RuntimeSettings,
        topic: Callable[[str], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._now_ms = now_ms
        self._patience_s = settings.broker_patience_ms / 1000.0
        self._faults = Faults(settings.faults)
        self._skew_ms = 0
        self._began_ms = 0
        self._failed: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap,
                "transactional.id": settings.transactional_id,
                "transaction.timeout.ms": settings.transaction_timeout_ms,
                "acks": "all",
                "linger.ms": 1,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": settings.producer_queue_records,
                "message.max.bytes": 2_200_000,  # as a dead letter wraps a largest record
                "client.id": f"shutterwheel-{settings.app}-{settings.slot}",
                "log_level": 2,
            }
        )

    def start(self) -> None:
        """Fence every earlier process of this slot and abort what it had left open.

        Raises:
            UsageError: the librdkafka that is installed reads group metadata in another form.

        """
        self._check_metadata()
        self._retrying("init_transactions", self._producer.init_transactions)

    def _check_metadata(self) -> None:
        """Ask librdkafka whether it can read what the fence is made of; it does so before all else.

        A producer that has not begun refuses offsets for its state, and bad bytes as a bad message.
        """
        metadata = group_metadata(self._settings.group, Membership(1, "member"))
        try:
            self._producer.send_offsets_to_transaction([TopicPartition("t", 0, 1)], metadata, 0.1)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:  # noqa: SLF001
                return
        raise UsageError(
            f"librdkafka {libversion()[0]} does not read consumer group metadata in the form that "
            "fences our transactions. Use the confluent-kafka of uv.lock: ./dev sets it up."
        )

    def perform(self, batch: Batch, marks: frozenset[str]) -> Committed:
        """Commit the batch or raise; ``marks`` names topics whose end offsets are wanted back.

        Raises:
            FencedError: the membership has passed; nothing of the batch is visible.
            ClockError: our clock and the broker's disagree; nothing of the batch is visible.
            BrokerError: the outcome is not known or a delivery failed; stop and recover.

        """
        started = time.monotonic()
        done = Committed()
        self._failed, self._skew_ms = None, 0
        self._began_ms = self._now_ms()
        self._faults.at("before-begin")
        try:
            self._producer.begin_transaction()
            self._produce(batch, marks, done)
            produced = time.monotonic()
            self._flush()
            flushed = time.monotonic()
            self._faults.at("before-send-offsets")
            self._check_clock()
            self._send_offsets(batch)
            self._faults.at("before-commit")
            self._retrying("commit_transaction", self._producer.commit_transaction)
        except (ClockError, FencedError, BrokerError):
            self._abort()
            raise
        except KafkaException as error:
            self._abort()
            raise self._translated("transaction", error) from error
        self._faults.at("after-commit")
        ended = time.monotonic()
        done.took_ms = (ended - started) * 1000.0
        done.stages_s = {
            "produce": produced - started, "flush": flushed - produced, "end": ended - flushed,
        }  # fmt: skip
        return done

    def _produce(self, batch: Batch, marks: frozenset[str], done: Committed) -> None:
        # One call a message: produce_batch of confluent-kafka 2.16 is no faster and ignores the
        # partition of a message.
        produce, poll = self._producer.produce, self._producer.poll
        for name, messages in batch.outputs.items():
            topic = self._topic(name)
            calls = self._calls(name, messages, marks, done)
            if name in batch.clocked:
                last = len(messages) - 1
                calls[last] = _both(self._on_clocked, calls.get(last))
            for number, (key, value, partition) in enumerate(messages):
                call = calls.get(number)
                try:
                    if call is None:
                        produce(topic, value, key, partition)
                    else:
                        produce(topic, value, key, partition, call)
                except BufferError:
                    self._produce_when_room(topic, value, key, partition, call)
                if number % _POLL_EVERY == 0:
                    poll(0)
            self._faults.at("mid-produce")

    def _produce_when_room(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        call: DeliveryCall | None,
    ) -> None:
        """Produce once librdkafka's queue has room again: it empties as the broker answers."""
        deadline = time.monotonic() + self._patience_s
        while True:
            self._producer.poll(_ROOM_S)
            try:
                self._producer.produce(topic, value, key, partition, call)
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"The producer's queue was full for {self._patience_s:.0f} s: the broker "
                        "takes nothing."
                    ) from error
            else:
                return

    def _calls(
        self, name: str, messages: list[Message], marks: frozenset[str], done: Committed
    ) -> dict[int, DeliveryCall]:
        """Return the delivery calls by message number: the last of each partition of a mark."""
        if name not in marks:
            return {}

        def delivered(error: KafkaError | None, message: Delivered) -> None:
            offset, partition = message.offset(), message.partition()
            if error is not None:
                self._failed = error
            elif offset is not None and partition is not None:
                done.changelog_offsets[name, partition] = offset + 1

        last = {message[2]: number for number, message in enumerate(messages)}
        return dict.fromkeys(last.values(), delivered)

    def _on_clocked(self, error: KafkaError | None, message: Delivered) -> None:
        if error is not None:
            self._failed = error
            return
        # Appended between the beginning and now, however long the answer took: only a stamp
        # outside tells of a clock that is wrong.
        _, stamp_ms = message.timestamp()
        if stamp_ms < self._began_ms:
            skew_ms = self._began_ms - stamp_ms
        else:
            skew_ms = min(self._now_ms() - stamp_ms, 0)
        if abs(skew_ms) > abs(self._skew_ms):
            self._skew_ms = skew_ms

    def _check_clock(self) -> None:
        if abs(self._skew_ms) > self._settings.max_skew_ms:
            raise ClockError(
                f"This machine's clock is {self._skew_ms:+,} ms from the broker's, more than "
                f"max_skew_ms = {self._settings.max_skew_ms:,}."
            )

    def _flush(self) -> None:
        left = self._producer.flush(self._patience_s)
        if left:
            raise BrokerError(f"{left} messages were not acknowledged in {self._patience_s:.0f} s.")
        if self._failed is not None:
            raise BrokerError(f"A delivery failed: {self._failed.str()}")

    def _send_offsets(self, batch: Batch) -> None:
        offsets = [
            TopicPartition(self._topic(name), partition, offset, batch.handovers.get(partition, ""))
            for (name, partition), offset in batch.offsets.items()
        ]
        if not offsets:
            raise FencedError("A transaction without offsets cannot be fenced; this is a bug.")
        metadata = group_metadata(self._settings.group, batch.membership)
        what = "send_offsets_to_transaction"

        def send() -> None:
            self._retrying(
                what,
                lambda timeout: self._producer.send_offsets_to_transaction(
                    offsets, metadata, timeout
                ),
            )

        self._bounded(what, send)

    def _bounded(self, what: str, call: Callable[[], None]) -> None:
        """Make a call in a thread of its own and give it up when its transaction is lost anyway.

        librdkafka does not keep the timeout of send_offsets_to_transaction, and waits for ever for
        a coordinator whose broker has left the cluster (librdkafka #5456, #5511; 2.16.0 has both).
        A worker that waits in it goes on with its heartbeats, so nobody would take over.
        """
        raised: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
                raised.append(error)

        thread = Thread(target=run, name=what, daemon=True)
        thread.start()
        timeout_s = self._settings.transaction_timeout_ms / 1000.0
        # Two waits: a process that was stopped finds the first one over, and its answer lies there.
        thread.join(timeout_s)
        thread.join(_AFTER_TIMEOUT_S)
        if thread.is_alive():
            raise BrokerError(
                f"{what} did not come back in {timeout_s + _AFTER_TIMEOUT_S:.0f} s; the broker has "
                "aborted the transaction by now."
            )
        if raised:
            raise raised[0]

    def _retrying(self, what: str, call: Callable[[float], Any]) -> None:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                call(min(10.0, self._patience_s))
            except KafkaException as error:
                code: KafkaError = error.args[0]
                if code.retriable() and time.monotonic() < deadline:
                    continue
                raise self._translated(what, error) from error
            else:
                return

    @staticmethod
    def _translated(what: str, error: KafkaException) -> FencedError | BrokerError:
        code: KafkaError = error.args[0]
        if code.code() in _FENCED:
            return FencedError(f"{what}: {code.str()}")
        return BrokerError(f"{what}: {code.str()}")

    def _abort(self) -> None:
        """Abort as a courtesy to readers; if it cannot be done the broker's timeout does it."""
        try:
            self._producer.abort_transaction(2.0)
        except KafkaException:
            return


def _both(first: DeliveryCall, second: DeliveryCall | None) -> DeliveryCall:
    """Return a delivery call that makes both."""
    if second is None:
        return first

    def call(error: KafkaError | None, message: Delivered) -> None:
        first(error, message)
        second(error, message)

    return call
