"""How the peers are made ready and asked: each in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.java import compile_java
from infra.kafka.jars import load_lock
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.schedules.corpus import Question

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
REQUIREMENTS: Final = HERE / "peers.requirements.txt"
PROGRAM: Final = "QuartzPeer"
LIMIT_S: Final = 900.0
Answer = list[int] | str
"""Fires in UTC milliseconds, or why there are none."""


def versions() -> dict[str, str]:
    """Return the versions that are locked."""
    text = REQUIREMENTS.read_text(encoding="utf-8")
    found = dict(re.findall(r"^([a-z-]+)==([\w.]+)", text, re.MULTILINE))
    names = ("croniter", "cronsim", "apscheduler", "python-dateutil", "astral", "tzdata")
    quartz = next(jar.version for jar in _jars() if jar.artifact_id == "quartz")
    return {**{name: found[name] for name in names}, "quartz": quartz}


def _jars() -> tuple[Any, ...]:
    return load_lock(HERE / "jars.lock.json")


def ask_python(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the Python peers answer. Raises :class:`BrokerError` where it cannot be had."""
    # An empty path: the time zones are those of the pinned package, as ours.
    environment = {**os.environ, "PYTHONTZPATH": ""}
    program = [str(_python()), str(HERE / "python_peers.py")]
    said: dict[str, Any] = json.loads(_run(program, json.dumps(asked), environment))
    return said


def _python() -> Path:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = ROOT / ".cache" / f"schedules-{digest}"
    python, done = folder / "bin" / "python", folder / ".complete"
    if not done.exists():
        own = ROOT / ".cache" / "uv" / "bin" / "uv"
        uv = str(own) if own.exists() else shutil.which("uv")
        if uv is None:
            raise BrokerError("There is no uv to set the peers up with: start by ./dev bench.")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes"]
        _run([*install, "--requirements", str(REQUIREMENTS)])
        done.touch()
    return python


class Quartz:
    """CronExpression, compiled once and asked in processes of its own."""

    def __init__(self, folder: Path) -> None:
        """Fetch the jars and compile into ``folder``."""
        self._command = _java(folder)
        self.tz_version = ""
        """Of the Java runtime; known after the first question."""

    def fires(self, questions: Sequence[Question], fires: int) -> list[Answer]:
        """Return its answers."""
        out = self._ask(
            f"fires\t{quartz_line(q.line)}\t{q.zone}\t{q.start_ms}\t{fires}" for q in questions
        )
        return [
            text[2:] if text.startswith("!") else [int(time) for time in text.split()]
            for text in out
        ]

    def offsets(self, zone: str, times: Sequence[int]) -> dict[int, int]:
        """Return the offsets that its zone has at some times, in milliseconds."""
        if not times:
            return {}
        (text,) = self._ask([f"offsets\t{' '.join(map(str, times))}\t{zone}\t0\t0"])
        return dict(zip(times, map(int, text.split()), strict=True))

    def costs(self, questions: Sequence[Question]) -> list[tuple[float, float] | None]:
        """Return microseconds to read a line with its first fire, and for each next; or null."""
        out = self._ask(
            f"cost\t{quartz_line(q.line)}\t{q.zone}\t{q.start_ms}\t2000" for q in questions
        )
        return [
            None
            if text.startswith("!")
            else (int(text.split()[0]) / 1e3, int(text.split()[1]) / 1e3)
            for text in out
        ]

    def _ask(self, lines: Iterable[str]) -> list[str]:
        self.tz_version, *out = _run(self._command, "\n".join(lines) + "\n").split("\n")[:-1]
        return out


def quartz_line(line: str) -> str:
    """Return a line as Quartz writes it: six fields, and ``?`` for the day that does not count."""
    second, minute, hour, day, month, weekday = ["0", *line.split()][-6:]
    if weekday == "*":
        weekday = "?"
    elif day == "*":
        day = "?"
    return f"{second} {minute} {hour} {day} {month} {weekday}".upper()


def _java(folder: Path) -> list[str]:
    java, class_path = compile_java(HERE / f"{PROGRAM}.java", _jars(), folder)
    return [java, "-Xmx256m", "-cp", class_path, PROGRAM]


def _run(command: list[str], text: str = "", environment: dict[str, str] | None = None) -> str:
    known = os.environ if environment is None else environment
    ended = subprocess.run(
        command,
        env={name: value for name, value in known.items() if name != "VIRTUAL_ENV"},
        input=text,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if ended.returncode:
        said = (ended.stdout + ended.stderr)[-800:]
        raise BrokerError(f"{Path(command[0]).name} of the schedules' peers failed: {said}")
    return ended.stdout
