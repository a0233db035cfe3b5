"""Ticks that are read by what they share are what the codec reads (schemas/tick_reader.py)."""

from __future__ import annotations

import random

import msgspec
import pytest

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.ids import FingerprintIds
from schemas.records import (
    CapturePolicy,
    ClockCorrection,
    ClockState,
    DeviceFact,
    PartitionSnapshot,
    ScheduleCancelled,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from schemas.tick_reader import TickReader

CODEC = Codec(FingerprintIds())
AT_MS = 1_800_000_000_000


def upserted(number, device="cam-é", **policy):
    spec = ScheduleSpec("interval", every_ms=10_000)
    made = CapturePolicy(**policy)
    return ScheduleUpserted(f"r-{number}", device, "s", spec, made, AT_MS + number)


def tick(number, *events, **fields):
    changes = tuple(TickChange(number + n, event) for n, event in enumerate(events))
    made = ScheduleTick(3, 8, AT_MS + 1_000 * number, 3, "2026.1", TickSettings(), changes)
    return msgspec.structs.replace(made, **fields)


TICKS = [
    tick(0),
    tick(1, previous_ms=AT_MS),
    tick(2, clock=ClockState("ntp", -0.25, 1.5)),
    tick(3, clock=ClockState("machine", 0.0)),
    tick(4, upserted(1), upserted(2, "cam-2")),
    tick(5, *(upserted(n, f"cam-{n}") for n in range(150))),
    tick(6, upserted(1, priority=3), upserted(2, "cam-2")),
    tick(7, upserted(1, priority=3), upserted(2, "cam-2")),
    tick(8, upserted(1), ScheduleCancelled("r", "cam-1", "s", AT_MS)),
    tick(9, upserted(1, "d" * 100)),
    tick(10, facts=(DeviceFact("cam-1", "place", 1.0, 2.0),)),
    tick(11, clock=ClockState("ntp", 1.0, 2.0, (ClockCorrection("slew", 1.0, AT_MS),))),
    tick(12, partition=4),
    tick(13, settings=TickSettings(notice_ms=7)),
    tick(14, time_ms=5),
    tick(15, upserted(1), clock=ClockState("ntp", 0.5, 0.5)),
]


def test_it_reads_what_the_codec_reads():
    reader, quick = TickReader(CODEC), 0
    for made in TICKS * 2:
        data = CODEC.encode(made)
        record, events = reader.read(data)
        assert record == made
        if events is None:
            continue
        quick += 1
        header = CODEC.header(ScheduleUpserted)
        assert [header + data[a:b] for a, b in events] == [
            CODEC.encode(change.event) for change in made.changes
        ]
    assert quick > 12


def test_what_stands_among_ticks_is_left_to_the_codec():
    reader = TickReader(CODEC)
    snapshot = PartitionSnapshot(0, 1, 5, 6, AT_MS, 3, "2026.1", b"hash", "file:///x", 1, 2, 3)
    for made in (TICKS[0], snapshot, TICKS[1]):
        assert reader.read(CODEC.encode(made)).record == made


@pytest.mark.parametrize("seed", range(4))
def test_damaged_ticks_are_what_the_codec_says(seed):
    """Bytes changed, cut or added: the same record, or the same complaint."""
    chance, reader = random.Random(seed), TickReader(CODEC)
    known = [CODEC.encode(made) for made in TICKS[:8] + TICKS[15:]]
    for data in known:
        reader.read(data)
    for _ in range(600):
        data = bytearray(chance.choice(known[:5] + known[6:]))
        for _ in range(chance.choice((1, 1, 2))):
            data[chance.randrange(5, len(data))] = chance.choice((0, 1, 2, 128, 255, 7))
        if chance.random() < 0.2:
            del data[chance.randrange(5, len(data)) :]
        if chance.random() < 0.1:
            data += b"\0"
        value = bytes(data)
        assert said(lambda data: reader.read(data).record, value) == said(CODEC.decode, value)


def said(decode, value):
    """What a decoder makes of bytes, in words: a NaN is not equal to itself."""
    try:
        return repr(decode(value))
    except DecodeError as error:
        return error.code
