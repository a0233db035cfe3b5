"""Kafka's protocol, as far as a transaction speaks it: requests in bytes, answers in tuples.

Layouts are those of https://kafka.apache.org/protocol, each in one version that every broker from
Kafka 2.5 (KIP-447) to 4.x answers. Requests of some hundred bytes go by the thousand partitions, so
they are packed here; aiokafka's schemas, which take 5 us a field, would be the larger part of a
commit that touches many.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_T = TypeVar("_T")

TopicPartition = tuple[str, int]

API_VERSIONS: Final = (18, 0)
METADATA: Final = (3, 4)
FIND_COORDINATOR: Final = (10, 1)
INIT_PRODUCER_ID: Final = (22, 1)
ADD_PARTITIONS_TO_TXN: Final = (24, 2)
ADD_OFFSETS_TO_TXN: Final = (25, 2)
PRODUCE: Final = (0, 7)
TXN_OFFSET_COMMIT: Final = (28, 3)
"""The first version with the member's generation, which is the fence (KIP-447)."""
END_TXN: Final = (26, 2)
SPOKEN: Final = {
    "Metadata": METADATA,
    "FindCoordinator": FIND_COORDINATOR,
    "InitProducerId": INIT_PRODUCER_ID,
    "AddPartitionsToTxn": ADD_PARTITIONS_TO_TXN,
    "AddOffsetsToTxn": ADD_OFFSETS_TO_TXN,
    "Produce": PRODUCE,
    "TxnOffsetCommit": TXN_OFFSET_COMMIT,
    "EndTxn": END_TXN,
}
"""(api key, version) of each request after ``ApiVersions``."""

GROUP, TRANSACTION = 0, 1
"""What a coordinator coordinates."""

FENCED: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""Somebody else is who we were."""
AGAIN: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.OPERATION_NOT_ATTEMPTED,  # of those beside one that was refused
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
"""Ask again, of whoever leads or coordinates by then."""
MOVED: Final = frozenset({KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR})
"""Another broker coordinates, or will."""

_LEADER_UNKNOWN: Final = -1


class Producer(NamedTuple):
    """Who we are to brokers: a producer's id and epoch."""

    id: int
    epoch: int


class Appended(NamedTuple):
    """What a broker says of a batch."""

    error: int
    offset: int
    """Of its first record."""
    stamp_ms: int
    """When the broker appended it, if it stamps the topic; else -1."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its header, and how its answer is read."""

    api: tuple[int, int]
    body: bytes
    read: Callable[[Reader], object]
    flexible: bool = False

    def frame(self, correlation: int, client_id: bytes) -> bytes:
        """Return the bytes to send."""
        head = struct.pack(">hhih", *self.api, correlation, len(client_id)) + client_id
        if self.flexible:
            head += b"\0"
        return b"".join((struct.pack(">i", len(head) + len(self.body)), head, self.body))

    def answer(self, data: bytes, correlation: int) -> object:
        """Read an answer's bytes, without their length.

        Raises:
            ValueError: it is the answer to another request, or is cut off.

        """
        reader = Reader(data)
        try:
            (got,) = reader.take(">i")
            if got != correlation:
                raise ValueError(f"answer {got} where {correlation} was asked")
            if self.flexible:
                reader.tags()
            return self.read(reader)
        except (struct.error, IndexError) as error:
            raise ValueError(f"an answer that is cut off: {error}") from error


class Reader:
    """Takes an answer apart, from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Return fixed numbers."""
        found = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return found

    def each(self, layout: str, count: int) -> list[tuple[int, ...]]:
        """Return ``count`` rows of fixed numbers."""
        end = self._at + struct.calcsize(layout) * count
        found = list(struct.iter_unpack(layout, self._data[self._at : end]))
        if len(found) != count:
            raise ValueError("an answer that is cut off")
        self._at = end
        return found

    def text(self) -> str:
        """Return a string; one that is null is empty."""
        (length,) = self.take(">h")
        return self._bytes(max(length, 0)).decode()

    def compact_text(self) -> str:
        """Return a string of a flexible version."""
        return self._bytes(max(self.varint() - 1, 0)).decode()

    def varint(self) -> int:
        """Return an unsigned varint."""
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def tags(self) -> None:
        """Pass tagged fields over."""
        for _ in range(self.varint()):
            self.varint()
            self._bytes(self.varint())

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("an answer that is cut off")
        found = self._data[self._at : end]
        self._at = end
        return found


def error_text(code: int) -> str:
    """Return an error of a broker in words."""
    return KafkaError(code).str()


def api_versions() -> Request:
    """Ask what versions a broker speaks; answered by {api key: (lowest, highest)}."""

    def read(reader: Reader) -> dict[int, tuple[int, int]]:
        _error, count = reader.take(">hi")
        return {key: (low, high) for key, low, high in reader.each(">hhh", count)}

    return Request(API_VERSIONS, b"", read)


def metadata(topics: Iterable[str]) -> Request:
    """Ask who leads; answered by ({node: (host, port)}, {(topic, partition): node})."""

    def read(reader: Reader) -> tuple[dict[int, tuple[str, int]], dict[TopicPartition, int]]:
        reader.take(">i")
        nodes: dict[int, tuple[str, int]] = {}
        for _ in repeat(None, reader.take(">i")[0]):
            (node,) = reader.take(">i")
            host, (port,) = reader.text(), reader.take(">i")
            reader.text()  # the rack
            nodes[node] = (host, port)
        reader.text()  # the cluster's id
        reader.take(">i")
        leaders: dict[TopicPartition, int] = {}
        for _ in repeat(None, reader.take(">i")[0]):
            reader.take(">h")
            topic = reader.text()
            reader.take(">b")
            for _ in repeat(None, reader.take(">i")[0]):
                _error, partition, leader = reader.take(">hii")
                for _replicas in range(2):
                    reader.each(">i", reader.take(">i")[0])
                if leader != _LEADER_UNKNOWN:
                    leaders[topic, partition] = leader
        return nodes, leaders

    wanted = list(topics)
    body = [struct.pack(">i", len(wanted)), *map(_text, wanted), b"\0"]  # creates none
    return Request(METADATA, b"".join(body), read)


def find_coordinator(kind: int, name: str) -> Request:
    """Ask who coordinates; answered by (error, (host, port))."""

    def read(reader: Reader) -> tuple[int, tuple[str, int]]:
        _throttled, error = reader.take(">ih")
        reader.text()
        reader.take(">i")
        host = reader.text()
        return error, (host, reader.take(">i")[0])

    return Request(FIND_COORDINATOR, _text(name) + struct.pack(">b", kind), read)


def init_producer_id(transactional_id: str, timeout_ms: int) -> Request:
    """Fence and abort what was; answered by (error, who we are)."""

    def read(reader: Reader) -> tuple[int, Producer]:
        _throttled, error, producer_id, epoch = reader.take(">ihqh")
        return error, Producer(producer_id, epoch)

    return Request(INIT_PRODUCER_ID, _text(transactional_id) + struct.pack(">i", timeout_ms), read)


def add_partitions(
    transactional_id: str, producer: Producer, places: Iterable[TopicPartition]
) -> Request:
    """Tell which partitions a transaction writes to; answered by a set of errors."""

    def read(reader: Reader) -> set[int]:
        reader.take(">i")
        errors: set[int] = set()
        for _ in repeat(None, reader.take(">i")[0]):
            reader.text()
            errors.update(error for _, error in reader.each(">ih", reader.take(">i")[0]))
        return errors

    topics = _by_topic((topic, partition, partition) for topic, partition in places)
    body = [_who(transactional_id, producer), struct.pack(">i", len(topics))]
    for topic, partitions in topics.items():
        count = len(partitions)
        body += (_text(topic), struct.pack(f">{count + 1}i", count, *(p for p, _ in partitions)))
    return Request(ADD_PARTITIONS_TO_TXN, b"".join(body), read)


def add_offsets(transactional_id: str, producer: Producer, group: str) -> Request:
    """Tell that a transaction holds offsets of a group; answered by a set of errors."""
    return Request(ADD_OFFSETS_TO_TXN, _who(transactional_id, producer) + _text(group), _one_error)


def end_transaction(transactional_id: str, producer: Producer, *, commit: bool) -> Request:
    """Commit or abort; answered by a set of errors."""
    body = _who(transactional_id, producer) + struct.pack(">?", commit)
    return Request(END_TXN, body, _one_error)


def produce(
    transactional_id: str, timeout_ms: int, batches: Mapping[TopicPartition, bytes | bytearray]
) -> Request:
    """Append a batch to each partition, acknowledged by all replicas in sync.

    Answered by {(topic, partition): Appended}.
    """

    def read(reader: Reader) -> dict[TopicPartition, Appended]:
        found: dict[TopicPartition, Appended] = {}
        for _ in repeat(None, reader.take(">i")[0]):
            topic = reader.text()
            for partition, error, offset, stamp_ms, _start in reader.each(
                ">ihqqq", reader.take(">i")[0]
            ):
                found[topic, partition] = Appended(error, offset, stamp_ms)
        return found

    topics = _by_topic((topic, partition, data) for (topic, partition), data in batches.items())
    body: list[bytes | bytearray] = [
        _text(transactional_id),
        struct.pack(">hii", -1, timeout_ms, len(topics)),
    ]
    for topic, parts in topics.items():
        body += (_text(topic), struct.pack(">i", len(parts)))
        for partition, data in parts:
            body += (struct.pack(">ii", partition, len(data)), data)
    return Request(PRODUCE, b"".join(body), read)


def commit_offsets(
    transactional_id: str,
    producer: Producer,
    group: str,
    member: tuple[int, str],
    offsets: Sequence[tuple[str, int, int, str]],
) -> Request:
    """Send (topic, partition, offset, metadata) as a member in a generation; answered by errors."""

    def read(reader: Reader) -> set[int]:
        reader.take(">i")
        errors: set[int] = set()
        for _ in repeat(None, reader.varint() - 1):
            reader.compact_text()
            for _ in repeat(None, reader.varint() - 1):
                errors.add(reader.take(">ih")[1])
                reader.tags()
            reader.tags()
        return errors

    generation, member_id = member
    topics = _by_topic((topic, partition, (at, text)) for topic, partition, at, text in offsets)
    body = [
        _compact(transactional_id),
        _compact(group),
        struct.pack(">qhi", *producer, generation),
        _compact(member_id),
        b"\0",  # no instance id
        _varint(len(topics) + 1),
    ]
    for topic, parts in topics.items():
        body += (_compact(topic), _varint(len(parts) + 1))
        for partition, (at, text) in parts:
            body += (struct.pack(">iqi", partition, at, -1), _compact(text), b"\0")
        body.append(b"\0")
    body.append(b"\0")
    return Request(TXN_OFFSET_COMMIT, b"".join(body), read, flexible=True)


def _one_error(reader: Reader) -> set[int]:
    return {reader.take(">ih")[1]}


def _who(transactional_id: str, producer: Producer) -> bytes:
    return _text(transactional_id) + struct.pack(">qh", *producer)


def _by_topic(rows: Iterable[tuple[str, int, _T]]) -> dict[str, list[tuple[int, _T]]]:
    topics: dict[str, list[tuple[int, _T]]] = {}
    for topic, partition, what in rows:
        topics.setdefault(topic, []).append((partition, what))
    return topics


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _compact(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data) + 1) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
