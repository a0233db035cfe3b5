"""Cameras that speak ONVIF: the best way to a photo is asked for, learnt and kept.

The profile's address is the device service, ``http://host/onvif/device_service``; with a fragment
it is one channel of a recorder: ``…/device_service#VideoSource_2`` (the token of a video source, or
of a media profile). It is learnt once (:mod:`connectors.cameras.onvif_learn`), before the shutter.

A photo is then one GET of the snapshot; or, where there is none or it broke, RTSP: GetStreamUri
once, SetSynchronizationPoint (the encoder makes a key frame now instead of at the end of its group
of pictures) and the adapter of ``rtsp``, which is handed in. How ways break and come back:
:mod:`connectors.cameras.ways`; logins and clocks: :mod:`connectors.cameras.onvif_calls`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from yarl import URL

from connectors.cameras import onvif_soap
from connectors.cameras.frame import clean
from connectors.cameras.http import head, is_ready, make_ready, picture
from connectors.cameras.onvif_address import as_reached
from connectors.cameras.onvif_calls import LOGINS, OnvifCalls, at_address, wall_ms
from connectors.cameras.onvif_learn import OnvifLearner, no_way
from connectors.cameras.ways import Known, Memory, is_broken
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.cameras.base import DeviceClient, Frame
    from connectors.cameras.exchange import HttpExchange
    from connectors.cameras.onvif_calls import Device
    from connectors.cameras.ways import Way
    from schemas.records import CaptureCommand, DeviceProfile

PROTOCOL: Final = "onvif"
STREAMS: Final = "rtsp"
"""The protocol whose adapter takes photos from streams."""
KEY_FRAME_EVERY_S: Final = 0.4
"""How long a key frame that was asked for is waited for."""
MAX_KEY_FRAMES: Final = 5
"""Key frames asked for during one grab."""
DEVICE_METHODS: Final = {
    "reboot": "SystemReboot",
    "SystemReboot": "SystemReboot",
    "GetDeviceInformation": "GetDeviceInformation",
    "GetSystemDateAndTime": "GetSystemDateAndTime",
    "GetNetworkInterfaces": "GetNetworkInterfaces",
    "GetScopes": "GetScopes",
}
"""What ``invoke`` can ask of the device service."""
MEDIA_METHODS: Final = frozenset({"GetProfiles", "SetSynchronizationPoint"})
"""What ``invoke`` can ask of the media service; the argument ``profile`` names a media profile."""

log = logging.getLogger(__name__)


class OnvifCamera:
    """The adapter of ``onvif``."""

    def __init__(
        self, exchange: HttpExchange, adapters: Mapping[str, DeviceClient], max_devices: int
    ) -> None:
        """``adapters``: where the adapter of ``rtsp`` is looked up, if there is one."""
        self._exchange = exchange
        self._adapters = adapters
        self._calls = OnvifCalls(exchange)
        self._learner = OnvifLearner(self._calls, exchange.policy)
        self._devices: Memory[Device] = Memory(max_devices)
        self._learning: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Learn the device anew; takes no photo."""
        self._devices.forget(profile.device_id, profile.address)
        await self._device(profile, deadline_s)

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether the device is not known, or its best way has something to make ready."""
        device = self._devices.get(profile.device_id, profile.address)
        way = device.ways.best(_now_s()) if device else None
        if way is None or not way.url:
            return True
        if way.kind == "snapshot":
            return not is_ready(self._exchange, at_address(profile, way.url))
        wants = getattr(self._adapters.get(STREAMS), "wants_prepare", None)
        return wants is None or bool(wants(at_address(profile, way.url, STREAMS)))

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Learn the device if it is not known, and open what the shutter will need."""
        device = await self._device(profile, deadline_s)
        way = device.ways.best(_now_s())
        if way is None:
            return
        if way.kind == "snapshot":
            await self._open_snapshot(profile, device, way, deadline_s)
            return
        streams = self._adapters.get(STREAMS)
        if streams is not None:
            await self._find_stream(profile, device, way, deadline_s)
            there = at_address(profile, way.url, STREAMS)
            playing = _plays(streams, there)
            await streams.prepare(there, deadline_s=deadline_s)
            if not playing:
                await self._ask_key_frame(profile, device, way.token, deadline_s)

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Take one photo by the best way; by the next one if that is broken."""
        device = await self._device(profile, deadline_s)
        errors: list[CameraError] = []
        for way in device.ways.usable(_now_s()) or device.ways.ways:
            try:
                frame = await self._take(profile, device, way, command, deadline_s)
            except CameraError as error:
                errors.append(error)
                self._failed(profile, device, way, error)
                if not is_broken(error.cause):
                    break
            else:
                device.ways.worked(way)
                return frame
        refused = any(error.cause == "auth" for error in errors)
        if refused or not device.ways.usable(_now_s()):
            self._devices.forget(profile.device_id, profile.address)  # learnt anew the next time
        if not errors:
            raise no_way(profile, "it offers neither a snapshot nor a stream we can read")
        raise all_failed(errors)

    def disappointed(self, profile: DeviceProfile, error: CameraError) -> None:
        """Note that the last photo turned out to be none: an old one, served as new."""
        device = self._devices.get(profile.device_id, profile.address)
        way = device.ways.best(_now_s()) if device else None
        if device is None or way is None:
            return
        if device.ways.disappointed(way, error.cause, _now_s()):
            self._given_up(profile, device, way, error)

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],
        *,
        deadline_s: float,
    ) -> bytes:
        """Call a method of the device, :data:`DEVICE_METHODS` or :data:`MEDIA_METHODS`.

        ``reboot`` is sent once; what was learnt is forgotten, because a device may come back with
        another clock and other addresses.
        """
        if method not in DEVICE_METHODS and method not in MEDIA_METHODS:
            known = ", ".join(sorted((*DEVICE_METHODS, *MEDIA_METHODS)))
            message = f"{clean(profile.device_id)} has no method {clean(method)!r}; known: {known}"
            raise CameraError("unknown_protocol", message, retry=False)
        device = await self._device(profile, deadline_s)
        if method in DEVICE_METHODS:
            url = str(device.service)
            body = onvif_soap.call(onvif_soap.DEVICE, DEVICE_METHODS[method])
        elif method == "GetProfiles":
            url, body = device.media_url, onvif_soap.get_profiles(device.media)
        else:
            first = device.ways.ways[0].token if device.ways.ways else ""
            token = arguments.get("profile", first)
            url, body = device.media_url, onvif_soap.set_synchronization_point(device.media, token)
        _, answer = await self._calls.call(profile, device, url, body, deadline_s=deadline_s)
        if DEVICE_METHODS.get(method) == "SystemReboot":
            log.warning("%s: reboots, as it was told to", profile.device_id)
            self._devices.forget(profile.device_id, profile.address)
        return answer

    async def close(self) -> None:
        """Do nothing: the connections belong to the exchange."""

    def known(self, profile: DeviceProfile) -> Known | None:
        """Return what was learnt about a device; does no I/O."""
        device = self._devices.get(profile.device_id, profile.address)
        if device is None:
            return None
        now_s = _now_s()
        way, clock = device.ways.best(now_s), device.clock
        return Known(
            protocol=PROTOCOL,
            address=str(device.service),
            way=way.kind if way else "",
            ways=device.ways.table(now_s),
            login=LOGINS[device.login],
            skew_ms=clock.skew_ms(now_s, wall_ms()) if clock else None,
            clock=clock.source if clock else "",
        )

    async def _open_snapshot(
        self, profile: DeviceProfile, device: Device, way: Way, deadline_s: float
    ) -> None:
        """Connect and log in where the snapshot is; ask where that is if it is gone."""
        there = at_address(profile, way.url)
        if is_ready(self._exchange, there):
            return
        if await head(self._exchange, there, deadline_s) in {404, 410}:
            url = await self._learner.ask_snapshot(profile, device, way.token, deadline_s)
            if url and url != way.url:
                log.warning("%s: its snapshot moved to %s", profile.device_id, _path(url))
                way.url = url
        await make_ready(self._exchange, at_address(profile, way.url), deadline_s)

    # -- a photo -------------------------------------------------------------------------------

    async def _take(
        self,
        profile: DeviceProfile,
        device: Device,
        way: Way,
        command: CaptureCommand,
        deadline_s: float,
    ) -> Frame:
        if way.kind != "snapshot":
            return await self._grab(profile, device, way, command, deadline_s)
        try:
            return await self._snapshot(profile, way.url, command, deadline_s)
        except CameraError as error:
            if not is_broken(error.cause):
                raise
            # A new firmware may have moved it: ask once, before the way is given up.
            url = await self._learner.ask_snapshot(profile, device, way.token, deadline_s)
            if url in {"", way.url}:
                raise
            log.warning("%s: its snapshot moved to %s", profile.device_id, _path(url))
            way.url = url
            return await self._snapshot(profile, url, command, deadline_s)

    async def _snapshot(
        self, profile: DeviceProfile, url: str, command: CaptureCommand, deadline_s: float
    ) -> Frame:
        home = at_address(profile, url)
        return await picture(self._exchange, home, url, command, deadline_s)

    async def _grab(
        self,
        profile: DeviceProfile,
        device: Device,
        way: Way,
        command: CaptureCommand,
        deadline_s: float,
    ) -> Frame:
        """Take a photo from a stream; ask for a key frame while its connection is made."""
        streams = self._adapters.get(STREAMS)
        if streams is None:
            raise no_way(profile, "no adapter takes photos from RTSP streams")
        await self._find_stream(profile, device, way, deadline_s)
        there = at_address(profile, way.url, STREAMS)
        if _plays(streams, there):
            return await streams.capture(there, command, deadline_s=deadline_s)
        asking = self._ask_key_frames(profile, device, way.token, deadline_s)
        key_frame = asyncio.ensure_future(asking)
        try:
            return await streams.capture(there, command, deadline_s=deadline_s)
        finally:
            key_frame.cancel()
            await asyncio.wait({key_frame})

    async def _ask_key_frames(
        self, profile: DeviceProfile, device: Device, token: str, deadline_s: float
    ) -> None:
        """Ask for a key frame until cancelled: one that came before PLAY was lost on us."""
        for _ in range(MAX_KEY_FRAMES):
            if not await self._ask_key_frame(profile, device, token, deadline_s):
                return
            await asyncio.sleep(KEY_FRAME_EVERY_S)

    async def _ask_key_frame(
        self, profile: DeviceProfile, device: Device, token: str, deadline_s: float
    ) -> bool:
        """Ask the encoder for a key frame now; False: it does not take orders.

        Best effort: without it the grab waits for the next key frame that comes by itself.
        """
        url, body = device.media_url, onvif_soap.set_synchronization_point(device.media, token)
        try:
            await self._calls.call(profile, device, url, body, deadline_s=deadline_s)
        except CameraError as error:
            log.debug("%s: no key frame on demand: %s", profile.device_id, error)
            return False
        return True

    async def _find_stream(
        self, profile: DeviceProfile, device: Device, way: Way, deadline_s: float
    ) -> None:
        if way.url:
            return
        body = onvif_soap.get_stream_uri(device.media, way.token)
        element, _ = await self._calls.call(
            profile, device, device.media_url, body, deadline_s=deadline_s
        )
        url = as_reached(onvif_soap.uri(element), device.service, device.own)
        if not url.startswith(("rtsp://", "rtsps://")):
            raise no_way(profile, "the address of its stream is no RTSP address")
        way.url = url

    def _failed(self, profile: DeviceProfile, device: Device, way: Way, error: CameraError) -> None:
        if device.ways.failed(way, error.cause, _now_s()):
            self._given_up(profile, device, way, error)

    def _given_up(
        self, profile: DeviceProfile, device: Device, way: Way, error: CameraError
    ) -> None:
        if way.kind != "snapshot":
            way.url = ""  # asked for anew when its turn comes again
        then = device.ways.best(_now_s())
        log.warning(
            "%s: its %s is given up (%s); next: %s",
            profile.device_id, way.kind, error.cause, then.kind if then else "learn it anew",
        )  # fmt: skip

    # -- learning ------------------------------------------------------------------------------

    async def _device(self, profile: DeviceProfile, deadline_s: float) -> Device:
        """Return what is known of the device; learn it first if nothing is."""
        key = (profile.device_id, profile.address)
        device = self._devices.get(*key)
        if device is not None:
            return device
        lock = self._learning.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline_s), lock:
                device = self._devices.get(*key)
                if device is None:
                    device = await self._learner.learn(
                        profile, streams=STREAMS in self._adapters, deadline_s=deadline_s
                    )
                    self._devices.keep(*key, device)
                    _tell(profile, device)
        except TimeoutError:
            message = f"{clean(profile.device_id)} was not learnt before the deadline"
            raise CameraError("timeout", message) from None
        return device


def _plays(streams: DeviceClient, there: DeviceProfile) -> bool:
    """Say whether the stream plays already, so that its last key frame is at hand.

    An adapter may say so by a method ``plays(profile) -> bool``; else it is not known.
    """
    plays = getattr(streams, "plays", None)
    return plays is not None and bool(plays(there))


def all_failed(errors: list[CameraError]) -> CameraError:
    """Return the error of a device whose ways failed one after the other: the best way's cause."""
    first, *others = errors
    if not others:
        return first
    text = "".join(f"; by the next way: {other}" for other in others)
    retry = any(error.retry for error in errors) and all(e.cause != "auth" for e in errors)
    return CameraError(first.cause, f"{first}{text}", retry=retry)


def _tell(profile: DeviceProfile, device: Device) -> None:
    log.info(
        "%s: learnt: ways %s; login %s; clock by %s",
        profile.device_id,
        ", ".join(way.kind for way in device.ways.ways) or "none",
        LOGINS[device.login],
        device.clock.source if device.clock else "nothing",
    )


def _path(url: str) -> str:
    """Return an address for the log: a query may hold a secret."""
    return clean(str(URL(url).with_query(None)))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
