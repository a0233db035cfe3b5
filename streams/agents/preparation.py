"""Devices are made ready in the lead, so that the shutter is a single round trip.

Between arming and shutter there are some hundred milliseconds. In them a device whose adapter wants
it (``Photos.wants_prepare``) is prepared: a connection is opened, a session set up, its way learnt.
Best effort: bounded in number, over when the shutter's time comes, and a failure is counted only,
as the capture is tried all the same and says more. A device that is busy or in trouble is left
alone.

Cost: one call where the adapter does not want it; else a task and what the adapter does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from schemas.errors import CameraError

if TYPE_CHECKING:
    from schemas.records import DeviceProfile
    from streams.agents.ports import Photos
    from streams.observability.metrics import Metrics

LEAST_MS: Final = 20
"""With less time than this there is nothing to be gained."""


class Preparation:
    """The preparations of one worker."""

    def __init__(self, photos: Photos, metrics: Metrics, at_once: int, per_host: int) -> None:
        """Take the parts; two bounds of the preparations under way: in all, and to one host."""
        self._photos = photos
        self._metrics = metrics
        self._at_once = at_once
        self._per_host = per_host
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._hosts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, profile: DeviceProfile, in_ms: int) -> None:
        """Make a device ready whose shutter opens in ``in_ms``, if that helps."""
        if in_ms < LEAST_MS or not self._photos.wants_prepare(profile):
            return
        host = self._photos.host(profile)
        to_host = self._hosts.get(host, 0) if host else 0
        if len(self._tasks) >= self._at_once or to_host >= self._per_host:
            self._metrics.preparations.inc("left_out")
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._prepare(profile, loop.time() + in_ms / 1000.0))
        self._tasks[task] = host
        self._hosts[host] = self._hosts.get(host, 0) + 1
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        host = self._tasks.pop(task)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    async def _prepare(self, profile: DeviceProfile, deadline_s: float) -> None:
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._photos.prepare(profile, deadline_s=deadline_s)
        except (CameraError, TimeoutError):
            self._metrics.preparations.inc("failed")
        else:
            self._metrics.preparations.inc("ready")
