"""The checker ``audit``: the real audit reads a world's log, and must find nothing.

It goes by the topics alone, as ``shutterwheel audit`` does, and looks at what no checker beside it
sees: the bytes of events in ticks and dead letters, the answers to refused events, that a result
repeats its command, the SHA-256 of a picture.

A move to another number of partitions begins a new log. The old one is audited when all workers
have stopped, and the new one at the end: it begins with a snapshot (``world_move.py``). Snapshots
that the wheels of odd worlds have written are compared on the way. What a mirror wrote again into
capture.commands (``commands_again``) is left out; audit is right to call it doubled.

Ticks under other tz data are folded again with those data: each version that a world has seen is
at hand, as by ``audit --tz``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from world_watch import CODEC

from streams.replay.audit import TOPICS, AuditOptions, AuditTools, audit_partition
from streams.replay.audit_results import COMMANDS
from streams.replay.log import Entry, MemoryLog

if TYPE_CHECKING:
    from world import World

    from schemas.records import ImageRef

SETTLED_MS = 130_000
"""How late a capture may end: nobody may have been able to write for so long (``SETTLE_S``). One
stepped clock keeps a machine's workers from writing for a minute."""


def log_of(world: World) -> MemoryLog:
    """Return the topics of a world as a log: committed records at their offsets, markers gone."""
    log = MemoryLog(world.partitions)
    for topic in TOPICS:
        log.append(topic, 0, None, None, 0)
        log.entries(topic, 0).clear()
        for number in range(world.partitions):
            again = world.mirrored if topic == COMMANDS else set()
            log.entries(topic, number).extend(
                Entry(one.offset, one.timestamp, one.key, one.value)
                for one in world.broker.read(topic, number, 0, 1 << 62)
                if (number, one.offset) not in again
            )
    return log


def audit(world: World, *, whole: bool = True) -> None:
    """Audit a world's log as it is now; ``whole``: the world is at its end."""
    watch, log = world.watch, log_of(world)
    tools = AuditTools(
        CODEC,
        check_images=lambda images: [_wrong(world, i) for i in images],
        read_rows=world.files.read,
    )
    options = AuditOptions(settle_ms=SETTLED_MS)
    with world.zones.all_at_hand():
        for number in range(world.partitions):
            report = audit_partition(log, number, options, tools)
            watch.counts["audited"] += report.records
            watch.counts["folded"] += report.folded
            watch.counts["snapshots compared"] += report.snapshots
            watch.counts["tz upgrades folded"] += len(report.tz_upgrades)
            for one in report.findings:
                watch.find(
                    "audit", f"{one.kind} {one.topic}-{one.partition}@{one.offset}: {one.text}"
                )
            for text in report.unchecked:
                watch.find("audit", f"partition {number}: {text}")
            if whole and not report.ticks and watch.ticks:
                watch.find("audit", f"partition {number} has no tick")


def _wrong(world: World, image: ImageRef) -> str:
    """Say what is wrong with a picture, as the store has it."""
    kept = world.site.blobs.get(int(image.uri.rpartition("/")[2].removesuffix(".jpg")))
    if kept is None:
        return "there is no such picture"
    return "" if kept.sha256 == image.sha256 else "its bytes are others"
