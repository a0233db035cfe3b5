"""The devices app under faults: each change announced once, silence noticed by whoever is there."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from health_bench import OTHERS, STEADY, WORKERS, HealthBench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fault_report import FaultReport

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def health(
    kafka: str, namespace: str, tmp_path: Path, report: FaultReport
) -> Iterator[HealthBench]:
    made = HealthBench(kafka, namespace, tmp_path / "health", report)
    try:
        made.up(STEADY + OTHERS)
        made.announced()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("how", "number"), [("killed", signal.SIGKILL), ("rolled", signal.SIGTERM)]
)
def test_each_worker_ends_while_devices_fall_silent(health, how, number):
    """A third of them with each: the silence begins while nobody may be listening."""
    for slot in range(WORKERS):
        health.down(OTHERS[slot::WORKERS])
        health.strike(number, slot)
        health.announced()
    health.up(OTHERS)
    health.finish(f"devices-{how}")


def test_a_worker_stopped_and_woken(health):
    """The others take its devices over; when it wakes it announces nothing, and ends."""
    stopped = health.strike(signal.SIGSTOP, 0)
    health.down(OTHERS)
    health.announced()
    health.strike(signal.SIGCONT, 0)
    health.until("it ends, and is started again", lambda: health.pid(0) not in {0, stopped})
    health.up(OTHERS)
    health.finish("devices-stopped-and-woken")
