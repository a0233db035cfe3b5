"""Recovery against a real broker; DESIGN.md, "Exactly once", bullets "Recovery order" and
"Local state".

The earlier owner of a partition is a producer of the test: it leaves transactions open, aborts
them, or holds offsets pending, as a worker does that was killed or stopped in the middle.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from runtime_harness import IN, LOG, PATIENCE_S, Site, wait_until

from infra.kafka.broker import EmbeddedBroker, free_port
from infra.kafka.offsets import OffsetsMark
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from streams.runtime.recovery import Recovery
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "counts"
TRIMMED = "probe.trimmed"


class Bench:
    """A store and its recovery, and the earlier owner's producer."""

    def __init__(self, site, path, log=LOG, **settings):
        self.site, self.log = site, log
        self.settings = RuntimeSettings(
            app="captures",
            slot="0",
            bootstrap=settings.pop("bootstrap", site.kafka),
            namespace=site.namespace,
            data_dir=path,
            **settings,
        )
        self.store = Store(path / "state", (TABLE,), block_cache_bytes=1 << 20)
        self.producers = 0

    def topic(self, name: str) -> str:
        return topic_name(self.site.namespace, name)

    def recover(self, partitions=(0,), still_wanted=lambda: True, mark=None):
        recovery = Recovery(self.settings, self.store, self.topic, {TABLE: self.log}, (IN,))
        return recovery.recover(partitions, still_wanted, mark)

    def owner(self, timeout_ms: int = 60_000) -> Producer:
        """Return the producer of an earlier owner, ready to begin."""
        self.producers += 1
        producer = Producer(
            {
                "bootstrap.servers": self.site.kafka,
                "transactional.id": f"{self.site.namespace}-{self.producers}",
                "transaction.timeout.ms": timeout_ms,
            }
        )
        producer.init_transactions(20)
        return producer

    def write(
        self, producer: Producer, rows: dict[bytes, bytes | None], partition: int = 0
    ) -> None:
        """Begin a transaction and have the broker hold its records."""
        producer.begin_transaction()
        for key, value in rows.items():
            producer.produce(self.topic(self.log), value, key, partition)
        assert producer.flush(20) == 0

    def committed(self, *steps: dict[bytes, bytes | None], partition: int = 0) -> None:
        """Commit one transaction a step."""
        producer = self.owner()
        for rows in steps:
            self.write(producer, rows, partition)
            producer.commit_transaction(20)

    def rows(self, partition: int = 0) -> dict[bytes, bytes]:
        return dict(self.store.scan(TABLE, partition))


@pytest.fixture
def bench(site, tmp_path) -> Iterator[Bench]:
    made = Bench(site, tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_offsets_without_the_mark_are_not_believed(bench, aside):
    """They may be of the past: a coordinator that was stopped tells them as they were."""
    bench.settings = replace(bench.settings, broker_patience_ms=2_000)
    mark = OffsetsMark(bench.topic(LOG), 0)
    with pytest.raises(BrokerError, match="stable offsets"):
        bench.recover(mark=mark)
    bench.settings = replace(bench.settings, broker_patience_ms=30_000)
    waiting = aside.submit(bench.recover, mark=mark)
    consumer = Consumer({"bootstrap.servers": bench.site.kafka, "group.id": bench.settings.group})
    marked = TopicPartition(mark.topic, mark.partition, mark.offset)
    wait_until("the mark", lambda: consumer.commit(offsets=[marked], asynchronous=False))
    assert waiting.result(30).positions == {(IN, 0): 0}
    consumer.close()


def test_the_marks_of_recoveries_are_no_rows(bench):
    bench.committed({b"a": b"1"})
    assert [bench.recover().records for _ in range(3)] == [1, 0, 0]
    assert bench.rows() == {b"a": b"1"}
    assert bench.store.offset(TABLE, 0) == bench.site.reader.ends(LOG)[0]


# -- the changelog's end ---------------------------------------------------------------------------


def test_committed_rows_are_there_and_the_markers_at_the_end_do_not_hang(bench):
    """Control records leave gaps: the position reaches the target, no record ever does."""
    bench.committed({b"a": b"1", b"b": b"1"}, {b"a": b"2"}, {b"b": None, b"c": b"3"})
    found = bench.recover()
    assert bench.rows() == {b"a": b"2", b"c": b"3"}
    assert found.records == 5
    assert bench.store.offset(TABLE, 0) == bench.site.reader.ends(LOG)[0]
    assert bench.recover().records == 0


def test_an_aborted_transaction_at_the_end_leaves_nothing_and_does_not_hang(bench):
    bench.committed({b"a": b"1"})
    producer = bench.owner()
    bench.write(producer, {b"a": b"never", b"z": b"never"})
    producer.abort_transaction(20)
    bench.recover()
    assert bench.rows() == {b"a": b"1"}


def test_nothing_but_aborted_transactions(bench):
    producer = bench.owner()
    for _ in range(3):
        bench.write(producer, {b"a": b"never"})
        producer.abort_transaction(20)
    assert bench.recover().records == 0
    assert bench.rows() == {}


@pytest.mark.parametrize("commits", [True, False])
def test_an_open_transaction_at_the_end_is_awaited(bench, aside, commits):
    """The target is read uncommitted: the last stable offset would end before this transaction."""
    bench.committed({b"a": b"1"})
    producer = bench.owner()
    bench.write(producer, {b"a": b"2"})
    recovering = aside.submit(bench.recover)
    wait_until("the stable part is read", lambda: bench.rows() == {b"a": b"1"})
    assert not recovering.done()
    if commits:
        producer.commit_transaction(20)
    else:
        producer.abort_transaction(20)
    recovering.result(PATIENCE_S)
    assert bench.rows() == {b"a": b"2" if commits else b"1"}


def test_the_open_transaction_of_a_dead_owner_is_awaited_until_it_times_out(bench):
    """Nobody ends it: the broker aborts it after its timeout and its clean-up interval."""
    bench.committed({b"a": b"1"})
    dead = bench.owner(timeout_ms=1_000)
    bench.write(dead, {b"a": b"never"})
    bench.recover()
    assert bench.rows() == {b"a": b"1"}
    # Behind the mark of the recovery stands that of the abort, which it waited for.
    assert bench.store.offset(TABLE, 0) >= bench.site.reader.ends(LOG)[0] - 1


def test_a_recovery_that_cannot_get_on_says_where_it_stands(site, tmp_path):
    bench = Bench(site, tmp_path, broker_patience_ms=1_000)
    try:
        bench.committed({b"a": b"1"})
        producer = bench.owner()
        bench.write(producer, {b"a": b"2"})
        with pytest.raises(BrokerError, match=r"no progress: .*probe\.log-0 stands at \d+ of \d+"):
            bench.recover()
        producer.abort_transaction(20)
    finally:
        bench.store.close()


# -- the input's offsets ---------------------------------------------------------------------------


def test_offsets_that_are_pending_are_awaited(bench, aside):
    """require_stable: whoever has sent its offsets may still commit; until then nobody begins."""
    site = bench.site
    site.feed.send(10)
    producer = bench.owner()
    outside = Consumer({"bootstrap.servers": site.kafka, "group.id": bench.settings.group})
    nobody = outside.consumer_group_metadata()
    outside.close()

    def send(offset: int) -> None:
        offsets = [TopicPartition(bench.topic(IN), 0, offset)]
        producer.send_offsets_to_transaction(offsets, nobody, 20)

    bench.write(producer, {b"a": b"1"})
    send(2)
    producer.commit_transaction(20)
    bench.write(producer, {b"a": b"2"})
    send(4)
    recovering = aside.submit(bench.recover)
    with pytest.raises(TimeoutError):
        recovering.result(1.0)
    producer.commit_transaction(20)
    found = recovering.result(PATIENCE_S)
    assert found.positions == {(IN, 0): 4}
    assert bench.rows() == {b"a": b"2"}


def test_without_offsets_an_input_begins_at_its_beginning(bench):
    bench.site.feed.send(6)
    assert bench.recover((0, 1)).positions == {(IN, 0): 0, (IN, 1): 0}


def test_no_partition_at_all_is_nothing_to_do(bench):
    """A worker more than there are partitions."""
    found = bench.recover(())
    assert (dict(found.positions), found.records) == ({}, 0)


# -- local state -----------------------------------------------------------------------------------


def test_local_state_shortens_the_reading(bench):
    bench.committed({b"a": b"1"}, {b"b": b"1"})
    bench.recover()
    bench.committed({b"b": b"2"})
    assert bench.recover().records == 1
    assert bench.rows() == {b"a": b"1", b"b": b"2"}


def test_a_death_between_commit_and_local_write_is_made_good(bench):
    """The transaction is committed, the store one transaction behind."""
    bench.committed({b"a": b"1"})
    bench.store.apply({(TABLE, 0, b"a"): b"1"}, {(TABLE, 0): 1})
    bench.committed({b"a": b"2"})
    assert bench.recover().records == 1
    assert bench.rows() == {b"a": b"2"}


def test_state_ahead_of_the_changelog_is_thrown_away(bench):
    """As after the topic was made anew."""
    bench.store.apply({(TABLE, 0, b"old"): b"1"}, {(TABLE, 0): 500})
    bench.committed({b"a": b"1"})
    bench.recover()
    assert bench.rows() == {b"a": b"1"}


def test_state_of_before_the_changelogs_beginning_is_thrown_away(site, tmp_path):
    """What was deleted meanwhile cannot be known: begin anew from what there is."""
    admin = AdminClient({"bootstrap.servers": site.kafka})
    name = topic_name(site.namespace, TRIMMED)
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    bench = Bench(site, tmp_path, log=TRIMMED)
    try:
        bench.committed({b"gone": b"1"}, {b"gone": None}, {b"a": b"1"})
        bench.store.apply({(TABLE, 0, b"gone"): b"1"}, {(TABLE, 0): 1})
        cut = TopicPartition(name, 0, 4)
        admin.delete_records([cut])[cut].result()
        bench.recover()
        assert bench.rows() == {b"a": b"1"}
    finally:
        bench.store.close()
        admin.delete_topics([name])[name].exception()


def test_state_older_than_deletions_are_kept_is_thrown_away(bench, monkeypatch):
    """Compaction drops a deletion after a day: state that has not seen it would keep the row."""
    bench.store.apply({(TABLE, 0, b"gone"): b"1", (TABLE, 0, b"a"): b"1"}, {(TABLE, 0): 1})
    bench.committed({b"a": b"1"}, {b"a": b"2"})
    monkeypatch.setattr("streams.runtime.store.MAX_AGE_S", 0)
    bench.recover(still_wanted=lambda: False)
    monkeypatch.undo()
    bench.recover()
    assert bench.rows() == {b"a": b"2"}


def test_partitions_without_state_beside_those_with_some(bench):
    bench.committed({b"a": b"1"})
    bench.recover((0,))
    bench.committed({b"b": b"1"}, partition=1)
    found = bench.recover((0, 1))
    assert found.records == 1
    assert (bench.rows(0), bench.rows(1)) == ({b"a": b"1"}, {b"b": b"1"})


def test_a_recovery_nobody_wants_any_more_ends_early_and_is_gone_on_with(bench):
    """A second rebalance during a recovery."""
    bench.committed(*({b"%d" % n: b"1"} for n in range(20)))
    answers = iter([True, False])
    bench.recover(still_wanted=lambda: next(answers, False))
    bench.recover()
    assert len(bench.rows()) == 20


def test_more_records_than_one_chunk(bench):
    producer = bench.owner()
    rows = {b"%06d" % n: b"1" for n in range(25_000)}
    bench.write(producer, rows)
    producer.commit_transaction(20)
    assert bench.recover().records == 25_000
    assert len(bench.rows()) == 25_000


def test_a_broker_that_does_not_answer_is_one_clear_line(site, tmp_path):
    bench = Bench(site, tmp_path, bootstrap=f"127.0.0.1:{free_port()}", broker_patience_ms=500)
    try:
        with pytest.raises(BrokerError) as caught:
            bench.recover()
        assert "\n" not in caught.value.line()
    finally:
        bench.store.close()


@pytest.mark.long
def test_a_changelog_whose_tail_was_compacted_away_does_not_hang(site, tmp_path):
    """The last offsets of a compacted partition may hold no record at all."""
    admin = AdminClient({"bootstrap.servers": site.kafka})
    name = topic_name(site.namespace, TRIMMED)
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "200",
        "min.cleanable.dirty.ratio": "0.0",
        "delete.retention.ms": "0",
        "max.compaction.lag.ms": "200",
    }
    admin.create_topics([NewTopic(name, 2, 1, config=config)])[name].result()
    bench = Bench(site, tmp_path, log=TRIMMED)
    try:
        producer = bench.owner()
        end = time.monotonic() + 45
        compacted = threading.Event()
        n = 0
        while not compacted.is_set() and time.monotonic() < end:
            n += 1
            bench.write(producer, {b"a": b"%d" % n, b"gone": b"1"})
            producer.commit_transaction(20)
            bench.write(producer, {b"gone": None})
            producer.commit_transaction(20)
            time.sleep(0.3)  # lets a segment be closed: the broker goes by the time alone
            if sum(1 for _ in site.reader.read(TRIMMED)[0]) < n:
                compacted.set()
        assert compacted.is_set(), "the broker has not compacted"
        bench.recover()
        assert bench.rows() == {b"a": b"%d" % n}
    finally:
        bench.store.close()
        admin.delete_topics([name])[name].exception()


@pytest.mark.usefixtures("prepared")
def test_a_new_broker_whose_coordinator_is_not_there_yet_is_asked_again(namespace, tmp_path):
    """Found by hand: librdkafka's AdminClient ended the process by a null pointer here."""
    with EmbeddedBroker(tmp_path / "kafka") as broker:
        site = Site(broker.bootstrap, namespace, tmp_path)
        bench = Bench(site, tmp_path)
        try:
            assert bench.recover((0, 1)).positions == {(IN, 0): 0, (IN, 1): 0}
        finally:
            bench.store.close()
            site.close()
