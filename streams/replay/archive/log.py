"""An archive as a log that can be read again (``streams/replay/log.py``).

Offsets and times are found in the manifests' index. What is fetched at once is a file's header and
a few blocks of it, so memory is bounded whatever the archive's size, and each block is checked
against its digest: what was changed is never handed on.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, cast

from schemas.errors import BrokerError, StoreError, UsageError
from streams.replay.archive.container import digest_of, header_of
from streams.replay.archive.contents import ADVICE, load
from streams.replay.log import READ_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.catalogue import Schema
    from schemas.ids import SchemaIds
    from streams.replay.archive.container import Block
    from streams.replay.archive.contents import Contents
    from streams.replay.archive.manifest import File
    from streams.replay.archive.port import Objects
    from streams.replay.log import Entry

FETCH_BYTES: Final = 2 << 20
"""About the most bytes of blocks fetched at once; an object store answers in tens of ms. Whoever
reads many partitions in turns, as a restore does, holds as many bytes of each, and one block."""


class ArchiveLog:
    """The topics of an archive; StoreError where it cannot be trusted or is empty."""

    def __init__(self, objects: Objects, contents: Contents | None = None) -> None:
        self._objects = objects
        self.contents = load(objects) if contents is None else contents
        if not self.contents.run:
            raise StoreError("There is no archive here: no run has ended.")

    @property
    def namespace(self) -> str:
        """The namespace of the cluster that it was made of."""
        return self.contents.namespace or ""

    def partitions(self, topic: str) -> int:
        """See :class:`streams.replay.log.Log`."""
        try:
            return self.contents.partitions[topic]
        except KeyError:
            raise UsageError(f"There is no topic {topic} in this archive.") from None

    def firsts(self, topic: str) -> dict[int, int]:
        """See :class:`streams.replay.log.Log`."""
        found: dict[int, int] = {}
        for number in range(self.partitions(topic)):
            files = self._files(topic, number)
            found[number] = files[0].first if files else self._end(topic, number)
        return found

    def ends(self, topic: str) -> dict[int, int]:
        """See :class:`streams.replay.log.Log`. They are the last run's."""
        return {number: self._end(topic, number) for number in range(self.partitions(topic))}

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """See :class:`streams.replay.log.Log`."""
        self.partitions(topic)
        for file in self._files(topic, partition):
            for number, block in enumerate(file.blocks):
                if block.last_ms >= at_ms:
                    for entry in next(self._blocks(file, number, number + 1)):
                        if entry.timestamp_ms >= at_ms:
                            return entry.offset
        return self._end(topic, partition)

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Entry]]:
        """See :class:`streams.replay.log.Log`."""
        self.partitions(topic)
        if first >= end:
            return
        if end > self._end(topic, partition):
            raise BrokerError(
                f"The archive has {topic}, partition {partition}, up to offset "
                f"{self._end(topic, partition)}, not to {end}: archive again."
            )
        files = self._files(topic, partition)
        at = max(bisect_right(files, first, key=lambda file: file.first) - 1, 0)
        for file in files[at:]:
            if file.first >= end:
                return
            for entries in self._read_file(file, first, end):
                if entries[0].offset < first or entries[-1].offset >= end:
                    entries = [one for one in entries if first <= one.offset < end]  # noqa: PLW2901
                for low in range(0, len(entries), READ_RECORDS):
                    yield entries[low : low + READ_RECORDS]

    def _read_file(self, file: File, first: int, end: int) -> Iterator[list[Entry]]:
        blocks = file.blocks
        low = max(bisect_right(blocks, first, key=lambda block: block.first) - 1, 0)
        while low < len(blocks) and blocks[low].first < end:
            high, size = low, 0
            while high < len(blocks) and blocks[high].first < end and size < FETCH_BYTES:
                size += _until(file, high) - blocks[high].position
                high += 1
            yield from self._blocks(file, low, high)
            low = high

    def _blocks(self, file: File, low: int, high: int) -> Iterator[list[Entry]]:
        """Yield the entries of some blocks of a file that are fetched at once, each checked."""
        blocks: tuple[Block, ...] = file.blocks[low:high]
        start, until = blocks[0].position, _until(file, high - 1)
        header = self._objects.get_range(file.key, 0, file.blocks[0].position)
        body = self._objects.get_range(file.key, start, until)
        if header is None or body is None:
            raise StoreError(f"{file.key} is not in the archive. {ADVICE}")
        for number, block in enumerate(blocks, low):
            part = body[block.position - start : _until(file, number) - start]
            try:
                entries = header_of(header).entries(part)
            except ValueError as error:
                raise StoreError(f"{file.key} cannot be read: {error}. {ADVICE}") from error
            if len(entries) != block.records or digest_of(entries) != block.digest:
                raise StoreError(
                    f"{file.key} is not as it was written, from offset {block.first} on. {ADVICE}"
                )
            yield entries

    def _files(self, topic: str, partition: int) -> list[File]:
        return self.contents.files.get((topic, partition), [])

    def _end(self, topic: str, partition: int) -> int:
        return self.contents.ends.get((topic, partition), 0)


def _until(file: File, number: int) -> int:
    """Return where a block ends."""
    blocks = file.blocks
    return blocks[number + 1].position if number + 1 < len(blocks) else file.size_bytes


class ArchivedIds:
    """Schema ids as an archive knows them, for reading; today's for writing (``ids``)."""

    def __init__(self, contents: Contents, ids: SchemaIds) -> None:
        self._ids = ids
        self._archived = contents.schemas

    def id_of(self, name: str) -> int:
        """See :class:`schemas.ids.SchemaIds`."""
        return self._ids.id_of(name)

    def schema_of(self, schema_id: int) -> tuple[str, Schema] | None:
        """See :class:`schemas.ids.SchemaIds`. The archive's word counts."""
        found = self._archived.get(schema_id)
        if found is None:
            return self._ids.schema_of(schema_id)
        schema = cast("Schema", found)
        name, space = str(schema["name"]), str(schema.get("namespace", ""))
        return name if "." in name or not space else f"{space}.{name}", schema
