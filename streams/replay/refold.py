"""The past computed again: a partition's ticks, folded as the timing wheel folded them.

A tick holds all that a decision rests on, so the fold needs nothing but the ticks from the log's
beginning on. :func:`start_state` is the one place that says where a fold begins: with the state
that the last snapshot wrote down (``start.py``), else at the beginning. A log whose beginning is
gone and that has no such snapshot is refused, as whatever a fold made of the rest would be wrong.

A :class:`Refold` keeps the rows that the ticks wrote beside the state. By them it can be
**forked**: two folds go on from one moment, one under the rules as they were and one under others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import UsageError
from schemas.records import (
    DeviceFacts,
    PartitionSnapshot,
    RequestState,
    ScheduleState,
    ScheduleTick,
    ShardState,
)
from streams.core.policy import MAX_TOLERANCE_MS
from streams.core.schedule import MAX_LEAD_MS
from streams.core.shard import PartitionState, advance
from streams.replay.start import Began, Starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from schemas.codec import Codec
    from schemas.records import Record
    from streams.core.shard import Outputs
    from streams.replay.log import Log
    from streams.replay.start import ReadRows, Start

TICKS: Final = "schedule.ticks"
AHEAD_MS: Final = MAX_LEAD_MS + MAX_TOLERANCE_MS
"""How long before a time a fold begins at the latest: commands go out so far ahead of theirs, by
their lead, and before capacity has moved them."""

Rows = dict[tuple[str, bytes], "Record"]
"""What stands in the tables, by table and key."""


class Refold:
    """A partition's state, the rows it was made of, and how far it has come."""

    def __init__(self, partition: int, partitions: int, *, keep_rows: bool = True) -> None:
        """Begin with nothing; without ``keep_rows`` it cannot be forked, and needs less memory."""
        self.state = PartitionState(partition, partitions)
        self.ticks = 0
        self.began = Began(partition, 0)
        self.events_end = 0
        """The offset in schedule.events after the last change that was folded."""
        self._rows: Rows | None = {} if keep_rows else None

    @property
    def rows(self) -> Rows:
        """The rows; only where they are kept."""
        if self._rows is None:
            raise ValueError("the rows of this fold are not kept")
        return self._rows

    def apply(self, tick: ScheduleTick) -> Outputs:
        """Fold one tick."""
        outputs = advance(self.state, tick)
        self.ticks += 1
        if tick.changes:
            self.events_end = max(self.events_end, tick.changes[-1].offset + 1)
        rows = self._rows
        if rows is not None:
            for key, row in outputs.rows.items():
                if row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = row
        return outputs

    def fork(self) -> Refold:
        """Return a fold that goes on from here by itself, made of the rows as a worker makes it."""
        found = Refold(self.state.partition, self.state.partitions)
        found.ticks, found.began, found.events_end = self.ticks, self.began, self.events_end
        found._rows = dict(self.rows)
        _load(found.state, self.rows.values())
        return found

    def begin(self, start: Start) -> None:
        """Take the state that a snapshot wrote down. ValueError: a row belongs elsewhere."""
        self.began = start.began
        if start.snapshot is None:
            return
        _load(self.state, start.rows.values())
        self.events_end = start.snapshot.events_offset
        if self._rows is not None:
            self._rows.update(start.rows)


def _load(state: PartitionState, rows: Iterable[Record]) -> None:
    schedules: list[ScheduleState] = []
    shards: list[ShardState] = []
    requests: list[RequestState] = []
    facts: list[DeviceFacts] = []
    for row in rows:
        if isinstance(row, ScheduleState):
            schedules.append(row)
        elif isinstance(row, ShardState):
            shards.append(row)
        elif isinstance(row, RequestState):
            requests.append(row)
        elif isinstance(row, DeviceFacts):
            facts.append(row)
    state.load(schedules, shards, requests, facts)


class Tick(NamedTuple):
    """A tick and where it stands."""

    offset: int
    tick: ScheduleTick


def ticks_of(
    log: Log, partition: int, codec: Codec, first: int, until_ms: int, end: int | None = None
) -> Iterator[Tick]:
    """Yield the ticks of a partition from an offset on, of times before ``until_ms``.

    ``end``: the offset at which to end in any case; null: that of the log as of now.
    """
    end = log.ends(TICKS)[partition] if end is None else end
    snapshot = codec.header(PartitionSnapshot)
    for batch in log.read(TICKS, partition, first, end):
        for entry in batch:
            if entry.value is not None and entry.value.startswith(snapshot):
                continue
            tick = codec.decode_as(entry.value or b"", ScheduleTick)
            if tick.time_ms >= until_ms:
                return
            yield Tick(entry.offset, tick)


def start_state(
    log: Log,
    partition: int,
    codec: Codec,
    at_ms: int,
    *,
    keep_rows: bool = True,
    read_rows: ReadRows | None = None,
    ahead_ms: int = AHEAD_MS,
) -> tuple[Refold, int]:
    """Return a fold that stands at a tick before ``at_ms``, and the offset of the next tick.

    How far before is nobody's business: whoever asks folds on to where it wants to be. It is at
    least ``ahead_ms`` (more than 0) where it is not the beginning: by default so long that all
    commands for times from ``at_ms`` on are made on the way. Raises :class:`UsageError` where the
    log does not reach back to its first tick, and no snapshot can be read.
    """
    fold = Refold(partition, log.partitions(TICKS), keep_rows=keep_rows)
    end = log.offset_at(TICKS, partition, max(at_ms, 0))
    start = Starts(log, codec, partition, read_rows).at(at_ms - ahead_ms, end)
    if start.snapshot is None and log.firsts(TICKS)[partition] > 0:
        raise UsageError(
            f"The first {start.began.tick_offset:,} offsets of {TICKS}, partition {partition}, are"
            f" not kept any more, and what stood at {at_ms} ms cannot be worked out without them:"
            f" {'; '.join(start.began.passed_over)}. Replay an archive that has them, or name the"
            " blob store that has the wheel's snapshots."
        )
    fold.begin(start)
    return fold, start.began.tick_offset


def fold_to(
    log: Log,
    partition: int,
    codec: Codec,
    at_ms: int,
    seen: Callable[[ScheduleTick, Outputs], None] | None = None,
    *,
    keep_rows: bool = True,
    read_rows: ReadRows | None = None,
    ahead_ms: int = AHEAD_MS,
) -> tuple[Refold, int]:
    """Return a fold that has had every tick before ``at_ms``, and the offset after the last one.

    ``seen`` is told of each tick that was folded on the way: at least of those of ``ahead_ms``,
    where the log has them.
    """
    fold, following = start_state(
        log, partition, codec, at_ms, keep_rows=keep_rows, read_rows=read_rows, ahead_ms=ahead_ms
    )
    for offset, tick in ticks_of(log, partition, codec, following, at_ms):
        outputs = fold.apply(tick)
        following = offset + 1
        if seen is not None:
            seen(tick, outputs)
    return fold, following
