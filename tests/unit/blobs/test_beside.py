"""What lies beside a photo: there before it is, its own, and gone with it (issue 8, 'thumbnails')."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from connectors.blobs.check import check
from connectors.blobs.describe import Extra, describe
from connectors.blobs.keys import (
    DAY_MS,
    beside_key,
    beside_name,
    blob_key,
    named_beside,
    photo_id,
    suffix_of,
)
from connectors.blobs.retention import prune
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.picture import Painter
from schemas.errors import StoreError
from schemas.records import CaptureCommand
from shutterwheel.cli import app
from shutterwheel.evidence import check_images, listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from connectors.cameras.base import Frame

AT_MS = 1_795_433_700_000
EXTRAS = (Extra("thumbnail", b"small"), Extra("original", b"as the camera sent it", "heif"))


def command(command_id: int = 7, keep_ms: int = 0, device: str = "c") -> CaptureCommand:
    return CaptureCommand(
        command_id, device, "s", "", 1, AT_MS, AT_MS, AT_MS, 3_000, 0, AT_MS, keep_ms=keep_ms
    )


def picture(number: int = 1) -> Frame:
    return read_jpeg(Painter(96, 96).paint("c", AT_MS, number))


@pytest.fixture(params=["local", "processes", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    where = "memory://" if request.param == "memory" else tmp_path / "blobs"
    opened = BlobStore.open(where, processes=1 if request.param == "processes" else 0)
    yield opened
    await opened.aclose()


async def everything(store: BlobStore) -> dict[str, str]:
    return {e.key.rpartition("/")[2]: e.kind async for e in store.iterate(beside=True)}


async def test_what_is_beside_is_named_by_the_photo_and_read_by_its_reference(store):
    stored = await store.put(command(), picture(), EXTRAS)
    assert await store.find(command()) == stored.image
    found = await store.beside(stored.image)
    assert {kind: await store.read(uri) for kind, uri in found.items()} == {
        extra.kind: extra.data for extra in EXTRAS
    }
    assert found["thumbnail"] == beside_key(stored.image.uri, stored.image.sha256, "thumbnail")
    assert found["original"].endswith(f"/7.{stored.image.sha256[:12]}.original.heif")
    plain = await store.put(command(8), picture(2))
    assert await store.beside(plain.image) == {}


async def test_their_hashes_stand_in_the_result(store):
    """Issue 8: what is stored is in the log, so that an audit can say whether it is what it was."""
    stored = await store.put(command(), picture(), EXTRAS)
    hashes = {
        "thumbnail.jpg": hashlib.sha256(b"small").hexdigest(),
        "original.heif": hashlib.sha256(b"as the camera sent it").hexdigest(),
    }
    assert stored.image.beside == hashes
    for end, sha256 in hashes.items():
        uri = named_beside(stored.image.uri, stored.image.sha256, end)
        assert hashlib.sha256(await store.read(uri)).hexdigest() == sha256
    second = await store.put(command(), picture(2), (Extra("thumbnail", b"other"),))
    assert second.image.beside == hashes, "of the photo that was kept"
    assert (await store.put(command(8), picture(3))).image.beside == {}


@pytest.mark.parametrize("harm", ["changed", "lost", "none"])
async def test_an_audit_looks_at_what_lies_beside_a_photo(tmp_path, harm):
    store = BlobStore.open(tmp_path)
    plain = await store.put(command(8), picture(2))
    stored = await store.put(command(), picture(), EXTRAS)
    [thumbnail] = tmp_path.rglob("*.thumbnail.jpg")
    if harm == "changed":
        thumbnail.write_bytes(b"smell")
    elif harm == "lost":
        thumbnail.unlink()
    with ThreadPoolExecutor(1) as threads:
        first, second = await asyncio.to_thread(
            check_images, [plain.image, stored.image], store, threads
        )
    await store.aclose()
    assert first == ""
    told = {"changed": "SHA-256 differs", "lost": "cannot be read", "none": ""}[harm]
    assert told in second
    assert bool(second) == bool(told)
    assert not told or f"{thumbnail.name}: " in second


async def test_it_is_no_photo_for_anybody_who_lists_photos(store):
    """An audit's list of strays holds photos only: ``iterate`` and ``evidence.listed``."""
    await store.put(command(), picture(), EXTRAS)
    assert [entry.key async for entry in store.iterate()] == [blob_key(command())]
    assert sorted((await everything(store)).values()) == ["original", "photo", "thumbnail"]
    assert await asyncio.to_thread(lambda: list(listed(store))) == [7]


async def test_an_attempt_that_came_second_leaves_nothing_of_its_own(store):
    first = await store.put(command(), picture(1), EXTRAS)
    second = await store.put(command(), picture(2), (Extra("thumbnail", b"other"),))
    assert (second.existed, second.image) == (True, first.image)
    await asyncio.gather(*store._leaving)
    assert len(await everything(store)) == 3
    assert await store.read((await store.beside(first.image))["thumbnail"]) == b"small"


async def test_the_same_photo_once_more_keeps_what_is_beside_it(store):
    """An attempt whose put was written, though it was told that it failed, is made again."""
    await store.put(command(), picture(), EXTRAS)
    again = await store.put(command(), picture(), EXTRAS)
    assert again.existed
    assert len(await store.beside(again.image)) == 2
    assert await check(store, "c") == (1, [])


async def test_where_it_cannot_be_stored_there_is_no_photo(tmp_path):
    store = BlobStore.open(tmp_path)
    frame = picture()
    (tmp_path / beside_key(blob_key(command()), frame.sha256, "original", "heif")).mkdir(
        parents=True
    )
    with pytest.raises(StoreError, match="cannot be written"):
        await store.put(command(), frame, EXTRAS)
    assert await store.find(command()) is None


async def test_it_goes_with_its_photo(store):
    await store.put(command(7, DAY_MS), picture(1), EXTRAS)
    await store.put(command(8), picture(2), EXTRAS)
    done = await prune(store, AT_MS + 2 * DAY_MS)
    assert (done.looked_at, done.deleted, done.beside) == (2, 1, 2)
    assert {name.partition(".")[0] for name in await everything(store)} == {"8"}


async def test_what_is_beside_a_photo_that_never_came_is_pruned_and_told(store):
    key = beside_key(blob_key(command(7, DAY_MS)), "ab" * 32, "thumbnail")
    await store.put(command(8, DAY_MS), picture(), EXTRAS)
    # As a worker leaves it that dies between the two puts.
    _, (metadata, _) = describe(command(7, DAY_MS), picture(2), EXTRAS)
    await store._put(key, b"small", "overwrite", metadata)
    (wrong,) = (await check(store, "c"))[1]
    assert (wrong.uri, wrong.reason) == (store.uri(key), "it lies beside no photo")
    await prune(store, AT_MS + 2 * DAY_MS)
    assert await everything(store) == {}


async def test_check_finds_what_is_missing_or_changed(tmp_path):
    store = BlobStore.open(tmp_path)
    stored = await store.put(command(), picture(), EXTRAS)
    beside = await store.beside(stored.image)
    (tmp_path / store.key(beside["thumbnail"])).write_bytes(b"smaller")
    (tmp_path / store.key(beside["original"])).unlink()
    found = {one.uri: one.reason for one in (await check(store, "c"))[1]}
    assert "sha256" in found[beside["thumbnail"]]
    assert "is not in the blob store" in found[beside["original"]]
    (tmp_path / blob_key(command())).write_bytes(picture(2).data)
    assert any("nothing is known of bytes" in one.reason for one in (await check(store, "c"))[1])


@pytest.mark.parametrize(
    ("name", "photo", "beside"),
    [
        ("c/2026-11-28/7.jpg", 7, None),
        ("7.webp", 7, None),
        ("7.png", 7, None),
        ("7.9f2c31aa04be.thumbnail.jpg", None, (7, "9f2c31aa04be", "thumbnail")),
        ("7.9f2c31aa04be.original.heif", None, (7, "9f2c31aa04be", "original")),
        ("7.9f2c31aa04b.original.heif", None, None),
        ("7.gif", None, None),
        ("seven.jpg", None, None),
        ("7.jpg#123", None, None),
        ("snapshots/-/0000-of-0008/7.avro", None, None),
    ],
)
def test_the_rule_of_names(name, photo, beside):
    assert photo_id(name) == photo
    assert beside_name(name) == beside


def test_a_name_ends_as_its_format_does():
    assert suffix_of("label format=webp width=2") == ".webp"
    assert suffix_of("format=png") == ".png"
    assert suffix_of("label") == suffix_of("format=gif") == ".jpg"


def test_the_command_line_shows_writes_and_checks_it(tmp_path):
    async def fill():
        store = BlobStore.open(tmp_path / "blobs")
        return (await store.put(command(), picture(), EXTRAS)).image

    image = asyncio.run(fill())
    run, data = CliRunner().invoke, ["--data", str(tmp_path)]
    assert "original, thumbnail" in run(app, ["photos", "list", "c", *data]).stdout
    small = tmp_path / "small.jpg"
    shown = run(app, ["photos", "latest", "c", "--thumbnail", "--out", str(small), *data])
    assert shown.stdout.strip() == beside_key(image.uri, image.sha256, "thumbnail")
    assert small.read_bytes() == b"small"
    assert run(app, ["photos", "verify", "c", *data]).exit_code == 0
    (photo,) = tmp_path.rglob("7.jpg")
    photo.write_bytes(photo.read_bytes()[:-3] + b"\0\xff\xd9")
    assert hashlib.sha256(photo.read_bytes()).hexdigest() != image.sha256
    found = run(app, ["photos", "verify", "c", *data])
    assert found.exit_code == 1
    assert "nothing is known of bytes" in found.stdout
