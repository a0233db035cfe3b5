"""A block of an archive's file, to bytes and back, without a dictionary for each entry.

An entry is four Avro fields behind one another: offset and timestamp as zigzag varints, key and
value each as the number of a branch (00 null, 02 bytes) and, of bytes, a length and the bytes
(Avro 1.12 specification, "Binary Encoding"). What is the same from entry to entry is looked up:

* of a varint, the low six bits of the number are its first byte; the rest changes each 64 numbers,
  and is kept;
* lengths of keys and values are few, and stand in a table with the branch before them.

Example: offset 300, timestamp 0, key ``k``, no value is ``d8 04 00 02 02 6b 00``.

**Cost**, µs of one core for an entry of 400 bytes beside fastavro 1.13: written 1.0 (4.7), read 1.8
(3.7). The bytes are fastavro's, and a test holds the two together. What this cannot read (bytes
that were changed) is an error here, and read as far as it goes by fastavro (``container.py``).
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final

from schemas.encoders import varint
from streams.replay.log import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALONE: Final = tuple(bytes((n << 1,)) for n in range(64))
_FIRST: Final = tuple(bytes((n << 1 | 128,)) for n in range(64))
"""First byte of a number that is not negative, by its low six bits; of a longer one."""
LENGTHS: Final = 4_096
"""Lengths that are looked up; longer ones are written out."""
_SIZED: Final = tuple(b"\2" + varint(n) for n in range(LENGTHS))


def unsigned(value: int) -> bytes:
    """Return a varint without zigzag."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Return the entries as the Avro records of one block, before compression."""
    parts: list[bytes] = []
    high_offset = high_stamp = -1
    offset_rest = stamp_rest = b""
    for offset, stamp_ms, key, value in entries:
        if offset < 64 or stamp_ms < 64:
            parts += (varint(offset), varint(stamp_ms))
        else:
            if offset >> 6 != high_offset:
                high_offset = offset >> 6
                offset_rest = unsigned(high_offset)
            if stamp_ms >> 6 != high_stamp:
                high_stamp = stamp_ms >> 6
                stamp_rest = unsigned(high_stamp)
            parts += (_FIRST[offset & 63], offset_rest, _FIRST[stamp_ms & 63], stamp_rest)
        if key is None:
            parts.append(b"\0")
        else:
            parts += (_sized(key), key)
        if value is None:
            parts.append(b"\0")
        else:
            parts += (_sized(value), value)
    return b"".join(parts)


def _sized(data: bytes) -> bytes:
    size = len(data)
    return _SIZED[size] if size < LENGTHS else b"\2" + varint(size)


def decode_entries(data: bytes, count: int) -> list[Entry]:
    """Return the ``count`` entries of a block, decompressed.

    ValueError where the bytes are no such thing.
    """
    found: list[tuple[int, int, bytes | None, bytes | None]] = []
    add = found.append
    at = 0
    offset_rest = stamp_rest = b"-"
    offset_size = stamp_size = offset_high = stamp_high = 0
    try:
        for _ in range(count):
            first, end = data[at], at + offset_size
            if first > 127 and not first & 1 and data[at + 1 : end] == offset_rest:
                offset = offset_high | (first & 127) >> 1
            else:
                offset, end = number(data, at)
                offset_size, offset_high = end - at if offset >= 0 else 0, offset & ~63
                offset_rest = data[at + 1 : end] or b"-"
            at, first, end = end, data[end], end + stamp_size
            if first > 127 and not first & 1 and data[at + 1 : end] == stamp_rest:
                stamp_ms = stamp_high | (first & 127) >> 1
            else:
                stamp_ms, end = number(data, at)
                stamp_size, stamp_high = end - at if stamp_ms >= 0 else 0, stamp_ms & ~63
                stamp_rest = data[at + 1 : end] or b"-"
            # A key, then a value: written out, as a call each costs as much as all the rest.
            size = data[end + 1]
            if data[end] == 2 and size < 128:
                at = end + 2
                end = at + (size >> 1)
                key: bytes | None = data[at:end]
                if size & 1:
                    raise ValueError(f"there is no key at {at}")
            else:
                key, end = _bytes(data, end)
            if data[end] == 2 and (low := data[end + 1]) > 127 > (size := data[end + 2]):
                at = end + 3
                end = at + ((low & 127 | size << 7) >> 1)
                value: bytes | None = data[at:end]
                if low & 1:
                    raise ValueError(f"there is no value at {at}")
            else:
                value, end = _bytes(data, end)
            at = end
            add((offset, stamp_ms, key, value))
    except IndexError:
        raise ValueError("the block ends within an entry") from None
    if at != len(data):
        raise ValueError(f"the entries of the block end at {at} of {len(data)} bytes")
    return list(map(tuple.__new__, repeat(Entry), found))


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return a key or a value at a place, and where it ends."""
    if data[at] == 0:
        return None, at + 1
    size, begin = number(data, at + 1)
    if data[at] != 2 or size < 0:  # the branch of bytes
        raise ValueError(f"there is no key or value at {at}")
    return data[begin : begin + size], begin + size


def number(data: bytes, at: int) -> tuple[int, int]:
    """Return the zigzag varint at a place, and where it ends. IndexError, ValueError."""
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:  # the last one
            return found >> 1 ^ -(found & 1), at
        shift += 7
        if shift > 63:  # bits of a long
            raise ValueError("a number is too long")
