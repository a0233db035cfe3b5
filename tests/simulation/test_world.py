"""Worlds of bad days (issue 7 'Simulator', ADR 0026): fixed seeds, and new ones each day.

``SHUTTERWHEEL_SIMULATE_SEED`` names the first of the new seeds; else it is the date. What fails
prints the command that runs it again, made small.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from simulate import options_of, plan_of, told
from test_world_table import FAULTS
from world import Report, run
from world_bugs import planted
from world_plan import Plan, make
from world_shrink import checker, shrink

HERE = Path(__file__).parent
FIXED = (1750, 1583, 277, 42, 1, 46)
"""All kinds of faults between them: one is odd, one has time servers."""
TODAY = int(dt.datetime.now(dt.UTC).strftime("%Y%m%d")) * 1_000
NEW = int(os.environ.get("SHUTTERWHEEL_SIMULATE_SEED", TODAY))


def good(plan: Plan) -> Report:
    report = run(plan)
    if report.findings:
        pytest.fail(told(shrink(report, 40)), pytrace=False)
    return report


def test_fixed_storms() -> None:
    """Issue 7: never early, each due capture ends once and says why, none doubled, audit agrees."""
    counts: Counter[str] = Counter()
    for seed in FIXED:
        counts.update(good(make(seed)).counts)
    # They are bad days indeed, and the work was done all the same.
    for what in ("FAILED", "EXPIRED", "REVOKED", "recovered", "repeated", "moved", "tz", "clocks"):
        assert counts[what], what
    assert counts["folded"] == counts["ticks"] > 500, "the audit has folded them all"
    assert counts["snapshots compared"], "and compared snapshots"
    assert counts["tz upgrades folded"], "and went over to other tz data"
    assert counts["SUCCESS"] > 200
    assert [name for name in FAULTS if not counts[f"met {name}"]] == []


@pytest.mark.parametrize("seed", [*range(NEW, NEW + 3), NEW + 7])
def test_new_squalls(seed: int) -> None:
    """Issue 7: CI runs a few new seeds; the last has time servers."""
    good(make(seed, "squall"))


def test_a_new_storm() -> None:
    good(make(NEW))


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_many_storms() -> None:
    """What './dev test --all' runs."""
    for seed in range(NEW, NEW + 60):
        good(make(seed))


def test_a_fleet() -> None:
    """A thousand devices for three hours, the night included: quiet, and all of it checked."""
    report = good(make(3, "fleet", 1_000, 10_800.0))
    assert report.counts["SUCCESS"] > 100


def test_the_same_seed_is_the_same_world_in_any_process() -> None:
    """Issue 7: all randomness is the seed's; nothing hangs on the order of a set."""
    text = "from world import run; from world_plan import make; print(run(make(6, 'squall')).trace_hash)"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", text],
            cwd=HERE,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent.parent))),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "4711")
    }
    assert hashes == {run(make(6, "squall")).trace_hash + "\n"}


def test_another_seed_is_another_world() -> None:
    assert run(make(6, "squall")).trace_hash != run(make(7, "squall")).trace_hash


def test_a_finding_shrinks_and_its_command_makes_it_again() -> None:
    """Issue 7: a failing seed prints its command and shrinks to a short trace."""
    with planted("picture_not_looked_for"):
        seed, report = next(
            (seed, found)
            for seed in range(40)
            if checker(found := run(make(seed, "squall"))) == "picture"
        )
        small = shrink(report, 60)
        assert checker(small) == "picture"
        assert len(small.plan.faults) <= 2 < len(report.plan.faults)
        assert len(small.plan.devices) == 1
        assert small.plan.seconds < report.plan.seconds
        options = options_of(small.plan.words().split())
        assert options.seed == seed
        again = plan_of(options, seed)
        assert again == small.plan
        assert run(again).trace_hash == small.trace_hash
    assert not run(again).findings, "without the bug there is nothing to be found"
    assert small.trace[-1].endswith(small.findings[0]), "the trace ends with the finding"
    assert f"./dev simulate {small.plan.words()}" in told(small)


@pytest.mark.parametrize(
    "plan",
    [
        make(3, "fleet", 1_000, 10_800.0),
        make(3, "fleet", 1_000, 10_800.0).cut((1, 2, 3, 7), tuple(range(5, 900)), 7_200.0),
        make(6),
        make(7, "squall").cut((), (2, 4, 5)),
        make(4, "squall", kinds=("crash", "deaf")).cut((1,)),
    ],
)
def test_the_words_of_a_plan_make_it_again(plan: Plan) -> None:
    """Issue 7: what fails prints its command, be it a fleet of another size or a part of a plan."""
    options = options_of(plan.words().split())
    assert plan_of(options, options.seed) == plan
    assert len(plan.words()) < 120
