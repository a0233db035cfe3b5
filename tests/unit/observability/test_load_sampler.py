"""The sampler of load: SPEC 2.3, issue 6 (heartbeats and health)."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.observability.load import (
    CPU_EVERY_S,
    CPU_WINDOW_S,
    MEMORY_EVERY_S,
    CpuTime,
    CpuWindow,
    LoadSampler,
    machine_cpu,
    memory_in_use,
    process_cpu,
)


class Counters:
    """CPU counters that a test moves."""

    def __init__(self) -> None:
        self.busy_s, self.total_s = 1_000.0, 9_000.0

    def __call__(self) -> CpuTime:
        return CpuTime(self.busy_s, self.total_s)

    def move(self, busy_s: float, total_s: float) -> None:
        self.busy_s += busy_s
        self.total_s += total_s


def test_times_are_those_of_the_specification():
    """SPEC 2.3: CPU every 100 ms averaged over 5 s, memory every 500 ms."""
    assert (CPU_EVERY_S, CPU_WINDOW_S, MEMORY_EVERY_S) == (0.1, 5.0, 0.5)


def test_share_is_the_mean_of_the_window_and_of_nothing_older():
    counters = Counters()
    window = CpuWindow(counters, samples=50)
    window.sample()
    assert window.share == 0.0
    for _ in range(50):  # 5 s at full load
        counters.move(0.1, 0.1)
        window.sample()
    assert window.share == pytest.approx(1.0)
    for _ in range(25):  # and half a window of none
        counters.move(0.0, 0.1)
        window.sample()
    assert window.share == pytest.approx(0.5)
    for _ in range(25):
        counters.move(0.0, 0.1)
        window.sample()
    assert window.share == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 3)), min_size=1, max_size=120))
def test_late_samples_weigh_as_the_time_they_stand_for(moves: list[tuple[float, float]]):
    counters = Counters()
    window = CpuWindow(counters, samples=50)
    window.sample()
    for share, total_s in moves:
        counters.move(share * total_s, total_s)
        window.sample()
    kept = moves[-50:]
    mean = sum(share * s for share, s in kept) / sum(s for _, s in kept)
    assert window.share == pytest.approx(mean, abs=1e-6)


def test_counters_that_stand_or_step_back_are_no_load():
    counters = Counters()
    window = CpuWindow(counters)
    window.sample()
    window.sample()
    assert window.share == 0.0
    counters.move(-0.01, 0.1)
    window.sample()
    assert window.share == 0.0


def test_memory_is_read_with_each_fifth_sample():
    """SPEC 2.3: memory every 500 ms, where CPU is read every 100."""
    readings: list[float] = []

    def memory() -> float:
        readings.append(0.25)
        return 0.25

    sampler = LoadSampler(Counters(), Counters(), memory)
    for _ in range(11):
        sampler.sample()
    assert len(readings) == 3
    assert sampler.mem == 0.25


def test_process_that_works_shows_its_own_load():
    """Real counters: a loop that never waits fills a core, and the machine's share is a share."""
    sampler = LoadSampler()
    sampler.sample()
    before = process_cpu()
    while process_cpu().busy_s - before.busy_s < 0.2:
        pass
    passed_s = time.monotonic() - before.total_s
    sampler.sample()
    assert sampler.cpu == pytest.approx(0.2 / passed_s, rel=0.5)
    assert 0.0 < sampler.machine_cpu <= 1.0
    assert 0.0 < sampler.mem < 1.0


def test_threads_that_fill_more_than_a_core_are_one_that_is_full():
    counters = Counters()
    sampler = LoadSampler(counters, counters, lambda: 1.5)
    sampler.sample()
    counters.move(3.0, 1.0)
    sampler.sample()
    assert (sampler.cpu, sampler.machine_cpu, sampler.mem) == (1.0, 1.0, 1.0)


def test_real_readings_never_fall():
    first, second = machine_cpu(), machine_cpu()
    assert second.total_s >= first.total_s
    assert 0.0 < first.busy_s < first.total_s
    assert 0.0 < memory_in_use() < 1.0


async def test_keep_samples_until_it_is_cancelled():
    enough = asyncio.Event()
    taken: list[int] = []

    def machine() -> CpuTime:
        taken.append(1)
        if len(taken) == 3:
            enough.set()
        return CpuTime(0.0, 0.0)

    task = asyncio.ensure_future(LoadSampler(machine).keep())
    await asyncio.wait_for(enough.wait(), 10.0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(taken) >= 3
