"""Workers stopped for longer than their session and woken again: the other one takes over.

The woken one must write nothing and open no shutter; it leaves, and the supervisor starts it again
(DESIGN 'Exactly once', 'Captures': the lease).
"""

from __future__ import annotations

import re
import signal
import time

from chain_harness import PARTITIONS

from schemas.records import ScheduleTick

EVERY_MS = 1_000
FLEET = 30
ARMED = re.compile(r"armed by slot (\d+) ")


def stop_until_taken_over(chain, app):
    """SIGSTOP slot 0 until slot 1 owns everything and works; wake it; return when, UTC ms."""
    chain.wait_until("both own partitions", lambda: min(chain.owned(app, n) for n in (0, 1)) > 0)
    chain.run_on(photos=FLEET // 2)
    stopped = chain.signal(app, signal.SIGSTOP)
    chain.wait_until("the other has all", lambda: chain.owned(app, 1) == PARTITIONS)
    chain.run_on(photos=FLEET)
    woken_ms = time.time_ns() // 1_000_000
    chain.signal(app, signal.SIGCONT)
    chain.wait_until("it leaves, and is started again", lambda: chain.pid(app) not in {0, stopped})
    return woken_ms


def test_a_captures_worker_that_is_stopped_and_wakes_takes_no_photo(make_chain):
    """Issue 3: SIGSTOP of a worker under load with nothing lost or doubled."""
    chain = make_chain(FLEET, captures=2)
    chain.introduce()
    chain.schedule(EVERY_MS, catch_up="30s")
    chain.await_ready()

    stop_until_taken_over(chain, "captures")
    chain.wait_until("both own partitions again", lambda: chain.owned("captures", 0) > 0)
    chain.run_on(photos=FLEET)
    report = chain.finish()

    assert report.succeeded >= 2 * FLEET
    armed_by = {
        found[1]
        for result in chain.results()
        for move in result.transitions
        if (found := ARMED.match(move.cause))
    }
    assert armed_by == {"0", "1"}, "both took part"
    # What it had armed when it was stopped the other one took; finish() looks for photos that were
    # taken after their capture had ended. Here is that there was something to be taken twice.
    again = [r for r in chain.results() if r.attempt > 1]
    assert again, "nothing was armed when the worker was stopped: the test has shown nothing"


def test_a_wheel_worker_that_is_stopped_and_wakes_issues_nothing(make_chain):
    """Issue 3: the same for the wheel; each due time has one command, from one of the two."""
    chain = make_chain(FLEET, wheels=2)
    chain.introduce()
    chain.schedule(EVERY_MS, catch_up="30s")
    chain.await_ready()

    stop_until_taken_over(chain, "wheel")
    chain.run_on(photos=FLEET)
    report = chain.finish()

    assert report.succeeded >= 2 * FLEET
    times = [(t.partition, t.time_ms) for t in chain.records("schedule.ticks", ScheduleTick)]
    for number in range(PARTITIONS):
        own = [time_ms for partition, time_ms in times if partition == number]
        assert own == sorted(own), f"time ran backwards in partition {number}"
