"""The fingerprint of a camera's certificate gets into the photo (SPEC 1.7, issue 8 'Metadata').

A camera with TLS and a certificate that is trusted; the fingerprint is looked at with cryptography,
not with what took it.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp.connector
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from own_certificate import own_certificate

from connectors.blobs.store import BlobStore
from connectors.cameras import Cameras
from connectors.cameras.picture import Painter
from connectors.images.embed import extract
from connectors.images.executor import ImageExecutor
from connectors.images.label import read_xmp
from schemas.records import CaptureCommand, DeviceProfile
from shutterwheel.photos import CameraPhotos
from streams.agents.ports import Opening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cryptography import x509

AT_MS = 1_795_433_700_000
COMMAND = CaptureCommand(
    7, "gate-1", "s", "", 1, AT_MS, AT_MS, AT_MS, 20_000, 0, AT_MS, image="label"
)
SMALL, LARGE = (96, 96), (1_280, 720)
"""A picture that comes with the headers, and one that its connection is still needed for."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[x509.Certificate, Path]:
    """A certificate of 127.0.0.1 that signs itself, with its key in a PEM file."""
    made, pem = own_certificate("gate-1")
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return made, path


@asynccontextmanager
async def camera(picture: bytes, pem: Path | None) -> AsyncIterator[str]:
    async def snapshot(_request: web.Request) -> web.Response:
        return web.Response(body=picture, content_type="image/jpeg")

    tls = None
    if pem is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem)
    application = web.Application()
    application.router.add_get("/snapshot.jpg", snapshot)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http{'s' if tls else ''}://127.0.0.1:{port}/snapshot.jpg"
    await runner.cleanup()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("protocol", ["http-snapshot", "auto"])
@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
async def test_a_labelled_photo_names_the_certificate_that_its_camera_showed(
    certificate, monkeypatch, size, protocol, tls
):
    made, pem = certificate
    trusting = ssl.create_default_context(cafile=str(pem))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    picture = Painter(*size).paint("gate-1", AT_MS, 1)
    cameras, blobs = Cameras(), BlobStore.open("memory://")
    async with camera(picture, pem if tls else None) as address, ImageExecutor() as images:
        profile = DeviceProfile("gate-1", address, protocol)
        photos = CameraPhotos(cameras, blobs, None, images)
        deadline_s = asyncio.get_running_loop().time() + 20
        taken = await photos.take(
            profile, COMMAND, deadline_s=deadline_s, opening=Opening(AT_MS, last=True)
        )
        stored = await blobs.read(taken.image.uri)
        await cameras.close()
        await blobs.aclose()
    label = read_xmp(extract(stored).xmp)
    wanted = made.fingerprint(hashes.SHA256()).hex() if tls else ""
    assert label.certificate_sha256 == wanted
