"""A backlog's schedules are due after they are accepted, and commands before the wheel is stopped."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks import capacity, load
from benchmarks.capacity import FIRST_AHEAD_MS, LEAST_AHEAD_MS, Schedules, ahead_ms
from benchmarks.load import Load
from connectors.clients.batch import WINDOW
from schemas.errors import BrokerError


@pytest.mark.parametrize("per_s", [50, 700, 10_000])
@pytest.mark.parametrize("count", [10, 30_000, 1_200_000])
def test_what_may_be_undecided_is_accepted_long_before_it_is_due(per_s, count):
    undecided_s = min(count, WINDOW) / per_s
    assert ahead_ms(per_s, count) == pytest.approx(LEAST_AHEAD_MS + 2_000 * undecided_s, abs=1)


def test_each_schedule_is_due_a_while_after_it_is_published_and_none_before_another(monkeypatch):
    now_ms = start_ms = 1_800_000_000_000
    monkeypatch.setattr(capacity.time, "time_ns", lambda: now_ms * 1_000_000)
    schedules = Schedules(["a", "b"], 4)
    due: list[int] = []
    for count, later_ms in ((3, 1_000), (100, 10_000)):
        for event in schedules.some(count):
            assert event.spec.at_ms is not None
            assert event.spec.at_ms >= now_ms + schedules.ahead_ms
            due.append(event.spec.at_ms)
            now_ms += later_ms  # a slow wheel: its answers are waited for
        schedules.ahead_ms = 20_000
    assert len(due) == 8
    assert due == sorted(due)
    assert due[0] == start_ms + FIRST_AHEAD_MS
    assert max(due) == schedules.last_due_ms
    for device in (0, 1):
        assert len(set(due[device::2])) == 4, "a device's own differ"


def test_the_wheel_runs_until_each_schedule_has_become_a_command(monkeypatch):
    """Its last tick comes after the last answer: stopped before that it had issued 108 too few."""
    looks = iter([7, 9, 10, 10])
    cluster = SimpleNamespace(watch=int)
    monkeypatch.setattr(capacity, "LOOK_S", 0.0)
    monkeypatch.setattr(capacity, "metric_sum", lambda *_: next(looks))
    capacity._until_issued(cluster, 10)
    assert next(looks) == 10, "and no longer"
    monkeypatch.setattr(capacity, "DRAIN_S", 0.0)
    monkeypatch.setattr(capacity, "metric_sum", lambda *_: 9)
    with pytest.raises(BrokerError, match="of 10 schedules 9 became commands"):
        capacity._until_issued(cluster, 10)


@pytest.mark.parametrize(
    ("carried", "rows"),
    [
        (5_000, {"": (4_000, 4_000), "overload_": (5_000, 8_000)}),
        (900, {"": (900, 2_000), "overload_": (900, 2_000)}),
        (100_000, {"": (64_000, 64_000)}),
    ],
)
def test_a_load_that_is_too_much_is_told_apart_from_what_was_reached(monkeypatch, carried, rows):
    def paced(_rig, load):
        report = SimpleNamespace(captures_per_s=min(carried, load.per_s), lateness_ms=None)
        return SimpleNamespace(report=report, drained=True, window_s=1.0, cpu_s={}, load=load)

    monkeypatch.setattr(capacity, "paced", paced)
    rig = SimpleNamespace(say=lambda _: None, partitions=capacity.PARTITIONS)
    found = {row.metric: row.value for row in capacity.sustained(rig, Load(10, 2_000.0, 1.0))}
    told = {
        f"{when}{what}": value
        for when, pair in rows.items()
        for what, value in zip(("captures_per_s", "offered_per_s"), pair, strict=True)
    }
    assert {name: value for name, value in found.items() if name.endswith("_per_s")} == told


def test_a_load_is_not_drained_while_a_capture_is_open(monkeypatch):
    """No result for a while may be a capture that is tried again after its time-out only."""
    results, opened = iter([5, 5, 5, 5, 6, 6]), iter([1, 1, 1, 0])
    ends = {"end": 0}

    def offsets(*_args):
        ends["end"] = next(results)
        return {("ns.capture.results", 0): ends["end"]}

    monkeypatch.setattr(load, "offsets_now", offsets)
    monkeypatch.setattr(load, "metric_sum", lambda *_: next(opened))
    monkeypatch.setattr(load, "LOOK_S", 0.0)
    cluster = SimpleNamespace(options=SimpleNamespace(namespace="ns"), watch=int)
    rig = SimpleNamespace(kafka="")
    assert load.Rig.drain(rig, cluster, longest_s=60.0, quiet_s=0.0)
    assert ends["end"] == 6, "the late one is counted"
