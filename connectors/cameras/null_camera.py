"""A camera that answers at once, in this process: ``null-camera``.

It measures the control plane alone (``./dev bench capacity``): no socket, no encoder, the same
tiny valid JPEG each time. Whatever is measured with it names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import simplejpeg

from connectors.cameras.frame import read_jpeg
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.cameras.base import Frame
    from schemas.records import CaptureCommand, DeviceProfile

PROTOCOL: Final = "null-camera"


def tiny_frame() -> Frame:
    """Return the 8 by 8 grey picture that every null camera takes."""
    grey = np.full((8, 8, 1), 128, dtype=np.uint8)
    data: bytes = simplejpeg.encode_jpeg(grey, 75, "GRAY", "Gray")
    return read_jpeg(data)


class NullCamera:
    """The adapter of ``null-camera``; it is exempt from the check for stale pictures."""

    def __init__(self) -> None:
        self._frame = tiny_frame()

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Do nothing: there is nobody to connect to."""

    def wants_prepare(self, profile: DeviceProfile) -> bool:  # noqa: ARG002
        """Say no: there is nothing to make ready, and asking must cost nothing."""
        return False

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Do nothing: it is always ready."""

    async def capture(
        self,
        profile: DeviceProfile,  # noqa: ARG002
        command: CaptureCommand,  # noqa: ARG002
        *,
        deadline_s: float,  # noqa: ARG002
    ) -> Frame:
        """Return the tiny picture."""
        return self._frame

    async def invoke(
        self,
        profile: DeviceProfile,  # noqa: ARG002
        method: str,
        arguments: Mapping[str, str],  # noqa: ARG002
        *,
        deadline_s: float,  # noqa: ARG002
    ) -> bytes:
        """Raise: a null camera has no methods."""
        message = f"a null camera has no method {method!r}"
        raise CameraError("unknown_protocol", message, retry=False)

    async def close(self) -> None:
        """Do nothing."""
