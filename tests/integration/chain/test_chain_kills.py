"""Workers that are killed under load: started again, nothing lost, doubled or early (SPEC 1.9, 2.4)."""

from __future__ import annotations

import signal

import pytest

EVERY_MS = 1_000
FLEET = 30


@pytest.mark.parametrize("app", ["captures", "wheel"])
def test_kill_9_under_load_loses_and_doubles_nothing(make_chain, app):
    """Issue 3: kill -9 of a worker; the supervisor starts it again and the photos go on."""
    chain = make_chain(FLEET)
    chain.introduce()
    chain.schedule(EVERY_MS)
    chain.run_on(photos=FLEET)

    killed = chain.signal(app, signal.SIGKILL)
    chain.wait_until("another process", lambda: chain.worker(app).child.pid not in {0, killed})
    chain.await_ready()
    chain.run_on(photos=2 * FLEET)
    report = chain.finish()

    assert chain.worker(app).child.restarts == 1
    assert chain.cluster.restarts == 1, "only the killed worker was started again"
    assert report.succeeded >= 3 * FLEET
    assert report.failed == 0, report.failed_causes
