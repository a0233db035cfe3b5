"""README.md of this folder says what a world has to bear and what looks at it; here it is held to that.

Issue 7 ('Simulator'): each checker is shown to bite by a planted bug, and each fault is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import world_watch
from simulate import options_of, plan_of
from world import run
from world_bugs import BUGS, planted
from world_faults import Faults
from world_plan import KINDS, NTP_KINDS, ODD_KINDS

TEXT = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
BESIDE = {
    "partitions_reordered", "delivered_again", "clocks_skewed",
    "repeated", "reordered", "contradicted", "bad", "misplaced",
}  # fmt: skip
"""What befalls every world, or comes from upstream: no faults of a plan."""


def table(heading: str) -> dict[str, str]:
    """Return the last column of a section's table by its first."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[-1].strip("`") for row in cells}


FAULTS, CHECKERS = table("Faults"), table("Checkers")
QUICK = ("crash_after_commit", "deaf", "disk_lost")


def found(words: str, *, bug: bool = True, faults: bool = True) -> set[str]:
    """Run a command of the page; return the checkers that found something."""
    options = options_of(
        ["--kind", "squall", *words.split()] + (["--faults", "none"] * (not faults))
    )
    with planted(options.bug if bug else None):
        report = run(plan_of(options, options.seed))
    return {text.split(":")[0] for text in report.findings}


def test_every_fault_has_its_line() -> None:
    kinds = {*KINDS, *ODD_KINDS, *NTP_KINDS}
    assert set(FAULTS) == kinds | BESIDE
    assert {name.removeprefix("_do_") for name in vars(Faults) if name.startswith("_do_")} == kinds
    asked = (
        "crash, pause, zombie, partition, reorder across partitions, duplicated delivery, slow disk"
    )
    asked += ", skewed clocks, stepping clocks, lost heartbeats, late heartbeats, tz data change"
    asked += ", partition count changes, upstream repeats itself, upstream reorders"
    for one in (*asked.split(", "), "upstream contradicts itself"):
        assert f"| {one} |" in TEXT, one
    for name, words in FAULTS.items():
        if words and name in KINDS:
            assert f"--only {name} " in words, f"{name} alone is to show it"


def test_every_checker_has_its_line() -> None:
    named = set(re.findall(r"^([a-z]+) {2,}\S", world_watch.__doc__ or "", re.MULTILINE)) - {"name"}
    assert len(named) > 20
    assert set(CHECKERS) == named
    used = {
        name
        for file in Path(__file__).parent.glob("world*.py")
        for name in re.findall(r"\bfind\(\s*\"([a-z]+)\"", file.read_text(encoding="utf-8"))
    }
    assert used <= named | {"early"}
    for name, words in CHECKERS.items():
        assert name in BUGS[options_of(words.split()).bug].found_by, name


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_alone_shows_a_bug(name: str) -> None:
    shows(name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, words in FAULTS.items() if words])
def test_each_fault_alone_shows_a_bug(name: str) -> None:
    shows(name)


def shows(name: str) -> None:
    words = FAULTS[name]
    bug = BUGS[options_of(words.split()).bug]
    assert found(words) & set(bug.found_by)
    assert not found(words, bug=False), "without the bug there is nothing to be found"
    if "--only" in words:
        assert not found(words, faults=False), "nor without the fault"


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKERS)
def test_each_checker_finds_its_bug(name: str) -> None:
    assert name in found(CHECKERS[name])
