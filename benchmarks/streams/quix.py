"""Quix Streams as a peer: an environment of its own from a locked list (``environment.py``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.streams.environment import locked_environment

if TYPE_CHECKING:
    from benchmarks.streams.work import Job

REQUIREMENTS: Final = Path(__file__).with_name("quix.requirements.txt")


def version() -> str:
    """Return the version that is locked."""
    found = re.search(r"^quixstreams==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert found is not None, "the list names it"
    return found.group(1)


def prepare(_folder: Path) -> list[str]:
    """Make the environment if it is not there; return the command.

    Raises:
        BrokerError: it cannot be made.

    """
    python = locked_environment("quix", REQUIREMENTS)
    return [str(python), "-m", "benchmarks.streams.quix_program"]


def changelog(job: Job) -> str:
    """Return the name that it gives the changelog of its default store."""
    return f"changelog__{job.full(job.group)}--{job.full(job.source)}--default"
