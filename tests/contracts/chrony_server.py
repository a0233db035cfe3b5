"""A real chronyd on a port of 127.0.0.1 that leaves the machine's clock alone.

Under libfaketime its clock is ahead, drifts or is stepped while it runs. Where one of the two is
not installed the test is skipped, and the reason says how to install it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from infra.kafka.ports import free_port

CONFIG = """\
port {port}
bindaddress 127.0.0.1
allow 127.0.0.1
local stratum {stratum}
cmdport 0
bindcmdaddress /
pidfile {folder}/chronyd.pid
"""
START_S = 10.0


def program(name: str, package: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed here (Debian, Ubuntu: apt-get install {package})")
    return found


def faketime_library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed here (Debian, Ubuntu: apt-get install faketime)")
    return str(found[0])


class ChronyServer:
    """chronyd with ``-x``; ``offset_s`` and ``rate`` (1 + drift) are those of its clock.

    chronyd prefers the kernel's stamps, which libfaketime leaves alone, until they are a second
    from its own clock: so give it an offset of more than that, or none.
    """

    def __init__(
        self, folder: Path, offset_s: float = 0.0, rate: float = 1.0, stratum: int = 3
    ) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rate = folder, rate
        config = folder / "chrony.conf"
        config.write_text(CONFIG.format(port=self.port, stratum=stratum, folder=folder))
        command = [program("chronyd", "chrony"), "-x", "-d", "-U", "-u", getpass.getuser()]
        environment = dict(os.environ)
        self._time = folder / "time"
        if offset_s or rate != 1.0:
            self.step(offset_s)
            environment |= {
                "LD_PRELOAD": faketime_library(),
                "FAKETIME_TIMESTAMP_FILE": str(self._time),
                "FAKETIME_NO_CACHE": "1",
            }
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*command, "-f", str(config)], env=environment, stdout=self._log, stderr=self._log
        )
        self._await_start()

    def _await_start(self) -> None:
        deadline_s = time.monotonic() + START_S
        pid_file = self._folder / "chronyd.pid"
        while not pid_file.exists():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline_s, (self._folder / "log").read_text()
            time.sleep(0.02)

    def step(self, offset_s: float) -> None:
        """Set what its clock is ahead of the machine's."""
        rate = f" x{self._rate}" if self._rate != 1.0 else ""
        self._time.write_text(f"{offset_s:+}s{rate}\n")

    def close(self) -> None:
        """End it, as by a power cut."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
