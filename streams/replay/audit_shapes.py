"""Says of many results at once that they are sound, by laying one that is known over them.

**Theory.** The results of a fleet are alike: the same states and causes, a picture of the same
kind, ids as long as each other. So their fields stand at the same places, and nearly all bytes are
the same or may be any. A **shape** is read from one result, byte by byte: what must be equal (a
state, the size of a text), what must have its top bit as it is (a letter of ASCII, a group of a
number), what may be anything. Then a record is of this shape if ``(bytes ^ shape) & mask`` is zero,
a hundred fields in one operation, and its times stand where they stood in the first. ::

    bytes   0e S U C C E S S 00 02 | 90 b3 ec c4 a5 6a | 02 …
    mask    ff ff … ff ff ff ff ff | 81 80 80 80 80 80 | ff …
                state, cause, try  |   ended_at_ms     |

A checksum has eight to ten bytes, at random, and so what is behind it stands at two or three
places: a shape is cut there into **pieces**, and each begins where the checksum before it ends.

What a shape demands of equal bytes was looked at once, when it was made: the transitions are edges
of the table, hang together, and so on (``audit_columns.py`` says what is checked, and walks what is
of no shape). A test holds all of them together on results that were tampered with at random.

**Cost**, of one core: 0.6 us a result, where a walk takes 2; to learn a shape 60.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from schemas.columns import PAD, SHORT, TIME_BYTES, WORD, ten_bytes, times_at
from streams.core.transition import EXPIRED, FAILED, RUNNING, SUCCESS, TRANSITIONS
from streams.replay.audit_crcs import Numbers, Rest

if TYPE_CHECKING:
    from schemas.columns import Bytes, Flags, Ints, Words

ENDS: Final = (SUCCESS, FAILED, EXPIRED)
MOST_TRANSITIONS: Final = 9
MOST_ITEMS: Final = 4
"""Of a verdict's faults and scores: there are four."""
CRC_LEAST, CRC_MOST = 8, 10
"""Bytes of a checksum; one of 250 is shorter still, and is walked over."""
CHUNK: Final = 1_024
"""Results that are looked at together: what is copied of them stays within the cache."""
_TOP, _SIGN, _ALL, _ANY = 0x80, 0x81, 0xFF, 0x00
_LONGEST: Final = 9
"""Most bytes of a number that may be any: of ten, some are too large."""


class Piece(NamedTuple):
    """Bytes of a record that stand together."""

    size: int
    bytes: Words
    mask: Words
    at_ms: int
    """Where the time of its transition stands; -1: it has none."""


class Shape(NamedTuple):
    """What results may have in common."""

    prefix: int
    """Bytes that are repeated of the command; the first piece begins with them."""
    pieces: tuple[Piece, ...]
    """Behind each but the last is a checksum."""
    rests: tuple[Rest, ...]
    """What the transitions say besides id and time."""
    key: tuple[int, bytes]
    """What tells it from others."""
    size: int
    """Of all pieces."""
    state: str
    ended_ms: int
    """Where it stands in the first piece, as the next two."""
    shutter_ms: int
    """-1: it never opened."""
    image: int
    """-1: there is none."""


class _Layout:
    """Reads one record from left to right, and writes down what others must have alike."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at
        self._bytes, self._mask = bytearray(), bytearray()
        self.size = 0

    def _note(self, size: int, *masks: int) -> bytes:
        found = self._data[self.at : self.at + size]
        if size < 0 or len(found) < size:
            raise ValueError("it ends too early")
        mask = bytes(masks) * size if len(masks) == 1 else bytes(masks)
        self._bytes += bytes([a & b for a, b in zip(found, mask, strict=True)])
        self._mask += mask
        self.at += size
        return found

    def equal(self, size: int) -> bytes:
        """Pass over bytes that must be these."""
        return self._note(size, _ALL)

    def any(self, size: int) -> None:
        """Pass over bytes that may be any."""
        self._note(size, _ANY)

    def small(self) -> int:
        """Read a number from 0 to 63 that must be this one."""
        [byte] = self.equal(1)
        if byte & _SIGN:
            raise ValueError("it is not small")
        return byte >> 1

    def text(self) -> str:
        """Read a short text of ASCII that must be this one."""
        size = self.small()
        if size > SHORT:
            raise ValueError("it is long")
        return self.equal(size).decode("ascii")

    def letters(self, most: int = PAD) -> None:
        """Pass over a text of ASCII that may be any of this size."""
        size = self._number(_ALL)
        if size & 1 or size >> 1 > most or not self._note(size >> 1, _TOP).isascii():
            raise ValueError("it is long, or not ASCII")

    def number(self) -> None:
        """Pass over a number that may be any of as many bytes."""
        self._number(_TOP)

    def _number(self, mask: int) -> int:
        found = 0
        for place in range(_LONGEST):
            [byte] = self._note(1, mask)
            found |= (byte & 0x7F) << 7 * place
            if byte < _TOP:
                return found
        raise ValueError("it is long")

    def time(self) -> int:
        """Pass over a time; return where it stands in the piece."""
        place = len(self._bytes)
        found = self._note(TIME_BYTES, _SIGN, *(_TOP,) * (TIME_BYTES - 1))
        if found[0] & 1 or found[-1] >= _TOP or any(one < _TOP for one in found[:-1]):
            raise ValueError("it is no time")
        return place

    def branch(self) -> bool:
        """Read which branch of a ``["null", X]`` follows."""
        [byte] = self.equal(1)
        if byte not in {0, 2}:
            raise ValueError("there is no such branch")
        return byte == 2

    def cut(self, at_ms: int) -> Piece:
        """Return what was read since the last cut."""
        size = len(self._bytes)
        self.size += size
        # A word is read at each place of a time.
        room = -(-max(size, at_ms + WORD) // WORD) * WORD
        words = [
            np.frombuffer(bytes(one.ljust(room, b"\0")), "<u8") for one in (self._bytes, self._mask)
        ]
        self._bytes, self._mask = bytearray(), bytearray()
        return Piece(size, words[0], words[1], at_ms)

    def crc(self) -> None:
        """Pass over a checksum, which is of no piece."""
        begin = self.at
        while self._data[self.at] >= _TOP:
            self.at += 1
        self.at += 1
        if not CRC_LEAST <= self.at - begin <= CRC_MOST:
            raise ValueError("it is short")


def shape_of(data: bytes, begin: int, prefix: int) -> Shape | None:
    """Return the shape of a result, which begins behind its header; None: it has none here.

    The transitions are sound but for times and checksums, which are each result's own.
    """
    try:
        return _shape_of(data, begin, prefix)
    except (ValueError, IndexError):
        return None


def _shape_of(data: bytes, begin: int, prefix: int) -> Shape | None:
    layout = _Layout(data, begin)
    layout.any(prefix)
    state, cause, attempt = layout.text(), layout.text(), layout.small()
    ended = layout.time()
    shutter = layout.time() if layout.branch() else -1
    image = -1
    if layout.branch():
        image = layout.at - begin
        _over_image(layout)
    if layout.branch():
        layout.any(2 * WORD)
    count = layout.small()
    if state not in ENDS or (state == SUCCESS) != (image >= 0) or not 0 < count <= MOST_TRANSITIONS:
        return None
    pieces, rests, before, tries = [], [], "", 0
    for _ in range(count):
        start, stop = layout.text(), layout.text()
        at_ms, number, why = layout.time(), layout.small(), layout.text()
        tries += stop == RUNNING
        if start != before or (start, stop) not in TRANSITIONS or number != tries:
            return None
        before = stop
        pieces.append(layout.cut(at_ms))
        rests.append(Rest(start, stop, number, why))
        layout.crc()
    if (before, tries, rests[-1].cause) != (state, attempt, cause):
        return None
    if layout.small() != 0:
        return None
    if layout.branch():
        _over_verdict(layout)
    pieces.append(layout.cut(-1))
    behind = layout.size - pieces[0].size + count * CRC_MOST
    if layout.at != len(data) or behind > PAD // 2:
        return None
    key = (prefix, b"".join([part.tobytes() for one in pieces for part in (one.bytes, one.mask)]))
    return Shape(
        prefix, tuple(pieces), tuple(rests), key, layout.size, state, ended, shutter, image
    )


def _over_image(layout: _Layout) -> None:
    layout.letters()  # where it is, and its hash
    layout.letters()
    for _ in range(3):  # bytes, width, height
        layout.number()
    layout.letters()
    for _ in range(2):  # the frame's time, and until when it is kept
        if layout.branch():
            layout.number()
    if layout.small():
        raise ValueError("there are files beside it")


def _over_verdict(layout: _Layout) -> None:
    layout.letters(SHORT)
    for behind in (0, WORD):  # its faults, then its scores
        count = layout.small()
        if count > MOST_ITEMS:
            raise ValueError("they are many")
        for _ in range(count):
            layout.letters(SHORT)
            layout.any(behind)
        if count and layout.small():
            raise ValueError("there is another block")
    layout.letters(SHORT)  # the reason, and whose model it was
    layout.letters(SHORT)


class Matched(NamedTuple):
    """What a shape says of some results."""

    sound: Flags
    """Of this shape, with times in order and checksums that are right."""
    ended_ms: Ints
    shutter_ms: Ints
    """0: it never opened."""


def match(
    shape: Shape, data: Bytes, begin: Ints, end: Ints, command_ids: Ints,
    commands: Bytes, repeated: Ints,
) -> Matched:  # fmt: skip
    """Lay a shape over results that lie in ``data``, behind their headers, up to their ends.

    Each is as long as the shape allows. What they repeat stands in ``commands``, at ``repeated``.
    """
    first = shape.pieces[0]
    records = _copied(data, begin, len(first.mask))
    good = _like(records, first)
    count, left = divmod(shape.prefix, WORD)
    mask = np.full(count + 1, ~np.uint64(0))
    mask[count] = np.uint64((1 << 8 * left) - 1)
    wrong = (_copied(commands, repeated, count + 1) ^ records[:, : count + 1]) & mask
    if wrong.any():
        good &= _none(wrong)
    ended_ms = times_at(records, shape.ended_ms)
    shutter_ms = ended_ms
    if shape.shutter_ms >= 0:
        shutter_ms = times_at(records, shape.shutter_ms)
    ids, last_ms = Numbers(command_ids), None
    at = begin + first.size
    for number, rest in enumerate(shape.rests):
        at_ms = times_at(records, shape.pieces[number].at_ms)
        crc, sizes, is_crc = ten_bytes(_copied(data, at, 2))
        good &= is_crc
        good &= rest.crcs(ids, Numbers(at_ms)) == crc.view(np.uint64)
        if last_ms is not None:
            good &= at_ms >= last_ms
        last_ms, piece = at_ms, shape.pieces[number + 1]
        at = at + sizes
        records = _copied(data, at, len(piece.mask))
        good &= _like(records, piece)
        at = at + piece.size
    good &= (at == end) & (last_ms == ended_ms)
    return Matched(good, ended_ms, shutter_ms if shape.shutter_ms >= 0 else np.zeros_like(ended_ms))


def _copied(data: Bytes, at: Ints, words: int) -> Words:
    """Return as many words from each place on; so many must be there."""
    size = words * WORD
    blocks = np.ndarray((len(data) - size + 1,), f"V{size}", data, 0, (1,))
    return blocks[at].view("<u8").reshape(len(at), words)


def _like(records: Words, piece: Piece) -> Flags:
    """Say which records have the bytes of a piece."""
    wrong = records ^ piece.bytes
    wrong &= piece.mask
    return _none(wrong) if wrong.any() else np.ones(len(records), np.bool_)


def _none(words: Words) -> Flags:
    """Say which rows are zero."""
    found: Flags = np.logical_not(words.any(axis=1))
    return found
