"""Metadata of blobs in a local folder: one ``index.jsonl`` a device and day, appended to.

obstore's LocalStore refuses attributes, so the metadata needs a place of its own. A file beside
each blob would double the files (345 million a day for 1.2 M devices at 5 minutes) and, making an
inode being what a small write costs, nearly double the price of a put. An append to a file that is
there costs a tenth of that:

    cam-00001/2026-11-23/index.jsonl     {"sha256":"9f2c…","image_bytes":5250,…,"command_id":7,…}
    cam-00001/2026-11-23/7.jpg

A line is written before its blob, so that where a blob is, its line is. Lines are never changed: an
attempt that lost leaves a line whose hash is not the blob's, and the right one is found by
(command id, hash). A line that a crash tore is skipped.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

INDEX_NAME: Final = "index.jsonl"


class Beside(msgspec.Struct, frozen=True):
    """What lies beside a photo, as the photo's own metadata names it."""

    kind: str
    """``thumbnail`` or ``original``."""
    sha256: str
    image_bytes: int
    format: str


class BlobMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a blob: a line of an index, or an object's attribute."""

    sha256: str
    image_bytes: int
    width_px: int
    height_px: int
    format: str
    device_id: str
    command_id: int
    scheduled_ms: int
    frame_at_ms: int | None = None
    keep_until_ms: int | None = None
    """From when on it may be deleted; null: never."""
    beside: tuple[Beside, ...] = ()
    """What was stored beside it; its key is ``keys.beside_key``."""
    beside_of: str = ""
    """Of a file beside a photo: the photo's SHA-256. Its width and height are 0: nobody looked."""


DECODER: Final = msgspec.json.Decoder(BlobMetadata)


def line_of(metadata: BlobMetadata) -> bytes:
    """Return the line of an index."""
    return msgspec.json.encode(metadata) + b"\n"


class LocalIndex:
    """The indexes of one folder. Blocking; called from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, key: str, line: bytes) -> None:
        """Add the line (:func:`line_of`) of the blob ``key``; raises OSError.

        One ``write`` to a file opened for appending: on a local file system, lines of several
        writers do not mix.
        """
        path = self._path(key)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            file = os.open(path, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, flags, 0o666)
        try:
            if os.write(file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)

    def find(self, key: str, sha256: str) -> BlobMetadata | None:
        """Return the line of the blob ``key`` with this hash, if there is one; raises OSError."""
        wanted = sha256.encode()
        command_id = key.rpartition("/")[2].partition(".")[0]
        try:
            lines = self._path(key).read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        for line in reversed(lines):
            if wanted not in line:
                continue
            try:
                metadata = DECODER.decode(line)
            except msgspec.MsgspecError:
                continue
            if metadata.sha256 == sha256 and str(metadata.command_id) == command_id:
                return metadata
        return None

    def path(self, key: str) -> Path:
        """Return where the blob ``key`` lies."""
        return self._folder / key

    def _path(self, key: str) -> Path:
        return self._folder / key.rpartition("/")[0] / INDEX_NAME
