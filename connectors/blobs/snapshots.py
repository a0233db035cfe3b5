"""Files of a partition's rows, beside the pictures: what a PartitionSnapshot's claim check names.

An Avro object container file (Avro 1.12, "Object Container Files"), deflated, of one record a row:
any Avro tool reads it. It stands at ``snapshots/NAMESPACE/PPPP-of-PPPP/TIME.avro`` in the blob
store, with the topics' namespace (``-``: none), the partition, the number of partitions, and the
time at which it was made, in milliseconds. Files older than ``KEEP_MS`` are deleted as new ones are
written: the ticks that follow them are not kept longer.

All calls block: they are for threads, or for commands.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import fastavro
import obstore
from obstore.store import LocalStore

from connectors.blobs.store import open_store
from schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obstore.store import ObjectStore

FOLDER: Final = "snapshots"
SUFFIX: Final = ".avro"
KEEP_MS: Final = 35 * 86_400_000
"""A little longer than schedule.ticks is kept."""
DEFLATE_LEVEL: Final = 1
"""A third of the time of the usual level, for a tenth more bytes."""
SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "SnapshotRow",
        "namespace": "shutterwheel",
        "doc": "A row of a table of the timing wheel, its value as it stands in the changelog.",
        "fields": [
            {"name": "table", "type": "string"},
            {"name": "key", "type": "bytes"},
            {"name": "value", "type": "bytes"},
        ],
    }
)
ERRORS: Final = (obstore.exceptions.BaseError, OSError, ValueError, NotImplementedError)
Row = tuple[str, bytes, bytes]


class Written(NamedTuple):
    """Where a file is, and its size."""

    uri: str
    file_bytes: int


class SnapshotFiles:
    """The snapshots of one blob store."""

    def __init__(self, store: ObjectStore, base_uri: str, namespace: str = "") -> None:
        self._store = store
        self._base_uri = base_uri
        self._folder = f"{FOLDER}/{namespace or '-'}"

    @classmethod
    def open(cls, location: str, namespace: str = "") -> SnapshotFiles:
        """Open the blob store at a folder or URL, as :meth:`BlobStore.open` does.

        ``namespace``: of the topics; what is read by its claim check may be of any.

        Raises StoreError if it cannot be opened.
        """
        scheme = urlsplit(location).scheme if "://" in location else ""
        try:
            if scheme in {"", "file"}:
                path = Path(unquote(urlsplit(location).path) if scheme else location).absolute()
                return cls(LocalStore(path, mkdir=True), path.as_uri().rstrip("/"), namespace)
            return cls(open_store(location), location.rstrip("/"), namespace)
        except ERRORS as error:
            raise StoreError(f"The blob store cannot be opened for snapshots: {error}.") from error

    def write(self, partition: int, partitions: int, time_ms: int, rows: Iterable[Row]) -> Written:
        """Write the rows of a partition, deleting files that are old. Raises StoreError."""
        out = BytesIO()
        records = ({"table": t, "key": k, "value": v} for t, k, v in rows)
        fastavro.writer(
            out, SCHEMA, records, codec="deflate", codec_compression_level=DEFLATE_LEVEL
        )
        data = out.getvalue()
        key = f"{self._of(partition, partitions)}/{time_ms}{SUFFIX}"
        try:
            obstore.put(self._store, key, data)
            for old_ms, old in self._listed(partition, partitions):
                if old_ms < time_ms - KEEP_MS:
                    obstore.delete(self._store, old)
        except ERRORS as error:
            raise StoreError(f"A snapshot cannot be written: {error}.") from error
        return Written(f"{self._base_uri}/{key}", len(data))

    def newest_ms(self, partition: int, partitions: int) -> int | None:
        """Return the time of the newest snapshot of a partition. Raises StoreError."""
        try:
            return max((at for at, _ in self._listed(partition, partitions)), default=None)
        except ERRORS as error:
            raise StoreError(f"Snapshots cannot be listed: {error}.") from error

    def read(self, uri: str) -> list[Row]:
        """Return the rows of a snapshot by its claim check.

        Raises StoreError: it is elsewhere, not there, or no such file.
        """
        if not uri.startswith(f"{self._base_uri}/"):
            raise StoreError(f"{uri} is not in the blob store at {self._base_uri}.")
        key = uri.removeprefix(f"{self._base_uri}/")
        try:
            data = bytes(obstore.get(self._store, key).bytes())
        except ERRORS as error:
            raise StoreError(
                f"{uri} cannot be read: {str(error).partition(chr(10))[0]}."
            ) from error
        return _rows(uri, data)

    def _of(self, partition: int, partitions: int) -> str:
        return f"{self._folder}/{partition:04d}-of-{partitions:04d}"

    def _listed(self, partition: int, partitions: int) -> Iterator[tuple[int, str]]:
        for chunk in obstore.list(self._store, f"{self._of(partition, partitions)}/"):
            for meta in chunk:
                key = meta["path"]
                stem = key.rpartition("/")[2].removesuffix(SUFFIX)
                if stem.isdecimal():
                    yield int(stem), key


def _rows(uri: str, data: bytes) -> list[Row]:
    try:
        found = [cast("dict[str, Any]", row) for row in fastavro.reader(BytesIO(data))]
        return [(str(r["table"]), bytes(r["key"]), bytes(r["value"])) for r in found]
    except Exception as error:  # fastavro and zlib raise whatever they meet
        raise StoreError(f"{uri} is no snapshot, or is damaged: {error!r}.") from error
