"""One command of the CLI, run and measured as an operator runs it: time, CPU, memory, its JSON.

Memory is that of the command and all of its processes together, looked at ten times a second: a
page that several share counts for each, so the figure is an upper bound.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psutil

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

LOOK_S: Final = 0.1
MOST_S: Final = 1_800.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a command took, and what it said."""

    seconds: float
    cpu_s: float
    """Of the command and its processes."""
    broker_cpu_s: float
    peak_bytes: int
    """Resident, of all its processes together."""
    said: dict[str, Any]

    def figures(self, name: str, records: int) -> dict[tuple[str, str], float | None]:
        """Return the figures of a benchmark, over so many records."""
        return {
            (f"{name}_s", "s"): self.seconds,
            (f"{name}_records_per_s", "1/s"): records / self.seconds,
            (f"{name}_cpu_us_per_record", "us"): self.cpu_s / records * 1e6,
            (f"{name}_broker_cpu_us_per_record", "us"): self.broker_cpu_s / records * 1e6,
            (f"{name}_peak_rss", "MiB"): self.peak_bytes / (1 << 20),
        }


class _Memory(threading.Thread):
    """Watches the memory of a process and those below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="memory", daemon=True)
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(LOOK_S):
            total = 0
            try:
                for one in (self._process, *self._process.children(recursive=True)):
                    total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


def measured(words: list[str], broker: int, log: Path) -> Stage:
    """Run ``shutterwheel WORDS --json``; ``broker``: process id of Kafka, 0 where it is not ours.

    Raises BrokerError where the command fails.
    """
    before, kafka = _children_s(), _cpu_s(broker)
    began_s = time.perf_counter()
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "shutterwheel", *words, "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        memory = _Memory(child.pid)
        memory.start()
        try:
            output, _ = child.communicate(timeout=MOST_S)
        finally:
            child.kill()
            child.wait()
            memory.stop()
    seconds = time.perf_counter() - began_s
    if child.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise BrokerError(f"{words[0]} has failed: {said[-1] if said else child.returncode}")
    return Stage(
        seconds,
        _children_s() - before,
        _cpu_s(broker) - kafka,
        memory.peak_bytes,
        msgspec.json.decode(output, type=dict[str, Any]),
    )


def _children_s() -> float:
    """Return the CPU seconds of processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_s(pid: int) -> float:
    if not pid:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
