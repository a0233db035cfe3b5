"""A system that was archived and restored goes on as if nothing had been; issue 7, DESIGN.md
"Replay, audit, explain". Real Kafka, real workers, real cameras on sockets.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from aiokafka.conn import create_conn
from chain_harness import SESSION_MS, CameraThread, Chain, assert_kept
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from benchmarks import history
from infra.kafka.admin import admin_client, create_topics, drop_topics
from infra.kafka.topics import TOPICS, topic_name
from schemas.errors import BrokerError, UsageError
from shutterwheel.apps import apps
from shutterwheel.cluster import ClusterOptions
from shutterwheel.commands import archive, restore
from shutterwheel.context import Cluster
from shutterwheel.logs_at import open_log, open_objects
from shutterwheel.restore_jobs import Processes, Site
from streams.core.state_hash import state_hash
from streams.replay.archive.verify import verify
from streams.replay.cut import CutTaker
from streams.replay.log import Entry, KafkaLog
from streams.replay.restore.pour import Pourer, appended
from streams.replay.restore.run import POURING
from streams.replay.restore.sink import Append, Sink
from streams.replay.restore.tables import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.replay.log import Log

PARTITIONS = 2
PERIOD_MS = 1_000
DEVICES = 12


@pytest.fixture
def cameras() -> Iterator[CameraThread]:
    made = CameraThread(DEVICES)
    yield made
    made.close()


def options(kafka: str, namespace: str, data: Path, blobs: str) -> ClusterOptions:
    return ClusterOptions(
        data=data, kafka=kafka, namespace=namespace, partitions=PARTITIONS, blobs=blobs,
        session_timeout_ms=SESSION_MS,
    )  # fmt: skip


def entries(log: Log, topic: str, number: int) -> list[Entry]:
    first, end = log.firsts(topic)[number], log.ends(topic)[number]
    return [entry for batch in log.read(topic, number, first, end) for entry in batch]


def records(log: Log) -> dict[str, object]:
    """Every record of every topic that is not compacted, and where each partition ends."""
    return {
        spec.name: (
            log.ends(spec.name),
            [entries(log, spec.name, number) for number in range(log.partitions(spec.name))],
        )
        for spec in TOPICS
        if spec.cleanup == "delete"
    }


def newest(log: Log, topic: str, number: int) -> dict[bytes, bytes]:
    """A second way to a table: by nothing of restore's."""
    found = {e.key: e.value for e in entries(log, topic, number) if e.key != b"\0mark"}
    return {k: v for k, v in found.items() if k is not None and v is not None}


def test_workers_go_on_where_the_others_were(kafka, namespace, tmp_path, cameras):
    """Tables equal by hash, records at their offsets, every photo once over both systems.

    The second archive, and the restore, are the work of two processes.
    """
    blobs, place = (tmp_path / "blobs").as_uri(), str(tmp_path / "archive")
    old = Chain(options(kafka, namespace, tmp_path / "old", blobs), DEVICES, cameras)
    new = Chain(options(kafka, f"{namespace}-new", tmp_path / "new", blobs), DEVICES, cameras)
    try:
        old.start()
        old.introduce()
        old.schedule(PERIOD_MS, misfire="skip")
        old.run_on(DEVICES)
        live, _ = archive.run(place, Cluster(kafka, namespace))
        assert live.records > 0  # while it works
        old.run_on(DEVICES)
        old.stop()
        report, cut = archive.run(place, Cluster(kafka, namespace), jobs=2)
        assert cut is not None
        assert verify(open_objects(place), head=live.head).ok
        assert verify(open_objects(place), head=report.head).ok
        there = KafkaLog(kafka, namespace)
        archived = open_log(archive=place, namespace=namespace)
        wanted = records(there)
        assert records(archived) == wanted

        source = restore.source_of_archive(place)
        with Processes(Site(kafka, new.namespace, place), 2).at_work() as crew:
            done = restore.run(source, kafka, new.namespace, fold=True, crew=crew)
        assert done.ok
        assert done.transactions == 0  # this cluster lets us write markers
        assert done.markers > 0
        here = KafkaLog(kafka, new.namespace)
        assert records(here) == wanted
        for app in apps():
            for number in range(PARTITIONS):
                rows = sorted(
                    (table, key, value)
                    for table, topic in app.tables.items()
                    for key, value in newest(there, topic, number).items()
                )
                [told] = [t for t in done.tables if (t.app, t.partition) == (app.name, number)]
                assert told.original == told.restored == state_hash(rows).hex()
                assert not told.folded or told.folded == told.original
        assert sum(t.rows.get("captures", 0) for t in done.tables) > 0
        live_source = restore.source_of_kafka(kafka, namespace)
        assert live_source.cut.ends == cut.ends  # nobody has written meanwhile
        assert live_source.cut.groups == cut.groups
        with pytest.raises(UsageError, match="not empty"):
            restore.run(live_source, kafka, new.namespace)

        new.start()
        new.run_on(DEVICES)
        new.cancel()
        new.drain()
        # The whole history stands in the new topics; it is judged as one run.
        new.since, new.started_ms = None, old.started_ms  # type: ignore[assignment]
        found = new.check()
        assert_kept(found)
        assert not new.shutters_after_the_end()
        taken = [e.command_id for e in cameras.log() if e.shutter]
        assert len(set(taken)) == len(taken), "a photo was taken twice"
        assert len(taken) >= 3 * DEVICES
    finally:
        new.stop()
        old.close()
        drop_topics(kafka, new.namespace)


@pytest.mark.parametrize("markers", [64, 1, 0], ids=["by markers", "mixed", "by transactions"])
def test_offsets_are_kept_across_every_kind_of_gap(kafka, namespace, markers):
    """Commits, aborts, records deleted in front: the same offsets, times, keys and values."""
    target = f"{namespace}-new"
    for name in (namespace, target):
        only_results(kafka, name)
    try:
        topic = topic_name(namespace, "capture.results")
        producer = Producer({"bootstrap.servers": kafka, "transactional.id": namespace})
        producer.init_transactions(30)
        now_ms = time.time_ns() // 1_000_000
        for number, (count, commit) in enumerate(
            [(3, True), (1, True), (2, False), (1, True), (1, False), (5, True), (1, False)]
        ):
            producer.begin_transaction()
            for n in range(count):
                at_ms = now_ms - 9_000 + number
                producer.produce(topic, b"%d %d" % (number, n), b"k", 0, timestamp=at_ms)
            producer.flush()
            (producer.commit_transaction if commit else producer.abort_transaction)(30)
        there = KafkaLog(kafka, namespace)
        ends = {("capture.results", 0): there.ends("capture.results")[0]}
        with closing(Pourer(kafka, target, markers=markers)) as pourer:
            pourer.pour(there, ends)
            assert (pourer.transactions == 0) is (markers == 64)
        here = KafkaLog(kafka, target)
        assert entries(here, "capture.results", 0) == entries(there, "capture.results", 0)
        assert len(entries(here, "capture.results", 0)) == 10
        assert here.ends("capture.results") == {0: ends["capture.results", 0]}
        # Records behind what retention left: the first offset is not 0.
        first = entries(there, "capture.results", 0)[4].offset
        later = f"{namespace}-later"
        only_results(kafka, later)
        try:
            with closing(Pourer(kafka, later, markers=markers)) as pourer:
                pourer.pour(From(there, first), ends)
            rest = KafkaLog(kafka, later)
            assert rest.firsts("capture.results") == {0: first}
            assert entries(rest, "capture.results", 0) == entries(there, "capture.results", 0)[4:]
        finally:
            drop_topics(kafka, later)
    finally:
        for name in (namespace, target):
            drop_topics(kafka, name)


@pytest.fixture
def sink(kafka, namespace):
    only_results(kafka, namespace)
    made = Sink(kafka, admin_client(kafka))
    yield made
    made.close()
    drop_topics(kafka, namespace)


def some_appends(namespace, count):
    """Batches of 50 records, each with a marker behind it."""
    topic, at = topic_name(namespace, "capture.results"), 0
    for number in range(count):
        rows = [Entry(0, 1_000 + number, b"k", b"%d %d" % (number, n)) for n in range(50)]
        for one in appended(topic, 0, at, rows):
            yield one
            at += one.records
        yield Append(topic, 0, at, 1)
        at += 1


def test_connections_that_break_lose_and_double_nothing(kafka, namespace, sink):
    """Each with requests on their way: what has come is seen by the partition's end."""
    for number, one in enumerate(some_appends(namespace, 60)):
        sink.put([one])
        if number % 40 == 13:
            for link in sink._links._open.values():
                link._writer.transport.abort()
    sink.settle()
    log = KafkaLog(kafka, namespace)
    assert log.ends("capture.results") == {0: 60 * 51}
    found = [(one.offset, one.value) for one in entries(log, "capture.results", 0)]
    assert found == [(51 * m + n, b"%d %d" % (m, n)) for m in range(60) for n in range(50)]


def test_a_record_of_somebody_else_is_told(kafka, namespace, sink):
    """A restore whose offsets are not the original's anymore does not go on."""
    appends = list(some_appends(namespace, 3))
    sink.put(appends[:2])
    sink.settle()
    stranger = Producer({"bootstrap.servers": kafka})
    stranger.produce(topic_name(namespace, "capture.results"), b"mine", b"k", 0)
    assert stranger.flush(30) == 0
    with pytest.raises(BrokerError, match="offset 52 where 51 was expected; somebody else"):
        sink.put(appends[2:])
        sink.settle()


def test_a_cluster_that_has_gone_is_told(kafka, namespace, sink, monkeypatch):
    """What cannot be written within the time that a broker may be silent is an error."""
    appends = list(some_appends(namespace, 2))
    sink.put(appends[:2])
    sink.settle()
    monkeypatch.setattr("streams.replay.restore.sink.SILENCE_S", 2.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr("streams.replay.links.create_conn", refused(nobody.getsockname()[1]))
        for link in sink._links._open.values():
            link._writer.transport.abort()
        with pytest.raises(BrokerError, match="takes no more records"):
            sink.put(appends[2:])
            sink.settle()


def refused(port):
    """Return a way to connect that goes to a port where nobody listens."""

    async def connect(_host, _port, **settings):
        return await create_conn("127.0.0.1", port, **settings)

    return connect


def only_results(kafka, namespace):
    """Make one topic, as a restore makes it: records of 1970 stay when the broker looks for old ones."""
    admin = admin_client(kafka)
    name = topic_name(namespace, "capture.results")
    made = admin.create_topics([NewTopic(name, 1, config=POURING)])
    for one in made.values():
        one.result(30)


class From:
    """A log of which retention has dropped what stands before an offset."""

    def __init__(self, log: Log, first: int) -> None:
        self._log = log
        self._first = first

    def __getattr__(self, name):
        return getattr(self._log, name)

    def firsts(self, topic):
        return dict.fromkeys(self._log.firsts(topic), self._first)


@pytest.fixture
def one_partition(kafka, namespace):
    create_topics(kafka, namespace, 1)
    yield kafka
    drop_topics(kafka, namespace)


def test_a_cut_is_of_one_moment_though_everybody_writes(one_partition, namespace):
    """Tables, outputs and offsets of a partition belong to one step, however the wheel is busy.

    A writer puts number n into a table, an output and its group's offset in each transaction.
    """
    app = next(app for app in apps() if app.name == "wheel")
    topics = ("wheel.shards.changelog", "schedule.ticks")
    stop, failed = threading.Event(), list[BaseException]()
    writer = threading.Thread(
        target=write_steps, args=(one_partition, namespace, topics, stop, failed)
    )
    writer.start()
    try:
        log = KafkaLog(one_partition, namespace)
        partitions = {spec.name: log.partitions(spec.name) for spec in TOPICS}
        taker = CutTaker(one_partition, namespace, [app], partitions)
        seen = set()
        while len(seen) < 3 and not failed:
            cut = taker.take()
            [group] = cut.groups
            assert group.unsettled == ()
            offset = group.offsets.get("schedule.events", {}).get(0, 0)
            for topic in topics:
                found = [e for b in log.read(topic, 0, 0, cut.ends[topic][0]) for e in b]
                assert len(found) == offset, topic
            seen.add(offset)
    finally:
        stop.set()
        writer.join()
    assert not failed


def write_steps(kafka, namespace, topics, stop, failed):
    from confluent_kafka import Consumer, TopicPartition

    try:
        producer = Producer({"bootstrap.servers": kafka, "transactional.id": f"{namespace}-steps"})
        producer.init_transactions(30)
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{namespace}.wheel"})
        metadata = consumer.consumer_group_metadata()
        number = 0
        while not stop.wait(0.02):
            number += 1
            producer.begin_transaction()
            for topic in topics:
                producer.produce(topic_name(namespace, topic), b"%d" % number, b"1", 0)
            producer.send_offsets_to_transaction(
                [TopicPartition(topic_name(namespace, "schedule.events"), 0, number)], metadata, 30
            )
            producer.commit_transaction(30)
        consumer.close()
    except BaseException as error:  # noqa: BLE001  # shown by the test
        failed.append(error)


def test_a_folded_row_that_differs_is_seen():
    """The proof bites: one byte of one row, and the hash is another."""
    rows = {("shards", b"1"): b"\0\0\0\0\1abc", ("shards", b"2"): b"\0\0\0\0\1abd"}
    changed = {**rows, ("shards", b"2"): b"\0\0\0\0\1abe"}
    other_id = {**rows, ("shards", b"2"): b"\0\0\0\0\7abd"}
    assert hash_of(rows) != hash_of(changed)
    assert hash_of(rows) == hash_of(other_id)


@pytest.mark.long
def test_a_fleets_history_goes_through_processes(kafka, namespace, tmp_path):
    """What ``bench archive --records`` does, small: records, tables and groups are equal."""
    target, place = f"{namespace}-new", str(tmp_path / "archive")
    create_topics(kafka, namespace, history.PARTITIONS)
    try:
        begin_ms = time.time_ns() // 1_000_000 - 60_000
        everything = tuple(range(history.PARTITIONS))
        history.fill(history.Share(kafka, namespace, everything, 200, 250, begin_ms))
        history.commit_groups(kafka, namespace)
        report, cut = archive.run(place, Cluster(kafka, namespace), jobs=2)
        assert cut is not None
        assert verify(open_objects(place), head=report.head).ok
        there = KafkaLog(kafka, namespace)
        wanted = records(there)
        assert records(open_log(archive=place)) == wanted
        with Processes(Site(kafka, target, place), 2).at_work() as crew:
            done = restore.run(restore.source_of_archive(place), kafka, target, crew=crew)
        assert done.ok
        assert done.records == report.records
        assert sum(table.rows.get("schedules", 0) for table in done.tables) == 200
        assert records(KafkaLog(kafka, target)) == wanted
        assert restore.source_of_kafka(kafka, target).cut.groups == cut.groups
    finally:
        for name in (namespace, target):
            drop_topics(kafka, name)
