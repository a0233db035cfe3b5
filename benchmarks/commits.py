"""Commits: what each partition that a transaction writes to costs the broker and the worker.

One transaction after another writes one record of ``RECORD_BYTES`` to each partition of three
topics, as a worker does whose steps touch all partitions it has: each such place is registered,
appended to, and has a marker written. Nobody reads. Half of a case goes before it is measured: the
broker's code is compiled by then, and its files have their first pages.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from benchmarks.load import Cpu
from benchmarks.result import Row, rows_of
from infra.kafka.admin import admin_client
from infra.kafka.topics import TOPICS, topic_name
from schemas.errors import UsageError
from streams.runtime.batch import Batch
from streams.runtime.group import Membership
from streams.runtime.settings import RuntimeSettings
from streams.runtime.transaction import Transactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

TOPICS_WRITTEN: Final = ("schedule.ticks", "capture.commands", "capture.results")
PARTITIONS: Final = (8, 64, 256, 1024)
RECORD_BYTES: Final = 200
SECONDS: Final = 20.0
QUICK_SECONDS: Final = 3.0
CREATED_S: Final = 120.0
FILES_S: Final = 0.01
"""A broker has made the files of a partition of each topic by then; else a transaction waits."""
NOBODY: Final = Membership(-1, "")
"""Offsets of a group that has no members."""


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure each number of partitions."""
    if rig.broker is None:
        raise UsageError("bench commits measures the embedded broker: leave --kafka out.")
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    for partitions in options.partitions or PARTITIONS:
        namespace = rig.new_namespace()
        rig.say(f"{partitions:,} partitions: creating topics")
        _create(rig, namespace, partitions)
        settings = RuntimeSettings("captures", "0", rig.kafka, rig.folder / namespace, namespace)
        transactor = Transactor(settings, partial(topic_name, namespace), _now_ms)
        transactor.start()
        try:
            yield from _measure(rig, transactor, partitions, seconds)
        finally:
            transactor.close()
        rig.drop(namespace)


def _measure(rig: Rig, transactor: Transactor, partitions: int, seconds: float) -> list[Row]:
    assert rig.broker is not None
    places = partitions * len(TOPICS_WRITTEN)
    case = f"{len(TOPICS_WRITTEN)} topics of {partitions:,} partitions"
    rig.say(f"{case}: warming up, then measuring, {seconds:.0f} s each")
    _commit_for(seconds, lambda: transactor.perform(batch(partitions), frozenset()))
    cpu, began_s = Cpu({"broker": rig.broker.pid, "worker": os.getpid()}), time.monotonic()
    commits = _commit_for(seconds, lambda: transactor.perform(batch(partitions), frozenset()))
    took_s = time.monotonic() - began_s
    spent_s, touched = cpu.spent_s(), commits * places
    figures: dict[tuple[str, str], float | None] = {
        ("commit_ms", "ms"): took_s * 1e3 / commits,
        ("partitions_per_s", "1/s"): touched / took_s,
        ("broker_us_per_partition", "us"): spent_s["broker"] * 1e6 / touched,
        ("worker_us_per_partition", "us"): spent_s["worker"] * 1e6 / touched,
    }
    return rows_of(case, figures)


def batch(partitions: int) -> Batch:
    """Return a batch of one record for each partition of each topic."""
    value = bytes(RECORD_BYTES)
    return Batch(
        NOBODY,
        outputs={
            name: [(b"key", value, number) for number in range(partitions)]
            for name in TOPICS_WRITTEN
        },
        partitions=set(range(partitions)),
        offsets={("schedule.events", number): 0 for number in range(partitions)},
    )


def _commit_for(seconds: float, commit: Callable[[], object]) -> int:
    end_s, count = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        commit()
        count += 1
    return count


def _create(rig: Rig, namespace: str, partitions: int) -> None:
    admin = admin_client(rig.kafka)
    for spec in TOPICS:
        if spec.name not in (*TOPICS_WRITTEN, "schedule.events"):
            continue
        name = topic_name(namespace, spec.name)
        made = NewTopic(name, partitions, 1, config=spec.config(1))
        for done in admin.create_topics([made], operation_timeout=CREATED_S).values():
            done.result(CREATED_S)
    time.sleep(1 + partitions * FILES_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
