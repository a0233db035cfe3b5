"""Reads capture commands by table look-up, the way ``encoders.py`` writes.

What commands have in common comes in the same bytes: the fields behind ``not_after_ms`` are those
of the tick and the policy, and points in time are those of other devices. So a command is cut at
its fields, and pieces that were met before are looked up. What is unusual in any way (another
schema or release, an id or a time of another length, a negative number, bad UTF-8, bytes that are
missing or left over) is left to ``Codec.decode``, whose answer counts.

**The id** has nine bytes from April 2026 to 2060. Its groups of seven bits are moved together
pair by pair, then pairs of pairs: three steps for eight bytes.

**Cost**, µs of one core: 2.3, where ``Codec.decode`` takes 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import SchemaError
from schemas.records import CaptureCommand

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.records import Record
    from schemas.spliced import Cuts

FIELDS: Final = (
    "command_id", "device_id", "schedule_id", "request_id", "epoch", "nominal_ms",
    "scheduled_ms", "not_after_ms", "capture_timeout_ms", "priority", "issued_at_ms",
    "overlap", "moved_ms", "over_capacity", "quality", "keep_ms", "image",
)  # fmt: skip
"""The order of fields that this module knows."""
MEMO_ENTRIES: Final = 16_384
"""Most pieces of a kind that are remembered; all are forgotten then."""

Tail = tuple[int, int, int, str, int, bool, str, int, str]

_ID_AT: Final = 5
_ID_LAST: Final = 13
_DEVICE_AT: Final = 14
_TIME_BYTES: Final = 6
_MORE: Final = 0x80
_MORE_8: Final = 0x8080_8080_8080_8080
_MORE_5: Final = 0x80_8080_8080


class CommandReader:
    """Decodes what stands in capture.commands."""

    def __init__(self, codec: Codec) -> None:
        """Take the codec that reads what is unusual.

        Raises:
            SchemaError: the fields of a command are not in the order that this module knows.

        """
        if CaptureCommand.__struct_fields__ != FIELDS:
            raise SchemaError(f"The fields of CaptureCommand are not those of {__name__}.")
        self._decode = codec.decode
        self._header = codec.header(CaptureCommand)
        self.cuts: Cuts | None = None
        """Where the fields of the command read last end; None: not known."""
        self._texts: dict[bytes, str] = {}
        self._times: dict[bytes, int] = {}
        self._tails: dict[bytes, Tail] = {}

    def read(self, data: bytes) -> Record:
        """Return the record that ``data`` holds; raises as ``Codec.decode`` does."""
        self.cuts = None
        if data[:_ID_AT] == self._header:
            try:
                found = self._read(data)
            except (IndexError, UnicodeDecodeError):
                found = None
            if found is not None:
                return found
        return self._decode(data)

    def _read(self, data: bytes) -> Record | None:
        low = int.from_bytes(data[_ID_AT:_ID_LAST], "little")
        high = data[_ID_LAST]
        if low & _MORE_8 != _MORE_8 or high >= _MORE or low & 1:
            return None
        low = (low & 0x7F_007F_007F_007F) | (low & 0x7F00_7F00_7F00_7F00) >> 1
        low = (low & 0x3FFF_0000_3FFF) | (low & 0x3FFF_0000_3FFF_0000) >> 2
        low = (low & 0xFFF_FFFF) | (low & 0xFFF_FFFF_0000_0000) >> 4
        size = data[_DEVICE_AT]
        if size >= _MORE or size & 1:
            return None
        device_end = _DEVICE_AT + 1 + (size >> 1)
        device_id = data[_DEVICE_AT + 1 : device_end].decode()
        size = data[device_end]
        if size >= _MORE or size & 1:
            return None
        schedule_end = device_end + 1 + (size >> 1)
        schedule_id = self._text(data[device_end + 1 : schedule_end])
        size = data[schedule_end]
        if size >= _MORE or size & 1:
            return None
        at = request_end = schedule_end + 1 + (size >> 1)
        request_id = data[schedule_end + 1 : at].decode() if size else ""
        epoch = shift = 0
        while (group := data[at]) >= _MORE:
            epoch |= (group & 0x7F) << shift
            shift += 7
            at += 1
        epoch |= group << shift
        if epoch & 1 or shift > 56:
            return None
        at += 1
        times, end = self._times, at + _TIME_BYTES
        nominal_ms = times.get(data[at:end]) or self._time(data[at:end])
        at = end + _TIME_BYTES
        scheduled_ms = times.get(data[end:at]) or self._time(data[end:at])
        end = at + _TIME_BYTES
        not_after_ms = times.get(data[at:end]) or self._time(data[at:end])
        if not (nominal_ms and scheduled_ms and not_after_ms):
            return None
        self.cuts = (
            _DEVICE_AT - _ID_AT, device_end - _ID_AT, schedule_end - _ID_AT, request_end - _ID_AT,
            at - _ID_AT,
        )  # fmt: skip
        tail = self._tails.get(data[end:])
        if tail is None:
            return self._learn(data, end)
        return CaptureCommand(
            (low | high << 56) >> 1, device_id, schedule_id, request_id, epoch >> 1,
            nominal_ms, scheduled_ms, not_after_ms, *tail,
        )  # fmt: skip

    def _text(self, data: bytes) -> str:
        found = self._texts.get(data)
        if found is None:
            if len(self._texts) >= MEMO_ENTRIES:
                self._texts.clear()
            found = self._texts[data] = data.decode()
        return found

    def _time(self, data: bytes) -> int:
        """Return a positive number of six bytes; 0: it is none."""
        low = int.from_bytes(data[:5], "little")
        if low & _MORE_5 != _MORE_5 or data[5] >= _MORE or low & 1:
            return 0
        low = (low & 0x7F_007F_007F) | (low & 0x7F00_7F00) >> 1
        low = (low & 0x3FFF) | (low & 0x3FFF_0000) >> 2 | (low & 0x7F_0000_0000) >> 4
        found = (low | data[5] << 35) >> 1
        if len(self._times) >= MEMO_ENTRIES:
            self._times.clear()
        self._times[data] = found
        return found

    def _learn(self, data: bytes, end: int) -> Record:
        """Have the codec read a command, and remember what its last fields say."""
        command = self._decode(data)
        if isinstance(command, CaptureCommand):
            if len(self._tails) >= MEMO_ENTRIES:
                self._tails.clear()
            self._tails[data[end:]] = (
                command.capture_timeout_ms, command.priority, command.issued_at_ms,
                command.overlap, command.moved_ms, command.over_capacity, command.quality,
                command.keep_ms, command.image,
            )  # fmt: skip
        return command
