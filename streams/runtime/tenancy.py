"""Which partitions are ours, and what becomes of them in a rebalance.

The life of a partition here::

    assigned -> recovered (recovery.py) -> opened (program.opened) -> steps ...
             -> paused: no steps, last commit -> resumed under the next generation
                                              -> or lost: closed, forgotten
             -> given up (the worker ends): drained (program.drain), committed, closed

The protocol is eager: every member gives all its partitions up before it joins again, and only then
hears which it gets. A partition that **stays** needs no recovery, because nobody else can have
written to it, if

1. the membership is that of the next generation: the number grows by one at each completed join
   and the member's id is the same, so no generation was missed in which another had it; and
2. its stable input offsets are where our last commit left them (belt and braces: an operator may
   have moved them).

Its rows and its state in memory are kept, and it goes on as soon as the
assignment is known, before Faust has done its own. Otherwise it is closed and recovered.

What may still happen between the last commit and the next assignment: shutters whose RUNNING is
committed, until the moment that was committed with it (``handover.py``). Nothing is written.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from aiokafka.errors import CommitFailedError

from infra.kafka.offsets import OffsetsMark
from streams.observability.logs import get_logger
from streams.runtime.handover import Handover
from streams.runtime.partition import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.observability.metrics import Metrics
    from streams.runtime.committer import Committer
    from streams.runtime.group import Group, Membership
    from streams.runtime.overlay import Overlay
    from streams.runtime.rebalance import RebalanceTimes
    from streams.runtime.recovery import Recovery
    from streams.runtime.store import Store
    from streams.runtime.transport import BatchConsumer, Tenure

UNDISTURBED_S = 2.0
"""How long the look at the offsets may take; beyond it all is recovered."""


class Program(Protocol):
    """What an app does, seen from its life cycle."""

    def opened(self, partition: Partition) -> None:
        """A partition is recovered and ours: build its state from its rows."""

    async def pausing(self, partitions: list[Partition]) -> int:
        """A rebalance begins: make the last steps before it.

        Return until when (UTC milliseconds) shutters of these partitions may still open, whoever
        owns them by then; 0 where nothing is to be handed over.
        """
        ...

    def resumed(self, partition: Partition) -> None:
        """The partition has stayed: go on with what was held back."""

    async def drain(self, partitions: list[Partition]) -> int:
        """Nothing new starts on these partitions: bring what is in flight to an end.

        Return as ``pausing``: now, where some of it may not have come to its end.
        """
        ...

    def closed(self, partition: Partition) -> None:
        """The partition is no longer ours: forget it."""


class Tenancy:
    """The partitions of one worker. Every method runs on the event loop."""

    def __init__(
        self,
        inputs: tuple[str, ...],
        changelogs: Mapping[str, str],
        topic: Callable[[str], str],
        state: tuple[Store, Overlay],
        recovery: Recovery,
        committer: Committer,
        group: Group,
        program: Program,
        metrics: Metrics,
        times: RebalanceTimes,
        consumer: Callable[[], BatchConsumer],
    ) -> None:
        """Take the parts; ``consumer`` is asked for when the first rebalance comes."""
        self.partitions: dict[int, Partition] = {}
        self.recovered = asyncio.Event()
        self.stopping = False
        self._inputs, self._changelogs, self._topic = inputs, changelogs, topic
        self._store, self._overlay = state
        self._recovery = recovery
        self._committer = committer
        self._group = group
        self._program = program
        self._metrics = metrics
        self._times = times
        self._consumer = consumer
        self._tenure: Tenure | None = None
        self._paused_under: Membership | None = None
        self._kept = 0
        self._giving_up = asyncio.Lock()
        self._log = get_logger(__name__)

    # -- before the group is joined again ------------------------------------------------------

    async def pause(self) -> None:
        """Bring all partitions to a committed point at which they can be left or gone on with."""
        async with self._giving_up:
            membership = self._group.membership
            partitions = list(self.partitions.values())
            if membership is None or self.stopping or any(p.paused for p in partitions):
                self._close(partitions)
                self._group.lost()
            elif partitions:
                until_ms = await self._program.pausing(partitions)
                for partition in partitions:
                    partition.open, partition.shutters_until_ms = False, until_ms
                    if until_ms:
                        self._hand_over(partition, until_ms)
                await self._committer.drained()
                for partition in partitions:
                    partition.pause()
            self._paused_under = membership
            self._group.rejoining()
            self._times.mark("joining")

    def _hand_over(self, partition: Partition, until_ms: int) -> None:
        left = partition.handover
        if left is not None:
            until_ms = max(until_ms, left.until_ms)  # the owner before may be at it still
        partition.leaving = Handover(partition.membership.generation, until_ms)
        with self._committer.step(partition):
            pass  # whatever else there is: it is committed with the offsets

    # -- the assignment ------------------------------------------------------------------------

    async def assigned(self, tenure: Tenure) -> None:
        """Go on with the partitions that stayed and forget the others; the group waits for it."""
        numbers = self._numbers(tenure)
        before = self._paused_under
        stayed = [p for number, p in self.partitions.items() if number in numbers]
        follows = before is not None and _follows(before, tenure.membership)
        if self.stopping or not (follows and await self._undisturbed(stayed)):
            stayed = []
        owned = len(self.partitions)
        self._close([p for p in self.partitions.values() if p not in stayed])
        self._group.joined(tenure.membership.generation, tenure.membership.member_id)
        for partition in stayed:
            partition.resume(tenure.membership)
            self._program.resumed(partition)
        self._times.mark("resumed")
        self._kept = len(stayed)
        self._metrics.partitions_kept.inc(self._kept)
        self._metrics.partitions_moved.inc(owned - self._kept + len(numbers) - self._kept)
        pause_s = self._times.pause_s()
        if owned and pause_s is not None:
            self._metrics.rebalance_pause.observe(pause_s)

    async def _undisturbed(self, partitions: list[Partition]) -> bool:
        """Tell whether the stable offsets are where these partitions stand."""
        if not partitions:
            return True
        loop = asyncio.get_running_loop()
        standing = {(t, p.number): at for p in partitions for t, at in p.positions.items()}
        try:
            found = await asyncio.wait_for(
                loop.run_in_executor(None, self._recovery.positions, {n for _, n in standing}),
                UNDISTURBED_S,
            )
        except Exception as error:  # noqa: BLE001  # whatever it was: recovery asks again
            self._log.warning("stable offsets not read in time", reason=str(error))
            return False
        wrong = {at: (standing[at], found.get(at)) for at in standing if standing[at] != found[at]}
        if wrong:
            self._log.warning("offsets were moved", offsets=str(wrong))
        return not wrong

    # -- recovery ------------------------------------------------------------------------------

    async def take_over(self) -> None:
        """Recover and open what was assigned and has not stayed; Faust goes on after this."""
        consumer = self._consumer()
        tenure = consumer.tenure
        if tenure is None or tenure is self._tenure:
            return  # the next rebalance has begun, or Faust asks twice: another call will come
        self._times.mark("recovering")
        numbers = self._numbers(tenure)
        new = numbers - set(self.partitions)
        try:
            mark = await self._mark(consumer, new)
        except CommitFailedError:
            return  # the next rebalance has begun
        found = await asyncio.get_running_loop().run_in_executor(
            None, self._recovery.recover, new, lambda: tenure is consumer.tenure, mark
        )
        if tenure is not consumer.tenure or self.stopping:
            return
        self._tenure = tenure
        consumer.interrupt()
        self._group.joined(tenure.membership.generation, tenure.membership.member_id)
        self._metrics.recovery_records.inc(found.records)
        self._metrics.recovery_seconds.inc(found.took_ms / 1000.0)
        began_s = time.monotonic()
        for number in sorted(new):
            await asyncio.sleep(0)  # building a partition's state may take a second
            if tenure is not consumer.tenure or self.stopping:
                return
            partition = Partition(
                number,
                {topic: found.positions[topic, number] for topic in self._inputs},
                dict(self._changelogs),
                self._store,
                self._overlay,
                tenure.membership,
                found.handovers.get(number),
            )
            self._program.opened(partition)
            self.partitions[number] = partition
        self.recovered.set()
        self._times.mark("recovered")
        self._log.info(
            "partitions opened",
            partitions=sorted(numbers),
            new=sorted(new),
            generation=tenure.membership.generation,
            recovered_records=found.records,
            recovery_ms=round(found.took_ms),
            opening_ms=round((time.monotonic() - began_s) * 1000.0),
        )

    async def _mark(self, consumer: BatchConsumer, new: set[int]) -> OffsetsMark | None:
        """Have the group's coordinator show that it is not one of the past (``marks.py``)."""
        if not new or not self._changelogs:
            return None
        mark = OffsetsMark(self._topic(min(self._changelogs.values())), min(new))
        await consumer.mark(mark)
        return mark

    def flowing(self) -> None:
        """Note that records are fetched again: the rebalance is over."""
        self._times.mark("flowing")
        self._log.info("rebalance", kept=self._kept, **self._times.parts_ms())

    # -- giving up -----------------------------------------------------------------------------

    async def give_up(self) -> None:
        """Bring all partitions to an end, as the worker ends."""
        async with self._giving_up:
            partitions = list(self.partitions.values())
            writable = [partition for partition in partitions if not partition.paused]
            for partition in writable:
                partition.open = False
            if writable:
                until_ms = await self._program.drain(writable)
                for partition in writable if until_ms else ():
                    self._hand_over(partition, until_ms)
            await self._committer.drained()
            self._close(partitions)

    def _close(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            partition.lose()
            self._program.closed(partition)
            del self.partitions[partition.number]
        if not self.partitions:
            self.recovered.clear()

    def _numbers(self, tenure: Tenure) -> set[int]:
        by_topic: dict[str, set[int]] = {self._topic(topic): set() for topic in self._inputs}
        for topic, number in tenure.partitions:
            if topic in by_topic:
                by_topic[topic].add(number)
        first, *others = by_topic.values()
        if any(numbers != first for numbers in others):
            raise RuntimeError(f"inputs are not co-partitioned: {by_topic}")
        return first


def _follows(before: Membership, now: Membership) -> bool:
    """Tell whether no generation lies between these two memberships of one member."""
    return now.member_id == before.member_id and now.generation == before.generation + 1
