"""Timers of captures: never early, in order, whatever the clocks do."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.agents.timers import TimerQueue
from streams.runtime.clock import Clock


class HandClock(Clock):
    """A wall clock that a test moves; the event loop's own clock goes on beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = 1_000_000.0

    def now_s(self) -> float:
        return self.ms / 1000.0


@given(
    due=st.lists(st.integers(0, 500), min_size=1, max_size=50),
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_handed_over_before_its_time(due: list[int], steps: list[int]) -> None:
    """SPEC 2.1: never early, and all of it once the time has come."""

    async def run() -> None:
        clock = HandClock()
        start = int(clock.ms)
        got: list[tuple[int, int]] = []
        queue: TimerQueue[int] = TimerQueue(
            clock, lambda items: got.extend((item, int(clock.ms)) for item in items), most=7
        )
        for offset in due:
            queue.push(start + offset, start + offset)
        for step in [*steps, 1_000]:
            clock.ms += step
            for _ in range(len(due)):
                queue._wake()
        assert sorted(item for item, _ in got) == sorted(start + offset for offset in due)
        assert all(at >= item for item, at in got)
        assert len(queue) == 0

    asyncio.run(run())


async def test_what_is_dropped_is_not_handed_over() -> None:
    clock = HandClock()
    got: list[int] = []
    queue: TimerQueue[int] = TimerQueue(clock, got.extend)
    for item in (3, 1, 2):
        queue.push(int(clock.ms) + item, item)
    assert queue.drop(lambda item: item != 2) == [1, 3]
    clock.ms += 10
    queue._wake()
    assert got == [2]


async def test_a_wake_up_before_its_time_is_set_again() -> None:
    """The event loop's clock may run ahead of the wall clock, which is slewed."""
    clock = HandClock()
    done = asyncio.Event()
    queue: TimerQueue[str] = TimerQueue(clock, lambda _items: done.set())
    queue.push(int(clock.ms) + 5, "x")
    await asyncio.sleep(0.02)
    assert not done.is_set()
    clock.ms += 5
    await asyncio.wait_for(done.wait(), 5.0)


async def test_who_is_about_to_take_a_while_looks_first() -> None:
    """Issue 5: what has come due is handed over then and there, not when the loop is free."""
    clock = HandClock()
    got: list[int] = []
    queue: TimerQueue[int] = TimerQueue(clock, got.extend)
    for item in (1, 2, 9):
        queue.push(int(clock.ms) + item, item)
    queue.look()
    assert got == []
    clock.ms += 2
    queue.look()
    assert got == [1, 2]
    clock.ms += 7
    await asyncio.sleep(0.02)
    assert got == [1, 2, 9], "the wake-up that was cancelled is set again"
