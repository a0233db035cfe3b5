"""Device health: device.heartbeats in; DeviceOnline, DeviceOffline and device.loads out.

The only writer of device.loads, and of DeviceOnline and DeviceOffline in device.events: failing and
recovered are the state machine's, as it has counted them already (ADR 0012, 0017).

What a heartbeat means is decided by ``streams.core.health``. This file reads heartbeats (what is
bad is dead-lettered), tells the fold what time it is, and writes what comes out, rows and events in
one step. A heartbeat of a device that stays what it was writes nothing: what its transaction holds
is the offset, and commits gather for a second.

**Which time.** When a device was heard of is the broker's word (device.heartbeats has
LogAppendTime). Up to when silence is known is what has been read: now, where a fetch has found a
partition read to its end, else the time of the last heartbeat worked on. So a worker that is behind
takes nobody for silent whose heartbeats are still to be read. Before anybody is announced the
worker's clock is compared with the broker's, by the changelog's append time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import DeviceHealth
from streams.agents.heartbeats import HeartbeatReader
from streams.core.health import FRESH, Health
from streams.runtime.app import Layout
from streams.runtime.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from streams.core.health import HealthSettings, Outputs
    from streams.observability.metrics import Metrics
    from streams.runtime.app import ShardApp
    from streams.runtime.clock import Clock
    from streams.runtime.partition import Partition, Step
    from streams.runtime.settings import RuntimeSettings

APP: Final = "devices"
HEARTBEATS, EVENTS, LOADS = "device.heartbeats", "device.events", "device.loads"
TABLE: Final = "health"
CHANGELOGS: Final = {TABLE: "devices.health.changelog"}
LOOK_S: Final = 1.0
"""How often silence is looked for."""
APPEND_TIME: Final = 1
"""A record's timestamp type that says that the broker set it."""
PAGE: Final = 5_000
"""The most devices shown at once."""


def suited(settings: RuntimeSettings) -> RuntimeSettings:
    """Return a worker's settings as this app wants them.

    Nothing here is due at a millisecond, so commits gather for a second and slices are long; and no
    row is read but as a partition is opened, so none is cached.
    """
    return replace(
        settings,
        commit_interval_ms=1_000,
        slice_records=500,
        row_cache_bytes=0,
        block_cache_bytes=8 * 1024 * 1024,
    )


def layout(partitions: int) -> Layout:
    """Return the topics and tables of the devices app."""
    return Layout((HEARTBEATS,), CHANGELOGS, partitions)


@dataclass(slots=True)
class Ward:
    """The devices of one partition, and how far its heartbeats were worked on."""

    health: Health
    worked_ms: int = 0
    """Append time of the last heartbeat that was."""


class HealthWatch:
    """The program of the devices app."""

    def __init__(
        self,
        health: HealthSettings,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        partitions: int,
    ) -> None:
        """Take the parts; ``attach`` puts it to work in an app."""
        self._settings = health
        self._codec = codec
        self._clock = clock
        self._metrics = metrics
        self._reader = HeartbeatReader(codec, partitions)
        self._dead = DeadLetters(APP, codec, clock, metrics)
        self._app: ShardApp | None = None
        metrics.online_devices.bind(lambda: sum(w.health.table.online for w in self._wards()))
        metrics.flapping_devices.bind(lambda: sum(w.health.table.flapping for w in self._wards()))
        metrics.known_devices.bind(lambda: sum(len(w.health) for w in self._wards()))
        metrics.blind_spells.bind(lambda: sum(w.health.blind_spells for w in self._wards()))

    def attach(self, app: ShardApp) -> None:
        """Register the agent and the clock with the app."""
        self._app = app
        app.agent(HEARTBEATS, self.on_heartbeats)
        app.loop(self.on_clock)

    @property
    def _owner(self) -> ShardApp:
        if self._app is None:
            raise RuntimeError("device health is attached to no app")
        return self._app

    def _wards(self) -> list[Ward]:
        return [p.state for _, p in sorted(self._owner.partitions.items())] if self._app else []

    # -- life cycle ----------------------------------------------------------------------------

    def opened(self, partition: Partition) -> None:
        """Take the devices up as their rows say; each has a whole timeout from now on."""
        health = Health(self._settings, self._clock.now_ms())
        decode = self._codec.decode_as
        health.load(decode(value, DeviceHealth) for _, value in partition.rows(TABLE))
        partition.state = Ward(health)

    async def pausing(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Hand nothing over."""
        return 0

    def resumed(self, partition: Partition) -> None:
        """Nothing was held back; a pause that was long is a blind spell to the fold."""

    async def drain(self, partitions: list[Partition]) -> int:  # noqa: ARG002
        """Nothing is in flight between two steps."""
        return 0

    def closed(self, partition: Partition) -> None:
        """Forget nothing: the state goes with the partition."""

    # -- heartbeats ----------------------------------------------------------------------------

    def on_heartbeats(
        self, partition: Partition, records: list[ConsumerRecord], step: Step
    ) -> None:
        """Tell the fold of a slice's heartbeats; write what is news."""
        ward: Ward = partition.state
        beat, read, known = ward.health.beat, self._reader.read, ward.health.table.index
        by_broker = records[0].timestamp_type == APPEND_TIME
        now_ms = self._clock.now_ms()
        fresh = 0
        for record in records:
            try:
                values = read(record)
                if record.key not in known:
                    self._reader.check(partition, record.key or b"")
            except DecodeError as error:
                self._dead.write(step, record, HEARTBEATS, error.code, str(error))
                continue
            verdict = beat(record.key or b"", *values, record.timestamp if by_broker else now_ms)
            if verdict is FRESH:
                fresh += 1
            else:
                self._metrics.heartbeats.inc(verdict)
        self._metrics.heartbeats.inc(FRESH, fresh)
        if by_broker:
            ward.worked_ms = max(ward.worked_ms, records[-1].timestamp)
        self._write(partition, ward.health.take(), step)

    # -- time ----------------------------------------------------------------------------------

    async def on_clock(self) -> None:
        """Look for silence, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for partition in list(self._owner.partitions.values()):
                await self._look(partition)

    async def _look(self, partition: Partition) -> None:
        """Bring one partition's time up to what has been read, in pieces."""
        more = True
        while more and partition.open:
            await self._owner.committer.room()
            if not partition.open:
                return
            ward: Ward = partition.state
            read_ms = self._owner.read_up_to_ms(HEARTBEATS, partition.number) or 0
            more = ward.health.advance(max(read_ms, ward.worked_ms))
            outputs = ward.health.take()
            if outputs:
                with self._owner.step(partition) as step:
                    self._write(partition, outputs, step)
            await asyncio.sleep(0)

    def _write(self, partition: Partition, outputs: Outputs, step: Step) -> None:
        encode, metrics = self._codec.encode, self._metrics
        for key, row in outputs.rows.items():
            step.put(TABLE, key, None if row is None else encode(row))
        for event in outputs.events:
            step.produce(EVENTS, event.device_id.encode(), encode(event))
            metrics.device_changes.inc(type(event).__name__)
        for load in outputs.loads:
            step.produce(LOADS, load.device_id.encode(), encode(load))
        if outputs.events:
            # The row of whoever is announced is among the rows: its append time is compared.
            step.clocked(partition.changelogs[TABLE])

    # -- questions -----------------------------------------------------------------------------

    def find(self, number: int, device_id: str) -> DeviceHealth | None:
        """Return what is known of a device of a partition of this worker."""
        partition = self._owner.partitions.get(number)
        return None if partition is None else partition.state.health.row(device_id)

    def page(self, partition: int, after: int) -> tuple[list[DeviceHealth], tuple[int, int] | None]:
        """Return some devices of this worker and where the next ones begin, if there are any.

        Begins in the first partition from ``partition`` on, above number ``after``.
        """
        found: list[DeviceHealth] = []
        for number, ward in self._from(partition):
            start = after if number == partition else -1
            for index, row in ward.health.rows(start, PAGE - len(found)):
                found.append(row)
                if len(found) == PAGE:
                    return found, (number, index)
        return found, None

    def _from(self, first: int) -> Iterator[tuple[int, Ward]]:
        for number, partition in sorted(self._owner.partitions.items()):
            if number >= first:
                yield number, partition.state
