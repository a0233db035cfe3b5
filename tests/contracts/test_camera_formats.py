"""A camera that sends PNG, WebP or HEIC: taken where the photo is made over (issue 8 'Pipeline')."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from image_files import animated, make, saved, scene
from PIL import Image

from connectors.blobs.store import BlobStore
from connectors.cameras import Cameras
from connectors.images.embed import extract
from connectors.images.executor import ImageExecutor
from connectors.images.label import read_xmp
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile
from shutterwheel.photos import CameraPhotos
from streams.agents.ports import Opening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.agents.ports import Photo

AT_MS = 1_795_433_700_000


def heic() -> bytes:
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(scene(320, 240))).save(out, quality=90)
    return out.getvalue()


SENT = {
    "png": lambda: saved(scene(320, 240), "PNG"),
    "webp": lambda: saved(scene(320, 240), "WEBP"),
    "gif": lambda: animated("GIF"),
    "heic": heic,
    "jpeg": lambda: make(320, 240),
}


@asynccontextmanager
async def taking(body: bytes, image: str) -> AsyncIterator[tuple[Photo, bytes]]:
    """Take a photo of a camera that sends these bytes; give it, and what is stored."""

    async def snapshot(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="image/whatever")

    application = web.Application()
    application.router.add_get("/snapshot", snapshot)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    profile = DeviceProfile(
        "gate-1", f"http://127.0.0.1:{runner.addresses[0][1]}/snapshot", "http-snapshot"
    )
    command = CaptureCommand(
        7, "gate-1", "s", "", 1, AT_MS, AT_MS, AT_MS, 20_000, 0, AT_MS, image=image
    )
    cameras, blobs = Cameras(), BlobStore.open("memory://")
    try:
        async with ImageExecutor() as images:
            photos = CameraPhotos(cameras, blobs, None, images)
            deadline_s = asyncio.get_running_loop().time() + 20
            opening = Opening(AT_MS, last=True)
            taken = await photos.take(profile, command, deadline_s=deadline_s, opening=opening)
            yield taken, await blobs.read(taken.image.uri)
    finally:
        await cameras.close()
        await blobs.aclose()
        await runner.cleanup()


@pytest.mark.parametrize("name", SENT)
@pytest.mark.parametrize("wanted", ["jpeg", "webp"])
async def test_what_is_stored_is_the_format_that_is_wanted(name: str, wanted: str) -> None:
    words = "label original" + ("" if wanted == "jpeg" else f" format={wanted}")
    async with taking(SENT[name](), words) as (photo, stored):
        assert photo.image.format == wanted
        assert Image.open(io.BytesIO(stored)).format == wanted.upper()
        label = read_xmp(extract(stored).xmp)
        beside = set(photo.image.beside)
    assert label.source_bytes == len(SENT[name]())
    assert ("first_frame" in label.notes) == (name == "gif")
    untouched = name == wanted
    suffix = {"jpeg": "jpg", "heic": "heif"}.get(name, name)
    assert beside == (set() if untouched else {f"original.{suffix}"})


@pytest.mark.parametrize("name", sorted(set(SENT) - {"jpeg"}))
async def test_where_bytes_are_stored_as_they_came_they_must_be_a_jpeg(name: str) -> None:
    with pytest.raises(CameraError, match="expected a JPEG picture") as caught:
        async with taking(SENT[name](), ""):
            pass
    assert caught.value.cause == "not_an_image"


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"\x89PNG\r\n\x1a\n" + bytes(9)])
async def test_what_is_no_picture_is_none_either_way(body: bytes) -> None:
    with pytest.raises(CameraError) as caught:
        async with taking(body, "label"):
            pass
    assert caught.value.cause == "not_an_image"
