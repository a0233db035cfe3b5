"""Object stores that are slow, full, forbidding, or die in the middle (issue 8, 'Blob store').

Real servers, really hurt. What must hold: an attempt ends by its deadline with a cause that lets
another one follow; what was acknowledged is there, whole; what was not is whole or not there; and
the next attempt stores one photo with all that belongs to it.
"""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from stores import Azurite, FakeGcs, Minio

from connectors.blobs.check import check
from connectors.blobs.describe import Extra
from connectors.blobs.retention import SKEW_MS, prune
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.null_camera import PROTOCOL
from connectors.cameras.picture import Painter
from connectors.cameras.registry import Cameras
from connectors.images.executor import ImageExecutor
from schemas.errors import CameraError, StoreError
from schemas.records import CaptureCommand, DeviceProfile
from shutterwheel.photos import CameraPhotos
from streams.agents.ports import Opening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stores import Store

    from connectors.blobs.store import Stored
    from streams.agents.ports import Photo

pytestmark = [pytest.mark.long, pytest.mark.timeout(1_800)]

AT_MS = 1_795_433_700_000
PROFILE = DeviceProfile("c", "null:", PROTOCOL)
KINDS = {"minio": Minio, "gcs": FakeGcs, "azure": Azurite}
THUMBNAIL = (Extra("thumbnail", b"small"),)
MANY = 60


def command(command_id: int = 7, image: str = "", keep_ms: int = 0) -> CaptureCommand:
    return CaptureCommand(
        command_id, "c", "s", "", 1, AT_MS, AT_MS, AT_MS, 3_000, 0, AT_MS, image=image,
        keep_ms=keep_ms,
    )  # fmt: skip


def picture(number: int = 1, side: int = 96):
    return read_jpeg(Painter(side, side).paint("c", AT_MS, number))


@pytest.fixture(params=list(KINDS))
def peer(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    with KINDS[request.param](tmp_path / request.param) as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        found.make_bucket("photos")
        yield found


@dataclass
class Attempts:
    """The executor's side: attempts at one command, each with its deadline."""

    store: BlobStore
    cameras: Cameras
    images: ImageExecutor

    async def take(self, seconds: float, wanted: CaptureCommand) -> Photo:
        photos = CameraPhotos(self.cameras, self.store, None, self.images)
        deadline_s = asyncio.get_running_loop().time() + seconds
        return await photos.take(PROFILE, wanted, deadline_s=deadline_s, opening=Opening(AT_MS + 3))


@pytest.fixture
async def attempts(peer: Store):
    cameras, store = Cameras(), BlobStore.open(peer.location("photos"))
    async with ImageExecutor() as images:
        yield Attempts(store, cameras, images)
    await cameras.close()
    await store.aclose()


async def test_one_that_is_slow_ends_the_attempt_by_its_deadline_and_the_next_has_its_photo(
    peer: Store, attempts: Attempts
) -> None:
    wanted = command(image="label thumbnail=16")
    peer.pause()
    try:
        with pytest.raises(CameraError) as caught:
            await attempts.take(4.0, wanted)
    finally:
        peer.resume()
    assert caught.value.cause in {"store", "store_timeout"}
    assert caught.value.retry
    photo = await attempts.take(20.0, wanted)
    assert await attempts.store.verify(photo.image)
    assert len(await attempts.store.beside(photo.image)) == 1
    entries = [entry async for entry in attempts.store.iterate()]
    assert [entry.uri for entry in entries] == [photo.image.uri], "one photo, of one attempt"


def restarted(peer: Store) -> None:
    """Azurite may have forgotten its container, too."""
    peer.again()
    if isinstance(peer, Azurite):
        peer.make_bucket("photos")


async def test_one_that_is_killed_in_the_middle_leaves_whole_photos_or_none(
    peer: Store, attempts: Attempts
) -> None:
    store = attempts.store
    puts = [
        asyncio.ensure_future(store.put(command(n), picture(n), THUMBNAIL))
        for n in range(1, MANY + 1)
    ]
    for put in asyncio.as_completed(puts[:10]):
        await put
        break
    peer.kill()
    ends = await asyncio.gather(*puts, return_exceptions=True)
    assert any(isinstance(end, StoreError) for end in ends), "it was killed in the middle"
    assert all(isinstance(end, StoreError) for end in ends if isinstance(end, BaseException))
    restarted(peer)
    for number, end in enumerate(ends, 1):
        found = await store.find(command(number))
        if not isinstance(end, BaseException) and not isinstance(peer, Azurite):
            assert found == end.image, "what was acknowledged is there"
        assert found is None or await store.verify(found)
    again = [await store.put(command(n), picture(n), THUMBNAIL) for n in range(1, MANY + 1)]
    assert all([await store.verify(one.image) for one in again])
    assert await check(store, "c") == (MANY, [])


async def test_one_that_is_away_says_so_and_is_there_again(peer: Store, attempts: Attempts) -> None:
    peer.kill()
    with pytest.raises(CameraError) as caught:
        await attempts.take(10.0, command())
    assert (caught.value.cause, caught.value.retry) == ("store", True)
    with pytest.raises(StoreError, match="cannot be read"):
        await attempts.store.find(command())
    restarted(peer)
    assert await attempts.store.verify((await attempts.take(20.0, command())).image)


@pytest.mark.parametrize("peer", ["minio", "azure"], indirect=True)
async def test_one_that_forbids_says_so_and_stores_nothing(
    peer: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fake-gcs-server asks nobody who they are."""
    allowed = BlobStore.open(peer.location("photos"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "YW5vdGhlcg==")
    store = BlobStore.open(peer.location("photos"))
    with pytest.raises(StoreError, match="cannot be written") as caught:
        await store.put(command(), picture(), THUMBNAIL)
    assert "it does not let us in" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [entry async for entry in allowed.iterate(beside=True)] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tests", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own cannot be mounted here (root)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_one_that_is_full_keeps_what_it_has_and_takes_more_when_some_goes(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Minio(tmp_path / "minio", small_disk) as peer:
        for name, value in peer.environment().items():
            monkeypatch.setenv(name, value)
        peer.make_bucket("photos")
        await fill(BlobStore.open(peer.location("photos")), peer)


async def fill(store: BlobStore, peer: Minio) -> None:
    frame = picture(side=96)
    extras = (Extra("original", bytes(4_000_000), "heif"),)
    stored = []
    with pytest.raises(StoreError, match="is full"):
        for number in range(1, 100):
            wanted = replace(command(number), keep_ms=1_000)
            stored.append(await store.put(wanted, frame, extras))
    assert stored, "there was room for some"
    assert len([entry async for entry in store.iterate()]) == len(stored)
    assert all([await store.verify(one.image) for one in stored])
    until_ms = stored[0].image.keep_until_ms
    assert until_ms is not None
    assert (await prune(store, until_ms + SKEW_MS + 1)).deleted == len(stored)
    peer.empty_trash()
    again = await until_there_is_room(store, command(len(stored) + 1), frame, extras)
    assert await store.verify(again.image)


async def until_there_is_room(store: BlobStore, *what: object) -> Stored:
    """MinIO looks at its disk now and then: it is asked as attempts would ask."""
    while True:
        try:
            return await store.put(*what)  # type: ignore[arg-type]
        except StoreError as error:
            if "is full" not in str(error):
                raise
        await asyncio.sleep(0.1)
