"""``bench lateness --cases peers`` end to end, small: every system fires what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.schedulers.peers import PEERS
from infra.kafka.admin import admin_client

ROOT = Path(__file__).resolve().parents[2]
MISSING = {peer.name: peer.missing() for peer in PEERS}


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("system", [*MISSING, "shutterwheel", "shutterwheel-x2"])
def test_a_system_fires_at_the_rate_asked_for(kafka, tmp_path, system):
    if MISSING.get(system):
        pytest.skip(MISSING[system])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "lateness", "--cases", "peers", "--seconds", "5"),
            *("--devices", "500", "--rates", "50", "--systems", system, "--kafka", kafka),
            *("--json", str(tmp_path / "result.json")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_bytes())["rows"]
    figures = {row["metric"]: row["value"] for row in rows}
    assert {(row["case"], row["system"]) for row in rows} == {("500 jobs, 50/s", system)}
    assert figures["fires_per_s"] == pytest.approx(50.0, rel=0.3)
    assert "lateness_ms_p50" in figures
    assert figures["rss_mb"] > 5
    assert figures["setup_s"] > 0
    if system.startswith("shutterwheel"):
        assert (figures["early"], figures["lost"], figures["duplicated"]) == (0, 0, 0)
        assert figures["due"] == figures["succeeded"] > 0
    left = admin_client(kafka).list_topics(timeout=10).topics
    assert [name for name in left if "bench-" in name] == []
