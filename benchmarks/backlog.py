"""Backlog: memory and fairness while a worker is far behind, and still being overrun.

Records stand in a topic before the worker starts; while it works them off, more are written, until
half as many again have come: faster than it works, as long as they come. Two cases:

* ``runtime``: ``--records`` (10 million by default) of the work of ``bench streams``, a row read
  and written and an output each, exactly once;
* ``captures``: a twentieth as many commands whose photo nobody wants any more, for a captures
  worker. Each becomes a row, an end and a result, so it goes all the way but for the camera.

Once a second: the worker's resident memory and how far each partition is, by its committed offsets.
``rss_mb_...`` is memory at that share of the work; ``growth_mb`` the most it ever was above what it
was at a tenth of the work (caches are filled by then); ``unfairness`` the most by which the
partition that was furthest was ever ahead of the one that was least far, as a share of a
partition's records. ``producer_ratio`` is how much faster the writer was than the worker. Memory
over time is ``rss_mb_after_…_s``, twenty looks evenly over the run.

``bound_mb`` is what a worker's memory may come to, by its settings (``bound_bytes``). A run in
which it was exceeded (``over_bound_mb`` is not 0) fails.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from benchmarks.load import PARTITIONS, device_ids
from benchmarks.options import chosen
from benchmarks.result import OURS, rows_of
from benchmarks.streams.bench import KEYS
from benchmarks.streams.peers import SYSTEMS
from benchmarks.streams.runner import Program
from benchmarks.streams.work import EXACTLY_ONCE, Job, record
from connectors.clients.kafka import make_codec
from infra.kafka.admin import admin_client, create_topics
from infra.kafka.offsets import list_offsets
from infra.kafka.topics import topic_name
from schemas.errors import BrokerError
from schemas.records import CaptureCommand
from streams.agents.capture_executor import APP, COMMANDS, layout
from streams.agents.capture_settings import suited
from streams.core import ids
from streams.runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka.admin import AdminClient

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.result import Row

RECORDS: Final = 10_000_000
QUICK_RECORDS: Final = 400_000
CAPTURES_SHARE: Final = 20
DEVICES: Final = 10_000
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 1.0)
LOOKS: Final = 20
RECORD_BYTES: Final = 640
"""A record of some 120 bytes as Python keeps it: a tuple, key, value, and their headers."""
POLLS: Final = 3
"""Polls of an agent that may wait: in its queue, in its hands, and being handed on."""
BATCHES: Final = 3
"""One that is open, one that is being committed, and that one as it goes to the broker."""
PROCESS_BYTES: Final = 120_000_000
"""A worker that has nothing to do."""
MEMTABLES_BYTES: Final = 3 * 16 * 1024 * 1024
"""RocksDB's write buffers (``streams/runtime/store.py``)."""
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

    def looks(self, count: int) -> dict[int, float]:
        """Return memory at so many times evenly over the run, by the second."""
        last = len(self.rss_mb) - 1
        places = sorted({round(last * n / max(1, count - 1)) for n in range(count)})
        return {place + 1: self.rss_mb[place] for place in places}

    def growth_mb(self) -> float:
        """Return the most that memory was above its size at a tenth of the work."""
        first = self.rss_at(SHARES[0]) or self.rss_mb[0]
        later = [mb for at, mb in zip(self.done, self.rss_mb, strict=True) if at >= SHARES[0]]
        return max(later, default=first) - first


class Writer:
    """Writes records, of which there is no end, to one topic."""

    def __init__(self, kafka: str, topic: str, records: Iterator[tuple[bytes, int, bytes]]) -> None:
        self.topic = topic
        self._records = records  # key, partition, value
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "linger.ms": 20,
                "batch.size": 256 * 1024,
                "queue.buffering.max.messages": 200_000,
                "log_level": 2,
            }
        )
        self.written = 0
        self.took_s = 0.0

    def write(self, count: int) -> None:
        """Write so many and wait until the broker has them."""
        began_s = time.monotonic()
        for number, (key, partition, value) in enumerate(islice(self._records, count)):
            while len(self._producer) > 150_000:
                self._producer.poll(0.05)
            self._producer.produce(self.topic, value, key, partition)
            if number % 1_000 == 0:
                self._producer.poll(0)
        if self._producer.flush(60):
            raise BrokerError("the backlog could not be written")
        self.written += count
        self.took_s += time.monotonic() - began_s


def late_commands() -> Iterator[tuple[bytes, int, bytes]]:
    """Yield commands whose time is long over, evenly over devices, in order of ids, for ever."""
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
            yield device.encode(), home, encode(command)


def readings() -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the records of ``bench streams``, for ever."""
    for number in count():
        key, value = record(number, KEYS)
        yield key, number % PARTITIONS, value


@dataclass(frozen=True, slots=True)
class Follower:
    """Looks how far a group is and how much memory its worker takes."""

    kafka: str
    group: str
    pid: int
    watch: Callable[[], None]
    """Raises if the worker has ended."""

    def follow(self, writer: Writer, total: int) -> tuple[Samples, float]:
        """Write on, and look once a second until all is worked off."""
        samples, admin, process = Samples(), admin_client(self.kafka), psutil.Process(self.pid)
        more = threading.Thread(target=writer.write, args=(total - writer.written,))
        topic = writer.topic
        places = [(topic, number) for number in range(PARTITIONS)]
        more.start()
        began_s = heard_s = time.monotonic()
        while not samples.done or samples.done[-1] < 1.0:
            time.sleep(1.0)
            self.watch()
            done = _committed(admin, self.group, topic)
            ends = list_offsets(admin, places, "latest", PATIENCE_S)
            share = sum(done) / total
            if not samples.done or share > samples.done[-1]:
                heard_s = time.monotonic()
            samples.done.append(share)
            samples.rss_mb.append(process.memory_info().rss / 1e6)
            shares = [min(1.0, at / max(1, ends[topic, p])) for p, at in enumerate(done)]
            samples.apart.append(max(shares) - min(shares))
            if time.monotonic() - heard_s > PATIENCE_S:
                raise BrokerError(f"{share:.0%} is worked off and nothing more")
        more.join()
        return samples, time.monotonic() - began_s


def _committed(admin: AdminClient, group: str, topic: str) -> list[int]:
    asked = ConsumerGroupTopicPartitions(
        group, [TopicPartition(topic, p) for p in range(PARTITIONS)]
    )
    found = admin.list_consumer_group_offsets([asked])[group].result()
    by_number = {p.partition: p.offset or 0 for p in found.topic_partitions or ()}
    return [max(0, by_number.get(number, 0)) for number in range(PARTITIONS)]


def captures(rig: Rig, records: int) -> list[Row]:
    """Measure a captures worker."""
    namespace = rig.new_namespace()
    create_topics(rig.kafka, namespace, PARTITIONS)
    writer = Writer(rig.kafka, topic_name(namespace, COMMANDS), late_commands())
    rig.say(f"captures: writing {records:,} commands")
    writer.write(records)
    rig.say("captures: working them off, and half as many again")
    with rig.cluster(namespace, wheels=0) as cluster:
        pid = cluster.workers[0].child.pid
        follower = Follower(rig.kafka, f"{namespace}.{APP}", pid, cluster.watch)
        samples, took_s = follower.follow(writer, records * 3 // 2)
    settings = suited(RuntimeSettings(APP, "0", rig.kafka, rig.folder))
    bound = bound_bytes(settings, len(layout(PARTITIONS).inputs), PARTITIONS)
    return _rows(f"captures, {records:,} commands behind", writer, samples, took_s, bound)


def runtime(rig: Rig, records: int) -> list[Row]:
    """Measure the runtime on its own."""
    total = records * 3 // 2
    job = Job(
        case=EXACTLY_ONCE, bootstrap=rig.kafka, namespace=rig.new_namespace(), source="in",
        sink="out", changelog="log", group="backlog", partitions=PARTITIONS, records=total,
        folder=str(rig.folder / "state-backlog"),
    )  # fmt: skip
    admin = admin_client(rig.kafka)
    topics = [NewTopic(job.full(name), PARTITIONS, 1) for name in ("in", "out")]
    topics.append(NewTopic(job.full("log"), PARTITIONS, 1, config={"cleanup.policy": "compact"}))
    for future in admin.create_topics(topics).values():
        future.result()
    writer = Writer(rig.kafka, job.full("in"), readings())
    rig.say(f"runtime: writing {records:,} records")
    writer.write(records)
    rig.say("runtime: working them off, and half as many again")
    ours = next(system for system in SYSTEMS if system.name == OURS)
    Path(job.folder).mkdir()
    command = [*ours.prepare(rig.folder), ours.argument(job)]
    with Program(command, rig.folder / "errors-backlog.txt") as program:
        program.wait_for("first", PATIENCE_S)
        follower = Follower(rig.kafka, job.full("backlog"), program.pid, program.look)
        samples, took_s = follower.follow(writer, total)
    settings = RuntimeSettings("runtime", "0", rig.kafka, rig.folder)
    bound = bound_bytes(settings, 1, PARTITIONS)
    return _rows(f"runtime, {records:,} records behind", writer, samples, took_s, bound)


def bound_bytes(settings: RuntimeSettings, topics: int, partitions: int) -> int:
    """Return the most memory that a worker with all partitions takes, but for its tables' indices.

    What is waiting is bounded by settings, in bytes or in records. A record of these benchmarks and
    what is made of it are taken to be ``RECORD_BYTES`` in memory.
    """
    fetched = topics * partitions * settings.fetch_bytes(partitions)
    polled = POLLS * topics * settings.max_poll_records * RECORD_BYTES
    batches = BATCHES * (settings.max_batch_records + settings.max_poll_records) * RECORD_BYTES
    store = 2 * settings.unwritten_bytes + settings.row_cache_bytes + settings.block_cache_bytes
    return PROCESS_BYTES + fetched + polled + batches + store + MEMTABLES_BYTES


def _rows(case: str, writer: Writer, samples: Samples, took_s: float, bound: int) -> list[Row]:
    bound_mb, most_mb = bound / 1e6, max(samples.rss_mb)
    figures: dict[tuple[str, str], float | None] = {
        ("bound_mb", "MB"): bound_mb,
        ("over_bound_mb", "MB"): max(0.0, most_mb - bound_mb),
        ("most_mb", "MB"): most_mb,
        ("records_per_s", "1/s"): writer.written / took_s,
        ("producer_ratio", "1"): writer.written / writer.took_s / (writer.written / took_s),
        ("growth_mb", "MB"): samples.growth_mb(),
        ("unfairness", "1"): max(samples.apart),
    }
    for share in SHARES:
        figures[f"rss_mb_{share:.0%}", "MB"] = samples.rss_at(share)
    for second, rss_mb in samples.looks(LOOKS).items():
        figures[f"rss_mb_after_{second}_s", "MB"] = rss_mb
    return rows_of(case, figures)


CASES: Final = {"runtime": runtime, "captures": captures}


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure the cases that were asked for."""
    records = options.records or (QUICK_RECORDS if options.quick else RECORDS)
    for name in chosen(options.cases, list(CASES), "case"):
        yield from CASES[name](rig, records if name == "runtime" else records // CAPTURES_SHARE)
