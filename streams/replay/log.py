"""A log that can be read again: topics of partitions of entries, as they were committed.

Audit, explain, replay and restore read through :class:`Log`, so that they work alike on a cluster
that is running (:class:`KafkaLog`), on an archive of one, and on lists in memory
(:class:`MemoryLog`, for tests). A topic is named without its namespace.

**Ends.** :meth:`Log.ends` is the cut up to which a reader reads. On a running system it is taken
downstream first (results before commands before ticks before events): then whatever an entry of
the cut refers to lies in the cut as well.

**Gaps.** Offsets grow and are not dense: transactions leave markers and aborted records behind,
and compaction takes records away. ``read`` ends when the *position* has reached the end, not when
some record has come.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from schemas.errors import BrokerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

    from streams.replay.fetch import Connection

READ_RECORDS: Final = 5_000
"""Most entries of a batch."""
READ_S: Final = 0.02
"""How long one call waits for that many; the last call of a partition waits in vain."""
FETCH_TRIES: Final = 3
"""How often fetching may fail until a log is only consumed."""
IDLE_CONSUMERS: Final = 8
"""Most consumers kept for what is read next: an audit has six topics of a partition open."""
SILENCE_S: Final = 30.0
"""How long a broker may say nothing before reading is given up."""


class Entry(NamedTuple):
    """One record of a partition, undecoded."""

    offset: int
    timestamp_ms: int
    """The broker's where the topic is stamped by it (schedule.ticks), else the writer's."""
    key: bytes | None
    value: bytes | None


def entries_of(records: Iterable[Any]) -> list[Entry]:
    """Return the entries of records as aiokafka's reader makes them."""
    make = tuple.__new__  # as Entry does, at half its cost
    return [make(Entry, (one.offset, one.timestamp, one.key, one.value)) for one in records]


class Log(Protocol):
    """Topics that can be read again. Offsets are those of the cluster that wrote them."""

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; UsageError where there is no such topic."""
        ...

    def firsts(self, topic: str) -> dict[int, int]:
        """Return the first offset that is kept of each partition."""
        ...

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last of each partition, as of now."""
        ...

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """Return the first offset with a timestamp of ``at_ms`` or later; the end if none has.

        It may be a marker's, at which no entry is.
        """
        ...

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        """Yield the entries of ``first`` <= offset < ``end`` in batches, in their order.

        BrokerError where what is kept does not reach to ``end``.
        """
        ...


class MemoryLog:
    """Entries in lists, written by tests."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._topics: dict[str, list[list[Entry]]] = {}

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, at_ms: int
    ) -> int:
        """Append one entry and return its offset."""
        if topic not in self._topics:
            self._topics[topic] = [[] for _ in range(self._partitions)]
        entries = self._topics[topic][partition]
        offset = entries[-1].offset + 1 if entries else 0
        entries.append(Entry(offset, at_ms, key, value))
        return offset

    def entries(self, topic: str, partition: int) -> list[Entry]:
        """Return the list itself, for a test to tamper with."""
        return self._topics[topic][partition]

    def partitions(self, topic: str) -> int:
        """See :class:`Log`."""
        return len(self._of(topic))

    def firsts(self, topic: str) -> dict[int, int]:
        """See :class:`Log`."""
        return {n: one[0].offset if one else 0 for n, one in enumerate(self._of(topic))}

    def ends(self, topic: str) -> dict[int, int]:
        """See :class:`Log`."""
        return {n: one[-1].offset + 1 if one else 0 for n, one in enumerate(self._of(topic))}

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See :class:`Log`."""
        for entry in self._of(topic)[partition]:
            if entry.timestamp_ms >= at_ms:
                return entry.offset
        return self.ends(topic)[partition]

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        """See :class:`Log`."""
        entries = self._of(topic)[partition]
        low = bisect_left(entries, first, key=lambda entry: entry.offset)
        high = bisect_left(entries, end, key=lambda entry: entry.offset)
        for at in range(low, high, READ_RECORDS):
            yield entries[at : min(high, at + READ_RECORDS)]

    def _of(self, topic: str) -> list[list[Entry]]:
        try:
            return self._topics[topic]
        except KeyError:
            raise UsageError(f"There is no topic {topic} here.") from None


class KafkaLog:
    """The topics of a namespace of a cluster, read committed."""

    def __init__(self, kafka: str, namespace: str, client: Mapping[str, str] | None = None) -> None:
        from infra.kafka.admin import admin_client, cluster_metadata

        self.kafka = kafka
        self.namespace = namespace
        self._client = dict(client or {})
        self._idle: list[Consumer] = []
        """Consumers to be used again: a new one takes a tenth of a second until it reads."""
        self._searchers: list[Consumer] = []
        """Those that looked for a time, to do so again."""
        self._fetchers: dict[int, list[Connection]] = {}
        """Connections that wait for nothing, by the broker's number."""
        self._tries = 0 if client else FETCH_TRIES
        """How often more may fetching fail. Librdkafka's settings may say how to log in."""
        self._admin: AdminClient = admin_client(kafka)
        metadata = cluster_metadata(self._admin, kafka)
        self._found, self._brokers = metadata.topics, metadata.brokers

    def partitions(self, topic: str) -> int:
        """See :class:`Log`."""
        found = self._found.get(self._name(topic))
        if found is None:
            raise UsageError(
                f"There is no topic {self._name(topic)} at {self.kafka}: give the namespace that "
                "the system runs under."
            )
        return len(found.partitions)

    def firsts(self, topic: str) -> dict[int, int]:
        """See :class:`Log`."""
        return self._offsets(topic, "earliest")

    def ends(self, topic: str) -> dict[int, int]:
        """See :class:`Log`. Uncommitted entries count: ``read`` waits until they are decided."""
        return self._offsets(topic, "latest")

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See :class:`Log`. Uncommitted entries count, as in ``ends``."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        # Asked for what is committed, a broker stops before a transaction whose marker is still to
        # come, which a commit that was answered may be: nothing would be found, and the end told.
        settings = self._settings() | {"isolation.level": "read_uncommitted"}
        consumer = self._searchers.pop() if self._searchers else Consumer(settings)
        try:
            asked = [TopicPartition(self._name(topic), partition, at_ms)]
            [found] = consumer.offsets_for_times(asked, timeout=SILENCE_S)
        except KafkaException as error:
            consumer.close()
            raise BrokerError(f"{self._name(topic)} cannot be searched: {error}.") from error
        self._searchers.append(consumer)
        return found.offset if found.offset >= 0 else self.ends(topic)[partition]

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        """See :class:`Log`. Fetched where that can be, else consumed."""
        from streams.replay.fetch import FetchError

        at = first
        if self._tries and first < end:
            try:
                for after, entries in self._fetched(topic, partition, first, end):
                    for begin in range(0, len(entries), READ_RECORDS):
                        yield entries[begin : begin + READ_RECORDS]
                    at = after
            except FetchError:
                self._tries -= 1
        if at < end:
            yield from self._consumed(topic, partition, at, end)

    def _fetched(
        self, topic: str, partition: int, first: int, end: int
    ) -> Iterator[tuple[int, list[Entry]]]:
        """Yield entries, and the offset up to which they are all; raise FetchError.

        It ends early where nothing more is decided: to wait is the consumer's business.
        """
        from streams.replay.fetch import Batches, most_bytes

        name, batches = self._name(topic), Batches(first)
        leader, connection = self.connection(topic, partition)
        try:
            connection.ask(name, partition, first, most_bytes(end - first))
            while True:
                fetched, before = connection.answer(), batches.after
                found = list(batches.of(fetched, end))
                if before == batches.after:
                    return
                if batches.after < end:
                    left = end - batches.after
                    connection.ask(name, partition, batches.after, most_bytes(left))
                entries: list[Entry] = []
                for one in found:
                    entries += entries_of(one.records())
                if entries and (entries[0].offset < first or entries[-1].offset >= end):
                    entries = [entry for entry in entries if first <= entry.offset < end]
                yield batches.after, entries
                if batches.after >= end:
                    return
        finally:
            self.give_back(leader, connection)

    def connection(self, topic: str, partition: int) -> tuple[int, Connection]:
        """Return the leader of a partition, and a connection to it; FetchError: there is none."""
        from streams.replay.fetch import Connection, FetchError

        found = self._found.get(self._name(topic))
        leader = found.partitions[partition].leader if found is not None else -1
        broker = self._brokers.get(leader)
        if broker is None or broker.host is None or broker.port is None:
            raise FetchError("it has no leader")
        idle = self._fetchers.setdefault(leader, [])
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return leader, connection
            connection.close()
        return leader, Connection(broker.host, broker.port)

    def give_back(self, leader: int, connection: Connection) -> None:
        """Keep a connection that waits for nothing; close another."""
        idle = self._fetchers.setdefault(leader, [])
        if connection.is_idle and len(idle) < IDLE_CONSUMERS:
            idle.append(connection)
        else:
            connection.close()

    def _consumed(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        name = self._name(topic)
        consumer = self._taken()
        sound = False
        heard_s = time.monotonic()
        try:
            # A topic that this consumer has not heard of would be looked for once a second.
            consumer.list_topics(name, SILENCE_S)
            consumer.assign([TopicPartition(name, partition, first)])
            reached = first
            while reached < end:
                messages = consumer.consume(READ_RECORDS, timeout=READ_S)
                if messages:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > SILENCE_S:
                    raise BrokerError(
                        f"{self.kafka} gives no more of {name}, partition {partition}, and does "
                        f"not come to offset {end}: a transaction may be left open."
                    )
                batch: list[Entry] = []
                for message in messages:
                    error, offset = message.error(), message.offset() or 0
                    if error is not None:
                        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                            raise BrokerError(f"{name} cannot be read: {error.str()}.")
                        reached = max(reached, offset)
                    else:
                        reached = offset + 1
                        if offset < end:
                            stamp_ms = message.timestamp()[1]
                            batch.append(Entry(offset, stamp_ms, message.key(), message.value()))
                if batch:
                    yield batch
            sound = True
        except GeneratorExit:  # whoever reads has enough
            sound = True
            raise
        except KafkaException as error:
            raise BrokerError(f"{name} cannot be read: {error}.") from error
        finally:
            if sound:
                self._give_back(consumer)
            else:
                consumer.close()

    def _taken(self) -> Consumer:
        """Return a consumer that reads nothing."""
        from confluent_kafka import Consumer

        return self._idle.pop() if self._idle else Consumer(self._settings())

    def _give_back(self, consumer: Consumer) -> None:
        """Keep a consumer for what is read next: a new one takes a tenth of a second."""
        if len(self._idle) < IDLE_CONSUMERS:
            consumer.unassign()
            self._idle.append(consumer)
        else:
            consumer.close()

    def close(self) -> None:
        """Let go of the connections; what is read later opens new ones."""
        for some in (self._idle, self._searchers):
            while some:
                some.pop().close()
        while self._fetchers:
            for connection in self._fetchers.popitem()[1]:
                connection.close()

    def _name(self, topic: str) -> str:
        from infra.kafka.topics import topic_name

        return topic_name(self.namespace, topic)

    def _offsets(self, topic: str, which: Literal["earliest", "latest"]) -> dict[int, int]:
        from infra.kafka.offsets import list_offsets

        name = self._name(topic)
        asked = [(name, number) for number in range(self.partitions(topic))]
        found = list_offsets(self._admin, asked, which, SILENCE_S)
        return {number: offset for (_, number), offset in found.items()}

    def _settings(self) -> dict[str, object]:
        return {
            "bootstrap.servers": self.kafka,
            "group.id": "shutterwheel-replay",  # demanded; nothing is joined or committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 65_536,
            # The end is told by an answer with nothing in it: all that a small partition costs.
            "fetch.wait.max.ms": 5,
            "log_level": 0,
            "error_cb": lambda _error: None,
            **self._client,
        }
