"""What every camera adapter is, and what it gives.

An adapter speaks one protocol to any number of devices. It takes one photo a call, within a
deadline that covers all of its I/O, and either returns a :class:`Frame` that has been checked to
be a picture or raises :class:`~schemas.errors.CameraError` with one of :data:`CAUSES`. It never
tries again by itself: whether another attempt is made is the executor's business, which asks
``error.retry``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from connectors.cameras.rtsp_settings import RtspSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.records import CaptureCommand, DeviceProfile

CAUSES: Final = {
    "address_not_allowed": "the device's address is outside the networks the settings allow",
    "auth": "the device refused our credentials, or they are not to be had; never tried again",
    "bad_address": "the device's address is not a URL this adapter can use",
    "bad_answer": "the device answered something that is not its protocol",
    "credentials": "the place that keeps the device's credentials does not answer now",
    "disconnected": "the device closed the connection before it answered",
    "http_<status>": "the device answered with this HTTP status",
    "no_transport": "the device takes none of the transports that its stream could come over",
    "no_video": "the device's stream has no video that can be read",
    "no_way": "the device offers no way to a photo that we can go",
    "not_an_image": "what came is not a picture (a login page, for instance)",
    "redirects": "the device redirected more often than the settings allow",
    "refused": "nothing listens at the device's address (TCP refused)",
    "rtsp_<status>": "the device answered with this RTSP status",
    "soap_fault": "the device answered our SOAP request with a fault",
    "stale": "the device sent the same picture as last time",
    "timeout": "the deadline passed; the connection was closed",
    "tls": "the device's TLS certificate or handshake was not accepted",
    "too_large": "the answer is longer than the settings allow",
    "truncated": "the picture ends before its end",
    "undecodable": "the device's stream is damaged: no whole picture can be made of it",
    "unknown_protocol": "no adapter speaks the protocol the profile names",
    "unknown_signature": "no protocol we know begins as the device's answer does; it is shown",
    "unreachable": "no connection: name not found, no route, network down",
}
"""Every cause of a CameraError that a camera adapter raises, with its meaning."""

PRIVATE_NETWORKS: Final = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
)
"""Loopback and the private ranges of RFC 1918 and RFC 4193: where cameras are by default."""


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """What the adapters may do and how much they may take."""

    allowed_networks: tuple[str, ...] = PRIVATE_NETWORKS
    """CIDR networks that may be contacted. See :mod:`connectors.cameras.policy`."""
    max_image_bytes: int = 16 * 1024 * 1024
    """Longest picture taken; 1 byte to 256 MiB. A 4K JPEG has 2 to 4 MiB."""
    max_answer_bytes: int = 64 * 1024
    """Longest answer that is not a picture (HTTP-JSON); 1 byte to 1 MiB."""
    max_redirects: int = 3
    """Redirects followed for one request, each one checked like the first address; 0 to 10."""
    max_connections: int = 16_384
    """Open connections of one worker; 1 to 65,535. 4,000/s for the 3 s deadline are 12,000."""
    keepalive_ms: int = 15_000
    """How long an idle connection is kept for the next capture; 0 to 600,000."""
    name_ttl_ms: int = 30_000
    """How long a resolved host name is believed; 0 to 600,000."""
    stale_memory_devices: int = 100_000
    """Devices whose last picture's hash is remembered (about 150 bytes each); 0: none."""
    way_memory_devices: int = 100_000
    """Devices whose protocol, ways, login and clock are remembered (about 2 kB each)."""
    credential_env_prefix: str = "CAMERA_"
    """``env:NAME`` may only name variables that begin so: a profile may not read the others."""
    credential_dir: str = "/run/secrets"
    """``file:PATH`` may only name files in this folder (what Docker and Kubernetes mount)."""
    credential_keyring_service: str = "shutterwheel"
    """``keyring:NAME`` may only name entries of this service of the keyring."""
    credential_ttl_ms: int = 60_000
    """How long what a keyring or a vault gave is believed; 0 to 3,600,000."""

    rtsp: RtspSettings = field(default_factory=RtspSettings)

    def __post_init__(self) -> None:
        bounds = {
            "max_image_bytes": (1, 256 * 1024 * 1024),
            "max_answer_bytes": (1, 1024 * 1024),
            "max_redirects": (0, 10),
            "max_connections": (1, 65_535),
            "keepalive_ms": (0, 600_000),
            "name_ttl_ms": (0, 600_000),
            "stale_memory_devices": (0, 10_000_000),
            "way_memory_devices": (1, 10_000_000),
            "credential_ttl_ms": (0, 3_600_000),
        }
        for name, (low, high) in bounds.items():
            value: int = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, but must be from {low} to {high}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture as it came from a camera, checked to be one."""

    data: bytes
    """The encoded picture; what is stored, byte for byte."""
    format: str
    """``jpeg``; where the image pipeline has it next, any that is read there."""
    width_px: int
    height_px: int
    sha256: str
    """64 lower-case hexadecimal digits over ``data``."""
    frame_at_ms: int | None = None
    """The camera's own time of the picture, where it gives one; UTC milliseconds."""
    certificate_sha256: str = ""
    """Fingerprint of the certificate that the camera showed; empty: it came without TLS."""

    def __repr__(self) -> str:
        size = f"{self.width_px}x{self.height_px}"
        return f"Frame({self.format}, {size}, {len(self.data)} bytes, sha256 {self.sha256[:12]}…)"


class DeviceClient(Protocol):
    """One protocol to any number of devices; all methods may be called concurrently.

    ``deadline_s`` is a point on the event loop's clock (``asyncio.get_running_loop().time()``),
    so that one deadline can be shared with what comes after the grab.
    """

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the device can be reached and spoken to; take no photo.

        Raises CameraError.
        """
        ...

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Make ready for a capture that is due soon, so that its shutter is a single round trip.

        Called in the lead time, best effort: learn the device's way, open the connection or the
        session. No shutter opens. Raises CameraError; the capture is tried all the same. An adapter
        may have a method ``wants_prepare(profile) -> bool``, cheap and without I/O, that says
        whether this would help now; one that has none is always prepared.
        """
        ...

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Open the shutter now and return the picture.

        Raises CameraError; CancelledError passes and frees the connection.
        """
        ...

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],
        *,
        deadline_s: float,
    ) -> bytes:
        """Call another method of the device and return its raw answer.

        Raises CameraError; ``unknown_protocol`` where the protocol has no such thing.
        """
        ...

    async def close(self) -> None:
        """Close every connection; the client cannot be used afterwards."""
        ...
