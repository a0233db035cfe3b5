"""A worker process of the world: the real app around a pretended Kafka.

Real: the program (wheel, executor, health), ``Committer``, ``Tenancy``, ``Partition``, ``Overlay``,
``ShardApp._work`` and the clock. Pretended: Faust's consumer (:class:`Consumer` and
:meth:`Process.fetch`), the producer, the store and the recovery (``world_machine.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka.errors import CommitFailedError
from world_loop import NodeLoop
from world_machine import BootGroup, Machine, Recovery, Threads, Transactor

from schemas.errors import BrokerError, ClockError, FencedError
from streams.observability.metrics import Metrics
from streams.runtime.app import Layout, ShardApp
from streams.runtime.committer import Committer
from streams.runtime.faults import Faults
from streams.runtime.group import Membership
from streams.runtime.overlay import Overlay
from streams.runtime.rebalance import RebalanceTimes
from streams.runtime.settings import RuntimeSettings
from streams.runtime.tenancy import Tenancy
from streams.runtime.transport import Poll, Tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from world_log import Broker

    from streams.runtime.ntp import NtpSource

EXPECTED = (FencedError, ClockError, BrokerError)
"""How a worker may fail in a bad world; anything else is a bug."""
LATENCY_S = {
    "_perform": (0.008, 0.045),
    "start": (0.02, 0.2),
    "recover": (0.02, 0.6),
    "positions": (0.005, 0.1),
    "other": (0.001, 0.01),
}


class Consumer:
    """What tenancy and app ask of the consumer."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.tenure: Tenure | None = None
        self.interruptions = 0
        self.queued = 0

    def interrupt(self) -> None:
        self.interruptions += 1
        self.queued = 0

    def worked(self, poll: Poll) -> None:
        if poll.interruptions == self.interruptions:
            self.queued -= poll.count

    async def mark(self, _mark: object) -> None:
        await asyncio.sleep(0.01)
        process = self._process
        if self.tenure is None or not process.coordinator.knows(self.tenure.membership):
            raise CommitFailedError


class Process(ShardApp):
    """One process of one app on one machine."""

    def __init__(
        self,
        machine: Machine,
        broker: Broker,
        layout: Layout,
        app: str,
        make: Callable[[Process], Any],
        ended: Callable[[Process, str], None],
        heartbeat_ms: int,
        poll_s: float,
        met: Callable[[str], None],
    ) -> None:
        self.machine, self.broker, self.layout = machine, broker, layout
        self.ended, self.latency_s, self.poll_s, self.met = ended, LATENCY_S, poll_s, met
        self.settings = RuntimeSettings(
            app=app,
            slot=machine.name,
            bootstrap="-",
            data_dir=Path("unused"),
            heartbeat_ms=heartbeat_ms,
            commit_interval_ms=1_000 if app == "devices" else 100,
        )
        settings = self.settings
        self.loop_ = NodeLoop(machine.schedule, f"{app}-{machine.name}")
        self.loop_.on_error = self.fail
        self.random = machine.random
        self.epoch = 0
        self.failure: BaseException | None = None
        self.clock = machine.clock()
        self.metrics = Metrics(app, machine.name)
        self.group = BootGroup(machine, settings.session_timeout_ms, settings.lease_margin_ms)
        self.coordinator = broker.groups[settings.group]
        self._faults = Faults(frozenset())
        self._handlers: dict[str, Any] = {}
        self._loops: list[Any] = []
        self._before_slice = lambda: None
        self._started: list[Any] = []
        self._store = disk = machine.disk(app)  # type: ignore[assignment]
        disk.crash()
        overlay = Overlay(self._store)
        self._overlay = overlay
        self.transactor = Transactor(self, broker, self.clock, settings.max_skew_ms)
        self.committer = Committer(
            settings,
            self.group,
            self.transactor,  # type: ignore[arg-type]
            self._store,
            overlay,
            layout.changelogs,
            self.metrics,
            self.fail,
        )
        self.threads = Threads(self, machine, self.loop_)
        self.loop_.threads = self.threads  # type: ignore[attr-defined]
        self.committer._thread = self.threads  # type: ignore[assignment]
        self._sim_consumer = Consumer(self)
        self.program = make(self)
        self.tenancy = Tenancy(
            layout.inputs,
            layout.changelogs,
            self.topic,
            (self._store, overlay),
            Recovery(broker, machine.disk(app), settings.group, layout.changelogs, layout.inputs),  # type: ignore[arg-type]
            self.committer,
            self.group,
            self.program,
            self.metrics,
            RebalanceTimes(),
            lambda: self._sim_consumer,  # type: ignore[arg-type,return-value]
        )
        self.member_id = ""
        self.ntp: NtpSource | None = None
        self.books: list[Any] = []
        """The state of each partition that was ever opened, the latest last."""
        self._rejoin = asyncio.Event()
        self._data = asyncio.Event()
        self._fetched: dict[tuple[str, int], int] = {}
        self._empty_s: dict[tuple[str, int], float] = {}
        self._queues: dict[str, asyncio.Queue[Poll]] = {}
        self._waking: set[tuple[str, int]] = set()

    def topic(self, name: str) -> str:
        return name

    def agent(self, topic: str, handler: Any) -> None:
        self._handlers[topic] = handler

    def _consumer(self) -> Any:
        return self._sim_consumer

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to live."""
        self.loop_.call_soon(self._begin)

    def _begin(self) -> None:
        self._spawn(self._run())

    def _spawn(self, work: Any) -> None:
        task = self.loop_.create_task(work)
        self._started.append(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: Any) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.fail(task.exception())

    async def _run(self) -> None:
        if self.ntp is not None:
            await self.ntp.start()
            self._spawn(self.ntp.keep())
        await self.committer.start()
        self.program.attach(self)
        for run in (self.committer.run, *self._loops, self._heartbeats, self._membership):
            self._spawn(run())
        for topic, handler in self._handlers.items():
            self._queues[topic] = asyncio.Queue(2)
            self._spawn(self._agent(topic, handler))
        self._spawn(self.fetch())

    def fail(self, error: BaseException) -> None:
        """Stop the worker: it is in doubt."""
        self.committer.stop_committing()
        if self.failure is None and not self.loop_.dead:
            self.failure = error
            self.loop_.call_later(self.random.uniform(0.0, 0.05), self._end_failed)

    def _end_failed(self) -> None:
        if not self.machine.cut and self.random.random() < 0.5:
            self.coordinator.leave(self.member_id)
        self.die(f"{type(self.failure).__name__}: {self.failure}")

    def die(self, why: str) -> None:
        """End at once."""
        if self.loop_.dead:
            return
        if self.threads.committing and self.random.random() < 0.6:
            self.broker.leave_open(self.settings.transactional_id, self.transactor.last)
        self.loop_.kill()
        self.ended(self, why)

    def stop(self) -> None:
        """End in order (SIGTERM)."""
        self.loop_.call_soon(lambda: self._spawn(self._stop()))

    async def _stop(self) -> None:
        self.tenancy.stopping = True
        await self.tenancy.give_up()
        if self.failure is None:
            if not self.machine.cut:
                self.coordinator.leave(self.member_id)
            self.die("stopped in order")

    def suspend(self) -> None:
        """SIGSTOP."""
        if self.threads.committing and self.random.random() < 0.6:
            self.broker.leave_open(self.settings.transactional_id, self.transactor.last)
        self.loop_.stop_process()

    # -- the group -----------------------------------------------------------------------------

    async def _trip(self) -> None:
        """Wait for a packet's way, and for the cable."""
        await asyncio.sleep(self.random.uniform(0.001, 0.008))
        while self.machine.cut:
            self.met("cut")
            await asyncio.sleep(0.1)

    async def _answered(self) -> None:
        """Wait until answers come back."""
        while self.machine.deaf:
            self.met("deaf")
            await asyncio.sleep(0.1)

    async def _membership(self) -> None:
        consumer, boot_ms = self._sim_consumer, lambda: self.machine.boot_s() * 1000.0
        app = self.settings.app
        if (dead := self.machine.notes.pop(app, "")) and not self.machine.cut:
            self.coordinator.leave(dead)
        while True:
            await self._trip()
            told = self.loop_.create_future()
            self._rejoin.clear()
            self.coordinator.join(
                self.machine.name,
                self.member_id,
                lambda *given, t=told: self.loop_.call_later(0.003, _resolve, t, given),
            )
            generation, self.member_id, numbers = await told
            await self._answered()
            sent_ms = boot_ms()
            await self._trip()
            self.machine.notes[app] = self.member_id
            membership = Membership(generation, self.member_id)
            if self.coordinator.heartbeat(membership) == "unknown":
                self.member_id = ""
                continue
            self.group.renew(sent_ms)
            consumer.tenure = Tenure(
                membership,
                frozenset((t, n) for t in self.layout.inputs for n in numbers),
            )
            await self._on_assigned(consumer.tenure)
            self._spawn(self._take_over(consumer.tenure))
            await self._rejoin.wait()
            consumer.tenure = None
            consumer.interrupt()
            self._fetched.clear()
            await self._on_revoked(None)

    async def _take_over(self, tenure: Tenure) -> None:
        await self._on_rebalance_complete(None)
        if tenure is self._sim_consumer.tenure:
            self._sim_consumer.interrupt()
            self._fetched = dict(self._positions())
            self._sought(self._fetched, self._sim_consumer.interruptions)
            self._empty_s.clear()
            self._data.set()

    async def _heartbeats(self) -> None:
        pause_s = self.settings.heartbeat_ms / 1000.0
        while True:
            await asyncio.sleep(pause_s)
            tenure = self._sim_consumer.tenure
            if tenure is None or self._rejoin.is_set():
                membership = self.group.membership
                if membership is not None and not self.machine.cut:
                    self.coordinator.heartbeat(membership)
                continue
            sent_ms = self.machine.boot_s() * 1000.0
            await self._trip()
            answer = self.coordinator.heartbeat(tenure.membership)
            await self._answered()
            match answer:
                case "ok" if not self._rejoin.is_set():
                    self.group.renew(sent_ms)
                case "rebalance":
                    self._rejoin.set()
                case "unknown" if tenure is self._sim_consumer.tenure:
                    self.group.lost()
                    self.member_id = ""
                    self._rejoin.set()

    # -- records -------------------------------------------------------------------------------

    def wake(self, topic: str, partition: int) -> None:
        """There is something new to be read."""
        at = (topic, partition)
        if topic not in self._handlers or at not in self._fetched or at in self._waking:
            return
        self._waking.add(at)
        self.machine.schedule.after(self.random.uniform(0.001, 0.03), self._woken, at)

    def _woken(self, at: tuple[str, int]) -> None:
        self._waking.discard(at)
        if not self.loop_.dead:
            self._data.set()

    async def fetch(self) -> None:
        """Read what is new and hand it on, one poll a topic."""
        consumer = self._sim_consumer
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._data.wait(), self.poll_s)
            self._data.clear()
            if self.machine.cut or self.machine.deaf or consumer.tenure is None:
                continue
            interruptions = consumer.interruptions
            by_topic: dict[str, dict[int, list[Any]]] = {}
            places = sorted(self._fetched)
            self.random.shuffle(places)  # no order holds between partitions
            if places != sorted(places):
                self.met("partitions_reordered")
            for topic, number in places:
                position = self._fetched[topic, number]
                again = self.random.random() < 0.02
                if again and position:
                    self.met("delivered_again")
                first = max(position - 3, 0) if again else position
                found = self.broker.read(topic, number, first, self.random.choice((5, 200, 2_000)))
                if found and found[-1].offset >= position:
                    by_topic.setdefault(topic, {})[number] = found
                    self._data.set()
                else:
                    self._empty_s[topic, number] = self.loop_.time()
            for topic, partitions in by_topic.items():
                poll = Poll(topic, partitions, interruptions)
                await self._queues[topic].put(poll)
                if interruptions != consumer.interruptions:
                    break
                consumer.queued += poll.count
                for number, found in partitions.items():
                    self._fetched[topic, number] = found[-1].offset + 1

    async def _agent(self, topic: str, handler: Any) -> None:
        while True:
            poll = await self._queues[topic].get()
            await self._work(topic, poll, handler)
            self._sim_consumer.worked(poll)

    def read_up_to_ms(self, topic: str, partition: int) -> int | None:
        owned = self.partitions.get(partition)
        at_s = self._empty_s.get((topic, partition))
        if owned is None or self.tenancy.stopping or at_s is None:
            return None
        if self.broker.read(topic, partition, owned.positions[topic], 1) and not self.machine.cut:
            return None
        return self.clock.now_ms() - round((self.loop_.time() - at_s) * 1000.0)


def _resolve(future: Any, value: Any) -> None:
    if not future.done():
        future.set_result(value)
