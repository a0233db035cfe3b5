"""Audit: records a second of one core, and what they are made of.

The log of a partition is made up in memory: the real fold of a fleet on a schedule, and results
that the executor's own writer made of its commands. All records of all topics count, as an audit
reads them all; nine of ten are commands and results, the others ticks, events and decisions.

* ``memory``: ``audit_partition`` on that log, in one process: CPU time. ``clean`` with no pictures;
  ``cron``: the same of schedules that are cron lines; ``damaged``: the first with every hundredth
  command and result removed, doubled or changed.
* ``stages``: the same log, each part by itself, one by one and many at once: reading ticks, folding
  them and writing what they make, reading results and comparing them with their commands.
* ``kafka``: the same records in the embedded broker, 8 partitions, by ``shutterwheel audit``'s own
  code with one process and with two: wall time, fetching and starting included.

``--records``: commands of the log.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.options import chosen
from benchmarks.result import Row, rows_of
from benchmarks.seed import Writer
from infra.kafka.admin import create_topics
from schemas.codec import Codec
from schemas.columns import Batch
from schemas.errors import BrokerError
from schemas.ids import FingerprintIds
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CaptureResult,
    CaptureTimings,
    ClockState,
    ImageRef,
    OpenCapture,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from schemas.spliced import CaptureWriter
from schemas.tick_reader import TickReader
from shutterwheel import audit_run
from streams.core import ids, transition
from streams.core.recurrence import TZ_VERSION
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.replay.audit import TOPICS, AuditOptions, AuditTools, audit_partition
from streams.replay.audit_columns import ResultColumns
from streams.replay.audit_events import DECISIONS, EVENTS, TICKS
from streams.replay.audit_open import OpenCommands
from streams.replay.audit_quiet import QuietFold
from streams.replay.audit_results import COMMANDS, RESULTS, TOGETHER
from streams.replay.audit_runs import MOST_TICKS
from streams.replay.log import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from streams.replay.audit import PartitionReport

PARTITIONS: Final = 8
CAPTURES: Final = 200_000
QUICK: Final = 20_000
EVERY_MS: Final = 60_000
LOAD_A_TICK: Final = 200
"""Events that a tick takes, as a slice of a poll."""
MINUTELY: Final = ScheduleSpec("interval", EVERY_MS)
CRON: Final = ScheduleSpec("cron", expression="* * * * *")
START_MS: Final = 1_800_000_000_000
AGO_MS: Final = 86_400_000
DAMAGE_EVERY: Final = 100
ROUNDS: Final = 3
"""Of which the least CPU counts."""
CASES: Final = ("memory", "stages", "kafka")


class World:
    """Makes the log of one partition."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        captures: int,
        spec: ScheduleSpec = MINUTELY,
        start_ms: int = START_MS,
    ) -> None:
        self.partition = partition
        self.codec = Codec(FingerprintIds())
        self.log = MemoryLog(partitions)
        self._state = PartitionState(partition, partitions)
        self._partitions = partitions
        self._writer = CaptureWriter(self.codec)
        self._now_ms = self._start_ms = start_ms
        self._spec = spec
        self._results: list[tuple[int, bytes, bytes]] = []
        self.records = 0
        for topic in TOPICS:
            self.log.append(topic, partition, None, None, 0)
            self.log.entries(topic, partition).clear()
        devices = max(captures // 10, 1)  # ten photos each
        self._publish(devices)
        while self.records_of(COMMANDS) < captures:
            self._tick(())
        for _ in range(70):
            self._tick(())

    def records_of(self, topic: str) -> int:
        """Return how many records a topic has."""
        return len(self.log.entries(topic, self.partition))

    def _publish(self, devices: int) -> None:
        number, changes = 0, []
        spec, policy = self._spec, CapturePolicy(spread_ms=EVERY_MS)
        while devices:
            number += 1
            device = f"cam-{number:07d}"
            if ids.partition_of(device, self._partitions) != self.partition:
                continue
            devices -= 1
            event = ScheduleUpserted(f"r-{number}", device, "hourly", spec, policy, self._start_ms)
            offset = self._write(EVENTS, device, self.codec.encode(event))
            changes.append(TickChange(offset, event))
            if len(changes) == LOAD_A_TICK or not devices:
                self._tick(tuple(changes), by_ms=0)
                changes.clear()

    def _write(self, topic: str, key: str, value: bytes, at_ms: int = 0) -> int:
        self.records += 1
        at_ms = at_ms or self._now_ms
        return self.log.append(topic, self.partition, key.encode(), value, at_ms)

    def _tick(self, changes: tuple[TickChange, ...], by_ms: int = 1_000) -> None:
        self._now_ms += by_ms
        encode = self.codec.encode
        tick = ScheduleTick(
            self.partition, self._partitions, self._now_ms, RULES_VERSION, TZ_VERSION,
            TickSettings(notice_ms=2_500, max_fires=5_000), changes,
            clock=ClockState("ntp", 0.25, 1.5), previous_ms=self._state.clock_ms,
        )  # fmt: skip
        self._write(TICKS, str(self.partition), encode(tick))
        outputs = advance(self._state, tick)
        for decision in outputs.decisions:
            self._write(DECISIONS, decision.device_id, encode(decision))
        for command in outputs.commands:
            value = encode(command)
            self._write(COMMANDS, command.device_id, value)
            if isinstance(command, CaptureCommand):
                ended_ms = command.scheduled_ms + 80
                result = self._result(command, value)
                self._results.append((ended_ms, command.device_id.encode(), result))
        self._results.sort(key=lambda one: one[0])
        while self._results and self._results[0][0] <= self._now_ms:
            ended_ms, key, value = self._results.pop(0)
            self._write(RESULTS, key.decode(), value, ended_ms)

    def _result(self, command: CaptureCommand, value: bytes) -> bytes:
        """Return the result of a photo that went well, as the executor writes it."""
        capture, at_ms = OpenCapture(command, "", 0, 0, ()), command.scheduled_ms
        for before, after, when_ms in (
            ("", "PENDING", command.issued_at_ms + 120),
            ("PENDING", "RUNNING", at_ms - 300 + command.command_id % 7),
            ("RUNNING", "SUCCESS", at_ms + 40 + command.command_id % 31),
        ):
            capture = transition.step(capture, before, after, when_ms)
        digest = hashlib.sha256(value).hexdigest()
        uri = f"file:///photos/{command.device_id}/2027-01-15/{command.command_id}.jpg"
        result = CaptureResult(
            command.command_id, command.device_id, command.schedule_id, command.request_id,
            command.epoch, command.nominal_ms, at_ms, "SUCCESS", "", 1,
            capture.transitions[-1].at_ms, at_ms + command.command_id % 3,
            ImageRef(uri, digest, 120_000 + command.command_id % 9_999, 1920, 1080, "jpeg"),
            CaptureTimings(31.5, 2.25), capture.transitions,
        )  # fmt: skip
        return self._writer.result(result, self._writer.pieces(command, value))

    def audit(self) -> PartitionReport:
        """Audit it."""
        return audit_partition(self.log, self.partition, AuditOptions(), AuditTools(self.codec))

    def damage(self) -> int:
        """Remove, double or change every hundredth command and result; return how many."""
        count = 0
        for topic in (COMMANDS, RESULTS):
            kept = []
            for number, entry in enumerate(self.log.entries(topic, self.partition)):
                if number % DAMAGE_EVERY:
                    kept.append(entry)
                    continue
                count += 1
                if number % 3 == 1:
                    kept += entry, entry
                elif number % 3 == 2:
                    kept.append(entry._replace(value=(entry.value or b"")[:-3] + b"\x02\x04\x06"))
            entries = [one._replace(offset=n) for n, one in enumerate(kept)]
            self.log.entries(topic, self.partition)[:] = entries
        return count


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Run the cases."""
    captures = options.records or (QUICK if options.quick else CAPTURES)
    wanted = chosen(options.cases, CASES, "case")
    if {"memory", "stages"} & set(wanted):
        rig.say(f"making the log of {captures:,} captures")
        world = World(0, 1, captures)
        gc.collect()
        gc.freeze()
        if "memory" in wanted:
            yield from _memory(world, rig)
            yield from _cron(captures, rig)
        if "stages" in wanted:
            yield from _stages(World(0, 1, captures) if "memory" in wanted else world)
    if "kafka" in wanted:
        yield from _kafka(rig, captures)


def _best(world: World, rig: Rig) -> tuple[float, PartitionReport]:
    """Audit a sound log a few times; return the least CPU time."""
    seconds, report = [], world.audit()
    for number in range(ROUNDS):
        rig.say(f"memory, round {number + 1}")
        began_s = time.process_time()
        report = world.audit()
        seconds.append(time.process_time() - began_s)
        if report.counts or report.records != world.records:
            raise BrokerError(f"a sound log is not clean: {report.counts}; this is a bug")
    return min(seconds), report


def _cron(captures: int, rig: Rig) -> Iterator[Row]:
    rig.say(f"making the log of {captures:,} captures by cron lines")
    world = World(0, 1, captures, CRON)
    gc.collect()
    gc.freeze()
    best_s, _ = _best(world, rig)
    yield from rows_of("memory, cron", {("records_per_s_core", "1/s"): world.records / best_s})


def _memory(world: World, rig: Rig) -> Iterator[Row]:
    best_s, report = _best(world, rig)
    yield from rows_of(
        "memory, clean",
        {
            ("records_per_s_core", "1/s"): world.records / best_s,
            ("captures_per_s_core", "1/s"): report.results / best_s,
            ("us_per_record", "us"): best_s / world.records * 1e6,
            ("records", "1"): float(world.records),
        },
    )
    damaged = world.damage()
    records = sum(world.records_of(topic) for topic in TOPICS)
    began_s = time.process_time()
    report = world.audit()
    spent_s = time.process_time() - began_s
    yield from rows_of(
        "memory, every hundredth damaged",
        {
            ("records_per_s_core", "1/s"): records / spent_s,
            ("damaged", "1"): float(damaged),
            ("findings", "1"): float(sum(report.counts.values())),
        },
    )


def _stages(world: World) -> Iterator[Row]:
    """Measure the parts by themselves, in microseconds of a record of theirs."""
    decode, encode = world.codec.decode, world.codec.encode
    ticks = [entry.value or b"" for entry in world.log.entries(TICKS, 0)]
    began_s = time.process_time()
    decoded = [tick for tick in map(decode, ticks) if isinstance(tick, ScheduleTick)]
    decode_s = time.process_time() - began_s
    state = PartitionState(0, 1)
    began_s = time.process_time()
    outputs = [advance(state, tick) for tick in decoded]
    fold_s = time.process_time() - began_s
    commands = [command for one in outputs for command in one.commands]
    began_s = time.process_time()
    for command in commands:
        encode(command)
    encode_s = time.process_time() - began_s
    results = [entry.value or b"" for entry in world.log.entries(RESULTS, 0)]
    began_s = time.process_time()
    for value in results:
        decode(value)
    result_s = time.process_time() - began_s
    yield from rows_of(
        "stages",
        {
            ("tick_decode_us", "us"): decode_s / len(ticks) * 1e6,
            ("fold_us_per_command", "us"): fold_s / len(commands) * 1e6,
            ("encode_us_per_command", "us"): encode_s / len(commands) * 1e6,
            ("codec_us_per_result", "us"): result_s / len(results) * 1e6,
            **_together(world, ticks, decoded, results, len(commands)),
        },
    )


def _together(
    world: World, ticks: list[bytes], decoded: list[ScheduleTick], results: list[bytes], made: int
) -> dict[tuple[str, str], float]:
    """Measure the same parts where many records are worked on at once."""
    reader, state = TickReader(world.codec), PartitionState(0, 1)
    began_s = time.process_time()
    for data in ticks:
        reader.read(data)
    read_s = time.process_time() - began_s
    loaded = sum(1 for tick in decoded if tick.changes)
    for tick in decoded[:loaded]:
        advance(state, tick)
    fold, at = QuietFold(state, world.codec), loaded
    began_s = time.process_time()
    while at < len(decoded):
        count, _ = fold.fold(decoded[at : at + MOST_TICKS])
        if not count:
            fold.changed(advance(state, decoded[at]))
        at += count or 1
    fold_s = time.process_time() - began_s
    waiting = OpenCommands(world.codec, 0)
    for entry in world.log.entries(COMMANDS, 0):
        command = world.codec.decode_as(entry.value or b"", CaptureCommand)
        waiting.add(command, entry.value or b"", entry.offset)
    columns, header = ResultColumns(), world.codec.header(CaptureResult)
    began_s = time.process_time()
    for first in range(0, len(results), TOGETHER):
        batch = Batch(results[first : first + TOGETHER])
        found, _ = columns.ids(batch, header)
        slots = waiting.find(found)
        columns.look(batch, np.arange(len(found)), found, slots, waiting)
    look_s = time.process_time() - began_s
    return {
        ("tick_reader_us", "us"): read_s / len(ticks) * 1e6,
        ("run_us_per_command", "us"): fold_s / made * 1e6,
        ("columns_us_per_result", "us"): look_s / len(results) * 1e6,
    }


def _kafka(rig: Rig, captures: int) -> Iterator[Row]:
    namespace = rig.new_namespace()
    # A broker takes no times to come, and a result is read beside the ticks of its time.
    start_ms = time.time_ns() // 1_000_000 - AGO_MS
    create_topics(rig.kafka, namespace, PARTITIONS)
    records = 0
    writer = Writer(rig.kafka, namespace)
    for number in range(PARTITIONS):
        rig.say(f"kafka: making partition {number}")
        world = World(number, PARTITIONS, captures // PARTITIONS, start_ms=start_ms)
        records += world.records
        for topic in TOPICS:
            for entry in world.log.entries(topic, number):
                key, value = entry.key or b"", entry.value or b""
                writer.put(topic, key, value, number, entry.timestamp_ms)
    writer.flush()
    for jobs in (1, min(2, os.cpu_count() or 1)):
        rig.say(f"kafka: auditing with {jobs} processes")
        source = audit_run.Source(rig.kafka, namespace)
        report = audit_run.audit(source, AuditOptions(), jobs=jobs)
        if report.exit_code or report.sum("records") != records:
            raise BrokerError(f"a sound log is not clean: {report.findings.counts}; a bug")
        yield from rows_of(
            f"kafka, {jobs} processes",
            {
                ("records_per_s", "1/s"): records / report.seconds,
                ("seconds", "s"): report.seconds,
                ("records", "1"): float(records),
            },
        )
