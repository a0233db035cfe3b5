"""Whether a sandbox kept up with its clock, and if not, what speed it could keep up with.

Two things bound the speed of a sandbox, as real time does not shrink with it:

* **the way**: from the tick that issues a command to the worker that takes it there are commits, of
  some 10 to 60 ms each, and arming takes its time before the shutter. All of that must fit into the
  lead, which at xN is N times shorter. Where it does not, captures come late: still wanted where
  the schedule's period is long (its window is one period by default), EXPIRED where it is short.
* **the work**: so many captures a second. What is not done in time is done after it: then the last
  result comes long after the range's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.records import CaptureCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

ARM_MS: Final = 400
"""What a worker needs before the shutter beside the way: RUNNING is committed, and a step ends."""
WAY_MS: Final = 100
"""What the way takes at least on a machine with something to do, for the word before."""
LATE_SHARE: Final = 0.01
"""Captures that may come too late where all is well: a commit that takes long for once."""
BEHIND: Final = 0.8
"""Reached, as a share of what was asked, below which the work was too much."""
LONG_S: Final = 5.0
"""Ranges that take less real time say nothing about the work: the last result takes a second."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a sandbox kept up."""

    asked: float
    reached: float
    """The range over the real time from the clock's start to the last result."""
    took_s: float
    """That real time."""
    commands: int
    too_late: int
    """Ended EXPIRED."""
    way_ms: float
    """From tick to worker, the time that one in ten exceeds; real time."""
    lead_ms: int
    """How far ahead of their times commands were issued, as a rule; by the sandbox's clock."""

    @property
    def late(self) -> bool:
        """Say whether the way was too long for the leads."""
        return self.too_late > LATE_SHARE * self.commands

    @property
    def behind(self) -> bool:
        """Say whether the work was too much."""
        return self.took_s > LONG_S and self.reached < BEHIND * self.asked

    @property
    def kept_up(self) -> bool:
        """Say whether the result is that of the range, not of this machine."""
        return not self.late and not self.behind

    @property
    def sensible(self) -> int:
        """The speed at which the way and the arming would fit into the leads; 1 at least.

        Where the work was too much the way is mostly waiting in line: then as of an idle machine.
        """
        way_ms = min(self.way_ms, WAY_MS) if self.behind else self.way_ms
        return max(1, int(self.lead_ms / (way_ms + ARM_MS)))

    def words(self) -> str:
        """Return what there is to say."""
        text = f"x{self.asked:g} asked, x{self.reached:.3g} reached"
        if self.kept_up:
            return text
        why: list[str] = []
        if self.late:
            why.append(
                f"{self.too_late:,} of {self.commands:,} captures came too late: from tick to "
                f"worker a command takes {self.way_ms:,.0f} ms here and arming {ARM_MS}, while a "
                f"lead of {_seconds(self.lead_ms)} is {self.lead_ms / self.asked:,.0f} ms at "
                f"x{self.asked:g}; such leads allow about x{self.sensible}"
            )
        if self.behind:
            why.append(
                "the last results came long after the range's end: there is more to do a second "
                "than this machine does"
            )
        return (
            f"{text}: IT DID NOT KEEP UP. {'. '.join(one[0].upper() + one[1:] for one in why)}. "
            "What differs is this machine's doing"
        )


def _seconds(lead_ms: int) -> str:
    return f"{lead_ms / 1000:.1f} s"


def leads_of(commands: Iterable[object]) -> list[int]:
    """Return how far ahead of their times commands were issued, in order, in milliseconds."""
    return sorted(
        one.scheduled_ms - one.moved_ms - one.issued_at_ms
        for one in commands
        if isinstance(one, CaptureCommand)
    )


def warning(speed: float, leads: list[int]) -> str:
    """Return what is to be expected of a speed, where its leads are too short; else empty."""
    if not leads:
        return ""
    lead_ms = leads[len(leads) // 2]
    if lead_ms / speed >= WAY_MS + ARM_MS:
        return ""
    sensible = max(1, int(lead_ms / (WAY_MS + ARM_MS)))
    return (
        f"note: at x{speed:g} a lead of {_seconds(lead_ms)} is "
        f"{lead_ms / speed:,.0f} ms of real time, and workers need some {WAY_MS + ARM_MS}: "
        "captures will be late, and given up where they are not wanted so late. "
        f"About x{sensible} fits"
    )
