"""How busy this worker is (SPEC 2.3): CPU every 100 ms averaged over 5 s, memory every 500 ms.

**CPU** is the process's own CPU time over the time elapsed, at most 1: a Python worker can use one
core, so 1 is when it can do no more, whatever the other cores do. **Memory** is the machine's:
``1 - available / total`` of ``/proc/meminfo``; where there is no such file it is not known, 0.

Cost: 1 microsecond a sample of CPU, 40 one of memory: 0.01 % of a core.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CPU_EVERY_S: Final = 0.1
CPU_SAMPLES: Final = 50
"""Five seconds of samples."""
MEMORY_EVERY: Final = 5
"""Samples of CPU from one of memory to the next."""
MEMINFO: Final = Path("/proc/meminfo")


def memory_share(meminfo: str) -> float:
    """Return the share of memory that is not available, from the text of ``/proc/meminfo``."""
    sizes = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in meminfo.splitlines())
        if name in {"MemTotal", "MemAvailable"} and rest.split()
    }
    total = sizes.get("MemTotal", 0)
    if not total or "MemAvailable" not in sizes:
        return 0.0
    return min(max(1.0 - sizes["MemAvailable"] / total, 0.0), 1.0)


def read_memory_share() -> float:
    """Return the share of this machine's memory that is not available; 0: not known."""
    try:
        return memory_share(MEMINFO.read_text())
    except (OSError, ValueError):
        return 0.0


class LoadSampler:
    """Samples; :attr:`cpu` and :attr:`mem` are what was found last, shares of 0 to 1."""

    def __init__(
        self,
        clock_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        memory: Callable[[], float] = read_memory_share,
    ) -> None:
        """Take where time, CPU time and memory are read."""
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._memory = memory
        self._samples: deque[tuple[float, float]] = deque(maxlen=CPU_SAMPLES + 1)
        """(elapsed, CPU) seconds at each sample: the average is from the first to the last."""
        self._count = 0
        self.cpu = 0.0
        self.mem = 0.0

    def sample(self) -> None:
        """Take one sample; called each ``CPU_EVERY_S``."""
        self._samples.append((self._clock_s(), self._cpu_s()))
        (first_s, first_cpu_s), (last_s, last_cpu_s) = self._samples[0], self._samples[-1]
        if last_s > first_s:
            self.cpu = min(max((last_cpu_s - first_cpu_s) / (last_s - first_s), 0.0), 1.0)
        if self._count % MEMORY_EVERY == 0:
            self.mem = self._memory()
        self._count += 1

    async def keep(self) -> None:
        """Sample for as long as this runs."""
        while True:
            self.sample()
            await asyncio.sleep(CPU_EVERY_S)
