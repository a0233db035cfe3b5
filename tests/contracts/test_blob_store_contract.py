"""Every blob store, one suite: written once, whole, found again (issue 3 point 6; SPEC 1.7).

Local folder, memory, and S3 by moto's server over HTTP; with ``--all`` S3 by MinIO, GCS by
fake-gcs-server and Azure by Azurite, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
import pytest
import uvloop
from moto_s3 import MotoS3
from msgspec.structs import replace
from obstore.exceptions import GenericError
from stores import Azurite, FakeGcs, Minio

from connectors.blobs.check import check
from connectors.blobs.describe import Extra
from connectors.blobs.explain import explain
from connectors.blobs.keys import blob_key
from connectors.blobs.retention import SKEW_MS, prune
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.picture import Painter
from schemas.errors import StoreError
from schemas.records import CaptureCommand, ImageRef

AT_MS = 1_795_433_700_000
BUCKETS = itertools.count()


def command(command_id=7, device_id="cam-00001"):
    return CaptureCommand(command_id, device_id, "s", "", 1, AT_MS, AT_MS, 0, 3_000, 0, 0)


def picture(counter=1):
    return read_jpeg(Painter(128, 96).paint("cam-00001", AT_MS + counter, counter))


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """An S3 server, found by its environment."""
    with MotoS3(tmp_path_factory.mktemp("moto")) as peer, pytest.MonkeyPatch.context() as patch:
        for name, value in peer.environment().items():
            patch.setenv(name, value)
        yield peer


def serving(make, folder):
    """A store that is found by its environment."""
    with make(folder) as peer, pytest.MonkeyPatch.context() as patch:
        for name, value in peer.environment().items():
            patch.setenv(name, value)
        yield peer


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    yield from serving(Minio, tmp_path_factory.mktemp("minio"))


@pytest.fixture(scope="module")
def gcs(tmp_path_factory):
    yield from serving(FakeGcs, tmp_path_factory.mktemp("gcs"))


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    yield from serving(Azurite, tmp_path_factory.mktemp("azure"))


LONG = (pytest.mark.long, pytest.mark.timeout(1_800))  # the first run builds or fetches it
REAL = [pytest.param(name, marks=LONG) for name in ("minio", "gcs", "azure")]


@pytest.fixture(params=["local", "processes", "memory", "s3", *REAL])
async def store(request, tmp_path):
    if request.param == "memory":
        opened = BlobStore.open("memory://")
    elif request.param == "s3":
        bucket = f"photos-{next(BUCKETS)}"
        request.getfixturevalue("s3").make_bucket(bucket)
        opened = BlobStore.open(f"s3://{bucket}/north")
    elif request.param in {"minio", "gcs", "azure"}:
        bucket, peer = f"photos-{next(BUCKETS)}", request.getfixturevalue(request.param)
        peer.make_bucket(bucket)
        opened = BlobStore.open(f"{peer.location(bucket)}/north")
    else:
        processes = 2 if request.param == "processes" else 0
        opened = BlobStore.open(tmp_path / "the blobs", processes=processes)
    yield opened
    await opened.aclose()


@pytest.fixture(params=[0, 1], ids=["threads", "process"])
async def local(request, tmp_path):
    opened = BlobStore.open(tmp_path, processes=request.param)
    yield opened
    await opened.aclose()


async def test_what_is_put_is_found_and_read(store):
    frame = picture()
    stored = await store.put(command(), frame)
    assert not stored.existed
    assert stored.image == ImageRef(
        uri=stored.image.uri,
        sha256=hashlib.sha256(frame.data).hexdigest(),
        image_bytes=len(frame.data),
        width_px=128,
        height_px=96,
        format="jpeg",
        frame_at_ms=AT_MS + 1,
    )
    assert stored.image.uri.endswith("/cam-00001/2026-11-23/7.jpg")
    assert await store.find(command()) == stored.image
    assert await store.read(stored.image.uri) == frame.data
    assert await store.verify(stored.image)


async def test_the_first_picture_of_a_command_stays(store):
    """DESIGN 'Captures': a conditional put; recovery takes what is there."""
    first = await store.put(command(), picture(1))
    again = await store.put(command(), picture(2))
    assert again.existed
    assert again.image == first.image
    assert await store.find(command()) == first.image
    assert await store.read(first.image.uri) == picture(1).data


async def test_of_many_at_once_one_wins_and_all_agree(store):
    puts = [store.put(command(), picture(n)) for n in range(20)]
    stored = await asyncio.gather(*puts)
    assert [s.existed for s in stored].count(False) == 1
    assert len({s.image.sha256 for s in stored}) == 1
    assert await store.find(command()) == stored[0].image


async def test_what_is_not_there_is_not_found(store):
    assert await store.find(command()) is None
    assert not await store.verify(
        ImageRef(store.uri(blob_key(command())), "0" * 64, 1, 1, 1, "jpeg")
    )
    with pytest.raises(StoreError, match="not in the blob store"):
        await store.read(store.uri("a/b/c.jpg"))
    with pytest.raises(StoreError, match="is not in the blob store"):
        await store.read("s3://elsewhere/a/b/c.jpg")


async def test_verify_sees_other_bytes(store):
    stored = await store.put(command(), picture())
    assert not await store.verify(replace(stored.image, sha256="0" * 64))
    assert not await store.verify(replace(stored.image, image_bytes=1))


async def test_iterate_counts_pictures_only(store):
    sizes = 0
    for n in range(30):
        device = f"cam-{n % 3:05d}"
        extras = (Extra("thumbnail", b"small"),) if n < 3 else ()
        sizes += (await store.put(command(n, device), picture(n), extras)).image.image_bytes
    entries = [entry async for entry in store.iterate()]
    assert len(entries) == 30
    assert sum(entry.image_bytes for entry in entries) == sizes
    assert {store.key(entry.uri) for entry in entries} == {entry.key for entry in entries}
    assert len([entry async for entry in store.iterate("cam-00001", beside=True)]) == 11


async def test_what_lies_beside_a_photo_is_found_and_goes_with_it(store):
    """Issue 8, 'thumbnails', 'retention': on every store, by what the store itself keeps."""
    wanted = replace(command(), keep_ms=1_000)
    extras = (Extra("thumbnail", b"small"), Extra("original", b"\x89PNG", "png"))
    stored = await store.put(wanted, picture(), extras)
    beside = await store.beside(stored.image)
    assert [await store.read(beside[extra.kind]) for extra in extras] == [b"small", b"\x89PNG"]
    second = await store.put(wanted, picture(2), (Extra("thumbnail", b"late"),))
    assert second.existed
    await asyncio.gather(*store._leaving)
    assert await check(store, "cam-00001") == (1, [])
    done = await prune(store, stored.image.keep_until_ms + SKEW_MS + 1)
    assert (done.deleted, done.beside) == (1, 2)
    assert [entry async for entry in store.iterate(beside=True)] == []


@pytest.mark.parametrize(
    "device_id",
    ["..", ".", "../../x", "/etc/passwd", "a//b", "x#1", "%2e%2e", "é" * 128, "a\0b", "📷"],
)
async def test_a_device_id_cannot_leave_its_place(store, device_id):
    stored = await store.put(command(device_id=device_id), picture())
    assert await store.find(command(device_id=device_id)) == stored.image
    (entry,) = [entry async for entry in store.iterate()]
    assert entry.key.count("/") == 2
    assert entry.uri == stored.image.uri


async def test_metadata_is_there_wherever_the_blob_is(store):
    """SPEC 1.7: image metadata carries the SHA-256."""
    stored = await store.put(command(), picture())
    key = blob_key(command())
    if store.base_uri.startswith("file:"):
        index = key.rpartition("/")[0] + "/index.jsonl"
        answer = await obstore.get_async(store._store, index)
        metadata = json.loads(bytes(await answer.bytes_async()))
    else:
        attributes = (await obstore.get_async(store._store, key)).attributes
        assert attributes["sha256"] == stored.image.sha256
        metadata = json.loads(attributes["capture"])
    assert metadata["sha256"] == stored.image.sha256
    assert metadata["command_id"] == 7
    assert metadata["device_id"] == "cam-00001"


# --- the local folder ----------------------------------------------------------------------------


async def test_a_uri_is_a_file_that_can_be_opened(tmp_path):
    store = BlobStore.open(f"file://{tmp_path}/a%20b")
    stored = await store.put(command(device_id="halle 3/tor"), picture())
    path = Path(unquote(urlsplit(stored.image.uri).path))
    assert path.read_bytes() == picture().data  # noqa: ASYNC240
    assert path.is_relative_to(tmp_path / "a b")


async def test_the_bytes_count_more_than_the_metadata(local, tmp_path):
    """Two writers: the second one's line was written, but its picture came too late."""
    first = await local.put(command(), replace_time(picture(1), 42))
    assert first.image.frame_at_ms == 42
    await local.put(command(), picture(2))
    assert await local.find(command()) == first.image
    index = tmp_path / "cam-00001" / "2026-11-23" / "index.jsonl"
    for torn in (b"{", b'{"sha256": "', b"\n\n\0"):
        with index.open("ab") as file:
            file.write(torn)
        assert await local.find(command()) == first.image
    index.unlink()
    assert await local.find(command()) == replace(first.image, frame_at_ms=AT_MS + 1)


def replace_time(frame, frame_at_ms):
    """As a camera whose JSON answer says when the picture was taken."""
    return dataclasses.replace(frame, frame_at_ms=frame_at_ms)


async def test_equal_pictures_of_two_commands_keep_their_own_metadata(local):
    one = await local.put(command(1), replace_time(picture(), 41))
    two = await local.put(command(2), replace_time(picture(), 42))
    assert await local.find(command(1)) == one.image
    assert await local.find(command(2)) == two.image


async def test_no_blob_is_written_without_its_metadata(local, tmp_path):
    (tmp_path / "cam-00001" / "2026-11-23" / "index.jsonl").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written: Is a directory"):
        await local.put(command(), picture())
    assert [entry async for entry in local.iterate()] == []


async def test_other_bytes_under_an_objects_metadata_count_as_absent():
    store = BlobStore.open("memory://")
    await store.put(command(), picture(1))
    attributes = (await obstore.get_async(store._store, blob_key(command()))).attributes
    await obstore.put_async(
        store._store, blob_key(command()), picture(2).data, attributes=attributes
    )
    assert await store.find(command()) is None
    stored = await store.put(command(), picture(3))
    assert not stored.existed
    assert await store.verify(stored.image)


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8half", b"\0" * 500])
async def test_a_damaged_blob_counts_as_absent_and_is_replaced(local, tmp_path, damage):
    await local.put(command(), picture(1))
    (tmp_path / blob_key(command())).write_bytes(damage)
    assert await local.find(command()) is None
    stored = await local.put(command(), picture(2))
    assert not stored.existed
    assert await local.verify(stored.image)


async def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError) as caught:
        BlobStore.open(tmp_path / "file" / "blobs")
    assert "\n" not in str(caught.value)
    assert "Not a directory" in str(caught.value)
    store = BlobStore.open(tmp_path / "blobs")
    (tmp_path / "blobs" / "cam-00001").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        await store.put(command(), picture())


@pytest.mark.parametrize("url", ["gopher://x/y", "http://", "s3://"])
def test_a_location_that_is_not_understood(url):
    with pytest.raises(StoreError, match="cannot be opened"):
        BlobStore.open(url)


def test_an_object_store_is_opened_without_contacting_it():
    store = BlobStore.open("s3://bucket/photos/")
    assert store.uri(blob_key(command())) == "s3://bucket/photos/cam-00001/2026-11-23/7.jpg"


FILL = """
import asyncio, resource, signal, sys
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.picture import Painter
from schemas.errors import StoreError
from schemas.records import CaptureCommand

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
command = CaptureCommand(7, "cam-00001", "s", "", 1, 0, 0, 0, 3000, 0, 0)
frame = read_jpeg(Painter().paint("cam-00001", 1, 1))

async def main():
    store = BlobStore.open(sys.argv[1], processes=int(sys.argv[2]))
    try:
        await store.put(command, frame)
    except StoreError as error:
        print(error)
    await store.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("processes", ["0", "1"])
async def test_a_write_that_does_not_fit_leaves_nothing_under_the_name(tmp_path, processes):
    """A file-size limit of the process stands for a full disk: the write fails half-way."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FILL, str(tmp_path), processes, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"cannot be written: File too large" in out
    assert out.count(b"\n") == 1
    assert [entry async for entry in BlobStore.open(tmp_path).iterate()] == []
    assert [path for path in tmp_path.rglob("*") if "#" in path.name] == []


def test_a_full_disk_is_named_so():
    text = "Generic LocalFileSystem error: Unable to copy: No space left (os error 28)\n\nDebug"
    line = str(explain("the blob store at file:///x cannot be written", GenericError(text)))
    assert "the disk is full" in line
    assert "\n" not in line


WRITER = """
import asyncio, sys
from connectors.blobs.store import BlobStore
from connectors.cameras.base import Frame
from schemas.records import CaptureCommand
import hashlib

head, end = bytes.fromhex(sys.argv[2]), b"\\xff\\xd9"
data = head + bytes(6_000_000) + end
frame = Frame(data, "jpeg", 128, 96, hashlib.sha256(data).hexdigest())

async def main():
    store = BlobStore.open(sys.argv[1], processes=int(sys.argv[3]))
    print("ready", flush=True)
    for number in range(1_000_000):
        command = CaptureCommand(number, "cam-00001", "s", "", 1, 0, 0, 0, 3000, 0, 0)
        await store.put(command, frame)
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("processes", ["0", "1"])
async def test_a_killed_worker_leaves_no_half_picture(tmp_path, processes):
    """DESIGN 'Captures': what is found under a blob's name is whole, also after kill -9."""
    head = picture().data[:-2].hex()
    for round_ in range(3):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, str(tmp_path), head, processes),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(3 + round_):
            assert await process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        await process.stdout.read()
    local = BlobStore.open(tmp_path)
    entries = [entry async for entry in local.iterate()]
    assert entries
    for entry in entries:
        number = int(entry.key.rsplit("/", 1)[1].removesuffix(".jpg"))
        found = await local.find(
            CaptureCommand(number, "cam-00001", "s", "", 1, 0, 0, 0, 3000, 0, 0)
        )
        assert found is not None, f"{entry.key} is not a whole picture"
        index = (tmp_path / entry.key).with_name("index.jsonl").read_text()
        assert found.sha256 in index
        assert f'"command_id":{number},' in index
        assert found.image_bytes > 6_000_000


async def test_a_killed_writing_process_fails_its_puts_and_the_next_put_starts_another(tmp_path):
    store = BlobStore.open(tmp_path, processes=1)
    await store.start()
    (writer,) = store._writers._writers
    writer.process.send_signal(signal.SIGSTOP)
    begun = asyncio.ensure_future(store.put(command(1), picture()))
    await asyncio.sleep(0)
    writer.process.kill()
    with pytest.raises(StoreError, match="the process that writes pictures has ended"):
        await begun
    assert not (await store.put(command(2), picture())).existed
    assert await store.find(command(2)) is not None
    await store.aclose()


async def test_ctrl_c_is_left_to_the_worker_and_the_end_of_the_socket_ends_a_writing_process(
    tmp_path,
):
    store = BlobStore.open(tmp_path, processes=1)
    await store.put(command(1), picture())
    (writer,) = store._writers._writers
    writer.process.send_signal(signal.SIGINT)
    assert not (await store.put(command(2), picture())).existed
    await store.aclose()
    assert writer.process.returncode == 0


def test_writing_processes_work_in_the_event_loop_that_workers_have(tmp_path):
    async def put_and_find():
        store = BlobStore.open(tmp_path, processes=2)
        stored = [await store.put(command(number), picture()) for number in range(8)]
        found = [await store.find(command(number)) for number in range(8)]
        await store.aclose()
        assert [one.image for one in stored] == found

    uvloop.run(put_and_find())


async def test_what_is_stored_at_once_is_what_a_put_stores(store):
    """``put_now`` stores the same as ``put``, or nothing; never over what is there."""
    stored = store.put_now(command(), picture())
    if stored is None:
        assert await store.find(command()) is None
        return
    assert await store.verify(stored.image)
    assert store.put_now(command(), picture()) is None
    assert (await store.put(command(), picture())).existed


async def test_an_s3_server_that_is_stopped_fails_a_put_and_takes_the_next(s3):
    """Issue 8: a store that is slow loses nothing; the attempt fails, and the next one may do."""
    s3.make_bucket("slow")
    store = BlobStore.open("s3://slow")
    s3.pause()
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            await store.put(command(), picture())
    finally:
        s3.resume()
    stored = await store.put(command(), picture())
    assert await store.verify(stored.image)


async def test_an_s3_server_that_dies_in_the_middle_leaves_whole_pictures_or_none(tmp_path):
    """Killed under load: what was answered is what there was, and every put ends."""
    with MotoS3(tmp_path) as peer, pytest.MonkeyPatch.context() as patch:
        for name, value in peer.environment().items():
            patch.setenv(name, value)
        peer.make_bucket("photos")
        store = BlobStore.open("s3://photos")
        puts = [asyncio.ensure_future(store.put(command(n), picture(n))) for n in range(1, 60)]
        await puts[0]
        os.killpg(peer.pid, signal.SIGKILL)
        ends = await asyncio.gather(*puts, return_exceptions=True)
    assert not isinstance(ends[0], BaseException)
    assert all(isinstance(end, StoreError) for end in ends if isinstance(end, BaseException))


async def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(StoreError, match="s3://nowhere cannot be written: there is no such bucket"):
        await BlobStore.open("s3://nowhere").put(command(), picture())
