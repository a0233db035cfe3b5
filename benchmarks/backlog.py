"""Backlog: memory and fairness while a worker is far behind, and still being overrun.

``--devices`` commands (10 million by default) whose photo nobody wants any more stand in
capture.commands before a captures worker starts; while it works them off, more are written, until
half as many again have come: faster than it works, as long as they come. Each command becomes a
row, an end and a result, so it goes all the way through transactions and state, but no camera.

Once a second: the worker's resident memory and how far each partition is, by its committed offsets.
``rss_mb_...`` is memory at that share of the work; ``growth_mb`` the most it ever was above what it
was at a tenth of the work (caches are filled by then); ``unfairness`` the most by which the
partition that was furthest was ever ahead of the one that was least far, as a share of a
partition's records. ``producer_ratio`` is how much faster the writer was than the worker.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.load import PARTITIONS, device_ids
from benchmarks.result import rows_of
from connectors.clients.kafka import make_codec
from infra.kafka.admin import create_topics
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import CaptureCommand
from shutterwheel.check import offsets_now
from streams.agents.capture_executor import APP, COMMANDS
from streams.core import ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.result import Row

RECORDS: Final = 10_000_000
QUICK_RECORDS: Final = 200_000
DEVICES: Final = 10_000
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 1.0)
PATIENCE_S: Final = 60.0
"""How long nothing may be worked off."""


@dataclass
class Samples:
    """What was seen once a second."""

    done: list[float] = field(default_factory=list)
    """Share of all records that is worked off."""
    rss_mb: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)
    """Furthest less least far partition, as shares of a partition's records."""

    def rss_at(self, share: float) -> float | None:
        """Return the memory at the first sample with that much done."""
        return next(
            (mb for at, mb in zip(self.done, self.rss_mb, strict=True) if at >= share), None
        )

    def growth_mb(self) -> float:
        """Return the most that memory was above its size at a tenth of the work."""
        first = self.rss_at(SHARES[0]) or self.rss_mb[0]
        later = [mb for at, mb in zip(self.done, self.rss_mb, strict=True) if at >= SHARES[0]]
        return max(later, default=first) - first


class Writer:
    """Writes commands whose time is long over, evenly over devices."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._topic = topic_name(namespace, COMMANDS)
        self._commands = self._endless()
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "log_level": 2})
        self.written = 0
        self.took_s = 0.0

    @staticmethod
    def _endless() -> Iterator[tuple[str, int, bytes]]:
        """Yield device, partition and record, in order of ids, for ever."""
        encode, number = make_codec().encode, 0
        homes = [(d, ids.partition_of(d, PARTITIONS)) for d in device_ids(DEVICES)]
        past_ms = time.time_ns() // 1_000_000 - 86_400_000
        while True:
            for device, home in homes:
                number += 1
                command = CaptureCommand(
                    number, device, "backlog", "", 1, past_ms + number, past_ms + number,
                    past_ms + number + 1_000, 3_000, 0, past_ms,
                )  # fmt: skip
                yield device, home, encode(command)

    def write(self, count: int) -> None:
        """Write so many and wait until the broker has them."""
        began_s = time.monotonic()
        for _ in range(count):
            device, home, value = next(self._commands)
            while len(self._producer) > 80_000:
                self._producer.poll(0.05)
            self._producer.produce(self._topic, value, device.encode(), home)
        if self._producer.flush(60):
            raise BrokerError("the backlog could not be written")
        self.written += count
        self.took_s += time.monotonic() - began_s


def work_off(rig: Rig, namespace: str, writer: Writer, total: int) -> tuple[Samples, float]:
    """Start a worker, go on writing, and look once a second until all is worked off."""
    samples, admin = Samples(), AdminClient({"bootstrap.servers": rig.kafka})
    more = threading.Thread(target=writer.write, args=(total - writer.written,))
    with rig.cluster(namespace, wheels=0) as cluster:
        process = psutil.Process(cluster.workers[0].child.pid)
        more.start()
        began_s = heard_s = time.monotonic()
        while not samples.done or samples.done[-1] < 1.0:
            time.sleep(1.0)
            cluster.watch()
            done = _committed(admin, namespace)
            ends = offsets_now(rig.kafka, namespace)
            each = [ends[topic_name(namespace, COMMANDS), p] for p in range(PARTITIONS)]
            share = sum(done) / total
            if not samples.done or share > samples.done[-1]:
                heard_s = time.monotonic()
            samples.done.append(share)
            samples.rss_mb.append(process.memory_info().rss / 1e6)
            shares = [min(1.0, at / max(1, end)) for at, end in zip(done, each, strict=True)]
            samples.apart.append(max(shares) - min(shares))
            if time.monotonic() - heard_s > PATIENCE_S:
                raise BrokerError(f"{share:.0%} is worked off and nothing more")
        took_s = time.monotonic() - began_s
    more.join()
    return samples, took_s


def _committed(admin: AdminClient, namespace: str) -> list[int]:
    topic = topic_name(namespace, COMMANDS)
    asked = ConsumerGroupTopicPartitions(
        f"{namespace}.{APP}", [TopicPartition(topic, p) for p in range(PARTITIONS)]
    )
    found = admin.list_consumer_group_offsets([asked])[asked.group_id].result()
    by_number = {p.partition: p.offset or 0 for p in found.topic_partitions or ()}
    return [max(0, by_number.get(number, 0)) for number in range(PARTITIONS)]


def run(options: Options, rig: Rig) -> list[Row]:
    """Measure it."""
    records = options.devices[0] if options.devices else 0
    records = records or (QUICK_RECORDS if options.quick else RECORDS)
    total = records * 3 // 2
    namespace = rig.new_namespace()
    create_topics(rig.kafka, namespace, PARTITIONS)
    writer = Writer(rig.kafka, namespace)
    rig.say(f"writing {records:,} commands")
    writer.write(records)
    written_per_s = records / writer.took_s
    rig.say(f"working off {total:,}")
    samples, took_s = work_off(rig, namespace, writer, total)
    figures: dict[tuple[str, str], float | None] = {
        ("records_per_s", "1/s"): total / took_s,
        ("producer_ratio", "1"): written_per_s / (total / took_s),
        ("growth_mb", "MB"): samples.growth_mb(),
        ("unfairness", "1"): max(samples.apart),
    }
    for share in SHARES:
        figures[f"rss_mb_{share:.0%}", "MB"] = samples.rss_at(share)
    return rows_of(f"{records:,} commands behind", figures)
