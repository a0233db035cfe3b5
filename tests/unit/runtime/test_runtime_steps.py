"""Steps, batches and commits without Kafka; DESIGN.md, "Exactly once".

The bullets "A step is atomic", "librdkafka takes no produce while a commit runs" and "Local
state", and of "The fence" what is decided on this side of the broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_parts import IN, LOG, OUT, TABLE, Bench, Record

from schemas.errors import BrokerError, FencedError
from streams.runtime.group import Membership
from streams.runtime.handover import Handover
from streams.runtime.partition import Partition


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


async def begun(bench):
    """Wait until a transaction is being performed."""
    await asyncio.get_running_loop().run_in_executor(None, bench.transactor.begun.acquire)


def work(bench, partition, records, value=b"1"):
    with bench.committer.step(partition) as step:
        for record in records:
            step.produce(OUT, record.key, b"%d" % record.offset)
            step.put(TABLE, record.key, value)
        step.consumed(IN, records[-1].offset + 1)


async def test_a_step_goes_out_whole_with_the_offset_of_its_last_record(bench):
    partition = bench.partition(2, position=5)
    work(bench, partition, [Record(5, b"a"), Record(6, b"b")])
    bench.transactor.let_go.set()
    await bench.committer.commit()
    (batch,) = bench.transactor.performed
    assert batch.outputs[OUT] == [(b"a", b"5", 2), (b"b", b"6", 2)]
    assert batch.outputs[LOG] == [(b"a", b"1", 2), (b"b", b"1", 2)]
    assert batch.offsets == {(IN, 2): 7}


async def test_a_partition_that_only_writes_sends_its_offset_unchanged(bench):
    partition = bench.partition(1, position=40)
    with bench.committer.step(partition) as step:
        step.produce(OUT, b"k", b"tick")
    bench.transactor.let_go.set()
    await bench.committer.commit()
    assert bench.transactor.performed[0].offsets == {(IN, 1): 40}


async def test_what_is_made_during_a_commit_waits_in_the_next_batch(bench):
    partition = bench.partition()
    work(bench, partition, [Record(0, b"a")])
    first = asyncio.ensure_future(bench.committer.commit())
    await begun(bench)
    work(bench, partition, [Record(1, b"b"), Record(2, b"a")], b"2")
    assert partition.get(TABLE, b"a") == b"2"
    assert partition.get(TABLE, b"b") == b"2"
    bench.transactor.let_go.set()
    await first
    assert partition.get(TABLE, b"a") == b"2"
    assert bench.store.get((TABLE, 0, b"a")) == b"1"
    assert bench.store.get((TABLE, 0, b"b")) is None
    await bench.committer.commit()
    one, two = bench.transactor.performed
    assert (one.offsets, two.offsets) == ({(IN, 0): 1}, {(IN, 0): 3})
    assert [value for _, value, _ in one.outputs[OUT]] == [b"0"]
    assert [value for _, value, _ in two.outputs[OUT]] == [b"1", b"2"]
    assert bench.store.get((TABLE, 0, b"a")) == b"2"


async def test_where_a_partition_stands_is_told_with_the_store_at_that_point(bench):
    """A snapshot begins there: what a later step wrote must not be in it (DESIGN 'Ticks')."""
    partition, told = bench.partition(2, position=5), []
    with bench.committer.step(partition) as step:
        step.produce(OUT, b"a", b"tick")
        step.at_commit(OUT, lambda point: told.append((point, list(partition.rows(TABLE)))))
    work(bench, partition, [Record(5, b"a")])
    first = asyncio.ensure_future(bench.committer.commit())
    await begun(bench)
    work(bench, partition, [Record(6, b"b")])
    bench.transactor.let_go.set()
    await first
    [(point, rows)] = told
    assert (point.positions, rows) == ({IN: 6}, [(b"a", b"1")])
    assert point.next_offset == 2, "of the last message to the topic, not of the step's own"
    assert bench.store.offset(TABLE, 2) is not None
    await bench.committer.commit()
    assert len(told) == 1


async def test_the_store_never_holds_what_is_not_committed(bench):
    partition = bench.partition()
    work(bench, partition, [Record(0, b"a")])
    commit = asyncio.ensure_future(bench.committer.commit())
    await begun(bench)
    assert list(partition.rows(TABLE)) == []
    assert bench.store.offset(TABLE, 0) is None
    bench.transactor.let_go.set()
    await commit
    assert list(partition.rows(TABLE)) == [(b"a", b"1")]
    assert bench.store.offset(TABLE, 0) == 1


async def test_an_aborted_batch_leaves_no_trace_and_is_the_last(bench):
    bench.transactor.error = BrokerError("the broker is gone")
    bench.transactor.let_go.set()
    partition = bench.partition()
    work(bench, partition, [Record(0, b"a")])
    told = []
    with bench.committer.step(partition) as step:
        step.after_commit(lambda: told.append(1))
    with pytest.raises(BrokerError):
        await bench.committer.commit()
    assert bench.failures == [bench.transactor.error]
    bench.transactor.error = None
    work(bench, partition, [Record(1, b"b")])
    await bench.committer.commit()
    assert bench.transactor.performed == []
    assert list(bench.store.scan(TABLE, 0)) == []
    assert told == []


async def test_after_the_commit_those_who_wait_are_told(bench):
    told = []
    with bench.committer.step(bench.partition()) as step:
        step.after_commit(lambda: told.append(bench.store.offset(TABLE, 0)))
        step.put(TABLE, b"k", b"1")
    assert told == []
    bench.transactor.let_go.set()
    await bench.committer.commit()
    assert told == [1]


def test_half_a_step_fails_the_worker(bench):
    with pytest.raises(ZeroDivisionError), bench.committer.step(bench.partition()) as step:
        step.produce(OUT, b"k", b"half")
        raise ZeroDivisionError
    assert isinstance(bench.failures[0], ZeroDivisionError)
    asyncio.run(bench.committer.commit())
    assert bench.transactor.performed == []


# -- the fence, on this side -----------------------------------------------------------------------


@pytest.mark.parametrize("lost", [(-1, ""), (-1, "m"), (4, "")])
def test_no_step_while_there_is_no_membership(bench, lost):
    partition = bench.partition()
    bench.group.joined(*lost)
    with pytest.raises(FencedError):
        bench.committer.step(partition)


async def test_a_membership_that_changed_under_an_open_batch_commits_nothing(bench):
    work(bench, bench.partition(), [Record(0)])
    bench.group.joined(4, "member")
    bench.transactor.let_go.set()
    with pytest.raises(FencedError):
        await bench.committer.commit()
    assert bench.transactor.performed == []
    assert isinstance(bench.failures[0], FencedError)


def test_no_step_joins_a_batch_of_another_membership(bench):
    work(bench, bench.partition(), [Record(0)])
    bench.group.joined(4, "member")
    with pytest.raises(FencedError):
        bench.committer.step(bench.partition())


def test_no_step_on_a_partition_of_an_earlier_membership(bench):
    """Work that ends after its partition was given up cannot write under the new membership."""
    old = bench.partition()
    bench.group.joined(4, "member")
    with pytest.raises(FencedError, match="was ours under"):
        bench.committer.step(old)


# -- drained, settled, room ------------------------------------------------------------------------


async def test_drained_awaits_the_commit_under_way_and_what_is_made_meanwhile(bench):
    partition = bench.partition()
    work(bench, partition, [Record(0)])
    running = asyncio.ensure_future(bench.committer.commit())
    await begun(bench)
    drained = asyncio.ensure_future(bench.committer.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    work(bench, partition, [Record(1)])
    bench.transactor.let_go.set()
    await drained
    await running
    assert [batch.offsets[IN, 0] for batch in bench.transactor.performed] == [1, 2]


async def test_drained_leaves_nothing_that_was_made_while_others_were_told_of_a_commit(bench):
    """A batch that is left is of the membership of before: whoever commits it then ends in doubt."""
    partition, told, begins = bench.partition(), [], asyncio.Event()

    def tell(number):
        begins.set()
        time.sleep(0.002)  # longer than a turn, so that others run in between
        told.append(number)
        if number == 1:
            work(bench, partition, [Record(1)])

    with bench.committer.step(partition) as step:
        step.put(TABLE, b"k", b"v")
        for number in range(4):
            step.after_commit(functools.partial(tell, number))
    bench.transactor.let_go.set()
    running = asyncio.ensure_future(bench.committer.commit())
    await begins.wait()
    await bench.committer.drained()
    assert told == [0, 1, 2, 3]
    assert not list(bench.committer._batches()), "and none is open when it returns"
    await running
    assert len(bench.transactor.performed) == 2


async def test_what_we_leave_with_a_partition_is_committed_with_every_step_to_the_last(bench):
    """Offsets replace each other, metadata and all: a completion that comes while the handover is
    being committed would take it back, and the next owner would take the photo again."""
    partition = bench.partition()
    partition.leaving = left = Handover(1, 1_800_000_000_000)
    work(bench, partition, [Record(0, b"a")])
    drained = asyncio.ensure_future(bench.committer.drained())
    await begun(bench)
    work(bench, partition, [Record(1, b"b")])
    bench.transactor.let_go.set()
    await drained
    first, last = bench.transactor.performed
    assert first.handovers == last.handovers == {partition.number: left.text()}
    partition.resume(partition.membership)
    work(bench, partition, [Record(2, b"c")])
    await bench.committer.commit()
    assert bench.transactor.performed[-1].handovers == {}


async def test_settled_awaits_the_commit_of_a_key(bench):
    work(bench, bench.partition(), [Record(0, b"a")])
    bench.transactor.let_go.set()
    await bench.committer.settled((TABLE, 0, b"a"))
    assert bench.store.get((TABLE, 0, b"a")) == b"1"


async def test_settled_gives_up_where_nothing_is_committed_any_more(bench):
    work(bench, bench.partition(), [Record(0, b"a")])
    bench.committer.stop_committing()
    with pytest.raises(FencedError):
        await bench.committer.settled((TABLE, 0, b"a"))


async def test_slices_wait_while_too_much_waits_for_a_commit(tmp_path):
    bench = Bench(tmp_path, max_batch_records=4)
    try:
        partition = bench.partition()
        await bench.committer.room()
        work(bench, partition, [Record(0), Record(1)])
        waiting = asyncio.ensure_future(bench.committer.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        commit = asyncio.ensure_future(bench.committer.commit())
        await waiting
        bench.transactor.let_go.set()
        await commit
    finally:
        bench.close()


async def test_the_loop_commits_at_once_when_idle_and_by_the_interval_when_busy(tmp_path):
    bench = Bench(tmp_path, commit_interval_ms=10_000)
    bench.transactor.let_go.set()
    running = asyncio.ensure_future(bench.committer.run())
    try:
        partition = bench.partition()
        work(bench, partition, [Record(0)])
        await begun(bench)
        work(bench, partition, [Record(1)])
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(bench.transactor.performed) <= 1
        assert not bench.transactor.begun.acquire(blocking=False)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        bench.close()


@pytest.mark.parametrize(("markers_per_s", "waits"), [(100, True), (1_000_000, False)])
async def test_a_commit_after_one_that_touched_many_gathers_longer(tmp_path, markers_per_s, waits):
    """The broker writes a marker for each; 200 at 100 a second are 2 s."""
    bench = Bench(tmp_path, markers_per_s=markers_per_s, commit_interval_ms=10)
    bench.transactor.touched = 200
    bench.transactor.let_go.set()
    loop = asyncio.create_task(bench.committer.run())
    partition = bench.partition()
    began_s = time.monotonic()
    for number in range(2):
        with bench.committer.step(partition) as step:
            step.put(TABLE, b"k", b"%d" % number)
        assert await asyncio.to_thread(bench.transactor.begun.acquire, timeout=20)
    assert (time.monotonic() - began_s > 1.9) is waits
    loop.cancel()
    bench.close()


async def test_a_full_batch_does_not_wait_for_the_interval(tmp_path):
    bench = Bench(tmp_path, max_batch_records=4, commit_interval_ms=10_000)
    bench.transactor.let_go.set()
    running = asyncio.ensure_future(bench.committer.run())
    try:
        partition = bench.partition()
        for offset in (0, 2, 4):  # the first finds the worker idle, the others do not
            work(bench, partition, [Record(offset), Record(offset + 1)])
            await asyncio.wait_for(bench.committer.room(), 5)
            await begun(bench)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        bench.close()


# -- partitions ------------------------------------------------------------------------------------


def bare(position: int) -> Partition:
    return Partition(0, {IN: position}, {}, None, None, Membership(1, "m"))  # type: ignore[arg-type]


@given(st.integers(0, 50), st.lists(st.integers(0, 100), unique=True).map(sorted))
def test_a_poll_that_straddles_the_position_is_trimmed(position, offsets):
    records = [Record(o) for o in offsets]
    left = bare(position).trimmed(IN, records)  # type: ignore[arg-type]
    assert [r.offset for r in left] == [o for o in offsets if o >= position]


def test_a_position_never_moves_back(bench):
    partition = bench.partition(position=10)
    with pytest.raises(ValueError, match="cannot move"), bench.committer.step(partition) as step:
        step.consumed(IN, 9)
    assert partition.positions[IN] == 10
