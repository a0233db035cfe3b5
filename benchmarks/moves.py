"""Partitions moved when a fifth worker comes and goes: the ring, Faust's assignor, the least.

``moved_up`` is how many partitions have another owner with five workers than with four;
``moved_down`` how many have another one after the fifth has left; ``not_back`` how many are then
not where they were at first, so that no local state lies there. The ``ideal`` moves to the fifth
what it is to have and nothing else. Faust's assignor is given what each member has, as its members
tell it. The ring goes by the names of slots: the worst of ``NAMINGS`` is shown.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final

from faust.assignor.client_assignment import CopartitionedAssignment
from faust.assignor.copartitioned_assignor import CopartitionedAssignor

from benchmarks.result import OURS, Row
from streams.core.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Owners = Mapping[int, str]

PARTITIONS: Final = (8, 64, 256, 1_024)
WORKERS: Final = 4
NAMINGS: Final = ("", "worker-", "captures-", "wheel-")


def ring(slots: list[str], partitions: int) -> Owners:
    """Return the owners by the ring."""
    return {p: slot for slot, own in Ring(slots).assign(partitions).items() for p in own}


def faust(has: dict[str, set[int]], partitions: int) -> dict[str, set[int]]:
    """Return what each member gets of Faust's assignor, given what it has; no standbys."""
    topics = {"in"}
    claims = {
        member: CopartitionedAssignment(actives=set(own), topics=topics)
        for member, own in deepcopy(has).items()
    }
    found = CopartitionedAssignor(topics, claims, partitions, replicas=0).get_assignment()
    return {member: set(assignment.actives) for member, assignment in found.items()}


def owners_of(assigned: dict[str, set[int]]) -> Owners:
    """Turn an assignment around."""
    return {p: member for member, own in assigned.items() for p in own}


def moved(before: Owners, after: Owners) -> int:
    """Return how many partitions changed hands."""
    return sum(before[p] != after[p] for p in before)


def _rows(system: str, partitions: int, four: Owners, five: Owners, again: Owners) -> list[Row]:
    case = f"4 to 5 to 4 workers, {partitions:,} partitions"
    figures = {
        "moved_up": moved(four, five),
        "moved_down": moved(five, again),
        "not_back": moved(four, again),
    }
    return [Row(case, system, metric, value, "1") for metric, value in figures.items()]


def moves() -> Iterator[Row]:
    """Yield the rows of all systems."""
    for partitions in PARTITIONS:
        least = partitions // (WORKERS + 1)
        case = f"4 to 5 to 4 workers, {partitions:,} partitions"
        for metric, value in (("moved_up", least), ("moved_down", least), ("not_back", 0)):
            yield Row(case, "ideal", metric, value, "1")
        names = [str(number) for number in range(WORKERS)]
        fresh: dict[str, set[int]] = {name: set() for name in names}
        four = faust(fresh, partitions)
        five = faust({**four, str(WORKERS): set()}, partitions)
        again = faust({name: five[name] for name in names}, partitions)
        yield from _rows("faust", partitions, owners_of(four), owners_of(five), owners_of(again))
        found = []
        for base in NAMINGS:
            slots = [f"{base}{name}" for name in names]
            before = ring(slots, partitions)
            found.append((before, ring([*slots, f"{base}{WORKERS}"], partitions)))
        before, during = max(found, key=lambda pair: moved(*pair))
        yield from _rows(OURS, partitions, before, during, before)
