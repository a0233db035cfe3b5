"""Making an archive: what a log has beyond the archive's end, into files and a manifest.

A run goes on where the last one ended: the first offset of a partition is the end of the last
file of it. Files are put as they are full; the manifest that names them is put last, and only if
no other run put one of its number meanwhile. A long run puts a manifest every
``FILES_A_MANIFEST`` files, so that little is done twice after a kill.

Memory: what a file takes (``filing.py``), and a manifest's index of at most so many files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schemas.errors import BrokerError, SchemaError, StoreError, UsageError
from streams.replay.archive.contents import load
from streams.replay.archive.filing import HEADER, Filed, Task, put_files
from streams.replay.archive.manifest import Manifest, encode, manifest_key, nested, sign, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from schemas.ids import SchemaIds
    from streams.replay.archive.container import Codec
    from streams.replay.archive.manifest import Cut, File, Place
    from streams.replay.archive.port import Objects
    from streams.replay.log import Log

    Filer = Callable[[Sequence[Task]], Iterator[Filed]]

FILES_A_MANIFEST: Final = 256


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
        filer: Filer | None = None,
    ) -> None:
        """Take the places; ``progress`` is told what is read, partitions done, and of how many.

        ``filer`` puts the files instead of this process; those of a partition in their order.
        """
        self._objects = objects
        self._log = log
        self._ids = ids
        self._wanted = wanted
        self._progress = progress
        self._filer = filer
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
        tasks = self._tasks()
        done = 0
        for filed in (self._filer or self._here)(tasks):
            self._progress(filed.file.topic, done, len(tasks))
            done += filed.file.end == self._wanted.ends[filed.file.topic][filed.file.partition]
            self._take(filed)
        self._progress("manifest", len(tasks), len(tasks))
        if self._is_news():
            self._put_manifest(last=True)
        self._report.run, self._report.head = self._contents.run, self._contents.head
        return self._report

    def _tasks(self) -> list[Task]:
        """Return what there is to do of each partition that has something new."""
        wanted, contents = self._wanted, self._contents
        if not contents.run:
            contents.namespace = wanted.namespace
        tasks: list[Task] = []
        for place, end in sorted(spans(wanted.ends).items()):
            first = self._first(place, end)
            if first < end:
                previous = contents.chain(place)
                tasks.append(Task(wanted.namespace, place, first, end, previous, wanted.codec))
        return tasks

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

    def _here(self, tasks: Sequence[Task]) -> Iterator[Filed]:
        """Put the files of all tasks, one after the other."""
        for task in tasks:
            yield from put_files(self._objects, self._log, task)

    def _take(self, filed: Filed) -> None:
        """Note a file that was put."""
        file, report = filed.file, self._report
        self._files.append(file)
        self._headers |= filed.headers
        report.records += file.records
        report.raw_bytes += filed.raw_bytes
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
            if len(header) < HEADER or header[0] or schema_id in self._contents.schemas:
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
