"""A frame is believed only if it is one.

Cameras send login pages with ``Content-Type: image/jpeg``, stop in the middle of a picture, or
serve the picture of an hour ago. :func:`read_jpeg` looks at the bytes, never at the header:

    FF D8                         start of image (SOI)
    FF E0 len … FF FE len …       segments: JFIF, EXIF, comments (COM)
    FF DA …                       the scan
    FF D9                         end of image (EOI)
    00 00 0D 0A …                 padding some cameras add

The picture is taken from SOI to EOI. Behind the EOI only padding (NUL, CR, LF, space, FF) is
tolerated, at most :data:`MAX_PADDING_BYTES`, and it is cut off; anything else means that the last
EOI is not where the picture ends, so it is ``truncated``. The dimensions come from libjpeg-turbo's
own header parser, which also refuses a damaged header. The scan is not decoded: that costs
milliseconds, and is the image pipeline's work.

Cost: about 10 µs for a picture of 10 kB, most of it SHA-256 (about 1.4 GB/s).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import msgspec
import simplejpeg

from connectors.cameras.base import Frame
from schemas.errors import CameraError

SOI: Final = b"\xff\xd8"
EOI: Final = b"\xff\xd9"
PADDING: Final = b"\x00\r\n \xff"
MAX_PADDING_BYTES: Final = 4_096
COM: Final = 0xFE
SOS: Final = 0xDA
MAX_SEGMENTS: Final = 64
"""Segments looked at for a time before the scan; real cameras write fewer than 20."""


class FrameComment(msgspec.Struct, frozen=True):
    """The JSON a camera may put into a COM segment to say what the picture is."""

    frame_at_ms: int | None = None
    device_id: str = ""
    counter: int | None = None


_COMMENT: Final = msgspec.json.Decoder(FrameComment)


def read_jpeg(data: bytes) -> Frame:
    """Return the picture in ``data``.

    Raises CameraError ``not_an_image`` or ``truncated``.
    """
    if data[:2] != SOI:
        raise CameraError("not_an_image", f"expected a JPEG picture, but got {describe(data)}")
    if data[-2:] != EOI:
        data = _without_padding(data)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        message = f"the JPEG header cannot be read: {clean(str(error))}"
        raise CameraError("not_an_image", message) from error
    comment = read_comment(data)
    return Frame(
        data=data,
        format="jpeg",
        width_px=int(width),
        height_px=int(height),
        sha256=hashlib.sha256(data).hexdigest(),
        frame_at_ms=comment.frame_at_ms if comment else None,
    )


def read_other(data: bytes) -> Frame:
    """Return a picture of another format that the image pipeline reads, by its header alone.

    PNG, WebP, GIF, AVIF, and HEIC where its library is. Such a picture must be made over: what is
    stored is JPEG, PNG or WebP, and what passes through a JPEG. Raises CameraError
    ``not_an_image``.
    """
    # Here: few cameras send one, and what reads them takes a while to import.
    from connectors.images.errors import ImageError
    from connectors.images.facts import read_facts

    try:
        facts = read_facts(data)
    except ImageError as error:
        said = describe(data) if error.code == "not_an_image" else clean(str(error))
        raise CameraError("not_an_image", f"expected a picture, but got {said}") from error
    digest = hashlib.sha256(data).hexdigest()
    return Frame(data, facts.format, facts.width_px, facts.height_px, digest)


def _without_padding(data: bytes) -> bytes:
    """Cut padding behind the last EOI; raise ``truncated`` if the picture does not end there."""
    body = data[:-MAX_PADDING_BYTES] + data[-MAX_PADDING_BYTES:].rstrip(PADDING)
    # rstrip takes FF too, so an EOI is still whole: its D9 is no padding.
    if body[-2:] != EOI:
        raise CameraError(
            "truncated",
            f"the JPEG picture has no end: after {len(data)} bytes its end marker is missing",
        )
    return body


def read_comment(data: bytes) -> FrameComment | None:
    """Return the first COM segment before the scan that is a JSON object, or None."""
    at, size = 2, len(data)
    for _ in range(MAX_SEGMENTS):
        if at + 4 > size or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == SOS:
            return None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == COM and data[at + 4 : at + 5] == b"{":
            try:
                return _COMMENT.decode(data[at + 4 : at + 2 + length])
            except msgspec.MsgspecError:
                return None
        at += 2 + length
    return None


def describe(data: bytes) -> str:
    """Say in a few words what ``data`` is instead of a picture; safe to log and print."""
    if not data:
        return "nothing (0 bytes)"
    head = data.lstrip()[:64]
    lower = head.lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        kind = "an HTML page"
    elif lower.startswith((b"{", b"[")):
        kind = "JSON"
    elif lower.startswith(b"<"):
        kind = "XML"
    else:
        kind = f"{len(data)} bytes"
    return f"{kind}, beginning {clean(head[:48].decode('latin-1'))!r}"


def clean(text: str) -> str:
    """Return ``text`` in one line of printable ASCII, at most 200 characters."""
    flat = " ".join(text.split())
    return "".join(c if " " <= c <= "~" else "." for c in flat)[:200]


class StaleFrames:
    """Remembers the hash of each device's last picture, for a bounded number of devices.

    A picture of a real sensor never has the hash of the one before: noise alone changes it. An
    equal hash means that the camera served an old picture as a new one. Memory: about 150 bytes
    a device; the device not heard of for the longest time is forgotten first.
    """

    def __init__(self, max_devices: int) -> None:
        self._max_devices = max_devices
        self._last: OrderedDict[str, bytes] = OrderedDict()

    def check(self, device_id: str, frame: Frame) -> None:
        """Remember ``frame``; raise CameraError ``stale`` if it is the device's last one again."""
        digest = bytes.fromhex(frame.sha256)
        if self._last.get(device_id) == digest:
            self._last.move_to_end(device_id)
            raise CameraError(
                "stale",
                f"{clean(device_id)} sent the same picture as last time "
                f"(sha256 {frame.sha256[:12]}…)",
            )
        self._last[device_id] = digest
        self._last.move_to_end(device_id)
        if len(self._last) > self._max_devices:
            self._last.popitem(last=False)

    def __len__(self) -> int:
        return len(self._last)
