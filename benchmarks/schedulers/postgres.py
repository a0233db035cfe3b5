"""A PostgreSQL of our own for the length of a run: loopback, a folder of its own, ended by its id.

Found on ``PATH`` or where Debian puts it. PostgreSQL refuses to run as root: then it runs as the
user ``postgres``, else as ``nobody``. Durable, as it is installed: ``fsync`` and
``synchronous_commit`` on. Or, where asked for, without ``fsync``: then what is committed survives
the end of the process but not of the machine, as with our broker, which leaves writing to the
kernel (Kafka's durability is a second copy). Told otherwise: 512 MiB of shared buffers and a
write-ahead log of 4 GiB before a checkpoint, so that none falls into the window.

A small shell holds a pipe whose only writer is this process: however this one ends, the pipe closes
and the shell has the server shut down.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from infra.kafka.ports import free_port
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

USER: Final = "bench"
DEBIAN: Final = Path("/usr/lib/postgresql")
UNPRIVILEGED: Final = ("postgres", "nobody")
READY: Final = "database system is ready to accept connections"
INIT_S: Final = 60.0
START_S: Final = 30.0
STOP_S: Final = 20.0
LOOK_S: Final = 0.1
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
}
_WATCHDOG: Final = 'read -r never; kill -INT "$1" 2>/dev/null'


def find(name: str) -> Path | None:
    """Return a program of PostgreSQL's, of the newest version that is installed."""
    there = shutil.which(name)
    if there is not None:
        return Path(there)

    def version(path: Path) -> float:
        number = re.fullmatch(r"\d+(\.\d+)?", path.parents[1].name)
        return float(number.group()) if number else 0.0

    found = sorted(DEBIAN.glob(f"*/bin/{name}"), key=version)
    return found[-1] if found else None


def missing() -> str:
    """Return what is missing to run one, in words; empty: nothing."""
    if find("postgres") is None or find("initdb") is None:
        return "no PostgreSQL (postgres, initdb) on PATH or in /usr/lib/postgresql"
    if os.geteuid() == 0 and _owner() is None:
        return "PostgreSQL refuses root, and there is no user postgres or nobody"
    return ""


def version() -> str:
    """Return its version; empty where there is none."""
    path = find("postgres")
    if path is None:
        return ""
    told = subprocess.run(
        [str(path), "--version"], capture_output=True, text=True, timeout=10.0, check=False
    )
    return told.stdout.removeprefix("postgres (PostgreSQL)").strip()


def _owner() -> pwd.struct_passwd | None:
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


@dataclass(slots=True)
class Postgres:
    """A server; ``with`` starts it and removes it."""

    fsync: bool = True
    port: int = 0
    _folder: Path = field(default_factory=Path)
    _child: subprocess.Popen[bytes] | None = None
    _watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; its sessions are children of it."""
        assert self._child is not None, "it was started"
        return self._child.pid

    def __enter__(self) -> Self:
        why = missing()
        if why:
            raise BrokerError(why)
        self._folder = Path(tempfile.mkdtemp(prefix="shutterwheel-postgres-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGINT)  # "fast": sessions are ended
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.send_signal(signal.SIGQUIT)
                self._child.wait()
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        owner = _owner() if os.geteuid() == 0 else None
        user = group = others = None
        if owner is not None:
            user, group, others = owner.pw_uid, owner.pw_gid, list[int]()
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        data, log = self._folder / "data", self._folder / "log"
        made = subprocess.run(
            [
                *(str(find("initdb")), "--pgdata", str(data), "--username", USER),
                *("--auth", "trust", "--no-locale", "--encoding", "UTF8", "--no-sync"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INIT_S,
            check=False,
            cwd=self._folder,
            user=user,
            group=group,
            extra_groups=others,
        )
        if made.returncode:
            raise BrokerError(f"PostgreSQL's initdb failed: {made.stderr[-500:]}")
        self.port = free_port()
        settings = {**SETTINGS, "fsync": "on" if self.fsync else "off"}
        command: Sequence[str] = [
            *(str(find("postgres")), "-D", str(data), "-p", str(self.port)),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]
        with log.open("wb") as out:
            child = self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._folder,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=others,
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "sh", str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + START_S
        while READY not in (said := log.read_text(errors="replace")):
            if child.poll() is not None or time.monotonic() > deadline_s:
                raise BrokerError(f"PostgreSQL did not start: {said[-500:]}")
            time.sleep(LOOK_S)
