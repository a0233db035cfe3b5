"""A network for tests and benches: namespaces joined by veth pairs, real multicast, real ARP.

    with Lan("cameras") as lan:                 # two namespaces, one veth pair
        lan.run(["python", "-m", "..."])        # the searcher's side
        lan.prefix("cameras")                   # starts a peer on the other side
        lan.address("cameras")                  # its IPv4 address

    with Lan("avahi", "ipycam") as lan: ...     # several: a bridge in the searcher's namespace

``224.0.0.0/4`` is routed to the link on each side. Nothing of it reaches the machine's own network,
and it is gone when ``with`` ends. Needs root and ``ip`` (Debian: iproute2).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING, Final, Self

from schemas.errors import ShutterwheelError

if TYPE_CHECKING:
    from collections.abc import Sequence

SEARCHER: Final = "10.77.0.1"
NETWORK_BITS: Final = 16
"""Room for thousands of simulated cameras."""
BLOCKS: Final = 16
"""Blocks of 250 addresses that a peer may have."""
COMMAND_S: Final = 20.0


class NoNetworkError(ShutterwheelError):
    """No namespaces can be made here; the text says why."""


class Lan:
    """The searcher's namespace and one for each peer, all in 10.77.0.0/16."""

    def __init__(self, *peers: str) -> None:
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        self._ip = shutil.which("ip", path=path) or ""
        token = uuid.uuid4().hex[:6]
        self.searcher = f"swt{token}s"
        self._token = token
        self._spaces = {name: f"swt{token}{number}" for number, name in enumerate(peers)}
        self._addresses = {name: f"10.77.{number + 1}.1" for number, name in enumerate(peers)}

    def address(self, peer: str) -> str:
        """Return a peer's IPv4 address."""
        return self._addresses[peer]

    def prefix(self, peer: str = "") -> list[str]:
        """Return the words that start a command on a peer's side, or on the searcher's."""
        space = self._spaces[peer] if peer else self.searcher
        return [self._ip, "netns", "exec", space]

    def run(self, command: Sequence[str], *, peer: str = "", timeout_s: float = 60.0) -> str:
        """Run a command to its end on one side; return what it wrote to standard output."""
        done = subprocess.run(
            [*self.prefix(peer), *command],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            text = f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            raise NoNetworkError(text)
        return done.stdout

    def add_addresses(self, peer: str, count: int) -> list[str]:
        """Give a peer's side ``count`` more addresses, at most 4,000, and return them."""
        first = 64 + BLOCKS * list(self._spaces).index(peer)
        found = [f"10.77.{first + n // 250}.{n % 250 + 1}" for n in range(count)]
        lines = "".join(f"address add {one}/{NETWORK_BITS} dev eth0\n" for one in found)
        self._batch(lines, self._spaces[peer])
        return found

    def change_address(self, peer: str, address: str) -> None:
        """Give a peer another address instead of its own, as a DHCP server may."""
        lines = (
            f"address flush dev eth0\naddress add {address}/{NETWORK_BITS} broadcast + dev eth0\n"
            "route add 224.0.0.0/4 dev eth0\n"
        )
        self._batch(lines, self._spaces[peer])
        self._addresses[peer] = address

    def _batch(self, lines: str, space: str = "") -> None:
        where = ["-n", space] if space else []
        done = subprocess.run(
            [self._ip, *where, "-batch", "-"],
            input=lines,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            raise NoNetworkError(f"no network namespaces can be made here: {done.stderr.strip()}")

    def __enter__(self) -> Self:
        if not self._ip:
            raise NoNetworkError(
                "ip is not installed here (Debian, Ubuntu: apt-get install iproute2)"
            )
        if os.geteuid() != 0:
            raise NoNetworkError("network namespaces want root")
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def _make(self) -> None:
        for space in (self.searcher, *self._spaces.values()):
            self._batch(f"netns add {space}\n")
            self._batch("link set lo up\n", space)
        bridged = len(self._spaces) > 1
        if bridged:
            # Without snooping: there is no querier, and groups would be forgotten.
            self._batch("link add eth0 type bridge mcast_snooping 0\n", self.searcher)
        for number, space in enumerate(self._spaces.values()):
            near = f"v{self._token}{number}" if bridged else "eth0"
            self._batch(
                f"link add {near} netns {self.searcher} type veth peer name eth0 netns {space}\n"
            )
            if bridged:
                self._batch(f"link set {near} master eth0 up\n", self.searcher)
        self._up(self.searcher, SEARCHER)
        for name, space in self._spaces.items():
            self._up(space, self._addresses[name])

    def _up(self, space: str, address: str) -> None:
        self._batch(
            f"address add {address}/{NETWORK_BITS} broadcast + dev eth0\n"
            "link set eth0 up\nroute add 224.0.0.0/4 dev eth0\n",
            space,
        )

    def close(self) -> None:
        """Take it all down; what still runs in it loses its network."""
        for space in (self.searcher, *self._spaces.values()):
            with contextlib.suppress(subprocess.SubprocessError):
                subprocess.run(
                    [self._ip, "netns", "delete", space],
                    capture_output=True,
                    timeout=COMMAND_S,
                    check=False,
                )

    def __exit__(self, *_error: object) -> None:
        self.close()
