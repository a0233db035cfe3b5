"""Misbehaviour: each way a peer can go wrong, against each protocol; what it costs us.

For each cell: with what cause its captures ended, the longest of them beside the timeout, how many
requests a capture sent, and what was left of file descriptors and memory after ``CAPTURES`` of them
twice over. The timeout is one second (RTSP: two), for what only the deadline ends; all else has
half a minute and must not need it. ``--cases`` picks faults, ``--systems`` protocols.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from benchmarks.misbehaviour.faults import KINDS, Fault, faults_of
from benchmarks.misbehaviour.matrix import Child, Peer, run_cell, steps_of
from benchmarks.misbehaviour.subjects import subjects
from benchmarks.options import chosen
from benchmarks.result import OURS, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.misbehaviour.matrix import Cell
    from benchmarks.misbehaviour.subjects import Subject
    from benchmarks.options import Options

CAPTURES: Final = 100
"""Of a pass; there are two, so 200 of each cell."""
QUICK_CAPTURES: Final = 20
TIMEOUT_S: Final = 1.0
SLOW_TIMEOUT_S: Final = 2.0
"""Of protocols whose good captures take longer."""
GOOD_S: Final = 30.0
MEMORY_BYTES: Final = 100_000
"""Growth over a second pass of so many captures that is no leak: allocators round and cache."""


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Run the matrix; rows are faults, cases are protocols."""
    captures = QUICK_CAPTURES if options.quick else CAPTURES
    known = {subject.protocol: subject for subject in subjects()}
    tracemalloc.start()
    cells: list[Cell] = []
    try:
        for name in chosen(options.systems, tuple(known), "protocol"):
            of_this: list[Cell] = []
            for cell in cells_of(known[name], captures, tuple(options.cases)):
                rig.say(f"{name}: {cell.fault.name}: {text(cell)}")
                of_this.append(cell)
                yield from _rows(cell)
            yield from _sums(name, of_this)
            cells += of_this
    finally:
        tracemalloc.stop()
    Console().print(table(cells))


def cells_of(subject: Subject, captures: int, kinds: tuple[str, ...] = ()) -> Iterator[Cell]:
    """Run a protocol's cells one after the other."""
    timeout_s = SLOW_TIMEOUT_S if subject.slow else TIMEOUT_S
    with Child(subject.program, *subject.arguments) as camera:
        port = int(camera.ready["port"])
        with Peer(port, [Fault("none")]) as peer:
            steps = asyncio.run(steps_of(subject, peer, GOOD_S))
        wanted = kinds and tuple(chosen(kinds, tuple(KINDS), "fault"))
        faults = faults_of(steps, tls=bool(subject.tls_scheme), kinds=wanted)
        with Peer(port, faults) as peer:
            for fault in faults:
                yield asyncio.run(run_cell(subject, fault, peer, camera, timeout_s, captures))


def text(cell: Cell) -> str:
    """Return a cell in a few words."""
    causes = ", ".join(
        cause if len(cell.causes) == 1 else f"{cause} {count}"
        for cause, count in cell.causes.most_common()
    )
    return f"{causes}, {cell.longest_ms:,.0f} ms"


def table(cells: list[Cell]) -> Table:
    """Return the matrix: a line a fault, a column a protocol."""
    shown = Table(title="how captures end, and the longest of them", title_justify="left")
    shown.add_column("the peer")
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    for protocol in protocols:
        shown.add_column(protocol)
    for fault in dict.fromkeys(cell.fault for cell in cells):
        found = {cell.protocol: cell for cell in cells if cell.fault == fault}
        shown.add_row(fault.name, *(text(found[p]) if p in found else "" for p in protocols))
    return shown


def _rows(cell: Cell) -> Iterator[Row]:
    name = cell.fault.name
    for cause, count in cell.causes.items():
        yield Row(cell.protocol, OURS, f"{name}: {cause}", count, "1")
    figures: dict[tuple[str, str], float] = {
        ("longest", "ms"): round(cell.longest_ms, 1),
        ("requests a capture", "1"): round(cell.requests, 2),
        ("sockets left", "1"): cell.sockets_left,
        ("memory grown", "kB"): round(cell.grown_bytes / 1000, 1),
    }
    for (metric, unit), value in figures.items():
        yield Row(cell.protocol, OURS, f"{name}: {metric}", value, unit)


def _sums(protocol: str, cells: list[Cell]) -> Iterator[Row]:
    sums = {
        "captures": sum(cell.captures for cell in cells),
        "ended_strangely": sum(cell.strange for cell in cells),
        "sockets_left": sum(cell.sockets_left for cell in cells),
        "leaking_cells": sum(cell.grown_bytes > MEMORY_BYTES for cell in cells),
    }
    for metric, value in sums.items():
        yield Row(protocol, OURS, metric, value, "1")
    beyond_ms = max(cell.beyond_ms for cell in cells)
    yield Row(protocol, OURS, "beyond_the_timeout_max", round(beyond_ms, 1), "ms")
