"""From a camera's JPEG to the 320 x 320 bytes that the network looks at.

The picture is scaled while it is decoded: libjpeg-turbo computes an eighth, quarter or half of
each block's pixels from the cosine coefficients, the smallest that still fills the square. What
remains, a factor of less than two, is averaged over areas. The picture keeps its shape, stands in
the middle, and grey fills the rest. A picture smaller than the square is not enlarged: that would
look blurred.

    1920 x 1080 -> decoded at a quarter: 480 x 270 -> 320 x 180, 70 rows of grey above and below

EXIF orientation is not looked at: a blurred picture is blurred whichever way up it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from schemas.errors import ShutterwheelError

Pixels = npt.NDArray[np.uint8]

SIDE_PX: Final = 320
GREY: Final = 114
"""Of the letterbox; training used the same."""
MAX_PIXELS: Final = 50_000_000
"""Of a picture before scaling: 8K video has 33 million. More is refused before it is decoded."""
MAX_SIDE_PX: Final = 16_384
MAX_SCANS: Final = 100
"""Of a progressive picture, as in ``images/facts.py``: each is gone through, at any scale."""
SOI: Final = b"\xff\xd8"
SCAN: Final = b"\xff\xda"


class UnreadablePictureError(ShutterwheelError):
    """The bytes are no picture that can be judged: no JPEG, damaged, cut off, or far too large."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the square, and how large it was."""

    left_px: int
    top_px: int
    scale: float
    """Square's pixels by picture's pixels, at most 1."""
    width_px: int
    height_px: int

    def to_picture(
        self, box: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Return a box (left, top, right, bottom) of the square in pixels of the picture."""
        left, top, right, bottom = box
        return (
            min(max((left - self.left_px) / self.scale, 0.0), self.width_px),
            min(max((top - self.top_px) / self.scale, 0.0), self.height_px),
            min(max((right - self.left_px) / self.scale, 0.0), self.width_px),
            min(max((bottom - self.top_px) / self.scale, 0.0), self.height_px),
        )


def letterbox(jpeg: bytes, out: Pixels) -> Placement:
    """Decode ``jpeg`` into ``out``, (320, 320, 3) bytes, RGB.

    A picture of another format is decoded whole, by the image pipeline's means.

    Raises:
        UnreadablePictureError: it cannot be decoded, is damaged, or has more than MAX_PIXELS.

    """
    if jpeg[:2] != SOI:
        return _placed(_other(jpeg), out)
    try:
        header = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError as error:
        raise UnreadablePictureError(f"no JPEG picture: {error}") from error
    height, width = int(header[0]), int(header[1])
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise UnreadablePictureError(
            f"{width} x {height} pixels are more than can be judged ({MAX_PIXELS:,})"
        )
    if jpeg.count(SCAN) > MAX_SCANS:
        raise UnreadablePictureError(f"more than {MAX_SCANS} scans are more than can be judged")
    scale = min(1.0, SIDE_PX / max(width, height))
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    try:
        # strict: a scan that ends early is an error here, not a grey lower half.
        pixels: Pixels = simplejpeg.decode_jpeg(
            jpeg, "RGB", fastdct=True, fastupsample=True, min_height=high, min_width=wide
        )
    except ValueError as error:
        raise UnreadablePictureError(f"damaged JPEG picture: {error}") from error
    return _placed(pixels, out, (width, height))


def _placed(pixels: Pixels, out: Pixels, size: tuple[int, int] | None = None) -> Placement:
    """Put decoded pixels into the square; ``size``: of the picture, where it was scaled already."""
    width, height = size or (pixels.shape[1], pixels.shape[0])
    scale = min(1.0, SIDE_PX / max(width, height))
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    if pixels.shape[:2] != (high, wide):
        image = Image.fromarray(pixels)
        pixels = np.asarray(image.resize((wide, high), Image.Resampling.BOX))
    left, top = (SIDE_PX - wide) // 2, (SIDE_PX - high) // 2
    out[:] = GREY
    out[top : top + high, left : left + wide] = pixels
    return Placement(left, top, scale, width, height)


def _other(data: bytes) -> Pixels:
    """Decode what is no JPEG, its first frame, to RGB."""
    # Here: few cameras send one, and what reads them takes a while to import.
    from connectors.images.errors import ImageError
    from connectors.images.facts import read_facts
    from connectors.images.pixels import decode_other

    try:
        pixels = decode_other(data, read_facts(data, MAX_PIXELS))
    except ImageError as error:
        raise UnreadablePictureError(f"no JPEG picture, nor another: {error}") from error
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
