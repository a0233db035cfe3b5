"""Picks the adapter of a device by its profile's ``protocol``, and is itself a DeviceClient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from connectors.cameras import null_camera
from connectors.cameras.base import CameraSettings
from connectors.cameras.exchange import HttpExchange
from connectors.cameras.frame import StaleFrames, clean
from connectors.cameras.http import HttpJsonCamera, HttpSnapshotCamera
from connectors.cameras.policy import AddressPolicy
from connectors.cameras.wallet import Wallet, keyring_of
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from connectors.cameras.base import DeviceClient, Frame
    from connectors.cameras.credentials import CredentialProvider
    from schemas.records import CaptureCommand, DeviceProfile

NEVER_STALE: Final = frozenset({null_camera.PROTOCOL})
"""Protocols whose pictures may repeat: the null camera has only one."""


class Cameras:
    """Every adapter, one pool of connections, one address policy.

    Made anywhere; used and closed in one event loop.
    """

    def __init__(
        self,
        settings: CameraSettings | None = None,
        *,
        credentials: CredentialProvider | None = None,
    ) -> None:
        self.settings = settings or CameraSettings()
        self._credentials = credentials or Wallet(self.settings, keyring_of(self.settings))
        self._exchange = HttpExchange(
            self.settings, AddressPolicy(self.settings.allowed_networks), self._credentials
        )
        self._stale = StaleFrames(self.settings.stale_memory_devices)
        self._adapters: dict[str, DeviceClient] = {
            "http-snapshot": HttpSnapshotCamera(self._exchange),
            "http-json": HttpJsonCamera(self._exchange),
            null_camera.PROTOCOL: null_camera.NullCamera(),
        }

    @property
    def protocols(self) -> frozenset[str]:
        """The protocols a profile may name."""
        return frozenset(self._adapters)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def check_profile(self, profile: DeviceProfile) -> None:
        """Raise CameraError if the profile can never work: protocol or address; does no I/O."""
        adapter = self._adapter(profile)
        if not isinstance(adapter, null_camera.NullCamera):
            self._exchange.policy.target(profile.address)

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the device can be spoken to; see :class:`DeviceClient`."""
        adapter = await self._ready(profile, deadline_s)
        await adapter.connect(profile, deadline_s=deadline_s)

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Make ready for a capture that is due soon; see :class:`DeviceClient`."""
        adapter = await self._ready(profile, deadline_s)
        await adapter.prepare(profile, deadline_s=deadline_s)

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Take one photo; see :class:`DeviceClient`. Adds the check for stale pictures."""
        adapter = await self._ready(profile, deadline_s)
        frame = await adapter.capture(profile, command, deadline_s=deadline_s)
        if profile.protocol not in NEVER_STALE:
            self._stale.check(profile.device_id, frame)
        return frame

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],
        *,
        deadline_s: float,
    ) -> bytes:
        """Call another method; see :class:`DeviceClient`."""
        adapter = await self._ready(profile, deadline_s)
        return await adapter.invoke(profile, method, arguments, deadline_s=deadline_s)

    async def close(self) -> None:
        """Close every adapter and the connections they share."""
        for adapter in self._adapters.values():
            await adapter.close()
        await self._exchange.close()

    async def _ready(self, profile: DeviceProfile, deadline_s: float) -> DeviceClient:
        """Return the adapter, with the device's credentials at hand."""
        adapter = self._adapter(profile)
        if profile.credentials_ref:
            await self._credentials.load(profile.credentials_ref, deadline_s=deadline_s)
        return adapter

    def _adapter(self, profile: DeviceProfile) -> DeviceClient:
        adapter = self._adapters.get(profile.protocol)
        if adapter is None:
            known = ", ".join(sorted(self._adapters))
            raise CameraError(
                "unknown_protocol",
                f"{clean(profile.device_id)} speaks {clean(profile.protocol)!r}; known: {known}",
                retry=False,
            )
        return adapter
