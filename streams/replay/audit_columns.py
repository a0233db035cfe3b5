"""Says of many results at once that they are sound, by walking their bytes in columns.

Nearly all results are sound: what was asked for, with transitions that are legal, in order and as
their checksums say. To see that, no record has to be made: numpy reads a field of all of them
together (``schemas/columns.py``), and a check is one operation for thousands. What does not pass is
decoded and looked at in full (``audit_results.py``): here nothing is found, only seen to be sound.
A test holds the two together on results that were tampered with at random.

**What is checked** is what ``transition.verify`` and the comparison with the command check: the
first seven fields are the command's own bytes; the transitions start from nothing, are edges of the
table, hang together, do not go back in time, and count their attempts; the end is that of the last
one; a picture belongs to SUCCESS; the shutter opened within its bounds. Looked at in full are also
those that are rare: REVOKED ones, long sentences, texts that are not ASCII.

**Checksums in columns.** A CRC is linear: that of (id, time, rest) is that of (0, 0, rest), of the
id, and of the time, each worked out with zeros in place of the others, combined by exclusive or.
Results share their rest (states, attempt, cause) with thousands of others, so it is worked out
once; id and time are look-ups in a table a byte. For example in a batch of 2,000 photos all third
transitions have the rest ``1, RUNNING, SUCCESS, taken``.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from fastcrc import crc64

from schemas.columns import ID_LEAST, MASKS, SHORT, WORD, Batch, Text, Walk, heads, is_ascii, same
from schemas.errors import SchemaError
from schemas.records import CaptureResult, CaptureTimings, ImageRef, QualityVerdict, Transition
from streams.core.transition import EXPIRED, FAILED, RUNNING, SUCCESS, TRANSITIONS
from streams.replay.audit_open import DEADLINE, HEADER, NOT_AFTER, PREFIX, SCHEDULED, START

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.columns import Flags, Ints, Words
    from streams.replay.audit_open import OpenCommands

FIELDS: Final = {
    CaptureResult: (
        "command_id", "device_id", "schedule_id", "request_id", "epoch", "nominal_ms",
        "scheduled_ms", "state", "cause", "attempt", "ended_at_ms", "shutter_at_ms", "image",
        "timings", "transitions", "verdict",
    ),
    ImageRef: (
        "uri", "sha256", "image_bytes", "width_px", "height_px", "format", "frame_at_ms",
        "keep_until_ms", "beside",
    ),
    CaptureTimings: ("grab_ms", "store_ms"),
    QualityVerdict: ("model", "faults", "scores", "reason", "provider"),
    Transition: ("from_state", "to_state", "at_ms", "attempt", "cause", "crc64"),
}  # fmt: skip
"""The order of fields that this module knows."""
MOST_TRANSITIONS: Final = 9
"""Of a result that is looked at here: three attempts."""
MOST_ITEMS: Final = 4
"""Of a verdict's faults and scores: there are four."""
CAUSE_WORDS: Final = SHORT // WORD
RESTS: Final = 64
"""Different (states, attempt, cause) of a place in the list that are worked out for a batch."""
_NUMBERS: Final = Struct(">qqq").pack


def _code(state: str) -> np.uint64:
    """Return the word of a state's name: all have at most seven letters."""
    return np.uint64(int.from_bytes(state.encode(), "little"))


_EDGES: Final = [(_code(a), _code(b)) for a, b in sorted(TRANSITIONS)]
_NAMES: Final = {int(_code(state)): state for edge in TRANSITIONS for state in edge}
_ENDS: Final = {state: _code(state) for state in (SUCCESS, FAILED, EXPIRED)}
_RUNNING, _SUCCESS = _code(RUNNING), _code(SUCCESS)


class Looked(NamedTuple):
    """What was seen of a batch of results."""

    sound: Flags
    states: dict[str, int]
    """Of the sound ones."""
    shutter_ms: Ints
    """0: it never opened."""
    has_image: Flags
    uri: Text
    sha256: Text
    image_bytes: Ints
    keep_until_ms: Ints
    """-1: for ever."""

    def image(self, batch: Batch, row: int) -> ImageRef:
        """Return as much of a picture as is needed to look at it."""
        uri, sha256 = (
            batch.joined[int(text.start[row]) : int(text.start[row] + text.size[row])].decode()
            for text in (self.uri, self.sha256)
        )
        until_ms = int(self.keep_until_ms[row])
        size = int(self.image_bytes[row])
        return ImageRef(uri, sha256, size, 0, 0, "", None, None if until_ms < 0 else until_ms)


class ResultColumns:
    """Looks at results beside the bytes of their commands."""

    def __init__(self) -> None:
        """Raise SchemaError where the fields are not in the order that this module knows."""
        for record, fields in FIELDS.items():
            if record.__struct_fields__ != fields:
                raise SchemaError(f"The fields of {record.__name__} are not those of {__name__}.")

    def ids(self, batch: Batch, header: bytes) -> tuple[Ints, Flags]:
        """Return the ids of records that begin with a header, and which can be looked at."""
        walk = Walk(batch.words, batch.starts, batch.ends)
        word = int.from_bytes(header, "little")
        walk.ok &= batch.words[batch.starts] & MASKS[HEADER] == np.uint64(word)
        walk.skip(HEADER)
        identity = walk.long()
        # An id of nine bytes is in its shortest form, as the command's is that it must equal.
        return identity, walk.ok & (identity >= ID_LEAST)

    def look(
        self, batch: Batch, rows: Ints, command_ids: Ints, slots: Ints, waiting: OpenCommands
    ) -> Looked:
        """Look at the ``rows`` of a batch, which are results of the commands at ``slots``."""
        command = waiting.columns(slots)
        begin, end = batch.starts[rows] + HEADER, batch.ends[rows]
        prefix = np.minimum(command[PREFIX], end - begin)
        repeated = same(batch.words, Text(begin, prefix), waiting.words, command[START] + HEADER)
        walk = Walk(batch.words, begin + prefix, end)
        walk.ok &= repeated & (prefix == command[PREFIX])
        result = _Result(walk, command_ids)
        good = result.ok
        shutter_ms = np.where(result.opened, result.shutter_ms, command[SCHEDULED])
        good &= (command[SCHEDULED] <= shutter_ms) & (shutter_ms <= command[NOT_AFTER])
        good &= result.ended_ms <= command[DEADLINE]
        good &= (result.state == _SUCCESS) == result.pictured
        states = {
            name: count
            for name, code in _ENDS.items()
            if (count := int(np.count_nonzero(good & (result.state == code))))
        }
        return Looked(
            good, states, np.where(result.opened, result.shutter_ms, 0), result.pictured,
            result.uri, result.sha256, result.image_bytes, result.keep_until_ms,
        )  # fmt: skip


class _Result:
    """The fields of results behind those that they repeat of their commands."""

    def __init__(self, walk: Walk, command_ids: Ints) -> None:
        self._ids = command_ids.astype(np.uint64)
        self.state = walk.word()
        self._cause = walk.short()
        self.attempt = walk.small()
        self.ended_ms = walk.time()
        self.opened = walk.branch()
        self.shutter_ms = _where(walk, self.opened, Walk.time)
        self._image(walk)
        timed = walk.branch()
        _where(walk, timed, _over_timings)
        self._count = walk.small()
        self.ok = walk.ok & (self._count > 0) & (self._count <= MOST_TRANSITIONS)
        self.ok &= np.logical_or.reduce([self.state == code for code in _ENDS.values()])
        self._cause_words = heads(walk.words, self._cause, CAUSE_WORDS)
        for count in sorted(set(self._count[self.ok].tolist())):
            [rows] = np.nonzero(self.ok & (self._count == count))
            self.ok[rows] &= self._transitions(walk.of(rows), rows, count)

    def _image(self, walk: Walk) -> None:
        """Read the picture, where there is one."""
        count = len(walk.at)
        self.pictured = walk.branch()
        zero = np.zeros(count, np.int64)
        self.uri, self.sha256 = Text(zero, zero.copy()), Text(zero.copy(), zero.copy())
        self.image_bytes, self.keep_until_ms = zero.copy(), zero - 1
        [rows] = np.nonzero(self.pictured & walk.ok)
        if not len(rows):
            return
        some = walk.of(rows)
        uri, sha256 = some.text(), some.text()
        size = some.long()
        some.long()
        some.long()
        form = some.text()
        _where(some, some.branch(), Walk.long)
        kept = some.branch()
        until_ms = _where(some, kept, Walk.long)
        some.ok &= some.small() == 0  # with files beside it, it is looked at one by one
        for text in (uri, sha256, form):
            some.ok &= is_ascii(some.words, text)
        for mine, theirs in ((self.uri, uri), (self.sha256, sha256)):
            mine.start[rows], mine.size[rows] = theirs
        self.image_bytes[rows] = size
        self.keep_until_ms[rows] = np.where(kept, until_ms, -1)
        walk.at[rows], walk.ok[rows] = some.at, some.ok

    def _transitions(self, walk: Walk, rows: Ints, count: int) -> Flags:
        """Say which lists of ``count`` transitions are sound, up to the record's end."""
        words = walk.words
        state: Words = np.zeros(len(rows), np.uint64)
        attempt, last_ms = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        ids, cause = self._ids[rows], Text(last_ms, last_ms)
        cause_words: list[Words] = []
        for _ in range(count):
            before, after = walk.word(), walk.word()
            at_ms, number, cause, crc = walk.time(), walk.small(), walk.short(), walk.long()
            legal: Flags = np.zeros(len(rows), np.bool_)
            for edge in _EDGES:
                legal |= (before == edge[0]) & (after == edge[1])
            attempt = attempt + (after == _RUNNING)
            walk.ok &= legal & (before == state) & (at_ms >= last_ms) & (number == attempt)
            cause_words = heads(words, cause, CAUSE_WORDS)
            numbers = (number.astype(np.uint64), cause.size.astype(np.uint64))
            rest = np.stack([before, after, *numbers, *cause_words])
            walk.ok &= _crcs_match(walk.ok, ids, at_ms.astype(np.uint64), rest, crc)
            state, last_ms = after, at_ms
        walk.ok &= (state == self.state[rows]) & (attempt == self.attempt[rows])
        walk.ok &= (last_ms == self.ended_ms[rows]) & (cause.size == self._cause.size[rows])
        for mine, theirs in zip(cause_words, self._cause_words, strict=True):
            walk.ok &= mine == theirs[rows]
        walk.ok &= walk.small() == 0  # the end of the list
        judged = walk.branch()
        _where(walk, judged, _over_verdict)
        return walk.whole()


def _where(walk: Walk, flags: Flags, step: Callable[[Walk], Ints]) -> Ints:
    """Let some of the records take a step; return what each read, 0 for the others."""
    if flags.all():
        return step(walk)
    found = np.zeros(len(flags), np.int64)
    [rows] = np.nonzero(flags)
    if len(rows):
        some = walk.of(rows)
        found[rows] = step(some)
        walk.at[rows], walk.ok[rows] = some.at, some.ok
    return found


def _over_verdict(walk: Walk) -> Ints:
    """Pass over what was said of a photo: nothing of it is compared."""
    _over_text(walk)
    _over_block(walk, _over_text)
    _over_block(walk, _over_score)
    _over_text(walk)
    return _over_text(walk)


def _over_text(walk: Walk) -> Ints:
    walk.ok &= is_ascii(walk.words, walk.short())
    return walk.at


def _over_score(walk: Walk) -> Ints:
    _over_text(walk)
    walk.skip(WORD)
    return walk.at


def _over_block(walk: Walk, item: Callable[[Walk], Ints]) -> None:
    """Pass over an array or map of a few items, in one block."""
    count = walk.small()
    walk.ok &= count <= MOST_ITEMS
    for number in range(MOST_ITEMS):
        more = walk.ok & (count > number)
        if not more.any():
            break
        _where(walk, more, item)
    some = count > 0
    walk.ok &= ~some | (_where(walk, some, Walk.small) == 0)


def _over_timings(walk: Walk) -> Ints:
    walk.skip(2 * 8)
    return walk.at


# --- checksums ------------------------------------------------------------------------------------


def _crcs_match(asked: Flags, ids: Words, times: Words, rest: Words, crcs: Ints) -> Flags:
    """Say which transitions have the checksum that they must have.

    ``rest``: words that tell states, attempt and cause, a column each transition.
    """
    good: Flags = np.zeros(len(asked), np.bool_)
    [left] = np.nonzero(asked)
    for _ in range(RESTS):
        if not len(left):
            break
        one = rest[:, left[0]]
        some = rest if len(left) == rest.shape[1] else rest[:, left]
        alike = (some == one[:, None]).all(axis=0)
        rows, left = left[alike], left[~alike]
        before, after, attempt, size, *words = one.tolist()
        cause = b"".join([word.to_bytes(8, "little") for word in words])[:size]
        if not cause.isascii():
            continue
        text = f"{_NAMES[before]}\0{_NAMES[after]}\0".encode() + cause
        made = np.uint64(crc64.xz(_NUMBERS(0, 0, attempt) + text))
        shares = _share(_table(len(text) + 16), ids[rows])
        shares ^= _share(_table(len(text) + 8), times[rows])
        good[rows] = (shares ^ made) == crcs[rows].astype(np.uint64)
    return good


def _share(table: Words, numbers: Words) -> Words:
    """Return what big-endian numbers add to a checksum."""
    found: Words = np.zeros(len(numbers), np.uint64)
    for place in range(8):
        found ^= table[place][(numbers >> np.uint64(56 - 8 * place)) & np.uint64(0xFF)]
    return found


@lru_cache(maxsize=512)
def _table(behind: int) -> Words:
    """Return what each value of each of eight bytes adds, with ``behind`` bytes behind them."""
    nothing = crc64.xz(bytes(8 + behind))
    found: Words = np.zeros((8, 256), np.uint64)
    values = np.arange(256)
    for place in range(8):
        for bit in range(8):
            data = bytes(place) + bytes((1 << bit,)) + bytes(7 - place + behind)
            found[place, (values >> bit) & 1 == 1] ^= np.uint64(crc64.xz(data) ^ nothing)
    return found
