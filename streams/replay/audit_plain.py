"""What the commands of schedules are made of: a few numbers and bytes of each, in columns.

A **plain interval** has one period and no end, no jitter, and is no request: its times are
arithmetic. Other **regular** schedules share a recurrence. What their commands repeat each time is
encoded once and kept in a pool of bytes: device, schedule and epoch; and, once for a policy, what
stands before the tick's time and behind it. A schedule is worked out when it is first asked for,
and anew after a tick has written its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from schemas.columns import PAD, words_of
from streams.core.recurrence.recurrence import needs_place
from streams.core.schedule import REQUEST_PREFIX
from streams.core.spread import offset_ms
from streams.core.times import is_once, is_plain, not_after_ms

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.columns import Ints, Words
    from schemas.records import CapturePolicy, ScheduleState
    from streams.core.partition import PartitionState
    from streams.core.recurrence import Recurrence
    from streams.core.step import Outputs

KNOWN, LEAD, PERIOD, WINDOW, TIMEOUT, TAIL, SHARED, SHIFT, PREFIX, PREFIX_SIZE = range(10)
"""Columns by a schedule's index. ``KNOWN``: 0 not worked out, else as below. ``SHARED``: the number
of its recurrence, where it is ``REGULAR``.
``WINDOW``: from its scheduled time to the end of a command; ``TAIL``: the number of its policy."""
COLUMNS: Final = 10
PLAIN, REGULAR, OTHER = 1, 2, 3
"""A plain interval; another recurrence without jitter, end and place; what is left to the fold."""
MOST_KINDS: Final = 4_096
POOL_SLACK: Final = 1 << 20
"""Bytes that are of no use any more, and no reason to make all anew."""


class _Kind(NamedTuple):
    """What schedules have in common that are alike and share a recurrence."""

    known: int
    spread_ms: int
    numbers: tuple[int, ...]
    """Columns up to ``SHIFT``."""
    like: ScheduleState
    """Kept, as the recurrence, so that its id stays its own."""
    recurrence: Recurrence


class PlainSchedules:
    """The schedules of a state, as far as they were asked for, by their index in it."""

    def __init__(self, state: PartitionState, codec: Codec) -> None:
        """Take the state and the codec that has the tables."""
        self._state = state
        self._longs, self._strings = codec.table("long"), codec.table("string")
        self._table: Ints = np.zeros((COLUMNS, 0), np.int64)
        self._pool = bytearray()
        self._unused = 0
        self._tails: dict[CapturePolicy, int] = {}
        self.recurrences: list[Recurrence] = []
        """By number; devices of one spec share one."""
        self._numbers: dict[int, int] = {}
        self._kinds: dict[tuple[int, int], _Kind] = {}
        """By the ids of a row that is like others and of its recurrence."""
        self._tail_pieces: list[tuple[int, int, int, int]] = []
        """By number: start and size of what stands before the tick's time, and behind it."""

    def changed(self, outputs: Outputs) -> None:
        """Forget the schedules that a tick has written anew."""
        index = self._state.table.index
        for table, key in outputs.rows:
            if table == "schedules":
                at = index.get(key.decode())
                if at is not None and at < self._table.shape[1]:
                    self._table[KNOWN, at] = 0

    def words(self) -> Words:
        """Return the pool of bytes, as words."""
        return words_of(np.frombuffer(bytes(self._pool) + bytes(PAD), np.uint8))

    def tails(self, numbers: Ints) -> Ints:
        """Return start and size in the pool of both tails of policies: four rows."""
        return np.array(self._tail_pieces, np.int64).T[:, numbers]

    def columns(self, indices: Ints) -> Ints:
        """Return the columns of schedules, after working out those that are not known."""
        most = int(indices.max()) + 1
        if most > self._table.shape[1]:
            grown = np.zeros((COLUMNS, max(most, len(self._state.keys) + 64)), np.int64)
            grown[:, : self._table.shape[1]] = self._table
            self._table = grown
        if self._unused > POOL_SLACK and self._unused > len(self._pool) // 2:
            self._forget()
        unknown = indices[self._table[KNOWN, indices] == 0]
        if len(unknown):
            self._work_out(unknown.tolist())
        return self._table[:, indices]

    def _forget(self) -> None:
        self._table[KNOWN] = 0
        self._pool.clear()
        self._tails.clear()
        self._tail_pieces.clear()
        self.recurrences.clear()
        self._numbers.clear()
        self._kinds.clear()
        self._unused = 0

    def _work_out(self, indices: list[int]) -> None:
        """Write down what the commands of schedules are made of."""
        table, parts, recurrences = self._table, self._state.table.parts, self._state.recurrences
        strings, longs, pool = self._strings, self._longs, self._pool
        rows: list[tuple[int, ...]] = []
        known: list[int] = []
        no_request = strings[""]
        for index in dict.fromkeys(indices):
            device_id, schedule_id, epoch, like = parts(index)
            assert like is not None, "it is due"
            recurrence = recurrences[index]
            one = self._kinds.get((id(like), id(recurrence))) or self._kind(like, recurrence)
            if one.known == OTHER or schedule_id.startswith(REQUEST_PREFIX):
                table[KNOWN, index] = OTHER
                continue
            prefix = strings[device_id] + strings[schedule_id] + no_request + longs[epoch]
            self._unused += int(table[PREFIX_SIZE, index])
            known.append(index)
            shift_ms = offset_ms(device_id, one.spread_ms)
            rows.append((*one.numbers, shift_ms, len(pool), len(prefix)))
            pool += prefix
        if rows:
            table[:, known] = np.array(rows, np.int64).T

    def _kind(self, like: ScheduleState, recurrence: Recurrence) -> _Kind:
        """Work out what schedules have in common that are alike."""
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        known, shared, policy = _known(like, recurrence), 0, like.policy
        if known == REGULAR:
            shared = self._numbers.setdefault(id(recurrence), len(self.recurrences))
            if shared == len(self.recurrences):
                self.recurrences.append(recurrence)  # and so its id stays its own
        numbers: tuple[int, ...] = ()
        if known != OTHER:
            gap_ms = recurrence.period_ms or recurrence.typical_gap_ms
            numbers = (
                known, policy.lead_ms, recurrence.period_ms or 0,
                not_after_ms(0, 0, gap_ms, policy), policy.capture_timeout_ms,
                self._tail(policy), shared,
            )  # fmt: skip
        found = _Kind(known, policy.spread_ms, numbers, like, recurrence)
        self._kinds[id(like), id(recurrence)] = found
        return found

    def _tail(self, policy: CapturePolicy) -> int:
        """Return the number of a policy, whose bytes are kept."""
        number = self._tails.get(policy)
        if number is None:
            longs, strings, pool = self._longs, self._strings, self._pool
            before = longs[policy.capture_timeout_ms] + longs[policy.priority]
            behind = b"".join(
                (
                    strings[policy.overlap], longs[0], b"\x00", strings[policy.quality],
                    longs[policy.keep_ms], strings[policy.image],
                )
            )  # fmt: skip
            start = len(pool)
            pool += before + behind
            number = self._tails[policy] = len(self._tail_pieces)
            self._tail_pieces.append((start, len(before), start + len(before), len(behind)))
        return number


def _known(row: ScheduleState, recurrence: Recurrence) -> int:
    """Return how the times of schedules that are alike are worked out."""
    if row.policy.jitter_ms:
        return OTHER
    if is_plain(recurrence, row.policy):
        return PLAIN
    # A place may change without the row: then the times do.
    if row.ends_at_ms is not None or is_once(row.spec) or needs_place(row.spec):
        return OTHER
    return REGULAR
