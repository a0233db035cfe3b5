"""Makes a failing plan smaller: fewer faults, fewer devices, less time (delta debugging).

Greedy: halves, quarters, ... of the faults are left out as long as the same checker still finds
something; then of the devices; then the end is brought forward to the finding; and again, until
nothing can be left out, or the runs are used up. What is left is a local minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from world import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import Report
    from world_plan import Plan

T = TypeVar("T")
RUNS = 150
"""The most runs of one shrinking."""


def checker(report: Report) -> str:
    """Return the name of the checker that found something first, or nothing."""
    return report.findings[0].split(":")[0] if report.findings else ""


class _Shrinker:
    def __init__(self, report: Report, runs: int) -> None:
        self.best = report
        self.wanted = checker(report)
        self.left = runs

    def holds(self, plan: Plan) -> bool:
        """Run a smaller plan, and keep it if the same checker finds something."""
        if self.left <= 0:
            return False
        self.left -= 1
        report = run(plan)
        if checker(report) != self.wanted:
            return False
        self.best = report
        return True

    def fewer(self, items: tuple[T, ...], made: Callable[[tuple[T, ...]], Plan]) -> None:
        """Leave out what is not needed of these."""
        size = max(len(items) // 2, 1)
        while items and self.left > 0:
            at, smaller = 0, False
            while at < len(items):
                kept = items[:at] + items[at + size :]
                if self.holds(made(kept)):
                    items, smaller = kept, True
                else:
                    at += size
            if size == 1 and not smaller:
                return
            size = max(size // 2, 1)


def shrink(report: Report, runs: int = RUNS) -> Report:
    """Return the report of a smaller plan with a finding of the same checker."""
    shrinker = _Shrinker(report, runs)
    plan = report.plan
    before = None
    while before != shrinker.best.plan and shrinker.left > 0:
        before = plan = shrinker.best.plan
        faults = tuple(fault.number for fault in plan.faults)
        shrinker.fewer(faults, lambda kept: shrinker.best.plan.cut(faults=kept))
        plan = shrinker.best.plan
        if len(plan.devices) > 1:
            shrinker.fewer(plan.devices, lambda kept: shrinker.best.plan.cut(devices=kept))
        end_s = shrinker.best.seconds
        for share in (0.5, 0.75, 0.9, 1.0):
            seconds = float(round(end_s * share + 1.0))
            if seconds < shrinker.best.plan.seconds and shrinker.holds(
                shrinker.best.plan.cut(seconds=seconds)
            ):
                break
    return shrinker.best
