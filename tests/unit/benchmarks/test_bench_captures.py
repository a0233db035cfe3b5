"""The bench of a capture's CPU drives every capture through every stage, without Kafka."""

from __future__ import annotations

import pytest

from benchmarks import captures_cpu


async def test_every_stage_is_driven_and_counted(tmp_path):
    rows = await captures_cpu.measure(tmp_path, captures=40, rounds=1)
    found = {row.metric: row.value for row in rows}
    assert {f"cpu_us_{stage}" for stage in captures_cpu.STAGES} < set(found)
    assert found["captures"] == 40
    parts = sum(found[f"cpu_us_{stage}"] for stage in captures_cpu.STAGES)
    assert found["cpu_us_per_capture"] == pytest.approx(parts, abs=0.01)


async def test_a_capture_that_does_not_succeed_fails_the_bench(tmp_path, monkeypatch):
    """Cameras that nobody knows are tried again later; here no time passes."""
    monkeypatch.setattr(captures_cpu.Driver, "introduce", lambda _self: None)
    with pytest.raises(captures_cpu.ShutterwheelError, match="succeeded"):
        await captures_cpu.measure(tmp_path, captures=4, rounds=1)
