"""The systems that are compared: how each is started, what it can do, how much work it is given."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.result import OURS
from benchmarks.streams import kafka_streams, quix
from benchmarks.streams.work import CASES, EXACTLY_ONCE, RECOVERY

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.streams.work import Job

ROOT: Final = Path(__file__).parents[2]


def python_program(name: str) -> Callable[[Path], list[str]]:
    """Return what prepares a program of this package that runs in the project's environment."""
    return lambda _folder: [sys.executable, "-m", f"benchmarks.streams.{name}"]


def environment() -> dict[str, str]:
    """Return the environment of every program: this project's packages can be imported."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _job_text(job: Job) -> str:
    return job.text()


def _own_changelog(job: Job) -> str:
    return job.full(job.changelog)


@dataclass(frozen=True, slots=True)
class System:
    """One system."""

    name: str
    prepare: Callable[[Path], list[str]]
    """Makes it ready to run, with a folder for what is built; returns the command."""
    argument: Callable[[Job], str] = field(default=_job_text)
    """The program's argument."""
    changelog: Callable[[Job], str] = field(default=_own_changelog)
    """Full name of the changelog topic of the table."""
    makes_changelog: bool = True
    """It makes the topic itself; else the bench does."""
    cases: tuple[str, ...] = CASES
    slow: bool = False
    """It is given a tenth or a twentieth of the records."""
    always_exactly_once: bool = False

    def promise(self, case: str) -> str:
        """Return its guarantee in a case."""
        exactly_once = self.always_exactly_once or case == EXACTLY_ONCE
        return "exactly once" if exactly_once else "at least once"


SYSTEMS: Final = (
    System(
        "faust-stock",
        python_program("faust_program"),
        changelog=lambda job: f"{job.full(job.group)}-counts-changelog",
        cases=tuple(case for case in CASES if case != EXACTLY_ONCE),
        slow=True,
    ),
    System("quix-streams", quix.prepare, changelog=quix.changelog),
    System(
        "kafka-streams",
        kafka_streams.prepare,
        argument=kafka_streams.argument,
        changelog=lambda job: f"{job.full(job.group)}-counts-changelog",
    ),
    System(
        OURS,
        python_program("shutterwheel_program"),
        makes_changelog=False,
        always_exactly_once=True,
    ),
    System(
        f"{OURS}-x2",
        python_program("shutterwheel_pair"),
        cases=tuple(case for case in CASES if case != RECOVERY),
        makes_changelog=False,
        always_exactly_once=True,
    ),
)


def versions() -> dict[str, str]:
    """Return the versions of the peers that are not in the project's own environment."""
    return {"kafka-streams": kafka_streams.version(), "quixstreams": quix.version()}
