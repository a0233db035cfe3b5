"""The records of a capture, put together from bytes that are there already.

A capture is written five times: its row as PENDING and as RUNNING, its result, and twice (or as
often as it is remembered) in the row of what ended lately. All of them repeat the command, and
each transition is in up to three of them. Avro binary has no framing, so what was encoded once, or
came encoded, can be copied (``encoders.py``):

* a row is the command's own bytes, as they came in capture.commands, then state, attempt, time and
  transitions (each encoded once, when it was made);
* a result begins with the command's first seven fields, which are a prefix of its bytes;
* an ended capture has five of those seven, which are three pieces of that prefix.

The pieces are cut out at the sizes that the fields' shortest varints have. A writer may use longer
ones; then the sizes of all fields do not add up to what came, and the command is encoded anew.
Bytes of another release of the schema are decoded and encoded anew as well.

The bytes are the same as ``Codec.encode``'s: tests hold the two together.

**Cost**, µs of one core, beside ``Codec.encode`` of fresh records: row 1.5 (6), row with a second
transition 2 (9), result with three 4 (14), row of ended captures 1.5 and 0.15 each (3 each).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from schemas.catalogue import full_name
from schemas.encoders import varint
from schemas.errors import SchemaError
from schemas.records import (
    CaptureCommand,
    CaptureResult,
    CaptureTimings,
    DeviceCaptures,
    EndedCapture,
    ImageRef,
    OpenCapture,
    QualityVerdict,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from schemas.codec import Codec

_TIMINGS: Final = struct.Struct("<Bdd").pack
"""The number of the branch, then two doubles."""
Cuts: TypeAlias = tuple[int, int, int, int, int]
"""Where id, device, schedule, request and scheduled time end in a command's bytes, without the
header."""

LAYOUTS: Final = {
    OpenCapture: ("command", "state", "attempt", "next_attempt_ms", "transitions"),
    DeviceCaptures: ("device_id", "open", "ended", "failures"),
    Transition: ("from_state", "to_state", "at_ms", "attempt", "cause", "crc64"),
    ImageRef: (
        "uri", "sha256", "image_bytes", "width_px", "height_px", "format", "frame_at_ms",
        "keep_until_ms", "beside",
    ),
    CaptureTimings: ("grab_ms", "store_ms"),
    EndedCapture: (
        "command_id", "schedule_id", "epoch", "nominal_ms", "scheduled_ms", "state",
        "ended_at_ms", "not_after_ms",
    ),
    CaptureCommand: (
        "command_id", "device_id", "schedule_id", "request_id", "epoch", "nominal_ms",
        "scheduled_ms", "not_after_ms", "capture_timeout_ms", "priority", "issued_at_ms",
        "overlap", "moved_ms", "over_capacity", "quality", "keep_ms", "image",
    ),
    CaptureResult: (
        "command_id", "device_id", "schedule_id", "request_id", "epoch", "nominal_ms",
        "scheduled_ms", "state", "cause", "attempt", "ended_at_ms", "shutter_at_ms", "image",
        "timings", "transitions", "verdict",
    ),
    QualityVerdict: ("model", "faults", "scores", "reason", "provider"),
}  # fmt: skip
"""The order of fields that this module knows."""


class Pieces:
    """The bytes of one open capture that its next records are made of."""

    __slots__ = ("command", "count", "cuts", "data", "transitions")

    def __init__(self, command: CaptureCommand, data: bytes, cuts: Cuts | None = None) -> None:
        """Take a command and its Avro binary, without the header."""
        self.command = command
        self.data = data
        self.cuts = cuts
        self.transitions = b""
        self.count = 0
        """How many transitions are in ``transitions``."""


class CaptureWriter:
    """Writes the records of captures; one for a worker."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec that has the tables.

        Raises:
            SchemaError: the fields of a record are not in the order that this module knows.

        """
        for record, fields in LAYOUTS.items():
            if record.__struct_fields__ != fields:
                raise SchemaError(f"The fields of {record.__name__} are not those of {__name__}.")
        self._codec = codec
        self._header = {
            record: codec.header(record)
            for record in (CaptureCommand, CaptureResult, OpenCapture, DeviceCaptures)
        }
        self._command = self._header[CaptureCommand]
        self._longs = codec.table("long")
        self._strings = codec.table("string")
        self._verdict = codec.table(full_name(QualityVerdict))

    def pieces(
        self, command: CaptureCommand, value: bytes | None = None, cuts: Cuts | None = None
    ) -> Pieces:
        """Return the pieces of a command; ``value`` is what it was decoded from, if at hand.

        ``cuts``: where its fields end, if that is known (``command_reader.py``).
        """
        size = len(self._command)
        if value is None or value[:size] != self._command:
            return Pieces(command, self._codec.encode(command)[size:])
        return Pieces(command, value[size:], cuts)

    def _add(self, pieces: Pieces, transitions: tuple[Transition, ...]) -> bytes:
        """Encode the transitions that are new; return the whole array."""
        longs, strings = self._longs, self._strings
        for t in transitions[pieces.count :]:
            pieces.transitions += b"".join(
                (
                    strings[t.from_state], strings[t.to_state], longs[t.at_ms], longs[t.attempt],
                    strings[t.cause], varint(t.crc64),
                )
            )  # fmt: skip
        pieces.count = count = len(transitions)
        return longs[count] + pieces.transitions + b"\x00" if count else b"\x00"

    def open_row(self, capture: OpenCapture, pieces: Pieces) -> bytes:
        """Return the row of an open capture."""
        longs = self._longs
        return b"".join(
            (
                self._header[OpenCapture], pieces.data, self._strings[capture.state],
                longs[capture.attempt], longs[capture.next_attempt_ms],
                self._add(pieces, capture.transitions),
            )
        )  # fmt: skip

    def result(self, result: CaptureResult, pieces: Pieces) -> bytes:
        """Return the result of a command, which ``pieces`` are of."""
        end = (pieces.cuts or self._cut(pieces))[-1]
        longs, at_ms, timings = self._longs, result.shutter_at_ms, result.timings
        return b"".join(
            (
                self._header[CaptureResult], pieces.data[:end],
                self._strings[result.state], self._strings[result.cause], longs[result.attempt],
                longs[result.ended_at_ms], b"\x00" if at_ms is None else b"\x02" + longs[at_ms],
                b"\x00" if result.image is None else self._image(result.image),
                b"\x00" if timings is None else _TIMINGS(2, timings.grab_ms, timings.store_ms),
                self._add(pieces, result.transitions),
                b"\x00" if result.verdict is None else b"\x02" + self._verdict[result.verdict],
            )
        )  # fmt: skip

    def _image(self, image: ImageRef) -> bytes:
        """Return an image and the number of its branch."""
        longs, at_ms, until_ms = self._longs, image.frame_at_ms, image.keep_until_ms
        uri, sha256 = image.uri.encode(), image.sha256.encode()  # never seen again
        return b"".join(
            (
                b"\x02", varint(len(uri)), uri, varint(len(sha256)), sha256,
                longs[image.image_bytes], longs[image.width_px], longs[image.height_px],
                self._strings[image.format], b"\x00" if at_ms is None else b"\x02" + longs[at_ms],
                b"\x00" if until_ms is None else b"\x02" + longs[until_ms],
                self._beside(image.beside) if image.beside else b"\x00",
            )
        )  # fmt: skip

    def _beside(self, beside: dict[str, str]) -> bytes:
        """Return a map of names and hashes."""
        parts = [self._longs[len(beside)]]
        for name, sha256 in beside.items():
            digits = sha256.encode()
            parts += self._strings[name], varint(len(digits)), digits
        return b"".join((*parts, b"\x00"))

    def ended(self, ended: EndedCapture, pieces: Pieces | None) -> bytes:
        """Return an ended capture as it stands in a row; ``pieces``: of it, if at hand."""
        longs, strings = self._longs, self._strings
        if pieces is None:
            begin = b"".join(
                (
                    varint(ended.command_id), strings[ended.schedule_id], longs[ended.epoch],
                    longs[ended.nominal_ms], longs[ended.scheduled_ms],
                )
            )  # fmt: skip
        else:
            after_id, after_device, after_schedule, after_request, end = pieces.cuts or self._cut(
                pieces
            )
            data = pieces.data
            begin = data[:after_id] + data[after_device:after_schedule] + data[after_request:end]
        return b"".join(
            (begin, strings[ended.state], longs[ended.ended_at_ms], longs[ended.not_after_ms])
        )

    def ended_row(self, device_id: str, ended: Collection[bytes], failures: int) -> bytes:
        """Return the row of a device: what ended lately, each as above, and nothing open."""
        longs = self._longs
        parts = [self._header[DeviceCaptures], self._strings[device_id], b"\x00"]
        if ended:
            parts += longs[len(ended)], *ended
        parts += b"\x00", longs[failures]
        return b"".join(parts)

    def _cut(self, pieces: Pieces) -> Cuts:
        """Find where the fields of a command end; encode it anew if its varints are too long."""
        longs, strings, c = self._longs, self._strings, pieces.command
        after_id = _size(c.command_id)
        after_device = after_id + _text_size(c.device_id)
        after_schedule = after_device + len(strings[c.schedule_id])
        after_request = after_schedule + _text_size(c.request_id)
        end = after_request + _size(c.epoch) + _size(c.nominal_ms) + _size(c.scheduled_ms)
        rest = (
            len(longs[c.not_after_ms]) + len(longs[c.capture_timeout_ms]) + len(longs[c.priority])
            + len(longs[c.issued_at_ms]) + len(strings[c.overlap]) + len(longs[c.moved_ms]) + 1
            + len(strings[c.quality]) + len(longs[c.keep_ms]) + len(strings[c.image])
        )  # fmt: skip
        if end + rest != len(pieces.data):
            pieces.data = self._codec.encode(c)[len(self._command) :]
        cuts = pieces.cuts = (after_id, after_device, after_schedule, after_request, end)
        return cuts


def _size(value: int) -> int:
    """Return the size of a long's shortest varint, in bytes."""
    rest = value << 1 if value >= 0 else ~(value << 1)
    return (rest.bit_length() + 6) // 7 or 1


def _text_size(value: str) -> int:
    """Return the size of a string, in bytes."""
    size = len(value) if value.isascii() else len(value.encode())
    return size + (1 if size < 64 else _size(size))
