"""Each checker bites: bugs planted in the real code are found within a few seeds (issue 7)."""

from __future__ import annotations

import pytest
from world import run
from world_bugs import BUGS, planted
from world_shrink import checker

QUICK = tuple(
    name
    for name, bug in BUGS.items()
    if bug.seed == 0
    or name in {"slew_left_not_in_the_bound", "zones_not_noted", "snapshot_of_another_tick"}
)
"""Those that the first world finds, as a rule in a second; for time servers, tz data, snapshots."""
MOST_SEEDS = 40


def found_by(name: str, most: int) -> str:
    """Return the first checker that finds a planted bug in these worlds."""
    with planted(name):
        return next(filter(None, (checker(run(plan)) for plan in BUGS[name].plans(most))), "")


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_at_once(name: str) -> None:
    assert found_by(name, 8) in BUGS[name].found_by


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_within_a_few_seeds(name: str) -> None:
    bug, found = BUGS[name], found_by(name, MOST_SEEDS)
    assert found in bug.found_by, f"{found or 'nothing'} was found in {MOST_SEEDS} worlds"


def test_there_are_bugs_of_many_kinds() -> None:
    """That every checker has one is held by ``test_world_table.py``."""
    assert len(BUGS) >= 40
    assert len({name for bug in BUGS.values() for name in bug.found_by}) > 20


def test_a_bug_that_does_not_fit_the_code_is_told() -> None:
    for name in BUGS:
        with planted(name):
            pass
