"""The clocks of workers jump by hours: those stop loudly and write nothing, the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(240)]
HOOK = Path(__file__).parent / "clock_hook"
HOURS_S = 3 * 3_600


@pytest.fixture
def clocks(monkeypatch, tmp_path):
    """The folder of wrong clocks: a file a worker holds the seconds to add."""
    folder = tmp_path / "clocks"
    folder.mkdir()
    path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("SHUTTERWHEEL_TEST_CLOCKS", str(folder))
    return folder


@pytest.mark.parametrize("app", ["wheel", "captures"])
def test_the_clocks_of_two_workers_jump_by_hours(clocks, make_chain, kafka, app):
    """One ahead, one behind, while they own partitions; the third does all the work."""
    chain = make_chain(kafka)
    chain.wait_until("all own partitions", lambda: min(chain.owned(app, n) for n in (0, 1, 2)) > 0)
    before = [chain.pid(app, slot) for slot in (0, 1)]
    chain.hurt()
    for slot, shift_s in ((0, HOURS_S), (1, -HOURS_S)):
        (clocks / f"{app}-{slot}").write_text(str(shift_s))
    for slot in (0, 1):
        chain.wait_until("it stops", lambda s=slot: chain.pid(app, s) not in {0, before[s]})
        said = chain.worker(app, slot).child.log_file.read_text()
        assert "ClockError" in said, said[-2_000:]
        assert "Check the machine's time synchronisation" in said
    chain.flow()
    for slot in (0, 1):
        (clocks / f"{app}-{slot}").unlink()
    chain.await_ready()
    chain.flow()
    chain.end(f"{app}-clock-jumped")
