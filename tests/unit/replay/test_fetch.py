"""What a fetch brought counts only whole; a cluster's own answers: tests/contracts/test_scan_contract.py."""

from __future__ import annotations

import pytest

from streams.replay.fetch import Batches, Fetched, FetchError
from streams.replay.log import Entry
from streams.replay.restore.batches import batches

ENTRIES = [Entry(n, 1_000 + n, b"k", b"value %d" % n) for n in range(20)]


def read(data: bytes) -> list[bytes]:
    found = Batches(0).of(Fetched(data, []), 20)
    return [record.value for batch in found for record in batch.records()]


def test_a_batch_is_read_as_it_was_made():
    (batch,) = batches(ENTRIES)
    assert read(batch.data) == [entry.value for entry in ENTRIES]


def test_a_bit_that_flipped_on_a_brokers_disk_is_no_record():
    """An archive would chain it by hashes, and an audit would take it for what was written."""
    (batch,) = batches(ENTRIES)
    data = bytearray(batch.data)
    data[-1] ^= 1
    with pytest.raises(FetchError, match="damaged"):
        read(bytes(data))
