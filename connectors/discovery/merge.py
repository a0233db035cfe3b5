"""Which sightings are of one device: a score over several keys. Pure.

No single key is enough. Cameras change their endpoint reference at each start, whole batches have
one serial number, a bridge shows one MAC address for all that is behind it, and a machine may carry
many cameras at one IP address. So each key that two groups of sightings share speaks for one
device, each that they both have and that differs speaks against it, and :data:`THRESHOLD` decides:

=================================  ======  ========
key                                 same    differs
=================================  ======  ========
MAC address (the device's word)       60      -60
endpoint reference, or UDN            60      -30
serial number, with the same model    60     -100
serial number, one model unknown      50     -100
host and port                         80
host                                  50      -20
recorder's channel                          never one
=================================  ======  ========

Worked examples. An ONVIF answer and a web page at one address: host, 50, one device. Two ONVIF
answers of one machine at ports 8001 and 8002: host 50 - EPR 30 = 20, two. A camera that restarted
between two answers: host and port 80 - EPR 30 = 50, one. Two cameras with the serial number
00012345 at two addresses: 60 - 20 = 40, two. The same with one MAC: 60 + 60 - 20 = 100, one
camera with two addresses.

Groups are joined best score first, and the score is taken over all that a group has gathered, so
that one sighting without a serial number does not join two devices that have different ones. The
order in which sightings came makes no difference. Cost: for n sightings with k at one address
about n·k scores of 2 µs.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.discovery.base import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

THRESHOLD: Final = 50
"""Two groups with this score or more are one device."""
CROWD: Final = 32
"""Sightings at one address beyond which it is no key for candidates: only host and port is."""


class Weights(NamedTuple):
    """What each key counts when it is the same, and when both have it and it differs."""

    mac: int = 60
    mac_differs: int = -60
    uuid: int = 60
    uuid_differs: int = -30
    serial_and_model: int = 60
    serial: int = 50
    serial_differs: int = -100
    place: int = 80
    host: int = 50
    host_differs: int = -20


IN_ONE_SEARCH: Final = Weights()
NEVER: Final = -1_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """The keys of a group of sightings."""

    channels: frozenset[int]
    macs: frozenset[str] = frozenset()
    uuids: frozenset[str] = frozenset()
    serials: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    places: frozenset[tuple[str, int]] = frozenset()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, one: Sighting) -> Evidence:
        """Return the keys of a sighting."""
        return cls(
            frozenset({one.channel}),
            _set(one.mac),
            _set(one.uuid),
            _set(one.serial.lower()),
            _set(one.model.lower()),
            frozenset({(one.host, one.port)} if one.host and one.port else ()),
            _set(one.host),
        )

    def __or__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.channels | other.channels,
            self.macs | other.macs,
            self.uuids | other.uuids,
            self.serials | other.serials,
            self.models | other.models,
            self.places | other.places,
            self.hosts | other.hosts,
        )


def _set(value: str) -> frozenset[str]:
    return frozenset({value}) if value else frozenset()


def score(one: Evidence, other: Evidence, weights: Weights = IN_ONE_SEARCH) -> int:
    """Return how much speaks for one device; :data:`NEVER` for two channels of a recorder."""
    if one.channels != other.channels:
        return NEVER
    total = 0
    if one.macs and other.macs:
        total += weights.mac if one.macs & other.macs else weights.mac_differs
    total += _uuids(one, other, weights)
    if one.serials and other.serials:
        if not one.serials & other.serials:
            total += weights.serial_differs
        elif not one.models or not other.models:
            total += weights.serial
        elif one.models & other.models:
            total += weights.serial_and_model
    if one.places & other.places:
        total += weights.place
    elif one.hosts & other.hosts:
        total += weights.host
    elif one.hosts and other.hosts:
        total += weights.host_differs
    return total


def _uuids(one: Evidence, other: Evidence, weights: Weights) -> int:
    """Score the identifiers; those of different kinds (epr, udn) say nothing of each other."""
    if one.uuids & other.uuids:
        return weights.uuid
    kinds = {uuid.partition(":")[0] for uuid in one.uuids}
    differ = any(uuid.partition(":")[0] in kinds for uuid in other.uuids)
    return weights.uuid_differs if differ else 0


_ALL: Final = attrgetter(*(field.name for field in fields(Sighting)))


def merge(sightings: Iterable[Sighting]) -> tuple[tuple[Sighting, ...], ...]:
    """Return the sightings grouped by device, groups and members in an order of their own.

    The same sightings give the same groups, whatever order they came in and how often.
    """
    unique = sorted(set(sightings), key=sort_key)
    groups = _Groups(unique)
    while groups.join_best():
        pass
    return groups.result()


def sort_key(one: Sighting) -> tuple[object, ...]:
    """Return what sightings are ordered by: by address first, numerically."""
    parts = tuple(int(part) if part.isdigit() else 0 for part in one.host.split("."))
    return (parts, one.channel, one.port, _ALL(one))


class _Groups:
    """Groups under way: a heap of the pairs worth joining, best first."""

    def __init__(self, unique: list[Sighting]) -> None:
        self._members: dict[int, list[Sighting]] = {n: [one] for n, one in enumerate(unique)}
        self._evidence = {n: Evidence.of(one) for n, one in enumerate(unique)}
        self._neighbours: dict[int, set[int]] = {n: set() for n in self._members}
        self._next = len(unique)
        self._heap: list[tuple[int, int, int]] = []
        for low, high in self._candidates():
            self._neighbours[low].add(high)
            self._neighbours[high].add(low)
            self._push(low, high)

    def _candidates(self) -> Iterator[tuple[int, int]]:
        """Give each pair with a key in common, once."""
        holders: dict[object, list[int]] = {}
        for number, found in self._evidence.items():
            keys: list[object] = [*found.macs, *found.uuids, *found.places]
            keys += [("serial", serial) for serial in found.serials]
            keys += [("host", host, found.channels) for host in found.hosts]
            for key in keys:
                holders.setdefault(key, []).append(number)
        seen: set[tuple[int, int]] = set()
        for key, numbers in holders.items():
            if isinstance(key, tuple) and key[0] == "host" and len(numbers) > CROWD:
                continue
            for position, low in enumerate(numbers):
                for high in numbers[position + 1 : position + 1 + CROWD]:
                    if (low, high) not in seen:
                        seen.add((low, high))
                        yield low, high

    def _push(self, one: int, other: int) -> None:
        found = score(self._evidence[one], self._evidence[other])
        if found >= THRESHOLD:
            heapq.heappush(self._heap, (-found, min(one, other), max(one, other)))

    def join_best(self) -> bool:
        """Join the two groups with the best score; say whether there were two."""
        while self._heap:
            _, one, other = heapq.heappop(self._heap)
            if one in self._members and other in self._members:
                self._join(one, other)
                return True
        return False

    def _join(self, one: int, other: int) -> None:
        number, self._next = self._next, self._next + 1
        self._members[number] = self._members.pop(one) + self._members.pop(other)
        self._evidence[number] = self._evidence.pop(one) | self._evidence.pop(other)
        near = (self._neighbours.pop(one) | self._neighbours.pop(other)) - {one, other}
        self._neighbours[number] = near
        for neighbour in near:
            self._neighbours[neighbour] -= {one, other}
            self._neighbours[neighbour].add(number)
            self._push(neighbour, number)

    def result(self) -> tuple[tuple[Sighting, ...], ...]:
        """Return the groups as they stand."""
        found = [tuple(sorted(group, key=sort_key)) for group in self._members.values()]
        return tuple(sorted(found, key=lambda group: sort_key(group[0])))
