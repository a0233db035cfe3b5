"""What the commands of schedules are made of: a few numbers and bytes of each, in columns.

A **plain interval** has one period and no end, no jitter, and is no request: its times are
arithmetic. Other **regular** schedules share a recurrence. What their commands repeat each time is
encoded once and kept in a pool of bytes: device, schedule and epoch; and, once for a policy, what
stands before the tick's time and behind it. A schedule is worked out when it is first asked for,
and anew after a tick has written its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

KNOWN, LEAD, PERIOD, SHIFT, WINDOW, TIMEOUT, PREFIX, PREFIX_SIZE, TAIL, SHARED = range(10)
"""Columns by a schedule's index. ``KNOWN``: 0 not worked out, else as below. ``SHARED``: the number
of its recurrence, where it is ``REGULAR``.
``WINDOW``: from its scheduled time to the end of a command; ``TAIL``: the number of its policy."""
COLUMNS: Final = 10
PLAIN, REGULAR, OTHER = 1, 2, 3
"""A plain interval; another recurrence without jitter, end and place; what is left to the fold."""
POOL_SLACK: Final = 1 << 20
"""Bytes that are of no use any more, and no reason to make all anew."""


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
        for index in indices[self._table[KNOWN, indices] == 0].tolist():
            self._work_out(index)
        return self._table[:, indices]

    def _forget(self) -> None:
        self._table[KNOWN] = 0
        self._pool.clear()
        self._tails.clear()
        self._tail_pieces.clear()
        self.recurrences.clear()
        self._numbers.clear()
        self._unused = 0

    def _work_out(self, index: int) -> None:
        """Write down what a schedule's commands are made of."""
        row, recurrence = self._state.row(index), self._state.recurrences[index]
        table, policy = self._table, row.policy
        known, shared = _kind(row, recurrence), 0
        if known == OTHER:
            table[KNOWN, index] = OTHER
            return
        if known == REGULAR:
            shared = self._numbers.setdefault(id(recurrence), len(self.recurrences))
            if shared == len(self.recurrences):
                self.recurrences.append(recurrence)  # and so its id stays its own
        gap_ms = recurrence.period_ms or recurrence.typical_gap_ms
        strings, pool = self._strings, self._pool
        prefix = b"".join(
            (strings[row.device_id], strings[row.schedule_id], strings[""], self._longs[row.epoch])
        )
        self._unused += int(table[PREFIX_SIZE, index])
        table[:, index] = (
            known, policy.lead_ms, recurrence.period_ms or 0,
            offset_ms(row.device_id, policy.spread_ms), not_after_ms(0, 0, gap_ms, policy),
            policy.capture_timeout_ms, len(pool), len(prefix), self._tail(policy), shared,
        )  # fmt: skip
        table[PREFIX, index] = len(pool)
        pool += prefix

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


def _kind(row: ScheduleState, recurrence: Recurrence) -> int:
    """Return how a schedule's times are worked out."""
    if row.schedule_id.startswith(REQUEST_PREFIX) or row.policy.jitter_ms:
        return OTHER
    if is_plain(recurrence, row.policy):
        return PLAIN
    # A place may change without the row: then the times do.
    if row.ends_at_ms is not None or is_once(row.spec) or needs_place(row.spec):
        return OTHER
    return REGULAR
