"""Cameras and blob store together, as the capture executor is handed them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from schemas.errors import CameraError, StoreError, UsageError
from schemas.records import QualityVerdict
from streams.agents.ports import Photo

if TYPE_CHECKING:
    from connectors.blobs.describe import Extra
    from connectors.blobs.store import BlobStore
    from connectors.cameras.base import Frame
    from connectors.cameras.registry import Cameras
    from connectors.images.executor import ImageExecutor
    from connectors.images.label import Label
    from schemas.records import CaptureCommand, DeviceProfile, ImageRef
    from streams.agents.ports import Opening


OFF: Final = "off"
STORE_ROOM_S: Final = 0.3
"""What a verdict leaves of the time for storing: a photo without one is better than none."""


class Judge(Protocol):
    """Says what photos are like."""

    async def judge(self, data: bytes, until_s: float | None = None) -> QualityVerdict:
        """Return the verdict on an encoded picture; one that says why, if there can be none.

        ``until_s``: when its caller waits no longer, by the event loop's clock.
        """
        ...


class CameraPhotos:
    """Takes a photo with the adapter of the device's protocol and puts it into the blob store."""

    def __init__(
        self,
        cameras: Cameras,
        blobs: BlobStore,
        judge: Judge | None = None,
        images: ImageExecutor | None = None,
    ) -> None:
        """Take the parts.

        ``judge`` says what photos are like; without one nobody is asked. ``images`` does what
        schedules ask of a photo's bytes; without it such captures fail.
        """
        self._cameras = cameras
        self._blobs = blobs
        self._judge = judge
        self._images = images

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
        if command.quality != OFF or command.image:
            return None  # that is waited for
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
        self,
        profile: DeviceProfile,
        command: CaptureCommand,
        *,
        deadline_s: float,
        opening: Opening,
    ) -> Photo:
        """Open the shutter now and store what comes; see ``streams.agents.ports.Photos``."""
        clock = asyncio.get_running_loop().time
        opened_s = clock()
        frame = await self._cameras.capture(profile, command, deadline_s=deadline_s)
        grabbed_s = clock()
        until_s = deadline_s - STORE_ROOM_S
        verdict = await self._verdict(command, frame, until_s, last=opening.last)
        extras: tuple[Extra, ...] = ()
        if command.image:
            frame, extras = await self._made(
                command, frame, until_s, opening.shutter_at_ms, verdict
            )
        judged_s = clock()
        try:
            async with asyncio.timeout_at(deadline_s):
                stored = await self._blobs.put(command, frame, extras)
        except TimeoutError as error:
            text = f"the blob store did not answer within {command.capture_timeout_ms:,} ms"
            raise CameraError("store_timeout", text) from error
        except StoreError as error:
            raise CameraError("store", str(error)) from error
        grab_ms, store_ms = (grabbed_s - opened_s) * 1e3, (clock() - judged_s) * 1e3
        return Photo(stored.image, grab_ms, store_ms, verdict)

    async def _verdict(
        self, command: CaptureCommand, frame: Frame, until_s: float, *, last: bool
    ) -> QualityVerdict | None:
        """Return what is said of a photo; CameraError where it is not to be kept for that."""
        if command.quality == OFF or self._judge is None:
            return None
        try:
            async with asyncio.timeout_at(until_s):
                verdict = await self._judge.judge(frame.data, until_s)
        except TimeoutError:
            return QualityVerdict("", (), {}, "not judged: there was no time for it")
        dropped = command.quality == "drop" or (command.quality == "retry" and not last)
        if verdict.faults and dropped:
            said = ", ".join(f"{fault} {verdict.scores[fault]:.2f}" for fault in verdict.faults)
            raise CameraError("quality", said, retry=command.quality == "retry")
        return verdict

    async def _made(
        self,
        command: CaptureCommand,
        frame: Frame,
        until_s: float,
        shutter_at_ms: int,
        verdict: QualityVerdict | None,
    ) -> tuple[Frame, tuple[Extra, ...]]:
        """Return the photo as its schedule wants it, and what is to lie beside it.

        Raises CameraError where it cannot be made so.
        """
        from connectors.blobs.describe import Extra
        from connectors.images.errors import ImageError
        from connectors.images.request import parse

        if self._images is None:
            raise CameraError("image", "this worker makes no photos over", retry=False)
        try:
            request = parse(command.image)
            label = _label(command, frame, shutter_at_ms, verdict) if request.label else None
            async with asyncio.timeout_at(until_s):
                done = await self._images.process(frame.data, request.spec, label, frame.sha256)
        except UsageError as error:
            raise CameraError("image", str(error), retry=False) from error
        except ImageError as error:
            raise CameraError("image", f"{error.code}: {error}") from error
        except TimeoutError as error:
            raise CameraError("image_timeout", "there was no time for it") from error
        made = replace(
            frame,
            data=done.data,
            format=done.format,
            sha256=done.sha256,
            width_px=done.width_px,
            height_px=done.height_px,
        )
        extras = []
        if done.thumbnail is not None:
            extras.append(Extra("thumbnail", done.thumbnail))
        if done.original is not None:
            extras.append(Extra("original", done.original, done.source_format))
        return made, tuple(extras)

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        """Return the picture an earlier attempt left."""
        return await self._blobs.find(command)


def _label(
    command: CaptureCommand, frame: Frame, shutter_at_ms: int, verdict: QualityVerdict | None
) -> Label:
    """Return what the file is to say of itself."""
    from connectors.images.label import Label

    quality = "" if verdict is None or not verdict.model else ",".join(verdict.faults) or "good"
    return Label(
        command.device_id,
        command.command_id,
        command.schedule_id,
        command.epoch,
        command.scheduled_ms,
        shutter_at_ms,
        certificate_sha256=frame.certificate_sha256,
        quality=quality,
    )
