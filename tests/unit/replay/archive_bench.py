"""What the tests of archives share: a log in memory, an archive of it, and a second look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.ids import FingerprintIds
from streams.replay.archive.log import ArchiveLog
from streams.replay.archive.port import MemoryObjects
from streams.replay.archive.verify import verify
from streams.replay.archive.writer import ArchiveRun, Wanted
from streams.replay.log import MemoryLog

if TYPE_CHECKING:
    from streams.replay.archive.port import Objects
    from streams.replay.archive.verify import Verdict
    from streams.replay.archive.writer import Report
    from streams.replay.log import Entry, Log

TOPICS = ("capture.results", "schedule.ticks")
PARTITIONS = 2
NAMESPACE = "site"


def filled(records: int = 40, log: MemoryLog | None = None, start: int = 0) -> MemoryLog:
    """Return a log with that many more records in each partition of each topic."""
    log = log or MemoryLog(PARTITIONS)
    for number in range(start, start + records):
        for topic in TOPICS:
            for partition in range(PARTITIONS):
                value = b"\0\0\0\0\1" + f"{topic} {partition} {number}".encode()
                log.append(topic, partition, b"k%d" % number, value, 1_000 + 10 * number)
    return log


def archive(objects: Objects, log: Log, **wanted: object) -> Report:
    ends = {topic: log.ends(topic) for topic in TOPICS}
    return ArchiveRun(
        objects,
        log,
        FingerprintIds(),
        Wanted(NAMESPACE, ends, **wanted),  # type: ignore[arg-type]
    ).run()


def three_runs(objects: MemoryObjects | None = None) -> tuple[MemoryObjects, MemoryLog, list[str]]:
    """Return an archive of three runs, its log, and the heads of the runs."""
    objects, log, heads = objects or MemoryObjects(), MemoryLog(PARTITIONS), []
    for run in range(3):
        filled(40, log, 40 * run)
        heads.append(archive(objects, log).head)
    return objects, log, heads


def everything(log: Log, topic: str, partition: int) -> list[Entry]:
    end = log.ends(topic)[partition]
    return [e for b in log.read(topic, partition, log.firsts(topic)[partition], end) for e in b]


def same(objects: Objects, log: Log) -> bool:
    """Say whether an archive reads as the log it was made of."""
    archived = ArchiveLog(objects)
    return all(
        everything(archived, topic, number) == everything(log, topic, number)
        for topic in TOPICS
        for number in range(PARTITIONS)
    )


def kinds(verdict: Verdict) -> set[str]:
    return {finding.kind for finding in verdict.findings}


def look(objects: Objects, **how: str) -> Verdict:
    return verify(objects, **how)  # type: ignore[arg-type]
