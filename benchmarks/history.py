"""Writes the topics of a fleet that has taken millions of photos, in minutes.

What would take the system hours is put together from bytes: of each kind of record one is encoded
by the real codec, cut at what differs from record to record, and filled with other ids, times,
checksums and hashes, thousands at a time. The records decode to what they should (a unit test holds
them against the codec's own); checksums and hashes are random, as hard to compress as real ones. A
restore reads and an archive holds them like any other; the commands are not what the ticks fold to.

**Layout**, as a fleet on one schedule leaves it at ``RATE`` photos a second: each device's event,
the tick that took it in, its decision, its rows and its profile; then, second by second, a tick of
each partition with the commands of the next second, and four commits of results. Each commit leaves
a marker in each partition it touched, which is what a restore has to make again: so their number
counts. Batches and markers are written as a restore writes them (``streams/replay/restore``): a
batch a partition and commit, then its marker; no transaction was open. Upstream and discovery write
without them.

Cost of a core: about 2 microseconds a record, half of it zstd's, and about one of the broker's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Final

import numpy as np
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from benchmarks.history_records import (
    HEADER_BYTES,
    SCHEDULE,
    Captures,
    Devices,
    fleet_forms,
    idle_tick,
    texts,
)
from benchmarks.load import PARTITIONS
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.encoders import varint
from schemas.records import ShardState
from shutterwheel.apps import apps
from streams.agents import capture_executor, device_profiles, timing_wheel
from streams.core import ids
from streams.core.partition import CLOCK_KEY, CLOCK_SHARD, schedule_key
from streams.replay.cut import group_name
from streams.replay.log import Entry
from streams.replay.restore.pour import appended
from streams.replay.restore.sink import Append, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from schemas.columns import Ints

RATE: Final = 4_000
"""Photos a second of the fleet (SPEC 1)."""
COMMITS_A_SECOND: Final = 4
"""Of results: what the captures worker of ``bench archive``'s first case comes to."""
LEAD_MS: Final = 5_000
CHANGES_A_TICK: Final = 200
STEPS_AT_ONCE: Final = 8
"""Seconds, or ticks of changes, whose records are made together."""
WAIT_S: Final = 60.0
EVENTS: Final = timing_wheel.EVENTS
DECISIONS: Final = timing_wheel.DECISIONS
RESULTS: Final = "capture.results"

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
        everybody = Devices(np.arange(1, share.devices + 1, dtype=np.int64))
        homes = everybody.shards % PARTITIONS
        self.devices = {
            home: everybody.some(np.flatnonzero(homes == home)) for home in share.partitions
        }
        self.sink = Sink(share.kafka, admin_client(share.kafka))
        self.ends: dict[tuple[str, int], int] = defaultdict(int)

    def put(self, name: str, home: int, keys: list[bytes], values: list[bytes], at_ms: list[int],
            marked: bool = True) -> Iterator[Append]:  # fmt: skip
        """Yield what appends records to a partition, and the marker of their commit."""
        topic, at = topic_name(self.share.namespace, name), self.ends[name, home]
        rows = list(map(Entry, repeat(0), at_ms, keys, values))
        yield from appended(topic, home, at, rows)
        at += len(rows)
        if marked:
            yield Append(topic, home, at, 1)
        self.ends[name, home] = at + marked

    def run(self) -> None:
        """Write everything. BrokerError."""
        with closing(self.sink):
            self.fleet()
            self.photos()
            self.sink.settle()

    # -- the fleet -----------------------------------------------------------------------------

    def fleet(self) -> None:
        """Write events, ticks that took them in, decisions, rows and profiles."""
        at_once = CHANGES_A_TICK * STEPS_AT_ONCE
        most = max(map(len, self.devices.values()), default=0)
        for low in range(0, most, at_once):
            for home, devices in self.devices.items():
                at = np.arange(low, min(low + at_once, len(devices)))
                if len(at):
                    self.sink.put(self.taken_in(home, devices.some(at)))
        clock = self.codec.encode(ShardState(CLOCK_SHARD, self.share.begin_ms, 0, 0))
        shards, stamps = timing_wheel.CHANGELOGS["shards"], [self.share.begin_ms]
        for home in self.devices:
            self.sink.put(self.put(shards, home, [CLOCK_KEY], [clock], stamps))

    def taken_in(self, home: int, devices: Devices) -> Iterator[Append]:
        """Yield what some devices of a partition come to."""
        made = fleet_forms(self.codec, self.share.begin_ms)
        at_ms, keys = self.share.begin_ms, devices.keys()
        names, epochs = texts(devices.names), devices.epochs()
        r = np.full((len(keys), 1), ord("r"), np.uint8)
        requests = texts(np.hstack((r, devices.names)))
        rows_of = {
            EVENTS: (keys, made["event"].fill(requests, names), False),
            device_profiles.TOPIC: (keys, made["profile"].fill(names), False),
            DECISIONS: (keys, made["decision"].fill(requests, names, epochs), True),
            timing_wheel.CHANGELOGS["schedules"]: (
                [schedule_key(key.decode(), SCHEDULE).encode() for key in keys],
                made["row"].fill(names, epochs),
                True,
            ),
            capture_executor.CHANGELOGS[device_profiles.TABLE]: (
                keys, made["profile"].fill(names), True,
            ),
        }  # fmt: skip
        first, events = self.ends[EVENTS, home], rows_of[EVENTS][1]
        for low in range(0, len(keys), CHANGES_A_TICK):
            some = slice(low, low + CHANGES_A_TICK)
            for name, (its_keys, values, marked) in rows_of.items():
                stamps = [at_ms] * len(values[some])
                yield from self.put(name, home, its_keys[some], values[some], stamps, marked)
            changes: list[bytes] = [varint(len(events[some]))]
            for number, event in enumerate(events[some], first + low):
                changes += (varint(number), b"\0", event[HEADER_BYTES:])
            tick = made["tick"].join(varint(home), varint(at_ms), b"".join(changes))
            yield from self.put(timing_wheel.TICKS, home, [b"%d" % home], [tick], [at_ms])

    # -- photos --------------------------------------------------------------------------------

    def photos(self) -> None:
        """Write ticks, commands and results, some seconds at a time."""
        captures = Captures(self.codec, self.share.begin_ms)
        a_second = RATE // PARTITIONS
        seconds = -(-self.share.results // a_second)
        for low in range(0, seconds, STEPS_AT_ONCE):
            first, until = low * a_second, min(seconds, low + STEPS_AT_ONCE) * a_second
            numbers = np.arange(first, min(until, self.share.results), dtype=np.int64)
            for home, devices in self.devices.items():
                self.sink.put(self.taken(captures, home, devices, numbers))

    def taken(
        self, captures: Captures, home: int, devices: Devices, numbers: Ints
    ) -> Iterator[Append]:
        """Yield what photos of a partition come to: the so-manieth of its first, and so on."""
        a_second, share = RATE // PARTITIONS, self.share
        some = devices.some(numbers % len(devices))
        tick_ms = share.begin_ms + 1_000 * (numbers // a_second + 1)
        turn = numbers % a_second
        at_ms = tick_ms + LEAD_MS + turn * (1_000 // a_second)
        first = ids.command_id(share.begin_ms, 0, 0)
        identities = first + ((tick_ms - share.begin_ms) << 22) + (some.shards << 12) + turn
        commands = captures.commands(identities, some, at_ms, tick_ms)
        results = captures.results(identities, some, at_ms, tick_ms)
        keys, ended = some.keys(), (at_ms + 100).tolist()
        idle, per_commit = idle_tick(self.codec), -(-a_second // COMMITS_A_SECOND)
        for low in range(0, len(numbers), a_second):
            its = slice(low, low + a_second)
            now_ms = int(tick_ms[low])
            tick = idle.join(varint(home), varint(now_ms))
            yield from self.put(timing_wheel.TICKS, home, [b"%d" % home], [tick], [now_ms])
            stamps = [now_ms] * len(commands[its])
            yield from self.put(timing_wheel.COMMANDS, home, keys[its], commands[its], stamps)
            for at in range(low, min(low + a_second, len(numbers)), per_commit):
                its = slice(at, min(at + per_commit, low + a_second))
                yield from self.put(RESULTS, home, keys[its], results[its], ended[its])


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
