"""The timing wheel: which schedules are due by now, among a million, at no cost for waiting.

Theory
------
A timer is a dense index and a due time in milliseconds. Time is cut into **slots** of 100 ms; the
slot's number is the due time divided by 100 ms and rounded up, so slot n is over at n * 100 ms. The
**base level** is a ring of 6,000 slots: the ten minutes from now on (SPEC 1.2, 2.1; Varghese and
Lauck, 1987, scheme 6). A timer due within them is appended to its slot: one division, one append.
A timer further away is appended to a **window** of ten minutes on the **overflow level**; when
time enters a window its timers **cascade** into the ring. Windows are a sparse map, so the level
has no end: ten years ahead is one more key, and no level above it is needed. A schedule with a
period up to ten minutes never cascades at all.

``due[index]`` is the only truth; the entries in slots and windows are hints. Cancelling or moving
a timer overwrites ``due`` and leaves the old entry behind, **stale**. A slot in which nothing was
moved is **clean**: all of it is due when its time is past, and it is taken as one block. A slot in
which something was moved is read entry by entry: an entry counts if ``due`` says that it belongs
there, and once (moved from A to B and back to A, a timer has two entries in A). When stale entries
outnumber the living, all are sorted out, so memory follows the number of timers, not of changes.

A heap holds the numbers of the slots in use (and one those of the windows), once each: that is
the occupancy index. Time in which nothing is due costs nothing, however long; ``next_due`` looks
at the first slot only.

Never early: a slot is 100 ms wide, and of the slot that holds the present only the timers whose
own millisecond has come are taken. At a multiple of 100 ms there is no such slot.

Worked example
--------------
Now is 0. ``insert(7, 250)`` goes to slot 3 (201 to 300 ms); ``insert(8, 700_000)`` is slot 7,000,
beyond the ring, and goes to window 1 (slots 6,000 to 11,999). ``advance(249)`` takes nothing:
slot 3 is the present one and 250 > 249. ``advance(250)`` takes 7. ``advance(600_000)`` enters
window 1: 8 cascades into the ring, at position 7,000 mod 6,000 = 1,000. ``advance(700_000)``
takes 8.

Cost
----
CPython 3.11, one core of a shared machine, ``./dev bench wheel`` (benchmarks/results/wheel.json);
expiring is CPU of the whole process for a timer. Beside it what does the same there:

====================  ==========================  =====================  ==================
1.2 M timers          bytes, inserting one        over 10 s, worst       all at one time
====================  ==========================  =====================  ==================
this wheel            12 bytes, 0.36 us           28 ns, 20 ms           3 ns, 4 ms
heapq                 129 bytes, 0.21 us          4.6 us, 86 ms          1.4 us, 1,731 ms
Kafka's SystemTimer   72 bytes, 0.21 us           2.6 us, 110 ms         0.6 us, 489 ms
timingwheel (Go)      128 bytes, 0.46 us          3.3 us, 94 ms          1.5 us, 1,012 ms
====================  ==========================  =====================  ==================

(milliseconds: the longest from the moment at which timers could expire until the last of them was
handed out). Of the 12 bytes 8 are ``due`` and 4 the entry and its reserve. Slots are handed out as
they lie, 1 ns a timer, but of the slot of the present each entry's time is looked at: in columns
(``wheel_many.py``), where there are many, as in all that is done to many at once (``insert_many``,
cascading, dirty slots). Inserting one by one is where Kafka's timer and a heap are quicker.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from streams.core import wheel_many as many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.core.wheel_many import Indices

SLOT_MS = 100
SLOTS = 6_000
WINDOW_MS = SLOT_MS * SLOTS
NEVER = -1
"""``due`` of an index that waits for nothing."""
_ROUND_UP = SLOT_MS - 1
_STALE_FLOOR = 4_096
"""Below this many stale entries nothing is sorted out: it would not repay the visit."""
MANY = 128
"""Entries from which on they are looked at in columns."""


class Wheel:
    """Timers by dense index. Times are milliseconds, never negative; ``clock_ms`` never falls."""

    __slots__ = (
        "_dirty",
        "_dirty_windows",
        "_horizon",
        "_live",
        "_next",
        "_overdue",
        "_ring",
        "_stale",
        "_ticks",
        "_window_heap",
        "_windows",
        "clock_ms",
        "due",
    )

    def __init__(self, clock_ms: int) -> None:
        self.clock_ms = clock_ms
        """All that was due up to here has been taken."""
        self._horizon = _tick(clock_ms) + SLOTS  # the first slot that has no place in the ring
        self.due: array[int] = array("q")
        """Due time by index. An index that was taken keeps the time it was due at."""
        self._ring: list[array[int] | None] = [None] * SLOTS
        self._ticks: list[int] = []  # heap: slot numbers (time // SLOT_MS) in use, once each
        self._dirty = bytearray(SLOTS)  # by ring position: may hold stale entries
        self._windows: dict[int, array[int]] = {}
        self._window_heap: list[int] = []
        self._dirty_windows: set[int] = set()
        self._overdue: dict[int, None] = {}  # inserted when already due; taken by the next advance
        self._live = 0
        self._stale = 0
        self._next: int | None = None  # what next_due() answered, while it still holds

    def __len__(self) -> int:
        return self._live

    def grow(self, count: int) -> None:
        """Make the indices below ``count`` usable."""
        missing = count - len(self.due)
        if missing > 0:
            self.due.extend(repeat(NEVER, missing))

    def insert(self, index: int, due_ms: int) -> None:
        """Let ``index`` be due at ``due_ms``, instead of at whatever time it waited for before.

        A time that is past already is taken by the next ``advance``.
        """
        due, clock_ms = self.due, self.clock_ms
        if due[index] > clock_ms or self._overdue:
            self.cancel(index)
        if due_ms > clock_ms:
            tick = (due_ms + _ROUND_UP) // SLOT_MS
            if tick < self._horizon and (slot := self._ring[tick % SLOTS]) is not None:
                slot.append(index)  # as a rule; the other cases cost a call
            else:
                self._file(index, tick)
        elif due_ms >= 0:
            self._overdue[index] = None
        else:
            raise ValueError(f"due time {due_ms} is negative")
        due[index] = due_ms
        self._live += 1
        known = self._next
        if known is not None and due_ms < known:
            self._next = due_ms

    def insert_many(self, indices: Sequence[int], dues_ms: Sequence[int]) -> None:
        """Insert each of ``indices`` at its time of ``dues_ms``, at a third of the cost of one.

        Meant for building a wheel, and for arming a batch anew that ``advance`` gave out: those
        wait for nothing. Any other may be among them, and is moved as by ``insert``.
        """
        if len(indices) >= MANY and self._insert_columns(indices, dues_ms):
            return
        due, clock_ms, ring, horizon = self.due, self.clock_ms, self._ring, self._horizon
        straight, count = not self._overdue, 0
        try:
            for index, due_ms in zip(indices, dues_ms, strict=True):
                if straight and due[index] <= clock_ms < due_ms:
                    tick = (due_ms + _ROUND_UP) // SLOT_MS
                    if tick < horizon and (slot := ring[tick % SLOTS]) is not None:
                        slot.append(index)
                        due[index] = due_ms
                        count += 1
                        continue
                self.insert(index, due_ms)
                straight, ring = not self._overdue, self._ring  # a move may have sorted all out
        finally:
            self._live += count
            self._next = None

    def _insert_columns(self, indices: Sequence[int], dues_ms: Sequence[int]) -> bool:
        """Insert many at once; false, and nothing is done, where they must be taken in turn."""
        if self._overdue or len(indices) != len(dues_ms):
            return False
        at = np.fromiter(indices, np.int64, len(indices))
        times = np.fromiter(dues_ms, np.int64, len(indices))
        others = many.set_times(self.due, at, times, self.clock_ms)
        if others is None:
            return False
        moved = list(zip(at[others].tolist(), times[others].tolist(), strict=True))
        at = np.delete(at, others)
        self._file_many(at.astype(np.uint32))
        self._live += len(at)
        self._next = None
        for index, due_ms in moved:
            self.insert(index, due_ms)
        return True

    def cancel(self, index: int) -> None:
        """Let ``index`` wait for nothing. Nothing happens if it does not wait."""
        due = self.due
        old = due[index]
        due[index] = NEVER
        if old <= self.clock_ms:
            if index in self._overdue:
                del self._overdue[index]
                self._live -= 1
                self._next = None
            return
        # The entry lies in its slot or, where its window has not cascaded yet, in the window.
        number, position = divmod((old + _ROUND_UP) // SLOT_MS, SLOTS)
        self._dirty[position] = 1
        if number in self._windows:
            self._dirty_windows.add(number)
        self._live -= 1
        self._stale += 1
        if old == self._next:
            self._next = None
        if self._stale > _STALE_FLOOR and self._stale > 2 * self._live:
            self._sort_out()

    def advance(self, now_ms: int) -> array[int]:
        """Move the clock to ``now_ms`` and take the indices due by then, in no stated order.

        They come as they lay in their slots, four bytes each, and are the caller's. ValueError if
        ``now_ms`` is before the clock.
        """
        if now_ms < self.clock_ms:
            raise ValueError(f"time {now_ms} is before the clock {self.clock_ms}")
        taken = array("I", self._overdue)
        self._overdue.clear()
        present = _tick(now_ms)
        while self._window_heap and self._window_heap[0] <= present // SLOTS:
            number = heappop(self._window_heap)
            self._take(number * SLOTS - 1, now_ms, taken)
            self._cascade(number)
        self._take(present, now_ms, taken)
        self.clock_ms = now_ms
        self._horizon = present + SLOTS
        if taken:
            self._live -= len(taken)
            self._next = None
        return taken

    def look(self, now_ms: int) -> array[int] | None:
        """Return the indices of the slots up to ``now_ms``, due by then or in its slot; none leave.

        Null where only ``advance`` can tell: some were due as they were inserted, or time would
        enter a window.
        """
        present = _tick(now_ms)
        if self._overdue or (self._window_heap and self._window_heap[0] <= present // SLOTS):
            return None
        found = array("I")
        for tick in [tick for tick in self._ticks if tick <= present]:
            found.extend(self._slot(tick))
        return found

    def next_due(self) -> int | None:
        """Return the earliest time at which ``advance`` takes something; null if nothing waits."""
        if self._next is None and self._live:
            earliest = min((self.due[i] for i in self._overdue), default=None)
            if earliest is None:
                earliest = self._first_in_ring()
            if self._window_heap:
                start = self._window_heap[0] * SLOTS
                if earliest is None or start <= _tick(earliest):
                    earliest = self._first_in_windows(earliest)
            self._next = earliest
        return self._next

    def _file(self, index: int, tick: int) -> None:
        """Append an entry to a slot after the clock or, beyond the ring, to its window."""
        if tick < self._horizon:
            position = tick % SLOTS
            slot = self._ring[position]
            if slot is None:
                self._ring[position] = array("I", (index,))
                heappush(self._ticks, tick)
            else:
                slot.append(index)
            return
        number = tick // SLOTS
        window = self._windows.get(number)
        if window is None:
            self._windows[number] = array("I", (index,))
            heappush(self._window_heap, number)
        else:
            window.append(index)

    def _file_many(self, indices: Indices) -> None:
        """Append entries to slots after the clock or, those beyond the ring, to windows."""
        ticks = (many.times_of(self.due)[indices] + _ROUND_UP) // SLOT_MS
        far = ticks >= self._horizon
        if far.any():
            windows = self._windows
            for number, data in many.by_number(indices[far], ticks[far] // SLOTS):
                if number not in windows:
                    windows[number] = array("I")
                    heappush(self._window_heap, number)
                windows[number].frombytes(data)
            indices, ticks = indices[~far], ticks[~far]
        ring = self._ring
        for tick, data in many.by_number(indices, ticks):
            slot = ring[tick % SLOTS]
            if slot is None:
                ring[tick % SLOTS] = array("I", data)
                heappush(self._ticks, tick)
            else:
                slot.frombytes(data)

    def _cascade(self, number: int) -> None:
        """Move the timers of a window that time has entered into the ring."""
        self._horizon = max(self._horizon, (number + 1) * SLOTS)
        dirty = number in self._dirty_windows
        entries = self._living(number) if dirty else self._windows[number]
        if dirty:  # one moved within it may have an entry in the ring as well: that is dirty, too
            self._dirty_windows.remove(number)
            self._stale -= len(self._windows[number]) - len(entries)
            for index in entries:
                self._dirty[_tick(self.due[index]) % SLOTS] = 1
        del self._windows[number]
        if len(entries) < MANY:
            for index in entries:
                self._file(index, _tick(self.due[index]))
        else:
            self._file_many(many.column(entries))

    def _living(self, number: int) -> array[int]:
        """Return the entries of a window that are not stale, each once."""
        due, window = self.due, self._windows[number]
        if len(window) < MANY:
            return array("I", dict.fromkeys(i for i in window if _tick(due[i]) // SLOTS == number))
        begin_ms = (number * SLOTS - 1) * SLOT_MS
        return many.between(due, window, begin_ms, begin_ms + WINDOW_MS)

    def _take(self, last_tick: int, now_ms: int, taken: array[int]) -> None:
        """Take what is due by ``now_ms`` out of the slots up to ``last_tick``."""
        due, over = self.due, now_ms // SLOT_MS
        while self._ticks and self._ticks[0] <= last_tick:
            tick = self._ticks[0]
            slot = self._slot(tick)
            if tick <= over:
                taken.extend(slot)
                self._drop_first_slot()
                continue
            if len(slot) >= MANY:
                ready, rest = many.parted(due, slot, now_ms)
                taken.extend(ready)
            else:
                rest = array("I", [i for i in slot if due[i] > now_ms])
                if len(rest) < len(slot):
                    taken.extend(i for i in slot if due[i] <= now_ms)
            if rest:
                self._ring[tick % SLOTS] = rest
            else:
                self._drop_first_slot()
            return

    def _slot(self, tick: int) -> array[int]:
        """Return the timers of a slot in use, rid of stale entries."""
        position = tick % SLOTS
        slot = self._ring[position]
        if slot is None:
            raise AssertionError(f"slot {tick} is in the heap but not in the ring")
        if self._dirty[position]:
            due = self.due
            low = max((tick - 1) * SLOT_MS, self.clock_ms)
            high = tick * SLOT_MS
            if len(slot) >= MANY:
                clean = many.between(due, slot, low, high)
            else:
                clean = array("I", dict.fromkeys(i for i in slot if low < due[i] <= high))
            self._stale -= len(slot) - len(clean)
            self._ring[position] = slot = clean
            self._dirty[position] = 0
        return slot

    def _drop_first_slot(self) -> None:
        self._ring[heappop(self._ticks) % SLOTS] = None

    def _first_in_ring(self) -> int | None:
        while self._ticks:
            slot = self._slot(self._ticks[0])
            if len(slot) >= MANY:
                return many.earliest(self.due, slot)
            if slot:
                return min(map(self.due.__getitem__, slot))
            self._drop_first_slot()
        return None

    def _first_in_windows(self, bound_ms: int | None) -> int | None:
        """Return the earliest time in the windows, or ``bound_ms`` if that is earlier still."""
        due = self.due
        for number in sorted(self._window_heap):
            if bound_ms is not None and number * SLOTS > _tick(bound_ms):
                break
            living = self._living(number)
            if living:
                first = min(map(due.__getitem__, living))
                return first if bound_ms is None else min(first, bound_ms)
        return bound_ms

    def _sort_out(self) -> None:
        """Drop all stale entries: file the living anew."""
        slots = [slot for slot in self._ring if slot is not None]
        living = many.after(self.due, (*slots, *self._windows.values()), self.clock_ms)
        self._ring = [None] * SLOTS
        self._ticks = []
        self._dirty = bytearray(SLOTS)
        self._windows = {}
        self._window_heap = []
        self._dirty_windows = set()
        self._stale = 0
        self._file_many(living)


def _tick(time_ms: int) -> int:
    """Return the number of the slot of a time: divided by the slot's width and rounded up."""
    return (time_ms + _ROUND_UP) // SLOT_MS
