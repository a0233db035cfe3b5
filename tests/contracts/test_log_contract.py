"""Every log that can be read again gives the same entries; DESIGN.md, "Replay, audit, explain"."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import pytest
from confluent_kafka import Producer

from infra.kafka.admin import create_topics, drop_topics
from infra.kafka.topics import topic_name
from schemas.errors import UsageError
from schemas.ids import FingerprintIds
from streams.replay.archive.log import ArchiveLog
from streams.replay.archive.port import MemoryObjects
from streams.replay.archive.writer import ArchiveRun, Wanted
from streams.replay.log import KafkaLog, Log, MemoryLog

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "capture.results"
PARTITIONS = 2
T0 = time.time_ns() // 1_000_000 - 60_000
"""A broker refuses times to come."""

Written = tuple[int, bytes, int]
"""Partition, value, timestamp."""


class Bench(Protocol):
    def write(self, entries: list[Written], *, commit: bool = True) -> None: ...

    def log(self) -> Log: ...


class InMemory:
    def __init__(self) -> None:
        self._log = MemoryLog(PARTITIONS)

    def write(self, entries: list[Written], *, commit: bool = True) -> None:
        for partition, value, at_ms in entries:
            if commit:
                self._log.append(TOPIC, partition, b"k", value, at_ms)

    def log(self) -> Log:
        return self._log


class OnKafka:
    def __init__(self, kafka: str, namespace: str) -> None:
        self._kafka, self._namespace = kafka, namespace
        settings = {"bootstrap.servers": kafka, "transactional.id": f"{namespace}-log"}
        self._producer = Producer(settings)
        self._producer.init_transactions(60)

    def write(self, entries: list[Written], *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for partition, value, at_ms in entries:
            name = topic_name(self._namespace, TOPIC)
            self._producer.produce(name, value, b"k", partition, timestamp=at_ms)
        self._producer.flush()
        if commit:
            self._producer.commit_transaction()
        else:
            self._producer.abort_transaction()

    def log(self) -> Log:
        return KafkaLog(self._kafka, self._namespace)


class InArchive(InMemory):
    """Each look archives what has come since the last."""

    def __init__(self) -> None:
        super().__init__()
        self._objects = MemoryObjects()
        self._topics = {"schedule.ticks"}
        self._log.append("schedule.ticks", 0, b"0", b"a tick", T0)

    def write(self, entries: list[Written], *, commit: bool = True) -> None:
        super().write(entries, commit=commit)
        self._topics |= {TOPIC}

    def log(self) -> Log:
        wanted = Wanted("site", {topic: self._log.ends(topic) for topic in self._topics})
        ArchiveRun(self._objects, self._log, FingerprintIds(), wanted).run()
        return ArchiveLog(self._objects)


@pytest.fixture(params=["memory", "archive", "kafka"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param in {"memory", "archive"}:
        yield InMemory() if request.param == "memory" else InArchive()
        return
    kafka, namespace = request.getfixturevalue("kafka"), request.getfixturevalue("namespace")
    create_topics(kafka, namespace, PARTITIONS)
    yield OnKafka(kafka, namespace)
    drop_topics(kafka, namespace)


def values(log: Log, partition: int, first: int, end: int) -> list[bytes | None]:
    return [e.value for batch in log.read(TOPIC, partition, first, end) for e in batch]


def test_entries_come_in_order_with_what_was_written(bench: Bench) -> None:
    bench.write([(1, b"%d" % n, T0 + n) for n in range(12)] + [(0, b"other", T0)])
    log = bench.log()
    entries = [e for batch in log.read(TOPIC, 1, 0, log.ends(TOPIC)[1]) for e in batch]
    assert log.partitions(TOPIC) == PARTITIONS
    assert [(e.key, e.value, e.timestamp_ms) for e in entries] == [
        (b"k", b"%d" % n, T0 + n) for n in range(12)
    ]
    assert log.firsts(TOPIC) == {0: 0, 1: 0}


def test_what_was_aborted_is_not_there_and_reading_ends(bench: Bench) -> None:
    """The last offsets of the partition are aborted records and markers."""
    bench.write([(0, b"kept", T0)])
    bench.write([(0, b"aborted", T0 + 1)] * 3, commit=False)
    log = bench.log()
    assert values(log, 0, 0, log.ends(TOPIC)[0]) == [b"kept"]
    assert values(log, 1, 0, log.ends(TOPIC)[1]) == []


def test_a_range_holds_its_first_and_not_its_end(bench: Bench) -> None:
    bench.write([(0, b"%d" % n, T0 + n) for n in range(6)])
    assert values(bench.log(), 0, 2, 5) == [b"2", b"3", b"4"]
    assert values(bench.log(), 0, 3, 3) == []


def test_a_time_is_found(bench: Bench) -> None:
    bench.write([(0, b"%d" % n, T0 + 10 * n) for n in range(6)])
    log = bench.log()
    assert log.offset_at(TOPIC, 0, T0 - 5) == 0
    assert log.offset_at(TOPIC, 0, T0 + 20) == 2
    assert log.offset_at(TOPIC, 0, T0 + 21) == 3
    nothing_later = log.offset_at(TOPIC, 0, T0 + 40_000)
    assert values(log, 0, nothing_later, log.ends(TOPIC)[0]) == []


def test_a_topic_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"no topic .*capture\.nothing"):
        bench.log().ends("capture.nothing")


def idle(log: KafkaLog) -> list[object]:
    return [*log._idle, *(one for some in log._fetchers.values() for one in some)]


def test_consumers_serve_one_topic_after_the_other(kafka: str, namespace: str) -> None:
    """Opening one costs a tenth of a second: what was read in part gives its consumer back too."""
    create_topics(kafka, namespace, PARTITIONS)
    bench = OnKafka(kafka, namespace)
    bench.write([(0, b"%d" % n, T0 + n) for n in range(20)])
    fetching = KafkaLog(kafka, namespace)
    consuming = KafkaLog(kafka, namespace, {"client.id": "consumes"})
    for log in (fetching, consuming):
        end = log.ends(TOPIC)[0]
        begun = log.read(TOPIC, 0, 0, end)
        assert next(begun)[0].value == b"0"
        begun.close()  # type: ignore[attr-defined]
        [kept] = idle(log)
        assert log.offset_at(TOPIC, 0, T0 + 7) == 7
        assert values(log, 0, 12, end) == [b"%d" % n for n in range(12, 20)]
        assert values(log, 1, 0, log.ends(TOPIC)[1]) == []
        assert idle(log) == [kept]
    assert not fetching._idle
    assert not consuming._fetchers
    for log in (fetching, consuming):
        log.close()
        assert idle(log) == []
    drop_topics(kafka, namespace)
