"""The records of a history that is made up (``history.py``): cut out of real ones, filled anew.

Of each kind one is encoded by the codec, with numbers and texts in it that stand nowhere else;
where those are are the holes (``history_columns.py``). Checksums and hashes are random, as hard to
compress as real ones. A unit test holds what is made against the codec.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.history_columns import Form, constant, cut, digits, murmur2, varints
from benchmarks.load import PARTITIONS
from connectors.cameras.null_camera import PROTOCOL
from connectors.clients import events
from schemas.encoders import varint
from schemas.records import (
    Accepted,
    CaptureCommand,
    CaptureResult,
    CaptureTimings,
    ImageRef,
    ScheduleState,
    ScheduleTick,
    TickChange,
    TickSettings,
    Transition,
)
from streams.core import ids
from streams.core.recurrence import TZ_VERSION
from streams.core.shard import RULES_VERSION

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.columns import Bytes, Ints

SCHEDULE: Final = "history"
HEADER_BYTES: Final = 5
NUMBER: Final = 987_654_321_012
"""Sentinels grow from here: numbers that a record holds nowhere else."""
TIMINGS: Final = (16.123456789, 17.123456789)
EPOCH: Final = 1 << 20
"""Epoch of device 0; those of all devices are written with four bytes."""
_NAME: Final = b"cam-"
_NAME_DIGITS: Final = 7


def device_name(number: int) -> str:
    """Return a device's id; all are of one length."""
    return f"{_NAME.decode()}{number:0{_NAME_DIGITS}d}"


def text(value: str) -> bytes:
    """Return a string's Avro binary."""
    return varint(len(value)) + value.encode()


def texts(columns: Bytes) -> Bytes:
    """Return strings, one a row, as Avro has them."""
    length = constant(varint(columns.shape[1]), len(columns))
    return np.hstack((length, columns))


class Devices:
    """What of some devices stands in their records, a row each."""

    def __init__(self, numbers: Ints) -> None:
        name = constant(_NAME, len(numbers))
        self.names: Bytes = np.hstack((name, digits(numbers, _NAME_DIGITS)))
        self.shards: Ints = murmur2(self.names) % ids.SHARDS
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def keys(self) -> list[bytes]:
        """Return their ids."""
        return cut(self.names)

    def epochs(self) -> Bytes:
        """Return the epochs of their schedules."""
        return varints(self.numbers + EPOCH)

    def some(self, at: Ints) -> Devices:
        """Return those at some places."""
        found = object.__new__(Devices)
        found.names, found.shards, found.numbers = self.names[at], self.shards[at], self.numbers[at]
        return found


class Captures:
    """Makes commands and results."""

    def __init__(self, codec: Codec, now_ms: int) -> None:
        """Take the codec, and a time near which ids and times will be."""
        identity = ids.command_id(now_ms, 1, 1)
        name, sha256 = device_name(1), "f" * 64
        n = iter(range(NUMBER, NUMBER + 20))
        epoch, nominal, scheduled, after, issued = (next(n) for _ in range(5))
        self._command = Form(
            codec.encode(
                CaptureCommand(
                    identity, name, SCHEDULE, "", epoch, nominal, scheduled, after, 3_000, 0, issued
                )
            ),
            [
                varint(identity),
                text(name),
                *map(varint, (epoch, nominal, scheduled, after, issued)),
            ],
        )
        ended, shutter, size = (next(n) for _ in range(3))
        stamps, sums = [next(n) for _ in range(3)], [(1 << 62) + k for k in range(3)]
        states = ("", "PENDING", "RUNNING", "SUCCESS")
        self._result = Form(
            codec.encode(
                CaptureResult(
                    identity, name, SCHEDULE, "", epoch, nominal, scheduled, "SUCCESS", "", 1,
                    ended, shutter,
                    ImageRef(self._uri(name, identity), sha256, size, 1920, 1080, "jpeg"),
                    CaptureTimings(*TIMINGS),
                    tuple(
                        Transition(states[k], states[k + 1], stamps[k], min(k, 1), "", sums[k])
                        for k in range(3)
                    ),
                )
            ),
            [
                varint(identity), text(name),
                *map(varint, (epoch, nominal, scheduled, ended, shutter)),
                name.encode(), str(identity).encode(), sha256.encode(), varint(size),
                struct.pack("<2d", *TIMINGS),
                *(part for k in range(3) for part in (varint(stamps[k]), varint(sums[k]))),
            ],
        )  # fmt: skip
        self._id_digits = len(str(identity))

    @staticmethod
    def _uri(name: str, identity: int) -> str:
        return f"file:///photos/{name}/2026-11-28/{identity}.jpg"

    def commands(
        self, identities: Ints, devices: Devices, at_ms: Ints, tick_ms: Ints
    ) -> list[bytes]:
        """Return the commands of photos at ``at_ms``, issued at ``tick_ms``."""
        at = varints(at_ms)
        return self._command.fill(
            varints(identities), texts(devices.names), devices.epochs(), at, at,
            varints(at_ms + 30_000), varints(tick_ms),
        )  # fmt: skip

    def results(
        self, identities: Ints, devices: Devices, at_ms: Ints, tick_ms: Ints
    ) -> list[bytes]:
        """Return the results of photos that went well."""
        rows = len(devices)
        chance, hashes = _random(rows, 13), _random(rows, 32)
        dice, at = chance[:, 12].astype(np.int64), varints(at_ms)
        timings = constant(b"\0\0\0\0\0\0\x37\x40\0\0\0\0\0\0\x36\x40", rows).copy()
        timings[:, :6], timings[:, 8:14] = chance[:, :6], chance[:, 6:12]
        ended = varints(at_ms + 40 + dice)
        sums = [_random(rows, 10) | np.uint8(128) for _ in range(3)]
        for one in sums:
            one[:, 9] = 1
        return self._result.fill(
            varints(identities), texts(devices.names), devices.epochs(), at, at, ended,
            varints(at_ms + (dice & 3)),
            devices.names, digits(identities, self._id_digits), _HEX[hashes].reshape(rows, 64),
            varints(120_000 + 64 * dice), timings,
            varints(tick_ms + 120), sums[0],
            varints(at_ms - 300), sums[1],
            ended, sums[2],
        )  # fmt: skip


_HEX: Final = np.frombuffer(bytes(range(256)).hex().encode(), np.uint8).reshape(256, 2)


def _random(rows: int, width: int) -> Bytes:
    return np.frombuffer(os.urandom(rows * width), np.uint8).reshape(rows, width)


def _tick(codec: Codec, *changes: TickChange) -> bytes:
    settings = TickSettings(notice_ms=2_500, max_fires=5_000)
    return codec.encode(
        ScheduleTick(99, PARTITIONS, NUMBER, RULES_VERSION, TZ_VERSION, settings, changes)
    )


def idle_tick(codec: Codec) -> Form:
    """Return a tick of a second in which nothing changed: partition, time."""
    return Form(_tick(codec), [varint(99), varint(NUMBER)])


def fleet_forms(codec: Codec, at_ms: int) -> dict[str, Form]:
    """Return the records of a device that is put on the schedule."""
    name, every_ms = device_name(1), 300_000
    request = f"r{name}"
    event = events.upserted(name, SCHEDULE, every=every_ms, spread=every_ms, request_id=request)
    change = varint(1) + b"\0" + codec.encode(event)[HEADER_BYTES:]
    decision = Accepted(request, name, SCHEDULE, NUMBER, at_ms, at_ms, type(event).__name__)
    row = ScheduleState(name, SCHEDULE, NUMBER, event.spec, event.policy, at_ms, paused=False)
    return {
        "event": Form(codec.encode(event), [text(request), text(name)]),
        "decision": Form(codec.encode(decision), [text(request), text(name), varint(NUMBER)]),
        "row": Form(codec.encode(row), [text(name), varint(NUMBER)]),
        "profile": Form(
            codec.encode(events.profile(name, "null:", protocol=PROTOCOL)), [text(name)]
        ),
        "tick": Form(
            _tick(codec, TickChange(1, event)), [varint(99), varint(NUMBER), varint(1) + change]
        ),
    }
