"""The timers that are compared: how each is made ready, and how it is told what to do.

Ours, ``heapq`` and APScheduler run on the Python of the project; Kafka's SystemTimer on its Java,
from the jars of the embedded broker; RussellLuo/timingwheel is built by the Go that is installed,
from locked modules. What cannot be run here says so in its row.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.result import OURS
from benchmarks.streams.environment import locked_environment
from infra.kafka.jars import ensure_jars, load_lock
from infra.kafka.java import find_java
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.wheel.work import Job

HERE: Final = Path(__file__).parent
ECJ_LOCK: Final = HERE.parent / "streams" / "jars.lock.json"
REQUIREMENTS: Final = HERE / "apscheduler.requirements.txt"
GO_SOURCE: Final = HERE / "timingwheel"
GO_DEFAULT: Final = Path("/usr/local/go/bin/go")
"""Where Go's own installer puts it, on PATH or not."""
JAVA_PROGRAM: Final = "SystemTimerProgram"
BUILD_S: Final = 300.0
"""Jars, modules and packages may have to be fetched."""


def _numbers(job: Job) -> list[str]:
    return [str(job.timers), str(job.window_ms), str(job.lead_ms)]


@dataclass(frozen=True, slots=True)
class System:
    """One system."""

    name: str
    prepare: Callable[[Path], list[str]]
    """Makes it ready, with a folder for what is built; returns the command."""
    arguments: Callable[[Job], list[str]] = field(default=lambda job: [job.text()])
    insert_us: float = 5.0
    """A timer's share of the time that is left for inserting: several times what it takes."""
    most_timers: int = 10_000_000
    """With more it is only seen how far it comes."""
    at_once: bool = True
    """It is also given all timers at one time."""
    missing: Callable[[], str] = field(default=lambda: "")
    """Says what this machine lacks to run it; empty: nothing."""


def _python(name: str) -> Callable[[Path], list[str]]:
    return lambda _folder: [sys.executable, "-m", "benchmarks.wheel.python_program", name]


def _apscheduler(_folder: Path) -> list[str]:
    python = locked_environment("apscheduler-timers", REQUIREMENTS)
    return [str(python), "-m", "benchmarks.wheel.apscheduler_program"]


def _system_timer(folder: Path) -> list[str]:
    java, jars = find_java(), ensure_jars()
    compiler = next(p for p in ensure_jars(jars=load_lock(ECJ_LOCK)) if p.name.startswith("ecj-"))
    class_path = ":".join(str(path) for path in jars)
    source = HERE / f"{JAVA_PROGRAM}.java"
    _build(
        [
            *(str(java.path), "-jar", str(compiler), "-17", "-nowarn", "-cp", class_path),
            *("-d", str(folder), str(source)),
        ]
    )
    return [
        *(str(java.path), "-Xms1g", "-Xmx1g", "-XX:+UseParallelGC"),
        *("-cp", f"{folder}:{class_path}", JAVA_PROGRAM),
    ]


def _timingwheel(folder: Path) -> list[str]:
    program = (folder / "timingwheel-program").absolute()
    _build([_go(), "build", "-mod=readonly", "-o", str(program), "."], cwd=GO_SOURCE)
    return [str(program)]


def _go() -> str:
    return shutil.which("go") or (str(GO_DEFAULT) if GO_DEFAULT.exists() else "")


def _build(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise BrokerError(f"A program does not build: {(done.stdout + done.stderr)[-800:]}")


SYSTEMS: Final = (
    System("heapq", _python("heapq")),
    System("kafka-systemtimer", _system_timer, _numbers),
    System("timingwheel", _timingwheel, _numbers, missing=lambda: "" if _go() else "no Go on PATH"),
    System("apscheduler", _apscheduler, insert_us=200.0, most_timers=100_000, at_once=False),
    System(OURS, _python(OURS)),
)


def versions() -> dict[str, str]:
    """Return the versions of the peers and of what they run on; but what is missing."""
    kafka = next(path for path in ensure_jars() if path.name.startswith("kafka-server-common-"))
    wheel = re.search(r"timingwheel v(\S+)", (GO_SOURCE / "go.mod").read_text(encoding="utf-8"))
    listed = re.search(r"^apscheduler==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert wheel is not None, "the module is named there"
    assert listed is not None, "the list names it"
    found = {
        "kafka-server-common": kafka.stem.removeprefix("kafka-server-common-"),
        "java": str(find_java().major),
        "timingwheel": wheel.group(1),
        "go": _go_version(),
        "apscheduler": listed.group(1),
    }
    return {name: version for name, version in found.items() if version}


def _go_version() -> str:
    if not _go():
        return ""
    told = subprocess.run(
        [_go(), "env", "GOVERSION"],
        cwd=GO_SOURCE,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    return told.stdout.strip().removeprefix("go")
