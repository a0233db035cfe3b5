"""Keeps the processes of one machine running: the broker, the workers, the demo's cameras.

A worker that is in doubt ends itself; the supervisor starts it again, at once the first time and
then after a pause that doubles to 5 s, so that a broken set-up does not spin. A child is tethered:
it stops when its standard input closes, so nothing outlives the supervisor, however that ends.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from schemas.errors import ShutterwheelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infra.kafka.broker import EmbeddedBroker

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STEADY_S = 30.0
"""A child that ran this long is started at once again."""
STOP_S = 15.0
"""How long a child may take to end in order: draining takes up to 4 s, leaving the group less."""
GIVE_UP_AFTER = 8
"""Ends within ``STEADY_S`` each, one after the other, after which a child is not started again."""


class ChildError(ShutterwheelError):
    """A process cannot be kept running."""


@dataclass(slots=True)
class Child:
    """One process to keep running; its output goes to a log file."""

    name: str
    command: Sequence[str]
    log_file: Path
    restarts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _started_s: float = 0.0
    _again_s: float = 0.0
    _pause_s: float = 0.0
    _short_lives: int = 0
    _log: IO[bytes] | None = field(default=None)

    @property
    def pid(self) -> int:
        """Return the process id; 0 while it does not run."""
        return self._process.pid if self._process is not None and self.alive() else 0

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process."""
        if self._log is None:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self._log = self.log_file.open("ab")
        self._close_tether()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._started_s = time.monotonic()
        self._again_s = 0.0

    def watch(self) -> None:
        """Start the process again if it has ended and its pause is over.

        Raises:
            ChildError: it ends again and again.

        """
        if self.alive():
            return
        now = time.monotonic()
        if not self._again_s:
            steady = now - self._started_s >= STEADY_S
            self._short_lives = 0 if steady else self._short_lives + 1
            if self._short_lives >= GIVE_UP_AFTER:
                raise ChildError(f"{self.name} ends again and again: {self.last_words()}")
            self._pause_s = (
                FIRST_PAUSE_S
                if steady or not self._pause_s
                else min(self._pause_s * 2, LONGEST_PAUSE_S)
            )
            self._again_s = now + self._pause_s
        if now >= self._again_s:
            self.restarts += 1
            self.start()

    def last_words(self) -> str:
        """Return the last line of the log, shortened, and where the log is."""
        with contextlib.suppress(OSError):
            with self.log_file.open("rb") as file:
                file.seek(max(self.log_file.stat().st_size - 4_096, 0))
                lines = [line for line in file.read().decode(errors="replace").split("\n") if line]
            if lines:
                return f"{lines[-1][:300]} (log: {self.log_file})"
        return f"no word in its log, {self.log_file}"

    def ask_to_stop(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self.alive():
            self._process.send_signal(signal.SIGTERM)

    def await_end(self, deadline_s: float) -> None:
        """Wait until the process has ended; after the deadline end it by force."""
        if self._process is None:
            return
        try:
            self._process.wait(max(deadline_s - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_tether()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _close_tether(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


class Supervisor:
    """The children of one machine, and the broker if it is ours."""

    def __init__(self, broker: EmbeddedBroker | None) -> None:
        """Take the broker to watch; ``None``: it is somebody else's."""
        self.broker = broker
        self.broker_restarts = 0
        self.children: list[Child] = []

    def add(self, child: Child) -> Child:
        """Start a child and keep it running."""
        self.children.append(child)
        child.start()
        return child

    def watch(self) -> None:
        """Look after everybody once; call it a few times a second.

        Raises:
            ChildError: a child cannot be kept running.
            BrokerError: the broker cannot be started again.

        """
        if self.broker is not None and not self.broker.alive():
            self.broker_restarts += 1
            self.broker.start()
        for child in self.children:
            child.watch()

    def stop(self, keep_broker: bool = False) -> None:
        """End the children together, then the broker."""
        for child in self.children:
            child.ask_to_stop()
        deadline_s = time.monotonic() + STOP_S
        for child in self.children:
            child.await_end(deadline_s)
        self.children.clear()
        if self.broker is not None and not keep_broker:
            self.broker.stop()


def python_command(*arguments: str) -> list[str]:
    """Return the command that runs a module of this project with this interpreter."""
    return [sys.executable, *arguments]
