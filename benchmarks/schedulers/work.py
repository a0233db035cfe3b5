"""The work that every scheduler does, and how its program is told of it and answers.

Standard library only: the peers' environments import this file.

J jobs of one period T, their phases evenly spread: job i is due at ``begin + phase(i) + k T``, in
whole milliseconds, where ``phase`` goes through the period in strides, so that neighbours in the
order of registration are far apart in time. The body does nothing but read the wall clock and keep
the microseconds by which it is late. A program has until ``begin_ms`` to register all jobs, warms
up until ``from_ms`` and keeps what fires up to ``to_ms``.

The answer, a file of JSON: ``{"setup_s": 1.5, "lateness_us": [120, …]}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict, dataclass

STRIDE = 7_919
"""A prime: it has no factor in common with any number of jobs that people choose."""


@dataclass(frozen=True)
class Job:
    """What a program is to do."""

    jobs: int
    period_ms: int
    begin_ms: int
    """UTC: no job is due before."""
    from_ms: int
    to_ms: int
    """The window of what is kept, by the time of the fire."""
    answer: str
    """Path of the file to write."""

    def text(self) -> str:
        """Return the argument of a program."""
        return json.dumps(asdict(self))

    def first_ms(self, number: int) -> int:
        """Return when a job is due for the first time."""
        return self.begin_ms + number * STRIDE % self.jobs * self.period_ms // self.jobs


def say(event: str) -> None:
    """Tell the bench of an event; it reads the clock and the process's CPU at once."""
    sys.stdout.write(json.dumps({"event": event}) + "\n")
    sys.stdout.flush()


def given_job() -> Job:
    """Return the job of this process, which from now on ends when standard input closes."""

    def wait() -> None:
        while os.read(0, 4_096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    return Job(**json.loads(sys.argv[1]))


def write_answer(path: str, setup_s: float, lateness_us: list[int]) -> None:
    """Write the answer."""
    with open(path, "w", encoding="ascii") as out:  # noqa: PTH123
        json.dump({"setup_s": setup_s, "lateness_us": lateness_us}, out)
