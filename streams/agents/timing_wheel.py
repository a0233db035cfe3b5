"""The timing wheel: schedule.events, profiles, device events in; ticks, decisions, commands out.

The only writer of schedule.ticks, schedule.decisions and capture.commands.

It decides nothing itself. Events are decoded and checked (what is bad is dead-lettered and refused
with its reason); the good ones of a slice become the changes of a tick, the tick is folded by
``streams.core.shard.advance``, and tick, decisions, commands, rows and the input offset go out in
one step. What profiles and device events say about devices (``device_facts.py``) becomes the facts
of a tick in the same way. Without any of these a tick is made when a command is due to be issued,
looked at on each 100 ms boundary (SPEC 1.2), or when a second has passed.

The tick's time is this worker's clock, never less than the tick before. The broker's append time
of the ticks is compared with the clock before each commit: a wheel whose clock is wrong stops
instead of writing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from schemas.errors import ClockError, DecodeError
from schemas.records import (
    DeviceFacts,
    Record,
    Refused,
    RequestState,
    ScheduleEvent,
    ScheduleTick,
    ShardState,
    TickChange,
    TickSettings,
)
from streams.agents import device_facts
from streams.agents.clock_notes import ClockNotes
from streams.agents.device_facts import DeviceFactReader
from streams.agents.read_ahead import ReadAhead
from streams.agents.schedule_rows import schedule_rows
from streams.core import ids
from streams.core.recurrence import TZ_VERSION
from streams.core.schedule import validate
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.runtime.app import Layout
from streams.runtime.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from schemas.records import DeviceFact
    from streams.agents.snapshots import Snapshots
    from streams.observability.metrics import Metrics
    from streams.runtime.app import ShardApp
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Partition, Step
    from streams.runtime.settings import RuntimeSettings
    from streams.runtime.store import Store

R = TypeVar("R", bound=Record)

APP = "wheel"
EVENTS, TICKS, DECISIONS, COMMANDS = (
    "schedule.events",
    "schedule.ticks",
    "schedule.decisions",
    "capture.commands",
)
INPUTS = (EVENTS, device_facts.PROFILES, device_facts.EVENTS)
CHANGELOGS = {
    "schedules": "wheel.schedules.changelog",
    "shards": "wheel.shards.changelog",
    "requests": "wheel.requests.changelog",
    "facts": "wheel.facts.changelog",
}
BOUNDARY_MS = 100
"""How often the wheel looks for what is due (SPEC 1.2)."""
IDLE_TICK_MS = 1_000
"""At least this often each partition ticks where there are up to 250 of them."""
IDLE_TICK_MS_A_PARTITION = 4
"""So many times their number where there are more: each tick costs the broker a marker."""
SHOWN = 256
"""Most characters of an id in an answer: one that is refused may be of any length."""
EVENT_TYPES = ScheduleEvent.__args__


def layout(partitions: int) -> Layout:
    """Return the topics and tables of the wheel app."""
    return Layout(INPUTS, CHANGELOGS, partitions)


@dataclass(frozen=True, slots=True)
class WheelSettings:
    """What the wheel writes into each tick, because it decides."""

    notice_ms: int = 2_500
    """A new schedule starts this long after the tick that accepted it, so that a manifest of many
    is issued before the first of them is due. 0 to 60,000."""
    max_fires: int = 500
    """About the most commands of one tick, so that a step stays short. 1 to 100,000."""
    capacity_per_shard: int = 0
    """Captures a second that each of the 1,024 logical shards is to have at most; what exceeds it
    is moved forward as far as each schedule tolerates. 0: no bound; at most 100,000."""
    snapshot_every_ms: int = 86_400_000
    """How often each partition's state is written down for audits; 0: never. Else 1 s to 30 days,
    as ticks are kept no longer."""
    tz_version: str = TZ_VERSION
    """Version of the time zone data by which this process works times out."""

    def for_tick(self) -> TickSettings:
        """Return the part that stands in a tick."""
        return TickSettings(
            notice_ms=self.notice_ms,
            max_fires=self.max_fires,
            capacity_per_shard=self.capacity_per_shard,
        )


class TimingWheel:
    """The program of the wheel app."""

    def __init__(
        self,
        settings: RuntimeSettings,
        wheel: WheelSettings,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        partitions: int,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Take the parts; ``attach`` puts the wheel to work in an app."""
        self._snapshots = snapshots
        self._settings = settings
        self._wheel = wheel
        self._tick_settings = wheel.for_tick()
        self._codec = codec
        self._clock = clock
        self._clock_notes = ClockNotes(clock)
        self._metrics = metrics
        self._partitions = partitions
        self._idle_tick_ms = max(IDLE_TICK_MS, IDLE_TICK_MS_A_PARTITION * partitions)
        self._dead = DeadLetters(APP, codec, clock, metrics)
        self._facts = DeviceFactReader(codec, self._dead, partitions)
        self._states: dict[int, PartitionState] = {}
        self._app: ShardApp | None = None
        self._ahead: ReadAhead[PartitionState] | None = None
        metrics.wheel_timers.bind(lambda: sum(len(s.wheel) for s in self._states.values()))
        metrics.schedules.bind(lambda: sum(s.schedule_count for s in self._states.values()))

    def attach(self, app: ShardApp) -> None:
        """Register the agent and the clock with the app."""
        self._app = app
        app.agent(EVENTS, self.on_events)
        app.agent(device_facts.PROFILES, self.on_profiles)
        app.agent(device_facts.EVENTS, self.on_device_events)
        app.loop(self.on_clock)
        store = app.store
        self._ahead = ReadAhead(store, CHANGELOGS, lambda number: self._state(store, number))
        self._ahead.start(range(self._partitions))

    # -- life cycle ----------------------------------------------------------------------------

    def opened(self, partition: Partition) -> None:
        """Build the wheel from the rows, unless that was done while the group was joined."""
        state = self._ahead.take(partition.number) if self._ahead is not None else None
        if state is None:
            state = self._state(partition.store, partition.number)
        self._states[partition.number] = partition.state = state

    def _state(self, store: Store, number: int) -> PartitionState:
        state = PartitionState(number, self._partitions)
        state.load(
            schedule_rows(store.scan_values("schedules", number), self._codec),
            self._rows(store, number, "shards", ShardState),
            self._rows(store, number, "requests", RequestState),
            self._rows(store, number, "facts", DeviceFacts),
        )
        return state

    def _rows(self, store: Store, number: int, table: str, cls: type[R]) -> Iterator[R]:
        for _, value in store.scan(table, number):
            yield self._codec.decode_as(value, cls)

    async def pausing(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Hand nothing over: what falls due in the pause waits, covered by the lead."""
        return 0

    def resumed(self, partition: Partition) -> None:
        """Nothing was held back: the next tick has all of it."""

    async def drain(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Nothing is in flight between two steps of a wheel."""
        return 0

    def closed(self, partition: Partition) -> None:
        """Forget a partition."""
        self._states.pop(partition.number, None)
        if self._snapshots is not None:
            self._snapshots.forget(partition.number)

    # -- records -------------------------------------------------------------------------------

    def on_events(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        """Make a tick of the valid events of a slice."""
        changes: list[TickChange] = []
        now_ms = self._tick_time(partition.state)
        for record in records:
            event = self._event(partition, record, step, now_ms)
            if event is not None:
                changes.append(TickChange(record.offset, event))
        if changes:
            self._tick(partition, step, now_ms, tuple(changes))

    def on_profiles(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        """Make a tick of what profiles say that the fold does not know."""
        self._learn(partition, step, self._facts.of_profiles(partition, records))

    def on_device_events(
        self, partition: Partition, records: list[ConsumerRecord], step: Step
    ) -> None:
        """Make a tick of what device events say that the fold does not know."""
        self._learn(partition, step, self._facts.of_events(partition, records, step))

    def _learn(self, partition: Partition, step: Step, facts: tuple[DeviceFact, ...]) -> None:
        if facts:
            self._tick(partition, step, self._tick_time(partition.state), (), facts)

    def _event(
        self, partition: Partition, record: ConsumerRecord, step: Step, now_ms: int
    ) -> ScheduleEvent | None:
        """Return the event, or ``None`` once it has been dead-lettered and refused."""
        try:
            event = self._codec.decode(record.value or b"")
        except DecodeError as error:
            self._dead.write(step, record, EVENTS, error.code, str(error))
            return None
        if not isinstance(event, EVENT_TYPES):
            reason = f"{type(event).__name__} is no schedule event."
            self._dead.write(step, record, EVENTS, "wrong_record", reason)
            return None
        found = cast("ScheduleEvent", event)
        refusal = validate(found)
        code, reason = (refusal.code, refusal.reason) if refusal is not None else ("", "")
        if not code and ids.partition_of(found.device_id, self._partitions) != partition.number:
            code = "wrong_partition"
            reason = (
                f"Device {found.device_id!r} belongs to partition "
                f"{ids.partition_of(found.device_id, self._partitions)}, not {partition.number}: "
                "partition by Kafka's murmur2 of the device id (librdkafka: murmur2_random)."
            )
        if not code:
            return found
        self._dead.write(step, record, EVENTS, code, reason)
        refused = Refused(
            found.request_id[:SHOWN],
            found.device_id[:SHOWN],
            getattr(found, "schedule_id", "")[:SHOWN],
            now_ms,
            code,
            reason,
        )
        step.produce(DECISIONS, refused.device_id.encode(), self._codec.encode(refused))
        self._metrics.decisions.inc("Refused")
        return None

    # -- time ----------------------------------------------------------------------------------

    async def on_clock(self) -> None:
        """Look on each boundary which partitions are due for a tick."""
        app = self._app
        assert app is not None
        try:
            while True:
                now_ms = self._clock.now_s() * 1000.0
                left_s = (BOUNDARY_MS - now_ms % BOUNDARY_MS) / 1000.0
                await asyncio.sleep(self._clock.wait_s(left_s))
                if app.ready():
                    self._forget_ahead()
                look_ms, skew_ms = self._clock.now_ms(), self._settings.max_skew_ms
                for partition in list(app.partitions.values()):
                    if not partition.open:
                        continue
                    state = partition.state
                    behind = look_ms < state.clock_ms - skew_ms  # said by a tick
                    if look_ms >= self._due_ms(state) or behind:
                        await self._catch_up(app, partition)
                    if self._snapshots is not None:
                        self._snapshots.look(
                            app, partition, look_ms, partial(self._idle, partition)
                        )
        finally:
            self._forget_ahead()

    def _forget_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.forget()
            self._ahead = None

    async def _catch_up(self, app: ShardApp, partition: Partition) -> None:
        """Tick until nothing is due; a step issues a bounded number of commands."""
        while partition.open and self._is_due(partition.state):
            await app.committer.room()
            if not partition.open:
                return
            with app.step(partition) as step:
                # Now, not before the wait: an event may have made a tick meanwhile.
                self._idle(partition, step)
            await asyncio.sleep(0)

    def _idle(self, partition: Partition, step: Step) -> None:
        """Make a tick of what is due by now, be that nothing."""
        self._tick(partition, step, self._tick_time(partition.state), ())

    def _is_due(self, state: PartitionState) -> bool:
        return self._tick_time(state) >= self._due_ms(state)

    def _due_ms(self, state: PartitionState) -> int:
        """Return when a tick is due: commands have waited their slack, or none was for a while.

        What a tick had to leave over (``max_fires``) has waited: the next one is due at once.
        The slack lets commands that have time gather into a tick a second, as each transaction
        costs the broker a marker a partition it touched: a fifth of the least lead of the
        partition's schedules, a second at most. It moves ticks, not what they decide.
        """
        due_ms = state.next_due_ms()
        if due_ms is None:
            return state.clock_ms + self._idle_tick_ms
        if due_ms <= state.clock_ms:
            return state.clock_ms
        slack_ms = min(IDLE_TICK_MS, state.least_lead_ms // 5)
        return min(due_ms + slack_ms, state.clock_ms + self._idle_tick_ms)

    def _tick_time(self, state: PartitionState) -> int:
        """Return the time of the next tick: the clock's, and never less than the last tick's."""
        now_ms = self._clock.now_ms()
        if now_ms < state.clock_ms - self._settings.max_skew_ms:
            raise ClockError(
                f"This machine's clock is {state.clock_ms - now_ms:,} ms behind the last tick of "
                f"partition {state.partition}, more than {self._settings.max_skew_ms:,} ms."
            )
        return max(now_ms, state.clock_ms)

    def _tick(
        self,
        partition: Partition,
        step: Step,
        now_ms: int,
        changes: tuple[TickChange, ...],
        facts: tuple[DeviceFact, ...] = (),
    ) -> None:
        """Make one tick, fold it, and put all of it into the step."""
        tick = ScheduleTick(
            partition=partition.number,
            partitions=self._partitions,
            time_ms=now_ms,
            rules_version=RULES_VERSION,
            tz_version=self._wheel.tz_version,
            settings=self._tick_settings,
            changes=changes,
            clock=self._clock_notes.take(partition.number),
            facts=facts,
            previous_ms=partition.state.clock_ms,
        )
        outputs = advance(partition.state, tick)
        encode, metrics = self._codec.encode, self._metrics
        step.produce(TICKS, str(partition.number).encode(), encode(tick))
        step.clocked(TICKS)
        for decision in outputs.decisions:
            step.produce(DECISIONS, decision.device_id.encode(), encode(decision))
            metrics.decisions.inc(type(decision).__name__)
        for command in outputs.commands:
            step.produce(COMMANDS, command.device_id.encode(), encode(command))
        for (table, key), row in outputs.rows.items():
            step.put(table, key, None if row is None else encode(row))
        revoked = sum(1 for c in outputs.commands if type(c).__name__ == "CaptureRevoked")
        metrics.ticks.inc()
        metrics.commands_revoked.inc(revoked)
        metrics.commands_issued.inc(len(outputs.commands) - revoked)
