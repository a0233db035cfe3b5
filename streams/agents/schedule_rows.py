"""Reads the rows of ``schedules`` fast, as a partition is opened: a million of them, few different.

An Avro record is its fields one after the other, without names, and can be read from left to right
only in one way. A row of ``schedules`` begins with what differs: device id, schedule id, epoch; so
only these are taken apart here. What follows, the **tail**, is decoded by the codec once for each
sequence of bytes that occurs, and the rows that have it are handed on together (``Alike``).

Rows that were accepted one at a time differ in their start, which stands in the tail. There the
bytes of spec and policy, the **head** of the tail, are looked for among those seen: a tail that
begins with the whole encoding of a spec and a policy has these, and only start, pause and its
reason are left to be read; a row with more behind them is the codec's. Nothing here depends on
what spec and policy are made of.

Rows written under another schema id than today's are the codec's business entirely.

A batch of rows is taken apart in columns: where each number begins and what it is is worked out for
all of them at once, and what is left for each row is to cut its ids out of the batch.

Cost (CPython 3.11, shared core): 0.5 us a row where tails repeat, 2.5 us where starts differ, 12 us
where all do, and for ids of 64 bytes and more.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from schemas.codec import HEADER_BYTES
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState
from streams.core.schedule_table import Alike, schedule_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.codec import Codec

    Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
    Places: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

BATCH_ROWS: Final = 16_384
"""The most rows that are taken apart together."""
SHARED_MAX: Final = 65_536
"""The most tails and heads kept; then the collection starts anew."""
SIZES_MAX: Final = 32
"""The most lengths of heads that are looked for: each look costs 0.1 us."""
_MORE: Final = 0x80
"""The bit of a byte of a number that says that another byte follows."""
_ANY: Final = ScheduleState("d", "s", 1, ScheduleSpec("once"), CapturePolicy(), 0, False)
_AFTER_HEAD: Final = (
    *("starts_at_ms", "paused", "pause_reason"),
    *("paused_by", "ends_at_ms", "failures_from"),
)
_COMMON_END: Final = bytes(3)
"""The last three fields as most rows have them: empty, null and 0."""
_HEADS: Final = ScheduleState.__struct_fields__[5:] == _AFTER_HEAD
"""Whether a row ends as ``_Ends`` reads it; a row with further fields is left to the codec."""


def schedule_rows(values: Iterable[bytes], codec: Codec) -> Iterator[Alike]:
    """Yield the rows that these values hold, those with equal tails together.

    Raises:
        DecodeError: as ``Codec.decode_as``.

    """
    today = codec.encode(_ANY)[:HEADER_BYTES]
    ends, left = _Ends(codec), iter(values)
    while batch := list(islice(left, BATCH_ROWS)):
        cut = _cut(batch, today)
        if cut is None:
            for value in batch:
                yield _alone(codec.decode_as(value, ScheduleState))
            continue
        for value in cut.others:
            yield _alone(codec.decode_as(value, ScheduleState))
        yield from _alike(cut, ends)


class _Cut(NamedTuple):
    """Rows of a batch in columns; ``tails`` says where each value's tail begins."""

    values: list[bytes]
    keys: list[str]
    device_ids: list[bytes]
    epochs: list[int]
    tails: list[int]
    tail_bytes: set[int]
    """The lengths of tails."""
    others: list[bytes]
    """Values that are none of these: the codec says what they are."""


def _cut(values: list[bytes], today: bytes) -> _Cut | None:
    """Take values apart, all at once; ``None``: none can be."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    joined = bytearray().join(values)
    data = np.frombuffer(joined, np.uint8)
    end = np.cumsum(sizes)
    begin = end - sizes
    good = sizes > HEADER_BYTES
    for place, byte in enumerate(today):
        good &= data[np.minimum(begin + place, end - 1)] == byte
    length, device = _numbers(data, begin + HEADER_BYTES, end)
    second = device + length
    good &= (length >= 0) & (second < end)
    length, after = _numbers(data, second, end)
    good &= (length >= 0) & (after == second + 1)  # one byte, as the key has one NUL there
    number = after + length
    good &= number < end
    epoch, tail = _numbers(data, number, end)
    good &= tail < end
    others: list[bytes] = []
    if not good.all():
        chosen = good.tolist()
        others = [value for value, one in zip(values, chosen, strict=True) if not one]
        values = [value for value, one in zip(values, chosen, strict=True) if one]
        if not values:
            return None
        begin, end, device, second, number, epoch, tail = (
            column[good] for column in (begin, end, device, second, number, epoch, tail)
        )
    data[second] = 0  # the length between the ids becomes the key's separator
    first, last = device.tolist(), number.tolist()
    text = joined.decode("latin-1")
    keys = [text[i:j] for i, j in zip(first, last, strict=True)]
    if not all(map(str.isascii, keys)):
        try:
            keys = [joined[i:j].decode() for i, j in zip(first, last, strict=True)]
        except UnicodeDecodeError:
            return None
    raw = bytes(joined)
    device_ids = [raw[i:j] for i, j in zip(first, second.tolist(), strict=True)]
    lengths = set((end - tail).tolist())
    return _Cut(values, keys, device_ids, epoch.tolist(), (tail - begin).tolist(), lengths, others)


def _numbers(data: Bytes, at: Places, end: Places) -> tuple[Places, Places]:
    """Return the Avro numbers that begin at these places, and where each ends.

    A number that is not whole, or has no sense as a length, is -1 and ends beyond its value.
    """
    found, going = np.zeros_like(at), at < end
    for shift in range(0, 63, 7):
        byte = data[np.minimum(at, len(data) - 1)].astype(np.int64)
        found |= np.where(going, (byte & 0x7F) << shift, 0)
        at = at + going
        going = going & (byte >= _MORE)
        if not going.any():
            break
    found = (found >> 1) ^ -(found & 1)
    bad = going | (at > end)
    return np.where(bad, -1, found), np.where(bad, end + 1, at)


def _alike(cut: _Cut, ends: _Ends) -> Iterator[Alike]:
    """Yield rows by their tails."""
    at = cut.tails[0]
    tail = cut.values[0][at:]
    if cut.tail_bytes == {len(tail)} and all(value.endswith(tail) for value in cut.values):
        yield Alike(ends.like(cut.values[0], at), cut.keys, cut.device_ids, cut.epochs)
        return
    groups: dict[bytes, Alike] = {}
    columns = (cut.values, cut.tails, cut.keys, cut.device_ids, cut.epochs)
    for value, at, key, device_id, epoch in zip(*columns, strict=True):
        tail = value[at:]
        group = groups.get(tail)
        if group is None:
            group = groups[tail] = Alike(ends.like(value, at), [], [], [])
        group.keys.append(key)
        group.device_ids.append(device_id)
        group.epochs.append(epoch)
    yield from groups.values()


def _alone(row: ScheduleState) -> Alike:
    key = schedule_key(row.device_id, row.schedule_id)
    return Alike(row, [key], [row.device_id.encode()], [row.epoch])


class _Ends:
    """What stands behind the epoch of a row, by its bytes."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._tails: dict[bytes, ScheduleState] = {}
        self._heads: dict[bytes, ScheduleState] = {}
        self._sizes: dict[int, None] = {}  # lengths of the heads

    def like(self, value: bytes, at: int) -> ScheduleState:
        """Return a row with the tail of ``value`` that begins at ``at``; its ids may be others."""
        tail = value[at:]
        like = self._tails.get(tail)
        if like is None:
            like = self._by_head(tail)
            if like is None:
                like = self._codec.decode_as(value, ScheduleState)
                self._learn(like, at, tail)
            if len(self._tails) >= SHARED_MAX:
                self._tails.clear()
            self._tails[tail] = like
        return like

    def _by_head(self, tail: bytes) -> ScheduleState | None:
        for size in self._sizes:
            known = self._heads.get(tail[:size])
            if known is None:
                continue
            try:
                at, starts_at_ms = _number(tail, size)
                paused = (False, True)[tail[at]]
                at, length = _number(tail, at + 1)
            except IndexError:
                return None
            reason = tail[at : at + length]
            if tail[at + length :] != _COMMON_END:
                return None
            return msgspec.structs.replace(
                known, starts_at_ms=starts_at_ms, paused=paused, pause_reason=reason.decode()
            )
        return None

    def _learn(self, row: ScheduleState, at: int, tail: bytes) -> None:
        """Keep the bytes of spec and policy: the tail without the fields behind them."""
        bare = msgspec.structs.replace(
            row,
            starts_at_ms=0,
            paused=False,
            pause_reason="",
            paused_by="",
            ends_at_ms=None,
            failures_from=0,
        )
        head = self._codec.encode(bare)[at : -len(_AFTER_HEAD)]
        if _HEADS and tail.startswith(head) and (len(head) in self._sizes or self._room()):
            if len(self._heads) >= SHARED_MAX:
                self._heads.clear()
            self._heads[head] = row
            self._sizes[len(head)] = None

    def _room(self) -> bool:
        return len(self._sizes) < SIZES_MAX


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return where the Avro number at ``at`` ends, and the number (zigzag, seven bits a byte)."""
    byte = data[at]
    at += 1
    if byte < _MORE:
        return at, (byte >> 1) ^ -(byte & 1)
    found, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < _MORE:
            return at, (found >> 1) ^ -(found & 1)
        shift += 7
