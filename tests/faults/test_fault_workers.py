"""Workers killed, stopped, rolled, scaled and moved under load (issue 4, 'Faults')."""

from __future__ import annotations

import random
import signal
import time

import psutil
import pytest
from fault_bench import IN_DOUBT, KILLED
from runtime_harness import OUT

from streams.runtime.faults import STEPS

pytestmark = pytest.mark.timeout(240)
PASSES = {"between-slices": 400}
"""At which pass a worker dies; the default lets it work for some seconds."""
SHORT = {"before-commit"}
"""The steps that plain ``./dev test`` goes through under load; all are in ``--faults``."""


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=() if s in SHORT else pytest.mark.long) for s in STEPS]
)
def test_kill_9_at_a_step(bench, step):
    """In its n-th transaction, which holds work of records, of the clock and of completions."""
    bench.start(faults={"a": f"{step}:{PASSES.get(step, 20)}"})
    victim = bench.workers["a"]
    bench.until("the worker dies at its step", lambda: victim.process.poll() is not None)
    bench.hurt()
    bench.settle()
    assert ("a", KILLED, "") in bench.ends
    bench.finish(f"kill-9-{step}")
    if step in {"before-send-offsets", "before-commit"}:
        assert kinds_aborted(bench) == {b"R", b"T", b"C"}, "the aborted transaction held all kinds"


def kinds_aborted(bench):
    """Return the kinds of work of which some output was written and never became visible."""
    reader = bench.site.reader
    written, visible = reader.read(OUT, "read_uncommitted"), reader.read(OUT)
    return {
        value[:1]
        for partition, rows in written.items()
        for offset, _, value in rows
        if offset not in {o for o, _, _ in visible[partition]}
    }


@pytest.mark.long
def test_kill_9_at_random(bench):
    """A random worker every few seconds, at whatever it was doing."""
    rng = random.Random(4)
    bench.start().settle()
    bench.hurt()
    for _ in range(8):
        bench.flow()
        time.sleep(rng.uniform(0, 1.5))  # where in its transactions it is hit is left to chance
        bench.kill(rng.choice("abc"))
    bench.settle()
    assert len(bench.ends) >= 8
    bench.finish("kill-9-at-random")


def test_a_worker_stopped_for_longer_than_its_session_and_woken(bench):
    """The zombie: the others take over; when it wakes it writes nothing and ends."""
    bench.start().settle()
    zombie = bench.workers["a"]
    lost = zombie.owns()
    bench.hurt()
    zombie.signal(signal.SIGSTOP)
    others = [bench.workers[slot] for slot in "bc"]
    bench.until("the others own what it had", lambda: lost <= others[0].owns() | others[1].owns())
    bench.flow()
    zombie.signal(signal.SIGCONT)
    bench.until("it ends", lambda: bench.workers["a"] is not zombie)
    # On a busy machine the one that is started after it may lose its group, too.
    assert set(bench.ends) == {("a", IN_DOUBT, "FencedError")}
    bench.settle()
    bench.finish("worker-stopped-and-woken")


@pytest.mark.long
def test_a_transaction_that_times_out_in_a_worker_that_is_stopped_in_it(make_bench, kafka):
    """Stopped with its offsets sent, for longer than the transaction may take, shorter than its
    session: the broker aborts; nobody takes over, and the commit is refused when it wakes."""
    bench = make_bench(kafka, session_timeout_ms=20_000, transaction_timeout_ms=5_000)
    bench.start(faults={"a": "stop@before-commit:20"})
    victim = bench.workers["a"]
    process = psutil.Process(victim.process.pid)
    bench.until("it stops in a transaction", lambda: process.status() == psutil.STATUS_STOPPED)
    bench.hurt()
    ends, mine = bench.site.reader.ends, victim.owns()
    written = ends(OUT)  # by a worker that is stopped: no more is
    assert any(ends(OUT, committed=True)[number] < written[number] for number in mine)
    bench.until(
        "the broker aborts its transaction",
        lambda: all(ends(OUT, committed=True)[number] >= written[number] for number in mine),
    )
    victim.signal(signal.SIGCONT)
    bench.until("it ends", lambda: bench.workers["a"] is not victim)
    assert [end[:2] for end in bench.ends] == [("a", IN_DOUBT)]
    assert bench.ends[0][2] in {"FencedError", "BrokerError"}
    bench.settle()
    bench.finish("transaction-timeout")


def test_a_rolling_restart(bench):
    """Each worker in turn ends in order and is started again."""
    bench.start().settle()
    bench.hurt()
    for slot in "abc":
        bench.remove(slot)
        bench.add(slot)
        bench.settle()
    assert bench.ends == []
    bench.finish("rolling-restart")


@pytest.mark.long
def test_scaled_from_1_to_4_to_2(bench):
    """Three join at once; then two leave."""
    bench.start("a").settle()
    bench.hurt()
    bench.start("bcd").settle()
    for slot in "ab":
        bench.remove(slot)
    bench.settle()
    assert bench.ends == []
    bench.finish("scale-1-4-2")


@pytest.mark.long
def test_a_partition_moved_back_and_forth(bench):
    """One worker comes and goes: what it is given returns to where its old state lies."""
    bench.start("abc").settle()
    moved: list[set[int]] = []
    bench.hurt()
    for _ in range(4):
        worker = bench.add("d")
        bench.settle()
        moved.append(worker.owns())
        bench.remove("d")
        bench.settle()
    assert any(a & b for a in moved for b in moved if a is not b), "some partition came twice"
    assert bench.ends == []
    bench.finish("partition-back-and-forth")


@pytest.mark.long
def test_a_producer_queue_that_is_full_in_every_commit(make_bench, kafka):
    """What is to be sent has room in many requests only: they follow each other, and nothing else."""
    bench = make_bench(kafka, request_bytes=2_000).start()
    bench.hurt()
    bench.settle()
    bench.site.feed.send(20_000)
    bench.settle()
    assert bench.ends == []
    bench.finish("producer-queue-full")
