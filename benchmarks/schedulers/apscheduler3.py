"""APScheduler 3 as a peer: an environment of its own from a locked list, as Quix Streams has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from benchmarks.streams.environment import locked_environment

REQUIREMENTS: Final = Path(__file__).with_name("apscheduler.requirements.txt")


def version() -> str:
    """Return the version that is locked."""
    found = re.search(r"^apscheduler==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert found is not None, "the list names it"
    return found.group(1)


def prepare(_folder: Path) -> list[str]:
    """Make the environment if it is not there; return the command.

    Raises:
        BrokerError: it cannot be made.

    """
    python = locked_environment("apscheduler", REQUIREMENTS)
    return [str(python), "-m", "benchmarks.schedulers.apscheduler_program"]
