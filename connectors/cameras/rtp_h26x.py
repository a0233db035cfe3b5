"""H.264 (RFC 6184) and H.265 (RFC 7798) out of RTP packets. No I/O.

A picture is some NAL units; a packet holds one of them whole, several small ones (aggregated), or a
fragment of a large one. ``type`` is the NAL unit's, in its first byte:

|                   | H.264: type = b0 & 31  | H.265: type = b0 >> 1 & 63 |
|---|---|---|
| one NAL unit      | 1 to 23                | 0 to 47                    |
| aggregated        | 24: (length, unit)…    | 48: (length, unit)…        |
| fragment          | 28: S E type, piece    | 49: S E type, piece        |
| parameter sets    | 7, 8                   | 32, 33, 34                 |
| slices            | 1 to 5                 | 0 to 31                    |
| … of a key frame  | 5                      | 16 to 21                   |

A picture ends with the packet that has the marker, or where the timestamp changes. It is given out
only if no packet of it is missing: it begins with a picture's first slice (its first bit says so),
no gap lies inside it, and each fragmented unit has its end. The interleaved modes of RFC 6184
(types 25 to 27 and 29), which no camera was found to use, count as damage.

Parameter sets come in the SDP, in the stream, or both. The newest ones are put before each key
frame that brings none of its own, so that it can be decoded alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.cameras.rtp import AccessUnit, Lost, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from connectors.cameras.rtp import Ordered, Packet

START_CODE: Final = b"\x00\x00\x00\x01"
MAX_SET_BYTES: Final = 16 * 1024
"""Longest parameter sets of one type that are kept; real ones have 10 to 100 bytes."""
MAX_UNITS: Final = 4_096
"""NAL units of one picture; a 4K picture in slices has some tens."""


@dataclass(frozen=True, slots=True)
class NalRules:
    """What differs between the two."""

    header_bytes: int
    aggregated: int
    fragment: int
    sets: frozenset[int]
    slices: range
    keys: range

    def type_of(self, unit: bytes) -> int:
        """Return the NAL unit's type."""
        return unit[0] & 0x1F if self.header_bytes == 1 else unit[0] >> 1 & 0x3F

    def whole_header(self, packet: bytes, kind: int) -> bytes:
        """Return the header of a fragmented unit of type ``kind``."""
        if self.header_bytes == 1:
            return bytes([packet[0] & 0xE0 | kind])
        return bytes([packet[0] & 0x81 | kind << 1, packet[1]])

    def is_first_slice(self, unit: bytes) -> bool:
        """Say whether a slice is the first of its picture."""
        return len(unit) > self.header_bytes and bool(unit[self.header_bytes] & 0x80)


RULES: Final = {
    "h264": NalRules(1, 24, 28, frozenset({7, 8}), range(1, 6), range(5, 6)),
    "h265": NalRules(2, 48, 49, frozenset({32, 33, 34}), range(32), range(16, 22)),
}
"""By codec."""


@dataclass(slots=True)
class _Picture:
    """A picture that is being put together."""

    timestamp: int
    at_s: float
    units: list[bytes] = field(default_factory=list)
    size: int = 0
    damage: str = ""
    fragment: list[bytes] | None = None
    sliced: bool = False
    key: bool = False
    sets: set[int] = field(default_factory=set)


class NalDepacketizer:
    """Puts pictures together; ``max_bytes`` bounds one. ``sets``: parameter sets of the SDP."""

    def __init__(self, codec: str, sets: Sequence[bytes] = (), *, max_bytes: int) -> None:
        self._rules = RULES[codec]
        self._max_bytes = max_bytes
        self._sets: dict[int, list[bytes]] = {}
        self._picture: _Picture | None = None
        self._ticks = 0
        self._remember(unit for unit in sets if unit)

    def push(self, ordered: Ordered) -> Iterator[AccessUnit | Lost]:
        """Take the next packet; yield what is complete, or known to be lost."""
        packet, gap = ordered
        picture = self._picture
        if picture is not None and picture.timestamp != packet.timestamp:
            if gap:
                picture.damage = picture.damage or "packets are missing at its end"
            yield from self._finish(picture)
            picture = None
        if gap:
            if picture is None:
                yield Lost("packets are missing between pictures")
            else:
                picture.damage = picture.damage or "packets are missing"
        if picture is None:
            picture = self._picture = _Picture(packet.timestamp, packet.at_s)
        self._take(picture, packet)
        if packet.marker:
            self._picture = None
            yield from self._finish(picture)

    def _take(self, picture: _Picture, packet: Packet) -> None:
        """Add a packet's units to the picture, as long as it is whole."""
        payload, rules = packet.payload, self._rules
        if picture.damage:
            return
        if len(payload) <= rules.header_bytes:
            picture.damage = "an empty packet"
            return
        kind = rules.type_of(payload)
        if kind == rules.fragment:
            self._take_fragment(picture, payload)
        elif picture.fragment is not None:
            picture.damage = "a fragmented unit has no end"
        elif kind == rules.aggregated:
            at = rules.header_bytes
            while at < len(payload) and not picture.damage:
                size = int.from_bytes(payload[at : at + 2], "big")
                unit = payload[at + 2 : at + 2 + size]
                if len(unit) < size or size <= rules.header_bytes:
                    picture.damage = "an aggregated packet that is cut"
                    return
                self._add(picture, unit)
                at += 2 + size
        else:
            self._add(picture, payload)

    def _take_fragment(self, picture: _Picture, payload: bytes) -> None:
        at = self._rules.header_bytes
        flags, piece = payload[at], payload[at + 1 :]
        if flags & 0x80:
            if picture.fragment is not None:
                picture.damage = "a fragmented unit has no end"
                return
            kind = flags & (0x1F if at == 1 else 0x3F)
            picture.fragment = [self._rules.whole_header(payload, kind)]
        elif picture.fragment is None:
            picture.damage = "a fragmented unit has no beginning"
            return
        picture.fragment.append(piece)
        picture.size += len(piece)
        if picture.size > self._max_bytes:
            self._too_long(picture)
        elif flags & 0x40:
            unit = b"".join(picture.fragment)
            picture.fragment = None
            picture.size -= len(unit)
            self._add(picture, unit)

    def _add(self, picture: _Picture, unit: bytes) -> None:
        """Add one whole NAL unit."""
        rules = self._rules
        kind = rules.type_of(unit)
        if kind in rules.slices:
            if not picture.sliced and not rules.is_first_slice(unit):
                picture.damage = "its first slice is missing"
                return
            picture.sliced = True
            picture.key = picture.key or kind in rules.keys
        elif kind >= rules.aggregated:
            picture.damage = f"a packet of type {kind}"
            return
        elif kind in rules.sets:
            picture.sets.add(kind)
        picture.units.append(unit)
        picture.size += len(unit) + len(START_CODE)
        if picture.size > self._max_bytes or len(picture.units) > MAX_UNITS:
            self._too_long(picture)

    def _too_long(self, picture: _Picture) -> None:
        picture.damage = f"it is longer than {self._max_bytes} bytes"
        picture.units.clear()
        picture.fragment = None

    def _finish(self, picture: _Picture) -> Iterator[AccessUnit | Lost]:
        if picture.fragment is not None:
            picture.damage = picture.damage or "a fragmented unit has no end"
        if picture.damage:
            yield Lost(picture.damage)
            return
        self._ticks = unwrap(picture.timestamp, self._ticks)
        units = picture.units
        if picture.sets:
            self._remember(unit for unit in units if self._rules.type_of(unit) in picture.sets)
        if not picture.sliced:
            return  # parameter sets or such, sent on their own
        if picture.key:
            before = [
                unit
                for kind in sorted(self._sets)
                if kind not in picture.sets
                for unit in self._sets[kind]
            ]
            units = [*before, *units]
        data = b"".join(part for unit in units for part in (START_CODE, unit))
        yield AccessUnit(self._ticks, picture.at_s, picture.key, data)

    def _remember(self, units: Iterator[bytes]) -> None:
        """Keep parameter sets; those of a type replace all of that type."""
        found: dict[int, list[bytes]] = {}
        for unit in units:
            kind = self._rules.type_of(unit)
            if kind in self._rules.sets:
                found.setdefault(kind, []).append(unit)
        self._sets.update(
            (kind, sets) for kind, sets in found.items() if sum(map(len, sets)) <= MAX_SET_BYTES
        )
