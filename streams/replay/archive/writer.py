"""Making an archive: what a log has beyond the archive's end, into files and a manifest.

A run goes on where the last one ended: the first offset of a partition is the end of the last
file of it. Files are put as they are full; the manifest that names them is put last, and only if
no other run put one of its number meanwhile. A long run puts a manifest every
``FILES_A_MANIFEST`` files, so that little is done twice after a kill.

Memory: one file's keys and values, before and after compression (``container.FILE_BYTES``), and a
manifest's index of at most so many files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schemas.errors import BrokerError, SchemaError, StoreError, UsageError
from streams.replay.archive.container import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    FILE_BYTES,
    ContainerWriter,
)
from streams.replay.archive.contents import load
from streams.replay.archive.manifest import (
    File,
    Manifest,
    chain_value,
    encode,
    file_key,
    manifest_key,
    nested,
    sign,
    spans,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from schemas.ids import SchemaIds
    from streams.replay.archive.container import Codec
    from streams.replay.archive.manifest import Cut, Place
    from streams.replay.archive.port import Objects
    from streams.replay.log import Entry, Log

FILES_A_MANIFEST: Final = 256
HEADER: Final = 5
"""Bytes of the wire format before a value's Avro; the schema's id stands in them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to archive."""

    namespace: str
    ends: Mapping[str, Mapping[int, int]]
    """Up to where, by topic and partition."""
    from_ms: int | None = None
    """From when on, of a topic of which the archive has nothing yet; None: all there is."""
    cut: Cut | None = None
    """The moment that these ends are, if a system can be restored from it."""
    codec: Codec = "zstandard"
    secret: str = ""
    """Signs the manifest; empty: nobody does."""
    made_at_ms: int = 0


@dataclass(slots=True)
class Report:
    """What a run did."""

    run: int = 0
    head: str = ""
    """Hash of the newest manifest; to be kept where the archive is not."""
    records: int = 0
    raw_bytes: int = 0
    """Of keys and values."""
    size_bytes: int = 0
    """Of files."""
    files: int = 0
    topics: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Records and bytes of files, by topic."""
    gaps: list[str] = field(default_factory=list)


class ArchiveRun:
    """One run. UsageError where the archive is another system's; StoreError, BrokerError."""

    def __init__(
        self,
        objects: Objects,
        log: Log,
        ids: SchemaIds,
        wanted: Wanted,
        progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
    ) -> None:
        """Take the places; ``progress`` is told what is read, partitions done, and of how many."""
        self._objects = objects
        self._log = log
        self._ids = ids
        self._wanted = wanted
        self._progress = progress
        self._contents = load(objects)
        self._firsts: dict[str, dict[int, int]] = {}
        self._files: list[File] = []
        self._schemas: dict[int, dict[str, Any]] = {}
        self._headers: set[bytes] = set()
        self._report = Report()
        self._check()

    def _check(self) -> None:
        contents, wanted = self._contents, self._wanted
        if contents.run and contents.namespace != wanted.namespace:
            raise UsageError(
                f"The archive is of namespace {contents.namespace!r}, not {wanted.namespace!r}: "
                "give each namespace an archive of its own."
            )
        for place, end in spans(wanted.ends).items():
            known = contents.ends.get(place, 0)
            parts = contents.partitions.get(place[0], self._log.partitions(place[0]))
            if end < known or parts != self._log.partitions(place[0]):
                raise UsageError(
                    f"{place[0]}, partition {place[1]}, ends at {end} of {parts} partitions, but "
                    f"was archived to {known}: it is not the topic that was archived."
                )

    def run(self) -> Report:
        """Archive what is new and return what that was."""
        places = sorted(spans(self._wanted.ends).items())
        for done, (place, end) in enumerate(places):
            self._progress(place[0], done, len(places))
            first = self._first(place, end)
            if first < end:
                self._archive(place, first, end)
        self._progress("manifest", len(places), len(places))
        if self._is_news():
            self._put_manifest(last=True)
        self._report.run, self._report.head = self._contents.run, self._contents.head
        return self._report

    def _is_news(self) -> bool:
        """Say whether there is anything to put down that the last manifest has not."""
        contents, cut = self._contents, self._wanted.cut
        if self._files or not contents.run:
            return True
        before = contents.cuts.get(contents.run)
        return cut is not None and (
            before is None or (before.ends, before.groups) != (cut.ends, cut.groups)
        )

    def _first(self, place: Place, end: int) -> int:
        """Return where to begin with a partition; note what was dropped before we came."""
        topic, partition = place
        if topic not in self._firsts:
            self._firsts[topic] = self._log.firsts(topic)
        kept = self._firsts[topic][partition]
        if place in self._contents.files:
            first = self._contents.ends[place]
            if kept > first:
                self._report.gaps.append(
                    f"{topic}, partition {partition}: offsets {first} to {min(kept, end) - 1} had "
                    "been dropped by the cluster before this run."
                )
            return first
        if self._wanted.from_ms is not None:
            return min(end, max(kept, self._log.offset_at(topic, partition, self._wanted.from_ms)))
        return kept

    def _archive(self, place: Place, first: int, end: int) -> None:
        writer = self._container(place, first)
        size = 0
        for block, block_bytes in self._in_blocks(place, first, end):
            if size and size + block_bytes > FILE_BYTES:
                self._put_file(place, writer, first, block[0].offset)
                first, size = block[0].offset, 0
                writer = self._container(place, first)
            writer.add(block)
            size += block_bytes
            self._report.raw_bytes += block_bytes
            self._headers.update(
                value[:HEADER] for _, _, _, value in block if value and value[0] == 0
            )
        self._put_file(place, writer, first, end)

    def _in_blocks(self, place: Place, first: int, end: int) -> Iterator[tuple[list[Entry], int]]:
        """Yield the entries in the blocks that the file will have, with their bytes."""
        waiting: list[Entry] = []
        size = 0
        for batch in self._log.read(*place, first, end):
            for entry in batch:
                bytes_ = len(entry.key or b"") + len(entry.value or b"")
                if waiting and (size + bytes_ > BLOCK_BYTES or len(waiting) >= BLOCK_RECORDS):
                    yield waiting, size
                    waiting, size = [], 0
                waiting.append(entry)
                size += bytes_
        if waiting:
            yield waiting, size

    def _container(self, place: Place, first: int) -> ContainerWriter:
        return ContainerWriter(
            self._wanted.codec,
            {
                "shutterwheel.namespace": self._wanted.namespace,
                "shutterwheel.topic": place[0],
                "shutterwheel.partition": str(place[1]),
                "shutterwheel.first": str(first),
                "shutterwheel.previous": self._chain(place),
            },
        )

    def _chain(self, place: Place) -> str:
        for file in reversed(self._files):
            if file.place == place:
                return file.chain
        if not self._contents.run:
            self._contents.namespace = self._wanted.namespace
        return self._contents.chain(place)

    def _put_file(self, place: Place, writer: ContainerWriter, first: int, end: int) -> None:
        data = writer.finish()
        sha256, previous = hashlib.sha256(data).hexdigest(), self._chain(place)
        span = (first, end, writer.records)
        file = File(
            key=file_key(place, first, end, sha256),
            topic=place[0],
            partition=place[1],
            first=first,
            end=end,
            records=writer.records,
            size_bytes=len(data),
            sha256=sha256,
            previous=previous,
            chain=chain_value(previous, sha256, place, span),
            blocks=tuple(writer.blocks),
        )
        # One of the same name has the same bytes: a run that was killed had come as far.
        if not self._objects.put_new(file.key, data) and self._objects.get(file.key) != data:
            raise StoreError(f"{file.key} is in the archive with other bytes than its name says.")
        self._files.append(file)
        report = self._report
        report.records += file.records
        report.size_bytes += file.size_bytes
        report.files += 1
        records, size = report.topics.get(file.topic, (0, 0))
        report.topics[file.topic] = (records + file.records, size + file.size_bytes)
        if len(self._files) >= FILES_A_MANIFEST:
            self._put_manifest(last=False)

    def _put_manifest(self, *, last: bool) -> None:
        contents, wanted = self._contents, self._wanted
        ends = {place: contents.ends.get(place, 0) for place in spans(wanted.ends)}
        ends |= {file.place: file.end for file in self._files}
        manifest = Manifest(
            run=contents.run + 1,
            previous=contents.head,
            namespace=wanted.namespace,
            made_at_ms=wanted.made_at_ms,
            codec=wanted.codec,
            partitions={topic: self._log.partitions(topic) for topic in wanted.ends},
            ends=wanted_ends(wanted) if last else nested(ends),
            files=tuple(self._files),
            schemas=self._new_schemas(),
            gaps=tuple(self._report.gaps) if last else (),
            cut=wanted.cut if last else None,
        )
        if wanted.secret:
            manifest = sign(manifest, wanted.secret)
        data, head = encode(manifest)
        if not self._objects.put_new(manifest_key(manifest.run), data):
            raise StoreError(
                f"Another run has put manifest {manifest.run} meanwhile. Nothing is lost: archive "
                "again."
            )
        wrong = contents.add(manifest, head)
        if wrong:
            raise StoreError(f"Manifest {manifest.run} does not follow: {wrong[0]}. This is a bug.")
        self._files = []

    def _new_schemas(self) -> dict[int, dict[str, Any]]:
        """Return the schemas of values since the last manifest that none before has."""
        found: dict[int, dict[str, Any]] = {}
        for header in self._headers:
            schema_id = int.from_bytes(header[1:], "big")
            if len(header) < HEADER or schema_id in self._contents.schemas:
                continue
            try:
                known = self._ids.schema_of(schema_id)
            except (BrokerError, SchemaError):
                known = None  # of a poison record, or of a registry that cannot be asked now
            if known is not None:
                found[schema_id] = msgspec.to_builtins(known[1])
        return found


def wanted_ends(wanted: Wanted) -> dict[str, dict[int, int]]:
    """Return the ends as a manifest has them."""
    return {topic: dict(of) for topic, of in wanted.ends.items()}
