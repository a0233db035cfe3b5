"""Lateness of a whole fleet: hundreds of thousands of schedules, thousands of captures a second.

The load of ``load.py`` on a fleet that ``seed.py`` writes. The captures workers are started first
and take in the profiles; then the wheel, which recovers the schedules before the first is due. The
window begins ``WARM_UP_S`` after that; after it the wheel is stopped, and what it had issued is
worked off. ``setup_s`` is from the first start of a worker to the first time due, all writing
included.

``fires_per_s`` is shutters a second within the window. Where it stays behind the load, lateness
grows with the length of the window. Pictures stay in the worker: what a disk adds is measured by
``capacity.py``. ``cpu`` is wheel, captures workers and broker together, in CPU seconds a second;
``rss_mb`` their resident memory at the end of the window. ``stage_…`` is where the captures
workers' time goes (``capacity.py``), in seconds a second.

``ahead_ms_…`` says where lateness comes from: how long before the scheduled time a command was
``issued`` (the wheel's tick), ``pending`` (with the captures worker) and ``armed`` (RUNNING
written; committed an interval later); ``p1`` is the hundredth that had the least. A photo is late
where one of them came too late, or, where all were in time, because the worker was busy with
something else. ``sleeper_late_ms_…`` is how late a process woke meanwhile that only slept
(``wakes.py``): what of the lateness is the machine's.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.load import DRAIN_S, LOOK_S, Cpu, Load
from benchmarks.result import OURS, Row
from benchmarks.seed import KNOWN_S, known, write_profiles, write_schedules
from benchmarks.wakes import Wakes
from connectors.clients.kafka import make_codec
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import CaptureResult
from shutterwheel.check import check_run, offsets_now
from shutterwheel.evidence import RESULTS, Reader
from streams.core.ids import command_time_ms
from streams.core.transition import PENDING, RUNNING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.load import Rig
    from shutterwheel.check import RunReport, Spread
    from shutterwheel.cluster import Cluster

WARM_UP_S: Final = 60.0
"""Full load before the window: for about a minute a broker compiles what it runs often (Java), in
which the broker takes up to twice as much CPU as it does for the months thereafter."""
WRITE_US: Final = 70.0
"""A schedule's share of the time that the first one may not be due in: to be written and recovered;
twice what it takes."""
START_S: Final = 15.0
"""The same for the start of a wheel."""
SETTLE_MS: Final = 10_000
"""A time so shortly before the wheel's last tick is not waited for: a wheel that is behind issues
the oldest first and is stopped with the others still to come."""
MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a fleet's load came to."""

    report: RunReport
    drained: bool
    window_s: float
    setup_s: float
    cpu_s: dict[str, float]
    rss_bytes: dict[str, int]
    stages_s: dict[str, float]
    restarts: int
    ahead_ms: dict[str, array[int]]
    """By what was done: how long before the scheduled times, sorted."""
    wakes_ms: Spread | None
    """How late a process woke that only slept meanwhile."""


def measure(rig: Rig, load: Load, workers: int) -> Fleet:
    """Put the load on a new wheel worker and so many captures workers.

    Raises:
        BrokerError: the fleet was not there in time.

    """
    namespace, devices = rig.new_namespace(), load.devices
    name = f"{devices:,} devices, {load.per_s:,.0f}/s, captures workers: {workers}"
    began_s = time.monotonic()
    blobs = "memory://"
    with rig.cluster(namespace, wheels=0, captures=workers, blobs=blobs) as captures:
        rig.say(f"{name}: publishing profiles")
        write_profiles(rig, namespace, devices)
        _until_known(rig, captures, namespace, devices, name)
        starts_s = time.time() + START_S + devices * WRITE_US / 1e6
        rig.say(f"{name}: writing schedules")
        write_schedules(rig, namespace, devices, load.every_ms, round(starts_s * 1000))
        rig.say(f"{name}: starting the wheel")
        with rig.cluster(namespace, captures=0) as wheel:
            if time.time() > starts_s:
                late_s = time.time() - starts_s
                raise BrokerError(
                    f"{name}: the wheel was ready {late_s:.0f} s after the first was due"
                )
            rig.say(f"{name}: the first is due in {starts_s - time.time():.0f} s")
            _watch_until(starts_s, captures, wheel)
            setup_s = time.monotonic() - began_s
            _watch_until(starts_s + WARM_UP_S, captures, wheel)
            rig.say(f"{name}: measuring for {load.seconds:g} s")
            since, started_ms = offsets_now(rig.kafka, namespace), int(time.time() * 1000) + 1
            pids = rig.pids(captures) | rig.pids(wheel)
            cpu, stages_s, at_s = Cpu(pids), rig.stages_s(captures), time.monotonic()
            with Wakes() as wakes:
                _watch_until(time.time() + load.seconds, captures, wheel)
            to_ms = time.time() * 1_000
            cpu_s, window_s = cpu.spent_s(), time.monotonic() - at_s
            stages_s = {n: s - stages_s.get(n, 0.0) for n, s in rig.stages_s(captures).items()}
            rss_bytes = {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}
            _watch_until(to_ms / 1_000 + SETTLE_MS / 1_000, captures, wheel)
            restarts = wheel.restarts
        rig.say(f"{name}: draining")
        drained = rig.drain(captures, DRAIN_S)
        restarts += captures.restarts
        rig.say(f"{name}: checking topics and pictures")
        report = check_run(rig.kafka, namespace, blobs, since, started_ms, settle_ms=SETTLE_MS)
        ahead_ms = _ahead(rig, namespace, since, started_ms)
    return Fleet(
        report, drained, window_s, setup_s, cpu_s, rss_bytes, stages_s, restarts, ahead_ms,
        wakes.late_ms(),
    )  # fmt: skip


def _ahead(
    rig: Rig, namespace: str, since: Mapping[tuple[str, int], int], started_ms: int
) -> dict[str, array[int]]:
    """Read from the results when each step towards a shutter was taken."""
    codec, ends = make_codec(), offsets_now(rig.kafka, namespace)
    topic = topic_name(namespace, RESULTS)
    reader = Reader(rig.kafka, codec, ends, lambda _what, _done, _total: None)
    found = {name: array("q") for name in ("issued", "pending", "armed")}
    for message in reader.messages(
        topic, {at: first for at, first in since.items() if at[0] == topic}
    ):
        result = codec.decode_as(message.value() or b"", CaptureResult)
        due_ms = result.scheduled_ms
        if result.attempt == 1 and due_ms >= started_ms:
            found["issued"].append(due_ms - command_time_ms(result.command_id))
            for step in result.transitions:
                if step.to_state == PENDING:
                    found["pending"].append(due_ms - step.at_ms)
                elif step.to_state == RUNNING:
                    found["armed"].append(due_ms - step.at_ms)
    return {name: array("q", sorted(values)) for name, values in found.items()}


def _until_known(rig: Rig, cluster: Cluster, namespace: str, devices: int, name: str) -> None:
    deadline_s, told_s = time.monotonic() + KNOWN_S, time.monotonic()
    while (there := known(rig, namespace)) < devices:
        cluster.watch()
        if time.monotonic() > deadline_s:
            raise BrokerError(f"{name}: {there:,} profiles are known after {KNOWN_S:.0f} s")
        if time.monotonic() - told_s > 10.0:
            told_s = time.monotonic()
            rig.say(f"{name}: {there:,} profiles are known")
        time.sleep(LOOK_S)


def _watch_until(wall_s: float, *clusters: Cluster) -> None:
    """Look after the workers until this time."""
    while (left_s := wall_s - time.time()) > 0:
        for cluster in clusters:
            cluster.watch()
        time.sleep(min(LOOK_S, left_s))


def rows(case: str, workers: int, fleet: Fleet) -> list[Row]:
    """Return the figures, under the names that the peers' have where both have them."""
    report, late = fleet.report, fleet.report.lateness_ms
    figures: dict[tuple[str, str], float | None] = {
        ("fires_per_s", "1/s"): report.captures_per_s,
    }
    for name, of in (("lateness", late), ("sleeper_late", fleet.wakes_ms)):
        for part in ("p50", "p90", "p99", "max") if of is not None else ():
            figures[f"{name}_ms_{part}", "ms"] = getattr(of, part)
    figures["early", "1"] = report.early
    figures["cpu", "s/s"] = _ours(fleet.cpu_s) / fleet.window_s
    figures["rss_mb", "MiB"] = sum(fleet.rss_bytes.values()) / MEBIBYTE
    figures["setup_s", "s"] = fleet.setup_s
    for name in ("due", "succeeded", "expired", "duplicated", "lost"):
        figures[name, "1"] = getattr(report, name)
    if not fleet.drained:
        del figures["lost", "1"]  # captures without a result may still have come to one
    figures["worker_restarts", "1"] = fleet.restarts
    for name, spent_s in fleet.cpu_s.items():
        figures[f"cpu_{name}", "s/s"] = spent_s / fleet.window_s
    for name, rss in fleet.rss_bytes.items():
        figures[f"rss_mb_{name}", "MiB"] = rss / MEBIBYTE
    for name, values in fleet.ahead_ms.items():
        for part, share in (("p50", 50), ("p1", 1)) if values else ():
            figures[f"ahead_ms_{part}_{name}", "ms"] = values[-(-len(values) * share // 100) - 1]
    for name, spent_s in fleet.stages_s.items():
        figures[f"stage_{name}", "s/s"] = spent_s / fleet.window_s
    return [
        Row(case, system(workers), metric, round(value, 3), unit)
        for (metric, unit), value in figures.items()
        if value is not None
    ]


def _ours(cpu_s: dict[str, float]) -> float:
    return sum(spent for name, spent in cpu_s.items() if name != "elsewhere")


def system(workers: int) -> str:
    """Return the system's name with so many captures workers."""
    return OURS if workers == 1 else f"{OURS}-x{workers}"
