"""The files of one partition: what a log has of a range of offsets, put one file after the other.

Partitions do not know of each other here, so that several processes may each have some
(``writer.py``; ``shutterwheel/archive_jobs.py``). A task is a range; it may be done in parts, as a
file's chain goes on from the one before wherever that was made.

Memory: one file's keys and values, and what it is compressed to (``container.FILE_BYTES``).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.errors import StoreError
from streams.replay.archive.container import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    FILE_BYTES,
    ContainerWriter,
)
from streams.replay.archive.manifest import File, chain_value, file_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.replay.archive.container import Codec
    from streams.replay.archive.manifest import Place
    from streams.replay.archive.port import Objects
    from streams.replay.log import Entry, Log

HEADER: Final = 5
"""Bytes of the wire format before a value's Avro; the schema's id stands in them."""


@dataclass(frozen=True, slots=True)
class Task:
    """A range of a partition to put into files."""

    namespace: str
    place: Place
    first: int
    end: int
    previous: str
    """Chain value that its first file goes on from."""
    codec: Codec = "zstandard"


class Filed(NamedTuple):
    """A file that was put."""

    file: File
    raw_bytes: int
    """Of its keys and values."""
    headers: frozenset[bytes]
    """First bytes of its values: which schemas they name."""


def put_files(objects: Objects, log: Log, task: Task) -> Iterator[Filed]:
    """Put the files of a task and yield each. StoreError, BrokerError."""
    writer, size, headers = _container(task), 0, set[bytes]()
    for block, block_bytes in _in_blocks(log, task):
        if size and size + block_bytes > FILE_BYTES:
            rest = block[0].offset
            filed = Filed(_put(objects, task, writer, rest), size, frozenset(headers))
            yield filed
            task = replace(task, first=rest, previous=filed.file.chain)
            writer, size = _container(task), 0
            headers.clear()
        writer.add(block)
        size += block_bytes
        headers.update({value[:HEADER] for _, _, _, value in block if value})
    yield Filed(_put(objects, task, writer, task.end), size, frozenset(headers))


def put_some(objects: Objects, log: Log, task: Task, files: int) -> tuple[list[Filed], Task | None]:
    """Put so many files of a task at most; return them, and what is left of it."""
    found: list[Filed] = []
    for filed in put_files(objects, log, task):
        found.append(filed)
        if filed.file.end == task.end:
            return found, None
        if len(found) == files:
            break
    last = found[-1].file
    return found, replace(task, first=last.end, previous=last.chain)


def _in_blocks(log: Log, task: Task) -> Iterator[tuple[list[Entry], int]]:
    """Yield the entries in the blocks that the file will have, with their bytes."""
    waiting: list[Entry] = []
    size = 0
    for batch in log.read(*task.place, task.first, task.end):
        sizes = [len(key or b"") + len(value or b"") for _, _, key, value in batch]
        sums = list(accumulate(sizes, initial=0))
        at = 0
        while at < len(batch):
            room = BLOCK_BYTES - size + sums[at]
            until = min(bisect_right(sums, room) - 1, at + BLOCK_RECORDS - len(waiting))
            if until <= at and waiting:
                yield waiting, size
                waiting, size = [], 0
                continue
            until = min(max(until, at + 1), len(batch))  # one that is larger has its own
            waiting += batch[at:until]
            size += sums[until] - sums[at]
            at = until
    if waiting:
        yield waiting, size


def _container(task: Task) -> ContainerWriter:
    return ContainerWriter(
        task.codec,
        {
            "shutterwheel.namespace": task.namespace,
            "shutterwheel.topic": task.place[0],
            "shutterwheel.partition": str(task.place[1]),
            "shutterwheel.first": str(task.first),
            "shutterwheel.previous": task.previous,
        },
    )


def _put(objects: Objects, task: Task, writer: ContainerWriter, end: int) -> File:
    data = writer.finish()
    sha256 = hashlib.sha256(data).hexdigest()
    span = (task.first, end, writer.records)
    file = File(
        key=file_key(task.place, task.first, end, sha256),
        topic=task.place[0],
        partition=task.place[1],
        first=task.first,
        end=end,
        records=writer.records,
        size_bytes=len(data),
        sha256=sha256,
        previous=task.previous,
        chain=chain_value(task.previous, sha256, task.place, span),
        blocks=tuple(writer.blocks),
    )
    # One of the same name has the same bytes: a run that was killed had come as far.
    if not objects.put_new(file.key, data) and objects.get(file.key) != data:
        raise StoreError(f"{file.key} is in the archive with other bytes than its name says.")
    return file
