"""Pixels: what is decoded besides JPEG, and what is done to them between decode and encode.

Arrays of bytes, shape (height, width, 3) RGB or (height, width, 1) gray. Scaling is libswscale's
bicubic (by PyAV, which is here for RTSP): within one step of Pillow's, in 60 % of its time. All of
it lets go of the interpreter's lock.
"""

from __future__ import annotations

import functools
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import av
import numpy as np
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from connectors.images.errors import ImageError
from connectors.images.facts import open_other

if TYPE_CHECKING:
    from connectors.images.codec import Pixels
    from connectors.images.facts import Facts
    from connectors.images.plan import Box
    from connectors.images.spec import Overlay

SMALLEST_PX: Final = 16
"""Sides below this are scaled by Pillow: libswscale's filters want some width."""
STRIP_SHARE: Final = 30
"""An overlay's strip is a thirtieth of the height, within the bounds below."""
STRIP_PX: Final = (14, 64)
STRIP_SHADE: Final = 0.35
"""What is left of the light under the text."""
READ_ERRORS: Final = (OSError, ValueError, SyntaxError, EOFError, RuntimeError)
"""What Pillow and its plug-ins raise on damaged pixels."""


def decode_other(data: bytes, facts: Facts) -> Pixels:
    """Decode what is no JPEG of one or three components, its first frame; raises ImageError."""
    try:
        if facts.format == "jpeg":  # CMYK, which Pillow turns into RGB, but it misses damage
            simplejpeg.decode_jpeg(data, "CMYK", min_width=1, min_height=1, min_factor=8)
            image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG",))
        else:
            image = open_other(data)
        image.load()
        return _bytes(image, facts)
    except READ_ERRORS as error:
        raise ImageError("damaged", f"Its pixels cannot be read: {error}.") from error


def _bytes(image: Image.Image, facts: Facts) -> Pixels:
    if image.mode.startswith("I"):
        return (np.asarray(image) >> 8).astype(np.uint8)[:, :, None]
    if facts.alpha:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image.alpha_composite(rgba)
    if facts.colour == "gray":
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def resize(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    """Scale; the sides need not keep their ratio."""
    height, width, channels = pixels.shape
    if min(height, width, width_px, height_px) < SMALLEST_PX:
        return _image_resize(pixels, width_px, height_px)
    name = "gray" if channels == 1 else "rgb24"
    flat = pixels[:, :, 0] if channels == 1 else pixels
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(flat), name)
    scaled = frame.reformat(width_px, height_px, interpolation="BICUBIC")
    found = scaled.to_ndarray().astype(np.uint8, copy=False)  # of that type already
    return found[:, :, None] if channels == 1 else found


def resize_planes(
    planes: list[Pixels], width_px: int, height_px: int, subsampling: str
) -> list[Pixels]:
    """Scale Y, Cb and Cr, shape (height, width) each; colour keeps its share of the sides."""
    across, down = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}[subsampling]
    sizes = [(width_px, height_px), *[(-(-width_px // across), -(-height_px // down))] * 2]
    return [
        resize(plane[:, :, None], *size)[:, :, 0] for plane, size in zip(planes, sizes, strict=True)
    ]


def _image_resize(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    image = to_image(pixels).resize((width_px, height_px), Image.Resampling.BICUBIC)
    return from_image(image)


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels of this EXIF orientation standing upright; a view where that will do."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels


def crop(pixels: Pixels, box: Box) -> Pixels:
    """Return a part as a view."""
    return pixels[box.top : box.top + box.height, box.left : box.left + box.width]


def write(pixels: Pixels, text: str) -> Pixels:
    """Return pixels with a darkened strip along the lower edge and ``text`` in it."""
    low, high = STRIP_PX
    strip_px = min(high, max(low, pixels.shape[0] // STRIP_SHARE), pixels.shape[0])
    pixels = pixels.copy()
    strip = pixels[-strip_px:]
    image = to_image((strip * STRIP_SHADE).astype(np.uint8))
    white = 255 if image.mode == "L" else (255, 255, 255)
    size = max(6, strip_px * 7 // 10)
    ImageDraw.Draw(image).text((size // 2, strip_px // 2), text, white, _font(size), "lm")
    strip[:] = from_image(image)
    return pixels


def overlay_text(overlay: Overlay, device_id: str, at_ms: int, utc_offset_min: int) -> str:
    """Return what an overlay says."""
    parts = []
    if overlay.time:
        hours, minutes = divmod(abs(utc_offset_min), 60)
        local = datetime.fromtimestamp(at_ms // 1000, UTC) + timedelta(minutes=utc_offset_min)
        sign = "-" if utc_offset_min < 0 else "+"
        parts.append(
            f"{local:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d} {sign}{hours:02d}:{minutes:02d}"
        )
    if overlay.device:
        parts.append("".join(c if c.isprintable() else "?" for c in device_id)[:80])
    return "   ".join(parts)


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def encode_other(pixels: Pixels, name: str, quality: int) -> bytes:
    """Encode a PNG or WebP."""
    out = io.BytesIO()
    if name == "png":
        to_image(pixels).save(out, "PNG", compress_level=3)
    else:
        to_image(pixels).save(out, "WEBP", quality=quality, method=2)
    return out.getvalue()


def to_image(pixels: Pixels) -> Image.Image:
    """Return Pillow's picture of the same pixels."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def from_image(image: Image.Image) -> Pixels:
    """Return the pixels of Pillow's RGB or L picture."""
    found = np.asarray(image)
    return found[:, :, None] if found.ndim == 2 else found
