"""Lateness: from the scheduled millisecond to the shutter, at a known load.

**Paced** and **sockets** (``--cases``): workers of both apps (one process each), a real broker, and
a paced load (``load.py``) for each rate. ``null-camera`` takes its picture at once in the worker;
the cases "on sockets" ask simulated cameras over HTTP. Lateness is in whole milliseconds, as the
results record it; "at the camera" is the microsecond at which the simulated camera had the request.

**Fleet**: 1.2 million devices of a period of 5 minutes, so 4,000/s, on null cameras
(``fleet.py``); with one captures worker, and with two (``shutterwheel-x2``).

**Peers**: 100,000 jobs at 4,000/s on the schedulers that a user would take instead
(``schedulers/``), one after the other, and the same load on ours. In memory: Quartz, gocron,
APScheduler. Durable, as ours is: Quartz on PostgreSQL.

Nothing of ours may be early or doubled: then the program ends with exit code 1.

``achieved_per_s`` is photographs a second; where it stays behind the load, the machine was
overloaded and lateness grows with the length of the window: read such a row as "not reached".
``cpu_…`` are CPU seconds a second by process; ``elsewhere`` is everything else on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import fleet
from benchmarks.load import Load, Measured, Rig, paced
from benchmarks.options import chosen
from benchmarks.result import Row, rows_of
from benchmarks.schedulers import bench as schedulers
from benchmarks.schedulers.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.options import Options

PERIOD_S: Final = 5.0
"""Of each device's schedule."""
RATES: Final = (200.0, 1_000.0, 2_000.0, 4_000.0)
SOCKET_RATES: Final = (200.0, 1_000.0)
QUICK_RATES: Final = (200.0,)

PACED, SOCKETS, BESIDE, FLEET = "paced", "sockets", "peers", "fleet"
CASES: Final = (PACED, SOCKETS, BESIDE, FLEET)
QUICK_CASES: Final = (PACED, SOCKETS)
FLEET_RATE: Final = 4_000.0
FLEET_DEVICES: Final = 1_200_000
JOBS: Final = 100_000
QUICK_FLEET_RATE: Final = 200.0
QUICK_JOBS: Final = 5_000
WORKERS: Final = (1, 2)
"""Captures workers of the fleet, in turn."""
OURS: Final = tuple(fleet.system(workers) for workers in WORKERS)


def loads(options: Options) -> list[Load]:
    """Return the cases of the paced load."""
    quick = options.quick
    seconds = options.seconds or (10.0 if quick else 30.0)
    cases = options.cases or CASES
    rates = options.rates or (QUICK_RATES if quick else RATES)
    socket_rates = options.rates or (QUICK_RATES if quick else SOCKET_RATES)
    found = [_load(options, rate, seconds, sockets=False) for rate in rates if PACED in cases]
    return found + [
        _load(options, rate, seconds, sockets=True) for rate in socket_rates if SOCKETS in cases
    ]


def _load(options: Options, rate: float, seconds: float, *, sockets: bool) -> Load:
    period_s = options.every_s or PERIOD_S
    devices = options.devices[0] if options.devices else max(1, round(rate * period_s))
    return Load(devices, rate, seconds, sockets)


def fleets(options: Options, case: str) -> list[Load]:
    """Return the loads of a fleet, or those beside peers: of each size and rate asked for."""
    quick, plain = options.quick, FLEET_DEVICES if case == FLEET else JOBS
    seconds = options.seconds or (5.0 if quick else 30.0)
    rate = QUICK_FLEET_RATE if quick else FLEET_RATE
    return [
        Load(devices, devices / options.every_s if options.every_s else per_s, seconds)
        for devices in options.devices or (QUICK_JOBS if quick else plain,)
        for per_s in options.rates or (rate,)
    ]


def rows(measured: Measured) -> list[Row]:
    """Return the figures of a case of the paced load."""
    report = measured.report
    figures: dict[tuple[str, str], float | None] = {}
    for name, late in (("", report.lateness_ms), ("camera_", report.camera_lateness_ms)):
        for part in ("p50", "p90", "p99", "max") if late is not None else ():
            figures[f"{name}lateness_ms_{part}", "ms"] = getattr(late, part)
    figures["achieved_per_s", "1/s"] = report.captures_per_s
    figures["due", "1"] = report.due
    figures["succeeded", "1"] = report.succeeded
    figures["expired", "1"] = report.expired
    figures["early", "1"] = report.early
    figures["duplicated", "1"] = report.duplicated
    figures["lost", "1"] = report.lost if measured.drained else None
    figures["worker_restarts", "1"] = measured.restarts
    for process, cpu_s in measured.cpu_s.items():
        figures[f"cpu_{process}", "s/s"] = cpu_s / measured.window_s
    return rows_of(measured.load.case, figures)


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    cases = chosen(options.cases, CASES, "case")
    if options.quick and not options.cases:
        cases = list(QUICK_CASES)
    names = chosen(options.systems, [*(peer.name for peer in PEERS), *OURS], "system")
    if OURS[0] in names:
        for load in loads(options):
            yield from rows(paced(rig, load))
    for kind in (BESIDE, FLEET):
        for load in fleets(options, kind) if kind in cases else ():
            case = f"{load.devices:,} jobs, {load.per_s:,.0f}/s"
            for peer in PEERS if kind == BESIDE else ():
                if peer.name in names:
                    yield from schedulers.measure(rig, peer, load, case)
            for workers in WORKERS:
                if fleet.system(workers) in names:
                    yield from fleet.rows(case, workers, fleet.measure(rig, load, workers))
