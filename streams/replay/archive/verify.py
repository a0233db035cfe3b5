"""Is an archive as it was written? Reads all of it and says what is wrong, where, in which way.

Manifests first, each by itself (its two lines), by the one before it, by its signature where a
secret is given, and all together by a head that was kept elsewhere. Then each file that they name,
by its SHA-256. A file that is not what it was is read as far as it makes sense and laid beside the
index of its blocks: so the range of offsets is named in which records were changed, taken away, put
in or moved.

What this cannot see: a history that somebody made up whole, or cut short at a manifest, where
neither a head is known nor a secret used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from schemas.errors import StoreError
from streams.replay.archive.container import digest_of, metadata_of, readable_entries
from streams.replay.archive.contents import Contents, run_numbers
from streams.replay.archive.manifest import FILES, decode, manifest_key, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.replay.archive.manifest import File, Manifest, Place
    from streams.replay.archive.port import Objects
    from streams.replay.log import Entry

Kind = Literal[
    "manifest missing", "manifest changed", "chain broken", "signature wrong", "head unknown",
    "file missing", "file truncated", "file longer", "file swapped", "file changed",
    "records changed", "records removed", "records added", "records reordered",
]  # fmt: skip
MOST_STRAYS: Final = 20
"""Files that no manifest names, of which so many are listed."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it was written."""

    kind: Kind
    key: str
    """The file of the archive."""
    text: str
    """In words."""
    first: int | None = None
    """First offset of the range in which it is wrong."""
    end: int | None = None


@dataclass(slots=True)
class Verdict:
    """What became of a verification."""

    run: int = 0
    head: str = ""
    files: int = 0
    records: int = 0
    size_bytes: int = 0
    signed: int = 0
    """Manifests whose signature was checked and right."""
    findings: list[Finding] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    """Files that no manifest names: of a run that was killed, or of runs that were cut off."""

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.findings


def verify(
    objects: Objects,
    *,
    head: str = "",
    secret: str = "",
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Verdict:
    """Read an archive and say what is wrong with it.

    ``head``: of any run, as that run printed it; it must be among those found. ``secret``: every
    manifest must be signed with it.
    """
    verdict, contents = Verdict(), Contents()
    files = list(_manifests(objects, verdict, contents, secret))
    if head and head not in contents.heads:
        text = f"No run here has the head {head}: runs were changed or cut off."
        verdict.findings.append(Finding("head unknown", "runs", text))
    by_hash = {file.sha256: file for file in files}
    for done, file in enumerate(files):
        progress(file.topic, done, len(files))
        verdict.findings += _file(objects.get(file.key), file, by_hash)
        verdict.files += 1
        verdict.records += file.records
        verdict.size_bytes += file.size_bytes
    named = {file.key for file in files}
    strays = sorted(key for key in objects.keys(FILES) if key not in named)
    verdict.strays = strays[:MOST_STRAYS]
    verdict.run, verdict.head = contents.run, contents.head
    return verdict


def _manifests(
    objects: Objects, verdict: Verdict, contents: Contents, secret: str
) -> Iterator[File]:
    """Check the manifests; yield the files that those name which can be read."""
    findings, numbers = verdict.findings, run_numbers(objects)
    sure: set[Place] | None = None
    """Partitions whose chain goes on since a manifest could not be read; None: all could."""
    for run in range(1, (numbers[-1] if numbers else 0) + 1):
        key = manifest_key(run)
        data = objects.get(key)
        try:
            if data is None:
                findings.append(Finding("manifest missing", key, f"There is no manifest {run}."))
                sure = set()
                continue
            manifest, head = decode(data)
        except StoreError as error:
            text = f"Manifest {run} is not as it was written: {error}."
            findings.append(Finding("manifest changed", key, text))
            sure = set()
            continue
        if sure is not None:
            _go_on_behind(contents, manifest, sure)
        if secret and signed(manifest, secret):
            verdict.signed += 1
        elif secret:
            text = f"Manifest {run} is not signed with this key."
            findings.append(Finding("signature wrong", key, text))
        findings += [
            Finding("chain broken", key, f"Manifest {run}: {text}.")
            for text in contents.add(manifest, head)
        ]
        yield from manifest.files


def _go_on_behind(contents: Contents, manifest: Manifest, sure: set[Place]) -> None:
    """Take a manifest behind one that cannot be read as it stands: what is missing was said."""
    if contents.run != manifest.run - 1:
        contents.run, contents.head = manifest.run - 1, manifest.previous
    for file in manifest.files:
        if file.place not in sure:
            sure.add(file.place)
            before = msgspec.structs.replace(file, chain=file.previous, end=file.first)
            contents.files[file.place] = [before]


def _file(data: bytes | None, file: File, by_hash: dict[str, File]) -> Iterator[Finding]:
    """Yield what is wrong with a file."""
    what = f"{file.topic}, partition {file.partition}, offsets {file.first} to {file.end - 1}"
    if data is None:
        yield Finding("file missing", file.key, f"{what}: gone.", file.first, file.end)
        return
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == file.sha256:
        return
    other = by_hash.get(sha256)
    if other is not None:
        text = f"{what}: holds what belongs in {other.key}."
        yield Finding("file swapped", file.key, text, file.first, file.end)
        return
    entries, why = readable_entries(data)
    ranges = list(_ranges(entries, file, why))
    size = len(data)
    if size < file.size_bytes and why:
        text = f"{what}: cut at byte {size} of {file.size_bytes}."
        yield Finding("file truncated", file.key, text, _cut_at(ranges, file), file.end)
        return
    if ranges:
        yield from ranges
        return
    if size > file.size_bytes:
        text = f"{what}: {size - file.size_bytes} bytes more than were written."
        yield Finding("file longer", file.key, text, file.first, file.end)
        return
    header = metadata_of(data).get("shutterwheel.previous", "")
    about = "its header" if header != file.previous else "bytes that hold no record"
    text = f"{what}: {about} changed; its records are what they were."
    yield Finding("file changed", file.key, text, file.first, file.end)


def _cut_at(ranges: list[Finding], file: File) -> int:
    firsts = [one.first for one in ranges if one.first is not None]
    return min(firsts, default=file.first)


def _ranges(entries: list[Entry], file: File, why: str) -> Iterator[Finding]:
    """Yield what is wrong with the records, block by block of the index."""
    unread = f"; it cannot be read to its end ({why})" if why else ""
    blocks = file.blocks
    starts = [block.first for block in blocks]
    found: list[list[Entry]] = [[] for _ in blocks]
    outside = 0
    at = 0
    # An entry belongs to the block whose range its offset is in; where the order is broken, to
    # the one it stands in, so that both ranges show it.
    for entry in entries:
        while at + 1 < len(blocks) and entry.offset >= starts[at + 1]:
            at += 1
        if not blocks or not file.first <= entry.offset < file.end:
            outside += 1
        else:
            found[at].append(entry)
    for number, block in enumerate(blocks):
        end = starts[number + 1] if number + 1 < len(blocks) else file.end
        if digest_of(found[number]) != block.digest or len(found[number]) != block.records:
            kind, text = _how(found[number], block.records)
            where = f"{file.topic}, partition {file.partition}, offsets {block.first} to {end - 1}"
            yield Finding(kind, file.key, f"{where}: {text}{unread}.", block.first, end)
    if outside:
        text = f"{file.topic}, partition {file.partition}: {outside} records of other offsets"
        yield Finding("records added", file.key, f"{text}.", file.first, file.end)


def _how(found: list[Entry], records: int) -> tuple[Kind, str]:
    offsets = [entry.offset for entry in found]
    doubles = [offset for offset, times in Counter(offsets).items() if times > 1]
    if len(found) < records:
        return "records removed", f"{records - len(found)} of {records} records are missing"
    if len(found) > records:
        more = f", offset {doubles[0]} twice" if doubles else ""
        return "records added", f"{len(found) - records} records more than the {records}{more}"
    if offsets != sorted(offsets):
        return "records reordered", "records are not in the order of their offsets"
    return "records changed", f"one or more of {records} records changed"
