"""The sockets of this process that what is measured may have opened, and nobody beside it.

A process that runs many tests has clients of brokers in it, alive or on their way out, whose
threads connect and close when they like. So a count of all descriptors shows others' as well.
Counted here are sockets that were not there before, but those connected on 127.0.0.1 to a port that
is not one of ``ports``. One that is connected to nothing, or to any other address, is ours.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import psutil

DESCRIPTORS: Final = Path("/proc/self/fd")
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
STEP_S: Final = 0.02


class OwnSockets:
    """Sockets from now on."""

    def __init__(self, *ports: int) -> None:
        """Take the ports of those that are talked to."""
        self._ports = frozenset(ports)
        self._before = frozenset(_sockets().values())

    def left(self) -> int:
        """Return how many there are that were not there at first.

        A stranger's counts for the moment in which it is not connected yet; so ask more than once.
        """
        there = _sockets()
        strangers = {
            one.fd
            for one in psutil.Process().net_connections("tcp")
            if one.raddr
            and one.raddr.ip in LOOPBACK
            and self._ports.isdisjoint({one.laddr.port, one.raddr.port})
        }
        still = _sockets()
        return sum(
            name not in self._before and number not in strangers and still.get(number) == name
            for number, name in there.items()
        )

    async def settled(self, within_s: float) -> int:
        """Return ``left``, once that is none, or after so long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while (count := self.left()) and loop.time() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(STEP_S)  # of a closed socket nobody tells
        return count


def _sockets() -> dict[int, str]:
    """Return the sockets of this process: what each is, by its descriptor."""
    found: dict[int, str] = {}
    for entry in DESCRIPTORS.iterdir():
        try:
            name = str(entry.readlink())
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:"):
            found[int(entry.name)] = name
    return found
