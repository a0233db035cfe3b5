"""The records of a history that is made up (``history.py``): cut out of real ones, joined anew.

Of each kind one is encoded by the codec, with numbers and texts in it that stand nowhere else;
where those are the bytes are cut. Checksums and hashes are random, as hard to compress as real
ones. A unit test holds what is joined against the codec.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

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
    from collections.abc import Iterator, Sequence

    from schemas.codec import Codec

SCHEDULE: Final = "history"
HEADER_BYTES: Final = 5
NUMBER: Final = 987_654_321_012
"""Sentinels grow from here: numbers that a record holds nowhere else."""
TIMINGS: Final = (16.123456789, 17.123456789)


class Template:
    """A record cut at what differs: ``join`` puts other bytes there."""

    def __init__(self, data: bytes, holes: Sequence[bytes]) -> None:
        """Take the record and what is to be replaced, in the order in which it stands there."""
        self._parts: list[bytes] = []
        at = 0
        for hole in holes:
            found = data.index(hole, at)
            self._parts += (data[at:found], hole)
            at = found + len(hole)
        self._parts.append(data[at:])

    def join(self, *values: bytes) -> bytes:
        """Return the record with other bytes in its holes."""
        parts = self._parts
        parts[1::2] = values
        return b"".join(parts)


class Varints(dict[int, bytes]):
    """Varints by number; the same times come again and again."""

    def __missing__(self, number: int) -> bytes:
        if len(self) > 1 << 14:
            self.clear()
        found = self[number] = varint(number)
        return found


def device_name(number: int) -> str:
    """Return a device's id; all are of one length."""
    return f"cam-{number:07d}"


def text(value: str) -> bytes:
    """Return a string's Avro binary."""
    return varint(len(value)) + value.encode()


class Captures:
    """Makes commands and results."""

    def __init__(self, codec: Codec, now_ms: int) -> None:
        """Take the codec, and a time near which ids and times will be."""
        identity = ids.command_id(now_ms, 1, 1)
        name, sha256 = device_name(1), "f" * 64
        n = iter(range(NUMBER, NUMBER + 20))
        epoch, nominal, scheduled, after, issued = (next(n) for _ in range(5))
        self._command = Template(
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
        self._result = Template(
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
        self._varints = Varints()

    @staticmethod
    def _uri(name: str, identity: int) -> str:
        return f"file:///photos/{name}/2026-11-28/{identity}.jpg"

    def command(self, identity: int, device: Device, at_ms: int, tick_ms: int) -> bytes:
        """Return the command of a photo at ``at_ms``, issued at ``tick_ms``."""
        number, at = self._varints, self._varints[at_ms]
        return self._command.join(
            varint(identity), device.text, device.epoch, at, at,
            number[at_ms + 30_000], number[tick_ms],
        )  # fmt: skip

    def results(self, rows: Sequence[tuple[int, Device, int, int]]) -> Iterator[bytes]:
        """Yield the results of photos that went well, of (id, device, time, time of the tick)."""
        number, count = self._varints, len(rows)
        chance = os.urandom(12 * count)
        hashes = os.urandom(32 * count).hex().encode()
        sums = os.urandom(27 * count).translate(_MORE_FOLLOWS)
        for n, (identity, device, at_ms, tick_ms) in enumerate(rows):
            dice, at, low = chance[12 * n], number[at_ms], 27 * n
            grab, store = chance[12 * n : 12 * n + 6], chance[12 * n + 6 : 12 * n + 12]
            ended = number[at_ms + 40 + dice]
            yield self._result.join(
                varint(identity), device.text, device.epoch, at, at, ended,
                number[at_ms + (dice & 3)],
                device.key, b"%d" % identity, hashes[64 * n : 64 * n + 64],
                varint(120_000 + 64 * dice),
                b"%b\x37\x40%b\x36\x40" % (grab, store),
                number[tick_ms + 120], sums[low : low + 9] + b"\1",
                number[at_ms - 300], sums[low + 9 : low + 18] + b"\1",
                ended, sums[low + 18 : low + 27] + b"\1",
            )  # fmt: skip


_MORE_FOLLOWS: Final = bytes(n | 128 for n in range(256))


class Device:
    """What of a device stands in its records."""

    __slots__ = ("epoch", "key", "shard", "text")

    def __init__(self, number: int, name: str) -> None:
        self.key = name.encode()
        self.text = text(name)
        self.epoch = varint(number)
        self.shard = ids.shard_of(name)


def _tick(codec: Codec, *changes: TickChange) -> bytes:
    settings = TickSettings(notice_ms=2_500, max_fires=5_000)
    return codec.encode(
        ScheduleTick(99, PARTITIONS, NUMBER, RULES_VERSION, TZ_VERSION, settings, changes)
    )


def idle_tick(codec: Codec) -> Template:
    """Return a tick of a second in which nothing changed: partition, time."""
    return Template(_tick(codec), [varint(99), varint(NUMBER)])


def fleet_templates(codec: Codec, at_ms: int) -> dict[str, Template]:
    """Return the records of a device that is put on the schedule."""
    name, every_ms = device_name(1), 300_000
    request = f"r{name}"
    event = events.upserted(name, SCHEDULE, every=every_ms, spread=every_ms, request_id=request)
    change = varint(1) + b"\0" + codec.encode(event)[HEADER_BYTES:]
    decision = Accepted(request, name, SCHEDULE, NUMBER, at_ms, at_ms, type(event).__name__)
    row = ScheduleState(name, SCHEDULE, NUMBER, event.spec, event.policy, at_ms, paused=False)
    return {
        "event": Template(codec.encode(event), [text(request), text(name)]),
        "decision": Template(codec.encode(decision), [text(request), text(name), varint(NUMBER)]),
        "row": Template(codec.encode(row), [text(name), varint(NUMBER)]),
        "profile": Template(
            codec.encode(events.profile(name, "null:", protocol=PROTOCOL)), [text(name)]
        ),
        "tick": Template(
            _tick(codec, TickChange(1, event)), [varint(99), varint(NUMBER), varint(1) + change]
        ),
    }
