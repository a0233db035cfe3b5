"""Pictures of the simulated RTSP camera: encoded as they are taken, and readable by a test.

Each picture carries its number in its top left corner, 32 squares of 16 pixels in two rows, black
for 0 and white for 1, the lowest bit first. That survives any codec: :func:`read_number` reads it
from the JPEG that a capture returned, and the camera knows when that picture was taken.

Packets are made as RFC 6184, RFC 7798 and RFC 2435 say, with pictures cut into fragments.
"""

from __future__ import annotations

import re
from base64 import b64encode
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import simplejpeg

if TYPE_CHECKING:
    from collections.abc import Iterator

Plane = npt.NDArray[np.uint8]

SQUARE_PX: Final = 16
COLUMNS: Final = 16
BITS: Final = 32
BLACK: Final = 40
WHITE: Final = 210
FRAGMENT_BYTES: Final = 1_200
HZ: Final = 90_000
START: Final = re.compile(rb"\x00\x00\x00?\x01")
JPEG_QUALITY: Final = 75
ENCODERS: Final = {
    "h264": ("libx264", "x264-params", "log-level=-1"),
    "h265": ("libx265", "x265-params", "log-level=none"),
}
PAYLOAD_TYPES: Final = {"h264": 96, "h265": 96, "jpeg": 26}
SDP: Final = """v=0\r
o=- 1 1 IN IP4 127.0.0.1\r
s=simulated camera\r
t=0 0\r
a=control:*\r
m=video 0 RTP/AVP {kind}\r
c=IN IP4 0.0.0.0\r
{attributes}a=control:trackID=0\r
"""


def read_number(jpeg: bytes) -> int:
    """Return the number of the picture in a JPEG."""
    grey: Plane = simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0]
    number = 0
    for bit in range(BITS):
        y, x = (n * SQUARE_PX for n in divmod(bit, COLUMNS))
        square = grey[y + 4 : y + SQUARE_PX - 4, x + 4 : x + SQUARE_PX - 4]
        number |= int(square.mean() > (BLACK + WHITE) / 2) << bit
    return number


class Source:
    """What the sensor and the encoder of a camera do; width at least 256, both even."""

    def __init__(self, codec: str, width_px: int, height_px: int, fps: int, gop: int) -> None:
        self.codec = codec
        self.width_px = width_px
        self.height_px = height_px
        self._chroma = np.full((height_px // 2, width_px // 2), 110, dtype=np.uint8)
        ramp = np.linspace(60, 180, width_px, dtype=np.uint8)
        self._background: Plane = np.tile(ramp, (height_px, 1))
        self._encoder: Any = None
        if codec != "jpeg":
            self._encoder = _encoder(codec, width_px, height_px, fps, gop)

    def take(self, number: int, *, key: bool = False) -> tuple[list[bytes], bool]:
        """Take picture ``number``; return its NAL units, or the one JPEG, and whether it is key."""
        y = self._background.copy()
        bar = number * 4 % (self.width_px - 16)
        y[self.height_px // 2 :, bar : bar + 16] = 20
        for bit in range(BITS):
            at_y, at_x = (n * SQUARE_PX for n in divmod(bit, COLUMNS))
            shade = WHITE if number >> bit & 1 else BLACK
            y[at_y : at_y + SQUARE_PX, at_x : at_x + SQUARE_PX] = shade
        if self._encoder is None:
            jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(
                y, self._chroma, self._chroma, JPEG_QUALITY
            )
            return [jpeg], True
        return self._encode(y, number, key=key)

    def _encode(self, y: Plane, number: int, *, key: bool) -> tuple[list[bytes], bool]:
        import av
        from av.video.frame import PictureType

        frame = av.VideoFrame.from_ndarray(
            np.concatenate([y.reshape(-1), self._chroma.reshape(-1), self._chroma.reshape(-1)])
            .reshape(self.height_px * 3 // 2, self.width_px),
            format="yuv420p",
        )  # fmt: skip
        frame.pts = number
        if key:
            frame.pict_type = PictureType.I
        packets = self._encoder.encode(frame)
        data = b"".join(bytes(packet) for packet in packets)
        units = [unit for unit in START.split(data) if unit]
        return units, any(packet.is_keyframe for packet in packets)

    def sdp(self, units: list[bytes]) -> str:
        """Describe the stream; ``units``: those of a key frame, for their parameter sets."""
        kind = PAYLOAD_TYPES[self.codec]
        if self.codec == "jpeg":
            return SDP.format(kind=kind, attributes="")
        name = self.codec.upper()
        sets = [b64encode(unit).decode() for unit in units if _is_set(self.codec, unit)]
        if self.codec == "h264":
            said = f"packetization-mode=1;sprop-parameter-sets={','.join(sets)}"
        else:
            said = ";".join(
                f"{key}={text}"
                for key, text in zip(("sprop-vps", "sprop-sps", "sprop-pps"), sets, strict=True)
            )
        attributes = f"a=rtpmap:{kind} {name}/{HZ}\r\na=fmtp:{kind} {said}\r\n"
        return SDP.format(kind=kind, attributes=attributes)


def _encoder(codec: str, width_px: int, height_px: int, fps: int, gop: int) -> Any:
    import av

    name, options, quiet = ENCODERS[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width_px, height_px, "yuv420p"
    encoder.time_base = Fraction(1, fps)
    encoder.framerate = Fraction(fps, 1)
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "forced-idr": "1",
        options: f"keyint={gop}:min-keyint=1:scenecut=0:bframes=0:repeat-headers=1:{quiet}",
    }
    return encoder


def _is_set(codec: str, unit: bytes) -> bool:
    if codec == "h264":
        return unit[0] & 0x1F in {7, 8}
    return unit[0] >> 1 & 0x3F in {32, 33, 34}


def without_sets(codec: str, units: list[bytes]) -> list[bytes]:
    """Return the units that are no parameter sets."""
    return [unit for unit in units if not _is_set(codec, unit)]


def payloads(codec: str, units: list[bytes]) -> Iterator[bytes]:
    """Yield the RTP payloads of one picture."""
    if codec == "jpeg":
        yield from _jpeg_payloads(units[0])
        return
    header = 1 if codec == "h264" else 2
    for unit in units:
        if len(unit) <= FRAGMENT_BYTES:
            yield unit
            continue
        if codec == "h264":
            kind, before = unit[0] & 0x1F, bytes([unit[0] & 0xE0 | 28])
        else:
            kind, before = unit[0] >> 1 & 0x3F, bytes([unit[0] & 0x81 | 49 << 1, unit[1]])
        for at in range(header, len(unit), FRAGMENT_BYTES):
            first, last = at == header, at + FRAGMENT_BYTES >= len(unit)
            flags = kind | (0x80 if first else 0) | (0x40 if last else 0)
            yield before + bytes([flags]) + unit[at : at + FRAGMENT_BYTES]


def _jpeg_payloads(jpeg: bytes) -> Iterator[bytes]:
    """Yield the payloads of a baseline 4:2:0 JPEG with the standard Huffman tables."""
    tables, size, at = b"", b"", 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        body = jpeg[at + 4 : at + 2 + length]
        if jpeg[at + 1] == 0xDB:
            tables += body[1:]
        elif jpeg[at + 1] == 0xC0:
            height, width = (int.from_bytes(body[n : n + 2], "big") for n in (1, 3))
            size = bytes([width // 8, height // 8])
        at += 2 + length
    scan = jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") : -2]
    for offset in range(0, len(scan), FRAGMENT_BYTES):
        header = b"\x00" + offset.to_bytes(3, "big") + b"\x01\xff" + size
        if not offset:
            header += b"\x00\x00" + len(tables).to_bytes(2, "big") + tables
        yield header + scan[offset : offset + FRAGMENT_BYTES]
