"""The world's Kafka: partitions, transactions and groups, as far as exactly-once rests on them.

**Transactions.** What a transaction holds becomes visible at one moment, with its offsets, or never.
A marker follows it, so offsets have gaps. It is refused for a producer that a later one of the same
slot has fenced, and, where it sends offsets, for a membership that the group's coordinator does not
know. One that sends none is not checked: nor is it by Kafka. A transaction whose process died or
was stopped in the middle stays open until its time is over or its slot starts again; nobody reads
behind its beginning until then (the last stable offset).

**Groups.** Eager rebalances: a join, or a session that is over, begins one; it ends when all members
have joined, or when the rebalance's time is over. The generation then grows by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from world_loop import Schedule

    from streams.runtime.batch import Batch
    from streams.runtime.group import Membership

REBALANCE_S = 20.0
TRANSACTION_S = 6.0
"""Transaction timeout and clean-up."""
STAMPED = ("schedule.ticks", "device.heartbeats")
"""Topics with LogAppendTime (type 1), beside the changelogs."""

Place = tuple[str, int]
"""(topic, partition)"""


class Stored(NamedTuple):
    """A record as a consumer gets it: the names are aiokafka's."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    partition: int
    timestamp_type: int = 1


@dataclass(slots=True)
class Shelf:
    """One partition of a topic."""

    records: list[Stored] = field(default_factory=list)
    end: int = 0
    """Next offset; markers take one."""
    open: dict[str, int] = field(default_factory=dict)
    """Where the open transaction of a producer begins."""
    generation: int = 0
    """The latest that has committed here."""

    def stable(self) -> int:
        """Return the last stable offset."""
        return min(self.open.values(), default=self.end)


class Broker:
    """Topics and transactions; it never forgets, and is read by the checkers at the end."""

    def __init__(self, schedule: Schedule, now_ms: Callable[[], int]) -> None:
        self.schedule, self.now_ms = schedule, now_ms
        self.shelves: dict[Place, Shelf] = {}
        self.groups: dict[str, Coordinator] = {}
        self.offsets: dict[tuple[str, str, int], int] = {}
        """By (group, topic, partition)."""
        self.metadata: dict[tuple[str, str, int], str] = {}
        self.epochs: dict[str, int] = {}
        """Of producers, by transactional id."""
        self.appended: Callable[[str, int], None] = lambda _topic, _partition: None
        self.committed: Callable[[Any, Batch, Mapping[str, list[Any]]], None] | None = None
        self.broken: list[str] = []
        """What may never happen in a log."""

    def shelf(self, topic: str, partition: int) -> Shelf:
        found = self.shelves.get((topic, partition))
        if found is None:
            found = self.shelves[topic, partition] = Shelf()
        return found

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Append as a plain producer does."""
        shelf = self.shelf(topic, partition)
        record = Stored(shelf.end, key, value, self.now_ms(), partition)
        shelf.records.append(record)
        shelf.end += 1
        self.appended(topic, partition)
        return record.offset

    # -- transactions --------------------------------------------------------------------------

    def begin_slot(self, transactional_id: str) -> int:
        """Fence earlier producers of this id, abort what they left open; return the epoch."""
        self.abort(transactional_id)
        epoch = self.epochs[transactional_id] = self.epochs.get(transactional_id, 0) + 1
        return epoch

    def leave_open(self, transactional_id: str, places: list[Place]) -> None:
        """Have a transaction that was begun hang: nothing behind it is stable."""
        epoch = self.epochs[transactional_id]
        for topic, partition in places:
            shelf = self.shelf(topic, partition)
            shelf.open.setdefault(transactional_id, shelf.end)
            shelf.end += 1
        self.schedule.after(TRANSACTION_S, self._time_out, transactional_id, epoch)

    def _time_out(self, transactional_id: str, epoch: int) -> None:
        if self.epochs[transactional_id] == epoch and self.abort(transactional_id):
            self.epochs[transactional_id] += 1  # the producer is fenced: its commit will fail

    def abort(self, transactional_id: str) -> bool:
        """End an open transaction of this id without effect."""
        found = [(at, s) for at, s in self.shelves.items() if transactional_id in s.open]
        for (topic, partition), shelf in found:
            del shelf.open[transactional_id]
            shelf.end += 1
            self.appended(topic, partition)
        return bool(found)

    def commit(self, process: Any, batch: Batch) -> dict[Place, int]:
        """Make a transaction visible, or raise ``FencedError``; return the ends it leads to."""
        identity, group = process.settings.transactional_id, process.settings.group
        if self.epochs[identity] != process.epoch:
            raise FencedError("a later producer has this transactional id")
        if batch.offsets and not self.groups[group].knows(batch.membership):
            raise FencedError(f"{batch.membership} has passed")
        ends: dict[Place, int] = {}
        now_ms = self.now_ms()
        for topic, messages in batch.outputs.items():
            for key, value, partition in messages:
                shelf = self.shelf(topic, partition)
                shelf.records.append(Stored(shelf.end, key, value, now_ms, partition))
                shelf.end += 1
                ends[topic, partition] = shelf.end
        generation = batch.membership.generation
        for place in ends:
            shelf = self.shelves[place]
            shelf.open.pop(identity, None)
            shelf.end += 1
            if not place[0].startswith(("device.events", "dead")):
                if generation < shelf.generation:
                    self.broken.append(f"{place}: generation {generation} wrote after a later one")
                shelf.generation = max(shelf.generation, generation)
        for (topic, partition), offset in batch.offsets.items():
            at = (group, topic, partition)
            self.offsets[at] = offset
            self.metadata[at] = batch.handovers.get(partition, "")
        if self.committed is not None:
            self.committed(process, batch, batch.outputs)
        for topic, partition in ends:
            self.appended(topic, partition)
        return ends

    def is_stable(self, places: list[Place]) -> bool:
        """Tell whether no transaction is open on any of these."""
        return not any(self.shelf(*place).open for place in places)

    def read(self, topic: str, partition: int, position: int, most: int) -> list[Stored]:
        """Return records from a position on, up to the last stable offset."""
        shelf = self.shelf(topic, partition)
        records, stable = shelf.records, shelf.stable()
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            if records[middle].offset < position:
                low = middle + 1
            else:
                high = middle
        found = records[low : low + most]
        while found and found[-1].offset >= stable:
            found.pop()
        return found


@dataclass(slots=True)
class Member:
    """One member of a group."""

    slot: str
    until_s: float
    """End of its session."""
    joining: Callable[[int, str, list[int]], None] | None = None
    """Told of the assignment, once."""


class Coordinator:
    """A consumer group."""

    def __init__(self, schedule: Schedule, partitions: int, session_s: float) -> None:
        self.schedule, self.partitions, self.session_s = schedule, partitions, session_s
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.rebalancing = False
        self._round = 0
        self._count = 0
        self._armed = False

    def knows(self, membership: Membership) -> bool:
        """Tell whether a transaction under this membership is accepted."""
        return membership.generation == self.generation and membership.member_id in self.members

    def alive(self, membership: Membership) -> bool:
        """Tell whether no session of a member in force can be over by now."""
        member = self.members.get(membership.member_id)
        return member is not None and member.until_s > self.schedule.now_s

    def join(self, slot: str, member_id: str, told: Callable[[int, str, list[int]], None]) -> None:
        """Take a member in; ``told`` hears of generation, id and partitions."""
        if member_id not in self.members:
            self._count += 1
            member_id = f"{slot}-{self._count}"
        self.members[member_id] = Member(slot, self.schedule.now_s + self.session_s, told)
        self._begin()
        self._complete()

    def leave(self, member_id: str) -> None:
        """Drop a member."""
        if self.members.pop(member_id, None) is not None:
            self._begin()
            self._complete()

    def heartbeat(self, membership: Membership) -> str:
        """Return ``ok``, ``rebalance`` or ``unknown``; the session begins anew but for the last."""
        member = self.members.get(membership.member_id)
        if member is None or membership.generation != self.generation:
            return "unknown"
        member.until_s = self.schedule.now_s + self.session_s
        return "rebalance" if self.rebalancing else "ok"

    def _begin(self) -> None:
        self._arm()
        if self.rebalancing:
            return
        self.rebalancing = True
        self._round += 1
        self.schedule.after(REBALANCE_S, self._give_up, self._round)

    def _give_up(self, number: int) -> None:
        if self.rebalancing and number == self._round:
            self.members = {i: m for i, m in self.members.items() if m.joining is not None}
            self._complete()

    def _complete(self) -> None:
        members = sorted(self.members.items(), key=lambda item: (item[1].slot, item[0]))
        if not self.rebalancing or not all(m.joining for _, m in members):
            return
        self.rebalancing = False
        self.generation += 1
        for number, (member_id, member) in enumerate(members):
            told, member.joining = member.joining, None
            member.until_s = self.schedule.now_s + self.session_s
            assert told is not None
            told(self.generation, member_id, list(range(number, self.partitions, len(members))))

    def _arm(self) -> None:
        if not self._armed and self.members:
            self._armed = True
            first_s = min(m.until_s for m in self.members.values())
            self.schedule.at(max(first_s, self.schedule.now_s + 0.05), self._expire)

    def _expire(self) -> None:
        self._armed = False
        now_s = self.schedule.now_s
        late = [i for i, m in self.members.items() if m.until_s <= now_s and m.joining is None]
        for member_id in late:
            del self.members[member_id]
        if late:
            self._begin()
            self._complete()
        self._arm()
