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

**Two ways**: most results are like others, and are seen to be so at once (``audit_shapes.py``);
what is left is walked, field by field.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from schemas.columns import ID_LEAST, MASKS, SHORT, WORD, Batch, Text, Walk, heads, is_ascii, same
from schemas.errors import SchemaError
from schemas.records import CaptureResult, CaptureTimings, ImageRef, QualityVerdict, Transition
from streams.core.transition import RUNNING, SUCCESS, TRANSITIONS
from streams.replay.audit_crcs import Numbers, Rest
from streams.replay.audit_open import DEADLINE, HEADER, NOT_AFTER, PREFIX, SCHEDULED, START
from streams.replay.audit_shapes import (
    CHUNK,
    CRC_LEAST,
    CRC_MOST,
    ENDS,
    MOST_ITEMS,
    MOST_TRANSITIONS,
    match,
    shape_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.columns import Flags, Ints, Words
    from streams.replay.audit_open import OpenCommands
    from streams.replay.audit_shapes import Shape

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
CAUSE_WORDS: Final = SHORT // WORD
SHAPES: Final = 12
"""Shapes that are remembered."""
NEW: Final = 4
"""Shapes that are learned of a batch at most."""
FEWEST: Final = 64
"""Fewer results are walked sooner than a shape of theirs is learned."""
RESTS: Final = 64
"""Different (states, attempt, cause) of a place in the list that are worked out for a batch."""


def _code(state: str) -> np.uint64:
    """Return the word of a state's name: all have at most seven letters."""
    return np.uint64(int.from_bytes(state.encode(), "little"))


_EDGES: Final = [(_code(a), _code(b)) for a, b in sorted(TRANSITIONS)]
_NAMES: Final = {int(_code(state)): state for edge in TRANSITIONS for state in edge}
_ENDS: Final = {state: _code(state) for state in ENDS}
_RUNNING, _SUCCESS = _code(RUNNING), _code(SUCCESS)


class Looked(NamedTuple):
    """What was seen of a batch of results."""

    sound: Flags
    states: dict[str, int]
    """Of the sound ones."""
    shutter_ms: Ints
    """0: it never opened."""
    image: Ints
    """Where the picture begins in the batch, of those that are sound; -1: there is none."""

    def images(self, batch: Batch, rows: Ints) -> list[ImageRef]:
        """Return as much of the pictures of some rows, which have one, as is needed to look."""
        walk = Walk(batch.words, self.image[rows], batch.ends[-1:].repeat(len(rows)))
        uri, sha256, size, kept = _over_image(walk)
        texts = [
            [
                batch.joined[start : start + length].decode()
                for start, length in zip(*text, strict=True)
            ]
            for text in ([column.tolist() for column in one] for one in (uri, sha256))
        ]
        return [
            ImageRef(name, digest, count, 0, 0, "", None, None if until_ms < 0 else until_ms)
            for name, digest, count, until_ms in zip(
                *texts, size.tolist(), kept.tolist(), strict=True
            )
        ]


class ResultColumns:
    """Looks at results beside the bytes of their commands."""

    def __init__(self) -> None:
        """Raise SchemaError where the fields are not in the order that this module knows."""
        for record, fields in FIELDS.items():
            if record.__struct_fields__ != fields:
                raise SchemaError(f"The fields of {record.__name__} are not those of {__name__}.")
        self._shapes: deque[Shape] = deque(maxlen=SHAPES)

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
        count = len(rows)
        seen = Looked(
            np.zeros(count, np.bool_), {}, np.zeros(count, np.int64), np.full(count, -1, np.int64)
        )
        work = _Work(batch, begin, end, command_ids, command, waiting)
        left = np.arange(count)
        for shape in list(self._shapes):
            left = _lay(shape, work, left, seen)
        for number in range(NEW):
            if len(left) < FEWEST:
                break
            one = left[len(left) * number // NEW]
            data = batch.joined[int(begin[one]) : int(end[one])]
            learned = shape_of(data, 0, int(command[PREFIX, one]))
            if learned is None or any(learned.key == shape.key for shape in self._shapes):
                continue  # it is odd, or of a shape and not sound
            self._shapes.appendleft(learned)
            left = _lay(learned, work, left, seen)
        if len(left):
            _walk(work, left, seen)
        return seen


class _Work(NamedTuple):
    """Results to be looked at, and what is known of their commands."""

    batch: Batch
    begin: Ints
    """Behind their headers."""
    end: Ints
    command_ids: Ints
    command: Ints
    """Columns of the commands."""
    waiting: OpenCommands


def _lay(shape: Shape, work: _Work, left: Ints, seen: Looked) -> Ints:
    """Lay a shape over those that are left and may have it; return those that are left then."""
    crcs = (work.end[left] - work.begin[left]) - shape.size
    least, most = CRC_LEAST * len(shape.rests), CRC_MOST * len(shape.rests)
    fits = (crcs >= least) & (crcs <= most) & (work.command[PREFIX, left] == shape.prefix)
    every = left[fits]
    if not len(every):
        return left
    for at in range(0, len(every), CHUNK):
        some = every[at : at + CHUNK]
        command = work.command[:, some]
        found = match(
            shape, work.batch.data, work.begin[some], work.end[some], work.command_ids[some],
            work.waiting.data, command[START] + HEADER,
        )  # fmt: skip
        good = found.sound & (found.ended_ms <= command[DEADLINE])
        if shape.shutter_ms >= 0:
            good &= (command[SCHEDULED] <= found.shutter_ms) & (
                found.shutter_ms <= command[NOT_AFTER]
            )
        seen.sound[some] = good
        seen.shutter_ms[some] = found.shutter_ms
        if shape.image >= 0:
            seen.image[some] = work.begin[some] + shape.image
    sound = seen.sound[every]
    if taken := int(np.count_nonzero(sound)):
        seen.states[shape.state] = seen.states.get(shape.state, 0) + taken
    fits[fits] = sound
    rest: Ints = left[np.logical_not(fits)]
    return rest


def _walk(work: _Work, left: Ints, seen: Looked) -> None:
    """Look at results of which no shape says that they are sound."""
    command, begin, end = work.command[:, left], work.begin[left], work.end[left]
    words, others = work.batch.words, work.waiting.words
    prefix = np.minimum(command[PREFIX], end - begin)
    repeated = same(words, Text(begin, prefix), others, command[START] + HEADER)
    walk = Walk(words, begin + prefix, end)
    walk.ok &= repeated & (prefix == command[PREFIX])
    result = _Result(walk, work.command_ids[left])
    good = result.ok
    shutter_ms = np.where(result.opened, result.shutter_ms, command[SCHEDULED])
    good &= (command[SCHEDULED] <= shutter_ms) & (shutter_ms <= command[NOT_AFTER])
    good &= result.ended_ms <= command[DEADLINE]
    good &= (result.state == _SUCCESS) == result.pictured
    for name, code in _ENDS.items():
        if count := int(np.count_nonzero(good & (result.state == code))):
            seen.states[name] = seen.states.get(name, 0) + count
    seen.sound[left] = good
    seen.shutter_ms[left] = np.where(result.opened, result.shutter_ms, 0)
    seen.image[left] = np.where(good, result.image, -1)


class _Result:
    """The fields of results behind those that they repeat of their commands."""

    def __init__(self, walk: Walk, command_ids: Ints) -> None:
        self._ids = command_ids
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
        self.pictured = walk.branch()
        self.image: Ints = np.full(len(walk.at), -1, np.int64)
        [rows] = np.nonzero(self.pictured & walk.ok)
        if not len(rows):
            return
        some = walk.of(rows)
        self.image[rows] = some.at
        _over_image(some)
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
            walk.ok &= _crcs_match(walk.ok, ids, at_ms, rest, crc)
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


def _over_image(walk: Walk) -> tuple[Text, Text, Ints, Ints]:
    """Read where a picture is, its hash, its bytes, and until when it is kept; -1: for ever."""
    uri, sha256 = walk.text(), walk.text()
    size = walk.long()
    walk.long()
    walk.long()
    form = walk.text()
    _where(walk, walk.branch(), Walk.long)
    kept = walk.branch()
    until_ms = np.where(kept, _where(walk, kept, Walk.long), -1)
    walk.ok &= walk.small() == 0  # with files beside it, it is looked at one by one
    for text in (uri, sha256, form):
        walk.ok &= is_ascii(walk.words, text)
    return uri, sha256, size, until_ms


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


def _crcs_match(asked: Flags, ids: Ints, times: Ints, rest: Words, crcs: Ints) -> Flags:
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
        said = Rest(_NAMES[before], _NAMES[after], attempt, cause.decode("ascii"))
        made = said.crcs(Numbers(ids[rows]), Numbers(times[rows]))
        good[rows] = made == crcs[rows].view(np.uint64)
    return good
