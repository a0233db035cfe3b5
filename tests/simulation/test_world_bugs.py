"""Each checker bites: bugs planted in the real code are found within a few seeds (issue 7)."""

from __future__ import annotations

import pytest
from world import run
from world_bugs import BUGS, planted
from world_plan import make
from world_shrink import checker

QUICK = tuple(name for name, bug in BUGS.items() if bug.seed is not None)
"""Those that one short world finds; the rest is searched for."""
MOST_SEEDS = 40


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_at_once(name: str) -> None:
    bug = BUGS[name]
    assert bug.seed is not None
    with planted(name):
        found = checker(run(make(bug.seed, "squall")))
    assert found in bug.found_by


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_within_a_few_seeds(name: str) -> None:
    bug = BUGS[name]
    with planted(name):
        for seed in range(MOST_SEEDS):
            for kind in ("squall", "storm"):
                found = checker(run(make(seed, kind)))
                if found:
                    assert found in bug.found_by
                    return
    pytest.fail(f"nothing was found in {MOST_SEEDS} seeds")


def test_each_checker_is_shown_to_bite() -> None:
    """Every checker of the table in ``world_watch`` is one that some bug is found by."""
    import world_watch

    lines = (world_watch.__doc__ or "").split("========")[-2].splitlines()
    checkers = {
        line.split()[0] for line in lines if line.strip() and not line.startswith((" ", "="))
    }
    assert checkers <= {name for bug in BUGS.values() for name in bug.found_by}
    assert len(BUGS) >= 20


def test_a_bug_that_does_not_fit_the_code_is_told() -> None:
    for name in BUGS:
        with planted(name):
            pass
