"""Workers that leave, die and return: the photos of the partitions that stay go on meanwhile.

Slow cameras make sure that photos are being taken while their partition changes hands: the next
owner must find them, not take them again (ADR 0009).
"""

from __future__ import annotations

import signal
import time

import pytest
from chain_harness import PARTITIONS

from connectors.cameras.faults import Fault
from streams.core import ids
from streams.core.ring import Ring

EVERY_MS = 1_000
FLEET = 30


def test_slots_are_numbered_as_the_ring_takes_them():
    assert all(Ring("01").assign(PARTITIONS).values())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["leaves", "is killed"])
def test_photos_of_partitions_that_stay_do_not_wait_when_the_other_worker(make_chain, how):
    chain = make_chain(FLEET, captures=2)
    chain.introduce()
    chain.schedule(EVERY_MS, catch_up="30s")
    chain.await_ready()
    own = {str(slot): len(numbers) for slot, numbers in Ring("01").assign(PARTITIONS).items()}
    chain.wait_until(
        "each owns its share", lambda: all(chain.owned("captures", int(s)) == own[s] for s in own)
    )
    slow = [d for n, d in enumerate(chain.devices) if n % 3 == 0]
    chain.cameras.faults({device: Fault("slow", delay_ms=700) for device in slow})
    chain.run_on(photos=2 * FLEET)

    began_ms = time.time_ns() // 1_000_000
    gone = chain.signal("captures", how, slot=1)
    chain.wait_until("it is started again", lambda: chain.pid("captures", 1) not in {0, gone})
    chain.wait_until("it owns its share", lambda: chain.owned("captures", 1) == own["1"])
    ended_ms = time.time_ns() // 1_000_000
    chain.run_on(photos=2 * FLEET)
    chain.finish()

    stayed = set(Ring("01").assign(PARTITIONS)["0"])
    due = [
        r
        for r in chain.results()
        if began_ms <= r.scheduled_ms <= ended_ms
        and ids.partition_of(r.device_id, PARTITIONS) in stayed
    ]
    # How late they are is a figure of './dev bench recovery'. Here: nothing waits for the other.
    first_half = [r for r in due if r.scheduled_ms <= (began_ms + ended_ms) / 2]
    assert first_half
    waited = [r.command_id for r in first_half if (r.shutter_at_ms or 0) >= ended_ms]
    assert not waited, "taken when the other was there again"
    assert {(r.state, r.attempt) for r in due} == {("SUCCESS", 1)}
    opened: dict[str, int] = {}
    for entry in chain.cameras.log():
        if entry.shutter:
            opened[entry.command_id] = opened.get(entry.command_id, 0) + 1
    again = {str(r.command_id) for r in chain.results() if r.attempt > 1}
    twice = {command for command, count in opened.items() if count > 1}
    # What was armed and is released in order is an attempt, but no shutter.
    assert how == signal.SIGKILL or not twice
    assert twice <= again
