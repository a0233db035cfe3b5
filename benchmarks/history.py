"""Writes the topics of a fleet that has taken millions of photos, in minutes.

What would take the system hours is put together from bytes: of each kind of record one is encoded
by the real codec, cut at what differs from record to record, and joined again with other ids,
times, checksums and hashes. The records decode to what they should (a unit test holds them against
the codec's own); checksums and hashes are random, as hard to compress as real ones. A restore reads
and an archive holds them like any other; the commands are not what the ticks fold to.

**Layout**, as a fleet on one schedule leaves it at ``RATE`` photos a second: each device's event,
the tick that took it in, its decision, its rows and its profile; then, second by second, a tick of
each partition with the commands of the next second, and four commits of results. Each commit leaves
a marker in each partition it touched, which is what a restore has to make again: so their number
counts. Upstream and discovery write without transactions.

Cost of a core: about 4 microseconds a record, half of it librdkafka's.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from benchmarks.history_records import (
    HEADER_BYTES,
    SCHEDULE,
    Captures,
    Device,
    device_name,
    fleet_templates,
    idle_tick,
    text,
)
from benchmarks.load import PARTITIONS
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.encoders import varint
from schemas.errors import BrokerError
from schemas.records import ShardState
from shutterwheel.apps import apps
from streams.agents import capture_executor, device_profiles, timing_wheel
from streams.core import ids
from streams.core.partition import CLOCK_KEY, CLOCK_SHARD, schedule_key
from streams.replay.cut import group_name

if TYPE_CHECKING:
    from benchmarks.load import Rig

RATE: Final = 4_000
"""Photos a second of the fleet (SPEC 1)."""
COMMITS_A_SECOND: Final = 4
"""Of results: what the captures worker of ``bench archive``'s first case comes to."""
LEAD_MS: Final = 5_000
CHANGES_A_TICK: Final = 200
WAIT_S: Final = 60.0

# --- a share of the partitions --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """What one process writes."""

    kafka: str
    namespace: str
    partitions: tuple[int, ...]
    devices: int
    """Of the whole fleet."""
    results: int
    """In each partition."""
    begin_ms: int


class Filler:
    """Writes a share."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.codec = make_codec()
        self.devices: dict[int, list[Device]] = {number: [] for number in share.partitions}
        for number in range(1, share.devices + 1):
            device = Device(number, device_name(number))
            home = device.shard % PARTITIONS
            if home in self.devices:
                self.devices[home].append(device)
        common = {
            "bootstrap.servers": share.kafka,
            "batch.size": 1_000_000,
            "compression.type": "zstd",
            "queue.buffering.max.messages": 500_000,
        }
        self.plain = Producer({**common, "linger.ms": 20})
        identity = f"{share.namespace}.history-{share.partitions[0]}"
        self.steps = Producer({**common, "linger.ms": 0, "transactional.id": identity})
        self.steps.init_transactions(WAIT_S)
        self.names: dict[str, str] = {}

    def put(self, producer: Producer, name: str, partition: int, key: bytes, value: bytes,
            at_ms: int) -> None:  # fmt: skip
        """Hand one record to a producer."""
        topic = self.names.get(name) or self.names.setdefault(
            name, topic_name(self.share.namespace, name)
        )
        while True:
            try:
                producer.produce(topic, value, key, partition, timestamp=at_ms)
                return
            except BufferError:
                producer.poll(0.1)

    def run(self) -> None:
        """Write everything. BrokerError."""
        self.fleet()
        self.photos()
        if self.plain.flush(WAIT_S):
            raise BrokerError("the history could not be written")

    def fleet(self) -> None:
        """Write events, ticks that took them in, decisions, rows and profiles."""
        made = fleet_templates(self.codec, self.share.begin_ms)
        at_ms, put, steps = self.share.begin_ms, self.put, self.steps
        changelogs = timing_wheel.CHANGELOGS
        profile_rows = capture_executor.CHANGELOGS[device_profiles.TABLE]
        written = dict.fromkeys(self.devices, 0)
        most = max(map(len, self.devices.values()), default=0)
        for low in range(0, most, CHANGES_A_TICK):
            steps.begin_transaction()
            for home, devices in self.devices.items():
                changes: list[bytes] = []
                for device in devices[low : low + CHANGES_A_TICK]:
                    key, rest = device.key, (device.text, device.epoch)
                    request = text("r" + key.decode())
                    event = made["event"].join(request, device.text)
                    put(self.plain, timing_wheel.EVENTS, home, key, event, at_ms)
                    changes += (varint(written[home]), b"\0", event[HEADER_BYTES:])
                    written[home] += 1
                    put(steps, timing_wheel.DECISIONS, home, key,
                        made["decision"].join(request, *rest), at_ms)  # fmt: skip
                    row_key = schedule_key(key.decode(), SCHEDULE).encode()
                    put(
                        steps,
                        changelogs["schedules"],
                        home,
                        row_key,
                        made["row"].join(*rest),
                        at_ms,
                    )
                    profile = made["profile"].join(device.text)
                    put(self.plain, device_profiles.TOPIC, home, key, profile, at_ms)
                    put(steps, profile_rows, home, key, profile, at_ms)
                taken = varint(len(changes) // 3) + b"".join(changes) if changes else b""
                tick = made["tick"].join(varint(home), varint(at_ms), taken)
                put(steps, timing_wheel.TICKS, home, b"%d" % home, tick, at_ms)
            steps.commit_transaction(WAIT_S)
            self.plain.poll(0)
        clock = self.codec.encode(ShardState(CLOCK_SHARD, at_ms, 0, 0))
        steps.begin_transaction()
        for home in self.devices:
            put(steps, changelogs["shards"], home, CLOCK_KEY, clock, at_ms)
        steps.commit_transaction(WAIT_S)

    def photos(self) -> None:
        """Write ticks, commands and results, second by second."""
        captures, share = Captures(self.codec, self.share.begin_ms), self.share
        tick = idle_tick(self.codec)
        a_second = RATE // PARTITIONS
        step_ms = 1_000 // a_second
        per_commit = -(-a_second // COMMITS_A_SECOND)
        for second in range(-(-share.results // a_second)):
            now_ms = share.begin_ms + 1_000 * (second + 1)
            count = min(a_second, share.results - second * a_second)
            rows: dict[int, list[tuple[int, Device, int, int]]] = {}
            self.steps.begin_transaction()
            for home, devices in self.devices.items():
                mine = rows[home] = []
                value = tick.join(varint(home), varint(now_ms))
                self.put(self.steps, timing_wheel.TICKS, home, b"%d" % home, value, now_ms)
                for n in range(count):
                    device = devices[(second * a_second + n) % len(devices)]
                    identity = ids.command_id(now_ms, device.shard, n)
                    at_ms = now_ms + LEAD_MS + n * step_ms
                    command = captures.command(identity, device, at_ms, now_ms)
                    self.put(self.steps, timing_wheel.COMMANDS, home, device.key, command, now_ms)
                    mine.append((identity, device, at_ms, now_ms))
            self.steps.commit_transaction(WAIT_S)
            for low in range(0, count, per_commit):
                self.steps.begin_transaction()
                for home, mine in rows.items():
                    some = mine[low : low + per_commit]
                    for row, value in zip(some, captures.results(some), strict=True):
                        self.put(
                            self.steps, "capture.results", home, row[1].key, value, row[2] + 100
                        )
                self.steps.commit_transaction(WAIT_S)


# --- all of it ------------------------------------------------------------------------------------


def fill(share: Share) -> None:
    """Write a share; run in a process of its own."""
    Filler(share).run()


def write_history(rig: Rig, namespace: str, results: int, devices: int, processes: int) -> int:
    """Write the topics of that many photos; return how many results there are (a few more).

    BrokerError.
    """
    create_topics(rig.kafka, namespace, PARTITIONS)
    each = -(-results // PARTITIONS)
    span_ms = 1_000 * (each * PARTITIONS // RATE + 60)
    begin_ms = time.time_ns() // 1_000_000 - span_ms
    shares = [
        Share(rig.kafka, namespace, tuple(range(first, PARTITIONS, processes)), devices, each,
              begin_ms)
        for first in range(min(processes, PARTITIONS))
    ]  # fmt: skip
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), context) as pool:
        for _ in pool.map(fill, shares):
            pass
    commit_groups(rig.kafka, namespace)
    return each * PARTITIONS


def commit_groups(kafka: str, namespace: str) -> None:
    """Have each app's group stand at the end of its inputs: they have worked on all of it."""
    admin = admin_client(kafka)
    for app in apps():
        asked = [
            (topic_name(namespace, name), number)
            for name in app.inputs
            for number in range(PARTITIONS)
        ]
        ends = list_offsets(admin, asked, "latest", WAIT_S)
        at = [TopicPartition(*place, end) for place, end in ends.items()]
        group = group_name(namespace, app.name)
        request = ConsumerGroupTopicPartitions(group, at)
        admin.alter_consumer_group_offsets([request])[group].result(WAIT_S)
