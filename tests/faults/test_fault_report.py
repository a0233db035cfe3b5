"""The report says what was found; each fault has a case in the bench and a runbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fault_report import FAULTS, FaultReport, FaultRow
from fault_watch import silence_s

HERE = Path(__file__).parent
RUNBOOKS = HERE.parents[1] / "infra" / "runbooks"
CASES = re.compile(r'\.(?:finish|end)\(\s*f?"([^"]+)"')


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_a_runbook_that_names_it(fault):
    text = (RUNBOOKS / f"{FAULTS[fault]}.md").read_text(encoding="utf-8")
    assert f"`{fault}`" in text
    assert re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE) == ["You see", "The system", "Do"]


def test_each_runbook_is_in_the_list_and_names_no_fault_that_is_not():
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    for path in sorted(RUNBOOKS.glob("*.md")):
        if path.name != "README.md":
            assert f"({path.name})" in index
            line = path.read_text(encoding="utf-8").split("\n\n")[0]
            assert set(re.findall(r"`([^`]+)`", line)) <= set(FAULTS), path.name


def test_each_fault_has_a_case_and_each_case_is_a_fault():
    sources = "\n".join(p.read_text(encoding="utf-8") for p in HERE.glob("test_fault_*.py"))
    cases = [re.sub(r"\{.+?\}", ".+", name) for name in CASES.findall(sources)]
    for fault in FAULTS:
        assert any(re.fullmatch(case, fault) for case in cases), f"no case of {fault}"
    for case in cases:
        assert any(re.fullmatch(case, fault) for fault in FAULTS), f"{case} is in no list"


def test_a_row_is_a_line_and_figures():
    report = FaultReport()
    report.add(FaultRow("disk-full", 1, 2, 3, 0, 4.25, expired=5))
    report.skipped["clock"] = "no clock"
    line, skipped = report.lines()
    assert line.split("  ")[-1] == "recovered in 4.2 s"
    for part in ("disk-full", "lost 1", "doubled 2", "zombie writes 3", "state equal"):
        assert part in line
    assert "no lease -  expired 5" in line
    assert skipped.endswith("skipped: no clock")
    rows = report.result().rows
    assert {(r.case, r.system) for r in rows} == {("disk-full", "shutterwheel")}
    assert {(r.metric, r.value, r.unit) for r in rows} == {
        ("lost", 1, "1"),
        ("doubled", 2, "1"),
        ("zombie_writes", 3, "1"),
        ("wrong_rows", 0, "1"),
        ("expired", 5, "1"),
        ("recovery", 4.25, "s"),
    }


def test_a_fault_that_is_in_no_list_is_refused():
    with pytest.raises(AssertionError, match="lunch"):
        FaultReport().add(FaultRow("lunch", 0, 0, 0, 0, None))


def test_the_longest_silence_begins_at_the_fault_and_ends_with_the_watch():
    assert silence_s([1.0, 2.0, 2.5, 6.0], 2.2, 7.0) == 3.5
    assert silence_s([], 2.0, 7.0) == 5.0
    assert silence_s([2.5, 3.0], 2.0, 9.0) == 6.0
