"""Brokers killed and stopped under load; one of three, and the group's coordinator (issue 4)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from infra.kafka.ensemble import EmbeddedEnsemble

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.usefixtures("prepared"),
    pytest.mark.timeout(300),
]
STOPPED_S = 60.0


@pytest.fixture(scope="module")
def ensemble(request, tmp_path_factory) -> Iterator[EmbeddedEnsemble]:
    """Three brokers that keep three copies; one may be away."""
    request.getfixturevalue("prepared")
    with EmbeddedEnsemble(tmp_path_factory.mktemp("ensemble")) as made:
        yield made


def test_the_broker_killed_and_started_again(broker, make_bench):
    bench = make_bench(broker.bootstrap).start()
    bench.settle()
    bench.hurt()
    broker.kill()
    broker.start()
    bench.settle()
    bench.finish("broker-killed")


@pytest.mark.long
def test_the_broker_stopped_for_a_minute(broker, make_bench):
    """Longer than workers wait for a commit: those with something to write end and come again."""
    bench = make_bench(broker.bootstrap).start()
    bench.settle()
    broker.stop()
    again = time.monotonic() + STOPPED_S
    bench.until("the minute is over", lambda: time.monotonic() > again)
    broker.start()
    bench.hurt()  # what the outage took is its own; this is what we add
    bench.settle()
    assert {error for _, _, error in bench.ends} <= {"BrokerError", "FencedError"}
    bench.finish("broker-stopped-60-s")


@pytest.mark.long
def test_one_broker_of_three_killed(ensemble, make_bench):
    """Not the coordinator: partitions get another leader."""
    bench = make_bench(ensemble.bootstrap, {"replication": 3}).start()
    bench.settle()
    coordinator = coordinator_of(bench)
    victim = next(broker for node, broker in ensemble.nodes.items() if node != coordinator)
    bench.hurt()
    victim.kill()
    bench.settle()
    victim.start()
    bench.settle()
    bench.finish("one-of-three-brokers-killed")


@pytest.mark.long
def test_the_coordinator_of_the_group_killed(ensemble, make_bench):
    """It leads the partition of __consumer_offsets that the group is kept in."""
    bench = make_bench(ensemble.bootstrap, {"replication": 3}).start()
    bench.settle()
    node = coordinator_of(bench)
    bench.hurt()
    ensemble.nodes[node].kill()
    bench.until("another coordinator", lambda: coordinator_of(bench) not in {node, None})
    bench.settle()
    ensemble.nodes[node].start()
    bench.settle()
    bench.finish("coordinator-changed")


def coordinator_of(bench):
    """Return the node id of the group's coordinator; None while there is none."""

    async def ask():
        client = AIOKafkaClient(bootstrap_servers=bench.site.kafka)
        try:
            await client.bootstrap()
            group = f"{bench.site.namespace}.captures"
            return await client.coordinator_lookup(CoordinationType.GROUP, group)
        finally:
            await client.close()

    try:
        return asyncio.run(asyncio.wait_for(ask(), 5))
    except (KafkaError, TimeoutError):
        return None  # no answer while it moves; asked again
