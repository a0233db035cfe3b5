"""Explain: how long an answer takes on a cluster, beside the records of others.

One partition holds ``--records`` records (1,000,000 by default) of other devices in
schedule.decisions, which are looked through whole, and a tenth of that in each of schedule.events,
capture.commands and capture.results, which are read near a time; a profile a device; and the
history of one device, written by the fold. The cases are questions: a photo that is there, a time
at which nothing was due, a command by its id, a device that nobody knows. Each is asked ``ROUNDS``
times by a new connection, as the command line does; shown is the median.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import Producer, admin

from benchmarks.load import device_ids
from benchmarks.result import Row, rows_of
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import (
    Accepted,
    CaptureCommand,
    CapturePolicy,
    CaptureResult,
    DeviceCaptures,
    DeviceProfile,
    ImageRef,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
)
from streams.core import capture
from streams.core.shard import RULES_VERSION, PartitionState, advance
from streams.replay.explain import explain, explain_command
from streams.replay.explain_read import COMMANDS, DECISIONS, EVENTS, PROFILES, RESULTS, TICKS
from streams.replay.explain_types import Ask
from streams.replay.log import KafkaLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from schemas.codec import Codec
    from schemas.records import Record

RECORDS: Final = 1_000_000
QUICK_RECORDS: Final = 100_000
PER_S: Final = 100
"""Decisions about others a second of the history."""
NEAR_ONLY: Final = 10
"""One record of others in the other topics for so many decisions."""
OTHERS: Final = 20_000
ROUNDS: Final = 3
DEVICE: Final = "cam-explained"
EVERY_MS: Final = 60_000


class Placed(NamedTuple):
    """A record of the one device, and when it was written."""

    at_ms: int
    record: Record


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    records = options.records or (QUICK_RECORDS if options.quick else RECORDS)
    namespace, codec = rig.new_namespace(), make_codec()
    end_ms = time.time_ns() // 1_000_000
    start_ms = end_ms - records // PER_S * 1_000
    own = history(start_ms, end_ms)
    _fill(rig, namespace, codec, own, records, start_ms)
    middle_ms = start_ms + (end_ms - start_ms) // 2
    command = next(
        one.record
        for one in own[COMMANDS]
        if isinstance(one.record, CaptureCommand) and one.record.scheduled_ms >= middle_ms
    )
    assert isinstance(command, CaptureCommand), "it is one of those"
    at_ms = command.scheduled_ms
    ask = Ask(device_id=DEVICE, at_ms=at_ms, now_ms=end_ms, window_ms=10_000)
    cases: dict[str, tuple[str, Callable[[KafkaLog], Any]]] = {
        "a photo": ("photo_there", lambda log: explain(log, codec, ask)),
        "nothing due": (
            "not_due",
            lambda log: explain(log, codec, _at(ask, DEVICE, at_ms + EVERY_MS // 2)),
        ),
        "a command": (
            "photo_there",
            lambda log: explain_command(log, codec, command.command_id, ask),
        ),
        "no such device": (
            "no_such_device",
            lambda log: explain(log, codec, _at(ask, "cam-of-nobody", at_ms)),
        ),
    }
    for case, (code, question) in cases.items():
        yield from _measured(rig, namespace, case, code, question)


def _at(ask: Ask, device_id: str, at_ms: int) -> Ask:
    return Ask(device_id=device_id, at_ms=at_ms, now_ms=ask.now_ms, window_ms=ask.window_ms)


def _measured(
    rig: Rig, namespace: str, case: str, code: str, question: Callable[[KafkaLog], Any]
) -> list[Row]:
    took_s: list[float] = []
    cpu_s: list[float] = []
    read = 0
    for _ in range(ROUNDS):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        found = question(KafkaLog(rig.kafka, namespace))
        took_s.append(time.perf_counter() - began_s)
        cpu_s.append(time.process_time() - began_cpu_s)
        read = found.records_read
        if found.code != code:
            raise AssertionError(f"{case}: {found.code}, not {code}: {found.answer}")
    return rows_of(
        case,
        {
            ("answer_s", "s"): statistics.median(took_s),
            ("cpu_s", "s"): statistics.median(cpu_s),
            ("records_read", "1"): read,
            ("records_per_s", "1/s"): read / statistics.median(took_s),
        },
    )


# --- what is read ---------------------------------------------------------------------------------


def history(start_ms: int, end_ms: int) -> dict[str, list[Placed]]:
    """Return what the fold and the state machine make of one device and a tick a second."""
    own: dict[str, list[Placed]] = {
        name: [] for name in (EVENTS, TICKS, DECISIONS, COMMANDS, RESULTS)
    }
    spec, policy = ScheduleSpec("interval", every_ms=EVERY_MS), CapturePolicy()
    event = ScheduleUpserted("explained", DEVICE, "door", spec, policy, start_ms)
    own[EVENTS].append(Placed(start_ms, event))
    state = PartitionState(0, 1)
    changes: tuple[TickChange, ...] = (TickChange(0, event),)
    image = ImageRef("file:///photos/1.jpg", "0" * 64, 100_000, 1280, 720, "jpeg")
    row = DeviceCaptures(DEVICE)
    for at_ms in range(start_ms, end_ms, 1_000):
        tick = ScheduleTick(0, 1, at_ms, RULES_VERSION, "", TickSettings(), changes)
        changes = ()
        outputs = advance(state, tick)
        own[TICKS].append(Placed(at_ms, tick))
        own[DECISIONS] += [Placed(at_ms, one) for one in outputs.decisions]
        own[COMMANDS] += [Placed(at_ms, one) for one in outputs.commands]
        for command in outputs.commands:
            if isinstance(command, CaptureCommand):
                due_ms, name = command.scheduled_ms, command.command_id
                row = capture.on_command(row, command, at_ms).state
                row = capture.on_arming(row, name, due_ms - 300).state
                done = capture.on_success(row, name, image, None, due_ms, due_ms + 90)
                row = done.state
                own[RESULTS] += [Placed(due_ms + 90, one) for one in done.results]
    return own


def _fill(
    rig: Rig,
    namespace: str,
    codec: Codec,
    own: dict[str, list[Placed]],
    records: int,
    start_ms: int,
) -> None:
    """Write the records of others, and those of the one device between them, as times go."""
    create_topics(rig.kafka, namespace, 1)
    _stamp_by_writer(rig, topic_name(namespace, TICKS))
    others = [name for name in device_ids(OTHERS) if name != DEVICE]
    policy, spec = CapturePolicy(), ScheduleSpec("interval", every_ms=EVERY_MS)

    def result(device_id: str, at_ms: int, n: int) -> Record:
        return CaptureResult(
            n + 1, device_id, "door", "", 1, at_ms, at_ms, "EXPIRED", "late", 0, at_ms, None, None,
            None, (),
        )  # fmt: skip

    makers: dict[str, Callable[[str, int, int], Record]] = {
        DECISIONS: lambda d, at, n: Accepted(f"r{n}", d, "door", n, at, at, "ScheduleUpserted"),
        COMMANDS: lambda d, at, n: CaptureCommand(
            n + 1, d, "door", "", 1, at, at, at + EVERY_MS, 3_000, 0, at
        ),
        RESULTS: result,
        EVENTS: lambda d, at, n: ScheduleUpserted(f"r{n}", d, "door", spec, policy, at),
    }
    producer = Producer(
        {
            "bootstrap.servers": rig.kafka,
            "linger.ms": 20,
            "queue.buffering.max.messages": 500_000,
            "log_level": 0,
        }
    )

    def write(topic: str, key: str, record: Record, at_ms: int) -> None:
        while len(producer) > 200_000:
            producer.poll(0.05)
        name = topic_name(namespace, topic)
        producer.produce(name, codec.encode(record), key.encode(), 0, timestamp=at_ms)

    for one in own[TICKS]:
        write(TICKS, "0", one.record, one.at_ms)
    for name in others:
        write(PROFILES, name, DeviceProfile(name, "http://10.0.0.7/", "null-camera"), start_ms)
    for topic, make in makers.items():
        mine = iter(own[topic])
        coming = next(mine, None)
        apart = 1 if topic == DECISIONS else NEAR_ONLY
        for n in range(0, records, apart):
            at_ms = start_ms + n * 1_000 // PER_S
            while coming is not None and coming.at_ms <= at_ms:
                write(topic, DEVICE, coming.record, coming.at_ms)
                coming = next(mine, None)
            device_id = others[n // apart % len(others)]
            write(topic, device_id, make(device_id, at_ms, n), at_ms)
        if producer.flush(60):
            raise BrokerError(f"{topic} could not be written")


def _stamp_by_writer(rig: Rig, name: str) -> None:
    """Let ticks of the past have the times of the past."""
    wanted = admin.ConfigResource(admin.ConfigResource.Type.TOPIC, name)  # type: ignore[attr-defined]
    change = admin.AlterConfigOpType.SET  # type: ignore[attr-defined]
    wanted.add_incremental_config(
        admin.ConfigEntry(  # type: ignore[attr-defined]
            "message.timestamp.type", "CreateTime", incremental_operation=change
        )
    )
    client = admin_client(rig.kafka)
    for future in client.incremental_alter_configs([wanted]).values():
        future.result(timeout=30)
