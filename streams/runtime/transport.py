"""The seam to Faust: its aiokafka driver, changed in five places.

Faust brings group membership, the co-partitioned assignment, the rebalance callbacks and the
life cycle of agents. It hands agents one record at a time, which costs 75 microseconds each; this
transport hands them **one message a topic and poll**, holding every record of the poll. That, and:

1. the consumer is ours to configure (read committed, short fetch wait, the ring as its assignor;
   Faust's own is left empty, as Faust has no tables to recover);
2. each good heartbeat and join renews the lease, and each rebalance notes the membership
   (``group.py``); partitions that stay go on before Faust hears of the assignment; and before the
   first join a dead predecessor's place in the group is given up for it;
3. offsets are committed by our transactions only, so Faust's commit does nothing;
4. seeking to the committed offset goes to positions the recovery has read as *stable*, which
   aiokafka cannot ask for;
5. a record is a plain tuple: aiokafka's own frozen class takes over a microsecond to make, which
   was a quarter of what reading a record costs.

A fetch that was under way while a rebalance happened may return records of before it. So each poll
carries the number of interruptions at the time its fetch began, and each stop of the flow, each
seek and each opening of partitions is an interruption. A poll of before one is dropped: nothing is
missed, because the seek comes after the drop, and nothing is worked on twice, because every batch
is trimmed to the partition's position (``partition.py``).

Faust calls its recovery some time after the assignment, and by then the next rebalance may have
begun. What was assigned, and under which membership, is therefore noted together at the moment of
the assignment (``BatchConsumer.tenure``), while the consumer's thread waits and neither can change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from schemas.errors import BrokerError
from streams.runtime.assignor import RingAssignor
from streams.runtime.group import Group, MemberNote, Membership, boottime_ms

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from yarl import URL

    from infra.kafka.offsets import OffsetsMark
    from streams.runtime.rebalance import RebalanceTimes
    from streams.runtime.settings import RuntimeSettings

Record: TypeAlias = "ConsumerRecord"
PositionsSource: TypeAlias = Callable[[], Mapping[tuple[str, int], int]]


class PlainRecord(NamedTuple):
    """What an agent may know of a record: ``ConsumerRecord`` without sizes and checksum.

    To type checkers it is a ``ConsumerRecord``, as it has the same names.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class PlainRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """aiokafka's reader of a fetched partition, which makes a ``PlainRecord`` of each."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return PlainRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            tuple(record.headers),
        )


# aiokafka's fetcher finds the class by this name; nothing else in a worker reads with aiokafka.
fetcher.PartitionRecords = PlainRecords


@dataclass(frozen=True, slots=True)
class Poll:
    """The records of one topic of one poll, by partition."""

    topic: str
    records: Mapping[int, list[Record]]
    interruptions: int
    """How often the flow had been stopped when this was fetched; a poll of before is dropped."""

    @property
    def count(self) -> int:
        """Records of all partitions."""
        return sum(map(len, self.records.values()))


@dataclass(frozen=True, slots=True)
class Tenure:
    """One assignment: what is ours, and the membership it was given under."""

    membership: Membership
    partitions: frozenset[tuple[str, int]]
    """(topic, partition)"""


@dataclass(slots=True)
class Seam:
    """What the transport needs from the app that uses it."""

    settings: RuntimeSettings
    group: Group
    note: MemberNote
    times: RebalanceTimes
    positions: PositionsSource
    """Next offset to read of every partition that has been recovered, by (topic, partition)."""
    assigned: Callable[[Tenure], Awaitable[None]]
    """Told of each assignment before Faust is."""
    flowing: Callable[[], None]
    """Told when records are fetched again after a rebalance."""
    failed: Callable[[BaseException], None]
    """Told, on the app's loop, that this consumer will join no group any more."""
    fetch_bytes: int
    """Most bytes fetched of one partition at once. What is fetched waits until it is handed on, so
    this times the number of partitions bounds what a backlog takes of memory."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: makes the aiokafka consumer and listens to its heartbeats."""

    async def on_start(self) -> None:
        """Start the consumer, then put the lease's ear to its heartbeats."""
        await super().on_start()
        seam = cast("BatchTransport", self.transport).seam
        coordinator: Any = self._ensure_consumer()._coordinator  # noqa: SLF001
        heartbeat = coordinator._do_heartbeat  # noqa: SLF001

        async def do_heartbeat() -> bool:
            sent_at_ms = boottime_ms()
            ok = bool(await heartbeat())
            if ok:
                # An answer "the group is rebalancing" counts as ok too, but from then on we may be
                # left out of the group however many heartbeats are answered.
                if not coordinator._rejoin_needed_fut.done():  # noqa: SLF001
                    seam.group.renew(sent_at_ms)
            elif coordinator.generation < 0:
                seam.group.lost()
            return ok

        coordinator._do_heartbeat = do_heartbeat  # noqa: SLF001
        send = coordinator._send_req  # noqa: SLF001

        async def send_req(request: Any) -> Any:
            if isinstance(request, JoinGroupRequest) and (dead := seam.note.take()):
                with suppress(KafkaError):
                    await send(LeaveGroupRequest(seam.settings.group, dead))
            sent_at_ms = boottime_ms()
            response = await send(request)
            if isinstance(request, JoinGroupRequest):
                seam.times.mark("joined")
            elif isinstance(request, SyncGroupRequest) and response.error_code == 0:
                # The coordinator has begun our session anew since we sent this.
                seam.group.renew(sent_at_ms)
                seam.times.mark("synced")
            return response

        coordinator._send_req = send_req  # noqa: SLF001
        coordinator._coordination_task.add_done_callback(self._coordination_ended)  # noqa: SLF001

    def _coordination_ended(self, task: asyncio.Task[None]) -> None:
        """End the worker where aiokafka's coordination ends with an error.

        It logs it and stays; seen with a broker that answers a client's first question with no
        brokers at all. Nobody would join the group or take the partitions over.
        """
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        seam = cast("BatchTransport", self.transport).seam
        self.parent_loop.call_soon_threadsafe(
            seam.failed, BrokerError(f"The group is lost: {error}")
        )

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        seam = cast("BatchTransport", transport).seam
        settings = seam.settings
        self._assignor = RingAssignor(settings.slot)
        return aiokafka.AIOKafkaConsumer(
            client_id=f"shutterwheel-{settings.app}-{settings.slot}",
            group_id=settings.group,
            bootstrap_servers=settings.bootstrap,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=settings.max_poll_records,
            max_poll_interval_ms=3_600_000,
            max_partition_fetch_bytes=seam.fetch_bytes,
            fetch_max_wait_ms=200,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            request_timeout_ms=max(settings.rebalance_timeout_ms + 10_000, 40_000),
            metadata_max_age_ms=30_000,
            retry_backoff_ms=100,
        )


class BatchConsumer(driver.Consumer):
    """Hands on one message a topic and poll; leaves commits to the transactions."""

    interruptions = 0
    queued = 0
    """Records handed on and not yet worked on; at most three polls an agent."""
    tenure: Tenure | None = None
    """The assignment in force; ``None`` from the beginning of a rebalance to its end."""
    _told: Tenure | None = None
    """The last assignment whose records were seen to flow."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Note that a rebalance begins; then Faust's own."""
        self._seam.times.mark("revoked")
        self.tenure = None
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Note what was assigned; then Faust's own. The consumer's thread waits meanwhile."""
        coordinator: Any = self._thread._ensure_consumer()._coordinator  # noqa: SLF001
        self.tenure = Tenure(
            Membership(generation_id, coordinator.member_id),
            frozenset((tp.topic, tp.partition) for tp in assigned),
        )
        self._seam.note.write(coordinator.member_id)
        await self._seam.assigned(self.tenure)
        await super().on_partitions_assigned(assigned, generation_id)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _seam(self) -> Seam:
        return cast("BatchTransport", self.transport).seam

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        """Fetch once and yield one message for each topic that had records."""
        if not self.flow_active:
            await self.wait(cast("Any", self.can_resume_flow))
        active = self._get_active_partitions()
        if not active:
            await asyncio.sleep(0.05)
            return
        if self._told is not self.tenure:
            self._told = self.tenure
            self._seam.flowing()
        interruptions = self.interruptions
        records = await self._getmany(active, timeout)
        if self.should_stop or not records:
            return
        if interruptions != self.interruptions or not self.flow_active:
            await self.perform_seek()
            return
        by_topic: dict[str, dict[int, list[Record]]] = {}
        for tp, batch in records.items():
            if batch:
                by_topic.setdefault(tp.topic, {})[tp.partition] = batch
        for topic, partitions in by_topic.items():
            partition, batch = next(iter(partitions.items()))
            poll = Poll(topic, partitions, interruptions)
            self.queued += poll.count
            yield TP(topic, partition), self._poll_message(poll, batch[-1])

    def worked(self, poll: Poll) -> None:
        """Note that a poll has been worked on, or dropped."""
        if poll.interruptions == self.interruptions:
            self.queued -= poll.count

    def read_up_to_s(self, place: TopicPartition, position: int) -> float | None:
        """Return when (``time.time()``) a fetch last found nothing behind what was worked on.

        ``position`` is the next offset to be worked on; ``None``: there is something, or no fetch
        has come back. Markers of transactions at a partition's end are nothing.
        """
        subscription = self._thread._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or place not in assignment.tps:
            return None
        state = assignment.state_value(place)
        end, fetched_ms = state.lso, state.timestamp
        if end is None or fetched_ms is None:
            return None
        if position < end and not (
            self.queued == 0 and state.has_valid_position and state.position >= end
        ):
            return None
        return float(fetched_ms) / 1000.0

    def interrupt(self) -> None:
        """Have every poll whose fetch has begun by now dropped; it will be read again."""
        self.interruptions += 1
        self.queued = 0

    def stop_flow(self) -> None:
        """Stop handing on; what is being fetched now will be dropped and read again."""
        self.interrupt()
        super().stop_flow()

    def _poll_message(self, poll: Poll, last: Record) -> ConsumerMessage:
        topic = poll.topic
        tp = TP(topic, last.partition)
        return ConsumerMessage(
            topic=topic,
            partition=last.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=cast("Any", poll),
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: a full queue holds the next poll up, which is all the back-pressure needed.

        Faust would pause one partition, though a message of ours stands for several.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing; see ``on_buffer_full``."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek the recovered partitions to the next offset each is to read."""
        assigned = self.assignment()
        wanted = {
            TP(topic, partition): offset
            for (topic, partition), offset in self._seam.positions().items()
            if TP(topic, partition) in assigned
        }
        thread = self._thread
        consumer = thread._ensure_consumer()  # noqa: SLF001

        async def seek() -> None:
            for tp, offset in wanted.items():
                consumer.seek(TopicPartition(tp.topic, tp.partition), offset)

        self.interrupt()
        await thread.call_thread(seek)
        self.interrupt()
        self._read_offset.clear()
        return {}

    async def mark(self, mark: OffsetsMark) -> None:
        """Commit a mark among the group's offsets, as the member that we are (``marks.py``).

        Raises aiokafka's ``CommitFailedError`` where the group is being joined again.
        """
        thread = self._thread
        coordinator: Any = thread._ensure_consumer()._coordinator  # noqa: SLF001
        offsets = {
            TopicPartition(mark.topic, mark.partition): OffsetAndMetadata(mark.offset, ""),
        }

        async def commit() -> None:
            await coordinator.commit_offsets(None, offsets)

        await thread.call_thread(commit)

    async def commit(self, *_args: Any, **_kwargs: Any) -> bool:
        """Do nothing: offsets travel in the transactions."""
        return False


class BatchTransport(driver.Transport):
    """The transport an app is given: Faust's, with the consumer above."""

    Consumer = BatchConsumer

    def __init__(self, url: list[URL], app: Any, seam: Seam) -> None:
        super().__init__(url, app)
        self.seam = seam
