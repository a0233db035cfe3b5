"""Files of rows in the blob store: written, found, read, and forgotten in time."""

from __future__ import annotations

import fastavro
import pytest

from connectors.blobs.snapshots import KEEP_MS, SnapshotFiles
from connectors.blobs.store import BlobStore
from schemas.errors import StoreError

ROWS = [("schedules", b"cam-1\0s", b"\0\0\0\0\1row"), ("shards", b"clock", b"\0\0\0\0\2x")]
AT_MS = 1_800_000_000_000


@pytest.fixture
def files(tmp_path):
    return SnapshotFiles.open(str(tmp_path))


def test_rows_come_back_as_they_were(files, tmp_path):
    written = files.write(3, 8, AT_MS, iter(ROWS))
    assert files.read(written.uri) == ROWS
    assert written.uri == f"{tmp_path.as_uri()}/snapshots/-/0003-of-0008/{AT_MS}.avro"
    path = tmp_path / "snapshots" / "-" / "0003-of-0008" / f"{AT_MS}.avro"
    assert path.stat().st_size == written.file_bytes
    with path.open("rb") as stream:  # any Avro tool reads it
        assert [row["key"] for row in fastavro.reader(stream)] == [b"cam-1\0s", b"clock"]


def test_the_newest_is_found_of_each_partition(files):
    assert files.newest_ms(3, 8) is None
    files.write(3, 8, AT_MS, ROWS)
    files.write(3, 8, AT_MS + 5, ROWS)
    files.write(4, 8, AT_MS + 9, ROWS)
    assert (files.newest_ms(3, 8), files.newest_ms(3, 16)) == (AT_MS + 5, None)


def test_namespaces_that_share_a_store_do_not_mix(files, tmp_path):
    other = SnapshotFiles.open(tmp_path.as_uri(), "sandbox")
    written = other.write(3, 8, AT_MS, ROWS)
    assert (files.newest_ms(3, 8), other.newest_ms(3, 8)) == (None, AT_MS)
    assert files.read(written.uri) == ROWS


def test_old_ones_are_deleted(files):
    old = files.write(3, 8, AT_MS, ROWS)
    files.write(3, 8, AT_MS + KEEP_MS, ROWS)
    assert files.read(old.uri) == ROWS
    files.write(3, 8, AT_MS + KEEP_MS + 1, ROWS)
    with pytest.raises(StoreError, match="cannot be read"):
        files.read(old.uri)


def test_what_is_damaged_or_elsewhere_is_one_line(files, tmp_path):
    written = files.write(3, 8, AT_MS, ROWS)
    path = tmp_path / "snapshots" / "-" / "0003-of-0008" / f"{AT_MS}.avro"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="no snapshot, or is damaged"):
        files.read(written.uri)
    with pytest.raises(StoreError, match="is not in the blob store"):
        files.read("s3://elsewhere/x.avro")


async def test_they_are_no_pictures(files, tmp_path):
    files.write(3, 8, AT_MS, ROWS)
    store = BlobStore.open(tmp_path)
    assert [entry async for entry in store.iterate()] == []
    store.close()
