"""What a run added to an archive, and how all of it hangs together.

A manifest is a line of JSON and a line with the SHA-256 of the first: so an edit by accident is
found by itself, and one on purpose, with the second line made to fit, by the next manifest, which
names the hash of this one, or by the *head* of the newest, kept elsewhere or signed.

**Chain value** of a file, as bytes before and hexadecimal after::

    value = SHA-256(value of its forerunner + SHA-256 of the file
                    + "topic NUL partition NUL first NUL end NUL records")

and before the first file of a partition
``SHA-256("shutterwheel archive NUL namespace NUL topic NUL partition")``.

**Signature**: HMAC-SHA256 of the manifest with an empty one, by a key from the environment. Who
has no such key cannot make up a history that ends in a manifest that is signed.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

import msgspec

from schemas.errors import StoreError
from streams.replay.archive.container import Block, Codec

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
RUNS: Final = "runs"
FILES: Final = "files"
KEY_ENV: Final = "SHUTTERWHEEL_ARCHIVE_KEY"
"""Names the secret that manifests are signed with, where one is set."""
Place = tuple[str, int]
"""Topic, without its namespace, and partition."""


class File(msgspec.Struct, frozen=True):
    """One file of an archive."""

    key: str
    topic: str
    partition: int
    first: int
    """It holds every committed entry of ``first`` <= offset < ``end`` that was still kept."""
    end: int
    records: int
    size_bytes: int
    sha256: str
    previous: str
    """Chain value of the file before it of this partition."""
    chain: str
    """Its own."""
    blocks: tuple[Block, ...]

    @property
    def place(self) -> Place:
        """Its topic and partition."""
        return self.topic, self.partition


class GroupCut(msgspec.Struct, frozen=True):
    """How far an app had come with its inputs."""

    app: str
    offsets: dict[str, dict[int, int]]
    """Next offset to read, by input topic and partition; left out where none was committed."""
    unsettled: tuple[int, ...] = ()
    """Partitions that never rested: their tables and these offsets may be of two moments."""


class Cut(msgspec.Struct, frozen=True):
    """One moment of a system: up to where its topics reach, and its groups' offsets there."""

    at_ms: int
    ends: dict[str, dict[int, int]]
    groups: tuple[GroupCut, ...]


class Manifest(msgspec.Struct, frozen=True):
    """What one run, or a part of a long one, added."""

    run: int
    """1 and up, without gaps."""
    previous: str
    """Head of the manifest before; empty in the first."""
    namespace: str
    made_at_ms: int
    codec: Codec
    partitions: dict[str, int]
    """Partitions of each topic the run was to archive."""
    ends: dict[str, dict[int, int]]
    """Where each of those partitions ended when this was written, files or not."""
    files: tuple[File, ...]
    schemas: dict[int, dict[str, Any]]
    """Writer schemas by id that values of the files name and no manifest before has."""
    gaps: tuple[str, ...] = ()
    """Sentences about records the cluster had dropped before this run came for them."""
    cut: Cut | None = None
    """From which a system can be restored; None: a run of some topics, or a part of a long one."""
    signature: str = ""
    format: int = FORMAT


def genesis(namespace: str, topic: str, partition: int) -> str:
    """Return the chain value before the first file of a partition."""
    text = f"shutterwheel archive\0{namespace}\0{topic}\0{partition}"
    return hashlib.sha256(text.encode()).hexdigest()


def chain_value(previous: str, sha256: str, place: Place, span: tuple[int, int, int]) -> str:
    """Return a file's chain value; ``span``: first offset, end, records."""
    text = "\0".join(map(str, (*place, *span)))
    return hashlib.sha256(
        bytes.fromhex(previous) + bytes.fromhex(sha256) + text.encode()
    ).hexdigest()


def chained(file: File) -> str:
    """Return the chain value that a file's other fields come to."""
    span = (file.first, file.end, file.records)
    try:
        return chain_value(file.previous, file.sha256, file.place, span)
    except ValueError:
        return ""


def file_key(place: Place, first: int, end: int, sha256: str) -> str:
    """Return where a file is kept; its hash keeps the files of a killed run out of the way."""
    topic, partition = place
    return f"{FILES}/{topic}/{partition:04}/{first:020}-{end:020}-{sha256[:12]}.avro"


def manifest_key(run: int) -> str:
    """Return where the manifest of a run is kept."""
    return f"{RUNS}/{run:08}.json"


def sign(manifest: Manifest, secret: str) -> Manifest:
    """Return the manifest with its signature."""
    return msgspec.structs.replace(manifest, signature=_signature(manifest, secret))


def signed(manifest: Manifest, secret: str) -> bool:
    """Say whether the signature is this secret's."""
    return hmac.compare_digest(manifest.signature, _signature(manifest, secret))


def _signature(manifest: Manifest, secret: str) -> str:
    bare = msgspec.json.encode(msgspec.structs.replace(manifest, signature=""))
    return hmac.new(secret.encode(), bare, hashlib.sha256).hexdigest()


def encode(manifest: Manifest) -> tuple[bytes, str]:
    """Return a manifest's bytes and its head."""
    line = msgspec.json.encode(manifest)
    head = hashlib.sha256(line).hexdigest()
    return line + b"\n" + head.encode() + b"\n", head


def decode(data: bytes) -> tuple[Manifest, str]:
    """Return a manifest and its head.

    StoreError where the two lines do not belong together or are none of ours.
    """
    line, _, rest = data.partition(b"\n")
    head = hashlib.sha256(line).hexdigest()
    if rest.strip().decode("ascii", "replace") != head:
        raise StoreError("its hash is not that of its text")
    try:
        found = msgspec.json.decode(line, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"it is no manifest: {error}") from error
    if found.format != FORMAT:
        raise StoreError(f"it has format {found.format}; this release reads {FORMAT}")
    return found, head


def spans(ends: Mapping[str, Mapping[int, int]]) -> dict[Place, int]:
    """Return nested numbers by (topic, partition)."""
    return {(topic, number): end for topic, of in ends.items() for number, end in of.items()}


def nested(ends: Mapping[Place, int]) -> dict[str, dict[int, int]]:
    """Return numbers by (topic, partition) as JSON can have them."""
    found: dict[str, dict[int, int]] = {}
    for (topic, number), end in sorted(ends.items()):
        found.setdefault(topic, {})[number] = end
    return found
