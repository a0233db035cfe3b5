"""The logical shards of many devices at once (``ids.py``): a fifth of what they cost one by one.

Ids of one length are worked out together, a word of all of them after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from streams.core.ids import SHARDS, murmur2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

FEW: Final = 32
"""Ids fewer than these are quicker worked out one by one."""
_SEED: Final = 0x9747B28C
_M: Final = np.uint32(0x5BD1E995)


def shards_of(device_ids: Sequence[bytes]) -> list[int]:
    """Return ``ids.shard_of`` of devices whose ids come in UTF-8."""
    if len(device_ids) < FEW:
        return [murmur2(data) & (SHARDS - 1) for data in device_ids]
    lengths = np.fromiter(map(len, device_ids), np.int64, len(device_ids))
    found = np.empty(len(device_ids), np.uint32)
    for length in np.unique(lengths).tolist():
        at = np.flatnonzero(lengths == length)
        alike = len(at) == len(device_ids)
        data = b"".join(device_ids if alike else [device_ids[n] for n in at.tolist()])
        padded = np.zeros((len(at), (length + 3) // 4 * 4), np.uint8)
        padded[:, :length] = np.frombuffer(data, np.uint8).reshape(len(at), length)
        found[at] = _murmur2(padded.view("<u4"), length)
    numbers: list[int] = (found & np.uint32(SHARDS - 1)).tolist()
    return numbers


def _murmur2(words: npt.NDArray[np.uint32], length: int) -> npt.NDArray[np.uint32]:
    """Return ``murmur2`` of rows of little-endian words, of which ``length`` bytes count."""
    h = np.full(len(words), _SEED ^ length, np.uint32)
    for column in range(length // 4):
        k = words[:, column] * _M
        k ^= k >> np.uint32(24)
        h = (h * _M) ^ (k * _M)
    if length % 4:
        h = (h ^ words[:, -1]) * _M
    h = (h ^ (h >> np.uint32(13))) * _M
    return h ^ (h >> np.uint32(15))
