"""Where a device belongs and what a command is called.

**Shards.** A device belongs to one of 1,024 logical shards by Kafka's own hash of its id, for
ever: ``shard = murmur2(utf-8 bytes) & 1023``. A topic with P partitions (a power of two, at most
1,024) holds the shards with ``shard % P == partition``; because P divides 1,024 this is where a
stock Java producer puts the key: it takes ``(murmur2 & 0x7fffffff) % P``.

**Command ids** (SPEC 2.2) are positive 63-bit integers, ordered by issue within a shard::

    bit 62          22 21      12 11         0
        milliseconds  |  shard   |  sequence
        since 2026    |          |

The next id of a shard is the larger of *the id after the last one* and *the first id of the
tick's millisecond*. When the 12 bits of the sequence are spent, the id after the last one is the
first of the next millisecond: the sequence carries over the shard's bits into the time, so a
shard that issues more than 4,096 commands at one tick borrows from the future and never waits.
41 bits of milliseconds last until the year 2095. No coordinator is asked and no clock is read:
the last id stands in the shard's state, so a replay gives the same ids.
"""

from __future__ import annotations

from struct import Struct

from schemas.records import CommandId

SHARDS = 1024
"""Logical shards; a power of two, and the most partitions that can be."""
EPOCH_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: where the milliseconds of command ids begin."""
SEQUENCE_BITS = 12
SHARD_BITS = 10
TIME_BITS = 41
MAX_TIME_MS = EPOCH_MS + (1 << TIME_BITS) - 1
"""The last millisecond that a command id can name."""

_TIME_SHIFT = SEQUENCE_BITS + SHARD_BITS
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_SHARD_MASK = SHARDS - 1

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK32 = 0xFFFFFFFF
_WORDS = Struct("<I").iter_unpack


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit Murmur2 of ``data`` as an unsigned integer, 0 to 2**32 - 1.

    Source: ``org.apache.kafka.common.utils.Utils.murmur2``: Austin Appleby's MurmurHash2 with
    Kafka's fixed seed, on little-endian words. Java's ``int`` is the same 32 bits, signed. About
    2 us for a key of 16 bytes.
    """
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for (word,) in _WORDS(data[:whole]):
        k = (word * _M) & _MASK32
        k = ((k ^ (k >> 24)) * _M) & _MASK32
        h = ((h * _M) & _MASK32) ^ k
    if whole != length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK32
    h = ((h ^ (h >> 13)) * _M) & _MASK32
    return h ^ (h >> 15)


def shard_of(device_id: str) -> int:
    """Return the logical shard of a device, 0 to 1023."""
    return murmur2(device_id.encode()) & _SHARD_MASK


def check_partitions(partitions: int) -> None:
    """Raise ValueError unless ``partitions`` is a power of two from 1 to 1,024."""
    if not 1 <= partitions <= SHARDS or partitions & (partitions - 1):
        raise ValueError(
            f"{partitions} partitions: the number must be a power of two from 1 to {SHARDS}"
        )


def partition_of(device_id: str, partitions: int) -> int:
    """Return the partition of a device in a topic of ``partitions`` partitions."""
    check_partitions(partitions)
    return shard_of(device_id) % partitions


def shards_of_partition(partition: int, partitions: int) -> range:
    """Return the logical shards that a partition holds, ascending."""
    check_partitions(partitions)
    if not 0 <= partition < partitions:
        raise ValueError(f"partition {partition} is not one of {partitions}")
    return range(partition, SHARDS, partitions)


def command_id(time_ms: int, shard: int, sequence: int) -> CommandId:
    """Make an id of its three parts; ValueError where one does not fit its bits."""
    if not EPOCH_MS < time_ms <= MAX_TIME_MS:  # the epoch itself would give 0, which is no id
        raise ValueError(f"time {time_ms} ms is outside {EPOCH_MS + 1} to {MAX_TIME_MS}")
    if not 0 <= shard < SHARDS:
        raise ValueError(f"shard {shard} is outside 0 to {SHARDS - 1}")
    if not 0 <= sequence <= _SEQUENCE_MASK:
        raise ValueError(f"sequence {sequence} is outside 0 to {_SEQUENCE_MASK}")
    return CommandId(((time_ms - EPOCH_MS) << _TIME_SHIFT) | (shard << SEQUENCE_BITS) | sequence)


def command_time_ms(identity: int) -> int:
    """Return the millisecond in an id: when it was issued, or a little later under a burst."""
    return (identity >> _TIME_SHIFT) + EPOCH_MS


def command_shard(identity: int) -> int:
    """Return the shard in an id, which is the shard of its device."""
    return (identity >> SEQUENCE_BITS) & _SHARD_MASK


def command_sequence(identity: int) -> int:
    """Return the sequence number in an id."""
    return identity & _SEQUENCE_MASK


def next_command_id(last_id: int, tick_ms: int, shard: int) -> CommandId:
    """Return the id after ``last_id`` (0: none yet) for a command issued at ``tick_ms``.

    Strictly greater than ``last_id``, never before the tick's millisecond, always of ``shard``.
    """
    first = ((tick_ms - EPOCH_MS) << _TIME_SHIFT) | (shard << SEQUENCE_BITS)
    if last_id < first or first <= 0:  # the latter is refused there
        return command_id(tick_ms, shard, 0)
    if last_id & _SEQUENCE_MASK != _SEQUENCE_MASK:
        return CommandId(last_id + 1)
    return command_id(command_time_ms(last_id) + 1, shard, 0)
