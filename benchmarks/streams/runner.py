"""Runs one program on one job and measures it.

The window begins when the program says ``first`` and ends when its group's committed offsets cover
every record of the input: what was worked on but not committed does not count, whatever the
interval of the system's commits. (A recovery has no offsets to wait for and ends at ``last``.)
Start-up, joining the group and compiling at import lie before it; a Java machine's warming up lies
within it.

CPU is that of the process and its children within the window, user and system; memory is the
largest resident set seen, looked at every ``LOOK_S``.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import msgspec
import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from benchmarks.streams.peers import environment
from benchmarks.streams.work import RECOVERY
from infra.kafka.admin import admin_client
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.streams.work import Job

LOOK_S: Final = 0.1
ASK_S: Final = 0.02
"""Pause between two looks at the committed offsets."""
START_S: Final = 90.0
"""The longest from the start of a program to its first record."""
LONGEST_S: Final = 600.0
"""The longest that the work may take."""
COMMIT_S: Final = 60.0
"""The longest from the last record to its commit."""
END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to."""

    records: int
    took_s: float
    cpu_s: float
    peak_rss_bytes: int


class _Event(msgspec.Struct):
    event: str
    done: int = 0


class Program:
    """A program that runs; ``with`` ends it, however it comes to that."""

    def __init__(self, command: Sequence[str], errors: Path) -> None:
        """Start it; what it writes to standard error goes to a file."""
        self._errors = errors
        self.peak_rss_bytes = 0
        self._said: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        with errors.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the bench, who ends it
            )
        self._process = psutil.Process(self._child.pid)
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            try:
                self._said.put(msgspec.json.decode(line, type=_Event))
            except msgspec.MsgspecError:
                continue  # a library that prints
        self._said.put(None)

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self._process, *self._process.children(recursive=True)]
        return []

    def cpu_s(self) -> float:
        """Return the CPU seconds so far."""
        spent_s = 0.0
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent_s += times.user + times.system
        return spent_s

    def look(self) -> None:
        """Look at its memory."""
        rss_bytes = 0
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                rss_bytes += process.memory_info().rss
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)

    def wait_for(self, event: str, longest_s: float) -> int:
        """Wait until it says this; return how many records it had done before.

        Raises:
            BrokerError: it ended, or did not say it in time.

        """
        deadline_s = time.monotonic() + longest_s
        while time.monotonic() < deadline_s:
            try:
                said = self._said.get(timeout=LOOK_S)
            except queue.Empty:
                if self._child.poll() is None:
                    self.look()
                continue
            if said is not None and said.event == event:
                return said.done
            if said is None:
                raise BrokerError(f"The program ended before {event!r}: {self._last_words()}")
        raise BrokerError(f"No {event!r} in {longest_s:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        return self._errors.read_text(errors="replace")[-1_500:]


def measure(job: Job, command: Sequence[str], errors: Path) -> Measured:
    """Run a program on a job.

    Raises:
        BrokerError: it failed, or took longer than the bounds above.

    """
    with Program(command, errors) as program:
        before = program.wait_for("first", START_S)
        began_s, cpu_s = time.monotonic(), program.cpu_s()
        program.wait_for("last", LONGEST_S)
        if job.case != RECOVERY:
            _wait_for_commit(job)
        took_s, cpu_s = time.monotonic() - began_s, program.cpu_s() - cpu_s
        program.look()
        return Measured(job.records - before, took_s, cpu_s, program.peak_rss_bytes)


def _wait_for_commit(job: Job) -> None:
    admin = admin_client(job.bootstrap)
    group = job.full(job.group)
    deadline_s, done = time.monotonic() + COMMIT_S, 0
    while time.monotonic() < deadline_s:
        futures = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        try:
            found = futures[group].result().topic_partitions or ()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise BrokerError(f"Cannot read the offsets of {group}: {error}") from error
            found = ()
        offsets = [part.offset for part in found if part.topic == job.full(job.source)]
        done = sum(offset for offset in offsets if offset is not None and offset > 0)
        if done >= job.records:
            return
        time.sleep(ASK_S)
    raise BrokerError(f"{done:,} of {job.records:,} records were committed by {group}.")
