"""A worker killed at each named step of a transaction; see DESIGN.md, "Exactly once"."""

from __future__ import annotations

import pytest

STEPS = ("before-begin", "mid-produce", "before-send-offsets", "before-commit", "after-commit")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_nothing_is_lost_and_nothing_doubled(site, step):
    """Bullets "A step is atomic" and "Local state": all three kinds of work, then a restart."""
    site.feed.send(300)
    first = site.worker(runtime={"faults": [step]})
    assert first.exit_code() == -9, first.report()
    site.feed.send(300)
    second = site.worker().until_owns(2)
    site.until_worked_off([second])
    assert second.stop() == 0, second.report()
    findings = site.reader.findings()
    assert findings.sound(), findings
    assert findings.outputs >= 600 + 60
