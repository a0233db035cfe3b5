"""The table ``captures`` is bounded (issue 4, 'Recovery'): by devices and open captures, not time."""

from __future__ import annotations

import asyncio

import uvloop

from benchmarks.captures_table import Changes, simulate

DEVICES = 120
MINUTES = 16
TURN_MINUTES = 5


def test_the_table_stops_growing_when_every_device_has_had_its_turn(tmp_path):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        changes, rows, _ = runner.run(simulate(tmp_path, DEVICES, MINUTES))
    assert rows[1] < rows[3] < rows[TURN_MINUTES] == DEVICES
    assert {rows[minute] for minute in range(TURN_MINUTES, MINUTES + 1)} == {DEVICES}
    assert changes.open_at_most == DEVICES * 5 // 300  # those of one step
    # PENDING, RUNNING, the device's row, and the deletion of the capture's own.
    assert changes.records == 4 * DEVICES * MINUTES // TURN_MINUTES
    assert changes.open == 0


def test_the_tail_holds_no_more_than_a_segment():
    changes = Changes(tail_bytes=100)
    for number in range(50):
        changes.take({("captures", 0, b"d\0%02d" % number): b"x" * 10, ("other", 0, b"k"): b"x"})
    assert (len(changes.alive), changes.open, changes.records) == (50, 50, 50)
    assert len(changes.tail) == 100 // (4 + 10 + 12)
    changes.take({("captures", 0, b"d\0%02d" % number): None for number in range(50)})
    assert (changes.alive, changes.open, changes.open_at_most) == ({}, 0, 50)
