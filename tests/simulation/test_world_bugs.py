"""Each checker bites: bugs planted in the real code are found within a few seeds (issue 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import run
from world_bugs import BUGS, planted
from world_plan import make
from world_shrink import checker

if TYPE_CHECKING:
    from collections.abc import Iterable

QUICK = tuple(
    name for name, bug in BUGS.items() if bug.seed == 0 or name == "slew_left_not_in_the_bound"
)
"""Those that the first world finds, as a rule in a second; and one for the time servers."""
MOST_SEEDS = 40


def found_by(name: str, kind: str, seeds: Iterable[int]) -> str:
    """Return the first checker that finds a planted bug in these worlds."""
    with planted(name):
        return next(filter(None, (checker(run(make(seed, kind))) for seed in seeds)), "")


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_at_once(name: str) -> None:
    assert found_by(name, "squall", (BUGS[name].seed or 0, *range(8))) in BUGS[name].found_by


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_within_a_few_seeds(name: str) -> None:
    bug = BUGS[name]
    first = [] if bug.seed is None else [bug.seed]
    found = found_by(name, "squall", (*first, *range(MOST_SEEDS)))
    assert found in bug.found_by, f"{found or 'nothing'} was found in {MOST_SEEDS} worlds"


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
