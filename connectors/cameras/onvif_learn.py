"""Learning an ONVIF device: its clock, its login, its services, its profiles, its snapshot.

    GetSystemDateAndTime     its clock, and what it wants as a login        (without credentials)
    GetServices              where the media service is                     (or GetCapabilities)
    GetProfiles              which profiles there are: main and sub stream
    GetSnapshotUri           where a whole picture is

No shutter opens. The first generation of the media service is preferred to the second (Media2):
nearly every device has it. Every address is taken as we can reach it
(:mod:`connectors.cameras.onvif_address`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from yarl import URL

from connectors.cameras import onvif_soap
from connectors.cameras.frame import clean
from connectors.cameras.onvif_address import as_reached
from connectors.cameras.onvif_calls import Device
from connectors.cameras.ways import Way, Ways, is_broken
from schemas.errors import CameraError

if TYPE_CHECKING:
    from connectors.cameras.onvif_calls import OnvifCalls
    from connectors.cameras.policy import AddressPolicy
    from schemas.records import DeviceProfile


class OnvifLearner:
    """Asks a device what there is to know."""

    def __init__(self, calls: OnvifCalls, policy: AddressPolicy) -> None:
        self._calls = calls
        self._policy = policy

    async def learn(self, profile: DeviceProfile, *, streams: bool, deadline_s: float) -> Device:
        """Return the device with its ways; those over RTSP only where ``streams`` can be read."""
        target = self._policy.target(profile.address)
        device = Device(service=target.url.with_fragment(None))
        await self._calls.ask_time(profile, device, deadline_s=deadline_s)
        await self._find_media(profile, device, deadline_s)
        body = onvif_soap.get_profiles(device.media)
        element, _ = await self._calls.call(
            profile, device, device.media_url, body, deadline_s=deadline_s
        )
        chosen = choose(profile, target.url.fragment, onvif_soap.profiles(element))
        ways = [Way("main-stream", chosen[0].token)]
        if len(chosen) > 1:
            ways.insert(0, Way("sub-stream", chosen[1].token))
        if not streams:
            ways.clear()
        url = await self.ask_snapshot(profile, device, chosen[0].token, deadline_s)
        if url:
            ways.insert(0, Way("snapshot", chosen[0].token, url))
        device.ways = Ways(ways)
        return device

    async def _find_media(self, profile: DeviceProfile, device: Device, deadline_s: float) -> None:
        service = str(device.service)
        try:
            element, _ = await self._calls.call(
                profile, device, service, onvif_soap.get_services(), deadline_s=deadline_s
            )
            found = onvif_soap.services(element)
        except CameraError as error:
            if error.cause not in {"soap_fault", "http_400", "http_404", "http_500", "http_501"}:
                raise
            found = {}
        if not found:  # a device of the first generation
            element, _ = await self._calls.call(
                profile, device, service, onvif_soap.get_capabilities(), deadline_s=deadline_s
            )
            found = onvif_soap.services(element)
        own = found.get(onvif_soap.DEVICE, "")
        with contextlib.suppress(ValueError):
            device.own = URL(own) if own else None
        for media in (onvif_soap.MEDIA, onvif_soap.MEDIA2):
            url = as_reached(found.get(media, ""), device.service, device.own)
            if found.get(media) and url.startswith(("http://", "https://")):
                device.media, device.media_url = media, url
                return
        raise no_way(profile, "it has no media service")

    async def ask_snapshot(
        self, profile: DeviceProfile, device: Device, token: str, deadline_s: float
    ) -> str:
        """Return where the snapshot of a media profile is; empty: the device offers none."""
        body = onvif_soap.get_snapshot_uri(device.media, token)
        try:
            element, _ = await self._calls.call(
                profile, device, device.media_url, body, deadline_s=deadline_s
            )
        except CameraError as error:
            if is_broken(error.cause) or error.cause == "http_500":
                return ""
            raise
        url = as_reached(onvif_soap.uri(element), device.service, device.own)
        return url if url.startswith(("http://", "https://")) else ""


def choose(
    profile: DeviceProfile, channel: str, offered: list[onvif_soap.MediaProfile]
) -> list[onvif_soap.MediaProfile]:
    """Return the main profile of a channel, and its sub profile if it has one.

    ``channel`` is the token of a video source or of a media profile; empty: the first source. The
    main profile has the largest pictures, the sub profile the smallest. Raises ``no_way``.
    """
    if not offered:
        raise no_way(profile, "it has no media profile")
    wanted = channel or offered[0].source
    mine = [one for one in offered if wanted in {one.source, one.token}]
    if not mine:
        has = ", ".join(sorted({one.source or one.token for one in offered}))
        raise no_way(profile, f"it has no channel {clean(channel)!r}; it has {clean(has)}")
    main = max(mine, key=lambda one: one.pixels)
    sub = min(mine, key=lambda one: one.pixels)
    return [main] if sub is main or sub.pixels == main.pixels else [main, sub]


def no_way(profile: DeviceProfile, why: str) -> CameraError:
    """Return the error of a device that offers nothing we can use."""
    message = f"{clean(profile.device_id)} offers no way to a photo: {why}"
    return CameraError("no_way", message, retry=False)
