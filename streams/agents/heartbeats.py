"""Reads heartbeats: a good one at half the codec's cost, and of a bad one the reason.

A fleet of 1.2 million that speaks every 30 s is 40,000 heartbeats a second. What one of today's
schema looks like is known: header, id, two numbers, three doubles. Where the bytes are plainly
that, and the id in them is the record's key, they are taken apart here. Whatever else they are, the
codec says what; so what is accepted, and why something is not, is the codec's answer. A test holds
the two together.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from schemas.codec import HEADER_BYTES
from schemas.errors import DecodeError
from schemas.records import DeviceHeartbeat
from streams.agents.device_profiles import check_home

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from streams.runtime.partition import Partition

Beat: TypeAlias = tuple[int, int, float, float, float]
"""sequence, at_ms, cpu, memory, clock_offset_ms"""

_doubles: Final = struct.Struct("<3d").unpack_from
_DOUBLES_BYTES: Final = 24
_TIME_BYTES: Final = 6
"""What a time from 1987 to 2039 takes as an Avro long."""
_SHORT: Final = 64
"""Lengths of ids that take one byte."""
_FAR_MS: Final = 1e15
"""No clock is so far off."""


class HeartbeatReader:
    """Takes heartbeats apart, of the devices of one app's partitions."""

    def __init__(self, codec: Codec, partitions: int) -> None:
        self._codec = codec
        self._partitions = partitions
        header = codec.encode(DeviceHeartbeat("", 0, 0, 0.0, 0.0, 0.0))[:HEADER_BYTES]
        self._starts = tuple(header + bytes((length << 1,)) for length in range(_SHORT))

    def read(self, record: ConsumerRecord) -> Beat:
        """Return what a record of device.heartbeats says of the device that its key names.

        Whether the device belongs here is not looked at: see :meth:`check`.

        Raises:
            DecodeError: it is no heartbeat, its key is another's, or a number cannot be.

        """
        value, key = record.value or b"", record.key or b""
        beat = self._quick(value, key) or self._slowly(value, key)
        _, _, cpu, memory, offset_ms = beat
        if not (0.0 <= cpu <= 1.0 and 0.0 <= memory <= 1.0 and -_FAR_MS < offset_ms < _FAR_MS):
            _check(beat)
        return beat

    def check(self, partition: Partition, key: bytes) -> None:
        """Raise ``DecodeError`` if this is no device's id, or its heartbeats belong elsewhere."""
        check_home(partition, key.decode(), self._partitions)

    def _quick(self, value: bytes, key: bytes) -> Beat | None:
        """Return the beat if the bytes are plainly one, ``None`` if the codec has to say."""
        length = len(key)
        at, end = HEADER_BYTES + 1 + length, len(value) - _DOUBLES_BYTES
        time = end - _TIME_BYTES
        if length >= _SHORT or time <= at or value[:at] != self._starts[length] + key:
            return None
        b0, b1, b2, b3, b4, b5 = value[time:end]
        if not (b0 > 127 and b1 > 127 and b2 > 127 and b3 > 127 and b4 > 127 and 0 < b5 < 128):
            return None
        first, size = value[at], time - at
        if size == 1 and first < 128:
            number = first
        elif size == 2 and first > 127 and 0 < value[at + 1] < 128:
            number = first & 127 | value[at + 1] << 7
        elif size == 3 and first > 127 and value[at + 1] > 127 and 0 < value[at + 2] < 128:
            number = first & 127 | (value[at + 1] & 127) << 7 | value[at + 2] << 14
        else:
            return None
        if number & 1 or b0 & 1:
            return None  # negative
        at_ms = (b0 & 127 | (b1 & 127) << 7 | (b2 & 127) << 14 | (b3 & 127) << 21
                 | (b4 & 127) << 28 | b5 << 35) >> 1  # fmt: skip
        return number >> 1, at_ms, *_doubles(value, end)

    def _slowly(self, value: bytes, key: bytes) -> Beat:
        found = self._codec.decode_as(value, DeviceHeartbeat)
        if found.device_id.encode() != key:
            raise DecodeError("wrong_key", "The record's key is not its device id.")
        if found.sequence < 0:
            raise DecodeError("bad_sequence", f"The sequence {found.sequence} is negative.")
        return found.sequence, found.at_ms, found.cpu, found.memory, found.clock_offset_ms


def _check(beat: Beat) -> None:
    """Raise ``DecodeError`` if a number cannot be; NaN is one that is not known."""
    _, _, cpu, memory, offset_ms = beat
    for name, share in (("cpu", cpu), ("memory", memory)):
        if not (0.0 <= share <= 1.0 or math.isnan(share)):
            raise DecodeError(f"bad_{name}", f"The share of {name} in use is {share}, not 0 to 1.")
    if not (-_FAR_MS < offset_ms < _FAR_MS or math.isnan(offset_ms)):
        raise DecodeError("bad_clock_offset", f"The clock cannot be {offset_ms} ms off.")
