"""The clock of a sandbox: it stands, starts, goes fast, and is taken in a sandbox only.

Issue 7 ('replay'); DESIGN.md 'Ticks' (the clock is handed in).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from schemas.errors import UsageError
from shutterwheel.worker import in_sandbox
from streams.agents.capture_settings import ExecutorSettings
from streams.agents.timers import TimerQueue
from streams.runtime.clock import Clock
from streams.runtime.sandbox_clock import (
    LOOK_S,
    NO_SKEW_MS,
    SandboxClock,
    SandboxTime,
    boottime_s,
    check_sandbox,
)
from streams.runtime.settings import RuntimeSettings

BEGIN_MS = 1_790_058_600_000


def test_time_stands_until_it_has_an_anchor_and_then_goes_as_fast_as_it_is_told():
    stands = SandboxTime(BEGIN_MS, 10.0)
    assert stands.at(123.0) == BEGIN_MS / 1000.0
    goes = SandboxTime(BEGIN_MS, 10.0, anchor_s=100.0)
    assert goes.at(100.0) == BEGIN_MS / 1000.0
    assert goes.at(101.5) == BEGIN_MS / 1000.0 + 15.0
    assert goes.at(99.0) == BEGIN_MS / 1000.0


def test_clocks_of_one_file_start_together(tmp_path):
    path = tmp_path / "clock.json"
    SandboxTime(BEGIN_MS, 1_000.0).save(path)
    first, second = SandboxClock(path), SandboxClock(path)
    assert first.now_ms() == second.now_ms() == BEGIN_MS
    assert first.wait_s(5.0) == LOOK_S
    SandboxTime(BEGIN_MS, 1_000.0, boottime_s() - 1.0).save(path)
    while first.now_ms() == BEGIN_MS or second.now_ms() == BEGIN_MS:
        pass  # both look again within LOOK_S
    assert first.now_ms() >= BEGIN_MS + 1_000_000
    assert second.now_ms() >= first.now_ms() - 1_000_000
    assert first.wait_s(5.0) == 0.005
    assert Clock().wait_s(5.0) == 5.0


async def test_timers_go_by_it(tmp_path):
    """Two hours of the sandbox's time are a few seconds; nothing is early."""
    path = tmp_path / "clock.json"
    SandboxTime(BEGIN_MS, 1_000.0, boottime_s()).save(path)
    clock = SandboxClock(path)
    done = asyncio.Event()
    at_ms: list[int] = []

    def due(_items: list[str]) -> None:
        at_ms.append(clock.now_ms())
        done.set()

    queue: TimerQueue[str] = TimerQueue(clock, due)
    queue.push(BEGIN_MS + 300_000, "five minutes")
    await asyncio.wait_for(done.wait(), 60.0)
    assert at_ms[0] >= BEGIN_MS + 300_000


@pytest.mark.parametrize("text", ["", "{}", '{"begin_ms": 1, "speed": 0.5}', "not json"])
def test_what_is_no_clock_is_refused(tmp_path, text):
    path = tmp_path / "clock.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        SandboxClock(path)


def test_a_worker_of_production_takes_no_such_clock(tmp_path):
    path = tmp_path / "clock.json"
    SandboxTime(BEGIN_MS, 10.0).save(path)
    runtime = RuntimeSettings("wheel", "0", "127.0.0.1:1", tmp_path, namespace="main-replay-1")
    settings, executor = in_sandbox(runtime, ExecutorSettings(), path)
    assert settings.max_skew_ms == NO_SKEW_MS
    assert executor.arm_ms == 10 * ExecutorSettings().arm_ms
    for namespace in ("", "main", "replay"):
        with pytest.raises(UsageError, match="no sandbox"):
            in_sandbox(replace(runtime, namespace=namespace), ExecutorSettings(), path)
        with pytest.raises(UsageError):
            check_sandbox(namespace)
