"""What is sent in which request, and what is left after trouble; issue 7, "restore"."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BrokerError
from streams.replay.restore.sink import (
    Append,
    _check,
    _left,
    _PassingError,
    _request,
    _waves,
)

appends = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=30
)


def laid(rows):
    """Return appends of (partition, offsets, whether markers), behind one another."""
    ends, found = {}, []
    for partition, count, marks in rows:
        at = ends.get(partition, 0)
        found.append(Append("t", partition, at, count, b"" if marks else b"batch"))
        ends[partition] = at + count
    return found


@given(appends)
def test_requests_keep_the_order_of_each_partition(rows):
    """And have one append of a partition at most, all batches or all markers."""
    given_, sent = laid(rows), []
    for wave in _waves(given_):
        assert len({one.place for one in wave}) == len(wave)
        assert len({bool(one.data) for one in wave}) == 1
        sent += wave
    assert sorted(sent, key=lambda one: (one.partition, one.at)) == sorted(
        given_, key=lambda one: (one.partition, one.at)
    )
    for number in range(4):
        assert [a for a in sent if a.partition == number] == [
            a for a in given_ if a.partition == number
        ]


def test_partitions_share_a_request():
    rows = [(0, 5, False), (0, 1, True), (1, 5, False), (1, 2, True)]
    assert [[a.partition for a in wave] for wave in _waves(laid(rows))] == [[0, 1], [0, 1]]


def test_markers_are_as_many_as_offsets_are_to_be_taken():
    request = _request([Append("t", 0, 7, 1), Append("u", 3, 2, 3)])
    assert request._entries == [{"t": [0], "u": [3]}, {"u": [3]}, {"u": [3]}]


@given(appends, st.data())
def test_what_is_left_begins_where_the_partition_ends(rows, draw):
    """Batches come whole or not at all, of markers each for itself."""
    waiting, ends, wanted = laid(rows), {}, 0
    for number in {one.partition for one in waiting}:
        mine = [one for one in waiting if one.partition == number]
        places = {0} | {one.at + one.records for one in mine}
        places |= {at for a in mine if not a.data for at in range(a.at, a.at + a.records)}
        end = ends["t", number] = draw.draw(st.sampled_from(sorted(places)))
        wanted += mine[-1].at + mine[-1].records - end
    left = list(_left(waiting, ends))
    assert sum(one.records for one in left) == wanted
    for number in {one.partition for one in waiting}:
        at = ends["t", number]
        for one in (a for a in left if a.partition == number):
            assert one.at == at
            at += one.records


def test_an_end_within_a_batch_is_an_error():
    with pytest.raises(BrokerError, match="within a batch"):
        list(_left([Append("t", 0, 4, 3, b"batch")], {("t", 0): 5}))


def told(code, offset):
    return SimpleNamespace(topics=[("t", [(0, code, offset, -1, 0)])])


def test_a_batch_must_come_to_its_offset():
    batch = [Append("t", 0, 4, 3, b"batch")]
    _check(told(0, 4), batch)
    with pytest.raises(BrokerError, match=r"t-0: offset 5 where 4 was expected; somebody else"):
        _check(told(0, 5), batch)


def test_what_passes_is_told_from_what_does_not():
    batch = [Append("t", 0, 4, 3, b"batch")]
    with pytest.raises(_PassingError, match="NotLeader"):
        _check(told(NotLeaderForPartitionError.errno, -1), batch)
    with pytest.raises(BrokerError, match="t-0 cannot be written"):
        _check(told(MessageSizeTooLargeError.errno, -1), batch)


def test_markers_that_are_refused_are_an_error():
    answer = SimpleNamespace(markers=[(1, [("t", [(0, 31, {})], {})], {})])
    with pytest.raises(BrokerError, match="CLUSTER_AUTHORIZATION_FAILED"):
        _check(answer, [Append("t", 0, 4, 3)])
