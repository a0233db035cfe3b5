"""How busy the worker is (SPEC 2.3: CPU every 100 ms averaged over 5 s, memory every 500 ms)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.observability.load import (
    CPU_EVERY_S,
    CPU_SAMPLES,
    LoadSampler,
    memory_share,
    read_memory_share,
)

MEMINFO = (
    "MemTotal:       16000 kB\nMemFree:   1 kB\nMemAvailable:    4000 kB\nHugePages_Total: 0\n"
)


class Machine:
    """A machine whose time, CPU and memory a test moves."""

    def __init__(self) -> None:
        self.now_s = self.cpu_s = 0.0
        self.mem = 0.5
        self.asked = 0
        self.load = LoadSampler(lambda: self.now_s, lambda: self.cpu_s, self.memory)

    def memory(self) -> float:
        self.asked += 1
        return self.mem

    def run(self, samples: int, busy: float) -> None:
        for _ in range(samples):
            self.load.sample()
            self.now_s += CPU_EVERY_S
            self.cpu_s += CPU_EVERY_S * busy


def test_cpu_is_averaged_over_five_seconds() -> None:
    """SPEC 2.3: a burst of a second is a fifth of the average; after five it is all of it."""
    machine = Machine()
    machine.run(CPU_SAMPLES + 1, 0.0)
    machine.run(11, 1.0)
    assert machine.load.cpu == pytest.approx(0.2)
    machine.run(40, 1.0)
    assert machine.load.cpu == pytest.approx(1.0)


def test_memory_is_read_every_fifth_time() -> None:
    """SPEC 2.3: every 500 ms."""
    machine = Machine()
    machine.run(50, 0.1)
    assert machine.asked == 10
    assert machine.load.mem == 0.5


@given(st.lists(st.floats(0.0, 8.0), max_size=120))
def test_a_share_is_a_share(busy: list[float]) -> None:
    """SPEC 2.3: threads may use more than a core; a share stays from 0 to 1."""
    machine = Machine()
    for share in busy:
        machine.run(1, share)
    assert 0.0 <= machine.load.cpu <= 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [(MEMINFO, 0.75), ("", 0.0), ("MemTotal: 5 kB\n", 0.0), ("MemTotal:", 0.0)],
)
def test_memory_by_the_kernels_own_file(text: str, expected: float) -> None:
    """SPEC 2.3: 1 - available / total; not known is 0."""
    assert memory_share(text) == expected


def test_this_machine() -> None:
    """The real readings: a process that runs, on a machine that has memory in use."""
    load = LoadSampler()
    load.sample()
    sum(range(200_000))
    load.sample()
    assert load.cpu > 0.0
    assert 0.0 <= read_memory_share() < 1.0
