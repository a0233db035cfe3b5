"""How many captures a second there will be: counted before they happen.

**Theory.** A capture is due at *nominal time + the device's offset*. The nominal times hang on the
recurrence alone, the offset on the device and its spread window alone (``streams/core/spread.py``).
So schedules are gathered by recurrence, and a million devices of one recurrence are one histogram
of offsets, laid down at each nominal time: the work is *distinct recurrences by occurrences*, not
*schedules by occurrences*.

**Two ways** to lay down n devices whose offsets span K seconds, over 1,024 shards::

    dense     n large: a table of 1,024 by K, counted once, is added at each time: 1,024 K a time
    sparse    n small: each device and time is one index of a bincount: n a time

An hour at a time is looked at, as a table of 1,024 shards by 3,600 seconds (15 MB).

**Example.** 1.2 M devices every 5 minutes, spread over 5 minutes: one recurrence, K = 300, 288
times a day: 88 M additions of 4 bytes, a quarter of a second. Without spread K = 1: the same 288
times, 1.2 M captures in one second each.

**Exact** for the spread, but for gaps shorter than it (``streams/core/times.py`` cuts there). The
jitter of a time is replaced by one sample a device, which has the same distribution.

Cost: ``./dev bench forecast``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.records import CapturePolicy
from shutterwheel.hashes import hashes_of, mixed, shards_of
from streams.core import ids
from streams.core.recurrence import compile_spec, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from schemas.records import ScheduleSpec
    from streams.core.recurrence import Place, Recurrence

    Ints = npt.NDArray[np.int64]

SECOND_MS: Final = 1_000
CHUNK_S: Final = 3_600
"""Seconds looked at together."""
DENSE_GAIN: Final = 5
"""An addition of the dense way costs a fifth of an index of the sparse way."""
TABLES: Final = 64
"""Tables kept of one gathering, by how far its nominal times lie within their seconds."""
FLUSH: Final = 4_000_000
"""Indices gathered before they are counted: 32 MB."""
MAX_FORECAST_S: Final = 7 * 86_400


@dataclass(slots=True)
class Gathering:
    """Schedules that are due at the same nominal times."""

    recurrence: Recurrence
    from_ms: int
    """No time before it."""
    end_ms: int
    """None at or after it."""
    example: str
    """The id of one of them."""
    device_ids: list[str] = field(default_factory=list)
    spreads_ms: list[int] = field(default_factory=list)
    jitters_ms: list[int] = field(default_factory=list)

    policy: CapturePolicy = field(default_factory=CapturePolicy)
    """Of that one."""

    @property
    def words(self) -> str:
        """When it is due, in words."""
        return describe(self.recurrence.spec, self.policy)

    @property
    def reach_ms(self) -> int:
        """All offsets are less than this."""
        return max(map(add, self.spreads_ms, self.jitters_ms), default=0)

    def offsets_ms(self, spread_ms: int | None = None) -> Ints:
        """Return each device's offset; ``spread_ms``: as if all had this window."""
        hashes = hashes_of(self.device_ids)
        spreads = self.spreads_ms if spread_ms is None else spread_ms
        found = hashes.astype(np.uint64) * np.asarray(spreads, np.uint64) >> np.uint64(32)
        if any(self.jitters_ms):
            again = mixed(hashes + np.uint32(0x9E3779B9)).astype(np.uint64)
            found += again * np.asarray(self.jitters_ms, np.uint64) >> np.uint64(32)
        return found.astype(np.int64)

    def times_ms(self, first_ms: int, end_ms: int) -> Ints:
        """Return its nominal times within [first, end)."""
        first_ms, end_ms = max(first_ms, self.from_ms), min(end_ms, self.end_ms)
        if end_ms <= first_ms:
            return np.empty(0, np.int64)
        period_ms = self.recurrence.period_ms
        if period_ms is None:
            return np.fromiter(self.recurrence.between(first_ms, end_ms), np.int64)
        begin_ms = self.recurrence.at_or_after(first_ms)
        assert begin_ms is not None, "an interval has no end"
        return np.arange(begin_ms, end_ms, period_ms, dtype=np.int64)


class Population:
    """Schedules, gathered by recurrence."""

    def __init__(self, begin_ms: int, seconds: int) -> None:
        """Take the span that is looked at: a whole second, and how many."""
        self.begin_ms = begin_ms - begin_ms % SECOND_MS
        self.seconds = seconds
        self.schedules = 0
        self.without_place = 0
        """Schedules that follow the sun on devices whose place is not known: never due."""
        self.gatherings: dict[tuple[object, ...], Gathering] = {}

    @property
    def end_ms(self) -> int:
        """The end of the span."""
        return self.begin_ms + self.seconds * SECOND_MS

    def add(
        self,
        device_id: str,
        schedule_id: str,
        spec: ScheduleSpec,
        policy: CapturePolicy,
        *,
        starts_at_ms: int = 0,
        ends_at_ms: int | None = None,
        place: Place | None = None,
    ) -> None:
        """Count a schedule in; a paused one is not to be."""
        self.schedules += 1
        recurrence = compile_spec(spec, place)
        if recurrence.lacks_place:
            self.without_place += 1
        late = starts_at_ms if starts_at_ms > self.begin_ms else 0
        if ends_at_ms is None and spec.max_count is not None:
            last_ms = recurrence.last_ms(max(starts_at_ms, self.begin_ms))
            ends_at_ms = None if last_ms is None else last_ms + 1
        end = ends_at_ms if ends_at_ms is not None and ends_at_ms < self.end_ms else self.end_ms
        key = (id(recurrence), late, end)
        found = self.gatherings.get(key)
        if found is None:
            found = self.gatherings[key] = Gathering(
                recurrence, late, end, schedule_id, policy=policy
            )
        found.device_ids.append(device_id)
        found.spreads_ms.append(policy.spread_ms)
        found.jitters_ms.append(policy.jitter_ms)


@dataclass(frozen=True, slots=True)
class Herd:
    """What a capacity does to a load: captures wait until their shard has room."""

    capacity: int
    """Captures a second a logical shard."""
    moved: int
    """Captures that would have to wait, at least."""
    wait_s: int
    """The longest that one would have to wait: the tolerance that loses nothing."""
    shards: int
    """Shards on which any would."""


@dataclass(frozen=True, slots=True)
class Load:
    """Captures over a span of time."""

    begin_ms: int
    per_second: Ints
    """All shards together, a number a second."""
    shard_peak: Ints
    """The most captures in one second, of each shard."""
    herd: Herd | None = None

    @property
    def captures(self) -> int:
        """How many there are in all."""
        return int(self.per_second.sum())

    @property
    def peak(self) -> int:
        """The most in one second."""
        return int(self.per_second.max(initial=0))

    @property
    def peak_at_ms(self) -> int:
        """The second in which that is."""
        return self.begin_ms + int(self.per_second.argmax()) * SECOND_MS

    def by(self, seconds: int) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Return the most and the mean a second, within spans of so many seconds each."""
        whole = -(-len(self.per_second) // seconds) * seconds
        padded = np.pad(self.per_second, (0, whole - len(self.per_second)))
        spans = padded.reshape(-1, seconds)
        return spans.max(axis=1), spans.mean(axis=1)


@dataclass(slots=True)
class _Laid:
    """Devices of the same nominal times, made ready to be laid down."""

    times: Ints
    offsets: Ints
    shards: Ints
    reach_s: int
    """How many seconds after the second of its nominal time the last device is due."""
    tables: dict[int, npt.NDArray[np.int32]] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """Say which way is less work."""
        return len(self.offsets) * DENSE_GAIN > ids.SHARDS * (self.reach_s + 1)

    def table(self, within_ms: int) -> npt.NDArray[np.int32]:
        """Return captures by shard and second after the second that the nominal time is in."""
        found = self.tables.get(within_ms)
        if found is None:
            wide = self.reach_s + 1
            index = self.shards * wide + (self.offsets + within_ms) // SECOND_MS
            counted = np.bincount(index, minlength=ids.SHARDS * wide)
            found = counted.reshape(ids.SHARDS, wide).astype(np.int32)
            if len(self.tables) >= TABLES:
                self.tables.clear()
            self.tables[within_ms] = found
        return found


def forecast(population: Population, capacity: int = 0) -> Load:
    """Count the captures of each second; ``capacity`` a second and shard: 0 is no bound."""
    begin_ms, seconds = population.begin_ms, population.seconds
    laid = _ready(population)
    per_second = np.zeros(seconds, np.int64)
    shard_peak = np.zeros(ids.SHARDS, np.int64)
    queue = _Queue(capacity) if capacity else None
    for first in range(0, seconds, CHUNK_S):
        wide = min(CHUNK_S, seconds - first)
        table = _lay(laid, begin_ms + first * SECOND_MS, wide)
        per_second[first : first + wide] = table.sum(axis=0)
        np.maximum(shard_peak, table.max(axis=1), out=shard_peak)
        if queue is not None:
            queue.take(table)
    return Load(begin_ms, per_second, shard_peak, None if queue is None else queue.herd())


def with_spread(load: Load, population: Population, one: Gathering, spread_ms: int) -> int:
    """Return the peak a second if one gathering were spread over another window."""
    rest = load.per_second - _total(one, population, None)
    return int((rest + _total(one, population, spread_ms)).max(initial=0))


def heaviest(population: Population, at_ms: int) -> list[tuple[int, Gathering]]:
    """Return how many captures of one second are of which gathering, the most first."""
    found = []
    end_ms = at_ms + SECOND_MS
    for one in population.gatherings.values():
        times = one.times_ms(at_ms - one.reach_ms, end_ms)
        if len(times):
            offsets = np.sort(one.offsets_ms())
            low, high = np.searchsorted(offsets, (at_ms - times, end_ms - times))
            count = int((high - low).sum())
            found += [(count, one)] if count else []
    return sorted(found, key=lambda pair: -pair[0])


def _ready(population: Population) -> list[_Laid]:
    """Return all that is due, gathered once more: by equal nominal times."""
    same: dict[bytes, tuple[Ints, list[Gathering]]] = {}
    for one in population.gatherings.values():
        times = one.times_ms(population.begin_ms - one.reach_ms, population.end_ms)
        if len(times):
            same.setdefault(times.tobytes(), (times, []))[1].append(one)
    found = []
    for times, members in same.values():
        offsets = np.concatenate([one.offsets_ms() for one in members])
        devices = [device_id for one in members for device_id in one.device_ids]
        reach_s = (int(offsets.max()) + SECOND_MS - 1) // SECOND_MS
        found.append(_Laid(times, offsets, shards_of(devices).astype(np.int64), reach_s))
    return found


def _lay(laid: Sequence[_Laid], begin_ms: int, wide: int) -> npt.NDArray[np.int32]:
    """Return captures by shard and second of one chunk."""
    table = np.zeros((ids.SHARDS, wide), np.int32)
    waiting: list[Ints] = []
    held = 0
    for one in laid:
        low, high = np.searchsorted(
            one.times, (begin_ms - (one.reach_s + 1) * SECOND_MS, begin_ms + wide * SECOND_MS)
        )
        at, within = np.divmod(one.times[low:high] - begin_ms, SECOND_MS)
        if one.dense:
            for second, within_ms in zip(at.tolist(), within.tolist(), strict=True):
                part = one.table(within_ms)
                begin, end = max(second, 0), min(second + part.shape[1], wide)
                if begin < end:
                    table[:, begin:end] += part[:, begin - second : end - second]
            continue
        for within_ms in np.unique(within).tolist():
            after = (one.offsets + within_ms) // SECOND_MS
            for index in _indices(at[within == within_ms], after, one.shards * wide, wide):
                waiting.append(index)
                held += len(index)
                if held > FLUSH:
                    _count(table, waiting)
                    held = 0
    _count(table, waiting)
    return table


def _indices(at: Ints, after: Ints, rows: Ints, wide: int) -> Iterator[Ints]:
    """Yield an index into a table for each capture that falls into it, some at a time.

    ``at``: the seconds of the nominal times; ``after`` and ``rows``: of each device how many
    seconds later, and where its shard's row begins.
    """
    inside = (at >= 0) & (at + int(after.max()) < wide)
    flat = rows + after
    step = max(1, FLUSH // len(flat))
    whole = at[inside]
    for first in range(0, len(whole), step):
        yield (whole[first : first + step, None] + flat[None, :]).ravel()
    for second in at[~inside].tolist():  # at the edges of the chunk some fall out of it
        due = second + after
        yield (second + flat)[(due >= 0) & (due < wide)]


def _count(table: npt.NDArray[np.int32], waiting: list[Ints]) -> None:
    """Add the gathered indices to a table, and forget them."""
    if waiting:
        counted = np.bincount(np.concatenate(waiting), minlength=table.size)
        table += counted.reshape(table.shape).astype(np.int32)
        waiting.clear()


def _total(one: Gathering, population: Population, spread_ms: int | None) -> Ints:
    """Return the captures a second of one gathering alone."""
    begin_ms, seconds = population.begin_ms, population.seconds
    offsets = one.offsets_ms(spread_ms)
    times = one.times_ms(begin_ms - int(offsets.max(initial=0)), population.end_ms)
    total = np.zeros(seconds, np.int64)
    tables: dict[int, Ints] = {}
    for time_ms in times.tolist():
        at, within_ms = divmod(time_ms - begin_ms, SECOND_MS)
        part = tables.get(within_ms)
        if part is None:
            part = np.bincount((offsets + within_ms) // SECOND_MS)
            if len(tables) < TABLES:
                tables[within_ms] = part
        begin, end = max(at, 0), min(at + len(part), seconds)
        if begin < end:
            total[begin:end] += part[begin - at : end - at]
    return total


class _Queue:
    """The shards as queues that serve so many captures a second."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting = np.zeros(ids.SHARDS, np.int64)
        self._most = np.zeros(ids.SHARDS, np.int64)
        self._moved = 0

    def take(self, table: npt.NDArray[np.int32]) -> None:
        """Go through the seconds of a chunk."""
        waiting, most = self._waiting, self._most
        for column in np.ascontiguousarray(table.T):
            over = np.maximum(waiting + column - self._capacity, 0)
            self._moved += int(np.minimum(column, over).sum())
            waiting = over
            np.maximum(most, over, out=most)
        self._waiting = waiting

    def herd(self) -> Herd:
        """Return what became of them."""
        wait_s = -(-int(self._most.max(initial=0)) // self._capacity)
        return Herd(self._capacity, self._moved, wait_s, int((self._most > 0).sum()))
