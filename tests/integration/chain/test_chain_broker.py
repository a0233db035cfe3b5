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


def test_a_broker_killed_under_load_is_started_again_and_nothing_is_lost(options):
    """Issue 3: a broker restart is survived."""
    with Chain(options, FLEET) as chain:
        chain.introduce()
        chain.schedule(EVERY_MS)
        chain.run_on(photos=FLEET)
        broker = chain.cluster.supervisor.broker
        killed = broker.pid
        os.kill(killed, signal.SIGKILL)
        broker.wait(30)
        chain.wait_until("another broker", lambda: broker.alive() and broker.pid != killed)
        chain.run_on(photos=4 * FLEET)
        report = chain.finish()
        assert chain.cluster.supervisor.broker_restarts == 1
        assert report.succeeded >= 2 * FLEET
        assert report.failed == 0, report.failed_causes


def test_a_second_start_goes_on_where_the_first_stopped(options):
    """Issue 3: nothing is published anew; schedules, ids and photos go on, nothing is doubled."""
    cameras = CameraThread(FLEET)
    try:
        with Chain(options, FLEET, cameras) as first:
            first.introduce()
            first.schedule(EVERY_MS)
            first.run_on(photos=2 * FLEET)
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
            assert second.cluster.restarts == 0
    finally:
        cameras.close()

    assert_kept(report)
    assert report.succeeded >= 4 * FLEET - FLEET
    by_shard: dict[int, list[int]] = {}
    for command in commands:
        by_shard.setdefault(command_shard(command.command_id), []).append(command.command_id)
    for shard, numbers in by_shard.items():
        assert numbers == sorted(set(numbers)), f"the ids of shard {shard} rise over both starts"
