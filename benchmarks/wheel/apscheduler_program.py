"""APScheduler 3 as a program: ``apscheduler_program.py JOB``; nothing of ours but the work.

A background scheduler with the memory store; a timer is a job with a date trigger. It is paused
while they are added, so that adding wakes nobody. Jobs run in the scheduler's own thread
(``DebugExecutor``), the cheapest way it has, and may be late without end.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from threading import Event
from typing import Any

from apscheduler.executors.debug import DebugExecutor  # pyright: ignore[reportMissingImports]
from apscheduler.schedulers.background import (  # pyright: ignore[reportMissingImports]
    BackgroundScheduler,
)

from benchmarks.wheel.work import Job, offsets_ms

TRACED = 10_000
"""Timers of the pass that measures memory, at most: it does not depend on their number."""


class Watch:
    """Sees the jobs run."""

    def __init__(self, timers: int) -> None:
        self.left = timers
        self.late_ms = self.early_ms = 0.0
        self.done = Event()

    def expired(self, due_ms: int) -> None:
        """Note one."""
        late_ms = time.time() * 1000 - due_ms
        self.late_ms = max(self.late_ms, late_ms)
        self.early_ms = max(self.early_ms, -late_ms)
        self.left -= 1
        if not self.left:
            self.done.set()


def paused() -> Any:
    """Return a scheduler that runs and fires nothing yet."""
    scheduler = BackgroundScheduler(executors={"default": DebugExecutor()}, timezone=UTC)
    scheduler.start(paused=True)
    return scheduler


def add(scheduler: Any, watch: Watch, due_ms: int) -> None:
    """Add one timer."""
    when = datetime.fromtimestamp(due_ms / 1000, UTC)
    scheduler.add_job(watch.expired, "date", run_date=when, args=(due_ms,), misfire_grace_time=None)


def run(job: Job) -> dict[str, float]:
    """Insert, wait, let time run."""
    offsets = offsets_ms(job.timers, job.window_ms)
    scheduler, watch = paused(), Watch(job.timers)
    start_ms = time.time_ns() // 1_000_000 + job.lead_ms
    began = time.perf_counter_ns()
    for number, offset in enumerate(offsets, 1):
        add(scheduler, watch, start_ms + offset)
        if number % 1_000 == 0 and time.perf_counter_ns() - began > job.give_up_ms * 1_000_000:
            return {"insert_ns": (time.perf_counter_ns() - began) / number, "inserted": number}
    figures = {"insert_ns": (time.perf_counter_ns() - began) / job.timers}
    time.sleep(max(0.0, start_ms / 1000 - time.time()))
    cpu_ns = time.process_time_ns()
    scheduler.resume()
    watch.done.wait()
    figures["expire_ns"] = (time.process_time_ns() - cpu_ns) / job.timers
    figures["worst_tick_ms"] = watch.late_ms
    figures["early_ms_max"] = watch.early_ms
    scheduler.shutdown()
    scheduler, gc_count = paused(), gc.collect()
    traced = min(TRACED, job.timers)
    tracemalloc.start()
    try:
        for offset in offsets[:traced]:
            add(scheduler, watch, start_ms + 3_600_000 + offset)
        figures["bytes_per_timer"] = tracemalloc.get_traced_memory()[0] / traced
    finally:
        tracemalloc.stop()
    scheduler.shutdown()
    del gc_count
    return figures


if __name__ == "__main__":
    print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
