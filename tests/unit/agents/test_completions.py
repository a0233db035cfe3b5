"""Photos taken at once, and ends that are written together (streams/agents/completions.py)."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from agent_parts import CODEC, kafka_record
from test_capture_executor import DEVICE, IMAGE, Bench

from schemas.errors import CameraError
from schemas.records import CaptureResult, DeviceCaptures, DeviceProfile, OpenCapture
from streams.agents.completions import MOST
from streams.agents.ports import Photo
from streams.core import ids


def others(count):
    """Return further devices of the same partition."""
    names = (f"cam-b{n}" for n in range(10_000))
    return [d for d in names if ids.partition_of(d, 8) == 0][:count]


class AtOnce(Bench):
    """An executor whose cameras answer without any waiting."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.photos.take_now = self.take_now
        self.error: CameraError | None = None
        self.steps = 0
        make = self.app.step

        def counted(partition):
            self.steps += 1
            return make(partition)

        self.app.step = counted

    def take_now(self, _profile: DeviceProfile, command) -> Photo:
        self.photos.shutters.append(command.command_id)
        if self.error is not None:
            raise self.error
        return Photo(IMAGE, 0.0, 0.0)

    def introduce(self, devices) -> None:
        records = [
            kafka_record(DeviceProfile(d, "null:", "null-camera"), n)
            for n, d in enumerate(devices, 1)
        ]
        with self.app.step(self.partition) as step:
            self.executor._devices.on_profiles(self.partition, records, step)


async def test_many_that_end_in_one_turn_are_one_step() -> None:
    """Each has its own result and its own rows; the step is shared."""
    bench = AtOnce()
    devices = [DEVICE, *others(9)]
    bench.introduce(devices)
    bench.receive(*(bench.command(n, device_id=d) for n, d in enumerate(devices, 1)))
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    before = bench.steps
    await bench.at(500)
    assert bench.steps == before + 1
    results = bench.commit()
    assert Counter((r.state, r.device_id) for r in results) == {
        ("SUCCESS", device): 1 for device in devices
    }
    assert bench.partition.state.open_count == 0


async def test_a_crowd_that_ends_is_written_in_pieces() -> None:
    """A shutter that comes due meanwhile waits for one piece, not for all."""
    bench = AtOnce()
    devices = others(MOST + 5)
    bench.introduce(devices)
    bench.receive(*(bench.command(n, device_id=d) for n, d in enumerate(devices, 1)))
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.clock.ms += 500
    while any(at_ms <= bench.app.clock.ms for at_ms, *_ in bench.executor._shutters._heap):
        bench.executor._shutters._wake()
    before = bench.steps
    await bench.at(0)
    assert bench.steps == before + 2
    assert Counter(r.state for r in bench.commit()) == {"SUCCESS": len(devices)}


@pytest.mark.parametrize("overlap", ["skip", "buffer_one"])
async def test_what_has_ended_and_is_not_written_yet_overlaps_with_nothing(overlap: str) -> None:
    """Issue 5 (overlap): the end of a schedule's photo waits for others, and its next photo not for that."""
    bench = AtOnce(gather_ms=10_000)
    bench.receive(*(bench.command(n, in_ms=5_000 + n, overlap=overlap) for n in (1, 2)))
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    for _ in range(2):
        await bench.at(501)
    assert bench.photos.shutters == [1, 2]
    bench.executor._ends.flush()
    assert [r.state for r in bench.commit()] == ["SUCCESS", "SUCCESS"]


async def test_rows_and_results_of_the_worker_are_those_of_the_codec() -> None:
    """Issue 4: what is put together from bytes is byte for byte what the codec writes."""
    bench = AtOnce()
    rows = bench.app.rows
    for number in range(1, 4):
        bench.receive(bench.command(number, in_ms=4_000 + number))
        for offset_ms in (0, 3_500, 600):
            await bench.at(offset_ms)
            outputs = dict(bench.app.batch.outputs)
            bench.commit()
            values = [v for (table, _, _), v in rows.items() if table == "captures" and v]
            values += [v for _, v, _ in outputs.get("capture.results", ())]
            for value in values:
                found = CODEC.decode(value)
                assert isinstance(found, CaptureResult | DeviceCaptures | OpenCapture)
                assert CODEC.encode(found) == value
    assert [r.state for r in bench.results] == ["SUCCESS"] * 3
    (row,) = [CODEC.decode(v) for (table, _, key), v in rows.items() if table == "captures" and v]
    assert isinstance(row, DeviceCaptures)
    assert [e.command_id for e in row.ended] == [1, 2, 3]


async def test_a_camera_that_fails_at_once_is_tried_again() -> None:
    bench = AtOnce()
    bench.error = CameraError("store", "the disk is full")
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    assert bench.commit() == []
    bench.error = None
    for _ in range(10):
        await bench.at(100)
        bench.commit()
    ((state, attempt),) = [(r.state, r.attempt) for r in bench.results]
    assert (state, attempt) == ("SUCCESS", 2)


async def test_the_next_capture_of_a_device_follows_in_the_next_turn() -> None:
    """One request of a device at a time: the second waits until the first is on the record."""
    bench = AtOnce()
    bench.receive(*(bench.command(n, schedule_id="", nominal_ms=n) for n in (1, 2, 3)))
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    await bench.at(500)
    assert sorted(bench.photos.shutters) == [1, 2, 3]
    assert [r.state for r in bench.commit()] == ["SUCCESS"] * 3


async def test_ends_that_are_not_written_yet_are_written_when_a_partition_is_given_up() -> None:
    """DESIGN 'Captures': what was in flight is awaited, and its end is committed."""
    bench = AtOnce()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.clock.ms += 500
    bench.executor._shutters._wake()
    assert bench.app.batch.outputs == {}, "its turn is not over"
    await bench.executor.drain([bench.partition])
    assert [r.state for r in bench.commit()] == ["SUCCESS"]


@pytest.mark.parametrize("gone", [False, True])
async def test_ends_in_a_pause_wait_for_the_partition(gone: bool) -> None:
    bench = AtOnce()
    bench.receive(bench.command())
    bench.commit()
    await bench.at(4_500)
    bench.commit()
    bench.app.clock.ms += 500
    bench.executor._shutters._wake()
    bench.partition.pause()
    await asyncio.sleep(0)
    assert bench.commit() == []
    if gone:
        bench.partition.lose()
    else:
        bench.partition.resume(bench.partition.membership)
    await asyncio.sleep(0)
    assert [r.state for r in bench.commit()] == ([] if gone else ["SUCCESS"])
