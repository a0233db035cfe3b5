"""What ``doctor`` says of the tz data here and in the log (issue 5: tz data pinned)."""

from __future__ import annotations

import pytest

from schemas.records import ShardState, TzTable
from shutterwheel.tz_check import judge
from streams.core.recurrence.zones import Zone
from streams.core.tz import tz_row
from streams.core.tz_behind import before_row, behind_row

COUNTERS = ShardState(5, 0, 0, 0)
PARIS = ShardState(-3, 0, 0, 0, tz=TzTable("2026f", "Europe/Paris", (), (3_600_000,)))
WAS = before_row("2026e", "Europe/Paris", Zone("Europe/Paris", [(-(1 << 62), 0)]))


@pytest.mark.parametrize(
    ("tables", "status", "found"),
    [
        ({}, "ok", "2026f here; no wheel has noted any yet"),
        ({0: [COUNTERS]}, "ok", "2026f here; no wheel has noted any yet"),
        ({0: [tz_row("2026f"), PARIS], 1: [tz_row("2026f")]}, "ok", "2026f here and in the wheel's ticks"),
        ({0: [tz_row("2026e")]}, "warn", "2026f here; the wheel's ticks: 2026e in partition 0"),
        (
            {0: [tz_row("2026e")], 1: [tz_row("2026f")], 2: [tz_row("2026e")]},
            "warn",
            "2026f here; the wheel's ticks: 2026e in partitions 0, 2, 2026f in partition 1",
        ),
        (
            {0: [tz_row("2026f"), WAS, behind_row("2026e", 8, "cam-1\0s")], 1: [tz_row("2026f")]},
            "ok",
            "2026f here and in the wheel's ticks; schedules are still going over to it in partition 0",
        ),
    ],
)  # fmt: skip
def test_what_is_said(tables, status, found):
    check = judge(tables, "2026f")
    assert (check.name, check.status, check.found) == ("tz data", status, found)
    assert bool(check.advice) == (status == "warn")
