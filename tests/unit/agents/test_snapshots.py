"""The wheel's snapshots: when, of which tick, and what becomes of them (DESIGN 'Ticks')."""

from __future__ import annotations

import asyncio

import pytest
from agent_parts import CODEC, FakeApp

from schemas.errors import StoreError
from schemas.records import PartitionSnapshot, ScheduleTick, ShardState
from streams.agents.snapshots import AGAIN_MS, QUIET_MS, TABLES, Snapshots
from streams.agents.timing_wheel import CHANGELOGS, INPUTS, TICKS, TimingWheel, WheelSettings
from streams.core.state_hash import state_hash
from streams.runtime.batch import Point

DAY_MS = 86_400_000
PARTITIONS = 8


class Files:
    """Keeps what it is given."""

    def __init__(self):
        self.newest = None
        self.written = []
        self.error = self.open_error = self.list_error = None

    def open(self):
        if self.open_error is not None:
            raise self.open_error
        return self

    def newest_ms(self, partition, partitions):
        if self.list_error is not None:
            raise self.list_error
        return self.newest

    def write(self, partition, partitions, time_ms, rows):
        rows = list(rows)
        if self.error is not None:
            raise self.error
        self.written.append((partition, partitions, rows))
        return f"memory:///{partition}/{time_ms}", 7


class World:
    def __init__(self, app, files, every_ms=DAY_MS):
        self.app = app
        self.files = files
        self.snapshots = Snapshots(
            files.open, every_ms, CODEC, app.clock, app.metrics, PARTITIONS, "tz"
        )
        self.wheel = TimingWheel(
            app.settings, WheelSettings(), CODEC, app.clock, app.metrics, PARTITIONS, self.snapshots
        )
        self.offset = 10

    async def look(self, partition):
        """Look, let the thread end, and commit; return the records that went out."""
        idle = lambda step: self.wheel._idle(partition, step)  # noqa: E731
        self.snapshots.look(self.app, partition, self.app.clock.now_ms(), idle)
        await self.settled()
        return self.commit()

    async def settled(self):
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.snapshots._thread, lambda: None)
        for _ in range(5):
            await asyncio.sleep(0)

    def commit(self):
        batch = self.app.batch
        found = [record for _, record in self.app.commit()]
        self.offset += len(found)
        for (topic, number), calls in batch.points.items():
            assert topic == TICKS
            positions = {name: at for (name, n), at in batch.offsets.items() if n == number}
            for call in calls:
                call(Point(self.offset, positions))
        return found


@pytest.fixture
def app():
    app = FakeApp(INPUTS, CHANGELOGS)
    rows = app.rows

    def view(partition, tables):
        found = [(t, k, v) for t in tables for k, v in rows.scan(t, partition)]
        return iter(found)

    rows.view = view
    return app


async def test_a_snapshot_is_of_the_tick_that_was_made_for_it(app):
    world = World(app, Files())
    partition = app.open(0, world.wheel)
    assert await world.look(partition) == []  # it learns when the last one was made
    assert await world.look(partition) == []
    app.clock.ms += DAY_MS
    [tick] = await world.look(partition)
    assert isinstance(tick, ScheduleTick)
    await world.settled()
    [snapshot] = world.commit()
    assert isinstance(snapshot, PartitionSnapshot)
    [(number, partitions, rows)] = world.files.written
    assert (number, partitions) == (0, PARTITIONS)
    assert snapshot.state_hash == state_hash(rows)
    assert (snapshot.time_ms, snapshot.tick_offset) == (tick.time_ms, 10)
    assert (snapshot.row_count, snapshot.schedule_count, snapshot.file_bytes) == (len(rows), 0, 7)
    assert [CODEC.decode(v).shard for t, _, v in rows if t == "shards"] == [-1, -3]
    assert await world.look(partition) == []


async def test_a_new_owner_goes_by_the_files(app):
    """Nobody makes a second one of a day because a partition moved."""
    world = World(app, Files())
    world.files.newest = app.clock.ms - DAY_MS // 2
    partition = app.open(0, world.wheel)
    await world.look(partition)
    app.clock.ms += DAY_MS // 2 - 1
    assert await world.look(partition) == []
    app.clock.ms += 1
    assert len(await world.look(partition)) == 1


async def test_a_partition_with_a_history_and_no_file_has_one_soon(app):
    key = ("shards", 0, b"clock")
    app.rows[key] = CODEC.encode(ShardState(-1, app.clock.ms - 5_000, 0, 0))
    world = World(app, Files())
    partition = app.open(0, world.wheel)
    await world.look(partition)
    app.clock.ms += QUIET_MS - 1
    assert await world.look(partition) == []
    app.clock.ms += 1
    assert len(await world.look(partition)) == 1


async def test_a_store_that_cannot_be_written_is_tried_again_and_stops_nobody(app):
    """Issue 7: nothing is in the wheel's way; it is counted, and told by the age (runbooks)."""
    world = World(app, Files())
    world.files.error = StoreError("full")
    partition = app.open(0, world.wheel)
    await world.look(partition)
    app.clock.ms += DAY_MS
    assert len(await world.look(partition)) == 1  # the tick that it was to be of
    await world.settled()
    assert world.commit() == []
    assert await world.look(partition) == []
    assert app.metrics.snapshot_failures.total == 1
    assert app.metrics.snapshot_age[0] == DAY_MS / 1000.0
    world.files.error = None
    app.clock.ms += AGAIN_MS
    assert len(await world.look(partition)) == 1
    await world.settled()
    assert [type(record) for record in world.commit()] == [PartitionSnapshot]
    assert app.failures == []
    assert (app.metrics.snapshots.total, app.metrics.snapshot_failures.total) == (1, 1)


@pytest.mark.parametrize("fails", ["open_error", "list_error"])
async def test_a_store_that_cannot_be_opened_or_listed_is_asked_again(app, fails):
    """Neither a wheel that starts without its blob store nor one that loses it has to wait a day."""
    world = World(app, Files())
    world.files.newest = app.clock.ms - 2 * DAY_MS
    setattr(world.files, fails, StoreError("no such bucket"))
    partition = app.open(0, world.wheel)
    for _ in range(3):
        assert await world.look(partition) == []
    assert app.metrics.snapshot_failures.total == 1
    app.clock.ms += AGAIN_MS
    assert await world.look(partition) == []
    assert app.metrics.snapshot_failures.total == 2
    assert app.metrics.snapshot_age[0] == AGAIN_MS / 1000.0
    setattr(world.files, fails, None)
    app.clock.ms += AGAIN_MS
    assert await world.look(partition) == []
    assert app.metrics.snapshot_age[0] == (2 * DAY_MS + 2 * AGAIN_MS) / 1000.0
    app.clock.ms += QUIET_MS
    assert len(await world.look(partition)) == 1
    await world.settled()
    assert [type(record) for record in world.commit()] == [PartitionSnapshot]
    assert app.failures == []


async def test_age_and_size_are_told_of_the_partitions_that_are_ours(app):
    world = World(app, Files())
    world.files.newest = app.clock.ms - 3_000
    partition = app.open(0, world.wheel)
    await world.look(partition)
    assert app.metrics.snapshot_age[0] == 3.0
    app.clock.ms += DAY_MS
    assert app.metrics.snapshot_age[0] == DAY_MS / 1000.0 + 3.0
    await world.look(partition)
    await world.settled()
    world.commit()
    app.clock.ms += 9_000
    assert app.metrics.snapshot_age[0] == 9.0
    assert app.metrics.snapshot_bytes[0] == 7
    text = app.metrics.exposition().decode()
    assert 'shutterwheel_snapshot_age_seconds{partition="0"} 9.0' in text
    assert 'shutterwheel_snapshot_bytes{partition="0"} 7.0' in text
    assert "shutterwheel_snapshot_failures_total 0.0" in text
    partition.lose()
    world.wheel.closed(partition)
    assert 'partition="0"' not in app.metrics.exposition().decode()


async def test_of_a_partition_that_is_gone_nothing_is_written(app):
    world = World(app, Files())
    partition = app.open(0, world.wheel)
    await world.look(partition)
    app.clock.ms += DAY_MS
    await world.look(partition)
    partition.lose()
    world.wheel.closed(partition)
    await world.settled()
    assert world.commit() == []
    assert len(world.files.written) == 1  # its file lies there; nothing names it


async def test_one_at_a_time(app):
    world = World(app, Files(), every_ms=1_000)
    partitions = [app.open(number, world.wheel) for number in (0, 1)]
    for partition in partitions:
        await world.look(partition)
    app.clock.ms += 5_000
    for partition in partitions:
        world.snapshots.look(
            app, partition, app.clock.now_ms(), lambda step, p=partition: world.wheel._idle(p, step)
        )
    assert [type(record) for record in world.commit()] == [ScheduleTick]


async def test_a_row_of_an_older_release_is_written_as_today(app, monkeypatch):
    """The hash does not depend on when a row was touched last."""
    row = ShardState(8, app.clock.ms - 5_000, 3, 1)
    old = b"\x00\x00\x00\x00\x07" + CODEC.encode(row)[5:]
    app.rows["shards", 0, b"8"] = old
    real = CODEC.decode
    monkeypatch.setattr(CODEC, "decode", lambda data: row if data == old else real(data))
    world = World(app, Files(), every_ms=1_000)
    partition = app.open(0, world.wheel)
    await world.look(partition)
    app.clock.ms += 1_000
    await world.look(partition)
    await world.settled()
    [(_, _, rows)] = world.files.written
    assert ("shards", b"8", CODEC.encode(row)) in rows


def test_tables_are_all_and_in_the_order_of_the_hash():
    assert tuple(sorted(CHANGELOGS)) == TABLES
