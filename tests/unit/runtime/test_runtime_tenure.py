"""Taking partitions over while rebalances overtake each other; DESIGN.md, "Exactly once".

Faust calls the recovery some time after an assignment. By then the next rebalance may have begun,
or even be over: what is opened must be one assignment under its own membership, once.
"""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from aiokafka.errors import CommitFailedError
from runtime_parts import IN, LOG, TABLE

from schemas.errors import FencedError
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.clock import Clock
from streams.runtime.group import Membership
from streams.runtime.recovery import Recovered
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transport import Poll, Tenure


class Program:
    """Notes what is opened and closed."""

    def __init__(self):
        self.opens: list[tuple[int, int]] = []
        self.closes: list[int] = []
        self.resumes: list[tuple[int, int]] = []
        self.until_ms = 0

    def opened(self, partition):
        self.opens.append((partition.number, partition.membership.generation))

    async def pausing(self, partitions):
        assert all(partition.open for partition in partitions)
        return self.until_ms

    def resumed(self, partition):
        self.resumes.append((partition.number, partition.membership.generation))

    async def drain(self, partitions):
        assert not any(partition.open for partition in partitions)
        return self.until_ms

    def closed(self, partition):
        self.closes.append(partition.number)


class Consumer:
    """As much of the consumer as taking over looks at."""

    def __init__(self):
        self.tenure: Tenure | None = None
        self.interruptions = 0
        self.marks = []
        self.refuses = False
        """As a coordinator does while the group is joined again."""

    def interrupt(self):
        self.interruptions += 1

    async def mark(self, mark):
        if self.refuses:
            raise CommitFailedError
        self.marks.append(mark)


class SlowRecovery:
    """Recovers when it is let go."""

    def __init__(self):
        self.begun, self.let_go = threading.Semaphore(0), threading.Event()
        self.let_go.set()
        self.asked: list[set[int]] = []
        self.marks = []
        self.stable = {}
        """Where the committed offsets are; 0 where not said."""

    def positions(self, numbers):
        return {(IN, n): self.stable.get(n, 0) for n in numbers}

    def recover(self, numbers, _still_wanted, mark):
        self.asked.append(set(numbers))
        self.marks.append(mark)
        self.begun.release()
        assert self.let_go.wait(20)
        return Recovered({(IN, n): 0 for n in numbers}, 0, 0.0)


def tenure(generation: int, *numbers: int) -> Tenure:
    return Tenure(Membership(generation, "m"), frozenset((IN, n) for n in numbers))


@pytest.fixture(scope="session")
def silent():
    """Where nobody answers: nothing here needs an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def app(tmp_path, silent):
    settings = RuntimeSettings(app="captures", slot="0", bootstrap=silent, data_dir=tmp_path)
    made = ShardApp(
        settings, Layout((IN,), {TABLE: LOG}, 8), Program(), Clock(), Metrics("captures", "0")
    )
    made.tenancy._recovery = SlowRecovery()  # type: ignore[assignment]
    consumer = Consumer()
    made.tenancy._consumer = lambda: consumer  # type: ignore[assignment,return-value]
    yield made
    made._store.close()


async def recovering(app):
    """Begin to take over and wait until the recovery is under way."""
    app.tenancy._recovery.let_go.clear()
    task = asyncio.ensure_future(app.tenancy.take_over())
    await asyncio.get_running_loop().run_in_executor(None, app.tenancy._recovery.begun.acquire)
    return task


async def test_what_was_assigned_is_opened_under_its_membership(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 2)
    await app.tenancy.take_over()
    assert app.tenancy._program.opens == [(0, 3), (2, 3)]
    assert app.group.membership == Membership(3, "m")
    assert app.ready()


async def test_the_offsets_must_hold_what_we_have_committed_before(app):
    """Else a coordinator that was stopped and wakes could tell where they were then."""
    consumer = app.tenancy._consumer()
    consumer.tenure = tenure(3, 0, 2)
    await app.tenancy.take_over()
    assert app.tenancy._recovery.marks == consumer.marks
    assert [(mark.topic, mark.partition) for mark in consumer.marks] == [(LOG, 0)]


async def test_a_mark_that_is_refused_is_the_next_rebalance(app):
    app.tenancy._consumer().tenure = tenure(3, 0)
    app.tenancy._consumer().refuses = True
    await app.tenancy.take_over()
    assert app.tenancy._recovery.asked == []
    app.tenancy._consumer().tenure = tenure(4, 0)
    app.tenancy._consumer().refuses = False
    await app.tenancy.take_over()
    assert app.tenancy._program.opens == [(0, 4)]


async def test_a_poll_fetched_before_partitions_were_opened_is_dropped(app):
    """It may begin behind the position recovered: what lies between would be lost."""
    before = app.tenancy._consumer().interruptions
    app.tenancy._consumer().tenure = tenure(3, 0)
    await app.tenancy.take_over()
    assert app.tenancy._consumer().interruptions > before


async def test_nothing_is_opened_while_the_next_rebalance_is_under_way(app):
    """Not the old assignment under the new generation: another worker owns some of it by then."""
    app.tenancy._consumer().tenure = None
    await app.tenancy.take_over()
    assert app.tenancy._recovery.asked == []
    assert app.partitions == {}


async def test_a_rebalance_during_the_recovery_opens_nothing(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    task = await recovering(app)
    app.tenancy._consumer().tenure = None
    app.tenancy._recovery.let_go.set()
    await task
    assert app.partitions == {}
    assert app.group.membership is None


async def test_a_whole_rebalance_during_the_recovery_opens_only_the_newer(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    task = await recovering(app)
    app.tenancy._consumer().tenure = tenure(4, 1)
    app.tenancy._recovery.let_go.set()
    await task
    assert app.partitions == {}
    await app.tenancy.take_over()
    assert app.tenancy._program.opens == [(1, 4)]


async def test_asked_twice_for_one_assignment_it_opens_once(app):
    """A second opening would begin again at the stable offsets, under work not yet committed."""
    app.tenancy._consumer().tenure = tenure(3, 0)
    await app.tenancy.take_over()
    partition = app.partitions[0]
    await app.tenancy.take_over()
    assert app.partitions[0] is partition
    assert app.tenancy._program.opens == [(0, 3)]


async def rebalance(app, *tenures):
    """Pause, and be assigned what is given, one rebalance after the other."""
    for given in tenures:
        await app._on_revoked(None)
        app.tenancy._consumer().tenure = given
        await app._on_assigned(given)
    await app.tenancy.take_over()


async def test_what_stays_is_gone_on_with_and_not_recovered(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    stayed = app.partitions[1]
    await rebalance(app, tenure(4, 1, 2))
    program = app.tenancy._program
    assert app.partitions[1] is stayed
    assert stayed.membership == Membership(4, "m")
    assert stayed.open
    assert program.resumes == [(1, 4)]
    assert program.closes == [0]
    assert app.tenancy._recovery.asked == [{0, 1}, {2}]
    assert program.opens == [(0, 3), (1, 3), (2, 4)]


async def test_between_revoke_and_assignment_no_step_can_be_made(app):
    app.tenancy._consumer().tenure = tenure(3, 0)
    await app.tenancy.take_over()
    partition, called = app.partitions[0], []
    await app._on_revoked(None)
    with pytest.raises(FencedError):
        app.step(partition)
    partition.when_writable(lambda: called.append(app.group.membership))
    assert called == []
    await app._on_assigned(tenure(4, 0))
    assert called == [Membership(4, "m")]


async def test_what_was_lost_can_neither_be_stepped_on_nor_stays(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    old, called = app.partitions[0], []
    await app._on_revoked(None)
    old.when_writable(lambda: called.append(1))
    await app._on_assigned(tenure(4, 1))
    old.when_writable(lambda: called.append(2))
    assert set(app.partitions) == {1}
    assert app.tenancy._program.closes == [0]
    with pytest.raises(FencedError):
        app.step(old)
    assert called == []


@pytest.mark.parametrize(
    "missed",
    [
        tenure(5, 0, 1),
        Tenure(Membership(4, "another"), tenure(4, 0, 1).partitions),
    ],
    ids=["a generation was missed", "another member"],
)
async def test_where_another_may_have_owned_it_all_is_recovered(app, missed):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    before = dict(app.partitions)
    await rebalance(app, missed)
    assert app.tenancy._program.closes == [0, 1]
    assert app.tenancy._recovery.asked == [{0, 1}, {0, 1}]
    assert all(app.partitions[n] is not before[n] for n in before)


async def test_where_the_offsets_were_moved_all_is_recovered(app):
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    app.tenancy._recovery.stable = {1: 7}
    await rebalance(app, tenure(4, 0, 1))
    assert app.tenancy._recovery.asked == [{0, 1}, {0, 1}]


async def test_one_rebalance_upon_another_keeps_what_stays_in_both(app):
    """The first one's recovery never came about."""
    app.tenancy._consumer().tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    stayed = app.partitions[0]
    await rebalance(app, tenure(4, 0, 2), tenure(5, 0, 1))
    assert app.partitions[0] is stayed
    assert app.tenancy._recovery.asked == [{0, 1}, {1}]


async def test_a_membership_that_was_lost_keeps_nothing(app):
    """The session timed out: heartbeats told that the group does not know us."""
    app.tenancy._consumer().tenure = tenure(3, 0)
    await app.tenancy.take_over()
    app.group.lost()
    await rebalance(app, tenure(4, 0))
    assert app.tenancy._program.closes == [0]
    assert app.tenancy._recovery.asked == [{0}, {0}]


async def test_a_worker_that_stops_opens_nothing_more(app):
    app.tenancy._consumer().tenure = tenure(3, 0)
    task = await recovering(app)
    app.tenancy.stopping = True
    app.tenancy._recovery.let_go.set()
    await task
    assert app.partitions == {}


# --- no hole in what is worked on -----------------------------------------------------------------


class Fetched:
    """A record, as much of it as is looked at."""

    def __init__(self, offset):
        self.offset = offset


async def flowing(app, worked):
    """Own partitions 0 and 1 and have their flow begin; return what works on a poll of it."""
    consumer = app.tenancy._consumer()
    app._consumer = lambda: consumer
    consumer.tenure = tenure(3, 0, 1)
    await app.tenancy.take_over()
    app._sought(dict(app._positions()), consumer.interruptions)

    def handler(partition, records, _step):
        worked.setdefault(partition.number, []).extend(r.offset for r in records)

    async def poll(**offsets):
        records = {int(n[1:]): [Fetched(at) for at in found] for n, found in offsets.items()}
        await app._work(IN, Poll(IN, records, consumer.interruptions), handler)

    return poll


async def test_a_poll_that_met_a_pause_is_not_followed_by_the_next_one(app):
    """A rolling restart under load lost what a dropped poll had held: the flow had gone on.

    Faust's recovery of an earlier generation lets the flow go on in the midst of a rebalance. One
    poll meets the pause and is dropped; the partition stays and goes on; the next poll begins
    behind the hole.
    """
    worked: dict[int, list[int]] = {}
    poll = await flowing(app, worked)
    await poll(p0=[0, 1], p1=[0])
    app.tenancy.partitions[0].pause()
    await poll(p0=[2, 3], p1=[1])
    app.tenancy.partitions[0].resume(app.group.membership)
    await poll(p0=[4, 5], p1=[2])
    assert worked == {0: [0, 1], 1: [0, 1, 2]}, "partition 0 lies behind, and knows where"
    consumer = app.tenancy._consumer()
    assert app._unsought(consumer.interruptions)
    app._sought(dict(app._positions()), consumer.interruptions)
    await poll(p0=[2, 3, 4], p1=[3])
    assert worked == {0: [0, 1, 2, 3, 4], 1: [0, 1, 2, 3]}


async def test_before_each_slice_it_is_looked_for_what_is_due(app):
    """Issue 5: shutters go first, and a slice is all that one waits for."""
    worked: dict[int, list[int]] = {}
    poll = await flowing(app, worked)
    before: list[int] = []
    app.before_slices(lambda: before.append(len(worked.get(0, []))))
    size = app.settings.slice_records
    await poll(p0=list(range(2 * size + 1)))
    assert before == [0, size, 2 * size]


async def test_one_that_meets_a_partition_given_up_leaves_the_others_whole(app):
    worked: dict[int, list[int]] = {}
    poll = await flowing(app, worked)
    app.tenancy.partitions[0].open = False
    await poll(p0=[0, 1], p1=[0], p7=[9])
    app.tenancy.partitions[0].open = True
    await poll(p0=[2], p1=[1])
    assert worked == {1: [0, 1]}


async def test_after_an_interruption_all_is_sought_again(app):
    worked: dict[int, list[int]] = {}
    poll = await flowing(app, worked)
    app.tenancy._consumer().interrupt()
    await poll(p0=[0, 1], p1=[0])
    assert worked == {}
    assert app._unsought(app.tenancy._consumer().interruptions)


async def test_who_has_moved_since_is_not_where_the_consumer_was_sent(app):
    worked: dict[int, list[int]] = {}
    poll = await flowing(app, worked)
    sought = dict(app._positions())
    await poll(p0=[0, 1])
    consumer = app.tenancy._consumer()
    consumer.interrupt()
    app._sought(sought, consumer.interruptions)
    await poll(p0=[0, 1, 2], p1=[0])
    assert worked == {0: [0, 1], 1: [0]}
