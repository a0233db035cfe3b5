"""How late a sleeper wakes, as benchmarks/wakes.py measures it."""

from __future__ import annotations

import time

from benchmarks.wakes import SLEEP_S, Wakes


def test_a_sleeper_that_waits_for_the_interpreter_is_late_by_that() -> None:
    with Wakes() as wakes:
        time.sleep(20 * SLEEP_S)
        began_s = time.monotonic()
        sum(range(20_000_000))  # one call, in which no other thread runs
        took_s = time.monotonic() - began_s
    late = wakes.late_ms()
    assert late is not None
    assert 0.0 <= late.p50 <= late.p99 <= late.max
    assert late.max >= (took_s - 2 * SLEEP_S) * 1000.0
