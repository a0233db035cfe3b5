"""Records as agents get them: what aiokafka would have made, without what nobody reads."""

from __future__ import annotations

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.runtime.fetched import PlainRecord, PlainRecords

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
