"""Changelogs read and put together, over sockets, from librdkafka's own stand-in for a broker.

What only a real one does (transactions, compaction, leaders that move) is in
``tests/integration/runtime/test_recovery.py``.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from schemas.errors import BrokerError
from streams.runtime import recovery
from streams.runtime.changelog_reader import ChangelogReader
from streams.runtime.recovery import Recovery
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE, PARTITIONS = "counts", 4
"""The stand-in makes topics of four partitions."""
PATIENCE_S = 20.0
NUMBERS = count()


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    owner = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = owner.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    owner.flush()


class Bench:
    def __init__(self, kafka, path, **settings):
        self.kafka, self.log = kafka, f"log-{next(NUMBERS)}"
        self.settings = RuntimeSettings("captures", "0", kafka, path, **settings)
        self.store = Store(path / "state", (TABLE,), block_cache_bytes=1 << 20)
        self.write({b"somebody": b"1"}, topic="in")

    def write(self, *steps, partition=0, topic=None, **settings):
        producer = Producer({"bootstrap.servers": self.kafka, "log_level": 0, **settings})
        for rows in steps:
            for key, value in rows.items():
                producer.produce(topic or self.log, value, key, partition)
        assert producer.flush(PATIENCE_S) == 0

    def recover(self, partitions=(0,), still_wanted=lambda: True):
        changelogs = {TABLE: self.log}
        recovering = Recovery(self.settings, self.store, lambda name: name, changelogs, ("in",))
        return recovering.recover(partitions, still_wanted)

    def rows(self, partition=0):
        return dict(self.store.scan(TABLE, partition))


@pytest.fixture
def bench(stand_in, tmp_path) -> Iterator[Bench]:
    made = Bench(stand_in, tmp_path)
    yield made
    made.store.close()


def test_the_last_value_of_a_key_counts_and_none_deletes(bench):
    bench.write({b"a": b"1", b"b": b"1"}, {b"a": b"2"}, {b"b": None, b"c": b"3"}, {None: b"no"})
    found = bench.recover()
    assert bench.rows() == {b"a": b"2", b"c": b"3"}
    assert found.records == 5


def test_what_is_on_disk_is_not_read_again(bench):
    bench.write({b"a": b"1", b"b": b"1"})
    bench.recover()
    bench.write({b"a": None}, {b"c": b"1"})
    assert bench.recover().records == 2
    assert bench.rows() == {b"b": b"1", b"c": b"1"}


def test_partitions_are_told_apart(bench):
    for partition in range(PARTITIONS):
        bench.write({b"k": b"%d" % partition}, partition=partition)
    assert bench.recover(range(PARTITIONS)).records == PARTITIONS
    assert [bench.rows(n) for n in range(PARTITIONS)] == [{b"k": b"%d" % n} for n in range(4)]


@pytest.mark.parametrize("how", ["gzip", "snappy", "lz4", "zstd"])
def test_upstream_chooses_the_compression(bench, how):
    rows = {b"%04d" % n: b"%d" % n * 20 for n in range(1_000)}
    bench.write(rows, **{"compression.type": how})
    assert bench.recover().records == 1_000
    assert bench.rows() == rows


def test_more_rows_than_wait_to_be_written_together(bench, monkeypatch):
    """An older value of a row is written first, and the newer over it."""
    monkeypatch.setattr(recovery, "WAITING_ROWS", 10)
    for n in range(60):
        bench.write({b"often": b"%d" % n, b"%02d" % n: b"x"})
    found = bench.recover()
    assert (found.records, len(bench.rows())) == (120, 61)
    assert bench.rows()[b"often"] == b"59"


def test_a_recovery_nobody_wants_any_more_keeps_what_it_has_read(bench):
    bench.write({b"a": b"1"})
    read: list[int] = []
    for _ in range(100):
        answers = iter([True])
        found = bench.recover(still_wanted=partial(next, answers, False))
        read.append(found.records)
        if bench.rows():
            break
    assert bench.recover().records + sum(read) == 1
    assert bench.rows() == {b"a": b"1"}


def test_an_offset_that_is_not_there_is_one_clear_line(bench):
    bench.write({b"a": b"1"})
    with (
        ChangelogReader(bench.kafka, "test", {(bench.log, 0): 500}) as reader,
        pytest.raises(BrokerError, match="Cannot read the changelog") as caught,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            reader.poll(0.1)
    assert "\n" not in caught.value.line()


def test_nothing_to_read_is_no_error(bench):
    bench.write({b"a": b"1"})
    with ChangelogReader(bench.kafka, "test", {(bench.log, 0): 1}) as reader:
        assert reader.poll(0.05) == {}
