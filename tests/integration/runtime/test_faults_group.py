"""Workers killed, stopped, woken and rolled under a steady feed; see DESIGN.md, "Exactly once"."""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import contextmanager

import pytest
from runtime_harness import SESSION_MS, Site, wait_until


@pytest.fixture
def wide_site(kafka, namespace, tmp_path):
    """Eight partitions: each rebalance moves some and leaves others."""
    made = Site(kafka, namespace, tmp_path, partitions=8)
    yield made
    made.close()


@contextmanager
def fed(site):
    """A feed that goes on until the test ends it by calling the value."""
    stop = threading.Event()
    thread = site.feed.steadily(400, stop)

    def end():
        stop.set()
        thread.join(30)

    yield end
    end()


@pytest.fixture
def feeding(site):
    with fed(site) as end:
        yield end


def sound_after(site, workers):
    site.until_worked_off(workers)
    for worker in workers:
        assert worker.stop() == 0, worker.report()
    findings = site.reader.findings()
    assert findings.sound(), findings
    return findings


def test_the_partitions_of_a_killed_worker_go_on_elsewhere(site, feeding):
    """kill -9 of one of two under a feed: bullets "The fence" and "Recovery order"."""
    a, b = site.worker("a").until_owns(2), site.worker("b")
    wait_until("both own one", lambda: len(a.owns()) == len(b.owns()) == 1)
    seen = site.reader.written("probe.out")
    wait_until("both write", lambda: site.reader.written("probe.out") > seen + 200)
    a.kill()
    b.until_owns(2)
    feeding()
    findings = sound_after(site, [b])
    assert findings.generations >= 3


def test_a_stopped_worker_that_wakes_writes_nothing_and_leaves(site, feeding):
    """SIGSTOP beyond the session timeout, then SIGCONT: bullet "The fence"."""
    a, b = site.worker("a").until_owns(2), site.worker("b")
    wait_until("both own one", lambda: len(a.owns()) == len(b.owns()) == 1)
    a.signal(signal.SIGSTOP)
    b.until_owns(2)
    seen = site.reader.written("probe.out")
    wait_until("b writes", lambda: site.reader.written("probe.out") > seen + 100)
    a.signal(signal.SIGCONT)
    assert a.exit_code() == 1, a.report()
    assert a.all("failed")[0]["error"] == "FencedError", a.report()
    feeding()
    sound_after(site, [b])


def test_a_worker_that_ends_in_order_hands_over_at_once(site, feeding):
    """SIGTERM: drained, committed, left; the other takes over before any session times out."""
    slow = {"session_timeout_ms": 30_000, "lease_margin_ms": 1_000}
    a, b = site.worker("a", runtime=slow).until_owns(2), site.worker("b", runtime=slow)
    wait_until("both own one", lambda: len(a.owns()) == len(b.owns()) == 1)
    assert a.stop() == 0, a.report()
    b.until_owns(2, 15)
    feeding()
    sound_after(site, [b])


@pytest.mark.long
@pytest.mark.timeout(400)
def test_rolling_workers_up_and_down(wide_site):
    """Three slots rolled ten times under load, two of them at once now and then."""
    site, rng = wide_site, random.Random(3)
    with fed(site):
        workers = {slot: site.worker(slot) for slot in "abc"}
        for turn in range(10):
            for slot in rng.sample("abc", rng.choice((1, 1, 2))):
                old = workers[slot]
                if rng.random() < 0.5:
                    assert old.stop() == 0, old.report()
                else:
                    old.kill()
                workers[slot] = site.worker(slot)
            time.sleep(rng.uniform(0.1, 3.0))
            for worker in workers.values():
                assert worker.process.poll() is None, f"turn {turn}: {worker.report()}"
    sound_after(site, list(workers.values()))


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_chaos(site, feeding, seed):
    """Random kill -9 and SIGSTOP of three workers for forty seconds; the dead start again."""
    rng = random.Random(seed)
    workers = {slot: site.worker(slot) for slot in "abc"}
    asleep: dict[str, float] = {}
    end = time.monotonic() + 40
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.2, 2.5))
        for slot, worker in workers.items():
            if asleep.get(slot, float("inf")) < time.monotonic():
                worker.signal(signal.SIGCONT)
                del asleep[slot]
            elif worker.process.poll() is not None:
                assert worker.process.returncode in (-9, 1), worker.report()
                workers[slot] = site.worker(slot)
        awake = [s for s in workers if s not in asleep and workers[s].process.poll() is None]
        if len(awake) < 2:
            continue
        slot = rng.choice(awake)
        if rng.random() < 0.5:
            workers[slot].kill()
        else:
            workers[slot].signal(signal.SIGSTOP)
            asleep[slot] = time.monotonic() + rng.uniform(0.3, 3.0) * SESSION_MS / 1000
    for slot in asleep:
        workers[slot].signal(signal.SIGCONT)
    feeding()
    wait_until("the woken have decided", lambda: _settled(workers))
    for slot, worker in workers.items():
        if worker.process.poll() is not None:
            workers[slot] = site.worker(slot)
    sound_after(site, list(workers.values()))


def _settled(workers):
    living = [w for w in workers.values() if w.process.poll() is None]
    return not living or sum(len(w.owns()) for w in living) >= 2
