"""Runs the peers of the lateness benchmark, one after the other, on the same load.

``work.py`` says what is done. A program has its time to register (``peers.py``), then
``WARM_UP_S``, then the window. All figures are of the fires within the window, and of the whole
process: ``fires_per_s`` those that were, ``lateness_ms_…`` the wall clock less the due time by
nearest rank, ``early`` those before their millisecond and ``early_ms_worst`` by how much; ``cpu``
in CPU seconds a second and ``rss_mb`` at its most, of the program with the database that works for
it, and ``cpu_database`` the latter's alone; ``setup_s`` from the first registration to the last.

A peer that this machine cannot run has one row, whose metric says why.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.result import Row
from benchmarks.schedulers.work import Job
from benchmarks.streams.runner import Program
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.load import Load, Rig
    from benchmarks.schedulers.peers import Peer, Started

START_S: Final = 5.0
"""For a program to start, and a Java machine to load Quartz."""
WARM_UP_S: Final = 10.0
ANSWER_S: Final = 30.0
SLACK_S: Final = 15.0
"""How late a program that is overloaded may say that its window is over."""
MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """What a peer's run came to."""

    lateness_us: tuple[int, ...]
    """Of the fires in the window, sorted."""
    window_s: float
    setup_s: float
    cpu_s: float
    database_cpu_s: float | None
    """None: it has no database."""
    peak_rss_bytes: int


def rows(case: str, system: str, run: Run) -> list[Row]:
    """Return the figures of a run."""
    late = run.lateness_us
    early = [us for us in late if us < 0]
    figures: dict[tuple[str, str], float | None] = {
        ("fires_per_s", "1/s"): len(late) / run.window_s
    }
    for name, share in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)) if late else ():
        figures[f"lateness_ms_{name}", "ms"] = late[-(-len(late) * share // 100) - 1] / 1_000
    figures["early", "1"] = len(early)
    figures["early_ms_worst", "ms"] = -min(early, default=0) / 1_000
    figures["cpu", "s/s"] = run.cpu_s / run.window_s
    figures["rss_mb", "MiB"] = run.peak_rss_bytes / MEBIBYTE
    figures["setup_s", "s"] = run.setup_s
    if run.database_cpu_s is not None:
        figures["cpu_database", "s/s"] = run.database_cpu_s / run.window_s
    return [
        Row(case, system, metric, round(value, 3), unit)
        for (metric, unit), value in figures.items()
        if value is not None
    ]


def measure(rig: Rig, peer: Peer, load: Load, case: str) -> list[Row]:
    """Run a peer; a peer that cannot be run has a row that says so."""
    why = peer.missing()
    if not why:
        try:
            rig.say(f"{case}: {peer.name}: getting it ready")
            folder = rig.folder / f"{peer.name}-{time.time_ns()}"
            folder.mkdir()
            command = peer.prepare(folder)
            with peer.start() as started:
                run = _run(rig, peer, started, command, folder, load)
            found = rows(case, peer.name, run)
            rig.say(f"{case}: {peer.name}: " + _words(found))
            return found
        except BrokerError as error:
            why = str(error)
    rig.say(f"{case}: {peer.name}: not run: {why}")
    return [Row(case, peer.name, f"not run: {why.splitlines()[0][:200]}", 1.0, "1")]


def _words(found: Sequence[Row]) -> str:
    values = {row.metric: row.value for row in found}
    late = "/".join(
        f"{values.get(f'lateness_ms_{part}', 0.0):,.1f}" for part in ("p50", "p99", "max")
    )
    return f"{values['fires_per_s']:,.0f} fires/s, {late} ms late (p50/p99/max)"


def _run(
    rig: Rig,
    peer: Peer,
    started: Started,
    command: Sequence[str],
    folder: Path,
    load: Load,
) -> Run:
    jobs, seconds = load.devices, load.seconds
    register_s = START_S + jobs * peer.register_us / 1e6
    begin_ms = round((time.time() + register_s) * 1_000)
    from_ms = begin_ms + round(WARM_UP_S * 1_000)
    answer = folder / "answer.json"
    job = Job(
        jobs,
        load.every_ms,
        begin_ms,
        from_ms,
        from_ms + round(seconds * 1_000),
        str(answer.absolute()),
    )
    rig.say(f"{peer.name}, {peer.promise}: registering {jobs:,} jobs, {register_s:.0f} s at most")
    with Program([*command, started.argument(job, folder)], folder / "errors.txt") as program:
        program.wait_for("ready", register_s + SLACK_S)
        if time.time() * 1_000 > begin_ms:
            raise BrokerError(f"{jobs:,} jobs were not registered in {register_s:.0f} s")
        rig.say(f"{peer.name}: measuring for {seconds:g} s")
        program.wait_for("first", from_ms / 1_000 - time.time() + SLACK_S)
        server, at_s = _Family(started.beside), time.monotonic()
        cpu_s, server_s = program.cpu_s(), server.cpu_s()
        program.wait_for("last", seconds + SLACK_S)
        window_s = time.monotonic() - at_s
        cpu_s, server_s = program.cpu_s() - cpu_s, server.cpu_s() - server_s
        program.look()
        rss_bytes = program.peak_rss_bytes + server.rss_bytes()
        program.wait_for("written", ANSWER_S)
    found = json.loads(answer.read_bytes())
    return Run(
        lateness_us=tuple(sorted(found["lateness_us"])),
        window_s=window_s,
        setup_s=found["setup_s"],
        cpu_s=cpu_s + server_s,
        database_cpu_s=server_s if started.beside else None,
        peak_rss_bytes=rss_bytes,
    )


class _Family:
    """A server's process and its children; none for 0."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def _members(self) -> Iterator[psutil.Process]:
        if self._pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(self._pid)
                yield process
                yield from process.children(recursive=True)

    def cpu_s(self) -> float:
        """Return its CPU seconds, ended children included where it has waited for them."""
        spent_s = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                spent_s += spent.user + spent.system
                if process.pid == self._pid:
                    spent_s += getattr(spent, "children_user", 0.0)
                    spent_s += getattr(spent, "children_system", 0.0)
        return spent_s

    def rss_bytes(self) -> int:
        """Return its memory; what its members share is counted once (proportional set size)."""
        found = 0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += process.memory_full_info().pss
        return found
