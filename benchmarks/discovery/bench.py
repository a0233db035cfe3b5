"""Discovery: how many of the cameras there are found, how soon, and merged into what.

The cameras are simulated ones in a network namespace, each at an IP address of its own, joined to
the searcher's by a veth pair: real multicast, real ARP. They answer WS-Discovery after a random
wait of at most 0.5 s, as SOAP-over-UDP wants it.

- ``N cameras, WS-Discovery``: beside ours, ``wsdiscovery`` (PyPI) and ``onvif-util`` (Debian's
  onvif-tools), which search the same network. All have the same 5 s; onvif-util ends when it likes.
- ``N cameras, five protocols``: each camera answers to all five, and is to be one device.

``first_s``, ``half_s`` and ``last_s`` count from the first question to the first, the median and
the last camera; ``program_s`` is the whole program, its start included.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.network import Lan, NoNetworkError
from benchmarks.options import chosen
from benchmarks.result import OURS, Row
from benchmarks.streams.environment import locked_environment
from benchmarks.streams.peers import environment
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

REQUIREMENTS: Final = Path(__file__).with_name("wsdiscovery.requirements.txt")
PROGRAM: Final = Path(__file__).with_name("wsdiscovery_program.py")
CAMERAS: Final = (20, 500, 2_000)
QUICK_CAMERAS: Final = (20, 100)
MERGED: Final = 100
"""Cameras that all five protocols see."""
SEARCH_S: Final = 5.0
ALLOWED_S: Final = 90.0
DELAY_S: Final = 0.5
ALL: Final = ["mdns", "ssdp", "ws-discovery", "sadp", "dhip"]
WS_DISCOVERY: Final = ["ws-discovery"]
UNITS: Final = {"s": "s", "ms": "ms"}
WSDISCOVERY, ONVIF_UTIL = "wsdiscovery", "onvif-util"


def devices_of(hosts: list[str], speaks: list[str]) -> list[dict[str, object]]:
    """Return simulated cameras, each with keys of its own."""
    return [
        {
            "host": host,
            "speaks": speaks,
            "epr": f"4d454930-0000-1000-8000-{number:012d}",
            "mac": f"a8bbcc{number:06x}",
            "serial": f"SIM-{number:06d}",
            "name": f"Camera {number}",
        }
        for number, host in enumerate(hosts)
    ]


def search(command: list[str], lan: Lan) -> tuple[str, float, float]:
    """Run a searching program to its end; return what it wrote, wall and CPU time in s.

    Raises:
        BrokerError: it did not come to its end.

    """
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    try:
        done = subprocess.run(
            [*lan.prefix(), *command],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ALLOWED_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"{command[0]} did not end within {ALLOWED_S:.0f} s") from error
    wall_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if not done.stdout:
        raise BrokerError(f"{command[0]} failed: {done.stderr[-800:]}")
    return done.stdout, wall_s, cpu_s


def ours(lan: Lan, sources: list[str]) -> dict[str, float]:
    """Search with ours."""
    command = [sys.executable, "-m", "benchmarks.discovery.program", str(SEARCH_S), *sources]
    out, wall_s, cpu_s = search(command, lan)
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return {**found, "program_s": wall_s, "program_cpu_s": cpu_s}


def wsdiscovery(lan: Lan) -> dict[str, float]:
    """Search with the library of that name."""
    python = locked_environment("wsdiscovery", REQUIREMENTS)
    out, wall_s, cpu_s = search([str(python), str(PROGRAM), str(SEARCH_S)], lan)
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return {**found, "program_s": wall_s, "program_cpu_s": cpu_s}


def onvif_util(lan: Lan) -> dict[str, float]:
    """Search with Debian's; it tells how many there are, and may crash over what they say."""
    out, wall_s, cpu_s = search(["onvif-util", "-a"], lan)
    counted = re.search(r"Found (\d+) cameras", out)
    return {
        "found": float(counted[1] if counted else 0),
        "program_s": wall_s,
        "program_cpu_s": cpu_s,
    }


PEERS: Final[dict[str, Any]] = {WSDISCOVERY: wsdiscovery, ONVIF_UTIL: onvif_util}


def versions() -> dict[str, str]:
    """Return the versions of the programs beside ours."""
    locked = re.search(
        r"^wsdiscovery==(\S+)", REQUIREMENTS.read_text(), re.IGNORECASE | re.MULTILINE
    )
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "onvif-tools"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {WSDISCOVERY: locked[1] if locked else "?", ONVIF_UTIL: asked.stdout or "none"}


def rows_of(case: str, system: str, figures: dict[str, float]) -> list[Row]:
    """Return the rows of a run."""
    return [
        Row(case, system, metric, round(value, 3), UNITS.get(metric.rpartition("_")[2], "1"))
        for metric, value in figures.items()
    ]


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    names = chosen(options.systems, [OURS, *PEERS], "system")
    counts = options.devices or (QUICK_CAMERAS if options.quick else CAMERAS)
    cases = [(f"{count:,} cameras, WS-Discovery", count, WS_DISCOVERY) for count in counts]
    merged = min(MERGED, max(counts))
    cases.append((f"{merged:,} cameras, five protocols", merged, ALL))
    try:
        for case, count, speaks in cases:
            yield from _case(case, count, speaks, names, rig)
    except NoNetworkError as error:
        raise BrokerError(f"The bench needs network namespaces: {error}") from error


def _case(case: str, count: int, speaks: list[str], names: list[str], rig: Rig) -> Iterator[Row]:
    with Lan("cameras") as lan:
        hosts = lan.add_addresses("cameras", count)
        listed = rig.folder / f"devices-{count}-{len(speaks)}.json"
        listed.write_text(json.dumps(devices_of(hosts, speaks)))
        command = [sys.executable, "-m", "connectors.discovery.simulated", "--devices", str(listed)]
        command += ["--interface", lan.address("cameras"), "--delay", str(DELAY_S)]
        cameras = subprocess.Popen(
            [*lan.prefix("cameras"), *command],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            if cameras.stdout is None or cameras.stdout.readline() != b"ready\n":
                raise BrokerError("The simulated cameras did not start.")
            for name in names:
                rig.say(f"{case}: {name}")
                if name == OURS:
                    yield from rows_of(case, name, ours(lan, speaks))
                elif speaks == WS_DISCOVERY:
                    try:
                        yield from rows_of(case, name, PEERS[name](lan))
                    except BrokerError as error:
                        yield Row(case, name, f"not run: {error}", 1, "1")
        finally:
            cameras.kill()
            cameras.wait()
            if cameras.stdout is not None:
                cameras.stdout.close()
