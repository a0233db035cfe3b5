"""Reads ticks quickly, by what they share with the tick before.

A log holds a tick a second and partition, and nearly all say: time has moved. Those that take a
fleet in have hundreds of ScheduleUpserted whose spec and policy are the same bytes. So a tick is
cut at its fields, and what stands there as it stood before is not read again: partition; rules,
time zone and settings; spec and policy of an event. Avro binary reads from left to right, so the
same bytes at the place of a field are the same field.

What is unusual in any way (another schema, another kind of event, facts, corrections of a clock, a
long text, bytes that are missing or left over) is left to ``Codec.decode``, whose answer counts.

**Cost**, us of one core: a quiet tick 3 (the codec: 16), an event within a tick 2 (12).
"""

from __future__ import annotations

import struct
from collections import deque
from struct import unpack_from
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.catalogue import full_name
from schemas.errors import SchemaError
from schemas.records import (
    CapturePolicy,
    ClockState,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
)

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import Record, TickSettings

FIELDS: Final = {
    ScheduleTick: (
        "partition", "partitions", "time_ms", "rules_version", "tz_version", "settings",
        "changes", "facts", "clock", "previous_ms",
    ),
    TickChange: ("offset", "event"),
    ScheduleUpserted: (
        "request_id", "device_id", "schedule_id", "spec", "policy", "published_at_ms",
    ),
    ClockState: ("source", "offset_ms", "error_ms", "corrections"),
}  # fmt: skip
"""The order of fields that this module knows."""
BODIES: Final = 8
"""Specs and policies that are remembered; those of one manifest are few."""
_HEADER: Final = 5
_UPSERTED: Final = 0
"""The branch of the union of events."""
_END, _NULL, _VALUE = 0, 0, 2


class Read(NamedTuple):
    """A record, and the bytes of its events."""

    record: Record
    events: tuple[tuple[int, int], ...] | None
    """Where each change's event, a ScheduleUpserted, begins and ends; None: not known."""


class _Frame(NamedTuple):
    """What ticks of a partition share."""

    head: bytes
    """Partition and partitions."""
    middle: bytes
    """Rules, time zone and settings."""
    partition: int
    partitions: int
    rules_version: int
    tz_version: str
    settings: TickSettings


class TickReader:
    """Decodes what stands in schedule.ticks."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec that reads what is unusual.

        Raises:
            SchemaError: the fields of a record are not in the order that this module knows.

        """
        for record, fields in FIELDS.items():
            if record.__struct_fields__ != fields:
                raise SchemaError(f"The fields of {record.__name__} are not those of {__name__}.")
        self._codec = codec
        self._header = codec.header(ScheduleTick)
        self._frame: _Frame | None = None
        self._bodies: deque[tuple[bytes, ScheduleSpec, CapturePolicy]] = deque(maxlen=BODIES)
        self._spec = codec.table(full_name(ScheduleSpec))
        self._policy = codec.table(full_name(CapturePolicy))

    def read(self, data: bytes) -> Read:
        """Return what ``data`` holds; raises as ``Codec.decode`` does."""
        if self._frame is not None and data.startswith(self._header):
            try:
                found = self._read(data, self._frame)
            except (IndexError, ValueError, struct.error):
                found = None
            if found is not None:
                return found
        record = self._codec.decode(data)
        if isinstance(record, ScheduleTick):
            self._learn(record)
        return Read(record, None)

    def _learn(self, tick: ScheduleTick) -> None:
        """Remember the bytes of what other ticks may share with this one."""
        longs, settings = self._codec.table("long"), tick.settings
        self._frame = _Frame(
            longs[tick.partition] + longs[tick.partitions],
            longs[tick.rules_version]
            + self._codec.table("string")[tick.tz_version]
            + self._codec.table("shutterwheel.TickSettings")[settings],
            tick.partition, tick.partitions, tick.rules_version, tick.tz_version, settings,
        )  # fmt: skip
        for change in tick.changes[:1] + tick.changes[-1:]:
            event = change.event
            if isinstance(event, ScheduleUpserted):
                body = self._spec[event.spec] + self._policy[event.policy]
                if all(body != known for known, _, _ in self._bodies):
                    self._bodies.appendleft((body, event.spec, event.policy))

    def _read(self, data: bytes, frame: _Frame) -> Read | None:
        if not data.startswith(frame.head, _HEADER):
            return None
        at = _HEADER + len(frame.head)
        time_ms, at = _long(data, at)
        if not data.startswith(frame.middle, at):
            return None
        at += len(frame.middle)
        changes: tuple[TickChange, ...] = ()
        events: tuple[tuple[int, int], ...] = ()
        if data[at] != _END:
            found = self._changes(data, at)
            if found is None:
                return None
            changes, events, at = found
        if data[at] != _END or data[at + 1] != _END:
            return None  # another block of changes, or facts
        at += 2
        clock = None
        if data[at] == _VALUE:
            size = data[at + 1] >> 1
            source = data[at + 2 : at + 2 + size].decode()
            if data[at + 1] & 0x81:
                return None
            at += 2 + size
            [offset_ms] = unpack_from("<d", data, at)
            known, at, error_ms = data[at + 8], at + 9, None
            if known == _VALUE:
                [error_ms], at = unpack_from("<d", data, at), at + 8
            if data[at] != _END or known not in {_NULL, _VALUE}:
                return None  # corrections
            clock = ClockState(source, offset_ms, error_ms)
        elif data[at] != _NULL:
            return None
        previous_ms, at = _long(data, at + 1)
        if at != len(data):
            return None
        tick = ScheduleTick(
            frame.partition, frame.partitions, time_ms, frame.rules_version, frame.tz_version,
            frame.settings, changes, (), clock, previous_ms,
        )  # fmt: skip
        return Read(tick, events)

    def _changes(
        self, data: bytes, at: int
    ) -> tuple[tuple[TickChange, ...], tuple[tuple[int, int], ...], int] | None:
        """Read a block of changes; None: not all are events whose bodies are known."""
        count, at = _long(data, at)
        if count < 0 or count > len(data):
            return None
        changes, events = [], []
        for _ in range(count):
            offset, at = _long(data, at)
            if data[at] != _UPSERTED:
                return None
            begin = at = at + 1
            texts = []
            for _ in range(3):
                size = data[at]
                if size & 0x81:
                    return None
                end = at + 1 + (size >> 1)
                texts.append(data[at + 1 : end].decode())
                at = end
            known = next((one for one in self._bodies if data.startswith(one[0], at)), None)
            if known is None:
                return None
            body, spec, policy = known
            published_ms, at = _long(data, at + len(body))
            event = ScheduleUpserted(texts[0], texts[1], texts[2], spec, policy, published_ms)
            changes.append(TickChange(offset, event))
            events.append((begin, at))
        return tuple(changes), tuple(events), at


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint; return it and where it ends. ValueError: of more than 64 bits."""
    byte = data[at]
    rest, shift = byte & 0x7F, 7
    while byte & 0x80:
        at += 1
        byte = data[at]
        rest |= (byte & 0x7F) << shift
        shift += 7
    if rest >> 64:
        raise ValueError("a number of more than 64 bits")
    return (rest >> 1) ^ -(rest & 1), at + 1
