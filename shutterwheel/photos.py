"""Cameras and blob store together, as the capture executor is handed them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from schemas.errors import CameraError, StoreError
from streams.agents.ports import Photo

if TYPE_CHECKING:
    from connectors.blobs.store import BlobStore
    from connectors.cameras.registry import Cameras
    from schemas.records import CaptureCommand, DeviceProfile, ImageRef


class CameraPhotos:
    """Takes a photo with the adapter of the device's protocol and puts it into the blob store."""

    def __init__(self, cameras: Cameras, blobs: BlobStore) -> None:
        self._cameras = cameras
        self._blobs = blobs

    def check_profile(self, profile: DeviceProfile) -> None:
        """Raise ``CameraError`` if the profile can never work."""
        self._cameras.check_profile(profile)

    def host(self, profile: DeviceProfile) -> str:
        """Return the host that serves the device; "": its requests need no bound."""
        return self._cameras.host(profile)

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether the device's adapter has something to make ready."""
        return self._cameras.wants_prepare(profile)

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Make ready for a capture that is due soon; see ``streams.agents.ports.Photos``."""
        await self._cameras.prepare(profile, deadline_s=deadline_s)

    def take_now(self, profile: DeviceProfile, command: CaptureCommand) -> Photo | None:
        """Take and store a photo without waiting, where both can do so."""
        frame = self._cameras.capture_now(profile)
        if frame is None:
            return None
        began_s = time.perf_counter()
        try:
            stored = self._blobs.put_now(command, frame)
        except StoreError as error:
            raise CameraError("store", str(error)) from error
        if stored is None:
            return None
        return Photo(stored.image, 0.0, (time.perf_counter() - began_s) * 1e3)

    async def take(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Photo:
        """Open the shutter now and store what comes; see ``streams.agents.ports.Photos``."""
        clock = asyncio.get_running_loop().time
        opened_s = clock()
        frame = await self._cameras.capture(profile, command, deadline_s=deadline_s)
        grabbed_s = clock()
        try:
            async with asyncio.timeout_at(deadline_s):
                stored = await self._blobs.put(command, frame)
        except TimeoutError as error:
            text = f"the blob store did not answer within {command.capture_timeout_ms:,} ms"
            raise CameraError("store_timeout", text) from error
        except StoreError as error:
            raise CameraError("store", str(error)) from error
        return Photo(stored.image, (grabbed_s - opened_s) * 1e3, (clock() - grabbed_s) * 1e3)

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        """Return the picture an earlier attempt left."""
        return await self._blobs.find(command)
