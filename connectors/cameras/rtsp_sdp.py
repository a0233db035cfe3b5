"""What a camera's session description (SDP, RFC 8866) says about its video."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiortsp.rtsp.sdp import SDP

from connectors.cameras.frame import describe
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

JPEG_TYPE: Final = 26
"""The payload type that is JPEG without being told so (RFC 3551)."""
VIDEO_HZ: Final = 90_000
CODECS: Final = {"H264": "h264", "H265": "h265", "HEVC": "h265", "JPEG": "jpeg"}
"""By encoding name of the SDP."""
SPROPS: Final = {
    "h264": ("sprop-parameter-sets",),
    "h265": ("sprop-vps", "sprop-sps", "sprop-pps"),
}
MAX_SETS: Final = 16


@dataclass(frozen=True, slots=True)
class Video:
    """The video of a stream."""

    codec: str
    """``h264``, ``h265`` or ``jpeg``."""
    payload_type: int
    clock_hz: int
    sets: tuple[bytes, ...]
    """Parameter sets (NAL units) of H.264 and H.265."""
    size_px: tuple[int, int]
    """Width and height of JPEG, where said; else (0, 0)."""
    control: str
    """URL for SETUP."""


def read_sdp(data: bytes, base_url: str) -> Video:
    """Return the first video that we can show.

    Raises CameraError ``bad_answer`` (no SDP) or ``no_video``.
    """
    if not data.lstrip().startswith(b"v="):
        raise CameraError("bad_answer", f"expected an SDP, but got {describe(data)}")
    sdp = SDP(data.decode("utf-8", "replace"))
    seen: list[str] = []
    base = sdp.mix_url_control(base_url, _text(sdp.get("attributes", {}), "control"))
    for media in sdp.get("medias", []):
        if media["type"] != "video":
            continue
        attributes: Mapping[str, Any] = media.get("attributes", {})
        video = _video(media, attributes, sdp.mix_url_control(base, _text(attributes, "control")))
        if isinstance(video, Video):
            return video
        seen.append(video)
    found = ", ".join(seen)[:80] or "no video at all"
    raise CameraError(
        "no_video", f"its stream has {found}; H.264, H.265 and JPEG can be read", retry=False
    )


def _video(media: Mapping[str, Any], attributes: Mapping[str, Any], control: str) -> Video | str:
    """Return the video, or what it is instead."""
    first = str(media["format"]).split()[0]
    payload_type = int(first) if first.isdigit() else -1
    encoding, hz = "JPEG" if payload_type == JPEG_TYPE else "?", VIDEO_HZ
    rtpmap = attributes.get("rtpmap")
    if isinstance(rtpmap, dict):
        payload_type, encoding = int(rtpmap["pt"]), str(rtpmap["encoding"])
        hz = int(rtpmap["clockRate"]) or VIDEO_HZ
    codec = CODECS.get(encoding.upper())
    if codec is None:
        return encoding
    fmtp = attributes.get("fmtp")
    sets = _sets(codec, fmtp if isinstance(fmtp, dict) else {})
    return Video(codec, payload_type, hz, sets, _size(attributes), control)


def _sets(codec: str, fmtp: Mapping[str, Any]) -> tuple[bytes, ...]:
    texts = [
        part
        for name in SPROPS.get(codec, ())
        for part in str(fmtp.get(name, "")).split(",")
        if part
    ]
    found = []
    for text in texts[:MAX_SETS]:
        try:
            found.append(b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, ValueError):
            continue  # the stream may bring them; if not, the decoder says so
    return tuple(found)


def _size(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height from ``x-dimensions`` or ``framesize``."""
    framesize = attributes.get("framesize")
    if isinstance(framesize, dict):
        return int(framesize["width"]), int(framesize["height"])
    width, _, height = _text(attributes, "x-dimensions").partition(",")
    if width.strip().isdigit() and height.strip().isdigit():
        return int(width), int(height)
    return 0, 0


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    return value if isinstance(value, str) else ""
