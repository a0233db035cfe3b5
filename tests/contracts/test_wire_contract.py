"""What ``wire.py`` writes and reads, against aiokafka's schemas of the same requests.

The schemas of aiokafka were written by others from Kafka's own definitions; where it has none in
our version (TxnOffsetCommit 3) the layout is written out here from https://kafka.apache.org/protocol.
Record batches are read back by aiokafka's reader. A real broker takes them in
``tests/integration/runtime/test_fence.py``.
"""

from __future__ import annotations

from io import BytesIO

import pytest
from aiokafka.protocol import coordination, metadata, produce, transaction
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime import wire
from streams.runtime.record_batches import RecordBatches, by_partition

TEXTS = st.text(min_size=1, max_size=200)
NUMBERS = st.integers(0, 2**31 - 1)
LONGS = st.integers(-1, 2**63 - 1)
PRODUCERS = st.builds(wire.Producer, LONGS, st.integers(0, 2**15 - 1))
PLACES = st.lists(st.tuples(TEXTS, NUMBERS), unique=True, max_size=20)
BYTES = st.binary(max_size=300)

OFFSETS = Schema(
    ("transactional_id", CompactString()),
    ("group_id", CompactString()),
    ("producer_id", Int64),
    ("producer_epoch", Int16),
    ("generation_id", Int32),
    ("member_id", CompactString()),
    ("group_instance_id", CompactString()),
    (
        "topics",
        CompactArray(
            ("name", CompactString()),
            (
                "partitions",
                CompactArray(
                    ("partition", Int32),
                    ("offset", Int64),
                    ("leader_epoch", Int32),
                    ("metadata", CompactString()),
                    ("tags", TaggedFields),
                ),
            ),
            ("tags", TaggedFields),
        ),
    ),
    ("tags", TaggedFields),
)
"""TxnOffsetCommitRequest, version 3."""
OFFSETS_ANSWER = Schema(
    ("throttle_time_ms", Int32),
    (
        "topics",
        CompactArray(
            ("name", CompactString()),
            (
                "partitions",
                CompactArray(("partition", Int32), ("error", Int16), ("tags", TaggedFields)),
            ),
            ("tags", TaggedFields),
        ),
    ),
    ("tags", TaggedFields),
)


def by_topic(places):
    topics = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    return list(topics.items())


@given(st.lists(TEXTS, max_size=5))
def test_metadata(topics):
    theirs = metadata.MetadataRequest_v4(topics, False).encode()
    assert wire.metadata(topics).body == theirs


@given(TEXTS, st.sampled_from([wire.GROUP, wire.TRANSACTION]))
def test_find_coordinator(name, kind):
    theirs = coordination.FindCoordinatorRequest_v1(name, kind).encode()
    assert wire.find_coordinator(kind, name).body == theirs


@given(TEXTS, NUMBERS)
def test_init_producer_id(name, timeout_ms):
    theirs = transaction.InitProducerIdRequest_v0(name, timeout_ms).encode()
    assert wire.init_producer_id(name, timeout_ms).body == theirs


@given(TEXTS, PRODUCERS, PLACES)
def test_add_partitions(name, producer, places):
    theirs = transaction.AddPartitionsToTxnRequest_v0(name, *producer, by_topic(places)).encode()
    assert wire.add_partitions(name, producer, places).body == theirs


@given(TEXTS, PRODUCERS, TEXTS)
def test_add_offsets(name, producer, group):
    theirs = transaction.AddOffsetsToTxnRequest_v0(name, *producer, group).encode()
    assert wire.add_offsets(name, producer, group).body == theirs


@given(TEXTS, PRODUCERS, st.booleans())
def test_end_transaction(name, producer, commit):
    theirs = transaction.EndTxnRequest_v0(name, *producer, commit).encode()
    assert wire.end_transaction(name, producer, commit=commit).body == theirs


@given(TEXTS, NUMBERS, st.dictionaries(st.tuples(TEXTS, NUMBERS), BYTES, max_size=10))
def test_produce(name, timeout_ms, batches):
    topics = {}
    for (topic, partition), data in batches.items():
        topics.setdefault(topic, []).append((partition, data))
    theirs = produce.ProduceRequest_v7(name, -1, timeout_ms, list(topics.items())).encode()
    assert wire.produce(name, timeout_ms, batches).body == theirs


@given(
    TEXTS, PRODUCERS, TEXTS, st.tuples(NUMBERS, TEXTS), st.dictionaries(
        st.tuples(TEXTS, NUMBERS), st.tuples(LONGS, st.text(max_size=300)), max_size=10
    ),
)  # fmt: skip
def test_commit_offsets(name, producer, group, member, offsets):
    topics = {}
    for (topic, partition), (at, text) in offsets.items():
        topics.setdefault(topic, []).append((partition, at, -1, text, {}))
    rows = [(topic, parts, {}) for topic, parts in topics.items()]
    theirs = OFFSETS.encode((name, group, *producer, *member, None, rows, {}))
    ours = wire.commit_offsets(
        name, producer, group, member, [(*place, *rest) for place, rest in offsets.items()]
    )
    assert ours.body == theirs
    assert ours.flexible


def answered(request, body: bytes, correlation: int = 7):
    head = correlation.to_bytes(4, "big") + (b"\0" if request.flexible else b"")
    return request.answer(head + body, correlation)


@given(st.dictionaries(st.tuples(TEXTS, NUMBERS), st.tuples(st.integers(0, 99), LONGS, LONGS)))
def test_an_answer_to_produce(found):
    topics = {}
    for (topic, partition), (error, offset, stamp_ms) in found.items():
        topics.setdefault(topic, []).append((partition, error, offset, stamp_ms, 0))
    theirs = produce.ProduceResponse_v7(list(topics.items()), 0).encode()
    ours = answered(wire.produce("t", 1, {}), theirs)
    assert ours == {place: wire.Appended(*said) for place, said in found.items()}


@given(st.dictionaries(TEXTS, st.dictionaries(NUMBERS, st.integers(0, 99), max_size=5), max_size=5))
def test_answers_with_an_error_a_partition(topics):
    rows = [(topic, list(partitions.items())) for topic, partitions in topics.items()]
    errors = {error for partitions in topics.values() for error in partitions.values()}
    theirs = transaction.AddPartitionsToTxnResponse_v0(0, rows).encode()
    assert answered(wire.add_partitions("t", wire.Producer(1, 1), []), theirs) == errors
    tagged = [(topic, [(*row, {}) for row in parts], {}) for topic, parts in rows]
    request = wire.commit_offsets("t", wire.Producer(1, 1), "g", (1, "m"), [])
    assert answered(request, OFFSETS_ANSWER.encode((0, tagged, {}))) == errors


@given(TEXTS, st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS), max_size=4), PLACES)
def test_an_answer_to_metadata(cluster, nodes, places):
    topics = [
        (0, topic, False, [(0, number, number % 3 - 1, [1, 2], [1]) for number in numbers])
        for topic, numbers in by_topic(places)
    ]
    theirs = metadata.MetadataResponse_v4(
        0, [(*node, None) for node in nodes], cluster, 1, topics
    ).encode()
    addresses, leaders = answered(wire.metadata([]), theirs)
    assert addresses == {node: (host, port) for node, host, port in nodes}
    assert leaders == {place: place[1] % 3 - 1 for place in places if place[1] % 3}


@given(TEXTS, NUMBERS, st.one_of(st.none(), TEXTS))
def test_an_answer_to_find_coordinator(host, port, message):
    theirs = coordination.FindCoordinatorResponse_v1(0, 15, message, 3, host, port).encode()
    assert answered(wire.find_coordinator(0, "g"), theirs) == (15, (host, port))


@given(st.binary(max_size=60))
def test_an_answer_that_is_nonsense_is_told_from_one(data):
    for request in (
        wire.metadata([]),
        wire.produce("t", 1, {}),
        wire.commit_offsets("t", wire.Producer(1, 1), "g", (1, "m"), []),
        wire.api_versions(),
    ):
        try:
            request.answer(data, 7)
        except ValueError:
            continue
        assert data[:4] == (7).to_bytes(4, "big")


def test_the_answer_to_another_request_is_none():
    with pytest.raises(ValueError, match="answer 8 where 7"):
        wire.api_versions().answer((8).to_bytes(4, "big") + b"\0" * 6, 7)


MESSAGES = st.lists(
    st.tuples(st.none() | BYTES, st.none() | st.binary(max_size=2_000), st.integers(0, 2)),
    min_size=1,
    max_size=60,
)


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.integers(100, 5_000), PRODUCERS)
def test_record_batches_are_read_back_in_order(transactions, request_bytes, producer):
    """Each record once, in order, with sequences that have no hole, whatever a request holds."""
    builder = RecordBatches(producer, request_bytes)
    sequences, found, wanted = {}, {}, {}
    for number, messages in enumerate(transactions):
        outputs = by_partition([("t", messages)])
        for place, rows in outputs.items():
            wanted.setdefault(place, []).extend((key, value) for key, value, _ in rows)
        for one in builder.build(outputs.items(), 1_000 + number):
            assert one.size <= request_bytes or len(one.batches) == 1
            for place, built in one.batches.items():
                batch = MemoryRecords(bytes(built.data)).next_batch()
                assert batch.validate_crc()
                assert batch.is_transactional
                assert (batch.producer_id, batch.producer_epoch) == producer
                assert batch.base_sequence == sequences.get(place, 0)
                records = [(r.key, r.value, r.timestamp) for r in batch]
                assert len(records) == built.records
                sequences[place] = batch.base_sequence + built.records
                assert {stamp for _, _, stamp in records} == {1_000 + number}
                found.setdefault(place, []).extend(row[:2] for row in records)
    assert found == wanted


def test_a_sequence_goes_on_at_nought_after_its_last():
    builder = RecordBatches(wire.Producer(1, 1), 1_000)
    builder._next["t", 0] = 2**31 - 2
    (one,) = builder.build([(("t", 0), [(b"k", b"v", 0)] * 3)], 1)
    assert MemoryRecords(bytes(one.batches["t", 0].data)).next_batch().base_sequence == 2**31 - 2
    (one,) = builder.build([(("t", 0), [(b"k", b"v", 0)])], 1)
    assert MemoryRecords(bytes(one.batches["t", 0].data)).next_batch().base_sequence == 1


def test_their_schemas_are_read_as_they_are_written():
    """The control: the layout written out above reads what it writes."""
    row = ("t", "g", 1, 2, 3, "m", None, [("x", [(0, 5, -1, "", {})], {})], {})
    assert OFFSETS.decode(BytesIO(OFFSETS.encode(row))) == row
