"""gocron v2 as a peer: built by the Go that is installed, from locked modules, in its defaults.

``gocron/go.mod`` and ``go.sum`` name the modules with their hashes. Each job has a timer of Go's
and runs in a goroutine of its own; there is no limit of concurrency and nothing to tune but Go's
own ``GOGC``, which stays at its default.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from schemas.errors import BrokerError

SOURCE: Final = Path(__file__).with_name("gocron")
BUILD_S: Final = 300.0
"""Modules may have to be fetched."""


def go() -> str | None:
    """Return the Go that is installed."""
    return shutil.which("go")


def missing() -> str:
    """Return what is missing to run it, in words; empty: nothing."""
    return "" if go() else "no Go on PATH"


def version() -> str:
    """Return the version that is locked."""
    found = re.search(r"gocron/v2 v(\S+)", (SOURCE / "go.mod").read_text(encoding="utf-8"))
    assert found is not None, "it is named there"
    return found.group(1)


def go_version() -> str:
    """Return the version of Go; empty where there is none."""
    path = go()
    if path is None:
        return ""
    told = subprocess.run(
        [path, "env", "GOVERSION"], cwd=SOURCE, capture_output=True, text=True, timeout=60.0,
        check=False,
    )  # fmt: skip
    return told.stdout.strip().removeprefix("go")


def prepare(folder: Path) -> list[str]:
    """Build the program into ``folder``; return the command.

    Raises:
        BrokerError: there is no Go, or it does not build.

    """
    path, program = go(), (folder / "gocron-program").absolute()
    if path is None:
        raise BrokerError(missing())
    done = subprocess.run(
        [path, "build", "-mod=readonly", "-o", str(program), "."],
        cwd=SOURCE,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise BrokerError(f"The gocron program does not build: {done.stderr[-800:]}")
    return [str(program)]
