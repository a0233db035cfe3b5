"""What the RTSP adapter may do and how much it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TRANSPORTS: Final = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class RtspSettings:
    """Part of :class:`~connectors.cameras.base.CameraSettings`."""

    transports: tuple[str, ...] = TRANSPORTS
    """In which order they are tried: ``tcp`` (interleaved) and ``udp``; at least one."""
    max_sessions: int = 256
    """Streams open at once in one worker, warm ones included; 1 to 4,096. Others wait."""
    warm_sessions: int = 32
    """Streams kept playing for devices that are photographed often; 0 to 1,024. Each costs the
    stream's bandwidth, its parsing, and up to ``max_gop_bytes``."""
    warm_idle_ms: int = 30_000
    """How long a stream plays on after a photo; 1,000 to 600,000. Also what 'often' means."""
    max_gop_bytes: int = 8 * 1024 * 1024
    """Encoded pictures kept of one stream, and the longest one; 64 KiB to 64 MiB. Ten seconds at
    4 Mbit/s are 5 MB. A longer group of pictures is not kept: the next key frame is awaited."""
    decoders: int = 2
    """Pictures decoded at once, each in a thread; 1 to 64."""
    latency_ms: int = 100
    """What a camera takes at least from exposure to the first packet; 0 to 5,000. A picture that
    comes sooner after the shutter is not believed to be new, unless the camera's clock says so."""
    jpeg_quality: int = 90
    """Of pictures that are made from H.264 or H.265; 1 to 100."""

    def __post_init__(self) -> None:
        bounds = {
            "max_sessions": (1, 4_096),
            "warm_sessions": (0, 1_024),
            "warm_idle_ms": (1_000, 600_000),
            "max_gop_bytes": (64 * 1024, 64 * 1024 * 1024),
            "decoders": (1, 64),
            "latency_ms": (0, 5_000),
            "jpeg_quality": (1, 100),
        }
        for name, (low, high) in bounds.items():
            value: int = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"rtsp.{name} is {value}, but must be from {low} to {high}")
        order = self.transports
        if not order or len(set(order)) < len(order) or not set(order) <= set(TRANSPORTS):
            raise ValueError(f"rtsp.transports is {order}, but must be some of {TRANSPORTS}, once")
