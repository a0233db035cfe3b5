r"""The segments of a JPEG, read and written without a look at its pixels (ITU T.81, annex B).

::

    FF D8                      SOI
    FF E0 len …                APP0 JFIF
    FF E1 len "Exif\0\0" …       APP1
    FF C0 len …                SOF: precision, height, width, components and their sampling
    FF DA len … entropy-coded  SOS: the scan runs to the next marker
    FF D9                      EOI

A segment is its marker, two bytes of length that count themselves, and at most 65,533 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOI: Final = b"\xff\xd8"
EOI: Final = b"\xff\xd9"
SOS: Final = 0xDA
APP0: Final = 0xE0
APP1: Final = 0xE1
APP2: Final = 0xE2
ADOBE: Final = 0xEE
EXIF: Final = b"Exif\0\0"
ICC: Final = b"ICC_PROFILE\0"
XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
MAX_PAYLOAD_BYTES: Final = 65_533
MAX_SEGMENTS: Final = 1_024
"""Before the scan; an ICC profile of 10 MB has 160."""
FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header (SOF); the others of the range are tables."""
ORIENTATION: Final = 0x0112


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment before the scan: ``data[start:end]``, marker and length included."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a JPEG says of its pixels."""

    process: int
    """The marker's low four bits: 0 and 1 sequential, 2 progressive, 3 lossless…"""
    precision: int
    width_px: int
    height_px: int
    sampling: tuple[tuple[int, int], ...]
    """Horizontal and vertical factor of each component."""


def segments(data: bytes) -> Iterator[Segment]:
    """Yield every segment before the scan, the first SOS included.

    Raises ImageError ``not_an_image``, ``truncated`` or ``damaged``.
    """
    if data[:2] != SOI:
        raise ImageError("not_an_image", "It does not begin as a JPEG does.")
    at, size = 2, len(data)
    for _ in range(MAX_SEGMENTS):
        start = at
        while at + 1 < size and data[at] == 0xFF == data[at + 1]:
            at += 1  # a marker may be filled up in front
        if at + 4 > size:
            raise ImageError("truncated", f"It ends after {size:,} bytes, before its scan.")
        if data[at] != 0xFF:
            raise ImageError("damaged", f"Byte {at:,} should begin a segment, and does not.")
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > size:
            raise ImageError("truncated", f"The segment at byte {at:,} is longer than the file.")
        yield Segment(marker, start, end)
        if marker == SOS:
            return
        at = end
    raise ImageError("damaged", f"It has more than {MAX_SEGMENTS:,} segments before its scan.")


def payload(data: bytes, segment: Segment) -> bytes:
    """Return what stands behind marker and length."""
    at = segment.start
    while data[at + 1] == 0xFF:
        at += 1
    return data[at + 4 : segment.end]


def make_segment(marker: int, content: bytes) -> bytes:
    """Return a segment; ValueError if the content does not fit one."""
    if len(content) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(content):,} bytes do not fit a segment")
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def frame_header(content: bytes, marker: int) -> FrameHeader:
    """Read an SOF segment; raises ImageError ``damaged``."""
    try:
        precision, height, width, count = struct.unpack_from(">BHHB", content)
        factors = [content[6 + 3 * index + 1] for index in range(count)]
    except (struct.error, IndexError) as error:
        raise ImageError("damaged", "Its frame header is cut short.") from error
    sampling = tuple((factor >> 4, factor & 15) for factor in factors)
    if not width or not height or not sampling or any(0 in pair for pair in sampling):
        raise ImageError("damaged", "Its frame header gives no size.")
    return FrameHeader(marker & 15, precision, width, height, sampling)


def find_orientation(exif: bytes) -> tuple[int, str, int]:
    """Return offset, byte order and value of the orientation in a TIFF block; (0, "", 1): none.

    Sixteen lines that never raise: Pillow reads the whole block for it, 40 times as long.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            return 0, "", 1
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for index in range(min(count, 512)):
            at = first + 2 + 12 * index
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
            if tag == ORIENTATION:
                return (at + 8, order, value) if kind == 3 and 1 <= value <= 8 else (0, "", 1)
    except struct.error:
        pass
    return 0, "", 1


def set_orientation(exif: bytes, value: int) -> bytes:
    """Return a TIFF block with another orientation, if it has one; nothing else changes."""
    at, order, _ = find_orientation(exif)
    if not at:
        return exif
    return exif[:at] + struct.pack(f"{order}H", value) + exif[at + 2 :]


def untagged(data: bytes) -> bytes:
    """Return a JPEG whose EXIF, if it has any, says that it stands upright."""
    for segment in segments(data):
        content = payload(data, segment)
        if segment.marker == APP1 and content.startswith(EXIF):
            at = segment.end - len(content)
            changed = EXIF + set_orientation(content[len(EXIF) :], 1)
            return data[:at] + changed + data[segment.end :]
    return data
