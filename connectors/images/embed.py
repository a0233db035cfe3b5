"""EXIF and XMP put into a file beside its pixels, and taken out again to the byte.

**JPEG**: behind SOI and the JFIF segment come our EXIF and our XMP (APP1). A reader expects one of
each, so the camera's own are not left beside them: each is kept whole, where it stood, inside an
APP9 segment that begins with :data:`KEPT`. **PNG**: ``eXIf`` and ``iTXt`` chunks behind the header;
the camera's own are kept in private chunks, ``swKp``. **WebP** (:mod:`connectors.images.riff`):
``EXIF`` and ``XMP `` chunks behind the pixels, in the extended form of the file.

:func:`extract` undoes it: what it returns as ``body`` is what :func:`embed` was given, so that the
SHA-256 of a camera's bytes can be checked in a file that has a label. The pixels' bytes are copied
once, and never looked at.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.images import jpeg, riff
from connectors.images.errors import ImageError
from connectors.images.label import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

APP9: Final = 0xE9
KEPT: Final = b"shutterwheel kept\0"
PNG: Final = b"\x89PNG\r\n\x1a\n"
HEADER_END: Final = 33
"""Signature (8 bytes) and IHDR (25), which always come first."""
KEPT_CHUNK: Final = b"swKp"
"""Ancillary, private, safe to copy."""
XMP_KEY: Final = b"XML:com.adobe.xmp\0\0\0\0\0"
MARK: Final = NAMESPACE.encode()
MAX_CHUNKS: Final = 100_000
PNG_END: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"
CARRIERS: Final = ("jpeg", "png", "webp")
"""Formats that can carry a label."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A file taken apart."""

    body: bytes
    """What was there before the label came; the file itself, if it has none."""
    exif: bytes = b""
    """Our TIFF block."""
    xmp: bytes = b""
    """Our packet."""


def embed(data: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Return a JPEG, PNG or WebP with a label; ``data`` has none yet.

    Raises ImageError ``unsupported``: the label, or what is to be kept, does not fit a segment.
    """
    if data[: len(PNG)] == PNG:
        return _embed_png(data, exif, xmp)
    if riff.is_webp(data):
        return riff.embed(data, exif, xmp)
    parts: list[bytes | memoryview] = []
    whole, at = memoryview(data), 2
    place = 2
    for index, segment in enumerate(jpeg.segments(data)):
        if index == 0 and segment.marker == jpeg.APP0:
            place = segment.end
        if _stands_aside(data, segment):
            parts += [whole[at : segment.start], _kept(data[segment.start : segment.end])]
            at = segment.end
    try:
        ours = jpeg.make_segment(jpeg.APP1, jpeg.EXIF + exif)
        ours += jpeg.make_segment(jpeg.APP1, jpeg.XMP + xmp)
    except ValueError as error:
        raise ImageError("unsupported", f"Its label cannot be put in: {error}.") from error
    if not parts:
        return b"".join((whole[:place], ours, whole[place:]))
    first = bytes(parts[0])
    parts[0] = first[place - 2 :]
    return b"".join((whole[:2], first[: place - 2], ours, *parts, whole[at:]))


def extract(data: bytes) -> Contents:
    """Take a JPEG, PNG or WebP apart; raises ImageError."""
    if data[: len(PNG)] == PNG:
        return _extract_png(data)
    if riff.is_webp(data):
        found = riff.extract(data, MARK)
        return Contents(data) if found is None else Contents(*found)
    whole, at = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    exif = xmp = b""
    before: jpeg.Segment | None = None
    for segment in jpeg.segments(data):
        content = jpeg.payload(data, segment)
        if segment.marker == APP9 and content.startswith(KEPT):
            parts += [whole[at : segment.start], content[len(KEPT) :]]
            at = segment.end
        elif segment.marker == jpeg.APP1 and not xmp and _is_ours(content) and before:
            exif = jpeg.payload(data, before).removeprefix(jpeg.EXIF)
            xmp = content.removeprefix(jpeg.XMP)
            parts.append(whole[at : before.start])
            at = segment.end
        before = segment
    if not xmp:
        return Contents(data)
    return Contents(b"".join((*parts, whole[at:])), exif, xmp)


def is_whole(data: bytes) -> bool:
    """Say whether a JPEG, PNG or WebP has its end, and nothing behind it."""
    if data[: len(PNG)] == PNG:
        return data.endswith(PNG_END)
    return riff.is_whole(data) or (data[:2] == jpeg.SOI and data.endswith(jpeg.EOI))


def _stands_aside(data: bytes, segment: jpeg.Segment) -> bool:
    """Say whether a segment would be taken for ours, or for one that was kept."""
    if segment.marker == APP9:
        return jpeg.payload(data, segment).startswith(KEPT)
    return segment.marker == jpeg.APP1 and jpeg.payload(data, segment).startswith(
        (jpeg.EXIF, jpeg.XMP)
    )


def _is_ours(content: bytes) -> bool:
    return content.startswith(jpeg.XMP) and MARK in content


def _kept(segment: bytes) -> bytes:
    try:
        return jpeg.make_segment(APP9, KEPT + segment)
    except ValueError as error:
        raise ImageError("unsupported", f"The camera's own EXIF is too long: {error}.") from error


# --- PNG ----------------------------------------------------------------------------------------


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each chunk; raises ImageError."""
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        if at == len(data):
            return
        if at + 12 > len(data):
            raise ImageError("truncated", f"It ends after {len(data):,} bytes, within a chunk.")
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise ImageError("truncated", f"The chunk at byte {at:,} is longer than the file.")
        yield data[at + 4 : at + 8], at, end
        at = end
    raise ImageError("damaged", f"It has more than {MAX_CHUNKS:,} chunks.")


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _own_png(name: bytes, content: bytes) -> bool:
    return name in {b"eXIf", KEPT_CHUNK} or (name == b"iTXt" and content.startswith(XMP_KEY[:18]))


def _embed_png(data: bytes, exif: bytes, xmp: bytes) -> bytes:
    whole, at = memoryview(data), HEADER_END
    parts: list[bytes | memoryview] = [whole[:HEADER_END]]
    parts += [_chunk(b"eXIf", exif), _chunk(b"iTXt", XMP_KEY + xmp)]
    for name, start, end in _chunks(data):
        if _own_png(name, data[start + 8 : end - 4]):
            parts += [whole[at:start], _chunk(KEPT_CHUNK, data[start:end])]
            at = end
    return b"".join((*parts, whole[at:]))


def _extract_png(data: bytes) -> Contents:
    whole, at = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    exif = xmp = b""
    for name, start, end in _chunks(data):
        content = data[start + 8 : end - 4] if name in {b"eXIf", b"iTXt", KEPT_CHUNK} else b""
        if name == KEPT_CHUNK:
            parts += [whole[at:start], content]
        elif name == b"iTXt" and not xmp and content.startswith(XMP_KEY) and MARK in content:
            xmp = content.removeprefix(XMP_KEY)
            parts.append(whole[at:start])
        elif name == b"eXIf" and not exif:
            exif = content
            parts.append(whole[at:start])
        else:
            continue
        at = end
    if not xmp:
        return Contents(data)
    return Contents(b"".join((*parts, whole[at:])), exif, xmp)
