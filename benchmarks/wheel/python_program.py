"""Our wheel and ``heapq`` as programs: ``python -m benchmarks.wheel.python_program SYSTEM JOB``.

Both are asked at each multiple of 100 ms, as the timing wheel of a worker is (SPEC 1.2). The heap
holds (due time, index), the cheapest form of it.
"""

from __future__ import annotations

import gc
import heapq
import json
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

from benchmarks.wheel.work import Job, offsets_ms
from streams.core.wheel import SLOT_MS, Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Ours:
    """The wheel of ``streams/core``."""

    def __init__(self, timers: int, now_ms: int) -> None:
        self.wheel = Wheel(now_ms)
        self.wheel.grow(timers)
        self.take = self.wheel.advance

    def fill(self, dues_ms: Iterable[int]) -> None:
        """Insert one by one."""
        insert = self.wheel.insert
        for index, due_ms in enumerate(dues_ms):
            insert(index, due_ms)


class Heap:
    """The standard library's heap."""

    def __init__(self, _timers: int, _now_ms: int) -> None:
        self.heap: list[tuple[int, int]] = []

    def fill(self, dues_ms: Iterable[int]) -> None:
        """Insert one by one."""
        heap, push = self.heap, heapq.heappush
        for index, due_ms in enumerate(dues_ms):
            push(heap, (due_ms, index))

    def take(self, now_ms: int) -> Sequence[int]:
        """Take the timers that are due."""
        heap, pop = self.heap, heapq.heappop
        taken: list[int] = []
        while heap and heap[0][0] <= now_ms:
            taken.append(pop(heap)[1])
        return taken


SYSTEMS: dict[str, type[Ours | Heap]] = {"shutterwheel": Ours, "heapq": Heap}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def run(make: type[Ours | Heap], job: Job) -> dict[str, float]:
    """Insert, wait, let time run; check what came."""
    offsets = offsets_ms(job.timers, job.window_ms)
    gc.disable()
    figures: dict[str, float] = {}
    if make is Ours:
        figures["insert_many_ns"] = _insert_many_ns(job, offsets)
    start_ms = _now_ms() + job.lead_ms
    dues_ms = [start_ms + offset for offset in offsets]
    timers = make(job.timers, _now_ms())
    began = time.perf_counter_ns()
    timers.fill(dues_ms)
    figures["insert_ns"] = (time.perf_counter_ns() - began) / job.timers
    time.sleep(max(0.0, start_ms / 1000 - time.time()))
    batches, worst_ms, left = list[tuple[int, "Sequence[int]"]](), 0.0, job.timers
    cpu_ns = time.process_time_ns()
    while left > 0:
        boundary_ms = (_now_ms() // SLOT_MS + 1) * SLOT_MS
        time.sleep(max(0.0, boundary_ms / 1000 - time.time()))
        now_ms = _now_ms()
        taken = timers.take(now_ms)
        if taken:
            worst_ms = max(worst_ms, time.time() * 1000 - boundary_ms)
            left -= len(taken)
            batches.append((now_ms, taken))
    figures["expire_ns"] = (time.process_time_ns() - cpu_ns) / job.timers
    figures["worst_tick_ms"] = worst_ms
    figures["early_ms_max"] = max(
        0, *(max(map(dues_ms.__getitem__, batch)) - now for now, batch in batches)
    )
    fired = sorted(index for _, batch in batches for index in batch)
    if fired != list(range(job.timers)):
        raise AssertionError("a timer was lost or came twice")
    del timers, batches, fired, dues_ms
    figures["bytes_per_timer"] = _bytes(make, job, offsets)
    return figures


def _insert_many_ns(job: Job, offsets: list[int]) -> float:
    start_ms = _now_ms() + job.lead_ms
    dues_ms = [start_ms + offset for offset in offsets]
    wheel = Wheel(_now_ms())
    wheel.grow(job.timers)
    began = time.perf_counter_ns()
    wheel.insert_many(range(job.timers), dues_ms)
    return (time.perf_counter_ns() - began) / job.timers


def _bytes(make: type[Ours | Heap], job: Job, offsets: list[int]) -> float:
    start_ms = _now_ms() + job.lead_ms
    tracemalloc.start()
    try:
        timers = make(job.timers, _now_ms())
        timers.fill(start_ms + offset for offset in offsets)
        return tracemalloc.get_traced_memory()[0] / job.timers
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    print(json.dumps(run(SYSTEMS[sys.argv[1]], Job(**json.loads(sys.argv[2])))))
