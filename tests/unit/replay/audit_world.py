"""A small system in memory whose log an audit can read: the real fold, and captures that go well.

One partition. Time moves by ticks; each tick takes the events that were published since, and each
command has its result once its time has passed.
"""

from __future__ import annotations

import hashlib

import msgspec

from schemas.codec import Codec
from schemas.errors import StoreError
from schemas.ids import FingerprintIds
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureResult,
    DeadLetter,
    ImageRef,
    OpenCapture,
    PartitionSnapshot,
    Refused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from streams.core import transition
from streams.core.recurrence import TZ_VERSION
from streams.core.schedule import validate
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.state_hash import state_hash
from streams.replay.audit import TOPICS, AuditOptions, AuditTools, audit_partition
from streams.replay.audit_state import rows_of
from streams.replay.log import MemoryLog

START_MS = 1_800_000_000_000
CODEC = Codec(FingerprintIds())


def upserted(number, device="cam-1", every_ms=10_000, **policy):
    spec = ScheduleSpec("interval", every_ms=every_ms)
    made = CapturePolicy(lead_ms=2_000, **policy)
    return ScheduleUpserted(f"r-{number}", device, "s", spec, made, START_MS)


class World:
    """Writes the log of a partition as the system does."""

    def __init__(self, *, tz_version=TZ_VERSION, rules=RULES_VERSION):
        self.log = MemoryLog(1)
        for topic in TOPICS:
            self.log.append(topic, 0, None, None, 0)
            self.log.entries(topic, 0).clear()
        self.state = PartitionState(0, 1)
        self.now_ms = START_MS
        self.tz_version = tz_version
        self.rules = rules
        self.pictures = {}
        self.files = {}
        self._taken = 0
        self._open = {}

    # -- what the system does --------------------------------------------------------------------

    def write(self, topic, record, at_ms=None):
        value = record if isinstance(record, bytes) else CODEC.encode(record)
        key = getattr(record, "device_id", "").encode()
        return self.log.append(topic, 0, key, value, at_ms or self.now_ms)

    def publish(self, *events):
        for event in events:
            self.write("schedule.events", event)

    def tick(self, by_ms=1_000):
        self.now_ms += by_ms
        changes = []
        for entry in self.log.entries("schedule.events", 0)[self._taken :]:
            self._taken += 1
            event = CODEC.decode(entry.value)
            refusal = validate(event)
            if refusal is None:
                changes.append(TickChange(entry.offset, event))
                continue
            letter = DeadLetter(
                *("schedule.events", 0, entry.offset, entry.timestamp_ms, None, entry.value),
                *(refusal.code, refusal.reason, "wheel", self.now_ms),
            )
            self.write("dead.letters", letter)
            names = (event.request_id[:256], event.device_id[:256], event.schedule_id[:256])
            self.write(
                "schedule.decisions", Refused(*names, self.now_ms, refusal.code, refusal.reason)
            )
        tick = ScheduleTick(
            0, 1, self.now_ms, self.rules, self.tz_version, TickSettings(notice_ms=500),
            tuple(changes), previous_ms=self.state.clock_ms,
        )  # fmt: skip
        offset = self.write("schedule.ticks", tick)
        outputs = advance(self.state, tick)
        for decision in outputs.decisions:
            self.write("schedule.decisions", decision)
        for command in outputs.commands:
            self.write("capture.commands", command)
            if isinstance(command, CaptureCommand):
                self._open[command.command_id] = command
        for command in [c for c in self._open.values() if c.scheduled_ms + 50 <= self.now_ms]:
            del self._open[command.command_id]
            self.write("capture.results", self.result(command))
        return offset

    def run(self, ticks):
        for _ in range(ticks):
            self.tick()
        return self

    def result(self, command, **fields):
        capture = OpenCapture(command, "", 0, 0, ())
        at_ms = command.scheduled_ms
        for before, after, when_ms in (
            ("", "PENDING", command.issued_at_ms),
            ("PENDING", "RUNNING", at_ms - 300),
            ("RUNNING", "SUCCESS", at_ms + 40),
        ):
            capture = transition.step(capture, before, after, when_ms)
        picture = b"jpeg of %d" % command.command_id
        image = ImageRef(
            f"memory:///{command.command_id}.jpg", hashlib.sha256(picture).hexdigest(),
            len(picture), 1, 1, "jpeg",
        )  # fmt: skip
        self.pictures[image.uri] = picture
        made = CaptureResult(
            *(command.command_id, command.device_id, command.schedule_id, command.request_id),
            *(command.epoch, command.nominal_ms, command.scheduled_ms, "SUCCESS", "", 1),
            *(at_ms + 40, at_ms + 1, image, None, capture.transitions),
        )
        return msgspec.structs.replace(made, **fields)

    def snapshot(self, rows=None):
        """Write a snapshot of the last tick, as the wheel does some time after it."""
        ticks = self.log.entries("schedule.ticks", 0)
        rows = list(rows_of(self.state, CODEC)) if rows is None else rows
        uri = f"memory:///snapshots/{ticks[-1].offset}"
        self.files[uri] = rows
        snapshot = PartitionSnapshot(
            0, 1, ticks[-1].offset, self._taken, self.now_ms, self.rules, self.tz_version,
            state_hash(rows), uri, 1, len(rows), self.state.schedule_count,
        )  # fmt: skip
        self.write("schedule.ticks", snapshot)
        return snapshot

    # -- what an audit of it needs ---------------------------------------------------------------

    def read_rows(self, snapshot):
        if snapshot.uri not in self.files:
            raise StoreError(f"{snapshot.uri} is not there.")
        return self.files[snapshot.uri]

    def check_images(self, images):
        def wrong(image):
            data = self.pictures.get(image.uri)
            if data is None:
                return "its picture is not there"
            return "" if hashlib.sha256(data).hexdigest() == image.sha256 else "the SHA-256 differs"

        return [wrong(image) for image in images]

    def audit(self, *, store=True, log=None, **options):
        tools = AuditTools(
            CODEC,
            self.read_rows if store else None,
            self.check_images if store else None,
        )
        return audit_partition(log or self.log, 0, AuditOptions(**options), tools)

    # -- tampering -------------------------------------------------------------------------------

    def entries(self, topic):
        return self.log.entries(topic, 0)

    def find(self, topic, cls, nth=0):
        """Return the place in the list of the nth record of a class, and the record."""
        found = [
            (n, record)
            for n, entry in enumerate(self.entries(topic))
            if isinstance(record := CODEC.decode(entry.value), cls)
        ]
        return found[nth]

    def change(self, topic, at, **fields):
        """Change fields of the record that stands at a place."""
        entry = self.entries(topic)[at]
        record = msgspec.structs.replace(CODEC.decode(entry.value), **fields)
        self.entries(topic)[at] = entry._replace(value=CODEC.encode(record))
        return entry.offset

    def remove(self, topic, at):
        return self.entries(topic).pop(at).offset

    def double(self, topic, at):
        """Put a copy of a record behind it; what follows moves on by one."""
        entries = self.entries(topic)
        behind = [entry._replace(offset=entry.offset + 1) for entry in entries[at:]]
        entries[at + 1 :] = behind
        return behind[0].offset
