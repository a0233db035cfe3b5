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

Cost (CPython 3.11, shared core): 0.9 us a row where tails repeat, 2.5 us where starts differ, 12 us
where all do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from schemas.codec import HEADER_BYTES
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleState
from streams.core.schedule_table import Alike, schedule_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schemas.codec import Codec

BATCH_ROWS: Final = 16_384
"""The most rows that wait to be handed on."""
SHARED_MAX: Final = 65_536
"""The most tails and heads kept; then the collection starts anew."""
SIZES_MAX: Final = 32
"""The most lengths of heads that are looked for: each look costs 0.1 us."""
_MORE: Final = 0x80
"""The bit of a byte of a number that says that another byte follows."""
_SECOND: Final = HEADER_BYTES + 1
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
    ends = _Ends(codec)
    groups: dict[bytes, Alike] = {}
    waiting, tail = BATCH_ROWS, b""
    device_id, key, epoch = b"", "", 0
    add_device, add_key, add_epoch = _adders(_alone(_ANY))
    for value in values:
        try:
            # Lengths below 64 are one byte, twice the length: as a rule both are.
            size = value[HEADER_BYTES]
            at, size = (_SECOND, size >> 1) if size < _MORE else _number(value, HEADER_BYTES)
            end = at + size
            device_id = value[at:end]
            size = value[end]
            at, size = (end + 1, size >> 1) if size < _MORE else _number(value, end)
            end = at + size
            key = (device_id + b"\0" + value[at:end]).decode()
            byte = value[end]
            at, epoch = (end + 1, byte >> 1) if not byte & 0x81 else _number(value, end)
        except (IndexError, UnicodeDecodeError):
            at = len(value)  # the codec says what is wrong
        if at >= len(value) or not value.startswith(today):
            yield _alone(codec.decode_as(value, ScheduleState))
            continue
        if value[at:] != tail:
            tail = value[at:]
            group = groups.get(tail)
            if group is None:
                group = groups[tail] = Alike(ends.like(value, at), [], [], [])
            add_device, add_key, add_epoch = _adders(group)
        add_device(device_id)
        add_key(key)
        add_epoch(epoch)
        waiting -= 1
        if not waiting:
            yield from groups.values()
            groups.clear()
            tail, waiting = b"", BATCH_ROWS
    yield from groups.values()


def _adders(
    group: Alike,
) -> tuple[Callable[[bytes], None], Callable[[str], None], Callable[[int], None]]:
    return group.device_ids.append, group.keys.append, group.epochs.append


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
