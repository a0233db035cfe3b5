"""Herds: what a shard has due in one second beyond its capacity is moved forward, within bounds.

A capacity of K lets K captures of a logical shard into each second. All fires that a step has of a
shard are placed at once, **the most urgent first**: by priority, the highest first; then by what
may be waited, the least first; then by key and time. Each takes the first second with room, looking
at its own, then at one second later, two, ... up to what it **tolerates**:

* ``tolerance_ms`` from its time on, or from the tick's where its time is over already;
* never beyond its ``not_after`` nor the deadline;
* never up to the next time of its own schedule: order is kept, and no two meet.

A capture that is moved keeps its millisecond within the second, so that the spread of those that
move together stays. One that finds no room keeps its own time all the same: capacity yields, and
the command says so (``over_capacity``). Nothing is ever early.

What was let in is kept in the shard's row, a number a second (``ShardState.booked``), so that the
next step and the next worker know it; seconds that are over are dropped. A command that is revoked
keeps its room: what issued it is not remembered, and room lost is only a capture moved further.

Example, K = 2, five captures at 12:00:00.250, tolerating 0, 1, 3, 3 and 3 s, no priorities: the
first two stay (0 and 1 s come first), two move to 12:00:01.250 and one to 12:00:02.250.

Cost: 3 us a fire where there is a capacity; nothing where there is none. Full seconds are leapt
over by a union-find, so a fire costs amortised O(1) however far it moves.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from streams.core.partition import schedule_key
from streams.core.times import first_scheduled, is_plain, not_after_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import ScheduleState
    from streams.core.recurrence import Recurrence

SECOND_MS = 1_000

Fire = tuple[int, "ScheduleState", int, "Recurrence"]
"""One scheduled time of a row that is to be issued: the time before any move, the row, the nominal
time, the row's recurrence. A bare tuple, as one is made for each capture."""


class Placed(NamedTuple):
    """A fire and where the herd rule has put it."""

    fire: Fire
    at_ms: int
    """Its scheduled time, as moved."""
    over_capacity: bool


def place(
    fires: Iterable[Fire], booked: dict[int, int], now_ms: int, capacity: int
) -> list[Placed]:
    """Place the fires of a shard; ``booked``, captures by second, is brought up to date.

    The order of the answer is that of the moved times, then of the keys.
    """
    for second in [s for s in booked if s < now_ms // SECOND_MS]:
        del booked[second]
    urgent = sorted(((_urgency(fire, now_ms), fire) for fire in fires), key=itemgetter(0))
    free: dict[int, int] = {}
    placed: list[tuple[int, str, Placed]] = []
    for (_, tolerance_ms, key, at_ms), fire in urgent:
        begin_ms = max(at_ms, now_ms)
        begin = begin_ms // SECOND_MS
        second = _first_free(free, booked, begin, capacity)
        over = (second - begin) * SECOND_MS > tolerance_ms
        moved_ms = at_ms
        if over:
            second = begin
        elif second > begin:
            moved_ms = begin_ms + (second - begin) * SECOND_MS
        booked[second] = booked.get(second, 0) + 1
        placed.append((moved_ms, key, Placed(fire, moved_ms, over)))
    placed.sort(key=itemgetter(0, 1))
    return [entry for _, _, entry in placed]


def _first_free(free: dict[int, int], booked: dict[int, int], second: int, capacity: int) -> int:
    """Return the first second with room; ``free`` leaps over those that were found to be full."""
    path: list[int] = []
    while booked.get(second, 0) >= capacity:
        path.append(second)
        second = free.get(second, second + 1)
    for full in path:
        free[full] = second
    return second


def _urgency(fire: Fire, now_ms: int) -> tuple[int, int, str, int]:
    """Return what fires are placed by: priority, what may be waited, key and time."""
    scheduled_ms, row, _, recurrence = fire
    policy = row.policy
    key = schedule_key(row.device_id, row.schedule_id)
    if policy.tolerance_ms < SECOND_MS:
        return (-policy.priority, 0, key, scheduled_ms)
    begin_ms = max(scheduled_ms, now_ms)
    limit_ms = min(
        begin_ms + policy.tolerance_ms,
        not_after_ms(scheduled_ms, 0, recurrence.typical_gap_ms, policy),
    )
    next_ms: int | None
    if is_plain(recurrence, policy):
        next_ms = scheduled_ms + (recurrence.period_ms or 0)
    else:
        next_ms = first_scheduled(recurrence, row, scheduled_ms + 1)
    if next_ms is not None:
        limit_ms = min(limit_ms, next_ms - 1)
    return (-policy.priority, max(limit_ms - begin_ms, 0), key, scheduled_ms)
