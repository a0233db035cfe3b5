"""Another number of partitions: a copy by shard, as an operator makes it (DESIGN 'Shards').

All workers stop in order. Rows go with their device, counters with their shard; with each shard
goes the time C up to which it has issued, and where shards of one new partition differ in it the
row ``backlog`` says so (``shard.py`` 'The clocks'). What was not read yet of the inputs goes to the
device's new partition. Topics, offsets and generations begin anew; the new ticks begin with a
snapshot of the rows (``tick_offset`` -1), so that an audit knows what the first of them was made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from world_fold import load_state
from world_watch import CODEC

from schemas.records import PartitionSnapshot, ShardState
from streams.agents.snapshots import TABLES
from streams.core import ids
from streams.core.partition import (
    BACKLOG_KEY,
    BACKLOG_SHARD,
    CLOCK_KEY,
    CLOCK_SHARD,
    TZ_KEY,
    PartitionState,
)
from streams.core.shard import RULES_VERSION
from streams.core.state_hash import state_hash
from streams.core.step import zone_key, zone_row
from streams.core.tz import tz_row
from streams.core.tz_behind import before_key, before_row, behind_key, behind_row
from streams.replay.audit_results import COMMANDS

if TYPE_CHECKING:
    from world import World
    from world_log import Broker

LAYOUTS = ("timing_wheel", "capture_executor", "device_health")
Rows = dict[bytes, bytes]


def move(world: World, partitions: int) -> None:
    """Copy everything to so many partitions; no worker runs."""
    old, was = world.broker, world.partitions
    for identity in old.epochs:
        old.abort(identity)
    tables = _copied(world, partitions)
    left = _unread(world, old, was)
    world.partitions = world.watch.partitions = partitions
    epochs = old.epochs
    broker = world.broker = world.make_broker()
    broker.epochs = epochs
    watch = world.watch
    watch.rows, watch.seen = {}, {}
    watch.revoked = {at: [(-1, r) for _, r in found] for at, found in watch.revoked.items()}
    for (app, table, number), rows in sorted(tables.items()):
        watch.rows[app, table, number] = rows
        topic = world.changelog(app, table)
        for key, value in sorted(rows.items()):
            broker.append(topic, number, key, value)
    world.mirrored.clear()
    for topic, key, value in left:
        _, _, device = b"", b"", key.split(b"\0")[0]
        number = ids.shard_of(device.decode("utf-8", "replace")) % partitions
        broker.append(topic, number, key, value)
        if topic == COMMANDS:
            watch.read_again(value, broker.shelf(topic, number).end - 1)
    for number in range(partitions):
        _snapshot(world, number, partitions)
    for machine in world.machines:
        machine.disks.clear()
        machine.notes.clear()
    watch.shadows = {
        n: load_state(lambda table, n=n: tables.get(("wheel", table, n), {}), n, partitions)
        for n in range(partitions)
    }


def _snapshot(world: World, number: int, partitions: int) -> None:
    """Begin the new ticks with what was copied."""
    rows = [
        (table, key, value)
        for table in TABLES
        for key, value in sorted(world.watch.rows.get(("wheel", table, number), {}).items())
    ]
    state = load_state(_rows_of(world, number), number, partitions)
    uri = f"sim:///moved/{world.watch.counts['moved']}/{number}"
    world.files.rows[uri] = rows
    snapshot = PartitionSnapshot(
        number, partitions, -1, 0, state.time_ms, RULES_VERSION, state.tz_version,
        state_hash(rows), uri, 0, len(rows), state.schedule_count,
    )  # fmt: skip
    world.broker.append("schedule.ticks", number, b"%d" % number, CODEC.encode(snapshot))


def _copied(world: World, partitions: int) -> dict[tuple[str, str, int], Rows]:
    """Return the rows of all tables by app, table and new partition."""
    found: dict[tuple[str, str, int], Rows] = {}
    for (app, table, _), rows in world.watch.rows.items():
        if table == "shards":
            continue
        for key, value in rows.items():
            device = key.split(b"\0")[0].decode()
            number = ids.shard_of(device) % partitions
            found.setdefault((app, table, number), {})[key] = value
    _copy_shards(world, partitions, found)
    return found


def _copy_shards(world: World, partitions: int, found: dict[tuple[str, str, int], Rows]) -> None:
    states = {
        n: load_state(_rows_of(world, n), n, world.partitions) for n in range(world.partitions)
    }
    for number in range(partitions):
        rows = found.setdefault(("wheel", "shards", number), {})
        olds = {shard % world.partitions for shard in ids.shards_of_partition(number, partitions)}
        clock_ms = max(states[n].time_ms for n in olds)
        issued = {}
        for shard in ids.shards_of_partition(number, partitions):
            state = states[shard % world.partitions]
            counters = state.shards.get(shard)
            issued[shard] = c_ms = state.issued_ms(shard)
            row = ShardState(shard, c_ms, 0, 0)
            if counters is not None:
                booked = counters.booked
                first = min(booked, default=0)
                counts = tuple(booked.get(s, 0) for s in range(first, max(booked, default=-1) + 1))
                row = ShardState(
                    shard, c_ms, counters.last_id, counters.epoch, first if counts else 0, counts
                )
            rows[b"%d" % shard] = CODEC.encode(row)
        rows[CLOCK_KEY] = CODEC.encode(ShardState(CLOCK_SHARD, clock_ms, 0, 0))
        _copy_tz(
            [states[n] for n in sorted(olds)], ids.shards_of_partition(number, partitions), rows
        )
        floor_ms = min(issued.values())
        if floor_ms != clock_ms:
            rows[BACKLOG_KEY] = CODEC.encode(ShardState(BACKLOG_SHARD, floor_ms, 0, 0))


def _copy_tz(olds: list[PartitionState], shards: range, rows: Rows) -> None:
    """Copy the tz data of partitions that become one, if they agree; else none are noted."""
    if len({state.tz_version for state in olds}) != 1 or not olds[0].tz_version:
        return
    version = olds[0].tz_version
    rows[TZ_KEY] = CODEC.encode(tz_row(version))
    for state in olds:
        for name, zone in state.zones.items():
            rows[zone_key(name)] = CODEC.encode(zone_row(version, name, zone))
        behind = state.behind
        if behind is None:
            continue
        for name, zone in behind.zones.items():
            rows[before_key(name)] = CODEC.encode(before_row(behind.version, name, zone))
        for shard, key in behind.settled.items():
            if shard in shards:
                rows[behind_key(shard)] = CODEC.encode(behind_row(behind.version, shard, key))


def _rows_of(world: World, number: int) -> Any:
    return lambda table: world.watch.rows.get(("wheel", table, number), {})


def _unread(world: World, old: Broker, was: int) -> list[tuple[str, bytes, bytes | None]]:
    """Return what the apps have not read of their inputs, but for what a mirror wrote again."""
    left: list[tuple[str, bytes, bytes | None]] = []
    for app, inputs in world.inputs().items():
        for topic in inputs:
            for number in range(was):
                first = old.offsets.get((app, topic, number), 0)
                for record in old.read(topic, number, first, 1_000_000):
                    if topic == COMMANDS and (number, record.offset) in world.mirrored:
                        continue
                    entry = (topic, record.key or b"", record.value)
                    if (topic not in {"device.profiles", "device.events"}) or entry not in left:
                        left.append(entry)
    return left
