"""The past computed again: a partition's ticks, folded as the timing wheel folded them.

A tick holds all that a decision rests on, so the fold needs nothing but the ticks from the log's
beginning on. :func:`start_state` is the one place that says where a fold begins: at the beginning
today, and it refuses a log whose beginning is gone, as whatever it made of the rest would be
wrong. A state that was written down on the way can take that place.

A :class:`Refold` keeps the rows that the ticks wrote beside the state. By them it can be
**forked**: two folds go on from one moment, one under the rules as they were and one under others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import UsageError
from schemas.records import (
    DeviceFacts,
    RequestState,
    ScheduleState,
    ScheduleTick,
    ShardState,
)
from streams.core.shard import PartitionState, advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.codec import Codec
    from schemas.records import Record
    from streams.core.shard import Outputs
    from streams.replay.log import Log

TICKS: Final = "schedule.ticks"

Rows = dict[tuple[str, bytes], "Record"]
"""What stands in the tables, by table and key."""


class Refold:
    """A partition's state, the rows it was made of, and how far it has come."""

    def __init__(self, partition: int, partitions: int, *, keep_rows: bool = True) -> None:
        """Begin with nothing; without ``keep_rows`` it cannot be forked, and needs less memory."""
        self.state = PartitionState(partition, partitions)
        self.ticks = 0
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
        found.ticks, found.events_end = self.ticks, self.events_end
        found._rows = dict(self.rows)
        schedules: list[ScheduleState] = []
        shards: list[ShardState] = []
        requests: list[RequestState] = []
        facts: list[DeviceFacts] = []
        for row in self.rows.values():
            if isinstance(row, ScheduleState):
                schedules.append(row)
            elif isinstance(row, ShardState):
                shards.append(row)
            elif isinstance(row, RequestState):
                requests.append(row)
            elif isinstance(row, DeviceFacts):
                facts.append(row)
        found.state.load(schedules, shards, requests, facts)
        return found


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
    for batch in log.read(TICKS, partition, first, end):
        for entry in batch:
            tick = codec.decode_as(entry.value or b"", ScheduleTick)
            if tick.time_ms >= until_ms:
                return
            yield Tick(entry.offset, tick)


def start_state(
    log: Log, partition: int, at_ms: int, *, keep_rows: bool = True
) -> tuple[Refold, int]:
    """Return a fold that stands at a tick before ``at_ms``, and the offset of the next tick.

    How far before is nobody's business: whoever asks folds on to where it wants to be. Raises
    :class:`UsageError` where the log does not reach back to its first tick.
    """
    first = log.firsts(TICKS)[partition]
    if first > 0:
        raise UsageError(
            f"The first {first:,} offsets of {TICKS}, partition {partition}, are not kept any more:"
            f" what stood at {at_ms} ms cannot be worked out without them. Replay an archive that"
            " has them."
        )
    return Refold(partition, log.partitions(TICKS), keep_rows=keep_rows), first


def fold_to(
    log: Log,
    partition: int,
    codec: Codec,
    at_ms: int,
    seen: Callable[[ScheduleTick, Outputs], None] | None = None,
    *,
    keep_rows: bool = True,
) -> tuple[Refold, int]:
    """Return a fold that has had every tick before ``at_ms``, and the offset after the last one.

    ``seen`` is told of each.
    """
    fold, following = start_state(log, partition, at_ms, keep_rows=keep_rows)
    for offset, tick in ticks_of(log, partition, codec, following, at_ms):
        outputs = fold.apply(tick)
        following = offset + 1
        if seen is not None:
            seen(tick, outputs)
    return fold, following
