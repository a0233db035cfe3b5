"""Which addresses a worker may contact.

A device profile is data: whoever writes one must not be able to make a worker talk to a cloud's
metadata service, to a machine on the internet, or to the worker's own administration port by a
name that resolves to it. So each address is checked where it counts: as the IP address that is
about to be connected, after the name was resolved, by the socket that does it. A name that
resolves to something else a moment later (DNS rebinding) gains nothing.

The rule is **the most specific network decides**. There are two lists: the allowed networks
(settings) and :data:`REFUSED` (never meant by a wide entry). The longer prefix wins; at a tie, and
where nothing matches, the answer is no. Worked example, with ``0.0.0.0/0`` allowed:

    93.184.216.34     0.0.0.0/0 matches, nothing refused is longer      → allowed
    169.254.169.254   169.254.0.0/16 (refused) is longer than 0.0.0.0/0 → refused
    169.254.7.9       with 169.254.7.0/24 allowed by name: longer still → allowed

An IPv4 address inside IPv6 (``::a.b.c.d``, ``::ffff:a.b.c.d``, 6to4, NAT64, SIIT) is judged as the
IPv4 address. One in disguise (``2130706433``, ``0x7f.1``, ``0251.0376.0251.0376``) is no name and
is refused as it is written, before any resolver could take it for an address.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from yarl import URL

from connectors.cameras.base import PRIVATE_NETWORKS
from connectors.cameras.frame import clean
from schemas.errors import CameraError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "169.254.0.0/16",  # link-local, and every large cloud's metadata service
        "100.100.100.200/32",  # Alibaba Cloud's metadata service
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle Cloud's metadata service
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/128",  # unspecified
        "64:ff9b:1::/48",  # NAT64 with a prefix of one's own (RFC 8215): holds some IPv4 address
        "2001::/32",  # Teredo: holds some IPv4 address
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # AWS's metadata service, inside fc00::/7
        "fd20:ce::254/128",  # Google Cloud's metadata service, inside fc00::/7
        "ff00::/8",  # multicast
    )
)
WRAPPED: Final = tuple(
    IPv6Network(text)
    for text in (
        "::/96",  # IPv4-compatible; also :: and ::1, which are themselves
        "::ffff:0:0:0/96",  # SIIT (RFC 7915)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
    )
)
"""IPv6 networks whose last 32 bits are an IPv4 address."""
NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?", re.IGNORECASE)
MAX_ADDRESS_CHARACTERS: Final = 2_048
HTTP_PORTS: Final = {"http": 80, "https": 443}
RTSP_PORTS: Final = {"rtsp": 554, "rtsps": 322}
PORTS: Final = HTTP_PORTS | RTSP_PORTS
"""The port of each scheme, where an address names none."""
SCHEMES: Final[dict[str, tuple[str, ...]]] = {"rtsp": tuple(RTSP_PORTS), "auto": tuple(PORTS)}
"""What an address may begin with, by protocol; of all others ``http`` and ``https``."""


@dataclass(frozen=True, slots=True)
class Target:
    """A device's address, parsed and checked as far as can be without resolving its name."""

    url: URL
    place: str
    """``host:port``, for messages."""
    port: int


def schemes_of(protocol: str) -> tuple[str, ...]:
    """Return what an address of a protocol may begin with."""
    return SCHEMES.get(protocol, tuple(HTTP_PORTS))


class AddressPolicy:
    """Says which addresses may be contacted; see the module's text for the rule."""

    def __init__(self, allowed: tuple[str, ...] = PRIVATE_NETWORKS) -> None:
        try:
            self._allowed: tuple[Network, ...] = tuple(ip_network(text) for text in allowed)
        except ValueError as error:
            raise ValueError(f"allowed_networks: {error}") from error
        self.target = functools.lru_cache(maxsize=65_536)(self._target)
        self.look = self._target
        self._permits = functools.lru_cache(maxsize=65_536)(self._decide)

    def permits(self, host: str) -> bool:
        """Say whether the IP address ``host`` (a literal) may be contacted."""
        return self._permits(host)

    def check_ip(self, host: str) -> None:
        """Raise CameraError ``address_not_allowed`` unless ``host`` may be contacted."""
        if not self._permits(host):
            networks = ", ".join(str(network) for network in self._allowed) or "none"
            raise CameraError(
                "address_not_allowed",
                f"{clean(host)} may not be contacted: the camera settings allow {networks}, and "
                "link-local, multicast and other special addresses only where named themselves",
                retry=False,
            )

    def _decide(self, host: str) -> bool:
        address = plain_address(host)
        allowed = _longest(address, self._allowed)
        return allowed >= 0 and allowed > _longest(address, REFUSED)

    def _target(self, address: str, schemes: tuple[str, ...] = tuple(HTTP_PORTS)) -> Target:
        """Parse a device's address.

        Raises CameraError ``bad_address`` (a URL of none of the schemes, or one with credentials)
        or ``address_not_allowed`` (a literal IP address outside the policy).
        """
        if len(address) > MAX_ADDRESS_CHARACTERS:
            raise _bad("it is longer than 2,048 characters")
        try:
            url = URL(address)
            port = url.port if url.port is not None else PORTS.get(url.scheme)
        except (ValueError, TypeError) as error:
            raise _bad("it is not a URL") from error
        if url.scheme not in schemes:
            raise _bad(f"it must begin with {'://, '.join(schemes)}://")
        if url.raw_user is not None or url.raw_password is not None:
            # The address itself is not shown: it holds the secret.
            raise _bad("it holds credentials; name them by credentials_ref instead")
        host = url.host
        if not host or port is None or port == 0:
            raise _bad("it has no host")
        _check_spelling(address, host if ":" in host else url.raw_host or "")
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            pass  # a name; what it resolves to is checked when it is connected
        else:
            self.check_ip(host)
        return Target(url=url, place=clean(f"{host}:{port}"), port=port)


def plain_address(host: str) -> Address:
    """Return the address that ``host`` stands for, IPv4 where IPv6 only wraps it."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) > 1 and any(address in net for net in WRAPPED):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def _check_spelling(address: str, host: str) -> None:
    """Raise ``bad_address`` for a host that others could read as another than we do.

    As browsers do (WHATWG URL, 'ends in a number'): a host whose last label is a number is an IPv4
    address or nothing. Then only four decimal numbers are one, which :mod:`ipaddress` checks.
    """
    if not address.isprintable():  # yarl drops a newline and goes on
        raise _bad("it holds what cannot be printed")
    if ":" in host:
        place, _, zone = host.partition("%")
        if zone and not ip_address(place).is_link_local:
            raise _bad("only a link-local address has a zone")
        return
    if NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        try:
            IPv4Address(host)
        except ValueError:
            raise _bad("write an IPv4 address as four decimal numbers: 192.168.1.64") from None
    elif not NAME.fullmatch(host):
        raise _bad("its host is neither a name nor an IP address")


def _longest(address: Address, networks: tuple[Network, ...]) -> int:
    """Return the longest prefix among the networks that hold ``address``; -1: none does."""
    return max(
        (n.prefixlen for n in networks if n.version == address.version and address in n),
        default=-1,
    )


def _bad(why: str) -> CameraError:
    return CameraError("bad_address", f"the device's address cannot be used: {why}", retry=False)
