"""Streams: the runtime and its peers on the same work, records and broker.

Each system is one process with one input that was filled before it starts. ``work.py`` says what is
done in each case, ``runner.py`` what is measured, ``peers.py`` and a file a peer how each is run.
Ours is exactly once in every case; the peers' guarantee in a case stands in ``peers.py`` and is
printed.

``records`` is how many the figure is from: a slow peer is given fewer, from an input of its own.
``changelog_per_record`` is how far the table's changelog grew for each record (markers of
transactions included): at least 1, as every put reached it.
``recovery`` brings back what the case ``state`` of the same system wrote, a changelog record each;
where that case was not asked for it is run first, unmeasured.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from benchmarks.load import PARTITIONS
from benchmarks.options import chosen
from benchmarks.result import Row
from benchmarks.streams.peers import SYSTEMS, System
from benchmarks.streams.runner import measure
from benchmarks.streams.work import CASES, CONSUME, RECOVERY, STATE, Job, record
from infra.kafka.admin import admin_client
from infra.kafka.offsets import list_offsets
from schemas.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options
    from benchmarks.streams.runner import Measured

RECORDS: Final = 2_000_000
QUICK_RECORDS: Final = 200_000
KEYS: Final = 200_000
SLOW_SHARE: Final = 20
SLOW_LEAST: Final = 20_000
"""A slow peer is given a twentieth of the records, and this many at least."""
ANSWER_S: Final = 30.0
MEBIBYTE: Final = 1024 * 1024


def shares(records: int, partitions: int, *, slow: bool) -> int:
    """Return how many records a system is given: a multiple of the partitions."""
    given = min(records, max(records // SLOW_SHARE, SLOW_LEAST)) if slow else records
    return max(1, given // partitions) * partitions


class Bench:
    """One shape of the input: inputs that are filled once, and the jobs on them.

    ``keys`` is rounded up to a multiple of the partitions: a key has one partition. ``label`` is
    added to the names of cases.
    """

    def __init__(self, rig: Rig, records: int, keys: int, partitions: int, label: str = "") -> None:
        self._rig = rig
        self._records = records
        self._keys = -(-keys // partitions) * partitions
        self._partitions = partitions
        self._label = label
        self._namespace = rig.new_namespace()
        self._admin = admin_client(rig.kafka)
        self._inputs: dict[int, str] = {}
        self._commands: dict[str, list[str]] = {}
        self._jobs = 0
        self._tables: set[str] = set()
        """Systems whose table is there to be recovered."""

    def _make(self, *topics: NewTopic) -> None:
        for future in self._admin.create_topics(list(topics)).values():
            future.result()

    def _input(self, records: int) -> str:
        """Return the name of an input of so many records; fill it if it is not there yet."""
        name = f"in-{records}"
        if records not in self._inputs:
            full = f"{self._namespace}.{name}"
            self._rig.say(f"writing {records:,} records")
            self._make(NewTopic(full, self._partitions, 1))
            producer = Producer(
                {
                    "bootstrap.servers": self._rig.kafka,
                    "linger.ms": 20,
                    "batch.size": 256 * 1024,
                    "queue.buffering.max.messages": 200_000,
                }
            )
            for number in range(records):
                key, value = record(number, self._keys)
                while len(producer) > 150_000:
                    producer.poll(0.05)
                producer.produce(full, value, key, number % self._partitions)
                if number % 1_000 == 0:
                    producer.poll(0)
            if producer.flush(60.0):
                raise BrokerError("The input could not be written in time.")
            self._inputs[records] = name
        return name

    def _job(self, system: System, case: str) -> Job:
        source = self._input(shares(self._records, self._partitions, slow=system.slow))
        of = STATE if case == RECOVERY else case
        self._jobs += 1
        return Job(
            case=case,
            bootstrap=self._rig.kafka,
            namespace=self._namespace,
            source=source,
            sink=f"{system.name}-{of}-out",
            changelog=f"{system.name}-{of}-log",
            group=f"{system.name}-{of}",
            partitions=self._partitions,
            records=shares(self._records, self._partitions, slow=system.slow),
            folder=str(self._rig.folder / f"state-{self._jobs}"),
        )

    def _prepare(self, system: System, job: Job) -> list[str]:
        """Make topics and folder; return the command."""
        if job.case != RECOVERY:
            wanted = [NewTopic(job.full(job.sink), self._partitions, 1)]
            if not system.makes_changelog:
                compact = {"cleanup.policy": "compact"}
                wanted.append(
                    NewTopic(job.full(job.changelog), self._partitions, 1, config=compact)
                )
            self._make(*wanted)
        if system.name not in self._commands:
            self._rig.say(f"{system.name}: getting it ready")
            built = self._rig.folder / f"{self._namespace}-{system.name}"
            built.mkdir()
            self._commands[system.name] = system.prepare(built)
        Path(job.folder).mkdir()
        return [*self._commands[system.name], system.argument(job)]

    def measure(self, system: System, case: str) -> list[Row]:
        """Run a system on a case; return its rows."""
        if case == RECOVERY and system.name not in self._tables:
            self.measure(system, STATE)
        job = self._job(system, case)
        command = self._prepare(system, job)
        promise = system.promise(case)
        self._rig.say(f"{case}: {system.name}, {promise}, {job.records:,} records")
        try:
            found = measure(job, command, self._rig.folder / f"errors-{self._jobs}.txt")
        except BrokerError as error:
            raise BrokerError(f"{case}: {system.name}: {error}") from error
        finally:
            shutil.rmtree(job.folder, ignore_errors=True)
        per_s, us = found.records / found.took_s, found.cpu_s * 1e6 / found.records
        self._rig.say(f"{case}: {system.name}: {per_s:,.0f} records/s, {us:.2f} us of CPU each")
        if case == STATE:
            self._tables.add(system.name)
        rows = rows_of(system.name, case + self._label, found)
        if case != CONSUME:
            grown = self._grown(system.changelog(job)) / job.records
            rows.append(
                Row(case + self._label, system.name, "changelog_per_record", round(grown, 3), "1")
            )
        return rows

    def _grown(self, topic: str) -> int:
        partitions = [(topic, number) for number in range(self._partitions)]
        return sum(list_offsets(self._admin, partitions, "latest", ANSWER_S).values())

    def close(self) -> None:
        """Drop the topics: each partition is a file or more that the broker has open."""
        names = self._admin.list_topics(timeout=ANSWER_S).topics
        ours = [name for name in names if self._namespace in name]
        for future in self._admin.delete_topics(ours).values() if ours else ():
            future.exception()


def rows_of(system: str, case: str, found: Measured) -> list[Row]:
    """Return the figures of a run."""
    figures = {
        ("records_per_s", "1/s"): found.records / found.took_s,
        ("cpu_us_per_record", "us"): found.cpu_s * 1e6 / found.records,
        ("peak_rss_mb", "MiB"): found.peak_rss_bytes / MEBIBYTE,
        ("records", "1"): found.records,
    }
    return [
        Row(case, system, metric, round(value, 3), unit)
        for (metric, unit), value in figures.items()
    ]


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case of every system that was asked for."""
    systems = {system.name: system for system in SYSTEMS}
    names = chosen(options.systems, list(systems), "system")
    cases = chosen(options.cases, CASES, "case")
    records = options.records or (QUICK_RECORDS if options.quick else RECORDS)
    shapes = [(p, k) for p in options.partitions or (PARTITIONS,) for k in options.keys or (KEYS,)]
    for partitions, keys in shapes:
        label = f", {partitions:,} partitions, {keys:,} keys" if len(shapes) > 1 else ""
        bench = Bench(rig, records, keys, partitions, label)
        try:
            for case in cases:
                for name in names:
                    if case in systems[name].cases:
                        yield from bench.measure(systems[name], case)
        finally:
            bench.close()
