"""A history that is put together from bytes decodes to what it should (``benchmarks/history.py``)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import history_records as history
from benchmarks.history_columns import Form, cut, digits, murmur2, varints
from benchmarks.history_records import EPOCH, Captures, Devices, device_name, text, texts
from connectors.clients.kafka import make_codec
from schemas.encoders import varint
from schemas.records import (
    Accepted,
    CaptureCommand,
    CaptureResult,
    DeviceProfile,
    ScheduleState,
    ScheduleTick,
    ScheduleUpserted,
)
from streams.core import ids

NOW_MS = 1_795_000_000_000
NUMBERS = (1, 70_000, 1_200_000)


def fleet(numbers=NUMBERS):
    return Devices(np.array(numbers, np.int64))


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=9))
def test_varints_are_the_encoders(numbers):
    numbers.sort(key=lambda number: len(varint(number)))
    length = len(varint(numbers[0]))
    column = np.array(numbers, np.int64)
    if len(varint(numbers[-1])) == length:
        assert cut(varints(column)) == [varint(number) for number in numbers]
    else:
        with pytest.raises(ValueError, match="equally long"):
            varints(column)


def test_devices_are_named_and_placed_as_everywhere():
    devices = fleet(range(1, 2_000))
    names = [device_name(number) for number in range(1, 2_000)]
    assert devices.keys() == [name.encode() for name in names]
    assert devices.shards.tolist() == [ids.shard_of(name) for name in names]
    assert cut(texts(devices.names)) == [text(name) for name in names]


@pytest.mark.parametrize("length", range(1, 14))
def test_murmur2_is_the_cores(length):
    data = np.random.default_rng(length).integers(0, 256, (50, length), np.uint8)
    assert murmur2(data).tolist() == [ids.murmur2(one) for one in cut(data)]


def test_a_form_takes_holes_of_another_length():
    form = Form(b"a<1>b<2>", [b"<1>", b"<2>"])
    rows = form.fill(digits(np.array([7, 12]), 4), digits(np.array([1, 2]), 1))
    assert rows == [b"a0007b1", b"a0012b2"]
    assert form.join(b"", b"22") == b"ab22"


def test_commands_and_results_are_the_codecs() -> None:
    codec = make_codec()
    captures, devices = Captures(codec, NOW_MS), fleet()
    turn = np.arange(len(NUMBERS))
    identities = np.array(
        [
            ids.command_id(NOW_MS + n, int(shard), n)
            for n, shard in zip(turn.tolist(), devices.shards, strict=True)
        ]
    )
    at_ms, tick_ms = NOW_MS + 5_000 + turn, NOW_MS + turn
    values = captures.commands(identities, devices, at_ms, tick_ms)
    commands = [codec.decode_as(value, CaptureCommand) for value in values]
    assert [codec.encode(one) for one in commands] == values
    made = captures.results(identities, devices, at_ms, tick_ms)
    results = [codec.decode_as(value, CaptureResult) for value in made]
    assert [codec.encode(one) for one in results] == made
    for n, number in enumerate(NUMBERS):
        wanted = (identities[n], device_name(number), EPOCH + number, at_ms[n], at_ms[n])
        for one in (commands[n], results[n]):
            found = (one.command_id, one.device_id, one.epoch, one.nominal_ms, one.scheduled_ms)
            assert found == wanted
        assert commands[n].issued_at_ms == tick_ms[n]
        one = results[n]
        assert [t.to_state for t in one.transitions] == ["PENDING", "RUNNING", "SUCCESS"]
        assert one.image is not None
        assert one.image.uri.endswith(f"{device_name(number)}/2026-11-28/{identities[n]}.jpg")
        assert one.scheduled_ms <= one.shutter_at_ms <= one.ended_at_ms  # type: ignore[operator]
    assert len({one.image.sha256 for one in results if one.image}) == 3
    assert len({t.crc64 for one in results for t in one.transitions}) == 9


def test_a_fleet_is_taken_in_by_ticks() -> None:
    codec = make_codec()
    made, devices, name = history.fleet_forms(codec, NOW_MS), fleet((77,)), device_name(77)
    names, epochs, request = texts(devices.names), devices.epochs(), f"r{device_name(77)}"
    requests = np.frombuffer(text(request), np.uint8)[None]
    [event] = made["event"].fill(requests, names)
    taken = codec.decode_as(event, ScheduleUpserted)
    assert (taken.request_id, taken.device_id) == (request, name)
    items = b"".join(varint(n) + b"\0" + event[history.HEADER_BYTES :] for n in (5, 6))
    tick = codec.decode_as(
        made["tick"].join(varint(3), varint(NOW_MS), varint(2) + items), ScheduleTick
    )
    assert (tick.partition, tick.time_ms) == (3, NOW_MS)
    assert [(c.offset, c.event.device_id) for c in tick.changes] == [(5, name), (6, name)]
    idle = history.idle_tick(codec).join(varint(4), varint(NOW_MS))
    assert codec.decode_as(idle, ScheduleTick).time_ms == NOW_MS
    [decision] = made["decision"].fill(requests, names, epochs)
    assert codec.decode_as(decision, Accepted).epoch == EPOCH + 77
    [row] = made["row"].fill(names, epochs)
    assert codec.decode_as(row, ScheduleState).epoch == EPOCH + 77
    [profile] = made["profile"].fill(names)
    assert codec.decode_as(profile, DeviceProfile).device_id == name
