"""A history that is put together from bytes decodes to what it should (``benchmarks/history.py``)."""

from __future__ import annotations

from benchmarks import history_records as history
from benchmarks.history_records import Captures, Device, device_name
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


def test_commands_and_results_are_the_codecs() -> None:
    codec = make_codec()
    captures = Captures(codec, NOW_MS)
    for number in (1, 70_000, 1_200_000):
        device = Device(number, device_name(number))
        identity = ids.command_id(NOW_MS + number, device.shard, number & 4095)
        value = captures.command(identity, device, NOW_MS + 5_000, NOW_MS)
        command = codec.decode_as(value, CaptureCommand)
        assert codec.encode(command) == value
        assert (command.command_id, command.device_id) == (identity, device_name(number))
        assert (command.epoch, command.nominal_ms) == (number, command.scheduled_ms)
        rows = [(identity, device, NOW_MS + 5_000, NOW_MS)] * 3
        made = list(captures.results(rows))
        results = [codec.decode_as(value, CaptureResult) for value in made]
        assert [codec.encode(one) for one in results] == made
        for one in results:
            assert (one.command_id, one.device_id, one.epoch) == (
                identity,
                device.key.decode(),
                number,
            )
            assert [t.to_state for t in one.transitions] == ["PENDING", "RUNNING", "SUCCESS"]
            assert one.image is not None
            assert str(identity) in one.image.uri
            assert one.scheduled_ms <= one.shutter_at_ms <= one.ended_at_ms  # type: ignore[operator]
        assert len({one.image.sha256 for one in results if one.image}) == 3
        assert len({t.crc64 for one in results for t in one.transitions}) == 9


def test_a_fleet_is_taken_in_by_ticks() -> None:
    codec = make_codec()
    made = history.fleet_templates(codec, NOW_MS)
    device = Device(77, device_name(77))
    request = b"r" + device.key
    event = made["event"].join(history.text("rcam-0000077"), device.text)
    assert codec.decode_as(event, ScheduleUpserted).request_id == request.decode()
    items = b"".join(varint(n) + b"\0" + event[history.HEADER_BYTES :] for n in (5, 6))
    tick = codec.decode_as(
        made["tick"].join(varint(3), varint(NOW_MS), varint(2) + items), ScheduleTick
    )
    assert (tick.partition, tick.time_ms) == (3, NOW_MS)
    assert [(c.offset, c.event.device_id) for c in tick.changes] == [
        (5, device_name(77)), (6, device_name(77)),
    ]  # fmt: skip
    nothing = made["tick"].join(varint(3), varint(NOW_MS), b"")
    assert codec.decode_as(nothing, ScheduleTick).changes == ()
    idle = history.idle_tick(codec).join(varint(4), varint(NOW_MS))
    assert codec.decode_as(idle, ScheduleTick).time_ms == NOW_MS
    rest = (device.text, device.epoch)
    decision = made["decision"].join(history.text("rcam-0000077"), *rest)
    assert codec.decode_as(decision, Accepted).epoch == 77
    assert codec.decode_as(made["row"].join(*rest), ScheduleState).epoch == 77
    profile = codec.decode_as(made["profile"].join(device.text), DeviceProfile)
    assert profile.device_id == device_name(77)
