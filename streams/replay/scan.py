"""Finds the few entries of a partition that hold some bytes, without making an entry of each.

Topics have no index by device. To make an entry of a record costs about 4 µs (librdkafka, its
binding, ours), and nearly all records are of other devices. But a device's id stands in the bytes
of its records as it is; so what a broker sends is searched as bytes, a megabyte in a tenth of a
millisecond, and only a batch in which they were found is taken apart::

    fetch ─▶ |head|records…|head|records…|head|records…|      bytes.find(device id)
                             taken apart ───▶ entries that hold it

Heads (61 bytes a batch) are read all the same: they say whether a batch is a marker, or of a
transaction that was aborted. A compressed batch is taken apart in any case. What cannot be fetched
so (an old format, a cluster that wants a password, a leader that moves) is read by the log's own
``read``, as are logs that are no clusters.

Source: Kafka protocol, "Record Batch" (magic 2) and Fetch, versions 4 and up.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from infra.kafka.topics import topic_name
from schemas.encoders import varint
from streams.replay.log import Entry, KafkaLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.replay.log import Log

FEW: Final = 10_000
"""Offsets below which a range is read as others are: a connection of its own takes 10 ms."""
FETCH_BYTES: Final = 8 << 20
WAIT_MS: Final = 50
READ_COMMITTED: Final = 1
HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, base and last
timestamp, producer, its epoch and sequence, count."""
BEFORE_LENGTH: Final = 12
MAGIC: Final = 2
COMPRESSION, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20
TROUBLE: Final = (KafkaError, OSError, struct.error, RuntimeError)
"""What a fetch may raise. The log's own ``read`` is tried then, and says what is wrong."""


class Looked(NamedTuple):
    """What one piece of a range has."""

    records: int
    """How many were looked at."""
    found: list[Entry]


class _Fetched(NamedTuple):
    """What a broker sent of a partition."""

    data: bytes
    aborted: list[tuple[int, int]]
    """Producer and first offset of transactions that were aborted."""


class _UnreadableError(Exception):
    """The records are in a format, or of a shape, that is left to the log's own reader."""


class Scanner:
    """Searches the partitions of one log. Close it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self.by_bytes = isinstance(log, KafkaLog)
        """Whether long ranges are searched as bytes; no more, once that has failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        loop, client = self._loop, self._client
        self._loop = self._client = None
        if loop is not None:
            try:
                if client is not None:
                    loop.run_until_complete(client.close())
            finally:
                loop.close()

    def holding(
        self, topic: str, partition: int, first: int, end: int, wanted: bytes
    ) -> Iterator[Looked]:
        """Yield the entries of ``first`` <= offset < ``end`` with these bytes in key or value.

        In pieces and in their order, as :meth:`Log.read`, which it raises as.
        """
        at = first
        if self.by_bytes and end - first > FEW:
            try:
                while at < end:
                    data, aborted = self._fetch(topic, partition, at)
                    after, looked = _search(data, aborted, wanted, at, end)
                    if after <= at:
                        break  # nothing more is decided: the log's own read waits for it
                    at = after
                    yield looked
            except (*TROUBLE, _UnreadableError):
                self.by_bytes = False
        if at < end:
            yield from self._plain(topic, partition, at, end, wanted)

    def _plain(
        self, topic: str, partition: int, first: int, end: int, wanted: bytes
    ) -> Iterator[Looked]:
        for batch in self._log.read(topic, partition, first, end):
            yield Looked(len(batch), [one for one in batch if _holds(one, wanted)])

    # -- a cluster -------------------------------------------------------------------------------

    def _fetch(self, topic: str, partition: int, first: int) -> _Fetched:
        log = cast("KafkaLog", self._log)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        name = topic_name(log.namespace, topic)
        return self._loop.run_until_complete(self._ask(log.kafka, name, partition, first))

    async def _ask(self, kafka: str, name: str, partition: int, first: int) -> _Fetched:
        if self._client is None:
            client = AIOKafkaClient(bootstrap_servers=kafka)
            self._client = client
            await client.bootstrap()
        place = TopicPartition(name, partition)
        leader = self._client.cluster.leader_for_partition(place)
        if leader in {None, -1}:
            await self._client.set_topics([name])
            leader = self._client.cluster.leader_for_partition(place)
        if leader in {None, -1}:
            raise _UnreadableError(f"{name} has no leader")
        request = FetchRequest(
            WAIT_MS, 1, FETCH_BYTES, READ_COMMITTED, [(name, [(partition, first, FETCH_BYTES)])]
        )
        answer = await self._client.send(leader, request)
        # Error, high watermark, last stable offset, what else the version has, aborted, records.
        _, error, *_, aborted, data = answer.topics[0][1][0]
        if error:
            raise _UnreadableError(f"{name} cannot be fetched: error {error}")
        if answer.API_VERSION >= 11:  # the preferred replica stands between the two
            aborted = answer.topics[0][1][0][-3]
        return _Fetched(data or b"", aborted or [])


def _search(
    data: bytes, aborted: list[tuple[int, int]], wanted: bytes, first: int, end: int
) -> tuple[int, Looked]:
    """Return where the next fetch begins, and what the bytes of this one have."""
    waiting = sorted(aborted, key=lambda one: one[1], reverse=True)
    void: set[int] = set()
    found: list[Entry] = []
    after, at, records = first, 0, 0
    hit = data.find(wanted)
    while at + HEAD.size <= len(data):
        head = HEAD.unpack_from(data, at)
        base, length, magic, attributes, delta = head[0], head[1], head[3], head[5], head[6]
        producer, count = head[9], head[12]
        stop = at + BEFORE_LENGTH + length
        if stop > len(data):
            break
        if magic != MAGIC:
            raise _UnreadableError("an old format")
        while waiting and waiting[-1][1] <= base:
            void.add(waiting.pop()[0])
        if attributes & CONTROL:
            if producer in void and aborts(data[at:stop]):
                void.discard(producer)
        elif not (attributes & TRANSACTIONAL and producer in void):
            records += count
            if -1 < hit < at:
                hit = data.find(wanted, at)
            if attributes & COMPRESSION or at <= hit < stop:
                found += _taken_apart(data[at:stop], wanted, first, end)
        after, at = base + delta + 1, stop
        if after >= end:
            break
    return after, Looked(records, found)


def _taken_apart(data: bytes, wanted: bytes, first: int, end: int) -> list[Entry]:
    batch = DefaultRecordBatch(data)
    if not batch.validate_crc():
        raise _UnreadableError("a batch is damaged")
    return [
        entry
        for one in batch
        if first <= one.offset < end
        and _holds(entry := Entry(one.offset, one.timestamp, one.key, one.value), wanted)
    ]


def aborts(data: bytes) -> bool:
    """Say whether a batch of markers ends a transaction by aborting it."""
    return any(
        one.key is not None and ControlRecord.parse(one.key) == ABORT_MARKER
        for one in DefaultRecordBatch(data)
    )


def _holds(entry: Entry, wanted: bytes) -> bool:
    return wanted in (entry.key or b"") or wanted in (entry.value or b"")


def needle(text: str) -> bytes:
    """Return what a record that holds this text has among its bytes: length and UTF-8."""
    data = text.encode()
    return varint(len(data)) + data
