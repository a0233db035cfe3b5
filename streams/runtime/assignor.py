"""The ring of worker slots as an assignor of Kafka's consumer groups.

aiokafka asks each member for its **metadata** (topics, and bytes that only assignors read) and has
the member that leads the group **assign** for all. Here the bytes say which slot the member is and
since when: partitions belong to slots (``streams.core.ring``), not to processes, so that a worker
that is started again gets the partitions whose state lies on its disk.

Two members may claim one slot: a process that was killed stays in the group until its session has
timed out. The later one has fenced the earlier (its transactional.id is the slot's), so the
earlier gets nothing.

Partitions of equal number go together in every topic (co-partitioning), since the ring knows
numbers only.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streams.core.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka.cluster import ClusterMetadata

VERSION: Final = 0
"""Of the consumer protocol's subscription."""


class RingAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns partitions to worker slots by the ring."""

    def __init__(self, slot: str) -> None:
        """Take the slot of this member."""
        self._claim = json.dumps({"slot": slot, "since_ns": time.time_ns()}).encode()

    @property
    def name(self) -> str:
        """The protocol's name: all members of a group must have one in common."""
        return "shutterwheel-ring"

    # aiokafka has class methods here, and calls them on the instance: Faust does the same as we.
    def metadata(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, topics: Iterable[str]
    ) -> ConsumerProtocolMemberMetadata:
        """Return what this member tells the leader."""
        return ConsumerProtocolMemberMetadata(VERSION, sorted(topics), self._claim)

    def assign(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        cluster: ClusterMetadata,
        members: Mapping[str, ConsumerProtocolMemberMetadata],
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Assign for all members; the leader does it."""
        holders = slot_holders({member: data.user_data for member, data in members.items()})
        topics = sorted({topic for data in members.values() for topic in data.subscription})
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        owned = Ring(holders).assign(max(counts.values(), default=0))
        found: dict[str, ConsumerProtocolMemberAssignment] = {}
        for member in members:
            numbers = next((owned[s] for s, holder in holders.items() if holder == member), [])
            by_topic = [
                (topic, [number for number in numbers if number < count])
                for topic, count in counts.items()
                if numbers
            ]
            found[member] = ConsumerProtocolMemberAssignment(VERSION, by_topic, b"")
        return found

    def on_assignment(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, assignment: ConsumerProtocolMemberAssignment
    ) -> None:
        """Do nothing: the ring remembers nothing."""


def slot_holders(claims: Mapping[str, bytes]) -> dict[str, str]:
    """Return the member that holds each slot, given each member's claim: the latest counts."""
    latest: dict[str, tuple[int, str]] = {}
    for member, claim in claims.items():
        found = json.loads(claim)
        slot, since_ns = str(found["slot"]), int(found["since_ns"])
        latest[slot] = max(latest.get(slot, (0, "")), (since_ns, member))
    return {slot: member for slot, (_, member) in latest.items()}
