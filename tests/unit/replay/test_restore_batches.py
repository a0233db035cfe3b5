"""Record batches that a restore makes itself, read by aiokafka; issue 7, "restore"."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from streams.replay.log import Entry
from streams.replay.restore import batches as module
from streams.replay.restore.batches import BATCH_BYTES, batches, stamped

data = st.none() | st.binary(max_size=200)
entries = st.lists(
    st.builds(Entry, st.just(0), st.integers(0, 1 << 42), data, data), min_size=1, max_size=60
)


def read(made):
    """Return (offset in the batch, time, key, value) of each record, batch after batch."""
    found = []
    for data, count in made:
        batch = DefaultRecordBatch(data)
        assert batch.validate_crc()
        assert (batch.base_offset, batch.next_offset) == (0, count)
        rows = [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in batch]
        assert [row[0] for row in rows] == list(range(count))
        assert batch.max_timestamp == max(row[1] for row in rows)
        assert not any(row[4] for row in rows)
        found += [Entry(0, *row[1:4]) for row in rows]
    return found


@given(entries)
def test_every_record_keeps_its_time_key_and_value(rows):
    assert read(batches(rows)) == rows


@given(entries)
def test_a_batch_is_no_larger_than_a_topic_takes(rows):
    known = module.BATCH_BYTES
    module.BATCH_BYTES = 300
    try:
        made = list(batches(rows))
    finally:
        module.BATCH_BYTES = known
    assert read(made) == rows
    assert all(len(data) <= 300 or count == 1 for data, count in made)


@given(entries, st.integers(0, 1 << 40), st.integers(0, 1 << 33))
def test_a_stamp_changes_who_wrote_it_and_nothing_else(rows, producer, sequence):
    made = list(batches(rows))
    with_stamps = [(stamped(data, (producer, 3), sequence), count) for data, count in made]
    for data, _ in with_stamps:
        batch = DefaultRecordBatch(data)
        found = batch.producer_id, batch.producer_epoch, batch.base_sequence
        assert found == (producer, 3, sequence % (1 << 31))
    assert read(with_stamps) == rows


def test_what_repeats_is_compressed_and_what_does_not_is_left():
    [[packed, _]] = batches([Entry(0, 1, b"k", b"v" * 1_000)] * 100)
    assert len(packed) < 1_000
    [[plain, _]] = batches([Entry(0, 1, None, b"")])
    assert len(plain) < 80
    assert read([(packed, 100)])[0].value == b"v" * 1_000


def test_a_record_that_is_larger_has_a_batch_of_its_own():
    rows = [
        Entry(0, 1, b"k", b"v"),
        Entry(0, 2, b"k", bytes(BATCH_BYTES + 1)),
        Entry(0, 3, b"", b""),
    ]
    made = list(batches(rows))
    assert [count for _, count in made] == [1, 1, 1]
    assert read(made) == rows
