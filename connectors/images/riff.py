"""WebP's container, taken apart and put together; its pixels' bytes are copied, never looked at.

A WebP file is ``RIFF``, a length, ``WEBP`` and chunks of a name, a length and an even number of
bytes (RFC 9649, 2.3). The simple form has one chunk, ``VP8 `` or ``VP8L``. Metadata wants the
extended form: ``VP8X`` with flags and the picture's size first, and ``EXIF`` and ``XMP `` behind
the pixels. So a label makes a simple file an extended one:

    VP8 …                        →  VP8X, VP8 …, EXIF, XMP
    VP8X, VP8L …, EXIF, XMP      →  VP8X', VP8L …, swKp(EXIF), swKp(XMP), EXIF, XMP, swKp(VP8X)

What stood there before is kept whole in chunks of our own, ``swKp``, which readers pass over (RFC
9649, 2.7.1.7: unknown chunks). :func:`extract` gives back the bytes that :func:`embed` was given.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from connectors.images.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_BYTES: Final = 12
KEPT: Final = b"swKp"
EXIF: Final = b"EXIF"
XMP: Final = b"XMP "
EXTENDED: Final = b"VP8X"
ALPHA_FLAG, EXIF_FLAG, XMP_FLAG = 0x10, 0x08, 0x04
LOSSY_START: Final = b"\x9d\x01\x2a"
LOSSLESS_SIGN: Final = 0x2F
MAX_CHUNKS: Final = 10_000
MAX_FILE_BYTES: Final = 0xFFFF_FFF6
"""RFC 9649, 2.4: the length of a file is 32 bits."""

Chunk = tuple[bytes, bytes]
"""A name, and the whole chunk: name, length, content and what makes it even."""


def is_webp(data: bytes) -> bool:
    """Say whether it begins as a WebP does."""
    return data[:4] == b"RIFF" and data[8:HEAD_BYTES] == b"WEBP"


def is_whole(data: bytes) -> bool:
    """Say whether a WebP is as long as it says."""
    return is_webp(data) and int.from_bytes(data[4:8], "little") + 8 == len(data)


def embed(data: bytes, exif: bytes, xmp: bytes) -> bytes:
    """Return a WebP with EXIF (a TIFF block) and an XMP packet.

    Raises ImageError.
    """
    chunks = list(_chunks(data))
    old = next((whole for name, whole in chunks if name == EXTENDED), None)
    extended = _extended(chunks) if old is None else bytearray(old)
    extended[8] |= EXIF_FLAG | XMP_FLAG
    parts = [bytes(extended)]
    for name, whole in chunks:
        if name in {EXIF, XMP, KEPT}:
            parts.append(_chunk(KEPT, whole))
        elif name != EXTENDED:
            parts.append(whole)
    parts += [_chunk(EXIF, exif), _chunk(XMP, xmp)]
    if old is not None:
        parts.append(_chunk(KEPT, old))
    return _file(parts)


def extract(data: bytes, mark: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return body, EXIF and XMP of a file that :func:`embed` made; None: it has none of ours.

    ``mark``: bytes that our own packet holds. Raises ImageError.
    """
    chunks = list(_chunks(data))
    ours = [(name, _content(whole)) for name, whole in chunks if name in {EXIF, XMP}]
    if [name for name, _ in ours] != [EXIF, XMP] or mark not in ours[1][1]:
        return None
    parts: list[bytes] = []
    for name, whole in chunks:
        if name == KEPT:
            kept = _content(whole)
            if kept[:4] == EXTENDED:
                parts.insert(0, kept)
            else:
                parts.append(kept)
        elif name not in {EXTENDED, EXIF, XMP}:
            parts.append(whole)
    return _file(parts), ours[0][1], ours[1][1]


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk; raises ImageError."""
    if not is_whole(data):
        raise ImageError("truncated", f"Its {len(data):,} bytes are not as many as it says.")
    at = HEAD_BYTES
    for _ in range(MAX_CHUNKS):
        if at == len(data):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + (size & 1)
        if at + 8 > len(data) or end > len(data):
            raise ImageError("truncated", f"The chunk at byte {at:,} is longer than the file.")
        yield data[at : at + 4], data[at:end]
        at = end
    raise ImageError("damaged", f"It has more than {MAX_CHUNKS:,} chunks.")


def _content(whole: bytes) -> bytes:
    return whole[8 : 8 + int.from_bytes(whole[4:8], "little")]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


def _file(parts: list[bytes]) -> bytes:
    size = 4 + sum(map(len, parts))
    if size > MAX_FILE_BYTES:
        raise ImageError("unsupported", f"{size:,} bytes are more than a WebP can have.")
    return b"".join((b"RIFF", struct.pack("<I", size), b"WEBP", *parts))


def _extended(chunks: list[Chunk]) -> bytearray:
    """Return the VP8X chunk of a simple file, from the header of its pixels."""
    name, whole = chunks[0] if chunks else (b"", b"")
    content = _content(whole)
    flags = 0
    if name == b"VP8 " and content[3:6] == LOSSY_START and len(content) >= 10:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", content, 6))
    elif name == b"VP8L" and len(content) >= 5 and content[0] == LOSSLESS_SIGN:
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = ALPHA_FLAG * (bits >> 28 & 1)
    else:
        raise ImageError("damaged", "Its first chunk is no picture.")
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytearray(_chunk(EXTENDED, bytes((flags, 0, 0, 0)) + size))
