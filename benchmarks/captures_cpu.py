"""CPU of a capture, stage by stage, in one process and without Kafka.

A captures worker's own parts (executor, state machine, codec, committer, RocksDB), with a null
camera and pictures in memory, are driven by hand through the stages of a capture: all commands of a
round arrive, then all are armed, then all shutters open, with a commit after each. Only the
transactions are made up: they perform nothing. So what is missing to a worker's CPU is consuming,
producing, and the waking up of an event loop that has little to do at a time.

The figures are CPU time of the process (user and system, all threads) by capture, so what else the
machine does touches them little (by the caches it shares); of ``ROUNDS`` rounds the least counts.

* ``arrive``: a command decoded, checked, PENDING written, its arming set; in slices of a poll;
* ``arm``: RUNNING written;
* ``shutter``: the shutter opened, the picture taken and stored, SUCCESS decided and written;
* ``commit_…``: the commit after each: changelog records made of rows, rows into RocksDB.

A round is five minutes, as in a fleet of that period: what a device's row remembers is forgotten by
its next capture. Three of four devices are those of the round before.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any, Final, cast

import uvloop

from benchmarks.load import PARTITIONS, device_ids
from benchmarks.result import Row, rows_of
from connectors.blobs.store import BlobStore
from connectors.cameras.null_camera import PROTOCOL as NULL_CAMERA
from connectors.cameras.registry import Cameras
from connectors.clients import events
from schemas.codec import Codec
from schemas.errors import ShutterwheelError
from schemas.ids import FingerprintIds
from schemas.records import CaptureCommand
from shutterwheel.photos import CameraPhotos
from shutterwheel.worker import GC_THRESHOLDS
from streams.agents import device_profiles
from streams.agents.capture_executor import CHANGELOGS, COMMANDS, CaptureExecutor
from streams.agents.capture_settings import SLICE_RECORDS, ExecutorSettings
from streams.core import ids
from streams.observability.metrics import Metrics
from streams.runtime.clock import Clock
from streams.runtime.committer import Committer
from streams.runtime.fetched import PlainRecord
from streams.runtime.group import Group, boottime_ms
from streams.runtime.overlay import Overlay
from streams.runtime.partition import Partition
from streams.runtime.settings import RuntimeSettings
from streams.runtime.store import Store
from streams.runtime.transaction import Committed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from streams.runtime.app import ShardApp
    from streams.runtime.batch import Batch
    from streams.runtime.partition import Step
    from streams.runtime.transaction import Transactor

CAPTURES: Final = 5_000
QUICK_CAPTURES: Final = 2_000
ROUNDS: Final = 12
QUICK_ROUNDS: Final = 3
PERIOD_MS: Final = 300_000
LEAD_MS: Final = 5_000
TURNS: Final = 100
"""Turns of the loop beyond one a capture, in which all captures of a round end."""
START_MS: Final = 1_800_000_000_000
STAGES: Final = ("arrive", "commit_arrive", "arm", "commit_arm", "shutter", "commit_shutter")


class HandClock(Clock):
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = START_MS

    def now_s(self) -> float:
        """Return UTC seconds."""
        return self.ms / 1000.0


class NoTransactions:
    """Stands for a ``Transactor``: everything is committed at once, and nowhere."""

    def start(self) -> None:
        """Do nothing."""

    def perform(self, batch: Batch, marks: frozenset[str]) -> Committed:
        """Return the end offsets of what a broker would have taken."""
        done = Committed()
        for topic, messages in batch.outputs.items():
            if topic in marks:
                for _, _, partition in messages:
                    done.changelog_offsets[topic, partition] = 1
        return done

    def close(self) -> None:
        """Do nothing."""


class OfflineApp:
    """What the executor sees of a ``ShardApp``: partitions, steps and commits, without Kafka."""

    def __init__(self, settings: RuntimeSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.group = Group(settings.session_timeout_ms, settings.lease_margin_ms)
        self.group.joined(1, "member")
        self.partitions: dict[int, Partition] = {}
        self.errors: list[BaseException] = []
        self.store = Store(
            settings.state_dir / "state", tuple(CHANGELOGS),
            block_cache_bytes=settings.block_cache_bytes,
            row_cache_bytes=settings.row_cache_bytes,
            unwritten_bytes=settings.unwritten_bytes,
            unwritten_s=settings.unwritten_ms / 1000.0,
        )  # fmt: skip
        overlay = Overlay(self.store)
        transactor = cast("Transactor", NoTransactions())
        self.committer = Committer(
            settings, self.group, transactor, self.store, overlay, CHANGELOGS, metrics, self.fail
        )
        self._overlay = overlay

    def open(self, number: int, program: CaptureExecutor) -> None:
        """Open a partition."""
        positions: dict[str, int] = dict.fromkeys((COMMANDS, device_profiles.TOPIC), 0)
        membership = self.group.membership
        assert membership is not None
        partition = Partition(number, positions, CHANGELOGS, self.store, self._overlay, membership)
        program.opened(partition)
        self.partitions[number] = partition

    def agent(self, *_: object) -> None:
        """Take no agent: records are handed in."""

    def before_slices(self, _look: object) -> None:
        """Slices come by hand, too."""

    def loop(self, _run: object) -> None:
        """Take no loop: nothing here goes by time."""

    def step(self, partition: Partition) -> Step:
        """Begin a step."""
        return self.committer.step(partition)

    def fail(self, error: BaseException) -> None:
        """Note what would have ended the worker."""
        self.errors.append(error)

    def close(self) -> None:
        """Let go of the thread and the files."""
        self.committer.close()
        self.store.close()


class Driver:
    """An executor and what drives it through rounds of captures."""

    def __init__(self, folder: Path, captures: int) -> None:
        settings = RuntimeSettings(app="captures", slot="0", bootstrap="-", data_dir=folder)
        self.metrics = Metrics("captures", "0")
        self.app = OfflineApp(settings, self.metrics)
        self._clock, self._codec = HandClock(), Codec(FingerprintIds())
        self._settings, self._captures = settings, captures
        self._blobs, self._cameras = BlobStore.open("memory://"), Cameras()
        photos = CameraPhotos(self._cameras, self._blobs)
        self.executor = CaptureExecutor(
            settings, ExecutorSettings(max_in_flight=captures), photos, self._codec, self._clock,
            self.metrics, PARTITIONS,
        )  # fmt: skip
        self.executor.attach(cast("ShardApp", self.app))
        for number in range(PARTITIONS):
            self.app.open(number, self.executor)
        self.set_devices(2 * captures)
        self._offsets = dict.fromkeys(range(PARTITIONS), 0)
        self._last_ids: dict[int, int] = {}

    def set_devices(self, count: int) -> None:
        """Set how many devices there are, before they are introduced."""
        self._homes = [
            (device, ids.partition_of(device, PARTITIONS)) for device in device_ids(count)
        ]

    async def close(self) -> None:
        """Close everything."""
        await self._cameras.close()
        self._blobs.close()
        self.app.close()

    def _record(self, topic: str, key: str, home: int, value: bytes) -> PlainRecord:
        offset = self._offsets[home]
        self._offsets[home] = offset + 1
        return PlainRecord(topic, home, offset, self._clock.ms, 1, key.encode(), value, ())

    def introduce(self) -> None:
        """Make the devices known."""
        records: dict[int, list[PlainRecord]] = {number: [] for number in range(PARTITIONS)}
        for device, home in self._homes:
            value = self._codec.encode(events.profile(device, "null:", protocol=NULL_CAMERA))
            records[home].append(self._record(device_profiles.TOPIC, device, home, value))
        devices = self.executor._devices  # noqa: SLF001
        for number, partition in self.app.partitions.items():
            with self.app.step(partition) as step:
                devices.on_profiles(partition, cast("Any", records[number]), step)
        self._offsets = dict.fromkeys(range(PARTITIONS), 0)

    def commands(self, number: int) -> dict[int, list[PlainRecord]]:
        """Return the commands of a round, by partition: three of four devices are the last's."""
        now_ms = self._clock.ms
        found: dict[int, list[PlainRecord]] = {home: [] for home in range(PARTITIONS)}
        first = number * self._captures // 4
        for n in range(self._captures):
            device, home = self._homes[(first + n) % len(self._homes)]
            due_ms = now_ms + LEAD_MS + n * 1_000 // self._captures
            shard = ids.shard_of(device)
            last = self._last_ids.get(shard, 0)
            self._last_ids[shard] = command_id = ids.next_command_id(last, now_ms, shard)
            command = CaptureCommand(
                command_id, device, "bench", "", 1 + n, due_ms - n % 977, due_ms,
                due_ms + PERIOD_MS, 3_000, 0, now_ms,
            )  # fmt: skip
            found[home].append(self._record(COMMANDS, device, home, self._codec.encode(command)))
        return found

    def arrive(self, waiting: dict[int, list[PlainRecord]]) -> None:
        """Hand commands in as the runtime does: a slice of each partition in turn."""
        size = SLICE_RECORDS
        waiting = {number: records for number, records in waiting.items() if records}
        while waiting:
            for number, records in list(waiting.items()):
                part, rest = records[:size], records[size:]
                if rest:
                    waiting[number] = rest
                else:
                    del waiting[number]
                partition = self.app.partitions[number]
                with self.app.step(partition) as step:
                    self.executor.on_commands(partition, cast("Any", part), step)
                    step.consumed(COMMANDS, part[-1].offset + 1)

    async def arm(self) -> None:
        """Let all arming timers go off."""
        while len(self.executor._arming):  # noqa: SLF001
            self.executor._arming._timers._wake()  # noqa: SLF001
            await asyncio.sleep(0)

    async def shutters(self) -> None:
        """Let all shutters open and all captures end.

        Raises:
            ShutterwheelError: some do not, as no time passes for another attempt.

        """
        for _ in range(TURNS + self._captures):
            left = self.metrics.armed_captures.read() + self.metrics.in_flight_captures.read()
            if not left + len(self.executor._ends):  # noqa: SLF001
                return
            self.app.group.renew(boottime_ms())
            self.executor._shutters._wake()  # noqa: SLF001
            await asyncio.sleep(0)
            self.executor._ends.flush()  # noqa: SLF001
        raise ShutterwheelError("captures did not end")

    async def round(self, number: int) -> dict[str, float]:
        """Take a round's captures through all stages; return CPU seconds by stage."""
        self._clock.ms = START_MS + number * PERIOD_MS
        waiting = self.commands(number)
        spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)

        async def commit(stage: str) -> None:
            self.app.group.renew(boottime_ms())  # a shutter may open at once
            began_s = time.process_time()
            await self.app.committer.commit()
            spent[f"commit_{stage}"] += time.process_time() - began_s

        began_s = time.process_time()
        self.arrive(waiting)
        spent["arrive"] = time.process_time() - began_s
        await commit("arrive")
        self._clock.ms += LEAD_MS + 1_000
        began_s = time.process_time()
        await self.arm()
        spent["arm"] = time.process_time() - began_s
        await commit("arm")
        began_s = time.process_time()
        await self.shutters()
        spent["shutter"] = time.process_time() - began_s
        await commit("shutter")
        return spent


async def measure(folder: Path, captures: int, rounds: int) -> list[Row]:
    """Drive so many rounds after one that warms up.

    Raises:
        ShutterwheelError: a capture did not succeed.

    """
    driver, thresholds = Driver(folder, captures), gc.get_threshold()
    try:
        driver.introduce()
        await driver.app.committer.commit()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        found = [await driver.round(number) for number in range(rounds + 1)][1:]
        done = driver.metrics.captures["SUCCESS"]
        if driver.app.errors or done != captures * (rounds + 1):
            raise ShutterwheelError(f"{done} captures succeeded; {driver.app.errors[:1]}")
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        await driver.close()
    least = min(found, key=lambda spent: sum(spent.values()))
    figures: dict[tuple[str, str], float | None] = {
        (f"cpu_us_{stage}", "us"): least[stage] * 1e6 / captures for stage in STAGES
    }
    figures["cpu_us_per_capture", "us"] = sum(least.values()) * 1e6 / captures
    figures["captures", "1"] = captures
    return rows_of(f"offline, {captures:,} captures a round", figures)


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure each number of captures."""
    for captures in options.devices or (QUICK_CAPTURES if options.quick else CAPTURES,):
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
        rig.say(f"{captures:,} captures, {rounds} rounds")
        folder = rig.folder / f"captures-{captures}"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield from runner.run(measure(folder, captures, rounds))
