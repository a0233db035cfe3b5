"""A worker of one app: Faust's membership and agents around exactly-once steps.

Faust decides which partitions this process owns (its co-partitioned assignor), tells when they
come and go, and runs one agent a topic. Everything that is written goes through steps
(``partition.py``), batches (``batch.py``) and transactions (``transaction.py``).

What becomes of a partition in a rebalance is ``tenancy.py``'s business. Pausing happens inside
Faust's rebalance callback, before the group is joined again, so what it commits is still under the
old generation. Whatever puts the worker in doubt ends the process
(``fail``): the supervisor starts it again, and recovery brings it to the last committed point.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import faust
from aiokafka import TopicPartition
from faust.serializers.codecs import Codec as FaustCodec
from yarl import URL

from infra.kafka.topics import topic_name
from streams.observability.logs import get_logger
from streams.runtime.committer import Committer
from streams.runtime.faults import Faults
from streams.runtime.group import Group, MemberNote
from streams.runtime.overlay import Overlay
from streams.runtime.partition import Partition, Step
from streams.runtime.rebalance import RebalanceTimes
from streams.runtime.recovery import Recovery
from streams.runtime.store import Store
from streams.runtime.tenancy import Program, Tenancy
from streams.runtime.transaction import Transactor
from streams.runtime.transport import BatchTransport, Seam

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from streams.observability.metrics import Metrics
    from streams.runtime.clock import Clock
    from streams.runtime.settings import RuntimeSettings
    from streams.runtime.transport import BatchConsumer, Poll, Tenure

Handler = Callable[[Partition, "list[ConsumerRecord]", Step], None]
"""Works on a slice of records of one partition, within one step, without awaiting."""


LEAVE_S = 10.0
"""How long leaving the group in order may take."""
LEAVE_IN_DOUBT_S = 2.0
"""The same for a worker in doubt, whose partitions wait for a successor."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The topics and tables of an app."""

    inputs: tuple[str, ...]
    changelogs: Mapping[str, str]
    """Changelog topic by table."""
    partitions: int


class _Untouched(FaustCodec):
    """A serializer that leaves the poll as it is: agents decode records themselves."""

    def _loads(self, s: bytes) -> Any:
        return s

    def _dumps(self, s: Any) -> bytes:
        return bytes(s)


class ShardApp:
    """One worker process of one app."""

    def __init__(
        self,
        settings: RuntimeSettings,
        layout: Layout,
        program: Program,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Take the settings, the topics and tables, and the program that works on them."""
        self.settings = settings
        self.layout = layout
        self.clock = clock
        self.metrics = metrics
        self.group = Group(settings.session_timeout_ms, settings.lease_margin_ms)
        self._log = get_logger(__name__)
        self._before_slice: Callable[[], None] = lambda: None
        self._failure: asyncio.Future[BaseException] | None = None
        self._tasks: list[asyncio.Future[None]] = []
        self._loops: list[Callable[[], Awaitable[None]]] = []
        self._times = RebalanceTimes()
        self._note = MemberNote(settings.state_dir)
        self._faults = Faults(settings.faults)
        self._store = Store(
            settings.state_dir / "state",
            tuple(layout.changelogs),
            block_cache_bytes=settings.block_cache_bytes,
            row_cache_bytes=settings.row_cache_bytes,
            unwritten_bytes=settings.unwritten_bytes,
            unwritten_s=settings.unwritten_ms / 1000.0,
            before_offsets=lambda: self._faults.at("mid-store"),
        )
        overlay = Overlay(self._store)
        self.committer = Committer(
            settings,
            self.group,
            Transactor(settings, self.topic, clock.now_ms),
            self._store,
            overlay,
            layout.changelogs,
            metrics,
            self.fail,
        )
        self.tenancy = Tenancy(
            layout.inputs,
            layout.changelogs,
            self.topic,
            (self._store, overlay),
            Recovery(settings, self._store, self.topic, layout.changelogs, layout.inputs),
            self.committer,
            self.group,
            program,
            metrics,
            self._times,
            self._consumer,
        )
        self._faust = self._make_faust()
        metrics.cached_rows.bind(lambda: self._store.cached_rows)
        metrics.unwritten_rows.bind(lambda: self._store.unwritten_rows)
        metrics.partitions_owned.bind(lambda: len(self.partitions))
        metrics.queued_records.bind(lambda: self._consumer().queued)
        metrics.lease_age.bind(lambda: self.group.lease_age_ms() / 1000.0)

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions that are ours, by number; look at ``open`` before working on one."""
        return self.tenancy.partitions

    @property
    def store(self) -> Store:
        """The local state, as the last run of this slot left it until partitions are recovered."""
        return self._store

    def topic(self, name: str) -> str:
        """Return a topic's name within the namespace."""
        return topic_name(self.settings.namespace, name)

    # -- building ------------------------------------------------------------------------------

    def _make_faust(self) -> faust.App:
        settings = self.settings
        app = faust.App(
            settings.group,
            broker=[URL(f"kafka://{address}") for address in settings.bootstrap.split(",")],
            store="memory://",
            datadir=str(settings.state_dir / "faust"),
            topic_partitions=self.layout.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            autodiscover=False,
            web_enabled=False,
            stream_wait_empty=False,
            stream_buffer_maxsize=2,  # polls, not records: what waits in memory is bounded by it
            stream_recovery_delay=0.0,
            broker_session_timeout=settings.session_timeout_ms / 1000.0,
            broker_heartbeat_interval=settings.heartbeat_ms / 1000.0,
            broker_request_timeout=40.0,
            consumer_auto_offset_reset="earliest",
            processing_guarantee="at_least_once",
            loghandlers=[],
        )
        app.boot_strategy.enable_kafka_producer = False
        seam = Seam(
            settings,
            self.group,
            self._note,
            self._times,
            self._positions,
            self._on_assigned,
            self._on_flowing,
            self.fail,
            self._sought,
            self._unsought,
            settings.fetch_bytes(len(self.layout.inputs) * self.layout.partitions),
        )
        app.transport = BatchTransport(app.conf.broker_consumer, app, seam)
        app.on_partitions_revoked.connect(self._on_revoked)  # type: ignore[arg-type]
        app.on_rebalance_complete.connect(self._on_rebalance_complete)  # type: ignore[arg-type]
        return app

    def agent(self, topic: str, handler: Handler) -> None:
        """Have Faust run an agent over an input topic that works in slices and steps."""
        channel = self._faust.topic(
            self.topic(topic),
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer=_Untouched(),
            partitions=self.layout.partitions,
            acks=False,
        )

        async def work(stream: Any) -> None:
            try:
                events: AsyncIterator[Any] = stream.events()
                async for event in events:
                    await self._work(topic, event.value, handler)
                    self._consumer().worked(event.value)
            except Exception as error:
                self.fail(error)
                raise

        work.__name__ = f"{self.settings.app}.{topic}"
        self._faust.agent(channel, name=f"{self.settings.app}.{topic}")(work)

    def loop(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine function for as long as the app runs; its failure is the worker's."""
        self._loops.append(run)

    def before_slices(self, look: Callable[[], None]) -> None:
        """Have this called before each slice: what is due by then does not wait for it."""
        self._before_slice = look

    def _positions(self) -> dict[tuple[str, int], int]:
        return {
            (self.topic(topic), partition.number): offset
            for partition in self.partitions.values()
            for topic, offset in partition.positions.items()
        }

    def _sought(self, places: Mapping[tuple[str, int], int], interruptions: int) -> None:
        """Note that the consumer was sent to these offsets before this interruption.

        A partition that stands elsewhere by now is not where the consumer is.
        """
        for partition in self.partitions.values():
            if all(
                places.get((self.topic(topic), partition.number)) == offset
                for topic, offset in partition.positions.items()
            ):
                partition.sought = interruptions

    def _unsought(self, interruptions: int) -> bool:
        """Tell whether a partition's records would be dropped, were they fetched now."""
        return any(p.open and p.sought != interruptions for p in self.partitions.values())

    # -- working -------------------------------------------------------------------------------

    async def _work(self, topic: str, poll: Poll, handler: Handler) -> None:
        """Work through one poll, a slice of each partition in turn."""
        size = self.settings.slice_records
        waiting = dict(poll.records)
        self.metrics.records_consumed.inc(topic, poll.count)
        while waiting:
            for number, records in list(waiting.items()):
                await self.committer.room()
                if poll.interruptions != self._interruptions():
                    return  # all of it will be read again
                partition = self.partitions.get(number)
                if partition is None or not partition.takes(poll.interruptions):
                    del waiting[number]  # whoever owns it reads these again
                    continue
                part, rest = records[:size], records[size:]
                if rest:
                    waiting[number] = rest
                else:
                    del waiting[number]
                fresh = partition.trimmed(topic, part)
                if fresh:
                    self._before_slice()
                    with self.step(partition) as step:
                        handler(partition, fresh, step)
                        step.consumed(topic, fresh[-1].offset + 1)
                if rest:
                    self._faults.at("between-slices")
                await asyncio.sleep(0)

    def _interruptions(self) -> int:
        return self._consumer().interruptions

    def _consumer(self) -> BatchConsumer:
        return cast("BatchConsumer", self._faust.consumer)

    def step(self, partition: Partition) -> Step:
        """Begin a step; see ``partition.Step``."""
        return self.committer.step(partition)

    def read_up_to_ms(self, topic: str, partition: int) -> int | None:
        """Return until when (this worker's clock) all records of an input were worked on.

        ``None``: there are some that are not, or nothing was fetched yet.
        """
        owned = self.partitions.get(partition)
        if owned is None or self.tenancy.stopping:
            return None
        place = TopicPartition(self.topic(topic), partition)
        fetched_s = self._consumer().read_up_to_s(place, owned.positions[topic])
        if fetched_s is None:
            return None
        return self.clock.now_ms() - max(round((time.time() - fetched_s) * 1000.0), 0)

    # -- rebalancing ---------------------------------------------------------------------------

    async def _on_revoked(self, _app: Any, *_args: Any, **_kwargs: Any) -> None:
        """Pause everything; Faust calls this before the group is joined again."""
        try:
            await self.tenancy.pause()
        except Exception as error:  # noqa: BLE001  # fail() decides; Faust would only log it
            self.group.lost()
            self.fail(error)

    async def _on_assigned(self, tenure: Tenure) -> None:
        """Go on with what stayed; the consumer's thread waits meanwhile."""
        try:
            await self.tenancy.assigned(tenure)
        except Exception as error:  # noqa: BLE001
            self.group.lost()
            self.fail(error)

    async def _on_rebalance_complete(self, _app: Any, *_args: Any, **_kwargs: Any) -> None:
        """Recover and open what is new; Faust resumes the flow after this."""
        try:
            await self.tenancy.take_over()
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def _on_flowing(self) -> None:
        if self.tenancy.recovered.is_set():
            self.tenancy.flowing()

    # -- life cycle ----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Tell whether partitions are recovered and worked on."""
        return self.tenancy.recovered.is_set()

    def fail(self, error: BaseException) -> None:
        """Stop the worker: it is in doubt. Nothing is committed from now on."""
        self.committer.stop_committing()
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; drains, commits and leaves the group.

        Raises:
            BaseException: what put the worker in doubt; the process should end at once.

        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_stray_error)
        self._failure = loop.create_future()
        await self.committer.start()
        self._faust.finalize()
        await self._faust.start()
        for run in (self.committer.run, *self._loops):
            task: asyncio.Future[None] = asyncio.ensure_future(run())
            task.add_done_callback(self._on_task_done)
            self._tasks.append(task)
        stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        crashed = asyncio.ensure_future(self._faust_crashed())
        waits: set[asyncio.Future[Any]] = {stopping, crashed, self._failure}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        try:
            if self._failure.done():
                raise self._failure.result()
            self.tenancy.stopping = True
            await self.tenancy.give_up()
            if self._failure.done():
                raise self._failure.result()  # the last commit, which the committer had begun
        finally:
            for running in (*self._tasks, stopping, crashed):
                running.cancel()
            await self._leave(LEAVE_IN_DOUBT_S if self._failure.done() else LEAVE_S)

    def _on_stray_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Fail on what a timer or callback of ours raised; the loop would only log it."""
        error = context.get("exception")
        if isinstance(error, Exception) and "handle" in context:
            self.fail(error)
        loop.default_exception_handler(context)

    async def _faust_crashed(self) -> None:
        """Watch for a crash that Faust kept to itself."""
        while not self._faust.crashed:  # noqa: ASYNC110  # Faust gives no event
            await asyncio.sleep(0.2)
        self.fail(self._faust.crash_reason or RuntimeError("Faust crashed"))

    def _on_task_done(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _leave(self, within_s: float) -> None:
        """Leave the group and close the store, within a bound; the process ends after it."""
        self.committer.stop_committing()
        try:
            await asyncio.wait_for(self._faust.stop(), timeout=within_s)
            self._note.forget()
        except Exception as error:  # noqa: BLE001  # leaving is a courtesy to the group
            self._log.warning("could not leave the group in order", error=str(error))
        self.committer.close()
        self._store.close()
