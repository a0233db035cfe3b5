"""Load of this machine and of this process: CPU over the last 5 s, memory in use (SPEC 2.3).

CPU time is read every 100 ms. What is kept are the counters (busy and total seconds since some
start), not shares: the mean over a window is the difference of its ends, so one sample that came
late weighs as much as the time it stands for, and reading it costs two subtractions. A window that
is not full yet tells of what there is; before the second sample the share is 0.

Memory in use is 1 - available / total, read every 500 ms.

**The machine** is what a terminal reports of itself in its heartbeats. **The process** is this
worker's own share of one core: an event loop that is full stands at 1.0 while a machine of 16 cores
still shows 0.06. Both are the host's figures; a container's quota is not looked at.

Cost: 12 us a reading of the machine's CPU, 31 of its memory, 0.8 of the process: 0.02 % of a core.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

CPU_EVERY_S = 0.1
"""Time between two readings of CPU time."""
CPU_WINDOW_S = 5.0
"""Time over which CPU is averaged."""
MEMORY_EVERY_S = 0.5
"""Time between two readings of memory."""
_CPU_SAMPLES = round(CPU_WINDOW_S / CPU_EVERY_S)
_MEMORY_EVERY = round(MEMORY_EVERY_S / CPU_EVERY_S)


class CpuTime(NamedTuple):
    """Seconds of CPU since some start; only differences mean anything."""

    busy_s: float
    total_s: float


def machine_cpu() -> CpuTime:
    """Read the CPU time of all processors; waiting for disks is idling."""
    times = psutil.cpu_times()
    # The kernel counts a guest's time within user and nice as well.
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return CpuTime(total_s - times.idle - getattr(times, "iowait", 0.0), total_s)


def process_cpu() -> CpuTime:
    """Read this process's CPU time, all its threads, against the time that passed."""
    return CpuTime(time.process_time(), time.monotonic())


def memory_in_use() -> float:
    """Return the share of the machine's memory that is not available."""
    memory = psutil.virtual_memory()
    return 1.0 - memory.available / memory.total


class CpuWindow:
    """The share of CPU time in use over the last ``samples`` readings."""

    __slots__ = ("_read", "_readings")

    def __init__(self, read: Callable[[], CpuTime], samples: int = _CPU_SAMPLES) -> None:
        self._read = read
        self._readings: deque[CpuTime] = deque(maxlen=samples + 1)

    def sample(self) -> None:
        """Take a reading; the oldest of a full window is dropped."""
        self._readings.append(self._read())

    @property
    def share(self) -> float:
        """Busy time by total time over the window; 0.0 where no time has passed."""
        if len(self._readings) < 2:
            return 0.0
        first, last = self._readings[0], self._readings[-1]
        total_s = last.total_s - first.total_s
        # The kernel's own idle counters may step back by a tick.
        return max((last.busy_s - first.busy_s) / total_s, 0.0) if total_s > 0.0 else 0.0


class LoadSampler:
    """Samples for as long as ``keep`` runs; what it found last may be asked at any time."""

    def __init__(
        self,
        machine: Callable[[], CpuTime] = machine_cpu,
        process: Callable[[], CpuTime] = process_cpu,
        memory: Callable[[], float] = memory_in_use,
    ) -> None:
        """Take where the figures come from: the host, unless a test says otherwise."""
        self._machine = CpuWindow(machine)
        self._process = CpuWindow(process)
        self._read_memory = memory
        self._memory = 0.0
        self._samples = 0

    @property
    def machine_cpu(self) -> float:
        """Share of all processors in use, 0 to 1, averaged over ``CPU_WINDOW_S``."""
        return min(self._machine.share, 1.0)

    @property
    def cpu(self) -> float:
        """Share of one core that this process uses, averaged likewise; at most 1: it is full."""
        return min(self._process.share, 1.0)

    @property
    def mem(self) -> float:
        """Share of the machine's memory that is not available, 0 to 1."""
        return min(max(self._memory, 0.0), 1.0)

    def sample(self) -> None:
        """Take one sample, as ``keep`` does every 100 ms: CPU each time, memory each fifth."""
        self._machine.sample()
        self._process.sample()
        if self._samples % _MEMORY_EVERY == 0:
            self._memory = self._read_memory()
        self._samples += 1

    async def keep(self) -> None:
        """Sample until cancelled. A sample that comes late is not made up for."""
        while True:
            self.sample()
            await asyncio.sleep(CPU_EVERY_S)
