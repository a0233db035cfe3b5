"""Quix Streams as a peer: an environment of its own from a locked list, beside ours.

``quix.requirements.txt`` names every package with its SHA-256. The environment lies in ``.cache``
under the list's hash and is made when a run first needs it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from benchmarks.streams.work import Job

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = Path(__file__).with_name("quix.requirements.txt")
INSTALL_S: Final = 300.0


def version() -> str:
    """Return the version that is locked."""
    found = re.search(r"^quixstreams==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert found is not None, "the list names it"
    return found.group(1)


def environment_folder() -> Path:
    """Return where the environment of the list as it is now lies."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    return ROOT / ".cache" / f"quix-{digest}"


def prepare(_folder: Path) -> list[str]:
    """Make the environment if it is not there; return the command.

    Raises:
        BrokerError: it cannot be made.

    """
    folder = environment_folder()
    python = folder / "bin" / "python"
    done = folder / ".complete"
    if not done.exists():
        own = ROOT / ".cache" / "uv" / "bin" / "uv"
        uv = str(own) if own.exists() else shutil.which("uv")
        if uv is None:
            raise BrokerError("There is no uv to set Quix Streams up with: start by ./dev bench.")
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(
            *(uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes"),
            *("--requirements", str(REQUIREMENTS)),
        )
        done.touch()
    return [str(python), "-m", "benchmarks.streams.quix_program"]


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    ended = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if ended.returncode:
        raise BrokerError(f"Quix Streams could not be set up: {ended.stderr[-800:]}")


def changelog(job: Job) -> str:
    """Return the name that it gives the changelog of its default store."""
    return f"changelog__{job.full(job.group)}--{job.full(job.source)}--default"
