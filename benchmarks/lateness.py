"""Lateness: from the scheduled millisecond to the shutter, at a known load.

Workers of both apps (one process each), a real broker, and a paced load (``load.py``) for each
case. ``null-camera`` takes its picture at once in the worker; the cases "on sockets" ask simulated
cameras over HTTP. Lateness is in whole milliseconds, as the results record it; "at the camera" is
the microsecond at which the simulated camera had the request. Nothing may be early or doubled:
then the program ends with exit code 1.

``achieved_per_s`` is photographs a second; where it stays behind the load, the machine was
overloaded and lateness grows with the length of the window: read such a row as "not reached".
``cpu_…`` are CPU seconds a second by process; ``elsewhere`` is everything else on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.load import Load, Measured, Rig, paced
from benchmarks.result import Row, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.options import Options

PERIOD_S: Final = 5.0
"""Of each device's schedule."""
RATES: Final = (200.0, 1_000.0, 2_000.0, 4_000.0)
SOCKET_RATES: Final = (200.0, 1_000.0)
QUICK_RATES: Final = (200.0,)


def loads(options: Options) -> list[Load]:
    """Return the cases."""
    quick = options.quick
    seconds = options.seconds or (10.0 if quick else 30.0)
    rates = options.rates or (QUICK_RATES if quick else RATES)
    socket_rates = options.rates or (QUICK_RATES if quick else SOCKET_RATES)
    found = [_load(options, rate, seconds, sockets=False) for rate in rates]
    return found + [_load(options, rate, seconds, sockets=True) for rate in socket_rates]


def _load(options: Options, rate: float, seconds: float, *, sockets: bool) -> Load:
    devices = options.devices[0] if options.devices else max(1, round(rate * PERIOD_S))
    return Load(devices, rate, seconds, sockets)


def rows(measured: Measured) -> list[Row]:
    """Return the figures of a case."""
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
    for load in loads(options):
        yield from rows(paced(rig, load))
