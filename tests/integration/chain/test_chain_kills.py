"""Workers killed under load: started again, nothing lost, doubled or early (SPEC 1.9, 2.4)."""

from __future__ import annotations

import signal

EVERY_MS = 1_000
FLEET = 30


def test_kill_9_of_each_worker_under_load_loses_and_doubles_nothing(make_chain):
    """Issue 3: kill -9 of a worker; the supervisor starts it again and the photos go on."""
    chain = make_chain(FLEET)
    chain.introduce()
    chain.schedule(EVERY_MS, catch_up="30s")

    for app in ("captures", "wheel"):
        chain.run_on(photos=FLEET)
        killed = chain.signal(app, signal.SIGKILL)
        chain.wait_until("another process", lambda a=app, k=killed: chain.pid(a) not in {0, k})
        chain.await_ready()
    chain.run_on(photos=FLEET)
    report = chain.finish()

    assert [worker.child.restarts for worker in chain.cluster.workers] == [1, 1]
    assert report.succeeded >= 3 * FLEET
    assert report.failed == 0, report.failed_causes
    assert report.shutters >= report.succeeded
    left = [r for r in chain.results() if r.attempt > 1 or r.cause.startswith("recovered")]
    assert left, "nothing was armed when its worker was killed: the test has shown nothing"
