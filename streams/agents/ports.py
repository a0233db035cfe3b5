"""What an agent needs of the world, as it is handed in: no agent knows a protocol or a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from schemas.records import CaptureCommand, DeviceProfile, ImageRef


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that was taken and stored."""

    image: ImageRef
    grab_ms: float
    """Shutter to the last byte of the picture."""
    store_ms: float
    """Handing the bytes to the store."""


class Photos(Protocol):
    """Takes a photo of a device and keeps it."""

    def check_profile(self, profile: DeviceProfile) -> None:
        """Raise ``CameraError`` if the profile can never work; does no I/O."""

    async def take(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Photo:
        """Open the shutter now and store what comes, all before ``deadline_s`` (loop time).

        A command that has a picture from an earlier attempt keeps that one.

        Raises ``CameraError``, whose ``retry`` says whether another attempt may help.
        """
        ...

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        """Return the picture an earlier attempt left. Raises ``StoreError``."""
        ...
