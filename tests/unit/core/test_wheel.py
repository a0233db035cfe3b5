"""The timing wheel against a heap (SPEC 1.2, 2.1): nothing early, twice or lost."""

from __future__ import annotations

import heapq
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from streams.core import wheel
from streams.core.wheel import NEVER, SLOT_MS, SLOTS, WINDOW_MS, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable

INDICES = 12
GAPS = st.one_of(
    st.integers(0, 3 * SLOT_MS),
    st.integers(0, 2 * WINDOW_MS),
    st.integers(0, 30).map(lambda n: n * 50_000),
    st.sampled_from([0, 1, 99, 100, 101, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1]),
    st.integers(0, 10 * 365 * 86_400_000),
)


class HeapModel:
    """What a wheel must do, said in the simplest way: a heap with lazy deletion."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, int]] = []
        self.version = [0] * INDICES
        self.due: dict[int, int] = {}

    def insert(self, index: int, due_ms: int) -> None:
        self.version[index] += 1
        self.due[index] = due_ms
        heapq.heappush(self.heap, (due_ms, index, self.version[index]))

    def cancel(self, index: int) -> None:
        self.version[index] += 1
        self.due.pop(index, None)

    def advance(self, now_ms: int) -> list[int]:
        taken = []
        while self.heap and self.heap[0][0] <= now_ms:
            _, index, version = heapq.heappop(self.heap)
            if version == self.version[index]:
                taken.append(index)
                del self.due[index]
        return sorted(taken)


class WheelMachine(RuleBasedStateMachine):
    """Any order of inserts, moves, cancels and steps of time."""

    times = Bundle("times")

    @initialize(start_ms=st.sampled_from([0, 1, 250, 1_767_225_600_000]))
    def start(self, start_ms: int) -> None:
        self.wheel = Wheel(start_ms)
        self.wheel.grow(INDICES)
        self.model = HeapModel()

    @rule(target=times, gap_ms=GAPS)
    def pick_time(self, gap_ms: int) -> int:
        return self.wheel.clock_ms + gap_ms

    @rule(index=st.integers(0, INDICES - 1), due_ms=times)
    def insert(self, index: int, due_ms: int) -> None:
        self.wheel.insert(index, due_ms)
        self.model.insert(index, due_ms)

    @rule(data=st.data())
    def insert_many(self, data: st.DataObject) -> None:
        """Some that wait and some that do not, some twice, some already due."""
        clock_ms = self.wheel.clock_ms
        some = data.draw(st.lists(st.tuples(st.integers(0, INDICES - 1), GAPS), max_size=INDICES))
        self.wheel.insert_many([i for i, _ in some], [clock_ms + gap_ms for _, gap_ms in some])
        for index, gap_ms in some:
            self.model.insert(index, clock_ms + gap_ms)

    @rule(index=st.integers(0, INDICES - 1), a_ms=times, b_ms=times)
    def there_and_back(self, index: int, a_ms: int, b_ms: int) -> None:
        for due_ms in (a_ms, b_ms, a_ms):
            self.insert(index, due_ms)

    @rule(index=st.integers(0, INDICES - 1))
    def cancel(self, index: int) -> None:
        self.wheel.cancel(index)
        self.model.cancel(index)

    @rule(gap_ms=GAPS)
    def advance(self, gap_ms: int) -> None:
        now_ms = self.wheel.clock_ms + gap_ms
        assert sorted(self.wheel.advance(now_ms)) == self.model.advance(now_ms)

    @rule(short_ms=st.integers(0, 2))
    def advance_to_next(self, short_ms: int) -> None:
        """Stop just before, at or just after the next timer."""
        due_ms = self.wheel.next_due()
        if due_ms is not None:
            now_ms = max(self.wheel.clock_ms, due_ms - 1 + short_ms)
            assert sorted(self.wheel.advance(now_ms)) == self.model.advance(now_ms)

    @rule()
    def sort_out(self) -> None:
        """What churn does now and then."""
        self.wheel._sort_out()

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "wheel"):
            assert len(self.wheel) == len(self.model.due)
            assert self.wheel.next_due() == min(self.model.due.values(), default=None)


TestWheel = WheelMachine.TestCase
TestWheel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class ColumnsMachine(WheelMachine):
    """The same where two entries are many, and so looked at in columns."""

    def __init__(self) -> None:
        super().__init__()
        self._many = wheel.MANY
        wheel.MANY = 2

    def teardown(self) -> None:
        wheel.MANY = self._many


TestColumns = ColumnsMachine.TestCase
TestColumns.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def filled(dues: list[int], clock_ms: int = 0) -> Wheel:
    wheel = Wheel(clock_ms)
    wheel.grow(len(dues))
    for index, due_ms in enumerate(dues):
        wheel.insert(index, due_ms)
    return wheel


def test_the_worked_example_of_the_docstring():
    wheel = filled([250, 700_000])
    assert list(wheel.advance(249)) == []
    assert list(wheel.advance(250)) == [0]
    assert list(wheel.advance(600_000)) == []
    assert list(wheel.advance(699_999)) == []
    assert list(wheel.advance(700_000)) == [1]


def test_a_timer_is_never_early_by_a_millisecond():
    """SPEC 2.1: the slot is 100 ms wide, the timer is not."""
    for due_ms in (1, 99, 100, 101, SLOT_MS * SLOTS - 1, WINDOW_MS, WINDOW_MS + 50, 3 * WINDOW_MS):
        wheel = filled([due_ms])
        assert list(wheel.advance(due_ms - 1)) == []
        assert wheel.next_due() == due_ms
        assert list(wheel.advance(due_ms)) == [0]
        assert wheel.next_due() is None


def test_one_jump_over_many_windows_takes_all():
    dues = [i * 37_777 for i in range(1, 400)]
    wheel = filled(dues)
    assert sorted(wheel.advance(dues[-1])) == list(range(len(dues)))
    assert len(wheel) == 0


def test_a_timer_moved_from_its_window_into_the_ring_is_taken_once():
    """The window still holds an entry for it when it cascades."""
    wheel = filled([700_000])
    wheel.advance(300_000)
    wheel.insert(0, 800_000)
    wheel.advance(600_000)
    assert list(wheel.advance(900_000)) == [0]


def test_the_next_timer_may_lie_in_a_window_though_the_ring_is_in_use():
    wheel = filled([650_000])
    wheel.advance(300_000)
    wheel.grow(2)
    wheel.insert(1, 800_000)
    assert wheel.next_due() == 650_000


def test_two_slots_of_one_ring_position_do_not_meet_in_a_jump():
    wheel = filled([100_000, 100_000 + WINDOW_MS])
    assert list(wheel.advance(650_000)) == [0]
    assert list(wheel.advance(700_000)) == [1]


def test_what_was_taken_keeps_its_time():
    wheel = filled([250, 260])
    wheel.advance(1_000)
    assert list(wheel.due) == [250, 260]
    wheel.cancel(0)
    assert wheel.due[0] == NEVER


def test_memory_follows_timers_not_changes():
    """A schedule that is changed for ever does not grow the wheel."""
    wheel = Wheel(0)
    wheel.grow(10)
    for turn in range(30_000):
        wheel.insert(turn % 10, 5_000_000 + turn * 1_000)
    slots = [slot for slot in wheel._ring if slot is not None]
    entries = sum(map(len, slots)) + sum(map(len, wheel._windows.values()))
    assert entries < 10_000
    assert len(wheel) == 10
    assert sorted(wheel.advance(5_000_000 + 30_000_000)) == list(range(10))


def test_time_does_not_run_backwards():
    wheel = filled([], clock_ms=10)
    with pytest.raises(ValueError, match="before the clock"):
        wheel.advance(9)


def test_a_negative_time_is_a_bug():
    wheel = filled([5])
    with pytest.raises(ValueError, match="negative"):
        wheel.insert(0, -7)


# --- what it costs (SPEC 2.1): lines of the wheel that run, which no other program can disturb ------


def lines_run(call: Callable[[], object]) -> int:
    """Return how many lines of ``wheel.py`` a call runs."""
    count = 0

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith("streams/core/wheel.py"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def crowd(count: int) -> Wheel:
    """So many timers over 300 s, and one more index that waits for nothing."""
    wheel = filled([1 + i * 300_000 // count for i in range(count)])
    wheel.grow(count + 1)
    return wheel


@pytest.mark.parametrize("due_ms", [150_050, 5 * WINDOW_MS + 50])
def test_inserting_moving_and_cancelling_cost_the_same_among_many(due_ms: int):
    """O(1): each also in the window that a time far ahead lies in."""

    def cost(count: int) -> list[int]:
        wheel = crowd(count)
        wheel.insert(0, due_ms)  # its slot or window is there
        return [
            lines_run(lambda: wheel.insert(count, due_ms)),
            lines_run(lambda: wheel.insert(count, due_ms - 1)),
            lines_run(lambda: wheel.cancel(count)),
            lines_run(lambda: wheel.advance(0)),
        ]

    few = cost(3_000)
    assert cost(60_000) == few
    assert max(few) < 30


def test_a_batch_is_taken_at_the_same_cost_whatever_its_size():
    """A slot in which nothing was moved is one block; all due at once is one step."""

    def cost(count: int) -> int:
        wheel = filled([1_000] * count)
        return lines_run(lambda: wheel.advance(1_000))

    assert cost(100_000) == cost(10)
    herd = filled([1_000] * 100_000)
    assert list(herd.advance(999)) == []
    assert list(herd.advance(1_000)) == list(range(100_000))
    assert list(herd.advance(2_000)) == []


def test_time_in_which_nothing_is_due_costs_nothing():
    """The occupancy index: a second and ten years are the same, and so are many timers ahead."""
    ten_years_ms = 10 * 365 * 86_400_000
    few, many = filled([ten_years_ms + 1]), filled([ten_years_ms + 1 + i for i in range(10_000)])
    second = lines_run(lambda: few.advance(1_000))
    assert lines_run(lambda: few.advance(ten_years_ms - WINDOW_MS)) == second
    assert lines_run(lambda: many.advance(ten_years_ms - WINDOW_MS)) == second
    assert second < 20
    assert list(few.advance(ten_years_ms + 1)) == [0]


@pytest.mark.parametrize("windows", [2, 500_000])
def test_a_timer_cascades_once_however_far_ahead_it_was(windows: int, monkeypatch):
    """Hierarchical: a ring and windows, and no third level whatever the distance."""
    moved: list[int] = []
    cascade = Wheel._cascade

    def watched(wheel: Wheel, number: int) -> None:
        moved.append(number)
        cascade(wheel, number)

    monkeypatch.setattr(Wheel, "_cascade", watched)
    due_ms = windows * WINDOW_MS + 50
    wheel = filled([due_ms] * 3)
    assert list(wheel.advance(due_ms - 1)) == []
    assert list(wheel.advance(due_ms)) == [0, 1, 2]
    assert moved == [windows]


def test_many_at_once_are_filed_as_one_by_one():
    dues = [1 + (i * 7_919) % (3 * WINDOW_MS) for i in range(5_000)]
    wheel = Wheel(0)
    wheel.grow(len(dues))
    wheel.insert_many(range(len(dues)), dues)
    one_by_one = filled(dues)
    assert (len(wheel), wheel.next_due()) == (len(dues), 1)
    for now_ms in range(0, 3 * WINDOW_MS + 1, 50_000):
        assert sorted(wheel.advance(now_ms)) == sorted(one_by_one.advance(now_ms))
        assert wheel.next_due() == one_by_one.next_due()
    assert len(wheel) == 0


def test_many_at_once_need_a_time_each():
    wheel = filled([5, 5])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        wheel.insert_many([0, 1], [7])
    assert len(wheel) == 2
    assert sorted(wheel.advance(7)) == [0, 1]


def test_memory_is_bounded_when_many_are_moved_at_once():
    """Stale entries never outnumber the living by more than two to one, or the floor."""
    wheel = filled([1_000_000] * 5_000)
    for turn in range(40):
        wheel.insert_many(range(5_000), [1_000_000 + turn * 1_000] * 5_000)
        assert wheel._stale <= 2 * len(wheel) + 5_000
    assert len(wheel) == 5_000
    assert sorted(wheel.advance(2_000_000)) == list(range(5_000))
