"""Appends to partitions that nobody else writes to: batches and markers, each at its offset.

**Requests wait for none before them.** A broker takes those of a connection one after the other, so
what is sent in order is appended in order, and while it works on some the next are made. What is on
its way is bounded (``WINDOW_BYTES``).

**Offsets are the proof.** As there is no other writer, every append has one offset that it can come
to. The answer to a batch tells it; markers are told by the batch behind them, or by the partition's
end. Batches have a producer's sequence as well: a broker takes none twice, none before its turn.
That holds once a partition has the first of them, so nothing is sent there until that has come.

**Trouble that passes** (a connection that breaks, a leader that moves): each partition's end says
how far its appends came, and what is left is sent again, one at a time. A broker does what it had
received before a connection broke, so ends are looked at until they rest. A marker that comes later
still makes offsets not fit, and that is an error like any other: the restore is done again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from infra.kafka.offsets import list_offsets
from schemas.errors import BrokerError
from streams.replay.links import Links, NoLeaderError
from streams.replay.log import SILENCE_S
from streams.replay.restore.batches import stamped
from streams.replay.restore.markers import WriteTxnMarkers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka.admin import AdminClient

WINDOW_BYTES: Final = 8 << 20
"""Of batches on their way; enough that a broker never waits while the next are made."""
WINDOW_REQUESTS: Final = 32
REQUEST_BYTES: Final = 1 << 20
"""About the most in one request, so that its answer comes soon."""
PAUSE_S: Final = 0.1
REST_S: Final = 1.0
"""Longer than a broker takes for what it has received over a connection."""
ALL: Final = -1
"""Copies that must have a batch before it is answered."""


class Append(NamedTuple):
    """What is to come to a partition at an offset."""

    name: str
    partition: int
    at: int
    records: int
    """Offsets that it takes."""
    data: bytes = b""
    """A record batch; none: so many markers."""

    @property
    def place(self) -> tuple[str, int]:
        """Topic, as the cluster names it, and partition."""
        return self.name, self.partition


class _Sent(NamedTuple):
    """A request on its way."""

    answer: asyncio.Future[Any]
    appends: list[Append]
    size: int


class _PassingError(Exception):
    """A broker could not do it now."""


_PASSING: Final = (OSError, EOFError, KafkaError, TimeoutError, NoLeaderError, _PassingError)


class Sink:
    """Writes to a cluster. BrokerError. Close it."""

    def __init__(self, kafka: str, admin: AdminClient) -> None:
        self._kafka = kafka
        self._admin = admin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links = Links(kafka, admin)
        self._producer: tuple[int, int] | None = None
        self._sequences: dict[tuple[str, int], int] = {}
        self._begun: set[tuple[str, int]] = set()
        """Partitions that have this producer's first batch: before, they take any sequence."""
        self._sent: deque[_Sent] = deque()
        self._bytes = 0

    def close(self) -> None:
        """Let go of the connections; what was not settled may not come."""
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run_until_complete(self._closed())
            finally:
                loop.close()

    def takes_markers(self, name: str) -> bool:
        """Say whether markers may be written here: the cluster knows the request, and lets us.

        Asked with a partition that no topic has.
        """
        asked = [{name: [(1 << 31) - 1]}]
        try:
            node = self._links.leader((name, 0))
            answer = self._run(self._ask(node, WriteTxnMarkers(asked)))
        except (NotImplementedError, *_PASSING):
            return False
        return set(_marker_errors(answer).values()) == {UnknownTopicOrPartitionError.errno}

    def put(self, appends: Iterable[Append]) -> None:
        """Send these, of a partition in their order; returns before they are answered."""
        some, size = list[Append](), 0
        for one in appends:
            some.append(one)
            size += len(one.data)
            if size >= REQUEST_BYTES:
                self._run(self._put(some))
                some, size = [], 0
        if some:
            self._run(self._put(some))

    def settle(self) -> None:
        """Wait until everything that was put has come to its place."""
        self._run(self._settle())

    async def _closed(self) -> None:
        await self._links.close()
        await asyncio.gather(*(sent.answer for sent in self._sent), return_exceptions=True)
        self._sent.clear()
        self._bytes = 0

    # -- sending -------------------------------------------------------------------------------

    def _run(self, work: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    async def _put(self, appends: list[Append]) -> None:
        for wave in _waves([await self._stamped(one) for one in appends]):
            by_leader: dict[int, list[Append]] = {}
            try:
                for one in wave:
                    by_leader.setdefault(self._links.leader(one.place), []).append(one)
            except NoLeaderError as error:
                await self._again(wave, error)
                continue
            for node, some in by_leader.items():
                await self._send(node, some)
            begun = {one.place for one in wave} - self._begun
            if begun:
                await self._settle()
                self._begun |= begun
        await asyncio.sleep(0)  # what a socket did not take at once goes on

    async def _stamped(self, one: Append) -> Append:
        """Return a batch with its place in what this producer writes."""
        if not one.data:
            return one
        if self._producer is None:
            self._producer = await self._introduced(one.place)
        sequence = self._sequences.get(one.place, 0)
        self._sequences[one.place] = sequence + one.records
        return one._replace(data=stamped(one.data, self._producer, sequence))

    async def _introduced(self, place: tuple[str, int]) -> tuple[int, int]:
        """Return a producer's id and epoch, from whoever leads a partition."""
        deadline = time.monotonic() + SILENCE_S
        while True:
            try:
                node = self._links.leader(place)
                nobody: Any = None  # no id of transactions: a producer that is idempotent only
                answer = await self._ask(node, InitProducerIdRequest(nobody, 0))
                if not answer.error_code:
                    return answer.producer_id, answer.producer_epoch
                why: Exception = for_code(answer.error_code)()
            except _PASSING as error:
                why = error
            if time.monotonic() > deadline:
                raise BrokerError(f"{self._kafka} knows no producer: {why!r}.")
            await self._links.close()
            await asyncio.sleep(PAUSE_S)

    async def _send(self, node: int, appends: list[Append]) -> None:
        size = sum(len(one.data) for one in appends)
        try:
            while self._sent and (
                self._bytes + size > WINDOW_BYTES or len(self._sent) >= WINDOW_REQUESTS
            ):
                await self._settle_first()
            if self._sent and self._links.broken(node):
                # A new connection would overtake what the old one had.
                raise _PassingError("a connection broke")
            link = await self._links.to(node)
            answer = asyncio.ensure_future(link.send(_request(appends)))
        except _PASSING as error:
            await self._again(appends, error)
            return
        self._sent.append(_Sent(answer, appends, size))
        self._bytes += size

    async def _settle(self) -> None:
        while self._sent:
            try:
                await self._settle_first()
            except _PASSING as error:
                await self._again([], error)

    async def _settle_first(self) -> None:
        """Await the oldest answer. It stays where it was if it is not good."""
        sent = self._sent[0]
        _check(await sent.answer, sent.appends)
        self._sent.popleft()
        self._bytes -= sent.size

    # -- again ---------------------------------------------------------------------------------

    async def _again(self, appends: list[Append], why: Exception) -> None:
        """See what has come of all that is on its way, and send the rest one by one."""
        waiting = [sent.answer for sent in self._sent]
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        for sent, answer in zip(self._sent, answers, strict=True):
            with suppress(_PassingError):
                if not isinstance(answer, BaseException):
                    _check(answer, sent.appends)
        left = [one for sent in self._sent for one in sent.appends] + appends
        self._sent.clear()
        self._bytes = 0
        deadline = time.monotonic() + SILENCE_S
        while left:
            await self._links.close()
            if time.monotonic() > deadline:
                raise BrokerError(f"{self._kafka} takes no more records: {why!r}.")
            left = list(_left(left, await self._rested({one.place for one in left})))
            try:
                while left:
                    answer = await self._ask(self._links.leader(left[0].place), _request(left[:1]))
                    _check(answer, left[:1])
                    left.pop(0)
            except _PASSING as error:
                why = error

    async def _rested(self, places: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the ends of partitions, once they have not moved for ``REST_S``."""
        found: dict[tuple[str, int], int] = {}
        since = time.monotonic()
        while time.monotonic() - since < REST_S:
            await asyncio.sleep(PAUSE_S)
            ends = list_offsets(self._admin, places, "latest", SILENCE_S)
            if ends != found:
                found, since = ends, time.monotonic()
        return found

    async def _ask(self, node: int, request: Any) -> Any:
        return await (await self._links.to(node)).send(request)


def _waves(appends: list[Append]) -> Iterator[list[Append]]:
    """Yield them as requests: batches or markers, one append of a partition in each."""
    waiting: dict[tuple[str, int], deque[Append]] = {}
    for one in appends:
        waiting.setdefault(one.place, deque()).append(one)
    while waiting:
        wave, size = list[Append](), 0
        for marks in (False, True):
            for place in [at for at, some in waiting.items() if (not some[0].data) is marks]:
                one = waiting[place].popleft()
                if not waiting[place]:
                    del waiting[place]
                wave.append(one)
                size += len(one.data)
                if size > REQUEST_BYTES:
                    yield wave
                    wave, size = [], 0
            if wave:
                yield wave
                wave, size = [], 0


def _request(appends: list[Append]) -> Any:
    topics: dict[str, list[Any]] = {}
    if appends[0].data:
        for one in appends:
            topics.setdefault(one.name, []).append((one.partition, one.data))
        return ProduceRequest(None, ALL, round(SILENCE_S * 1000), list(topics.items()))
    entries: list[dict[str, list[int]]] = []
    for number in range(max(one.records for one in appends)):
        topics = {}
        for one in appends:
            if number < one.records:
                topics.setdefault(one.name, []).append(one.partition)
        entries.append(topics)
    return WriteTxnMarkers(entries)


def _check(answer: Any, appends: list[Append]) -> None:
    """Raise what an answer says: BrokerError, or something that passes."""
    at = {one.place: one.at for one in appends}
    if appends[0].data:
        told = {
            (name, number): (code, offset)
            for name, parts in answer.topics
            for number, code, offset, *_ in parts
        }
    else:
        told = {place: (code, at[place]) for place, code in _marker_errors(answer).items()}
    for place, expected in at.items():
        code, offset = told[place]
        if code:
            kind = for_code(code)
            if kind.retriable or kind.invalid_metadata or kind is OutOfOrderSequenceNumber:
                raise _PassingError(f"{place[0]}-{place[1]}: {kind.__name__}")
            raise BrokerError(
                f"{place[0]}-{place[1]} cannot be written: {kind.message}, {kind.description}"
            )
        if offset != expected:
            raise BrokerError(
                f"A record did not come to its place: {place[0]}-{place[1]}: offset {offset} where "
                f"{expected} was expected; somebody else writes there."
            )


def _marker_errors(answer: Any) -> dict[tuple[str, int], int]:
    return {
        (name, number): code
        for _, topics, *_ in answer.markers
        for name, parts, *_ in topics
        for number, code, *_ in parts
    }


def _left(appends: list[Append], ends: dict[tuple[str, int], int]) -> Iterator[Append]:
    """Yield what has not come, by the ends of the partitions. BrokerError where they do not fit."""
    for one in appends:
        end = ends[one.place]
        until = one.at + one.records
        if end >= until:
            continue
        if end <= one.at:
            yield one
        elif one.data:
            raise BrokerError(f"{one.name}-{one.partition} ends at {end}, within a batch.")
        else:
            yield one._replace(at=end, records=until - end)
