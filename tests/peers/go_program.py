"""Programs of others in Go, built once from their modules and kept in ``.cache``.

The version is pinned, and Go's checksum database says what its sources are. A build takes a minute
to several, so it belongs to tests that are marked ``long``, with a timeout to suit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from peer import PeerMissing

from infra.kafka.jars import exclusive

CACHE = Path(__file__).parents[2] / ".cache" / "go-programs"
USUAL = "/usr/local/go/bin/go"
BUILD_S = 1_500.0


def go_program(name: str, module: str, version: str) -> Path:
    """Return the program ``name`` of a module, built at the first call."""
    folder = CACHE / f"{name}-{version}"
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock"):
        if not target.exists():
            _build(folder, f"{module}@{version}")
    if not target.exists():
        raise PeerMissing(f"{module} {version} has no program {name}")
    return target


def _build(folder: Path, what: str) -> None:
    go = shutil.which("go") or (USUAL if Path(USUAL).exists() else None)
    if go is None:
        raise PeerMissing(f"{what} is built by Go, which is not installed here (go.dev)")
    passing = folder / "building"
    settings = {"GOBIN": str(passing), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        [go, "install", "-ldflags=-s -w", what],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise PeerMissing(f"{what} cannot be built here: {done.stderr[-800:]}")
    for path in passing.iterdir():
        path.replace(folder / path.name)
    passing.rmdir()
