"""The ring of slots: balance, movement, and that nothing but the slots' names decides."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.ring import VIRTUAL_NODES, Ring, position

SLOTS = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=12)
PARTITIONS = st.sampled_from([1, 2, 4, 8, 13, 64, 256])


def owners(slots, partitions):
    return {p: slot for slot, own in Ring(slots).assign(partitions).items() for p in own}


def moved(before, after):
    return sum(before[p] != after[p] for p in before)


@given(SLOTS, PARTITIONS)
def test_every_partition_has_one_owner_and_slots_have_as_many_as_each_other(slots, partitions):
    assigned = Ring(slots).assign(partitions)
    assert set(assigned) == slots
    assert sorted(p for own in assigned.values() for p in own) == list(range(partitions))
    sizes = [len(own) for own in assigned.values()]
    assert max(sizes) - min(sizes) <= 1
    assert all(own == sorted(own) for own in assigned.values())


@given(SLOTS, PARTITIONS, st.randoms(use_true_random=False))
def test_only_the_names_decide(slots, partitions, random):
    shuffled = [*slots, *list(slots)[:2]]
    random.shuffle(shuffled)
    assert Ring(shuffled).assign(partitions) == Ring(slots).assign(partitions)


@given(SLOTS, PARTITIONS)
def test_no_partition_and_slot_would_both_rather_have_each_other(slots, partitions):
    """Stability: whom a partition prefers to its owner is full of partitions that are nearer."""
    ring = Ring(slots)
    assigned = ring.assign(partitions)
    distances = {p: dict(ring.preferences(p)) for p in range(partitions)}
    quotas = ring.quotas(partitions)
    for owner, own in assigned.items():
        for p in own:
            for slot, distance in ring.preferences(p):
                if slot == owner:
                    break
                assert len(assigned[slot]) == quotas[slot]
                assert all(distances[other][slot] <= distance for other in assigned[slot])


@pytest.mark.parametrize("partitions", [64, 256, 1024])
@pytest.mark.parametrize("base", ["", "worker-", "captures-"])
def test_a_fifth_slot_moves_little_and_its_leaving_puts_all_back(partitions, base):
    four = [f"{base}{n}" for n in range(4)]
    before, during = owners(four, partitions), owners([*four, f"{base}4"], partitions)
    least = partitions // 5
    assert least <= moved(before, during) <= least * 4 / 3 + 1
    assert owners(four, partitions) == before


@given(SLOTS, PARTITIONS)
def test_the_same_number_goes_together_whatever_the_number_of_topics(slots, partitions):
    """Co-partitioning: the owner of a partition number is one, so every topic has it there."""
    assigned = owners(slots, partitions)
    assert set(assigned) == set(range(partitions))


def test_one_slot_has_all_and_more_slots_than_partitions_leave_some_idle():
    assert Ring(["a"]).assign(8) == {"a": list(range(8))}
    assert sorted(map(len, Ring("abcde").assign(2).values())) == [0, 0, 0, 1, 1]


def test_the_points_are_md5_and_do_not_change():
    """Held fast: another hash would move every partition of a running system."""
    assert VIRTUAL_NODES == 160
    assert position("partition-0") == 0x3F28164E74925D58
    assert position("0#7") == int(hashlib.md5(b"0#7").hexdigest()[:16], 16)


def test_there_is_no_ring_without_a_slot():
    with pytest.raises(ValueError, match="a slot"):
        Ring([])
