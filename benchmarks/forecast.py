"""Forecast: how long it takes to count a day of captures before they happen.

``gather_s`` is taking the schedules in, ``count_s`` is counting the captures of each second and
shard of the next 24 hours (``shutterwheel/forecast.py``). Cases are numbers of schedules every five
minutes, spread over five minutes, with one recurrence or with 1,000 (other phases). No broker runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks.result import Row, rows_of
from schemas.records import CapturePolicy, ScheduleSpec
from shutterwheel.forecast import Population, forecast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

DEVICES: Final = (10_000, 100_000, 1_200_000)
QUICK_DEVICES: Final = (10_000,)
RECURRENCES: Final = (1, 1_000)
EVERY_MS: Final = 300_000
BEGIN_MS: Final = 1_800_000_000_000
DAY_S: Final = 86_400


def run(options: Options, _rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    for devices in options.devices or (QUICK_DEVICES if options.quick else DEVICES):
        for recurrences in RECURRENCES:
            yield from _measured(devices, recurrences)


def _measured(devices: int, recurrences: int) -> list[Row]:
    specs = [
        ScheduleSpec("interval", every_ms=EVERY_MS, phase_ms=n * EVERY_MS // recurrences)
        for n in range(recurrences)
    ]
    policy = CapturePolicy(spread_ms=EVERY_MS)
    names = [f"cam-{n:07}" for n in range(devices)]
    began_s = time.perf_counter()
    population = Population(BEGIN_MS, DAY_S)
    for n, device_id in enumerate(names):
        population.add(device_id, "s", specs[n % recurrences], policy)
    gathered_s = time.perf_counter()
    load = forecast(population)
    counted_s = time.perf_counter()
    return rows_of(
        f"{devices:,} schedules, {recurrences:,} recurrences",
        {
            ("gather_s", "s"): gathered_s - began_s,
            ("count_s", "s"): counted_s - gathered_s,
            ("captures", "1"): load.captures,
            ("peak_per_s", "1/s"): load.peak,
            ("peak_per_shard", "1/s"): int(load.shard_peak.max()),
        },
    )
