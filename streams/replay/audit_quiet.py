"""Folds a run of quiet ticks at once: the times of schedules that are regular, in columns.

A tick is **quiet** where nothing but time has moved: no change, no fact. Nearly all ticks are, and
nearly all schedules are plain intervals, or share a recurrence, and are issued in time. What the
fold makes of those (``streams/core/shard.py``) is arithmetic on a few numbers of each schedule:
when it is due, its lead, its period, its shift (``audit_times.py``). So for a run of ticks all that
is due is worked out together; then the state moves to the last of them, as if each had been folded.

**Whatever is not so is left to the fold**: jitter, a place, an end; a time that is late, a backlog,
a bound on capacity, more than a tick may issue, an id that borrows from the future. ``fold`` then
stops before the first tick that has any of it, and the caller folds that one as ever. A test holds
the two together on worlds made at random: the same commands in the same order, and the same state.

**Commands as bytes.** A command is: its header and id; device, schedule and epoch, which are the
schedule's own; three times; then what its policy says, around the tick's time. What does not change
is encoded once for a schedule; what does, for all commands of a run together.

**Cost**, of one core, in runs of 2,000 commands: 2 us a command with its bytes, where the fold and
``Codec.encode`` take 20. It remembers 110 bytes a schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from schemas.columns import (
    ID_BYTES,
    ID_LEAST,
    ID_MOST,
    PAD,
    TIME_BYTES,
    TIME_LEAST,
    TIME_MOST,
    WORD,
    ids_as_varints,
    times_as_varints,
    words_of,
)
from schemas.errors import SchemaError
from schemas.records import CaptureCommand
from streams.core import ids
from streams.core.partition import Shard
from streams.core.shard import FORGET_MAX
from streams.replay.audit_plain import (
    KNOWN,
    LEAD,
    OTHER,
    PERIOD,
    PLAIN,
    PREFIX,
    PREFIX_SIZE,
    REGULAR,
    SHARED,
    SHIFT,
    TAIL,
    TIMEOUT,
    WINDOW,
    PlainSchedules,
)
from streams.replay.audit_times import of_period, of_recurrence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.codec import Codec
    from schemas.columns import Bytes, Ints, Words
    from schemas.records import ScheduleTick
    from streams.core.partition import PartitionState
    from streams.core.step import Outputs
    from streams.replay.audit_times import Times

FIELDS: Final = (
    "command_id", "device_id", "schedule_id", "request_id", "epoch", "nominal_ms",
    "scheduled_ms", "not_after_ms", "capture_timeout_ms", "priority", "issued_at_ms",
    "overlap", "moved_ms", "over_capacity", "quality", "keep_ms", "image",
)  # fmt: skip
"""The order of fields that this module knows."""
HEADER: Final = 5
NOTHING: Final[Ints] = np.zeros(0, np.int64)
SEQUENCES: Final = 1 << ids.SEQUENCE_BITS
TICK_BITS, SINCE_BITS = 12, 41
"""With a shard's, they fit into one number: ticks of a run, and milliseconds."""


class Fires(NamedTuple):
    """The commands of a run of ticks, in their order."""

    ids: Ints
    indices: Ints
    """Of their schedules."""
    nominal_ms: Ints
    scheduled_ms: Ints
    not_after_ms: Ints
    timeout_ms: Ints
    issued_ms: Ints
    data: Bytes
    """All their bytes, one behind the other."""
    starts: Ints
    sizes: Ints
    prefixes: Ints
    """How many bytes, without the header, a result repeats of each."""


class _Due(NamedTuple):
    """Times that are due in a run, one for each command, in no order."""

    indices: Ints
    ticks: Ints
    """Numbers of their ticks in the run."""
    scheduled_ms: Ints
    nominal_ms: Ints


class QuietFold:
    """The schedules of a state, as far as they were asked for."""

    def __init__(self, state: PartitionState, codec: Codec) -> None:
        """Take a state, which is changed by ``advance`` and by ``fold`` here, and by nobody else.

        Raises:
            SchemaError: the fields of a command are not in the order that this module knows.

        """
        if CaptureCommand.__struct_fields__ != FIELDS:
            raise SchemaError(f"The fields of CaptureCommand are not those of {__name__}.")
        self._state = state
        self._plain = PlainSchedules(state, codec)
        self._header = codec.header(CaptureCommand)
        self._following: tuple[Ints, Ints] = (NOTHING, NOTHING)
        """Schedules of the run at hand, and when they are due after it."""

    def changed(self, outputs: Outputs) -> None:
        """Forget the schedules that a tick has written anew."""
        self._plain.changed(outputs)

    def fold(self, ticks: Sequence[ScheduleTick]) -> tuple[int, Fires | None]:
        """Fold as many quiet ticks as can be, and return how many, with what they made.

        The ticks are of this partition, of known rules, without changes and facts, with the same
        settings, and each is later than the one before it and than the state. None: no commands.
        """
        state = self._state
        if state.ready or state.floor_ms != state.time_ms or ticks[0].settings.capacity_per_shard:
            return 0, None
        times = np.array([tick.time_ms for tick in ticks], np.int64)
        count, due = self._due(times, ticks[0].settings.max_fires)
        if not count:
            return 0, None
        fires = None
        if due is not None:
            numbered = self._numbered(due, times)
            if numbered is None:
                return 0, None
            fires = self._fires(*numbered, times)
            if fires is None:
                return 0, None
        self._move(times[:count], ticks[0].settings.request_memory_ms, fires)
        return count, fires

    # -- what is due -----------------------------------------------------------------------------

    def _due(self, times: Ints, max_fires: int) -> tuple[int, _Due | None]:
        """Return how many of the ticks are all plain, and what is due in them."""
        wheel, count = self._state.wheel, len(times)
        looked = wheel.look(int(times[-1]))
        while looked is None:
            count //= 2  # a window begins on the way: go up to it
            if not count:
                return 0, None
            looked = wheel.look(int(times[count - 1]))
        if not looked:
            return count, None
        indices = np.frombuffer(looked, np.uint32).astype(np.int64)
        while True:
            times = times[:count]
            due_ms = np.frombuffer(wheel.due, np.int64)[indices]
            taken = due_ms <= times[-1]
            indices, due_ms = indices[taken], due_ms[taken]
            if not len(indices):
                return count, None
            found, bad = self._expanded(indices, due_ms, times, max_fires)
            if bad is None:
                return count, found
            if not bad:
                return 0, None
            count = bad

    def _expanded(
        self, indices: Ints, due_ms: Ints, times: Ints, max_fires: int
    ) -> tuple[_Due | None, int | None]:
        """Return each time that is due, and the first tick that is none for here; None: all are."""
        table, last_ms = self._plain.columns(indices), int(times[-1])
        known = table[KNOWN]
        odd = known == OTHER
        found: list[tuple[Ints, Times]] = []
        [plain] = np.nonzero(known == PLAIN)
        if len(plain):
            some = table[:, plain]
            made = of_period(due_ms[plain], some[LEAD], some[SHIFT], some[PERIOD], last_ms)
            if made is None:
                return None, len(times) // 2
            found.append((plain, made))
        regular = known == REGULAR
        for number in sorted(set(table[SHARED, regular].tolist())):
            [rows] = np.nonzero(regular & (table[SHARED] == number))
            some, recurrence = table[:, rows], self._plain.recurrences[number]
            made = of_recurrence(recurrence, due_ms[rows], some[LEAD], some[SHIFT], last_ms)
            if made is None:
                odd[rows] = True
            else:
                found.append((rows, made))
        bad = np.searchsorted(times, due_ms[odd])
        if not found:
            return None, int(bad.min())
        rows = np.concatenate([rows[made.rows] for rows, made in found])
        due = np.concatenate([made.due_ms for _, made in found])
        scheduled = np.concatenate([made.scheduled_ms for _, made in found])
        nominal = np.concatenate([made.nominal_ms for _, made in found])
        following = np.zeros(len(indices), np.int64)
        for some_rows, made in found:
            following[some_rows] = made.next_ms
        ticks = np.searchsorted(times, due)
        late = ticks[scheduled < times[ticks]]
        many = np.nonzero(np.bincount(ticks, minlength=len(times)) > max_fires)[0]
        bad = np.concatenate((bad, late, many))
        self._following = (indices, following)
        return _Due(indices[rows], ticks, scheduled, nominal), int(bad.min()) if len(bad) else None

    # -- their order and ids ---------------------------------------------------------------------

    def _numbered(self, due: _Due, times: Ints) -> tuple[_Due, Ints] | None:
        """Return what is due in the order of its commands, with their ids; None: not here."""
        state = self._state
        indices = due.indices
        shards = np.frombuffer(state.table.shards, np.uint16)[indices].astype(np.int64)
        for index in indices[shards >= ids.SHARDS].tolist():
            state.shard_number(index)
        shards = np.frombuffer(state.table.shards, np.uint16)[indices].astype(np.int64)
        order = self._ties(_order(due, shards), due, shards)
        due = _Due(*[column[order] for column in due])
        shards = shards[order]
        # Groups: what a shard issues in a tick.
        new = np.ones(len(shards), np.bool_)
        new[1:] = (shards[1:] != shards[:-1]) | (due.ticks[1:] != due.ticks[:-1])
        [begins] = np.nonzero(new)
        sizes = np.diff(np.append(begins, len(shards)))
        group_shards, group_times = shards[begins], times[due.ticks[begins]]
        since = group_times - ids.EPOCH_MS
        if (
            (sizes > SEQUENCES).any()
            or int(since[0]) <= 0
            or int(group_times[-1]) > ids.MAX_TIME_MS
        ):
            return None
        firsts = since << (ids.SHARD_BITS + ids.SEQUENCE_BITS) | group_shards << ids.SEQUENCE_BITS
        numbers, at = _last_of_each(group_shards[::-1])
        for number, first in zip(numbers.tolist(), firsts[::-1][at].tolist(), strict=True):
            shard = state.shards.get(number)
            if shard is not None and shard.last_id >= first:
                return None
        nth = np.arange(len(shards)) - np.repeat(begins, sizes)
        return due, np.repeat(firsts, sizes) + nth

    def _ties(self, order: Ints, due: _Due, shards: Ints) -> Ints:
        """Put times that are equal in a shard into the order of their schedules' keys."""
        ticks, scheduled = due.ticks[order], due.scheduled_ms[order]
        here = shards[order]
        tied = np.zeros(len(order) + 1, np.bool_)
        tied[1:-1] = (
            (ticks[1:] == ticks[:-1]) & (scheduled[1:] == scheduled[:-1]) & (here[1:] == here[:-1])
        )
        [places] = np.nonzero(tied[1:] | tied[:-1])
        if not len(places):
            return order
        keys, some = self._state.keys, order[places]
        named = sorted(
            zip(
                due.ticks[some].tolist(), shards[some].tolist(), due.scheduled_ms[some].tolist(),
                [keys[index] for index in due.indices[some].tolist()], some.tolist(), strict=True,
            )
        )  # fmt: skip
        order[places] = [one[-1] for one in named]
        return order

    # -- their bytes -----------------------------------------------------------------------------

    def _fires(self, due: _Due, command_ids: Ints, times: Ints) -> Fires | None:
        """Return the commands with their bytes; None: one has a number of an unusual size."""
        table = self._plain.columns(due.indices)
        scheduled = due.scheduled_ms
        nominal, until = due.nominal_ms, scheduled + table[WINDOW]
        issued = times[due.ticks]
        for column in (nominal, scheduled, until, issued):
            if int(column.min()) < TIME_LEAST or int(column.max()) > TIME_MOST:
                return None
        if int(command_ids.min()) < ID_LEAST or int(command_ids.max()) > ID_MOST:
            return None
        tails = self._plain.tails(table[TAIL])
        prefixes = table[PREFIX_SIZE]
        sizes = HEADER + ID_BYTES + 4 * TIME_BYTES + prefixes + tails[1] + tails[3]
        ends = np.cumsum(sizes)
        starts = ends - sizes
        data: Bytes = np.zeros(int(ends[-1]) + PAD, np.uint8)
        words = words_of(data)
        pool = self._plain.words()
        # Each field is written in whole words: what is too much is the next one's to write over.
        low, last = ids_as_varints(command_ids)
        words[starts + HEADER] = low
        at = starts + HEADER + WORD
        words[at] = last
        at = at + 1
        _copy(words, at, pool, table[PREFIX], prefixes)
        at = at + prefixes
        for column in (nominal, scheduled, until):
            words[at] = times_as_varints(column)
            at = at + TIME_BYTES
        _copy(words, at, pool, tails[0], tails[1])
        at = at + tails[1]
        words[at] = times_as_varints(issued)
        at = at + TIME_BYTES
        _copy(words, at, pool, tails[2], tails[3])
        # The last word may have reached into the next record's first, which is written last.
        header = np.uint64(int.from_bytes(self._header, "little"))
        words[starts] = header | (low << np.uint64(8 * HEADER))
        return Fires(
            command_ids, due.indices, nominal, scheduled, until, table[TIMEOUT], issued,
            data[: int(ends[-1])], starts, sizes, ID_BYTES + prefixes + 2 * TIME_BYTES,
        )  # fmt: skip

    # -- the state behind them -------------------------------------------------------------------

    def _move(self, times: Ints, memory_ms: int, fires: Fires | None) -> None:
        """Bring the state to the last of the ticks."""
        state, now_ms = self._state, int(times[-1])
        taken = state.wheel.advance(now_ms)
        if fires is not None:
            indices, following = self._following
            assert len(taken) == len(indices)
            state.wheel.insert_many(indices.tolist(), following.tolist())
            shards = (fires.ids >> ids.SEQUENCE_BITS) & (ids.SHARDS - 1)
            numbers, at = _last_of_each(shards)
            rows = (numbers.tolist(), fires.ids[at].tolist(), fires.issued_ms[at].tolist())
            for number, last_id, at_ms in zip(*rows, strict=True):
                shard = state.shards.get(number)
                if shard is None:
                    shard = state.shards[number] = Shard()
                shard.last_id, shard.clock_ms = last_id, at_ms
                shard.booked.clear()
        for time_ms in times.tolist():
            state.requests.forget(time_ms, memory_ms, FORGET_MAX)
        state.time_ms = state.floor_ms = now_ms


def _order(due: _Due, shards: Ints) -> Ints:
    """Return the order by tick, shard and scheduled time: by one number of all, if they fit."""
    since_ms = due.scheduled_ms - due.scheduled_ms.min()
    if int(since_ms.max()) < 1 << SINCE_BITS and int(due.ticks.max()) < 1 << TICK_BITS:
        groups = due.ticks << ids.SHARD_BITS | shards
        numbers: Ints = groups << SINCE_BITS | since_ms
        return numbers.argsort()
    return np.lexsort((due.scheduled_ms, shards, due.ticks))


def _last_of_each(shards: Ints) -> tuple[Ints, Ints]:
    """Return the shards that there are, and where each stands last."""
    places: Ints = np.full(ids.SHARDS, -1, np.int64)
    places[shards] = np.arange(len(shards))
    [numbers] = np.nonzero(places >= 0)
    return numbers, places[numbers]


def _copy(words: Words, at: Ints, pool: Words, starts: Ints, sizes: Ints) -> None:
    """Write pieces of a pool, in whole words."""
    if not len(at):
        return
    done = 0
    while len(at):
        words[at + done] = pool[starts + done]
        done += WORD
        keep = sizes > done
        if not keep.all():
            at, starts, sizes = at[keep], starts[keep], sizes[keep]
