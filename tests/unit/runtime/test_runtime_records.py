"""Records as agents get them: what aiokafka would have made, without what nobody reads."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.runtime.fetched import (
    FEW_PLACES,
    PacedFetcher,
    PlainRecord,
    PlainRecords,
    fetch_pause_s,
    whole_batches,
)

AIOKAFKA = PlainRecords.__bases__[0]
AT = TopicPartition("in", 3)


def fetched(kind, fetch_offset=0):
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=0, batch_size=1_000_000,
    )  # fmt: skip
    for offset in range(5):
        value = None if offset == 2 else b"v%d" % offset
        headers = [("h", b"1")] if offset == 1 else []
        builder.append(offset, 1_700_000_000_000 + offset, b"k", value, headers)
    raw = MemoryRecords(bytes(builder.build()))
    return list(kind(AT, raw, None, fetch_offset, None, None, True, 1))


def test_each_field_is_what_aiokafka_would_have_given():
    stock, ours = fetched(AIOKAFKA), fetched(PlainRecords)
    assert len(ours) == 5
    for one, other in zip(stock, ours, strict=True):
        assert other == PlainRecord(*(getattr(one, name) for name in PlainRecord._fields))


def test_records_before_the_position_are_left_out_as_ever():
    assert [record.offset for record in fetched(PlainRecords, 3)] == [3, 4]


def test_the_consumer_of_a_worker_reads_with_it():
    assert fetcher.PartitionRecords is PlainRecords


# -- whole batches ---------------------------------------------------------------------------------


def batch(first, *pairs, producer=-1, control=False, last=None):
    """Return the bytes of a record batch as a broker would store it at offset ``first``.

    ``last``: the last offset less the first, where it is not that of the pairs.
    """
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=int(producer >= 0), producer_id=producer,
        producer_epoch=0, base_sequence=-1, batch_size=1_000_000,
    )  # fmt: skip
    for number, (key, value) in enumerate(pairs):
        builder.append(number, 1_700_000_000_000, key, value, [])
    raw = bytearray(builder.build())
    raw[0:8] = first.to_bytes(8, "big")
    if control:
        raw[22] |= 0x20
    if last is not None:
        raw[23:27] = last.to_bytes(4, "big")
    raw[17:21] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def marker(offset, producer, *, commits):
    key = (0).to_bytes(2, "big") + int(commits).to_bytes(2, "big")
    return batch(offset, (key, bytes(6)), producer=producer, control=True)


def whole(*batches, aborted=(), at=0):
    reader = PlainRecords(
        AT, MemoryRecords(b"".join(batches)), list(aborted), at, whole_batches, None, True, 1
    )
    found = list(reader)
    assert not found or reader.next_fetch_offset == found[-1].next_offset
    return found


def test_a_batch_is_handed_on_whole():
    found = whole(batch(0, (b"a", b"1"), (None, b"2")), batch(2, (b"b", None)))
    assert found == [(2, [(b"a", b"1"), (None, b"2")]), (3, [(b"b", None)])]


def test_what_was_aborted_is_dropped_and_moves_the_position():
    found = whole(
        batch(0, (b"a", b"1"), producer=7),
        batch(1, (b"b", b"never"), producer=8),
        marker(2, 7, commits=True),
        marker(3, 8, commits=False),
        batch(4, (b"b", b"2"), producer=8),
        marker(5, 8, commits=True),
        aborted=[(8, 1)],
    )
    assert [rows for _, rows in found if rows] == [[(b"a", b"1")], [(b"b", b"2")]]
    assert found[-1].next_offset == 6


def test_reading_begins_within_a_batch():
    assert whole(batch(0, (b"a", b"1"), (b"b", b"1")), at=1) == [(2, [(b"b", b"1")])]


def test_a_batch_that_compaction_has_emptied_moves_the_position():
    """The broker keeps the header for the sake of the producer's sequence."""
    assert whole(batch(40, last=4)) == [(45, [])]


def test_a_damaged_batch_is_refused():
    raw = bytearray(batch(0, (b"a", b"1")))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordException):
        whole(bytes(raw))


class Asked:
    """Makes fetchers of ours, and keeps for which assignments aiokafka's was let look."""

    def __init__(self, monkeypatch):
        self.looked = []
        monkeypatch.setattr(PacedFetcher.__base__, "_get_actions_per_node", self._stock)

    def _stock(self, assignment):
        self.looked.append(assignment)
        request = SimpleNamespace(
            topics=[("in", [(number, 0, 1) for number in range(self.places)])]
        )
        return [(1, request)], {}, 9.0, True, []

    def fetcher(self, places, reads=None):
        self.places = places
        made = PacedFetcher.__new__(PacedFetcher)
        made._key_deserializer, made._next_s, made._paced = reads, 0.0, None
        return made


@pytest.fixture
def asked(monkeypatch):
    return Asked(monkeypatch)


def test_a_consumer_has_the_fetcher_with_a_pace():
    assert consumer.Fetcher is PacedFetcher


async def test_many_partitions_are_not_asked_for_again_at_once(asked):
    ours = asked.fetcher(FEW_PLACES + 200)
    requests, *_ = ours._get_actions_per_node("a")
    assert len(requests) == 1
    requests, resets, pause_s, invalid, futures = ours._get_actions_per_node("a")
    assert (requests, resets, invalid, futures) == ([], {}, False, [])
    assert 0 < pause_s <= fetch_pause_s(FEW_PLACES + 200)
    await asyncio.sleep(pause_s + 0.01)
    requests, *_ = ours._get_actions_per_node("a")
    assert len(requests) == 1
    assert len(asked.looked) == 2


@pytest.mark.parametrize(
    ("places", "reads", "assignments"),
    [
        (FEW_PLACES, None, "aa"),
        (3_000, whole_batches, "aa"),  # a table that is rebuilt
        (3_000, None, "ab"),  # a rebalance
    ],
)
async def test_others_are_asked_as_soon_as_can_be(asked, places, reads, assignments):
    ours = asked.fetcher(places, reads)
    assert [len(ours._get_actions_per_node(one)[0]) for one in assignments] == [1, 1]
