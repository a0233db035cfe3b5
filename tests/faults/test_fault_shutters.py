"""The wheel and the captures workers under faults: no shutter without a lease (issue 4)."""

from __future__ import annotations

import signal
import time

import pytest
from chain_harness import PARTITIONS
from shutter_bench import EVERY_MS, FLEET, WORKERS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
STOPPED_S = 60.0
LEAD_S = 2.0
"""How long before its time a command is issued here (``Chain.schedule``)."""


@pytest.mark.long
@pytest.mark.parametrize("app", ["captures", "wheel"])
def test_workers_killed(make_chain, kafka, app):
    chain = make_chain(kafka)
    chain.hurt()
    for slot in range(WORKERS):
        chain.strike(app, signal.SIGKILL, slot)
        chain.flow()
    chain.end(f"{app}-killed")


def test_a_captures_worker_stopped_and_woken(make_chain, kafka):
    """The zombie has armed captures; the others take them, and it opens no shutter."""
    stopped_and_woken(make_chain(kafka), "captures")


@pytest.mark.long
def test_a_wheel_stopped_and_woken(make_chain, kafka):
    stopped_and_woken(make_chain(kafka), "wheel")


def stopped_and_woken(chain, app):
    chain.wait_until("it owns partitions", lambda: chain.owned(app, 0) > 0)
    chain.hurt()
    stopped = chain.signal(app, signal.SIGSTOP)
    chain.wait_until(
        "the others have all", lambda: chain.owned(app, 1) + chain.owned(app, 2) == PARTITIONS
    )
    chain.flow()
    chain.signal(app, signal.SIGCONT)
    chain.wait_until("it ends, and is started again", lambda: chain.pid(app) not in {0, stopped})
    chain.await_ready()
    chain.flow()
    chain.end(f"{app}-stopped-and-woken")


@pytest.mark.long
def test_captures_workers_rolled(make_chain, kafka):
    """Armed captures are released, those in flight awaited."""
    chain = make_chain(kafka)
    chain.hurt()
    for slot in range(WORKERS):
        chain.strike("captures", signal.SIGTERM, slot)
        chain.flow()
    chain.end("captures-rolled")


@pytest.mark.long
def test_the_broker_killed_under_the_chain(broker, make_chain):
    chain = make_chain(broker.bootstrap)
    chain.hurt()
    broker.kill()
    broker.start()
    chain.flow()
    chain.end("chain-broker-killed")


@pytest.mark.long
def test_the_broker_stopped_for_a_minute_under_the_chain(broker, make_chain):
    """What was issued and not taken when it stopped expires; what fell due meanwhile is a misfire."""
    chain = make_chain(broker.bootstrap)
    broker.stop()
    chain.hurt()
    until = time.monotonic() + STOPPED_S
    chain.wait_until("the minute is over", lambda: time.monotonic() > until, STOPPED_S + 10)
    broker.start()
    chain.hurt()  # what the outage took is its own; this is what we add
    chain.flow()
    issued_ahead = round(FLEET * (LEAD_S + 2) * 1_000 / EVERY_MS)
    chain.end("chain-broker-stopped-60-s", expired_at_most=issued_ahead)


@pytest.mark.long
def test_idle_workers_outlive_a_broker_that_is_stopped(broker, make_chain):
    """Nothing they wrote is in doubt: no lease, not ready, and on they go when Kafka does."""
    chain = make_chain(broker.bootstrap, loaded=False)
    chain.introduce()
    chain.wait_until("the profiles are committed", chain.introduced)
    time.sleep(1.0)  # the rest of that commit, in the workers
    idle = [chain.worker("captures", slot) for slot in range(WORKERS)]
    pids = [worker.child.pid for worker in idle]
    broker.stop()
    chain.wait_until("none is ready", lambda: not any(worker.ready() for worker in idle))
    until = time.monotonic() + STOPPED_S
    chain.wait_until("the minute is over", lambda: time.monotonic() > until, STOPPED_S + 10)
    broker.start()
    chain.hurt()
    chain.await_ready()
    assert [worker.child.pid for worker in idle] == pids, "they are the same processes"
    chain.load()
    chain.end("idle-worker-broker-stopped-60-s")
