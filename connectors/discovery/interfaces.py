"""Which network interfaces are searched, and what the kernel knows of the neighbours there."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from connectors.discovery.base import mac_of
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_INTERFACES: Final = 32
"""Interfaces searched at once: a socket or two each for every source."""
ARP_TABLE: Final = Path("/proc/net/arp")
MAX_ARP_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Interface:
    """An IPv4 address of this machine, and what it hangs on."""

    name: str
    address: str
    broadcast: str = ""
    """Directed broadcast address of its network; empty: there is none (loopback, tunnels)."""


def list_interfaces() -> tuple[Interface, ...]:
    """Return every IPv4 address of an interface that is up, loopback included."""
    states = psutil.net_if_stats()
    return tuple(
        Interface(name, one.address, _broadcast(one.address, one.netmask))
        for name, addresses in sorted(psutil.net_if_addrs().items())
        if name in states and states[name].isup
        for one in addresses
        if one.family == socket.AF_INET
    )


def choose(
    wanted: Sequence[str], there: Sequence[Interface] | None = None
) -> tuple[Interface, ...]:
    """Return the interfaces of the given names or addresses; of none, all but loopback.

    An interface with several addresses is searched once, from the first of each network. Raises
    :class:`UsageError` for one that there is not, or where there is none at all.
    """
    known = list_interfaces() if there is None else there
    if not wanted:
        found = [one for one in known if not one.address.startswith("127.")]
        if not found:
            raise UsageError("No network interface with an IPv4 address is up; see `ip address`.")
        return _once(found)
    chosen: list[Interface] = []
    for word in wanted:
        named = [one for one in known if word in {one.name, one.address}]
        if not named:
            names = ", ".join(sorted({one.name for one in known})) or "none"
            raise UsageError(
                f"--interface {word!r}: no interface that is up has this name or IPv4 address; "
                f"there are {names}."
            )
        chosen += named
    return _once(chosen)


def neighbours(table: Path = ARP_TABLE) -> dict[str, str]:
    """Return the MAC addresses the kernel has learnt, by IPv4 address; Linux only, else none.

    A neighbour that has just answered is in the table: its answer needed the look-up.
    """
    found: dict[str, str] = {}
    with suppress(OSError, UnicodeDecodeError), table.open(encoding="ascii") as lines:
        for line in lines.read(MAX_ARP_BYTES).splitlines()[1:]:
            words = line.split()
            if len(words) >= 4 and mac_of(words[3]):
                found[words[0]] = mac_of(words[3])
    return found


def _broadcast(address: str, netmask: str | None) -> str:
    if not netmask or address.startswith("127."):
        return ""
    with suppress(ValueError):
        network = IPv4Interface(f"{address}/{netmask}").network
        if network.prefixlen <= 30:
            return str(network.broadcast_address)
    return ""


def _once(found: Sequence[Interface]) -> tuple[Interface, ...]:
    """Return the first interface of each name and network, at most :data:`MAX_INTERFACES`."""
    kept: dict[tuple[str, str], Interface] = {}
    for one in found:
        kept.setdefault((one.name, one.broadcast or one.address), one)
    return tuple(kept.values())[:MAX_INTERFACES]
