"""A real camera server as a context manager: what every starter here shares.

    with GstRtspServer(folder, [Mount("/cam", codec="h264")]) as peer:
        ... peer.url("/cam") ...

A peer is a program of somebody else that runs on a port of its own of 127.0.0.1. It is ready when
``with`` hands it over: its socket was asked, and answered. It is ended by its process group, which
is its own, and by the kernel if the tests are killed (start it in the main thread: the kernel
binds that to the thread). Its log lies in its folder; a test that fails shows the end of it.

A program that is not here raises :class:`PeerMissing`, which pytest takes as a skip and which says
what to install. Nothing here needs pytest, so benches can use it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self
from unittest import SkipTest

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"
START_S = 30.0
"""A generous bound on a start: on a loaded machine ffmpeg takes seconds."""
STOP_S = 5.0
LOG_TAIL_CHARACTERS = 4_000


class PeerMissing(SkipTest):
    """A program of a peer is not installed here; the text says how to get it."""


class PeerError(AssertionError):
    """A peer did not start; the text ends with its log."""


def program(name: str, package: str) -> str:
    """Return the path of an installed program."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise PeerMissing(
            f"{name} is not installed here (Debian, Ubuntu: apt-get install {package})"
        )
    return found


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that is free on 127.0.0.1 now."""
    with socket.socket(type=kind) as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def free_port_pair() -> int:
    """Return an even UDP port that is free together with the next one (RTP and RTCP)."""
    while True:
        port = free_port(socket.SOCK_DGRAM) & ~1
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as one:
            one.bind((HOST, port))
            with socket.socket(type=socket.SOCK_DGRAM) as two:
                two.bind((HOST, port + 1))
                return port


class Peer:
    """One program. A subclass sets ``name`` and ``port``, calls :meth:`start`, says ``ready``."""

    name = "peer"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    # --- what a subclass says ---------------------------------------------------------------------

    def ready(self) -> bool:
        """Say whether it answers now; asked every few milliseconds until it does."""
        return connects(self.port)

    # --- what all of them do ----------------------------------------------------------------------

    def start(self, command: list[str], *, environment: dict[str, str] | None = None) -> None:
        """Start the program and return when it is ready."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard, *command],
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.ready():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"was not ready within {START_S:.0f} s"
                raise PeerError(f"{self.name} {what}:\n{self.log_tail()}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The program's process id, which is its process group's as well."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    def log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log_path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
        return ""

    def pause(self) -> None:
        """SIGSTOP to all of it: the kernel still takes connections for it."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all of it."""
        os.killpg(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and all its children; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        group = process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
            os.killpg(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.wait()
        if "PYTEST_CURRENT_TEST" in os.environ:  # pytest shows it if the test fails
            print(f"--- the end of {self.log_path}\n{self.log_tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def connects(port: int) -> bool:
    """Say whether something takes TCP connections at the port."""
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def answers(port: int, request: bytes, expected: bytes, *, timeout_s: float = 3.0) -> bool:
    """Send a request and say whether the answer, read until it is there, holds ``expected``."""
    got = b""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as one:
            one.sendall(request)
            while expected not in got and len(got) < 65_536:
                part = one.recv(4_096)
                if not part:
                    break
                got += part
    except OSError:
        return False
    return expected in got


def rtsp_answers(port: int, path: str) -> bool:
    """Say whether a DESCRIBE of ``path`` is answered: with an SDP, or asking who we are."""
    request = (
        f"DESCRIBE rtsp://{HOST}:{port}{path} RTSP/1.0\r\nCSeq: 1\r\n"
        "Accept: application/sdp\r\nUser-Agent: test\r\n\r\n"
    ).encode()
    # A server prepares its stream at the first DESCRIBE, so this waits for it.
    got = b""
    try:
        with socket.create_connection((HOST, port), timeout=10.0) as one:
            one.sendall(request)
            while b"\r\n" not in got:
                part = one.recv(4_096)
                if not part:
                    return False
                got += part
    except OSError:
        return False
    return got.startswith((b"RTSP/1.0 200", b"RTSP/1.0 401"))
