"""A whole worker: its lease, its end when in doubt, dead letters, membership, local state."""

from __future__ import annotations

import os
import shutil
import signal
import time

import psutil
import pytest
from runtime_harness import DEAD, IN, LOG, OUT, Site, wait_until

from infra.kafka.broker import EmbeddedBroker
from streams.runtime.store import Store


def test_poison_records_become_one_dead_letter_each(site):
    """In the transaction that works past them: killed before its commit, still one each."""
    site.feed.send(20)
    site.feed.send(4, value=b"poison")
    site.feed.send(20)
    assert site.worker(runtime={"faults": ["before-commit"]}).exit_code() == -9
    assert site.worker(runtime={"faults": ["after-commit"]}).exit_code() == -9
    worker = site.worker().until_owns(2)
    site.until_worked_off([worker])
    assert worker.stop() == 0, worker.report()
    letters = [row for rows in site.reader.read(DEAD).values() for row in rows]
    assert len(letters) == 4
    findings = site.reader.findings()
    assert findings.sound(), findings


def test_a_failed_delivery_ends_the_worker_and_shows_nothing(site):
    """Bullet "An unknown or fatal producer error": one line, exit code 1, nothing visible."""
    site.feed.send(1, value=b"huge")
    worker = site.worker(tick_ms=10_000)
    assert worker.exit_code() == 1, worker.report()
    (failed,) = worker.all("failed")
    assert failed["error"] == "BrokerError", worker.report()
    assert "too large" in failed["line"]
    assert "\n" not in failed["line"]
    assert not any(site.reader.read(OUT).values())
    assert site.reader.committed("captures")[0] < 1


@pytest.mark.timeout(120)
def test_a_broker_that_is_gone_ends_the_worker(tmp_path, namespace):
    """Bullet "An unknown or fatal producer error": beyond its patience it stops, within a bound."""
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start()
    site = Site(broker.bootstrap, namespace, tmp_path)
    try:
        worker = site.worker(runtime={"broker_patience_ms": 5_000}).until_owns(2)
        broker.kill()
        assert worker.exit_code(60) == 1, worker.report()
        assert worker.all("failed")[0]["error"] in {"BrokerError", "FencedError"}
        assert len(worker.all("failed")) == 1
    finally:
        for worker in site.workers:
            worker.kill()
        broker.stop()


@pytest.mark.long
@pytest.mark.timeout(180)
def test_an_idle_worker_outlives_its_broker_or_ends(tmp_path, namespace):
    """With nothing to write it need not end; when the broker is back, it works or starts again."""
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start()
    site = Site(broker.bootstrap, namespace, tmp_path)
    try:
        worker = site.worker(tick_ms=1_000_000, lease_ms=20).until_owns(2)
        worker.until("lease", alive=True)
        broker.kill()
        wait_until("no lease", lambda: not worker.all("lease")[-1]["alive"])
        broker.start()
        site.feed.send(50)

        def living():
            last = site.workers[-1]
            return last if last.process.poll() is None else site.worker()

        wait_until(
            f"worked off {worker.report()}",
            lambda: sum(site.reader.committed("captures").values()) == 50 and living(),
            90,
        )
        site.until_worked_off([living()])
        assert living().stop() == 0, worker.report()
        findings = site.reader.findings()
        assert findings.sound(), findings
    finally:
        for worker in site.workers:
            worker.kill()
        broker.stop()


def test_a_worker_without_a_broker_says_so_and_ends(site):
    worker = site.worker(runtime={"broker_patience_ms": 1_000}, bootstrap="127.0.0.1:1")
    assert worker.exit_code() == 1, worker.report()
    assert worker.all("failed")[0]["error"] == "BrokerError", worker.report()


def test_the_lease_begins_with_a_heartbeat_and_ends_while_stopped(site):
    """Bullet "Arming": no lease before the first heartbeat, none after a stop longer than it."""
    worker = site.worker(lease_ms=5).until_owns(2)
    worker.until("lease", alive=True)
    first, second, *_ = worker.all("lease")
    assert (first["alive"], first["heartbeat"]) == (False, False)
    assert (second["alive"], second["heartbeat"]) in {(False, False), (True, True)}
    # Renewed by each heartbeat: it lives on for several times its own length.
    time.sleep(2.5)
    assert worker.all("lease")[-1]["alive"]
    worker.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED | os.WNOWAIT)
    # Longer than the session, 1.5 s: a heartbeat sent on waking, which may be answered before the
    # program looks, is refused, and cannot make the lease good again.
    time.sleep(3.0)
    seen = len(worker.events)
    worker.signal(signal.SIGCONT)
    wait_until("it looked again", lambda: len(worker.events) > seen)
    after = [e for e in worker.events[seen:] if e["event"] == "lease"]
    assert after, worker.report()
    assert not after[0]["alive"]


def test_more_workers_than_partitions(site):
    """The one without partitions waits, and takes over when another leaves."""
    a = site.worker("a").until_owns(2)
    b = site.worker("b").until_owns(1)
    c = site.worker("c")
    c.until("started")
    wait_until("three in the group", lambda: len(a.owns()) + len(b.owns()) + len(c.owns()) == 2)
    assert a.stop() == 0
    wait_until("two are left", lambda: len(b.owns()) == len(c.owns()) == 1)
    site.feed.send(100)
    site.until_worked_off([b, c])
    assert [b.stop(), c.stop()] == [0, 0], b.report() + c.report()
    findings = site.reader.findings()
    assert findings.sound(), findings


def test_a_second_process_of_a_slot_is_turned_away(site):
    """One clear line: the state folder is in use; the first goes on."""
    first = site.worker().until_owns(2)
    second = site.worker()
    assert second.exit_code() == 1
    assert second.all("failed")[0]["error"] == "StoreError", second.report()
    site.feed.send(10)
    site.until_worked_off([first])
    assert first.stop() == 0


def test_local_state_is_only_ever_a_short_cut(site):
    """Bullet "Local state": equal to the changelog's fold; deleted or damaged it comes back."""
    worker = site.worker()
    site.feed.send(400)
    site.until_worked_off([worker])
    assert worker.stop() == 0, worker.report()
    state = site.data_dir / f"{site.namespace}.captures-0" / "state"
    for damage in ("deleted", "cut"):
        if damage == "deleted":
            shutil.rmtree(state)
        elif damage == "cut":
            (state / "CURRENT").write_text("nonsense\n")
        worker = site.worker().until_owns(2)
        site.feed.send(100)
        site.until_worked_off([worker])
        assert worker.stop() == 0, worker.report()
        store = Store(state, ("counts",), block_cache_bytes=1 << 20)
        try:
            import runtime_checker

            for partition, rows in site.reader.read(LOG).items():
                assert dict(store.scan("counts", partition)) == runtime_checker.folded(rows)
        finally:
            store.close()
    findings = site.reader.findings()
    assert findings.sound(), findings


def test_a_backlog_is_not_read_into_memory(site):
    """What waits for the agents is a few polls, however far behind the worker is."""
    worker = site.worker(work_ms=15, runtime={"max_poll_records": 500}).until_owns(2)
    process = psutil.Process(worker.process.pid)
    before_bytes = process.memory_info().rss
    site.feed.send(150_000, later_every=0, value=b"v" * 1_000)
    behind = sum(site.reader.ends(IN).values()) - sum(site.reader.committed("captures").values())
    assert behind > 75_000
    assert process.memory_info().rss - before_bytes < 60_000_000


def test_sigterm_while_it_starts(site):
    worker = site.worker()
    worker.until("started")
    assert worker.stop() == 0, worker.report()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_time(site):
    """Faust's own books of acknowledgements are off: a million records leave nothing behind."""
    worker = site.worker(tick_ms=1_000).until_owns(2)
    process = psutil.Process(worker.process.pid)
    sizes = []
    for _ in range(4):
        site.feed.send(250_000, later_every=0)
        site.until_worked_off([worker])
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[1] < 20_000_000, sizes
    assert worker.stop() == 0
