"""Records as agents get them: what aiokafka would have made, without what nobody reads."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streams.runtime.fetched import PlainRecord, PlainRecords, whole_batches

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
