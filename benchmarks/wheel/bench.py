"""Wheel: our timing wheel beside ``heapq``, Kafka's SystemTimer, timingwheel and APScheduler.

Each system is one process that inserts the same timers one by one and then lets real time run
until all have expired; ``work.py`` says what is measured. A case is a number of timers and the
window over which they are due; at one time is the herd that a spread of 0 makes.

``insert_many_ns`` is ours alone: building a wheel, arming a batch anew. Where a system cannot be
run, its row says why; where inserting so many takes it too long, how many it had by then
(``inserted``).
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final

from benchmarks.options import chosen
from benchmarks.result import Row
from benchmarks.streams.peers import environment
from benchmarks.wheel.peers import SYSTEMS
from benchmarks.wheel.work import Job
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.wheel.peers import System

WINDOWS_MS: Final[tuple[tuple[int, int], ...]] = (
    (10_000, 5_000),
    (100_000, 10_000),
    (1_200_000, 10_000),
    (1_200_000, 1),
)
"""Timers, and over how long they are due."""
QUICK_WINDOWS_MS: Final[tuple[tuple[int, int], ...]] = ((10_000, 2_000), (10_000, 1))
LEAD_MS: Final = 1_000
"""From the end of the inserting to the window, at least."""
GIVE_UP_MS: Final = 20_000
SPARE_S: Final = 120.0
"""Beyond lead and window: starting, warming up, measuring memory."""
UNITS: Final = {"ns": "ns", "ms": "ms", "timer": "B", "max": "ms"}


def case_name(timers: int, window_ms: int) -> str:
    """Return the name of a case."""
    when = "at one time" if window_ms == 1 else f"over {window_ms // 1_000} s"
    return f"{timers:,} timers {when}"


def job_of(system: System, timers: int, window_ms: int) -> Job:
    """Return what a system is told in a case."""
    lead_ms = LEAD_MS + round(timers * system.insert_us / 1_000)
    return Job(timers, window_ms, lead_ms, GIVE_UP_MS)


def measure(command: list[str], system: System, job: Job) -> dict[str, float]:
    """Run a program; return its figures.

    Raises:
        BrokerError: it failed or did not come to its end.

    """
    allowed_s = (job.lead_ms + job.window_ms) / 1_000 + SPARE_S
    try:
        done = subprocess.run(
            [*command, *system.arguments(job)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=allowed_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"{system.name} did not end within {allowed_s:.0f} s") from error
    if done.returncode:
        raise BrokerError(f"{system.name} failed: {done.stderr[-800:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(case: str, system: str, figures: dict[str, float]) -> list[Row]:
    """Return the rows of a run."""
    return [
        Row(case, system, metric, round(value, 3), UNITS.get(metric.rpartition("_")[2], "1"))
        for metric, value in figures.items()
    ]


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every system in every case."""
    systems = {system.name: system for system in SYSTEMS}
    names = chosen(options.systems, list(systems), "system")
    cases = QUICK_WINDOWS_MS if options.quick else WINDOWS_MS
    if options.devices:
        cases = tuple((timers, 10_000) for timers in options.devices)
    commands: dict[str, list[str]] = {}
    for name in names:
        if not systems[name].missing():
            rig.say(f"{name}: getting it ready")
            commands[name] = systems[name].prepare(_folder(rig, name))
    for timers, window_ms in cases:
        case = case_name(timers, window_ms)
        for name in names:
            system = systems[name]
            if name not in commands:
                yield Row(case, name, f"not run: {system.missing()}", 1, "1")
            elif window_ms > 1 or system.at_once:
                rig.say(f"{case}: {name}")
                yield from rows_of(
                    case, name, measure(commands[name], system, job_of(system, timers, window_ms))
                )


def _folder(rig: Rig, name: str) -> Path:
    folder = rig.folder / f"timers-{name}"
    folder.mkdir()
    return folder
