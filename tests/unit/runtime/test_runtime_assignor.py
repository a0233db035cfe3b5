"""The ring as aiokafka calls it: by slots, co-partitioned, with one holder a slot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocol

from streams.core.ring import Ring
from streams.runtime.assignor import RingAssignor, slot_holders

TOPICS = ("a", "b")


def members(**slots: str) -> Any:
    """Return the metadata of members, over the wire and back."""
    return {
        member: ConsumerProtocol.METADATA.decode(RingAssignor(slot).metadata(TOPICS).encode())
        for member, slot in slots.items()
    }


def assigned(found: Any, partitions: int = 8) -> dict[str, dict[str, list[int]]]:
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda _topic: set(range(partitions)))
    answers = RingAssignor("any").assign(cluster, found)
    decoded = {m: ConsumerProtocol.ASSIGNMENT.decode(a.encode()) for m, a in answers.items()}
    return {m: {t: sorted(p) for t, p in a.assignment} for m, a in decoded.items()}


def test_members_get_what_the_ring_gives_their_slots_in_every_topic():
    found = assigned(members(x="0", y="1", z="2"))
    ring = Ring("012").assign(8)
    for member, slot in {"x": "0", "y": "1", "z": "2"}.items():
        assert found[member] == {"a": ring[slot], "b": ring[slot]}


def test_who_leads_and_what_members_are_called_does_not_matter():
    one, other = assigned(members(x="0", y="1")), assigned(members(q="1", p="0"))
    assert (one["x"], one["y"]) == (other["p"], other["q"])


def test_the_earlier_of_two_processes_of_a_slot_gets_nothing():
    found = members(old="0", other="1", new="0")
    assert slot_holders({m: d.user_data for m, d in found.items()}) == {"0": "new", "1": "other"}
    by_member = assigned(found)
    assert by_member["old"] == {}
    assert by_member["new"] == assigned(members(x="0", y="1"))["x"]
