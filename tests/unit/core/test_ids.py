"""Shards and command ids (SPEC 1.2, 2.2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import ids, ids_many

VECTORS = Path(__file__).parent / "murmur2_golden" / "vectors.json"
times = st.integers(ids.EPOCH_MS + 1, ids.MAX_TIME_MS)
shards = st.integers(0, ids.SHARDS - 1)


def test_murmur2_is_kafkas():
    """Golden vectors made by Kafka's own Java class; a missing file is a failure."""
    data = json.loads(VECTORS.read_text())
    vectors = data["vectors"] if isinstance(data, dict) else data
    assert len(vectors) >= 20
    for vector in vectors:
        key = bytes.fromhex(vector["key_hex"])
        assert ids.murmur2(key) == vector["murmur2"] & 0xFFFFFFFF, vector
        assert ids.murmur2(key) & 0x7FFFFFFF == vector["positive"], vector
        assert ids.murmur2(key) % ids.SHARDS == vector["shard"], vector


@given(st.lists(st.text(max_size=12), min_size=1, max_size=90))
def test_the_shards_of_many_are_those_of_each(devices):
    """Of few they are worked out one by one, of many those of one length together."""
    data = [device.encode() for device in devices]
    assert ids_many.shards_of(data) == [ids.shard_of(device) for device in devices]


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_on_the_vectors_of_kafkas_own_test(key, signed):
    """The values in Apache Kafka's UtilsTest.testMurmur2."""
    assert ids.murmur2(key) == signed & 0xFFFFFFFF


@given(st.text(min_size=1, max_size=40), st.integers(0, 10))
def test_a_partition_is_what_a_java_producer_takes(device_id, power):
    partitions = 1 << power
    java = (ids.murmur2(device_id.encode()) & 0x7FFFFFFF) % partitions
    assert ids.partition_of(device_id, partitions) == java
    assert ids.shard_of(device_id) in ids.shards_of_partition(java, partitions)


@pytest.mark.parametrize("partitions", [1, 8, 1024])
def test_the_partitions_share_out_the_shards(partitions):
    """SPEC 1.2: always 1,024 shards, each in one partition."""
    held = [s for p in range(partitions) for s in ids.shards_of_partition(p, partitions)]
    assert sorted(held) == list(range(1024))


@pytest.mark.parametrize("partitions", [0, -8, 3, 12, 2048])
def test_partitions_are_a_power_of_two(partitions):
    with pytest.raises(ValueError, match="power of two"):
        ids.partition_of("cam-1", partitions)


def test_a_partition_must_exist():
    with pytest.raises(ValueError, match="not one of 8"):
        ids.shards_of_partition(8, 8)


@given(times, shards, st.integers(0, 4095))
def test_an_id_gives_its_parts_back(time_ms, shard, sequence):
    identity = ids.command_id(time_ms, shard, sequence)
    assert 0 < identity < 1 << 63
    assert ids.command_time_ms(identity) == time_ms
    assert ids.command_shard(identity) == shard
    assert ids.command_sequence(identity) == sequence


@given(times.filter(lambda t: t < ids.MAX_TIME_MS), shards, st.integers(0, 4095), times)
def test_the_next_id_is_greater_not_before_the_tick_and_of_the_shard(last_ms, shard, seq, tick_ms):
    """SPEC 2.2: time-ordered without a coordinator."""
    last = ids.command_id(last_ms, shard, seq)
    following = ids.next_command_id(last, tick_ms, shard)
    assert following > last
    assert ids.command_shard(following) == shard
    assert ids.command_time_ms(following) >= tick_ms
    assert ids.command_time_ms(following) <= max(tick_ms, last_ms + 1)


def test_a_spent_sequence_carries_over_the_shard_into_the_time():
    tick_ms, shard = ids.EPOCH_MS + 5, 1023
    last = 0
    seen = set()
    for _ in range(4096 * 2 + 1):
        last = ids.next_command_id(last, tick_ms, shard)
        seen.add(last)
        assert ids.command_shard(last) == shard
    assert len(seen) == 4096 * 2 + 1
    assert (ids.command_time_ms(last), ids.command_sequence(last)) == (tick_ms + 2, 0)


def test_the_first_id_of_all_is_that_of_its_tick():
    assert ids.next_command_id(0, ids.EPOCH_MS + 1, 0) == ids.command_id(ids.EPOCH_MS + 1, 0, 0)
    assert ids.next_command_id(0, ids.EPOCH_MS + 1, 7) == ids.command_id(ids.EPOCH_MS + 1, 7, 0)


@pytest.mark.parametrize(
    ("time_ms", "shard", "sequence"),
    [
        (ids.EPOCH_MS, 0, 0),
        (ids.MAX_TIME_MS + 1, 0, 0),
        (ids.EPOCH_MS + 1, 1024, 0),
        (ids.EPOCH_MS + 1, -1, 0),
        (ids.EPOCH_MS + 1, 0, 4096),
    ],
)
def test_a_part_that_does_not_fit_its_bits_is_a_bug(time_ms, shard, sequence):
    with pytest.raises(ValueError, match="outside"):
        ids.command_id(time_ms, shard, sequence)


@pytest.mark.parametrize("tick_ms", [0, ids.EPOCH_MS, ids.MAX_TIME_MS + 1])
def test_a_tick_outside_the_time_of_ids_is_a_bug(tick_ms):
    with pytest.raises(ValueError, match="outside"):
        ids.next_command_id(0, tick_ms, 0)
