"""A backlog's schedules are due after they were asked for, however long all of it takes."""

from __future__ import annotations

from benchmarks import capacity
from connectors.clients.batch import WINDOW

MINUTE_MS = 60_000


def test_each_schedule_is_due_a_while_after_it_is_published(monkeypatch):
    now_ms = 1_800_000_000_000
    monkeypatch.setattr(capacity.time, "time_ns", lambda: now_ms * 1_000_000)
    asked = capacity._once(["a", "b"], 3)
    due: dict[str, list[int]] = {"a": [], "b": []}
    for event in asked:
        assert event.spec.at_ms is not None
        assert now_ms + capacity.AHEAD_MS <= event.spec.at_ms <= now_ms + capacity.AHEAD_MS + 3
        due[event.device_id].append(event.spec.at_ms)
        now_ms += MINUTE_MS  # a slow wheel: its answers are waited for
    for times in due.values():
        assert times == sorted(set(times)), "two of one time would be rivals"


def test_what_may_be_undecided_is_accepted_before_it_is_due():
    assert WINDOW * 1_000 / capacity.AHEAD_MS < 700, "a second, by the slowest wheel"
