"""Finds the timing wheel's answers to requests on schedule.decisions.

A request is answered at or behind the place where the topic ended before the request was
published, on the device's partition. So a reader notes that place first, publishes, and reads
committed records from there on until the answer comes. Other upstreams' answers pass by on the
same partition; they are decoded and dropped.

Answers read while waiting for another one are kept, the newest ``KEPT`` of them. A partition is
complete from the offset ``since`` on: an answer behind it is here, or was not read yet. Whoever
asks for an older one makes the reader go back.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from connectors.clients.kafka import POLL_S, end_of, in_words, reader, take
from schemas.errors import DecodeError
from schemas.records import Accepted, AlreadyKnown, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer, Message

    from schemas.codec import Codec

Answer = Accepted | AlreadyKnown | Refused
"""What the wheel says to a request."""

KEPT = 20_000
"""Answers kept for whoever asks later; about 0.5 kB each."""
PLACE_AGE_S = 1.0
"""How long a noted end of a partition is used again; the reader then reads a little more."""

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """Whose answer it is."""

    device_id: str
    request_id: str


@dataclass(slots=True)
class _Place:
    """Where a partition is read."""

    since: int
    """All answers from this offset on are kept, or not read yet."""
    next: int


class DecisionReader:
    """Reads schedule.decisions. May be shared between threads: one at a time reads."""

    def __init__(
        self, kafka: str, topic: str, codec: Codec, client: Mapping[str, str] | None
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._codec = codec
        self._consumer: Consumer = reader(kafka, client)
        self._lock = Lock()
        self._ends: dict[int, tuple[float, int]] = {}
        self._places: dict[int, _Place] = {}
        self._answers: OrderedDict[Request, tuple[int, int, Answer]] = OrderedDict()

    def end(self, partition: int, *, fresh: bool = False) -> int:
        """Return where the partition ends, as asked for not more than ``PLACE_AGE_S`` ago.

        Raises :class:`BrokerError` if the broker does not answer.
        """
        known = self._ends.get(partition)
        now_s = time.monotonic()
        if known is not None and not fresh and now_s - known[0] < PLACE_AGE_S:
            return known[1]
        end = end_of(self._consumer, self._kafka, self._topic, partition)
        self._ends[partition] = (now_s, end)
        return end

    def follow(self, starts: Mapping[int, int]) -> None:
        """Read these partitions from these offsets on."""
        with self._lock:
            for partition, offset in starts.items():
                self._places[partition] = _Place(offset, offset)
            self._assign()

    def wait(self, request: Request, partition: int, start: int, timeout_s: float) -> Answer | None:
        """Return the answer to a request, or None if it did not come in time.

        Raises :class:`BrokerError` for what the broker reports.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            place = self._places.get(partition)
            if place is None or start < place.since:
                self._places[partition] = _Place(start, start)
                self._assign()
            while True:
                found = self._answers.get(request)
                if found is not None and found[1] >= start:
                    return found[2]
                rest_s = deadline_s - time.monotonic()
                if rest_s <= 0:
                    return None
                self._read(min(POLL_S, rest_s))

    def take(self, timeout_s: float) -> list[tuple[Request, Answer]]:
        """Return the answers that come within ``timeout_s``, as soon as there are any."""
        with self._lock:
            return [(_request(answer), answer) for answer in self._read(timeout_s)]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _assign(self) -> None:
        from confluent_kafka import TopicPartition

        self._consumer.assign(
            [TopicPartition(self._topic, n, place.next) for n, place in self._places.items()]
        )

    def _read(self, timeout_s: float) -> list[Answer]:
        from confluent_kafka import KafkaError

        answers: list[Answer] = []
        for message in take(self._consumer, timeout_s):
            error = message.error()
            if error is None:
                answer = self._answer(message)
                if answer is not None:
                    answers.append(answer)
            elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
                raise in_words(error, self._kafka)
        return answers

    def _answer(self, message: Message) -> Answer | None:
        partition, offset = message.partition() or 0, message.offset() or 0
        self._places[partition].next = offset + 1
        try:
            record = self._codec.decode(message.value() or b"")
        except DecodeError as error:
            log.warning(
                "%s, partition %d, offset %d cannot be read: %s",
                self._topic,
                partition,
                offset,
                error.line(),
            )
            return None
        if not isinstance(record, Accepted | AlreadyKnown | Refused):
            return None
        request = _request(record)
        self._answers[request] = (partition, offset, record)
        self._answers.move_to_end(request)
        while len(self._answers) > KEPT:
            _, (old_partition, old_offset, _) = self._answers.popitem(last=False)
            self._places[old_partition].since = old_offset + 1
        return record


def _request(answer: Answer) -> Request:
    return Request(answer.device_id, answer.request_id)
