"""Real rebalances: what stays goes on without recovery, what may have been elsewhere does not."""

from __future__ import annotations

import json
import signal
import threading

import pytest
from runtime_harness import Site, wait_until

PARTITIONS = 8


@pytest.fixture
def wide(kafka, namespace, tmp_path):
    made = Site(kafka, namespace, tmp_path, partitions=PARTITIONS)
    yield made
    made.close()


def rebalances(worker):
    """Return the log's lines of rebalances: how many partitions stayed and the parts in ms."""
    lines = (json.loads(line) for line in list(worker.errors) if line.startswith("{"))
    return [line for line in lines if line.get("event") == "rebalance"]


def share(*workers):
    """Wait until these workers own all partitions, each some, and return what each owns."""
    wait_until(
        f"all is owned: {[w.report() for w in workers]}",
        lambda: (
            sum(len(w.owns()) for w in workers) == PARTITIONS and all(w.owns() for w in workers)
        ),
    )
    return [w.owns() for w in workers]


def test_what_stays_is_gone_on_with_and_not_recovered(wide):
    """A worker joins and leaves again under a feed: the other keeps its half, opened once."""
    site, stop = wide, threading.Event()
    a = site.worker("a").until_owns(PARTITIONS)
    feeding = site.feed.steadily(400, stop)
    b = site.worker("b")
    kept, _ = share(a, b)
    assert b.stop() == 0, b.report()
    a.until_owns(PARTITIONS)
    stop.set()
    feeding.join(30)
    site.until_worked_off([a])
    assert a.stop() == 0, a.report()
    opened = [event["partition"] for event in a.all("opened")]
    assert {n for n in opened if opened.count(n) == 1} == kept
    resumed = a.all("resumed")
    assert sorted(e["partition"] for e in resumed) == sorted([*kept, *kept])
    findings = site.reader.findings()
    assert findings.sound(), findings
    first, joined, left = rebalances(a)
    assert (first["kept"], joined["kept"], left["kept"]) == (0, len(kept), len(kept))
    for parts in (joined, left):
        assert 0 <= parts["pause_ms"] <= parts["total_ms"], parts


def test_who_missed_a_generation_recovers_all(wide):
    """Stopped for longer than its session, with nothing to write; the other's clock wrote."""
    site = wide
    a, b = site.worker("a", tick_ms=1_000_000), site.worker("b")
    before, _ = share(a, b)
    a.signal(signal.SIGSTOP)
    b.until_owns(PARTITIONS)
    seen = site.reader.written("probe.log")
    wait_until("b has written", lambda: site.reader.written("probe.log") > seen + 100)
    resumed, opened = len(a.all("resumed")), len(a.all("opened"))
    a.signal(signal.SIGCONT)
    wait_until("a owns again or has ended", lambda: len(a.all("opened")) > opened or a._ended())
    again, _ = share(a, b)
    assert again == before, a.report()
    assert len(a.all("resumed")) == resumed
    assert all(event["rows"] for event in a.all("opened")[opened:])
    site.feed.send(400, later_every=0)
    site.until_worked_off([a, b])
    assert [a.stop(), b.stop()] == [0, 0], a.report() + b.report()
    findings = site.reader.findings()
    assert findings.sound(), findings


def test_a_slot_that_starts_again_gets_its_partitions_back(wide):
    """The ring goes by slots: a killed worker's partitions, and its disk, are its successor's.

    Its successor leaves the group on its behalf, so nobody waits for its session to time out.
    """
    site = wide
    slow = {"session_timeout_ms": 20_000}
    workers = {slot: site.worker(slot, runtime=slow) for slot in "abc"}
    before = share(*workers.values())
    workers["b"].kill()
    others = [workers["a"], workers["c"]]
    workers["b"] = site.worker("b", runtime=slow)
    assert share(*workers.values()) == before
    # Had the dead one's session to run out first, the pause of the others were as long as it.
    assert all(rebalances(w)[-1]["pause_ms"] < slow["session_timeout_ms"] / 2 for w in others)
    site.feed.send(200)
    site.until_worked_off(workers.values())
    assert [worker.stop() for worker in workers.values()] == [0, 0, 0]
    findings = site.reader.findings()
    assert findings.sound(), findings
