"""How many bytes a process holds: all that its program and its committer lead to.

Each object once, by ``sys.getsizeof``; not the world that they stand in (broker, disk, machine,
watch), nor what all processes of a program share (code, schemas, tz data), nor the memory of codec and reader,
which is so many entries whatever happens (``tests/unit/schemas``).
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections import deque
from typing import TYPE_CHECKING, Any

from world_devices import Site
from world_log import Broker, Coordinator
from world_loop import NodeLoop, Schedule
from world_machine import Disk, Machine
from world_snapshots import Files
from world_watch import CODEC, Watch

from schemas.codec import Codec
from schemas.command_reader import CommandReader
from schemas.spliced import CaptureWriter
from streams.core.recurrence import zones
from streams.core.recurrence.recurrence import Recurrence
from streams.observability.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import World
    from world_process import Process

SHARED = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, asyncio.Future,
    Broker, Coordinator, NodeLoop, Schedule, Disk, Machine, Files, Watch, Site,
    Codec, CaptureWriter, CommandReader, Metrics, zones.TzData, zones.Zone, Recurrence,
)  # fmt: skip
OWN_BYTES = {"wheel": 30_000, "captures": 60_000, "devices": 40_000}
"""What a process of an app holds that has no partition."""
PARTITION_BYTES = {"wheel": 60_000, "captures": 4_000, "devices": 70_000}
"""What a partition without rows adds: the ring of a wheel has 6,000 slots."""
ROW_BYTES = {
    "schedules": 600, "shards": 350, "requests": 900, "facts": 600,
    "captures": 1_500, "profiles": 1_500, "health": 1_500,
}  # fmt: skip
"""What a row of a table adds."""
ENDED_BYTES = 450
"""What a capture adds that has ended and is remembered."""


def allowed_bytes(world: World, process: Process) -> int:
    """Return what a process may hold: so much a partition and a row, and nothing for the past."""
    app = process.settings.app
    total = OWN_BYTES[app]
    for number, partition in process.partitions.items():
        if partition.gone:
            continue
        total += PARTITION_BYTES[app]
        for table in process.layout.changelogs:
            rows = world.watch.rows.get((app, table, number), {})
            total += len(rows) * ROW_BYTES[table]
            if table == "captures":
                rows_of_devices = (v for k, v in rows.items() if b"\0" not in k)
                total += sum(len(CODEC.decode(v).ended) for v in rows_of_devices) * ENDED_BYTES  # type: ignore[attr-defined]
    return total


def held_bytes(process: Process) -> int:
    """Return the bytes that a process holds."""
    seen: set[int] = set()
    world = type(process.ended.__self__) if hasattr(process.ended, "__self__") else ()
    left: list[Any] = [process.program, process.committer, process._overlay, process.group]
    total = 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, SHARED) or one is process or isinstance(one, world):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        left.extend(_parts(one))
    return total


def _parts(one: Any) -> Iterator[Any]:
    if isinstance(one, dict):
        yield from one
        yield from one.values()
    elif isinstance(one, list | tuple | set | frozenset | deque):
        yield from one
    elif isinstance(one, types.MethodType):
        yield one.__self__
    elif not isinstance(one, str | bytes | int | float | None.__class__):
        yield from getattr(one, "__dict__", {}).values()
        for cls in type(one).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                found = getattr(one, name, None)
                if found is not None:
                    yield found
