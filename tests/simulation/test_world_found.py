"""FOUND.md, which tells what the simulator has found, names commits and tests that there are (issue 7)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import test_world_table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TEXT = (HERE / "FOUND.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(heading)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


BUGS, RUNS = rows("# What the simulator has found"), rows("## What was run")


def test_each_bug_names_its_checker_and_a_test_that_there_is() -> None:
    assert len(BUGS) >= 5
    for checker, world, what, _, test in BUGS:
        assert checker in test_world_table.CHECKERS
        assert what
        assert re.search(r"(storm|squall|fleet)", world), world
        file, _, name = test.strip("`").partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {getattr(node, "name", "") for node in ast.walk(tree)}, test


def test_each_commit_is_in_the_history() -> None:
    commits = {row[3] for row in BUGS} | {row[1] for row in RUNS}
    shallow = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--is-shallow-repository"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shallow.stdout.strip() != "false":
        pytest.skip("the history is not here")
    for commit in commits:
        words = ["git", "-C", ROOT, "merge-base", "--is-ancestor", commit, "HEAD"]
        assert subprocess.run(words, check=False).returncode == 0, commit


def test_runs_are_counted() -> None:
    for row in RUNS:
        assert int(row[4]) >= int(row[5]) >= 0


def test_the_page_is_printed() -> None:
    words = [sys.executable, HERE / "simulate.py", "--found"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == TEXT.strip()
