"""Reading a cluster's partitions from one end to the other, by batches as the broker sends them.

librdkafka makes an object of each record and its binding four calls: 4 µs a record. Whoever reads
all of a partition can take the broker's answer apart itself: aiokafka's parser, in C, takes 0.3 µs,
an entry as much again. The next fetch is asked for before an answer is taken apart.

Markers are left out, and records of transactions that were aborted, by the broker's list of those
(Kafka protocol, Fetch, version 4 and up: isolation ``read_committed``). What cannot be read so (an
old format, a cluster that wants a password, a leader that moves, a record that no answer of
``FETCH_BYTES`` holds) is read by :class:`KafkaLog` from there on.

Memory: two answers, and the entries of one.
"""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatch

from infra.kafka.topics import topic_name
from streams.replay.fetch import (
    BEFORE_LENGTH,
    CONTROL,
    HEAD,
    MAGIC,
    READ_COMMITTED,
    TRANSACTIONAL,
    TROUBLE,
    WAIT_MS,
    aborts,
)
from streams.replay.links import Links, NoLeaderError
from streams.replay.log import READ_RECORDS, Entry, KafkaLog

if TYPE_CHECKING:
    from collections.abc import Iterator

FETCH_BYTES: Final = 2 << 20
FEW: Final = 1_000
"""Offsets below which a range is read as ever."""


class _Answer(NamedTuple):
    """What a broker sent of a partition."""

    data: bytes
    aborted: list[tuple[int, int]]
    """Producer and first offset of transactions that were aborted."""


class _UnreadableError(Exception):
    """It is left to the other way."""


class FetchedLog(KafkaLog):
    """The topics of a namespace of a cluster, read committed, for reading much. Close it."""

    def __init__(self, kafka: str, namespace: str) -> None:
        super().__init__(kafka, namespace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links = Links(kafka)
        self.fetches = True
        """Whether long ranges are fetched; no more, once that has failed."""

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        """See :class:`streams.replay.log.Log`."""
        at = first
        if self.fetches and end - first > FEW:
            name = topic_name(self.namespace, topic)
            asked: asyncio.Future[Any] | None = None
            try:
                while at < end:
                    answer = self._answer(asked or self._ask(name, partition, at))
                    asked = None
                    heads = _heads(answer, end)
                    after = heads[-1][1] if heads else at
                    if after <= at:
                        break  # nothing more is decided, or it is too large: the other way waits
                    if after < end:
                        asked = self._ask(name, partition, after)
                    entries = _entries(answer.data, heads, at, end)
                    at = after
                    for low in range(0, len(entries), READ_RECORDS):
                        yield entries[low : low + READ_RECORDS]
            except (*TROUBLE, NoLeaderError, _UnreadableError):
                self.fetches = False
            finally:
                if asked is not None and self._loop is not None:  # whoever reads has enough
                    self._loop.run_until_complete(asyncio.gather(asked, return_exceptions=True))
        if at < end:
            yield from super().read(topic, partition, at, end)

    def close(self) -> None:
        """See :class:`KafkaLog`."""
        super().close()
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run_until_complete(self._links.close())
            finally:
                loop.close()

    def _ask(self, name: str, partition: int, first: int) -> asyncio.Future[Any]:
        """Send for what is from an offset on."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        sent = self._sent(name, partition, first)
        asked: asyncio.Future[Any] = self._loop.run_until_complete(sent)
        return asked

    async def _sent(self, name: str, partition: int, first: int) -> asyncio.Future[Any]:
        link = await self._links.to(self._links.leader((name, partition)))
        places = [(name, [(partition, first, FETCH_BYTES)])]
        request = FetchRequest(WAIT_MS, 1, FETCH_BYTES, READ_COMMITTED, places)
        asked: asyncio.Future[Any] = asyncio.ensure_future(link.send(request))
        return asked

    def _answer(self, asked: asyncio.Future[Any]) -> _Answer:
        assert self._loop is not None
        answer = self._loop.run_until_complete(asked)
        # Error, high watermark, last stable offset, what else the version has, aborted, records.
        _, error, *_, aborted, data = answer.topics[0][1][0]
        if error:
            raise _UnreadableError
        if answer.API_VERSION >= 11:  # the preferred replica stands between the two
            aborted = answer.topics[0][1][0][-3]
        return _Answer(data or b"", aborted or [])


def _heads(answer: _Answer, end: int) -> list[tuple[int, int, int, bool]]:
    """Return of each whole batch where it stands, the offset behind it, its end, whether it counts.

    As (begin, offset, end, whether its records are to be seen).
    """
    data, found = answer.data, list[tuple[int, int, int, bool]]()
    waiting = sorted(answer.aborted, key=lambda one: one[1], reverse=True)
    void: set[int] = set()
    at = 0
    while at + HEAD.size <= len(data):
        head = HEAD.unpack_from(data, at)
        base, length, magic, attributes = head[0], head[1], head[3], head[5]
        delta, producer = head[6], head[9]
        stop = at + BEFORE_LENGTH + length
        if stop > len(data):
            break
        if magic != MAGIC:
            raise _UnreadableError
        while waiting and waiting[-1][1] <= base:
            void.add(waiting.pop()[0])
        if attributes & CONTROL:
            counts = False
            if producer in void and aborts(data[at:stop]):
                void.discard(producer)
        else:
            counts = not (attributes & TRANSACTIONAL and producer in void)
        found.append((at, base + delta + 1, stop, counts))
        at = stop
        if base + delta + 1 >= end:
            break
    return found


def _entries(
    data: bytes, heads: list[tuple[int, int, int, bool]], first: int, end: int
) -> list[Entry]:
    """Return the entries of an answer within a range."""
    rows: list[tuple[int, int, bytes | None, bytes | None]] = []
    for at, _, stop, counts in heads:
        if counts:
            batch = DefaultRecordBatch(data[at:stop])
            if not batch.validate_crc():
                raise _UnreadableError
            rows += [(one.offset, one.timestamp, one.key, one.value) for one in batch]
    if rows and (rows[0][0] < first or rows[-1][0] >= end):
        rows = [row for row in rows if first <= row[0] < end]
    return list(map(tuple.__new__, repeat(Entry), rows))
