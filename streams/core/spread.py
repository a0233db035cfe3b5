"""Spread: devices of one nominal time do not all fire at once.

A device's offset within the window ``spread_ms`` is ``hash32(device_id) * spread_ms >> 32``: the
same for ever, evenly distributed, always below the window. It is a function of the device alone,
so two schedules of one device with the same window keep their distance.

``hash32`` is CRC-32 (ISO-HDLC, zlib's) of the device id's UTF-8 bytes, then the finaliser of
MurmurHash3 (``fmix32``). The CRC is at hand in every language and runs in C; the finaliser is
there because a CRC is linear: the ids of one factory (``cam-0001``, ``cam-0002``, ...) differ in
few bits and their CRCs in a fixed pattern, which the finaliser breaks up. It is not the shard's
hash, so that the devices of one shard are spread over the whole window as well.

Jitter: besides, each nominal time of a device may have an offset of its own within a window, by the
same hash over the device and the time: the same in every replay, and no pattern to the eye.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK32 = 0xFFFFFFFF


def hash32(device_id: str) -> int:
    """Return the spread hash of a device, 0 to 2**32 - 1."""
    h = crc32(device_id.encode())
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _MASK32
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _MASK32
    return h ^ (h >> 16)


def offset_ms(device_id: str, spread_ms: int) -> int:
    """Return the device's offset in a window of ``spread_ms``: 0 <= offset < spread_ms, or 0."""
    return hash32(device_id) * spread_ms >> 32 if spread_ms else 0


def jitter_ms(device_id: str, nominal_ms: int, window_ms: int) -> int:
    """Return a nominal time's own offset: 0 <= offset < ``window_ms``, which is at least 1."""
    h = crc32(nominal_ms.to_bytes(8, "big", signed=True), crc32(device_id.encode()))
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _MASK32
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _MASK32
    return (h ^ (h >> 16)) * window_ms >> 32


def offsets_ms(device_ids: Iterable[bytes], spread_ms: int) -> list[int]:
    """Return ``offset_ms`` of many devices, whose ids come in UTF-8, at half its cost."""
    offsets: list[int] = []
    for crc in map(crc32, device_ids):
        h = ((crc ^ (crc >> 16)) * 0x85EBCA6B) & _MASK32
        h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _MASK32
        offsets.append((h ^ (h >> 16)) * spread_ms >> 32)
    return offsets
