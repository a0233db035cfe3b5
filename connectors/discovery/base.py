"""What discovery is made of.

::

    sources (one file a protocol)      pure                                        the front door
    mdns  ssdp  wsd  sadp  dhip  ──▶  merge: which sightings are one device  ──▶  `discover`
        each answer is a Sighting      identify: what it is, its DeviceProfile     --add
        streamed as it comes           known: what is new, what has changed

A **sighting** is what one answer says of one device. No answer is believed further than its
sender: a device speaks for its own IP address only (mDNS excepted, where the protocol has no such
tie), each address is held against the address policy, and everything is bounded by
:class:`Limits`. What is refused is counted in a :class:`Tally` by a short word, never raised: on a
network anybody may send anything. Nothing here is authenticated, as none of the protocols is.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from yarl import URL

from connectors.cameras.policy import AddressPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from connectors.discovery.interfaces import Interface

Kind = Literal["camera", "recorder", "other", "unknown"]
"""``other`` is known to be no camera; ``unknown`` says nothing either way."""

MAX_TEXT_CHARACTERS: Final = 128
"""Longest name, model, serial or identifier that is kept of an answer."""
NO_SERIAL: Final = frozenset(
    {"unknown", "none", "null", "default", "123456", "12345678", "0123456789", "n/a", "serial"}
)
"""Serial numbers that many devices have, as nobody set them."""

REFUSALS: Final = {
    "malformed": "the answer is not what its protocol has",
    "too_large": "the answer is longer than the limits allow",
    "hostile": "a DOCTYPE, an entity, or nesting and counts beyond any device's",
    "not_allowed": "the address is outside the networks that may be contacted",
    "elsewhere": "the answer names another host than the one that sent it",
    "flood": "one sender answered more often than the limits allow",
    "overflow": "answers came faster than they were read, or more than the limits allow",
    "undescribed": "the device's description could not be fetched or read",
}
"""Every word of :attr:`Tally.refused`, with its meaning."""


class BadAnswerError(Exception):
    """An answer that is not believed; ``word`` is one of :data:`REFUSALS`."""

    def __init__(self, word: str) -> None:
        super().__init__(REFUSALS[word])
        self.word = word


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one answer says of one device. Texts are cleaned and bounded; empty: not said."""

    source: str
    """Which protocol saw it: ``mdns``, ``ssdp``, ``ws-discovery``, ``sadp``, ``dhip``."""
    host: str
    """IPv4 address."""
    port: int = 0
    """TCP port of the service that was announced; 0: none."""
    kind: Kind = "unknown"
    why: str = ""
    """What the kind was concluded from; for what is no camera, the reason it is ignored."""
    protocol: str = ""
    """How it is spoken to: a protocol of DeviceProfile."""
    address: str = ""
    """URL at ``host``."""
    mac: str = ""
    """12 hexadecimal digits in lower case, as the device says."""
    link_mac: str = ""
    """The same, as the network says (ARP): of the host, which may carry many devices."""
    uuid: str = ""
    """``epr:``, ``udn:`` with an identifier; only those of one kind can be compared."""
    serial: str = ""
    maker: str = ""
    model: str = ""
    name: str = ""
    channel: int = 0
    """Number of a recorder's channel, from 1; 0: the device itself."""
    channels: int = 0
    """How many channels it says it has; only a recorder does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken from a network, whatever it sends."""

    max_answer_bytes: int = 16_384
    """Longest answer by UDP; the longest ProbeMatches known have 4 KiB. 512 to 65,507."""
    max_answers: int = 50_000
    """Answers read by one source in one search; 1 to 10 million."""
    max_answers_of_one: int = 2_048
    """Answers read from one sender: a recorder may answer once a channel, and to each question.
    1 to 1 million."""
    max_waiting: int = 8_192
    """Answers that wait to be read; more are dropped, and found by the next question. 1 to 1
    million."""
    max_waiting_bytes: int = 16 * 1024 * 1024
    """... all together; 65,536 to 1 GiB."""
    max_sightings: int = 16_384
    """Different sightings kept in one search, some 600 bytes each; 1 to 1 million."""
    max_descriptions: int = 1_024
    """Descriptions of UPnP devices that are fetched in one search; 0 to 100,000."""
    max_descriptions_of_one: int = 8
    """... from one host: a device has one, its embedded devices in it. 0 to 1,000."""
    max_description_bytes: int = 65_536
    """Longest description; 512 to 1 MiB."""
    max_fetching: int = 16
    """Descriptions fetched at a time; 1 to 1,000."""
    max_channels: int = 256
    """Channels of one recorder; the largest have 256. 1 to 4,096."""
    description_timeout_s: float = 2.0
    """For one description, from the connection to the last byte; 0.1 to 2.5 s, which is less than
    what a search waits for its sources."""

    def __post_init__(self) -> None:
        bounds = {
            "max_answer_bytes": (512, 65_507),
            "max_answers": (1, 10_000_000),
            "max_answers_of_one": (1, 1_000_000),
            "max_waiting": (1, 1_000_000),
            "max_waiting_bytes": (65_536, 1024 * 1024 * 1024),
            "max_sightings": (1, 1_000_000),
            "max_descriptions": (0, 100_000),
            "max_descriptions_of_one": (0, 1_000),
            "max_description_bytes": (512, 1024 * 1024),
            "max_fetching": (1, 1_000),
            "max_channels": (1, 4_096),
            "description_timeout_s": (0.1, 2.5),
        }
        for name, (low, high) in bounds.items():
            value: float = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, but must be from {low} to {high}")


@dataclass(slots=True)
class Tally:
    """What one source did and met; counted, never raised."""

    asked: int = 0
    """Datagrams sent."""
    answers: int = 0
    """Answers that were read, good or bad."""
    answer_bytes: int = 0
    sightings: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: str = ""
    """Why the source could not search at all, or everywhere; empty: it could."""
    done: bool = False

    def refuse(self, word: str) -> None:
        """Count an answer that is not believed."""
        self.refused[word] += 1


@dataclass(frozen=True, slots=True)
class Scope:
    """Where, how long and how much is searched: what every source is told."""

    interfaces: tuple[Interface, ...]
    timeout_s: float = 5.0
    """How long answers are awaited; SSDP lets devices take their time (its MX is less)."""
    hosts: tuple[str, ...] = ()
    """IPv4 addresses that are asked one by one, beside what hears multicast."""
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    limits: Limits = field(default_factory=Limits)

    def permits(self, host: str) -> bool:
        """Say whether a device at this literal address may be contacted."""
        try:
            return self.policy.permits(host)
        except ValueError:
            return False


class Source(Protocol):
    """One way of finding devices."""

    @property
    def name(self) -> str:
        """The word that sightings carry as their source."""
        ...

    def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """Ask, and give what is seen as it comes, until ``scope.timeout_s`` has passed.

        Never raises for what others send; OSError where it cannot ask at all. Every socket is
        closed when the iteration ends, by its end or by ``aclose``.
        """
        ...


def text_of(value: object) -> str:
    """Return text of others as one bounded line without control characters."""
    found = "".join(one if one.isprintable() else " " for one in str(value)[: 4 * 128])
    return " ".join(found.split())[:MAX_TEXT_CHARACTERS]


def mac_of(value: str) -> str:
    """Return a MAC address as 12 digits; empty if it is none that identifies a device."""
    digits = re.sub(r"[-:. ]", "", value.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{12}", digits) or digits in {"0" * 12, "f" * 12}:
        return ""
    multicast = int(digits[:2], 16) & 1
    return "" if multicast else digits


def serial_of(value: str) -> str:
    """Return a serial number; empty if it is one that nobody set."""
    found = text_of(value)
    useless = len(found) < 4 or len(set(found)) == 1 or found.lower() in NO_SERIAL
    return "" if useless else found


def uuid_of(value: str) -> str:
    """Return an identifier in the one form it is compared in; empty if there is none."""
    found = text_of(value).lower().removeprefix("urn:").removeprefix("uuid:")
    return "" if not found.strip("0-") else found


def web_address(host: str, port: int, path: str = "/") -> str:
    """Return an http URL; port 80 is not written."""
    return str(URL(f"http://{host}:{port}{path}"))


def remaining_s(deadline_s: float) -> float:
    """Return how long it is to a point on the running loop's clock, at least 0."""
    return max(0.0, deadline_s - asyncio.get_running_loop().time())
