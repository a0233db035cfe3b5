"""What is searched as bytes on a cluster is what the log's own reader gives (``scan.py``).

DESIGN.md 'Replay, audit, explain'; issue 7 ('explain'). On a real broker: transactions that were
committed and aborted, interleaved; batches that are compressed; a topic stamped by the broker.
"""

from __future__ import annotations

import socket
import time
import uuid
from itertools import count

import pytest
from confluent_kafka import Producer

from infra.kafka.admin import create_topics, drop_topics
from infra.kafka.topics import topic_name
from streams.replay import fetch, scan
from streams.replay.log import FETCH_TRIES, Entry, KafkaLog, Log, MemoryLog
from streams.replay.scan import Scanner

TOPICS = ("schedule.decisions", "schedule.ticks")
MINE = b"cam-7"
KEYS = (MINE, b"cam-77", b"cam-1")
T0 = time.time_ns() // 1_000_000 - 60_000


class Writers:
    """Producers of one topic, each with transactions of its own."""

    def __init__(self, kafka: str, name: str) -> None:
        self._name = name
        self._numbers = count()
        self.transactional = []
        for number in range(2):
            settings = {"bootstrap.servers": kafka, "transactional.id": f"{name}-{number}"}
            one = Producer(settings)
            one.init_transactions(60)
            self.transactional.append(one)
        self.packed = [
            Producer({"bootstrap.servers": kafka, "compression.type": kind, "linger.ms": 50})
            for kind in ("lz4", "zstd", "gzip")
        ]

    def write(self, producer: Producer, records: int = 6) -> None:
        for number in range(records):
            at = next(self._numbers)
            key = KEYS[number % 3]
            value = b"value %d" % at + (b" of cam-7" if at % 7 == 0 else b"")
            producer.produce(self._name, value, key, 0, timestamp=T0 + at)
        producer.flush()


@pytest.fixture(scope="module")
def written(kafka: str):
    """A namespace in which records of four kinds of writers stand between one another."""
    namespace = f"scan{uuid.uuid4().hex[:12]}"
    create_topics(kafka, namespace, 1)
    for topic in TOPICS:
        writers = Writers(kafka, topic_name(namespace, topic))
        first, second = writers.transactional
        for turn in range(4):
            first.begin_transaction()
            second.begin_transaction()
            writers.write(first)
            writers.write(second)
            writers.write(first)
            for one in writers.packed:
                writers.write(one)
            if turn % 2:
                first.abort_transaction()
                second.commit_transaction()
            else:
                second.abort_transaction()
                first.commit_transaction()
            writers.write(writers.packed[0])
    yield namespace
    drop_topics(kafka, namespace)


@pytest.fixture
def log(kafka: str, written: str) -> KafkaLog:
    return KafkaLog(kafka, written)


@pytest.fixture
def consumed(kafka: str, written: str) -> KafkaLog:
    """The same, which nothing is fetched of: who has settings of librdkafka's may need them."""
    return KafkaLog(kafka, written, {"client.id": "consumes"})


def plain(log: Log, topic: str, first: int, end: int, wanted: bytes) -> list[Entry]:
    return [
        entry
        for batch in log.read(topic, 0, first, end)
        for entry in batch
        if wanted in (entry.key or b"") or wanted in (entry.value or b"")
    ]


def test_the_same_entries_are_found_as_by_reading_all(log: KafkaLog, consumed, monkeypatch):
    """Whole topics, and ranges that begin and end within a batch; a fetch may cut a batch off."""
    monkeypatch.setattr(scan, "FEW", 0)
    for topic, fetch_bytes in zip(TOPICS, (scan.FETCH_BYTES, 700), strict=True):
        monkeypatch.setattr(scan, "FETCH_BYTES", fetch_bytes)
        end = log.ends(topic)[0]
        for wanted in (MINE, b"value 35 ", b"cam-", b"nobody"):
            for low, high in ((0, end), (3, end - 3), (end // 2, end // 2 + 40)):
                with Scanner(log) as scanner:
                    looked = list(scanner.holding(topic, 0, low, high, wanted))
                    assert scanner.by_bytes
                found = [entry for one in looked for entry in one.found]
                assert found == plain(consumed, topic, low, high, wanted)
        records = sum(len(batch) for batch in consumed.read(topic, 0, 0, end))
        with Scanner(log) as scanner:
            assert sum(one.records for one in scanner.holding(topic, 0, 0, end, MINE)) == records


def test_what_is_not_decided_yet_is_waited_for(log: KafkaLog, kafka, written, monkeypatch):
    """The end of a range may lie in a transaction that is open: the log's own reader waits."""
    monkeypatch.setattr(scan, "FEW", 0)
    topic = TOPICS[0]
    writers = Writers(kafka, topic_name(written, topic))
    producer = writers.transactional[0]
    producer.begin_transaction()
    writers.write(producer)
    end = log.ends(topic)[0]
    with Scanner(log) as scanner:
        found = scanner.holding(topic, 0, end - 6, end, MINE)
        real = log.read

        def read(*where):
            producer.commit_transaction()
            return real(*where)

        monkeypatch.setattr(log, "read", read)
        assert [entry.key for one in found for entry in one.found].count(MINE) == 2


def test_what_is_fetched_is_what_is_consumed(log: KafkaLog, consumed, monkeypatch):
    """Ranges that begin and end within a batch, in answers that hold some batches or part of one."""
    for topic in TOPICS:
        end = log.ends(topic)[0]
        for most_bytes in (fetch.FETCH_BYTES, 900):
            monkeypatch.setattr(fetch, "FETCH_BYTES", most_bytes)
            for low, high in ((0, end), (3, end - 3), (end // 2, end // 2 + 40), (end, end)):
                found = [one for batch in log.read(topic, 0, low, high) for one in batch]
                assert found == [
                    one for batch in consumed.read(topic, 0, low, high) for one in batch
                ]
        monkeypatch.undo()
    assert log._tries == FETCH_TRIES
    assert consumed._tries == 0


def test_a_connection_that_was_hung_up_on_is_made_anew(log: KafkaLog):
    """A broker hangs up on who is silent for ten minutes."""
    end = log.ends(TOPICS[0])[0]
    right = [one for batch in log.read(TOPICS[0], 0, 0, end) for one in batch]
    ((old,),) = log._fetchers.values()
    assert old.is_open
    old._socket.shutdown(socket.SHUT_RDWR)
    assert not old.is_open
    assert [one for batch in log.read(TOPICS[0], 0, 0, end) for one in batch] == right
    ((new,),) = log._fetchers.values()
    assert new is not old
    assert log._tries == FETCH_TRIES


def test_what_cannot_be_fetched_is_consumed(log: KafkaLog, consumed, monkeypatch):
    """From where it failed: no entry is left out, and none comes twice."""
    topic = TOPICS[0]
    end = log.ends(topic)[0]
    right = [one for batch in consumed.read(topic, 0, 0, end) for one in batch]
    monkeypatch.setattr(fetch, "FETCH_BYTES", 900)
    real, answers = fetch.Connection._read, iter(range(9))

    def fails(connection: fetch.Connection, size: int) -> bytearray:
        if next(answers) == 7:
            raise OSError("a cable was cut")
        return real(connection, size)

    monkeypatch.setattr(fetch.Connection, "_read", fails)
    assert [one for batch in log.read(topic, 0, 0, end) for one in batch] == right
    assert log._tries == FETCH_TRIES - 1


def test_snapshots_are_found_by_what_begins_otherwise(log: KafkaLog, consumed, monkeypatch):
    monkeypatch.setattr(scan, "FEW", 0)
    topic, usual = TOPICS[0], b"value 3"
    end = log.ends(topic)[0]
    right = [
        one
        for batch in consumed.read(topic, 0, 0, end)
        for one in batch
        if not one.value.startswith(usual)
    ]
    with Scanner(log) as scanner:
        looked = [one for piece in scanner.besides(topic, 0, 0, end, usual) for one in piece.found]
        assert scanner.by_bytes
    assert looked == right


def test_a_broker_that_does_not_answer_so_is_read_as_others_are(
    log: KafkaLog, consumed, monkeypatch
):
    monkeypatch.setattr(scan, "FEW", 0)
    end = log.ends(TOPICS[0])[0]
    right = plain(consumed, TOPICS[0], 0, end, MINE)

    def fails(*_: object) -> None:
        raise OSError("a cable was cut")

    monkeypatch.setattr(fetch.Connection, "_read", fails)
    with Scanner(log) as scanner:
        looked = list(scanner.holding(TOPICS[0], 0, 0, end, MINE))
        assert not scanner.by_bytes
    assert [entry for one in looked for entry in one.found] == right


def test_a_log_that_is_no_cluster_is_read():
    memory = MemoryLog(1)
    for number in range(9):
        memory.append(TOPICS[0], 0, KEYS[number % 3], b"%d" % number, T0)
    with Scanner(memory) as scanner:
        (looked,) = scanner.holding(TOPICS[0], 0, 2, 8, b"cam-7")
        assert not scanner.by_bytes
    assert looked.records == 6
    assert [entry.value for entry in looked.found] == [b"3", b"4", b"6", b"7"]
