"""``bench streams`` end to end, small: every system of the machine's environment does its work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.kafka.admin import admin_client

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("system", ["kafka-streams", "quix-streams", "faust-stock", "shutterwheel"])
def test_a_system_does_every_case_and_each_put_reaches_its_changelog(kafka, tmp_path, system):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "streams", "--quick", "--records", "8000"),
            *("--keys", "8000", "--systems", system, "--kafka", kafka),
            *("--json", str(tmp_path / "result.json")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_bytes())["rows"]
    figures = {(row["case"], row["metric"]): row["value"] for row in rows}
    cases = {"consume", "state", "recovery"} | (
        set() if system == "faust-stock" else {"state-exactly-once"}
    )
    assert {case for case, _ in figures} == cases
    for case in cases:
        assert figures[case, "records"] == 8_000
        assert figures[case, "records_per_s"] > 0
        assert figures[case, "peak_rss_mb"] > 10
        if case != "consume":
            assert figures[case, "changelog_per_record"] >= 1.0
    assert {row["system"] for row in rows} == {system}
    left = admin_client(kafka).list_topics(timeout=10).topics
    assert [name for name in left if "bench-" in name] == []
