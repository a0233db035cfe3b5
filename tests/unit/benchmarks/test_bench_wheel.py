"""The wheel's bench gives every system the same timers and says what could not be run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.options import Options
from benchmarks.result import OURS
from benchmarks.wheel import bench, peers, python_program
from benchmarks.wheel.work import Job, offsets_ms

if TYPE_CHECKING:
    from pathlib import Path

JOB = Job(timers=300, window_ms=250, lead_ms=50, give_up_ms=1_000)


class FakeRig:
    """A folder and a voice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def say(self, text: str) -> None:
        pass


def test_timers_are_spread_over_the_window_and_in_no_order():
    offsets = offsets_ms(10_000, 5_000)
    assert (min(offsets), max(offsets)) == (1, 5_000)
    assert offsets != sorted(offsets)
    by_slot = [0] * 51
    for offset in offsets:
        by_slot[offset // 100] += 1
    assert min(by_slot[:50]) > 190
    assert max(by_slot) < 210
    assert set(offsets_ms(1_000, 1)) == {1}, "at one time"


def test_the_other_languages_are_given_the_same_timers():
    java = (peers.HERE / "SystemTimerProgram.java").read_text(encoding="utf-8")
    go = (peers.GO_SOURCE / "main.go").read_text(encoding="utf-8")
    assert "2654435761L" in java
    assert "1 + (((i * GOLDEN) & 0xFFFFFFFFL) * windowMs >>> 32)" in java
    assert "golden = 2654435761" in go
    assert "1 + (int64(uint32(i*golden)) * windowMs >> 32)" in go


@pytest.mark.parametrize("name", python_program.SYSTEMS)
def test_a_run_has_every_figure_and_nothing_early(name: str):
    figures = python_program.run(python_program.SYSTEMS[name], JOB)
    assert {*("insert_ns", "expire_ns", "bytes_per_timer", "worst_tick_ms", "early_ms_max")} <= set(
        figures
    )
    assert figures["early_ms_max"] == 0
    assert all(value > 0 for metric, value in figures.items() if metric != "early_ms_max")


def test_a_timer_that_comes_early_is_seen(monkeypatch: pytest.MonkeyPatch):
    class Early(python_program.Heap):
        def take(self, now_ms: int) -> list[int]:
            return list(super().take(now_ms + 70))

    figures = python_program.run(Early, JOB)
    assert 0 < figures["early_ms_max"] <= 70


def test_a_timer_that_is_lost_is_seen():
    class Lossy(python_program.Heap):
        def take(self, now_ms: int) -> list[int]:
            return [0 if index == 7 else index for index in super().take(now_ms)]

    with pytest.raises(AssertionError, match="lost"):
        python_program.run(Lossy, JOB)


def test_a_slow_system_is_given_time_to_insert():
    system = next(s for s in peers.SYSTEMS if s.name == "apscheduler")
    assert bench.job_of(system, 100_000, 10_000).lead_ms == 21_000
    assert json.loads(bench.job_of(system, 5, 10).text())["timers"] == 5


def test_a_system_that_cannot_be_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours = next(s for s in peers.SYSTEMS if s.name == OURS)
    absent = replace(ours, name="absent", missing=lambda: "no Go on PATH")
    monkeypatch.setattr(bench, "SYSTEMS", (absent, ours))
    monkeypatch.setattr(bench, "measure", lambda *_given: {"insert_ns": 1.23456})
    rows = list(bench.run(Options(quick=True), FakeRig(tmp_path)))  # type: ignore[arg-type]
    told = {(row.case, row.system, row.metric, row.value, row.unit) for row in rows}
    for case in ("10,000 timers over 2 s", "10,000 timers at one time"):
        assert (case, "absent", "not run: no Go on PATH", 1, "1") in told
        assert (case, OURS, "insert_ns", 1.235, "ns") in told
    assert len(told) == 4
