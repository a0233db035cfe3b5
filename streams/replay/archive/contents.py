"""What an archive holds, by its manifests: each in its place in the chain, or a StoreError.

This reads no file, so it is quick however large the archive. Whoever reads a block checks it
against its digest, and ``verify.py`` reads everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.errors import StoreError
from streams.replay.archive.manifest import (
    RUNS,
    Cut,
    File,
    Manifest,
    Place,
    chained,
    decode,
    genesis,
    manifest_key,
    spans,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.replay.archive.port import Objects

ADVICE = "`shutterwheel archive --verify` says what is wrong."


@dataclass(slots=True)
class Contents:
    """The manifests of an archive, taken together."""

    run: int = 0
    """Number of the newest manifest; 0: the archive is empty."""
    head: str = ""
    """Its hash."""
    namespace: str | None = None
    heads: list[str] = field(default_factory=list)
    """Of every run, oldest first."""
    partitions: dict[str, int] = field(default_factory=dict)
    """Partitions by topic."""
    files: dict[Place, list[File]] = field(default_factory=dict)
    """Files by place, in the order of their offsets."""
    ends: dict[Place, int] = field(default_factory=dict)
    schemas: dict[int, dict[str, object]] = field(default_factory=dict)
    cuts: dict[int, Cut] = field(default_factory=dict)
    """From which a system can be restored, by run."""
    gaps: list[str] = field(default_factory=list)

    def add(self, manifest: Manifest, head: str) -> list[str]:
        """Take in the next manifest; return what is wrong with its place in the chain."""
        wrong: list[str] = []
        if manifest.run != self.run + 1:
            wrong.append(f"it says that it is run {manifest.run}")
        if manifest.previous != self.head:
            wrong.append(f"it does not follow run {self.run} as that stands here")
        if self.namespace is not None and manifest.namespace != self.namespace:
            wrong.append(f"it is of namespace {manifest.namespace!r}")
        self.run += 1
        self.head, self.namespace = head, manifest.namespace
        self.heads.append(head)
        self.partitions |= manifest.partitions
        for file in manifest.files:
            wrong += self._add_file(file)
        for place, end in spans(manifest.ends).items():
            self.ends[place] = max(end, self.ends.get(place, 0))
        self.schemas |= manifest.schemas
        self.gaps += manifest.gaps
        if manifest.cut is not None:
            self.cuts[manifest.run] = manifest.cut
        return wrong

    def _add_file(self, file: File) -> Iterator[str]:
        files = self.files.setdefault(file.place, [])
        if files:
            chain, end = files[-1].chain, files[-1].end
        else:
            chain, end = genesis(self.namespace or "", *file.place), file.first
        name = f"{file.topic}, partition {file.partition}, offsets {file.first} to {file.end - 1}"
        if file.first != end:
            yield f"{name}: the file before ends at {end}"
        if file.previous != chain:
            yield f"{name}: its chain does not go on where the file before ends"
        if chained(file) != file.chain:
            yield f"{name}: its chain value is not what its entry comes to"
        files.append(file)
        self.ends[file.place] = file.end

    def chain(self, place: Place) -> str:
        """Return the chain value that the next file of a partition goes on from."""
        files = self.files.get(place)
        return files[-1].chain if files else genesis(self.namespace or "", *place)


def run_numbers(objects: Objects) -> list[int]:
    """Return the numbers of the manifests that are there."""
    found: list[int] = []
    for key in objects.keys(RUNS):
        name = key.rpartition("/")[2]
        if name.endswith(".json") and name[:-5].isdigit():
            found.append(int(name[:-5]))
    return sorted(found)


def load(objects: Objects) -> Contents:
    """Return what an archive holds; one that is empty has run 0.

    StoreError where a manifest is missing, damaged or out of its place.
    """
    contents = Contents()
    for run in run_numbers(objects):
        data = objects.get(manifest_key(run))
        if run != contents.run + 1 or data is None:
            raise StoreError(f"The archive has no manifest {contents.run + 1}. {ADVICE}")
        try:
            wrong = contents.add(*decode(data))
        except StoreError as error:
            raise StoreError(f"Manifest {run} cannot be used: {error}. {ADVICE}") from error
        if wrong:
            raise StoreError(f"Manifest {run} cannot be used: {wrong[0]}. {ADVICE}")
    return contents
