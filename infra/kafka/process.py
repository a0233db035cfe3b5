"""The broker's process: started so that it cannot outlive us, and one owner a data folder.

**It dies with its parent.** A parent that is killed with -9 runs no clean-up, and a Java machine
left behind would hold the port and the data. The kernel's parent-death signal is bound to the
*thread* that started the child, so a broker started in a short-lived thread would be killed when
that thread ends. A pipe has no such trap: a small watchdog shell reads from a pipe whose only
writer is the parent. The parent's death, however it comes, closes the pipe; the watchdog then ends
the broker, kindly first. The broker itself is started behind a gate (it waits for a line on its own
pipe), which opens when the watchdog stands; so there is no moment without one.

A process id can only be taken by another process after we have reaped the broker, and we end the
watchdog before anything else then: it cannot hit a stranger.

**One owner.** ``owner.lock`` in the data folder is locked by ``flock``, and the broker inherits the
lock: the kernel gives it up when the last of parent and broker is gone, so it is never stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

NICE = 5
"""The broker yields to the workers on its machine: what it takes hides in the lead, what a worker
that opens a shutter takes does not. Linux weighs sessions first and processes within them then (see
autogroup in sched(7)), so the broker's session is told as well."""
ORPHAN_TIMEOUT_S = 20.0
"""How long the broker of a parent that died may take to be gone; the watchdog takes up to 10 s."""

_GATE = """
read -r go || exit
renice -n "$0" -p $$ >/dev/null 2>&1
{ echo "$0" >/proc/$$/autogroup; } 2>/dev/null
exec "$@" </dev/null
"""
_WATCHDOG = """
read -r never
kill -TERM "$1" 2>/dev/null || exit 0
for second in 1 2 3 4 5 6 7 8 9 10; do
  sleep 1
  kill -0 "$1" 2>/dev/null || exit 0
done
kill -KILL "$1" 2>/dev/null
"""


def calm_compiler(pid: int) -> None:
    """Let the Java machine's optimising compiler run only when nobody else wants the processor.

    A young broker compiles for a minute, half a core of it, and its clients share the machine. The
    compiler's threads are known by name (Linux); elsewhere nothing is changed.
    """
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().startswith("C2 Compiler"):
                os.setpriority(os.PRIO_PROCESS, int(task.name), 19)


class DataDirLock:
    """The right to use a data folder, held until ``release`` or the death of all who hold it."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "owner.lock"
        self._handle: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Say whether the folder is ours."""
        return self._handle is not None

    @property
    def fd(self) -> int:
        """Return the descriptor that the broker inherits."""
        assert self._handle is not None, "the lock is not held"
        return self._handle.fileno()

    def acquire(self) -> None:
        """Take the lock; wait a little if its owner is dead and only its broker is still ending.

        Raises:
            BrokerError: another live process owns the folder.

        """
        handle = self._path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + ORPHAN_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner, broker = self._who(handle)
                if owner is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                handle.close()
                holder = owner or broker
                who = "another process" if holder is None else f"process {holder.pid}"
                message = (
                    f"The broker's data in {self._path.parent} is in use by {who}: stop that "
                    "one first, or choose another data folder."
                )
                raise BrokerError(message) from None
        self._handle = handle
        self.note(None)

    def note(self, broker_pid: int | None) -> None:
        """Write down who owns the folder, for whoever finds it locked."""
        assert self._handle is not None, "the lock is not held"
        me = psutil.Process()
        owner = {"pid": me.pid, "since": me.create_time(), "broker": broker_pid}
        self._handle.seek(0)
        self._handle.truncate()
        self._handle.write(json.dumps(owner))
        self._handle.flush()

    def release(self) -> None:
        """Give the folder up."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    @staticmethod
    def _who(handle: IO[str]) -> tuple[psutil.Process | None, psutil.Process | None]:
        """Return the owner and its broker, each if it is alive."""
        try:
            handle.seek(0)
            noted = json.loads(handle.read())
            owner, since, broker = int(noted["pid"]), float(noted["since"]), noted["broker"]
        except (ValueError, KeyError, TypeError):  # It is being written.
            return psutil.Process(), None
        return _alive(owner, since), _alive(broker, None) if broker else None


def _alive(pid: int, since: float | None) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        if since is not None and abs(process.create_time() - since) > 1.0:
            return None  # The id was given to another process meanwhile.
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.Error:
        return None


class Supervised:
    """A child process that is ended when this process ends, however that comes.

    A process that is forked (not started anew) from this one holds the pipe too: the child then
    lives until the last of them is gone.
    """

    def __init__(self, command: Sequence[str], output: Path, keep_fd: int) -> None:
        """Start ``command``; its output goes to the file ``output``; it inherits ``keep_fd``."""
        with output.open("wb") as out:
            # A session of its own: Ctrl-C is for the parent, who stops the broker last.
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, str(NICE), *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(keep_fd,),
                # Java takes the encoding of file names from the locale, and Python's is UTF-8.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "sh", str(self._child.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(b"go\n")
            self._child.stdin.close()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._child.pid

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self._child.returncode is None and self._child.poll() is not None:
            self._end_watchdog()
        return self._child.returncode

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; return the exit code, or None after ``timeout_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout_s)
            self._end_watchdog()
        return self._child.returncode

    def stop(self, timeout_s: float) -> int:
        """End it: a request first, after ``timeout_s`` by force. Return the exit code."""
        if self.poll() is None:
            self._child.terminate()
            if self.wait(timeout_s) is None:
                self.kill()
        assert self._child.returncode is not None
        return self._child.returncode

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._end_watchdog()

    def _end_watchdog(self) -> None:
        self._watchdog.kill()
        self._watchdog.wait()
        if self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
