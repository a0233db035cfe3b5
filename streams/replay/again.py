"""The same log gives the same bytes: ticks folded again, and laid beside what was written then.

Each tick of the range is folded, its commands and decisions are encoded, and each must be the next
record of capture.commands and schedule.decisions, byte for byte. One that was written by a release
with another schema cannot be: it is read, and must be equal field by field, what it did not have
being the default; these are counted. The three topics are read side by side, so memory does not
grow with the range.

Where a range begins in capture.commands is told by the records: a command names the time of the
tick that issued it, and a partition's ticks never go back in time. Refusals of events that were
never in a tick (bytes that are no event) stand among the decisions: they are counted apart.

The answer is a count and one SHA-256 of each partition, over commands as today's schema has them::

    for each record: length (four bytes, big-endian), Avro bytes without the wire format's five

and of all partitions, the SHA-256 over theirs in order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.codec import HEADER_BYTES
from schemas.records import CaptureCommand, Refused
from streams.core import tz
from streams.core.recurrence import TZ_VERSION
from streams.replay.refold import fold_to, ticks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schemas.codec import Codec
    from schemas.records import Record, ScheduleTick
    from streams.core.shard import Outputs
    from streams.replay.log import Entry, Log
    from streams.replay.played import Player
    from streams.replay.refold import Refold
    from streams.replay.start import Began, ReadRows

COMMANDS: Final = "capture.commands"
DECISIONS: Final = "schedule.decisions"
SEARCH_MS: Final = 600_000
"""How much earlier than its tick a record is looked for: clocks of writer and broker differ."""
SLACK_MS: Final = 60_000
"""Records of one topic are in the order of their ticks, but for refusals, by less than this."""
TELL_TICKS: Final = 1_000
"""How often progress is told."""


@dataclass(slots=True)
class Difference:
    """The first record that is not what the fold makes."""

    topic: str
    tick_offset: int
    tick_time_ms: int
    offset: int | None
    """Where the other record stands; null: there is none."""
    folded: str
    """The fold's, in words; empty: it makes none."""
    found: str


@dataclass(slots=True)
class Again:
    """What became of one partition."""

    partition: int
    ticks: int = 0
    """Of the range."""
    before: int = 0
    """Those before it that were folded, from the snapshot or the log's beginning on."""
    began: Began | None = None
    changes: int = 0
    commands: int = 0
    decisions: int = 0
    other_schema: int = 0
    """Commands and decisions that another release wrote, compared field by field."""
    bad_events: int = 0
    """Refusals of events that were never in a tick."""
    sha256: str = ""
    """Over the commands of the fold."""
    sha256_found: str = ""
    """Over those of capture.commands: equal, if all is well."""
    other_tz: set[str] = field(default_factory=set)
    """Versions of the time zone data in the ticks that are not at hand: folded with ours."""
    kept_from_ms: int | None = None
    """Commands of ticks up to here are not kept any more and were not compared."""
    difference: Difference | None = None


class _Written:
    """The records of one topic and partition, one after the other."""

    def __init__(self, log: Log, topic: str, partition: int, codec: Codec, from_ms: int) -> None:
        self._log, self.topic, self._partition, self._codec = log, topic, partition, codec
        self._next = log.offset_at(topic, partition, from_ms - SEARCH_MS)
        self._batch: Sequence[Entry] = ()
        self._at = 0
        self._batches: Iterator[list[Entry]] = iter(())
        self._asked = False
        self._digest = hashlib.sha256()

    def peek(self) -> Entry | None:
        """Return the next record; null: there is none, even if asked once more."""
        while self._at >= len(self._batch):
            batch = next(self._batches, None)
            if batch is not None:
                self._batch, self._at = batch, 0
                continue
            end = self._log.ends(self.topic)[self._partition]
            if end <= self._next:
                return None
            # What was cut is over: ticks may have been read since that are younger than the cut.
            self._batches = self._log.read(self.topic, self._partition, self._next, end)
            self._next = end
        return self._batch[self._at]

    def pass_over(self) -> None:
        """Leave the next record out."""
        self._at += 1

    def take(self, value: bytes) -> None:
        """Count the next record in, which is ``value`` in today's bytes."""
        _count(self._digest, value)
        self._at += 1

    def read(self, entry: Entry) -> Record:
        """Return what an entry holds."""
        return self._codec.decode(entry.value or b"")

    def hexdigest(self) -> str:
        """Return the hash of all that was taken."""
        return self._digest.hexdigest()

    def skip_to(self, from_ms: int) -> None:
        """Leave out what ticks before ``from_ms`` gave."""
        while self.peek() is not None:
            if time_of(self.read(self._batch[-1])) >= from_ms - SLACK_MS:
                break
            self._at = len(self._batch)
        while (entry := self.peek()) is not None and time_of(self.read(entry)) < from_ms:
            self.pass_over()


def time_of(record: Record) -> int:
    """Return the time of the tick that gave a command or a decision."""
    if isinstance(record, CaptureCommand):
        return record.issued_at_ms
    found = getattr(record, "tick_time_ms", None)
    if not isinstance(found, int):
        raise TypeError(f"a {type(record).__name__} is no output of a tick")
    return found


def _count(digest: hashlib._Hash, value: bytes) -> None:
    body = value[HEADER_BYTES:]
    digest.update(len(body).to_bytes(4, "big"))
    digest.update(body)


def fold_again(
    log: Log,
    partition: int,
    codec: Codec,
    from_ms: int,
    to_ms: int,
    tell: Callable[[int, int], None] = lambda _ticks, _time_ms: None,
    player: Player | None = None,
    read_rows: ReadRows | None = None,
) -> Again:
    """Fold the ticks with ``from_ms`` <= time < ``to_ms`` and compare their outputs.

    It begins with the last snapshot before whose rows can be read, by ``read_rows``. ``tell`` is
    told now and then how many ticks were folded since, and the time of the last one;
    ``player`` is given the range's commands. It ends at the first difference.
    """
    found = Again(partition)
    fold, following = _fold_before(log, partition, codec, from_ms, tell, read_rows)
    found.before, found.began = fold.ticks, fold.began
    from_ms = max(from_ms, _kept_from(log, partition, codec, found))
    commands = _Written(log, COMMANDS, partition, codec, from_ms)
    decisions = _Written(log, DECISIONS, partition, codec, from_ms)
    commands.skip_to(from_ms)
    decisions.skip_to(from_ms)
    folded = hashlib.sha256()
    for offset, tick in ticks_of(log, partition, codec, following, to_ms):
        if tick.tz_version != TZ_VERSION and tz.why_not(fold.state, tick):
            found.other_tz.add(tick.tz_version)
        outputs = fold.apply(tick)
        if tick.time_ms < from_ms:
            continue
        found.ticks += 1
        found.changes += len(tick.changes)
        if found.ticks % TELL_TICKS == 0:
            tell(TELL_TICKS, tick.time_ms)
        if player is not None:
            player.take(outputs.commands, tick.time_ms)
        for command in outputs.commands:
            value = codec.encode(command)
            _count(folded, value)
            found.commands += 1
            if not _is_next(commands, value, command, found):
                found.difference = _differs(commands, offset, tick, command)
                break
        for decision in outputs.decisions if found.difference is None else ():
            found.decisions += 1
            if not _is_next_decision(decisions, codec.encode(decision), decision, found):
                found.difference = _differs(decisions, offset, tick, decision)
                break
        if found.difference is not None:
            break
    else:
        _look_behind(commands, to_ms, fold, found)
    tell(found.ticks % TELL_TICKS, to_ms)
    found.sha256, found.sha256_found = folded.hexdigest(), commands.hexdigest()
    return found


def _fold_before(
    log: Log,
    partition: int,
    codec: Codec,
    from_ms: int,
    tell: Callable[[int, int], None],
    read_rows: ReadRows | None,
) -> tuple[Refold, int]:
    waiting = 0

    def seen(tick: ScheduleTick, _outputs: Outputs) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == TELL_TICKS:
            tell(waiting, tick.time_ms)
            waiting = 0

    answer = fold_to(
        log, partition, codec, from_ms, seen, keep_rows=False, read_rows=read_rows, ahead_ms=1
    )
    tell(waiting, from_ms)
    return answer


def _kept_from(log: Log, partition: int, codec: Codec, found: Again) -> int:
    """Return from which tick time on commands and decisions are kept as a whole; 0: all are."""
    kept_ms = 0
    for topic in (COMMANDS, DECISIONS):
        first = log.firsts(topic)[partition]
        if not first:
            continue
        written = _Written(log, topic, partition, codec, 0)
        entry = written.peek()
        if entry is not None:
            kept_ms = max(kept_ms, time_of(written.read(entry)) + 1)
            found.kept_from_ms = kept_ms
    return kept_ms


def _is_next(written: _Written, value: bytes, record: Record, found: Again) -> bool:
    """Say whether a record comes next, and if so, count it in."""
    entry = written.peek()
    if entry is None or entry.value is None:
        return False
    if entry.value[:HEADER_BYTES] == value[:HEADER_BYTES]:
        if entry.value != value:
            return False
    elif written.read(entry) == record:
        found.other_schema += 1
    else:
        return False
    written.take(value)
    return True


def _is_next_decision(written: _Written, value: bytes, record: Record, found: Again) -> bool:
    """Say whether a decision comes next, but for refusals of what never came into a tick."""
    while not _is_next(written, value, record, found):
        entry = written.peek()
        if entry is None or not isinstance(written.read(entry), Refused):
            return False
        found.bad_events += 1
        written.pass_over()
    return True


def _differs(written: _Written, offset: int, tick: ScheduleTick, folded: Record) -> Difference:
    entry = written.peek()
    return Difference(
        written.topic,
        offset,
        tick.time_ms,
        None if entry is None else entry.offset,
        repr(folded),
        "" if entry is None else repr(written.read(entry)),
    )


def _look_behind(commands: _Written, to_ms: int, fold: Refold, found: Again) -> None:
    """Find a command of the range behind those that the fold made."""
    entry = commands.peek()
    if entry is None:
        return
    record = commands.read(entry)
    # One of the last tick's time may be of a tick that was made after the log was cut.
    if time_of(record) < min(to_ms, fold.state.time_ms):
        found.difference = Difference(
            commands.topic, -1, time_of(record), entry.offset, "", repr(record)
        )


def sha256_of_all(parts: Sequence[Again], *, found: bool = False) -> str:
    """Return one hash of all partitions, of the folds or of what was found."""
    digest = hashlib.sha256()
    for part in sorted(parts, key=lambda one: one.partition):
        digest.update(bytes.fromhex(part.sha256_found if found else part.sha256))
    return digest.hexdigest()
