"""What an agent needs of the world, as it is handed in: no agent knows a protocol or a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from schemas.records import CaptureCommand, DeviceProfile, ImageRef, QualityVerdict


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that was taken and stored."""

    image: ImageRef
    grab_ms: float
    """Shutter to the last byte of the picture."""
    store_ms: float
    """Handing the bytes to the store."""
    verdict: QualityVerdict | None = None
    """What was said of it; null: the command asks for no verdict."""


class Opening(NamedTuple):
    """What is known of an attempt as its shutter opens."""

    shutter_at_ms: int
    """As the result will have it."""
    last: bool = False
    """No other attempt can follow, so a bad photo that another could replace is kept."""


class Photos(Protocol):
    """Takes a photo of a device and keeps it."""

    def check_profile(self, profile: DeviceProfile) -> None:
        """Raise ``CameraError`` if the profile can never work; does no I/O."""

    def host(self, profile: DeviceProfile) -> str:
        """Return the host that serves the device; "": none whose requests must be bounded.

        Asked for each shutter: it must be cheap, and do no I/O.
        """
        ...

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether ``prepare`` would help a capture that is due soon; cheap, and no I/O."""
        ...

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Make ready for a capture that is due soon, before ``deadline_s`` (loop time).

        Best effort: the capture is tried all the same. No shutter opens. Raises ``CameraError``.
        """

    def take_now(self, profile: DeviceProfile, command: CaptureCommand) -> Photo | None:
        """Take a photo as ``take`` does, if nothing of it has to be awaited; else do nothing.

        Raises ``CameraError``.
        """
        ...

    async def take(
        self,
        profile: DeviceProfile,
        command: CaptureCommand,
        *,
        deadline_s: float,
        opening: Opening,
    ) -> Photo:
        """Open the shutter now and store what comes, all before ``deadline_s`` (loop time).

        A command that has a picture from an earlier attempt keeps that one.

        Raises ``CameraError``, whose ``retry`` says whether another attempt may help.
        """
        ...

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        """Return the picture an earlier attempt left. Raises ``StoreError``."""
        ...


class Load(NamedTuple):
    """How busy a machine is: shares, 0 to 1. 0 where it is not known."""

    cpu: float = 0.0
    """Averaged over 5 s (SPEC 2.3)."""
    mem: float = 0.0
    """1 - available / total (SPEC 2.3)."""


class Loads(Protocol):
    """What is known of load, live; both are cheap and do no I/O."""

    def own(self) -> Load:
        """Return the load of this worker."""
        ...

    def of(self, device_id: str) -> Load:
        """Return the load of a device's terminal, as its heartbeats told it last."""
        ...
