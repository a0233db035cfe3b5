"""How the body of an HTTP answer is read: whole and bounded, or not at all.

A reader takes as much of a body as it wants, at most so many bytes; one that stops early closes the
response. The deadline around the request is the caller's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from connectors.cameras.frame import clean
from schemas.errors import CameraError

if TYPE_CHECKING:
    from schemas.records import DeviceProfile

Reader = Callable[["DeviceProfile", aiohttp.ClientResponse, int], Awaitable[bytes]]
"""Reads a body, of at most so many bytes."""


async def read_bounded(
    profile: DeviceProfile, response: aiohttp.ClientResponse, max_bytes: int
) -> bytes:
    """Return the whole body; raise CameraError ``too_large`` as soon as it is known to be."""
    length = response.content_length
    if length is not None and length > max_bytes:
        response.close()
        raise _too_large(profile, f"announces {length} bytes", max_bytes)
    if length is not None:
        return await response.read()
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            response.close()
            raise _too_large(profile, f"sent more than {max_bytes} bytes", max_bytes)
        parts.append(part)
    return b"".join(parts)


async def nothing(
    profile: DeviceProfile,  # noqa: ARG001
    response: aiohttp.ClientResponse,
    max_bytes: int,  # noqa: ARG001
) -> bytes:
    """Read no body: that of an answer to HEAD, which has none, or of one that does not matter."""
    if not response.content.at_eof():
        response.close()
    return b""


def _too_large(profile: DeviceProfile, what: str, max_bytes: int) -> CameraError:
    return CameraError(
        "too_large",
        f"{name_of(profile)} {what}; the camera settings allow {max_bytes}",
        retry=False,
    )


def name_of(profile: DeviceProfile) -> str:
    """Name a device and its place without what its URL may hold."""
    try:
        url = URL(profile.address)
        place = f"{url.host}:{url.port}"
    except ValueError:
        place = "an unusable address"
    return clean(f"{profile.device_id} at {place}")
