"""The embedded broker under the chain: killed under load, and started a second time on its data."""

from __future__ import annotations

import os
import signal

import pytest
from chain_harness import PARTITIONS, SESSION_MS, CameraThread, Chain, assert_kept

from schemas.records import CaptureCommand
from shutterwheel import check
from shutterwheel.cluster import ClusterOptions
from streams.core.ids import command_shard

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("prepared")]

FLEET = 16
EVERY_MS = 1_000


@pytest.fixture
def options(tmp_path):
    """With a broker of its own: none is named."""
    return ClusterOptions(data=tmp_path, partitions=PARTITIONS, session_timeout_ms=SESSION_MS)


@pytest.fixture
def cameras():
    made = CameraThread(FLEET)
    yield made
    made.close()


def kill_the_broker(chain):
    """Kill -9 the Java machine; return when the supervisor has another one running."""
    broker = chain.cluster.supervisor.broker
    killed = broker.pid
    os.kill(killed, signal.SIGKILL)
    broker.wait(30)
    chain.wait_until("another broker", lambda: broker.alive() and broker.pid != killed)


def test_a_killed_broker_and_a_second_start_lose_and_double_nothing(options, cameras):
    """Issue 3: a broker restart is survived, and a second start goes on where the first stopped.

    In the second life nothing is published anew; schedules, ids and photos go on.
    """
    with Chain(options, FLEET, cameras) as first:
        first.introduce()
        first.schedule(EVERY_MS, catch_up="30s")
        first.run_on(photos=FLEET)
        kill_the_broker(first)
        first.run_on(photos=2 * FLEET)
        assert first.cluster.supervisor.broker_restarts == 1
    assert not first.cluster.run_file.exists(), "a stopped cluster is not to be found"

    with Chain(options, FLEET, cameras) as second:
        assert second.kafka == first.kafka, "the broker comes back on its port"
        second.run_on(photos=2 * FLEET)
        second.cancel()
        second.drain()
        commands = list(second.records("capture.commands", CaptureCommand))
        report = check.check_run(
            second.kafka, "", second.cluster.blobs, None, first.started_ms, cameras.log()
        )
        assert not second.shutters_after_the_end()
        assert second.cluster.restarts == 0

    assert_kept(report)
    assert report.succeeded >= 4 * FLEET
    assert report.failed == 0, report.failed_causes
    by_shard: dict[int, list[int]] = {}
    for command in commands:
        by_shard.setdefault(command_shard(command.command_id), []).append(command.command_id)
    for shard, numbers in by_shard.items():
        assert numbers == sorted(set(numbers)), f"the ids of shard {shard} rise over both starts"
