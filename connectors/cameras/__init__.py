"""Cameras: one :class:`DeviceClient` a protocol, and :class:`Cameras`, which picks it.

async with Cameras(CameraSettings()) as cameras:
    deadline_s = asyncio.get_running_loop().time() + 3.0
    frame = await cameras.capture(profile, command, deadline_s=deadline_s)
"""

from __future__ import annotations

from connectors.cameras.base import CAUSES, CameraSettings, DeviceClient, Frame
from connectors.cameras.registry import Cameras

__all__ = ["CAUSES", "CameraSettings", "Cameras", "DeviceClient", "Frame"]
