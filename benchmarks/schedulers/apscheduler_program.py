"""The work of ``work.py`` on APScheduler 3; runs in an environment of its own.

Its scheduler for asyncio on uvloop, with coroutines as bodies: nothing crosses a thread. The memory
job store. No fire is given up for being late (``misfire_grace_time``: its default, a second, would
drop what we want to see); of several that were missed one is kept (``coalesce``, its default).
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import uvloop
from apscheduler.executors.asyncio import (  # type: ignore[import-not-found,unused-ignore]
    AsyncIOExecutor,
)
from apscheduler.jobstores.memory import (  # type: ignore[import-not-found,unused-ignore]
    MemoryJobStore,
)
from apscheduler.schedulers.asyncio import (  # type: ignore[import-not-found,unused-ignore]
    AsyncIOScheduler,
)
from apscheduler.triggers.interval import (  # type: ignore[import-not-found,unused-ignore]
    IntervalTrigger,
)

from benchmarks.schedulers.work import Job, given_job, say, write_answer

late_us: list[int] = []


async def main(job: Job) -> None:
    """Register, warm up, keep what fires in the window, answer."""
    began_s = time.monotonic()
    period_us = job.period_ms * 1_000
    from_us, to_us = job.from_ms * 1_000, job.to_ms * 1_000
    keep, now_ns = late_us.append, time.time_ns

    async def body(first_us: int) -> None:  # what is a coroutine runs in the loop
        now_us = now_ns() // 1_000
        if from_us <= now_us < to_us:
            keep((now_us - first_us + period_us // 2) % period_us - period_us // 2)

    scheduler = AsyncIOScheduler(
        jobstores={"default": MemoryJobStore()},
        executors={"default": AsyncIOExecutor()},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone=UTC,
    )
    scheduler.start(paused=True)
    for number in range(job.jobs):
        first_ms = job.first_ms(number)
        trigger = IntervalTrigger(
            seconds=job.period_ms / 1_000,
            start_date=datetime.fromtimestamp(first_ms / 1_000, UTC),
            timezone=UTC,
        )
        scheduler.add_job(body, trigger, args=(first_ms * 1_000,), id=str(number))
    scheduler.resume()
    setup_s = time.monotonic() - began_s
    say("ready")
    await asyncio.sleep(max(0.0, job.from_ms / 1_000 - time.time()))
    say("first")
    await asyncio.sleep(max(0.0, job.to_ms / 1_000 - time.time()))
    say("last")
    write_answer(job.answer, setup_s, late_us)
    say("written")
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(given_job()))
