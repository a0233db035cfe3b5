"""Every place that an archive can be kept in does the same; issue 7, "archive … in the blob store"."""

from __future__ import annotations

import pytest
from archive_bench import archive, filled, look, same
from moto_s3 import MotoS3

from connectors.blobs.objects import ObjectFiles
from schemas.errors import StoreError
from streams.replay.archive.port import MemoryObjects


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A real S3 server, found by its environment."""
    with MotoS3(tmp_path_factory.mktemp("moto")) as peer, pytest.MonkeyPatch.context() as patch:
        for name, value in peer.environment().items():
            patch.setenv(name, value)
        peer.make_bucket("archive")
        yield peer


@pytest.fixture(params=["dict", "folder", "memory", "s3"])
def objects(request, tmp_path):
    if request.param == "dict":
        return MemoryObjects()
    if request.param == "folder":
        return ObjectFiles.open(tmp_path / "the archive", make=True)
    if request.param == "memory":
        return ObjectFiles.open("memory:///")
    request.getfixturevalue("s3")
    return ObjectFiles.open(f"s3://archive/{request.node.originalname}")


def test_a_key_is_written_once(objects):
    assert objects.put_new("files/a/1.avro", b"first")
    assert not objects.put_new("files/a/1.avro", b"second")
    assert objects.get("files/a/1.avro") == b"first"
    assert objects.get("files/a/2.avro") is None


def test_a_range_is_read_and_may_reach_beyond_the_end(objects):
    objects.put_new("files/a/1.avro", b"0123456789")
    assert objects.get_range("files/a/1.avro", 2, 5) == b"234"
    assert objects.get_range("files/a/1.avro", 7, 99) == b"789"
    assert objects.get_range("files/a/1.avro", 4, 4) == b""
    assert objects.get_range("files/a/2.avro", 0, 5) is None


def test_a_folder_lists_what_is_in_it(objects):
    assert list(objects.keys("runs")) == []
    for key in ("runs/1.json", "files/a/0/1.avro", "files/b/1/2.avro"):
        objects.put_new(key, b"x")
    assert list(objects.keys("runs")) == ["runs/1.json"]
    assert sorted(objects.keys("files")) == ["files/a/0/1.avro", "files/b/1/2.avro"]


def test_an_archive_comes_back(objects):
    log = filled(60)
    archive(objects, log)
    head = archive(objects, filled(10, log, 60)).head
    assert same(objects, log)
    assert look(objects, head=head).ok


def test_a_bucket_that_is_not_there_is_an_error(s3):
    with pytest.raises(StoreError, match="s3://nowhere cannot be written"):
        ObjectFiles.open("s3://nowhere").put_new("a", b"b")


def test_what_is_no_url_is_an_error():
    with pytest.raises(StoreError, match="cannot be opened"):
        ObjectFiles.open("zz://nowhere/a")
