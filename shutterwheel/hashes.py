"""The hashes of many devices at once: those of ``streams.core``, in vectors.

Cost: 0.3 µs a device for both, of which encoding the ids is most; one by one they take 3 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from streams.core import ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Words = npt.NDArray[np.uint32]


def hashes_of(device_ids: Sequence[str]) -> Words:
    """Return ``streams.core.spread.hash32`` of each."""
    crcs = np.fromiter(
        (crc32(one.encode()) for one in device_ids), np.uint32, count=len(device_ids)
    )
    return mixed(crcs)


def mixed(h: Words) -> Words:
    """Return MurmurHash3's ``fmix32`` of each."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def shards_of(device_ids: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Return ``streams.core.ids.shard_of`` of each; ids of one length are hashed together."""
    keys = [one.encode() for one in device_ids]
    lengths = np.fromiter(map(len, keys), np.int64, count=len(keys))
    found = np.zeros(len(keys), np.uint32)
    for length in np.unique(lengths):
        where = np.flatnonzero(lengths == length)
        joined = b"".join(keys[n] for n in where)
        rows = np.frombuffer(joined, np.uint8).reshape(len(where), int(length))
        found[where] = _murmur2(rows) & np.uint32(ids.SHARDS - 1)
    return found


def _murmur2(rows: npt.NDArray[np.uint8]) -> Words:
    """Return the hash of each row of bytes; see ``streams.core.ids.murmur2``."""
    count, length = rows.shape
    m = np.uint32(0x5BD1E995)
    h = np.full(count, 0x9747B28C ^ length, np.uint32)
    whole = length & ~3
    words = np.ascontiguousarray(rows[:, :whole]).view("<u4")
    for n in range(whole // 4):
        k = words[:, n] * m
        k = (k ^ (k >> np.uint32(24))) * m
        h = (h * m) ^ k
    if whole != length:
        rest = np.zeros(count, np.uint32)
        for n in range(whole, length):
            rest |= rows[:, n].astype(np.uint32) << np.uint32(8 * (n - whole))
        h = (h ^ rest) * m
    h = (h ^ (h >> np.uint32(13))) * m
    return h ^ (h >> np.uint32(15))
