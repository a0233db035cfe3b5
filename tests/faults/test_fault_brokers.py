"""Brokers killed and stopped under load; one of three, and the group's coordinator (issue 4)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from runtime_harness import IN, LOG, make_topics, wait_until

from infra.kafka.ensemble import EmbeddedEnsemble
from infra.kafka.topics import topic_name
from streams.runtime.recovery import Recovery
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.usefixtures("prepared"),
    pytest.mark.timeout(300),
]
STOPPED_S = 60.0
SECOND_AWAY_S = 5.0
WAKINGS, RECOVERIES = 3, 4


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
def test_a_second_broker_of_three_killed(ensemble, make_bench):
    """While the first is still away: one of three decides nothing, so all is held up until it is
    two again; and what was acknowledged by two is on one of them."""
    bench = make_bench(ensemble.bootstrap, {"replication": 3}).start()
    bench.settle()
    coordinator = coordinator_of(bench)
    first, second = sorted(ensemble.nodes, key=lambda node: node == coordinator)[-2:]
    ensemble.nodes[first].kill()
    bench.settle()
    bench.hurt()
    ensemble.nodes[second].kill()
    quiet = time.monotonic() + SECOND_AWAY_S
    bench.until("it has been away", lambda: time.monotonic() > quiet)
    ensemble.nodes[first].start()
    bench.settle()
    ensemble.nodes[second].start()
    bench.settle()
    assert {error for _, _, error in bench.ends} <= {"BrokerError", "FencedError"}
    bench.finish("second-of-three-brokers-killed")


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


@pytest.mark.long
def test_a_broker_that_wakes_makes_no_recovery_end_in_the_past(ensemble, namespace, tmp_path):
    """It believes that it leads still, and tells the changelog's end as it was: found by hand."""
    make_topics(ensemble.bootstrap, namespace, 1, 3)
    topic = topic_name(namespace, LOG)
    for round_ in range(WAKINGS):
        wait_until("a leader", lambda: leader_of(ensemble.bootstrap, topic) in ensemble.nodes)
        leader = leader_of(ensemble.bootstrap, topic)
        sleeper = ensemble.nodes[leader]
        others = ",".join(b.bootstrap for node, b in ensemble.nodes.items() if node != leader)
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            wait_until(
                "another leader", lambda o=others, n=leader: leader_of(o, topic) not in {n, -1}
            )
            rows = {b"%d-%d" % (round_, n): b"1" for n in range(200)}
            write(others, topic, rows)
            with ThreadPoolExecutor(RECOVERIES) as pool:
                asked = [
                    pool.submit(recovered, sleeper.bootstrap, namespace, tmp_path / f"{round_}-{n}")
                    for n in range(RECOVERIES)
                ]
                os.kill(sleeper.pid, signal.SIGCONT)
                found = [each.result() for each in asked]
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
        assert all(rows.keys() <= keys for keys in found), [len(keys) for keys in found]


def leader_of(kafka, topic):
    """Return the node id of a partition's leader, as the brokers asked see it; -1: none."""
    found = AdminClient({"bootstrap.servers": kafka, "log_level": 0}).list_topics(topic, 10)
    partitions = found.topics[topic].partitions
    return partitions[0].leader if partitions else -1  # none: it has not heard of the topic yet


def write(kafka, topic, rows):
    """Write rows to partition 0, acknowledged by all copies in sync."""
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "log_level": 0})
    for key, value in rows.items():
        producer.produce(topic, value, key, 0)
    assert producer.flush(30) == 0


def recovered(kafka, namespace, folder):
    """Read partition 0's changelog from nothing, asking this broker first; return the keys found.

    Not the whole recovery: what comes before takes as long as the broker's dream.
    """
    settings = RuntimeSettings(
        app="captures", slot="0", bootstrap=kafka, namespace=namespace, data_dir=folder
    )
    store = Store(folder / "state", ("counts",), block_cache_bytes=1 << 20)
    try:
        recovery = Recovery(
            settings, store, lambda name: topic_name(namespace, name), {"counts": LOG}, (IN,)
        )
        recovery._read_changelogs([0], lambda: True)
        return {key for key, _ in store.scan("counts", 0)}
    finally:
        store.close()


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
