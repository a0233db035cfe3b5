"""Where a log is read from: a Kafka that runs, or an archive of one. For audit, explain, replay.

::

    log = open_log(archive="s3://bucket/site")         # by name; else the cluster
    log = open_log(kafka="127.0.0.1:9092", namespace="site")
    codec = codec_of(log, registry)                    # reads what the log holds
    read_rows = rows_reader("s3://bucket/photos")      # reads what its snapshots name
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import Codec
from schemas.errors import UsageError
from schemas.select import schema_ids
from streams.replay.archive.log import ArchivedIds, ArchiveLog
from streams.replay.log import KafkaLog

if TYPE_CHECKING:
    from schemas.records import PartitionSnapshot
    from streams.replay.archive.port import Objects
    from streams.replay.audit_state import Row
    from streams.replay.log import Log
    from streams.replay.start import ReadRows


def open_log(kafka: str = "", namespace: str = "", archive: str = "") -> KafkaLog | ArchiveLog:
    """Return the log of an archive (a folder or a URL) where one is named, else of a cluster.

    A namespace that is given with an archive must be the archive's.
    Raises UsageError, StoreError (no archive there, or damaged manifests), BrokerError.
    """
    if not archive:
        return KafkaLog(kafka, namespace)
    found = ArchiveLog(open_objects(archive))
    if namespace and namespace != found.namespace:
        raise UsageError(
            f"The archive at {archive} is of namespace {found.namespace!r}, not {namespace!r}."
        )
    return found


def open_objects(archive: str, *, make: bool = False) -> Objects:
    """Return the files of an archive; ``make``: a folder that is not there is made."""
    from connectors.blobs.objects import ObjectFiles

    return ObjectFiles.open(archive, make=make)


def codec_of(log: Log, registry: str = "") -> Codec:
    """Return a codec for a log: an archive brings its schemas along."""
    ids = schema_ids(registry)
    return Codec(ArchivedIds(log.contents, ids) if isinstance(log, ArchiveLog) else ids)


def rows_reader(blobs: str) -> ReadRows | None:
    """Return what reads the rows of the wheel's snapshots from a blob store; null: none is named.

    The store is opened when it is asked first; what is called raises StoreError.
    """
    if not blobs:
        return None

    def read(snapshot: PartitionSnapshot) -> list[Row]:
        from connectors.blobs.snapshots import SnapshotFiles

        return SnapshotFiles.open(blobs).read(snapshot.uri)

    return read
