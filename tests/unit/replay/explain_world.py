"""A partition of the system in one thread: the real fold and the real state machine, into a log.

Time is the test's. What the wheel's agent does around the fold (validate, dead-letter, answer) and
the executor around the state machine (arm, open, retry) is done here in their order, without I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import msgspec

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.ids import FingerprintIds
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureRevoked,
    CaptureTimings,
    ClockState,
    DeadLetter,
    DeviceCaptures,
    DeviceFact,
    DeviceFailing,
    DeviceProfile,
    ImageRef,
    OpenCapture,
    PartitionSnapshot,
    Record,
    Refused,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from streams.core import capture, ids
from streams.core.schedule import validate
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.state_hash import state_hash
from streams.replay.audit_state import Row, rows_of
from streams.replay.log import MemoryLog

CODEC = Codec(FingerprintIds())
PARTITIONS = 4
DEVICE = "cam-1"
PARTITION = ids.partition_of(DEVICE, PARTITIONS)
T0 = 1_796_126_400_000
"""2026-12-01T12:00:00Z, a Tuesday."""
ARM_MS = 300
TOPICS = (
    "schedule.events",
    "schedule.ticks",
    "schedule.decisions",
    "capture.commands",
    "capture.results",
    "dead.letters",
    "device.profiles",
    "device.events",
    "wheel.schedules.changelog",
    "wheel.shards.changelog",
)
CHANGELOGS = {"schedules": TOPICS[-2], "shards": TOPICS[-1]}


class Shot(NamedTuple):
    """What a camera does: a photo (no cause), or a cause, a sentence, and whether to try again."""

    cause: str = ""
    message: str = ""
    retry: bool = True
    took_ms: int = 100
    lost: bool = False
    """Its worker dies in the middle."""


Camera = Callable[[CaptureCommand, int], Shot]


class World:
    """One partition; ``ms`` of all methods counts from T0."""

    snapshot_every = 0
    """A snapshot after so many ticks; 0: none."""

    def __init__(self, **settings: Any) -> None:
        self.log = MemoryLog(PARTITIONS)
        for topic in TOPICS:
            self.log.append(topic, 0, None, None, T0)
            self.log.entries(topic, 0).clear()
        self.settings = TickSettings(**settings)
        self.state = PartitionState(PARTITION, PARTITIONS)
        self.now = 0
        self.wheel = self.captures = True
        self.clock: ClockState | None = None
        self.facts: list[DeviceFact] = []
        self.tz_version = ""
        self.camera: Camera = lambda _command, _attempt: Shot()
        self.commands: list[CaptureCommand] = []
        self._read = {"events": 0, "commands": 0}
        self._rows: dict[str, DeviceCaptures] = {}
        self._due: list[tuple[int, int, OpenCapture]] = []
        self._count = count()
        self._requests = count(1)
        self._ticks = 0
        self.held: set[str] = set()
        """Devices whose shutters do not open: no lease, a full pool."""
        self.files: dict[str, list[Row]] = {}
        """The rows of snapshots, by URI."""

    # --- upstream -------------------------------------------------------------------------------

    def _id(self) -> str:
        return f"r{next(self._requests)}"

    def upsert(self, spec: ScheduleSpec | None = None, schedule="door", request=None, **policy):
        """An event; every minute by default."""
        spec = spec or ScheduleSpec("interval", every_ms=60_000)
        return ScheduleUpserted(
            request or self._id(), DEVICE, schedule, spec, CapturePolicy(**policy), T0 + self.now
        )

    def cancel(self, schedule="door"):
        return ScheduleCancelled(self._id(), DEVICE, schedule, T0 + self.now)

    def pause(self, reason="rain", schedule="door"):
        return SchedulePaused(self._id(), DEVICE, schedule, reason, T0 + self.now)

    def resume(self, schedule="door", request=None):
        return ScheduleResumed(request or self._id(), DEVICE, schedule, T0 + self.now)

    def request(self, ms: int | None = None, **policy):
        at_ms = None if ms is None else T0 + ms
        return CaptureRequested(self._id(), DEVICE, at_ms, CapturePolicy(**policy), T0 + self.now)

    def publish(self, *events: Record) -> None:
        for event in events:
            self.append("schedule.events", event)

    def profile(self, **fields: Any) -> None:
        one = DeviceProfile(DEVICE, "http://10.0.0.7/", "http-snapshot", **fields)
        self.append("device.profiles", one)

    def append(self, topic: str, record: Record, key: str = DEVICE, partition=PARTITION) -> int:
        value = CODEC.encode(record)
        return self.log.append(topic, partition, key.encode(), value, T0 + self.now)

    def raw(self, topic: str, value: bytes, partition: int = PARTITION) -> int:
        """Write bytes that need not be a record."""
        return self.log.append(topic, partition, DEVICE.encode(), value, T0 + self.now)

    # --- time -----------------------------------------------------------------------------------

    def run(self, ms: int) -> None:
        """Let time pass, a second a step."""
        while self.now < ms:
            self.now = min(self.now + 1_000, ms)
            self.step()

    def step(self) -> None:
        """One tick of the wheel, and what the executor has to do."""
        if self.wheel:
            self.tick()
        if self.captures:
            self.execute()

    def tick(self) -> None:
        changes: list[TickChange] = []
        for entry in self._new("schedule.events", "events"):
            try:
                event: Any = CODEC.decode(entry.value or b"")
            except DecodeError as error:
                self._letter("schedule.events", entry, error.code, str(error))
                continue
            refusal = validate(event)
            if refusal is None:
                changes.append(TickChange(entry.offset, event))
                continue
            self._letter("schedule.events", entry, refusal.code, refusal.reason)
            self.append("schedule.decisions", Refused(
                event.request_id, event.device_id, event.schedule_id, T0 + self.now,
                refusal.code, refusal.reason,
            ))  # fmt: skip
        facts, self.facts = tuple(self.facts), []
        tick = ScheduleTick(
            PARTITION, PARTITIONS, T0 + self.now, RULES_VERSION, self.tz_version, self.settings,
            tuple(changes), facts, self.clock,
        )  # fmt: skip
        outputs = advance(self.state, tick)
        self.append("schedule.ticks", tick, key=str(PARTITION))
        for decision in outputs.decisions:
            self.append("schedule.decisions", decision, key=decision.device_id)
        for command in outputs.commands:
            self.append("capture.commands", command, key=command.device_id)
            if isinstance(command, CaptureCommand):
                self.commands.append(command)
        for (table, key), row in outputs.rows.items():
            if table in CHANGELOGS:
                value = None if row is None else CODEC.encode(row)
                self.log.append(CHANGELOGS[table], PARTITION, key, value, T0 + self.now)
        self._ticks += 1
        if self.snapshot_every and self._ticks % self.snapshot_every == 0:
            self.snapshot()

    def snapshot(self) -> None:
        """Write down the state as the last tick left it, as the wheel's agent does."""
        ticks, events = (self.log.ends(topic)[PARTITION] for topic in TOPICS[1::-1])
        uri, rows = f"memory:///{ticks}", list(rows_of(self.state, CODEC))
        self.files[uri] = rows
        snapshot = PartitionSnapshot(
            PARTITION, PARTITIONS, ticks - 1, events, self.state.time_ms, RULES_VERSION, "",
            state_hash(rows), uri, 100, len(rows), self.state.schedule_count,
        )  # fmt: skip
        self.append("schedule.ticks", snapshot, key=str(PARTITION))

    def rows(self, snapshot: PartitionSnapshot) -> list[Row]:
        """Read the rows of a snapshot back."""
        return self.files[snapshot.uri]

    def _letter(self, topic: str, entry: Any, code: str, reason: str, partition=PARTITION) -> None:
        letter = DeadLetter(
            topic, partition, entry.offset, entry.timestamp_ms, entry.key, entry.value, code,
            reason, "wheel", T0 + self.now,
        )  # fmt: skip
        self.append("dead.letters", letter, partition=partition)

    def letter(self, topic: str, offset: int, code: str, reason: str, partition=PARTITION) -> None:
        """Dead-letter a record that stands in a topic."""
        (entry,) = [e for e in self.log.entries(topic, partition) if e.offset == offset]
        self._letter(topic, entry, code, reason, partition)

    def _new(self, topic: str, mark: str) -> list[Any]:
        entries = self.log.entries(topic, PARTITION)[self._read[mark] :]
        self._read[mark] += len(entries)
        return entries

    # --- captures -------------------------------------------------------------------------------

    def row(self, device_id: str = DEVICE) -> DeviceCaptures:
        return self._rows.get(device_id) or DeviceCaptures(device_id)

    def change(self, change: capture.Change, at_ms: int | None = None) -> None:
        """Write what an event of the state machine has led to."""
        self._rows[change.state.device_id] = change.state
        for result in change.results:
            self.append("capture.results", result, key=result.device_id)
        for event in change.events:
            self.append("device.events", event, key=event.device_id)
            if isinstance(event, DeviceFailing):
                told = DeviceFact(
                    event.device_id, "failing", failures=event.failures, cause=event.cause
                )
            else:
                told = DeviceFact(event.device_id, "recovered")
            self.facts.append(told)
        for entry in change.arm:
            at_ms = capture.not_before_ms(entry) - ARM_MS
            heapq.heappush(self._due, (at_ms, next(self._count), entry))

    def execute(self) -> None:
        """Take new commands in, then do what has come due, in its order."""
        now_ms = T0 + self.now
        for entry in self._new("capture.commands", "commands"):
            found: Any = CODEC.decode(entry.value or b"")
            row = self.row(found.device_id)
            if isinstance(found, CaptureRevoked):
                self.change(capture.on_revoked(row, found, now_ms))
            else:
                self.change(capture.on_command(row, found, now_ms))
        while self._due and self._due[0][0] <= now_ms:
            at_ms, _, entry = heapq.heappop(self._due)
            command_id = entry.command.command_id
            row = self.row(entry.command.device_id)
            known = capture.find(row, command_id)
            if not isinstance(known, OpenCapture) or known.state != "PENDING":
                continue
            late_ms = max(at_ms, now_ms - 1_000)
            change = capture.on_arming(row, command_id, late_ms, "armed by slot 0 in generation 1")
            self.change(change)
            for running in change.shutter:
                self._shoot(running, max(late_ms, capture.not_before_ms(running)))

    def _shoot(self, entry: OpenCapture, shutter_ms: int) -> None:
        command = entry.command
        row = self.row(command.device_id)
        if command.device_id in self.held:
            return
        if capture.shutter_decision(shutter_ms, entry, lease_alive=True, row=row) == "overlap_skip":
            self.change(capture.on_overlapped(row, command.command_id, shutter_ms))
            return
        shot = self.camera(command, entry.attempt)
        end_ms = shutter_ms + shot.took_ms
        if shot.lost:
            return
        if shot.cause:
            self.change(
                capture.on_failure(
                    row, command.command_id, shot.cause, shot.message, shutter_ms, end_ms,
                    retryable=shot.retry,
                )
            )  # fmt: skip
            return
        timings = CaptureTimings(float(shot.took_ms), 1.0)
        image = IMAGE
        if command.keep_ms:
            until_ms = command.scheduled_ms + command.keep_ms
            image = msgspec.structs.replace(IMAGE, keep_until_ms=until_ms)
        self.change(capture.on_success(row, command.command_id, image, timings, shutter_ms, end_ms))

    def give_up(self, command: CaptureCommand, cause: str, ms: int) -> None:
        """End a capture EXPIRED, as the admission and the executor do."""
        self.change(capture.on_expired(self.row(), command.command_id, T0 + ms, cause))

    def recover(self, command: CaptureCommand, ms: int, image: ImageRef | None = None) -> None:
        """A new worker finds a capture RUNNING."""
        self.change(capture.on_recovered(self.row(), command.command_id, T0 + ms, image))

    def command_at(self, ms: int) -> CaptureCommand:
        """The latest command that is scheduled then."""
        return next(c for c in reversed(self.commands) if c.scheduled_ms == T0 + ms)


IMAGE = ImageRef("file:///photos/cam-1/1.jpg", "ab" * 32, 1_234, 64, 48, "jpeg")
