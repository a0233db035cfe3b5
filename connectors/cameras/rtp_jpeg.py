"""JPEG out of RTP packets (RFC 2435): the picture is rebuilt, not decoded. No I/O.

A packet says what the JPEG header would have said, in eight bytes, and then a piece of the scan:

    00 | 00 00 00 | 01   | FF | 28    | 1E     | [restart] [tables] | scan…
         offset     type   Q    width   height   (in 8 pixels)

``type`` 0 is 4:2:2, 1 is 4:2:0; 64 more: with restart markers, whose interval stands in four more
bytes. ``Q`` 1 to 99 names the standard tables scaled (RFC 2435, 4.2); from 128 on the first packet
brings the camera's own tables, or their length is 0 and those of the pictures before hold. The
Huffman tables are always the standard ones of ITU T.81, Annex K.

The rebuilt file: SOI, JFIF, DQT, [DRI], SOF0, DHT, SOS, the scan, EOI. The camera's quantisation
tables are taken over byte by byte, so nothing is lost to a second compression.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.cameras.rtp import AccessUnit, Lost, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.cameras.rtp import Ordered

HEADER_BYTES: Final = 8
MAX_KEPT_TABLES: Final = 128
"""One set a value of Q."""
JFIF: Final = bytes.fromhex("FFE000104A46494600010100000100010000")
EOI: Final = b"\xff\xd9"

# ITU T.81, tables K.1 and K.2, in zigzag order (RFC 2435, appendix A).
LUMA: Final = bytes.fromhex(
    "100B0C0E0C0A100E0D0E1211101318281A181616183123251D283A333D3C3933"
    "383740485C4E404457453738506D51575F626768673E4D71797064785C656763"
)
CHROMA: Final = bytes.fromhex(
    "1112121815182F1A1A2F63423842636363636363636363636363636363636363"
    "6363636363636363636363636363636363636363636363636363636363636363"
)
# ITU T.81, tables K.3 to K.6: sixteen counts by code length, then the values.
DC_LUMA: Final = bytes.fromhex("00010501010101010100000000000000000102030405060708090A0B")
DC_CHROMA: Final = bytes.fromhex("00030101010101010101010000000000000102030405060708090A0B")
AC_LUMA: Final = bytes.fromhex(
    "0002010303020403050504040000017D"
    "01020300041105122131410613516107227114328191A1082342B1C11552D1F0"
    "2433627282090A161718191A25262728292A3435363738393A434445464748494A"
    "535455565758595A636465666768696A737475767778797A838485868788898A"
    "92939495969798999AA2A3A4A5A6A7A8A9AAB2B3B4B5B6B7B8B9BAC2C3C4C5C6"
    "C7C8C9CAD2D3D4D5D6D7D8D9DAE1E2E3E4E5E6E7E8E9EAF1F2F3F4F5F6F7F8F9FA"
)
AC_CHROMA: Final = bytes.fromhex(
    "00020102040403040705040400010277"
    "000102031104052131061241510761711322328108144291A1B1C109233352F0"
    "156272D10A162434E125F11718191A262728292A35363738393A434445464748"
    "494A535455565758595A636465666768696A737475767778797A828384858687"
    "88898A92939495969798999AA2A3A4A5A6A7A8A9AAB2B3B4B5B6B7B8B9BAC2C3"
    "C4C5C6C7C8C9CAD2D3D4D5D6D7D8D9DAE2E3E4E5E6E7E8E9EAF2F3F4F5F6F7F8F9FA"
)


class Piece(NamedTuple):
    """One packet's payload, read."""

    offset: int
    kind: int
    quality: int
    width_px: int
    height_px: int
    restart: int
    """Restart interval; 0: none."""
    precision: int
    tables: bytes
    scan: bytes


def parse_piece(payload: bytes) -> Piece | None:
    """Return what a payload says; None if it is damaged."""
    if len(payload) < HEADER_BYTES:
        return None
    offset = int.from_bytes(payload[1:4], "big")
    kind, quality, width, height = payload[4:8]
    at, restart, precision, tables = HEADER_BYTES, 0, 0, b""
    if 64 <= kind < 128:
        restart = int.from_bytes(payload[at : at + 2], "big")
        at += 4
    if quality >= 128 and offset == 0:
        precision = payload[at + 1] if len(payload) > at + 1 else 0
        size = int.from_bytes(payload[at + 2 : at + 4], "big")
        tables = payload[at + 4 : at + 4 + size]
        at += 4 + size
    if kind >= 128 or kind & 63 > 1 or at >= len(payload) or quality in range(100, 128):
        return None
    return Piece(
        offset, kind, quality, width * 8, height * 8, restart, precision, tables, payload[at:]
    )


@functools.lru_cache(maxsize=128)
def scaled_tables(quality: int) -> bytes:
    """Return the standard luma and chroma tables for Q 1 to 99 (RFC 2435, 4.2)."""
    q = max(1, min(99, quality))
    scale = 5000 // q if q < 50 else 200 - q * 2
    return bytes(max(1, min(255, (value * scale + 50) // 100)) for value in LUMA + CHROMA)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


@functools.lru_cache(maxsize=256)
def jpeg_header(
    kind: int, width_px: int, height_px: int, tables: bytes, precision: int, restart: int
) -> bytes:
    """Return everything before the scan; raises ValueError if the tables do not fit."""
    parts = [b"\xff\xd8", JFIF]
    at = 0
    for number in range(2):
        wide = precision >> number & 1
        size = 128 if wide else 64
        table = tables[at : at + size]
        if not table and number:
            table, wide = tables[:size], precision & 1  # one table for all components
        if len(table) != (128 if wide else 64):
            raise ValueError("the quantisation tables have another length than they should")
        parts.append(_segment(0xDB, bytes([wide << 4 | number]) + table))
        at += size
    if restart:
        parts.append(_segment(0xDD, restart.to_bytes(2, "big")))
    luma_sampling = 0x22 if kind & 1 else 0x21
    size_px = height_px.to_bytes(2, "big") + width_px.to_bytes(2, "big")
    components = bytes([3, 1, luma_sampling, 0, 2, 0x11, 1, 3, 0x11, 1])
    parts.append(_segment(0xC0, b"\x08" + size_px + components))
    for number, table in ((0, DC_LUMA), (0x10, AC_LUMA), (1, DC_CHROMA), (0x11, AC_CHROMA)):
        parts.append(_segment(0xC4, bytes([number]) + table))
    parts.append(_segment(0xDA, bytes([3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0])))
    return b"".join(parts)


class JpegDepacketizer:
    """Puts pictures together; ``max_bytes`` bounds one.

    ``size_px``: width and height of the SDP, for pictures too large for the header's fields.
    """

    def __init__(self, *, max_bytes: int, size_px: tuple[int, int] = (0, 0)) -> None:
        self._max_bytes = max_bytes
        self._size_px = size_px
        self._tables: dict[int, tuple[int, bytes]] = {}
        self._first: Piece | None = None
        self._timestamp = -1
        self._at_s = 0.0
        self._scan: list[bytes] = []
        self._length = 0
        self._damage = ""
        self._ticks = 0

    def push(self, ordered: Ordered) -> Iterator[AccessUnit | Lost]:
        """Take the next packet; yield what is complete, or known to be lost."""
        packet, gap = ordered
        if packet.timestamp != self._timestamp:
            if self._scan or self._damage:
                yield Lost(self._damage or "packets are missing at its end")
            self._begin(packet.timestamp, packet.at_s)
        if gap:
            self._damage = self._damage or "packets are missing"
        self._take(parse_piece(packet.payload))
        if packet.marker:
            yield self._finish()
            self._begin(-1, 0.0)

    def _begin(self, timestamp: int, at_s: float) -> None:
        self._timestamp, self._at_s = timestamp, at_s
        self._first, self._damage, self._length = None, "", 0
        self._scan.clear()

    def _take(self, piece: Piece | None) -> None:
        if piece is None:
            self._damage = self._damage or "a packet that is no JPEG"
        elif piece.offset != self._length:
            self._damage = self._damage or "packets are missing"
        elif piece.offset + len(piece.scan) > self._max_bytes:
            self._damage = f"it is longer than {self._max_bytes} bytes"
        elif piece.offset == 0:
            # A gap before a picture's first packet is one between pictures: this one is whole.
            self._first, self._damage = piece, ""
        if self._damage or piece is None:
            self._scan.clear()
            return
        self._scan.append(piece.scan)
        self._length += len(piece.scan)

    def _finish(self) -> AccessUnit | Lost:
        first = self._first
        if self._damage or first is None:
            return Lost(self._damage or "packets are missing")
        if first.quality < 100:
            precision, tables = 0, scaled_tables(first.quality)
        elif first.tables:
            precision, tables = first.precision, first.tables
            if len(self._tables) < MAX_KEPT_TABLES:
                self._tables[first.quality] = (precision, tables)
        elif first.quality in self._tables:
            precision, tables = self._tables[first.quality]
        else:
            return Lost("its quantisation tables have not come")
        width_px, height_px = (
            first.width_px or self._size_px[0],
            first.height_px or self._size_px[1],
        )
        try:
            header = jpeg_header(first.kind, width_px, height_px, tables, precision, first.restart)
        except (ValueError, OverflowError) as error:
            return Lost(str(error))
        if not width_px or not height_px:
            return Lost("its size is not said")
        end = b"" if self._scan[-1].endswith(EOI) else EOI
        self._ticks = unwrap(self._timestamp, self._ticks)
        return AccessUnit(
            self._ticks, self._at_s, key=True, data=b"".join((header, *self._scan, end))
        )
