"""Python peers' environments: each from a locked list of its own, beside ours.

A list names every package with its SHA-256. The environment lies in ``.cache`` under the list's
hash and is made when a run first needs it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from schemas.errors import BrokerError

ROOT: Final = Path(__file__).parents[2]
INSTALL_S: Final = 300.0


def environment_folder(name: str, requirements: Path) -> Path:
    """Return where the environment of the list as it is now lies."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    return ROOT / ".cache" / f"{name}-{digest}"


def locked_environment(name: str, requirements: Path, *, exact: bool = False) -> Path:
    """Make the environment if it is not there; return its Python.

    ``exact``: the list is all there is; what its packages ask for beyond it is not looked at.

    Raises:
        BrokerError: it cannot be made.

    """
    folder = environment_folder(name, requirements)
    python = folder / "bin" / "python"
    done = folder / ".complete"
    if not done.exists():
        own = ROOT / ".cache" / "uv" / "bin" / "uv"
        uv = str(own) if own.exists() else shutil.which("uv")
        if uv is None:
            raise BrokerError(f"There is no uv to set {name} up with: start by ./dev bench.")
        _run(name, uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(
            *(name, uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes"),
            *("--requirements", str(requirements), *(("--no-deps",) if exact else ())),
        )
        done.touch()
    return python


def _run(name: str, *command: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
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
        raise BrokerError(f"{name} could not be set up: {ended.stderr[-800:]}")
