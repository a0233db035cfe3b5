"""Makes a failing plan smaller: fewer faults, fewer devices, less time (delta debugging).

Greedy: the end is brought forward to the finding; then halves, quarters, ... of the faults are left
out as long as the same checker still finds something; then of the devices; and again, until nothing
can be left out, or the runs are used up. What is left is a local minimum.
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

    def sooner(self) -> None:
        """Bring the end forward to the finding, or near it."""
        for share in (0.5, 1.0, 1.3):
            seconds = float(round(self.best.seconds * share + 1.0))
            if seconds < self.best.plan.seconds and self.holds(self.best.plan.cut(seconds=seconds)):
                return

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
    found_s = report.seconds
    early = tuple(fault.number for fault in report.plan.faults if fault.at_s <= found_s)
    shrinker.holds(report.plan.cut(faults=early))  # what came after it cannot have been its cause
    before = None
    while before != shrinker.best.plan and shrinker.left > 0:
        before = shrinker.best.plan
        shrinker.sooner()
        faults = tuple(fault.number for fault in shrinker.best.plan.faults)
        shrinker.fewer(faults, lambda kept: shrinker.best.plan.cut(faults=kept))
        if len(shrinker.best.plan.devices) > 1:
            shrinker.fewer(
                shrinker.best.plan.devices, lambda kept: shrinker.best.plan.cut(devices=kept)
            )
    return shrinker.best
