"""Replay: how fast a recorded range is folded again, and compared under another policy.

A log in memory holds what the timing wheel writes: a tick a second of one partition with N
schedules every minute, spread over it, and now and then a change. ``again`` folds it and compares
every command and decision byte for byte (``streams/replay/again.py``); ``what-if`` folds it twice
and counts what differs (``streams/replay/what_if.py``). A record is a tick, a command, a decision
or an event. ``last minute`` is what it costs to replay the last minute of the recording alone: with
the log's beginning, and with a snapshot of two minutes before its end, a file that is read, hashed
and made into a state. No broker runs: reading from Kafka comes on top, and is the same for all that
reads.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

from benchmarks.result import Row, rows_of
from connectors.blobs.snapshots import SnapshotFiles
from schemas.codec import Codec
from schemas.ids import FingerprintIds
from schemas.records import (
    CapturePolicy,
    PartitionSnapshot,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from shutterwheel.replay_run import published
from streams.core.ids import EPOCH_MS
from streams.core.recurrence import TZ_VERSION
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.core.state_hash import state_hash
from streams.replay.again import fold_again
from streams.replay.audit_state import rows_of as state_rows
from streams.replay.log import MemoryLog
from streams.replay.what_if import what_if
from streams.replay.what_if_policy import Rule, WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from streams.replay.start import ReadRows

DEVICES: Final = (1_000, 10_000)
QUICK_DEVICES: Final = (1_000,)
SECONDS: Final = 1_800
QUICK_SECONDS: Final = 600
EVERY_MS: Final = 60_000
START_MS: Final = EPOCH_MS + 10_000_000
CHANGE_EVERY_S: Final = 10
TOPICS: Final = ("schedule.events", "schedule.ticks", "schedule.decisions", "capture.commands")
SPREAD_MS: Final = 5_000
SNAPSHOT_S: Final = 120
"""How long before the recording's end its snapshot was made."""
LAST_S: Final = 60


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    seconds = int(options.seconds) or (QUICK_SECONDS if options.quick else SECONDS)
    codec = Codec(FingerprintIds())
    for devices in options.devices or (QUICK_DEVICES if options.quick else DEVICES):
        rig.say(f"recording {seconds:,} s of {devices:,} schedules")
        files = SnapshotFiles.open(str(rig.folder / f"blobs-{devices}"))
        log = _recorded(codec, devices, seconds, files)
        records = sum(log.ends(topic)[0] for topic in TOPICS)
        gc.collect()
        gc.freeze()  # the log itself is not what is measured
        yield from _again(log, codec, devices, seconds, records)
        yield from _what_if(log, codec, devices, seconds, records)
        yield from _last_minute(log, codec, devices, seconds, files)
        gc.unfreeze()


def _recorded(codec: Codec, devices: int, seconds: int, files: SnapshotFiles) -> MemoryLog:
    """Return a log as the wheel writes it, with a snapshot."""
    log = MemoryLog(1)
    for topic in TOPICS:
        log.append(topic, 0, None, None, 0)
        log.entries(topic, 0).clear()
    state = PartitionState(0, 1)
    spec = ScheduleSpec("interval", every_ms=EVERY_MS)
    policy = CapturePolicy(spread_ms=EVERY_MS)
    for second in range(seconds):
        now_ms = START_MS + second * 1_000
        count = devices if not second else int(second % CHANGE_EVERY_S == 0)
        changes: list[TickChange] = []
        for n in range(count):
            device_id, request_id = f"cam-{n:07}", f"r-{second}-{n}"
            changed = CapturePolicy(spread_ms=EVERY_MS, priority=second % 7) if second else policy
            event = ScheduleUpserted(request_id, device_id, "s", spec, changed, now_ms)
            offset = log.append(TOPICS[0], 0, device_id.encode(), codec.encode(event), now_ms)
            changes.append(TickChange(offset, event))
        tick = ScheduleTick(0, 1, now_ms, RULES_VERSION, TZ_VERSION, TickSettings(), tuple(changes))
        log.append(TOPICS[1], 0, b"0", codec.encode(tick), now_ms)
        outputs = advance(state, tick)
        for decision in outputs.decisions:
            log.append(TOPICS[2], 0, decision.device_id.encode(), codec.encode(decision), now_ms)
        for command in outputs.commands:
            log.append(TOPICS[3], 0, command.device_id.encode(), codec.encode(command), now_ms)
        if second == seconds - SNAPSHOT_S:
            _snapshot(log, codec, state, files)
    return log


def _snapshot(log: MemoryLog, codec: Codec, state: PartitionState, files: SnapshotFiles) -> None:
    """Write the state down as the wheel's agent does."""
    rows, at_ms = list(state_rows(state, codec)), state.time_ms
    events, ticks = (log.ends(topic)[0] for topic in TOPICS[:2])
    uri, file_bytes = files.write(0, 1, at_ms, rows)
    snapshot = PartitionSnapshot(
        0, 1, ticks - 1, events, at_ms, RULES_VERSION, TZ_VERSION, state_hash(rows), uri,
        file_bytes, len(rows), state.schedule_count,
    )  # fmt: skip
    log.append(TOPICS[1], 0, b"0", codec.encode(snapshot), at_ms)


def _again(log: MemoryLog, codec: Codec, devices: int, seconds: int, records: int) -> list[Row]:
    began_s = time.process_time()
    found = fold_again(log, 0, codec, START_MS, START_MS + seconds * 1_000)
    took_s = time.process_time() - began_s
    return rows_of(
        f"again, {devices:,} schedules",
        {
            ("records", "1"): records,
            ("captures", "1"): found.commands,
            ("records_per_s", "1/s"): records / took_s,
            ("times_real_time", "1"): seconds / took_s,
            ("different", "1"): int(found.difference is not None),
        },
    )


def _what_if(log: MemoryLog, codec: Codec, devices: int, seconds: int, records: int) -> list[Row]:
    policy = WhatIf((Rule({"spread_ms": SPREAD_MS}),))
    began_s = time.process_time()
    found = what_if(log, 0, codec, policy, START_MS + 60_000, START_MS + seconds * 1_000, published)
    took_s = time.process_time() - began_s
    d = found.difference
    lost = d.before.stand - d.same - d.moved - d.gone + d.after.stand - d.same - d.moved - d.added
    return rows_of(
        f"what-if, {devices:,} schedules",
        {
            ("records", "1"): records,
            ("captures", "1"): d.before.stand,
            ("records_per_s", "1/s"): records / took_s,
            ("times_real_time", "1"): seconds / took_s,
            ("peak_per_s_before", "1/s"): d.before.peak[0],
            ("peak_per_s_after", "1/s"): d.after.peak[0],
            ("lost", "1"): lost,
        },
    )


def _last_minute(
    log: MemoryLog, codec: Codec, devices: int, seconds: int, files: SnapshotFiles
) -> list[Row]:
    found: dict[tuple[str, str], float | None] = {}
    to_ms = START_MS + seconds * 1_000
    hashes: set[str] = set()
    beginnings: tuple[tuple[str, ReadRows | None], ...] = (
        ("beginning", None),
        ("snapshot", lambda snapshot: files.read(snapshot.uri)),
    )
    for name, read_rows in beginnings:
        began_s = time.process_time()
        part = fold_again(log, 0, codec, to_ms - LAST_S * 1_000, to_ms, read_rows=read_rows)
        found[f"cpu_s_from_{name}", "s"] = time.process_time() - began_s
        found[f"ticks_before_from_{name}", "1"] = part.before
        hashes |= {part.sha256, part.sha256_found}
    found["hashes_that_differ", "1"] = len(hashes) - 1
    return rows_of(f"last minute, {devices:,} schedules", found)
