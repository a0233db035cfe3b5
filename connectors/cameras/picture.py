"""Pictures of the simulated camera: real JPEGs with content that changes, cheap to draw.

Each picture shows its device id, its time and its number in a 5 x 7 dot font, over a background of
the device's own shade with a bar that moves on with each picture. It is drawn into YUV planes and
encoded by libjpeg-turbo each time: no two pictures of a device have the same bytes. A COM segment
behind the JFIF header says the same in JSON (:class:`~connectors.cameras.frame.FrameComment`), so
that a checker need not read dots:

    FF D8 | FF E0 0010 "JFIF"… | FF FE 00 4E {"device_id":"cam-00001","frame_at_ms":…,"counter":7}

Cost: about 180 µs for 320 x 240, of which 140 are the encoder's.
"""

from __future__ import annotations

import functools
import zlib
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import simplejpeg

from connectors.cameras.frame import FrameComment

Plane = npt.NDArray[np.uint8]

JFIF_END: Final = 20
"""SOI (2 bytes) and the JFIF segment (18) that libjpeg always writes first."""
QUALITY: Final = 75
SCALE: Final = 2
CELL_WIDTH_PX: Final = 6 * SCALE
LINE_HEIGHT_PX: Final = 8 * SCALE
MARGIN_PX: Final = 16
LINES: Final = 3
SHADES: Final = 60
INK: Final = 235

# Each glyph is seven rows of five dots, the leftmost dot in the highest bit. Drawn for this
# project; letters are upper case only.
GLYPHS: Final = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14), "D": (28, 18, 17, 17, 17, 18, 28),
    "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15), "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14), "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17), "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17), "N": (17, 17, 25, 21, 19, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14), "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14), "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 21, 10), "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 17, 10, 4, 4, 4), "Z": (31, 1, 2, 4, 8, 16, 31),
    "-": (0, 0, 0, 31, 0, 0, 0), ":": (0, 12, 12, 0, 12, 12, 0),
    ".": (0, 0, 0, 0, 0, 12, 12), "#": (10, 10, 31, 10, 31, 10, 10),
    "_": (0, 0, 0, 0, 0, 0, 31), "?": (14, 17, 1, 2, 4, 0, 4),
}  # fmt: skip


def _font() -> Plane:
    """Return the font as ink masks, shape (128, LINE_HEIGHT_PX, CELL_WIDTH_PX)."""
    font = np.zeros((128, 8, 6), dtype=np.uint8)
    unknown = GLYPHS["?"]
    for code in range(33, 128):
        rows = GLYPHS.get(chr(code).upper(), unknown)
        for y, bits in enumerate(rows):
            for x in range(5):
                font[code, y, x] = INK if bits >> (4 - x) & 1 else 0
    return font.repeat(SCALE, axis=1).repeat(SCALE, axis=2)


class Painter:
    """Draws pictures of one size; even width and height, at least 96 pixels each."""

    def __init__(self, width_px: int = 320, height_px: int = 240) -> None:
        if min(width_px, height_px) < 96 or max(width_px, height_px) > 8192:
            raise ValueError("a picture must be from 96 to 8192 pixels wide and high")
        if width_px % 2 or height_px % 2:
            raise ValueError("a picture must be of even width and height")
        self.width_px = width_px
        self.height_px = height_px
        self._font = _font()
        # Steps as wide as a JPEG block: the encoder has nothing to do but their mean.
        steps = np.linspace(0, 60, -(-width_px // 8), dtype=np.uint8)
        ramp = steps.repeat(8)[:width_px]
        self._backgrounds: list[Plane] = [
            np.tile(ramp + np.uint8(40 + shade), (height_px, 1)) for shade in range(SHADES)
        ]
        self._columns = (width_px - 2 * MARGIN_PX) // CELL_WIDTH_PX
        self._chroma = tuple(
            np.full((height_px // 2, width_px // 2), level, dtype=np.uint8)
            for level in range(64, 192)
        )

    def paint(self, device_id: str, at_ms: int, counter: int) -> bytes:
        """Return a JPEG that shows and says which device took it, when, and which one it is."""
        seed = zlib.crc32(device_id.encode("utf-8", "replace"))
        y = self._backgrounds[(seed >> 16) % SHADES].copy()
        bar = counter * 8 % (self.width_px - 16)
        y[self.height_px // 2 :, bar : bar + 16] = 200
        stamp = f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}"
        self._write(y, (device_id, stamp, f"#{counter}"))
        jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(
            y, self._chroma[seed % 128], self._chroma[(seed >> 8) % 128], QUALITY, fastdct=True
        )
        note = FrameComment(frame_at_ms=at_ms, device_id=device_id, counter=counter)
        return with_comment(jpeg, msgspec.json.encode(note))

    def _write(self, plane: Plane, lines: tuple[str, str, str]) -> None:
        """Draw all lines at once: glyphs (line, column, y, x) to rows (line, y, column, x)."""
        columns = self._columns
        text = "".join(line[:columns].ljust(columns) for line in lines)
        codes = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)
        glyphs = self._font[codes.reshape(LINES, columns) & 127]
        ink = glyphs.transpose(0, 2, 1, 3).reshape(LINES * LINE_HEIGHT_PX, -1)
        area = plane[MARGIN_PX : MARGIN_PX + ink.shape[0], MARGIN_PX : MARGIN_PX + ink.shape[1]]
        np.maximum(area, ink, out=area)


@functools.lru_cache(maxsize=16)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """Insert a COM segment behind the JFIF header; ``comment`` has at most 65,533 bytes."""
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    return jpeg[:JFIF_END] + segment + jpeg[JFIF_END:]


def darkened(jpeg: bytes) -> bytes:
    """Return a picture with a twentieth of its light, its comment left out."""
    pixels = simplejpeg.decode_jpeg(jpeg) // 20
    dark: bytes = simplejpeg.encode_jpeg(pixels, quality=QUALITY)
    return dark
