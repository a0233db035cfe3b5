"""The world beyond the log: cameras that are slow, fail and hang, and a store for their pictures.

Cameras and store outlive the workers: a request that was sent is served, whoever asked. A camera
takes a picture when it is asked, and it notes each shutter (``Watch.shutter``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas.errors import CameraError, StoreError
from schemas.records import ImageRef
from streams.agents.ports import Photo

if TYPE_CHECKING:
    import random

    from world_loop import Schedule
    from world_plan import Plan

    from schemas.records import CaptureCommand, DeviceProfile
    from streams.agents.ports import Opening


@dataclass
class Camera:
    """One camera."""

    name: str
    random: random.Random
    grab_s: tuple[float, float]
    fails: float
    hangs: float
    at_once: bool
    """It answers within the call, as the null camera does."""
    prepares: bool


@dataclass
class Site:
    """All cameras and the blob store."""

    schedule: Schedule
    plan: Plan
    watch: Any
    cameras: dict[str, Camera] = field(default_factory=dict)
    blobs: dict[int, ImageRef] = field(default_factory=dict)
    hang_share: float = 0.0
    fail_share: float = 0.0
    blobs_slow_s: float = 0.0
    blobs_down: bool = False
    looked: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """When a picture was looked for the last time, and whether it was found."""

    def camera(self, name: str) -> Camera:
        found = self.cameras.get(name)
        if found is None:
            chance = self.plan.stream(f"camera/{name}")
            quiet = self.plan.kind == "fleet"
            slow = chance.choice(((0.01, 0.05), (0.02, 0.2), (0.3, 1.5)))
            found = self.cameras[name] = Camera(
                name,
                chance,
                (0.01, 0.05) if quiet else slow,
                0.0005 if quiet else chance.choice((0.0, 0.02, 0.3)),
                0.0 if quiet else chance.choice((0.0, 0.0, 0.1)),
                at_once=quiet or chance.random() < 0.25,
                prepares=not quiet and chance.random() < 0.3,
            )
        return found

    def met(self, what: str, amount: float) -> None:
        """Note that a fault had an effect, if there is one."""
        if amount:
            self.watch.met[what] += 1

    def put(self, command_id: int, image: ImageRef) -> None:
        """Keep a picture, unless there is one."""
        self.blobs.setdefault(command_id, image)


class SitePhotos:
    """The site as one process reaches it (``ports.Photos``)."""

    def __init__(self, site: Site, process: Any) -> None:
        self.site, self.process = site, process

    def check_profile(self, profile: DeviceProfile) -> None:
        if profile.protocol == "telepathy":
            raise CameraError("unknown_protocol", "no such protocol", retry=False)

    def host(self, profile: DeviceProfile) -> str:
        return profile.address

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        return self.site.camera(profile.device_id).prepares

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        camera = self.site.camera(profile.device_id)
        await asyncio.sleep(camera.random.uniform(0.01, 0.4))
        if camera.random.random() < 0.1:
            raise CameraError("refused", "not now")

    def take_now(self, profile: DeviceProfile, command: CaptureCommand) -> Photo | None:
        site, camera = self.site, self.site.camera(profile.device_id)
        if not camera.at_once:
            return None
        site.watch.shutter(self.process, command)
        if camera.random.random() < max(camera.fails, site.fail_share):
            site.met("cameras_fail", site.fail_share)
            raise CameraError("refused", "nothing listens there")
        image = _image(command)
        site.put(command.command_id, image)
        return Photo(site.blobs[command.command_id], 1.0, 1.0)

    async def take(
        self,
        profile: DeviceProfile,
        command: CaptureCommand,
        *,
        deadline_s: float,
        opening: Opening,
    ) -> Photo:
        site, camera = self.site, self.site.camera(profile.device_id)
        site.watch.shutter(self.process, command)
        chance, loop = camera.random, asyncio.get_running_loop()
        if chance.random() < max(camera.hangs, site.hang_share):
            site.met("cameras_hang", site.hang_share)
            # Some adapters end by themselves, some have to be cancelled.
            left_s = deadline_s - loop.time()
            await asyncio.sleep(left_s if chance.random() < 0.8 else left_s + 60.0)
            raise CameraError("timeout", "no answer")
        grab_s = chance.uniform(*camera.grab_s)
        if loop.time() + grab_s > deadline_s:
            await asyncio.sleep(max(deadline_s - loop.time(), 0.0))
            raise CameraError("timeout", "too slow")
        await asyncio.sleep(grab_s)
        if chance.random() < max(camera.fails, site.fail_share):
            site.met("cameras_fail", site.fail_share)
            cause = chance.choice(("refused",) * 10 + ("bad_picture",) * 9 + ("auth",))
            raise CameraError(cause, "as cameras do", retry=cause != "auth")
        if command.quality == "retry" and not opening.last and chance.random() < 0.2:
            raise CameraError("quality", "the photo is blurred")
        store_s = 0.005 + chance.random() * (0.02 + site.blobs_slow_s)
        site.met("blobs_slow", site.blobs_slow_s)
        if site.blobs_down:
            site.met("blobs_down", 1.0)
            raise CameraError("store", "the blob store does not answer")
        # From here on the store does it, whatever becomes of this process.
        site.schedule.after(store_s * 0.5, site.put, command.command_id, _image(command))
        if loop.time() + store_s > deadline_s:
            await asyncio.sleep(max(deadline_s - loop.time(), 0.0))
            raise CameraError("store", "the blob store is slow")
        await asyncio.sleep(store_s)
        return Photo(site.blobs[command.command_id], grab_s * 1e3, store_s * 1e3)

    async def find(self, command: CaptureCommand) -> ImageRef | None:
        await asyncio.sleep(0.005 + self.site.blobs_slow_s * 0.5)
        if self.site.blobs_down:
            self.site.looked[command.command_id] = (self.site.schedule.now_s, False)
            raise StoreError("the blob store does not answer")
        image = self.site.blobs.get(command.command_id)
        self.site.looked[command.command_id] = (self.site.schedule.now_s, image is not None)
        return image


def _image(command: CaptureCommand) -> ImageRef:
    return ImageRef(
        f"sim:///{command.command_id}.jpg", f"{command.command_id:064x}", 3, 1, 1, "jpeg"
    )
