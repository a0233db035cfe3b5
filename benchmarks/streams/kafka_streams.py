"""Kafka Streams as a peer: its jars, its compiler, its settings.

Jars come from ``jars.lock.json`` (SHA-256) by the broker's own mechanism. The Java runtime that the
project brings has no compiler in it, so the program is compiled by ECJ, which is a jar as well.

Settings, and why each:

* RocksDB stores, **record cache off**: each put goes to the store and to the changelog. In this
  work a key comes again only after K others, so the cache would coalesce nothing and cost a little.
* ``exactly_once_v2`` commits every 100 ms, its default and ours. At least once commits every 30 s,
  its default: a commit flushes the stores, so a short interval would only slow it down.
* Larger polls and producer batches than the defaults, as the runtime has them too.
* ``num.stream.threads``: 1 and 2 were measured, see ``THREADS``.
* A heap of 1 GiB with the parallel collector: for two cores, throughput.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.java import compile_java
from benchmarks.streams.work import EXACTLY_ONCE
from infra.kafka.jars import load_lock

if TYPE_CHECKING:
    from benchmarks.streams.work import Job
    from infra.kafka.jars import Jar

HERE: Final = Path(__file__).parent
PROGRAM: Final = "KafkaStreamsProgram"
THREADS: Final = 1


def version() -> str:
    """Return the version that is locked."""
    return next(jar.version for jar in _jars() if jar.artifact_id == "kafka-streams")


def _jars() -> tuple[Jar, ...]:
    return load_lock(HERE / "jars.lock.json")


def prepare(folder: Path) -> list[str]:
    """Fetch the jars, compile the program into ``folder``, return how a Java starts it.

    Raises:
        BrokerError: a jar cannot be had, there is no Java, or the program does not compile.

    """
    java, class_path = compile_java(HERE / f"{PROGRAM}.java", _jars(), folder)
    return [
        java,
        *("-Xms512m", "-Xmx1g", "-XX:+UseParallelGC", "--enable-native-access=ALL-UNNAMED"),
        f"-Dlog4j.configuration={(HERE / 'log4j.properties').absolute().as_uri()}",
        *("-cp", class_path, PROGRAM),
    ]


def argument(job: Job) -> str:
    """Return the program's argument: the job with Kafka Streams' own settings."""
    settings = {
        "num.stream.threads": THREADS,
        "statestore.cache.max.bytes": 0,
        "replication.factor": 1,
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_000,
        "auto.offset.reset": "earliest",
        "max.poll.records": 5_000,
        "buffered.records.per.partition": 5_000,
        "max.partition.fetch.bytes": 4 * 1024 * 1024,
        "producer.batch.size": 256 * 1024,
        "producer.buffer.memory": 64 * 1024 * 1024,
        "processing.guarantee": (
            "exactly_once_v2" if job.case == EXACTLY_ONCE else "at_least_once"
        ),
    }
    return json.dumps({**json.loads(job.text()), "settings": settings})
