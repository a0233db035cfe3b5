"""Taking partitions over while rebalances overtake each other; DESIGN.md, "Exactly once".

Faust calls the recovery some time after an assignment. By then the next rebalance may have begun,
or even be over: what is opened must be one assignment under its own membership, once.
"""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from runtime_parts import IN, LOG, TABLE

from schemas.errors import FencedError
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.clock import Clock
from streams.runtime.group import Membership
from streams.runtime.recovery import Recovered
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transport import Tenure


class Program:
    """Notes what is opened and closed."""

    def __init__(self):
        self.opens: list[tuple[int, int]] = []
        self.closes: list[int] = []

    def opened(self, partition):
        self.opens.append((partition.number, partition.membership.generation))

    async def drain(self, partitions):
        assert not any(partition.open for partition in partitions)

    def closed(self, partition):
        self.closes.append(partition.number)


class Consumer:
    """As much of the consumer as taking over looks at."""

    def __init__(self):
        self.tenure: Tenure | None = None
        self.interruptions = 0

    def interrupt(self):
        self.interruptions += 1


class SlowRecovery:
    """Recovers when it is let go."""

    def __init__(self):
        self.begun, self.let_go = threading.Semaphore(0), threading.Event()
        self.let_go.set()
        self.asked: list[set[int]] = []

    def recover(self, numbers, _still_wanted):
        self.asked.append(set(numbers))
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
    made._recovery = SlowRecovery()  # type: ignore[assignment]
    consumer = Consumer()
    made._consumer = lambda: consumer  # type: ignore[assignment,method-assign]
    yield made
    made._store.close()


async def recovering(app):
    """Begin to take over and wait until the recovery is under way."""
    app._recovery.let_go.clear()
    task = asyncio.ensure_future(app._take_over())
    await asyncio.get_running_loop().run_in_executor(None, app._recovery.begun.acquire)
    return task


async def test_what_was_assigned_is_opened_under_its_membership(app):
    app._consumer().tenure = tenure(3, 0, 2)
    await app._take_over()
    assert app._program.opens == [(0, 3), (2, 3)]
    assert app.group.membership == Membership(3, "m")
    assert app.ready()


async def test_a_poll_fetched_before_partitions_were_opened_is_dropped(app):
    """It may begin behind the position recovered: what lies between would be lost."""
    before = app._consumer().interruptions
    app._consumer().tenure = tenure(3, 0)
    await app._take_over()
    assert app._consumer().interruptions > before


async def test_nothing_is_opened_while_the_next_rebalance_is_under_way(app):
    """Not the old assignment under the new generation: another worker owns some of it by then."""
    app._consumer().tenure = None
    await app._take_over()
    assert app._recovery.asked == []
    assert app.partitions == {}


async def test_a_rebalance_during_the_recovery_opens_nothing(app):
    app._consumer().tenure = tenure(3, 0, 1)
    task = await recovering(app)
    app._consumer().tenure = None
    app._recovery.let_go.set()
    await task
    assert app.partitions == {}
    assert app.group.membership is None


async def test_a_whole_rebalance_during_the_recovery_opens_only_the_newer(app):
    app._consumer().tenure = tenure(3, 0, 1)
    task = await recovering(app)
    app._consumer().tenure = tenure(4, 1)
    app._recovery.let_go.set()
    await task
    assert app.partitions == {}
    await app._take_over()
    assert app._program.opens == [(1, 4)]


async def test_asked_twice_for_one_assignment_it_opens_once(app):
    """A second opening would begin again at the stable offsets, under work not yet committed."""
    app._consumer().tenure = tenure(3, 0)
    await app._take_over()
    partition = app.partitions[0]
    await app._take_over()
    assert app.partitions[0] is partition
    assert app._program.opens == [(0, 3)]


async def test_what_was_given_up_can_neither_be_stepped_on_nor_stays(app):
    app._consumer().tenure = tenure(3, 0, 1)
    await app._take_over()
    old = app.partitions[1]
    await app._on_revoked(None)
    assert (app.partitions, app._program.closes) == ({}, [0, 1])
    with pytest.raises(FencedError):
        app.step(old)
    app._consumer().tenure = tenure(4, 1)
    await app._take_over()
    assert set(app.partitions) == {1}
    with pytest.raises(FencedError):
        app.step(old)


async def test_a_worker_that_stops_opens_nothing_more(app):
    app._consumer().tenure = tenure(3, 0)
    task = await recovering(app)
    app._stopping = True
    app._recovery.let_go.set()
    await task
    assert app.partitions == {}
