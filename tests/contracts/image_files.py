"""Pictures that tests of the pipeline make: ordinary ones, and every odd one of the table."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin

from connectors.images import jpeg


@functools.cache
def scene(width: int, height: int, seed: int = 1) -> np.ndarray:
    """Smooth colours with a bright corner at the upper left: what is turned shows it."""
    chance = np.random.default_rng(seed)
    small = Image.fromarray(chance.integers(30, 200, (8, 8, 3), np.uint8))
    pixels = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    pixels[: height // 4, : width // 4] = 250
    pixels.setflags(write=False)
    return pixels


def make(
    width: int = 640, height: int = 480, sampling: str = "420", quality: int = 90, seed: int = 1
) -> bytes:
    pixels = scene(width, height, seed)
    if sampling == "gray":
        gray = np.ascontiguousarray(pixels[:, :, :1])
        return simplejpeg.encode_jpeg(gray, quality, "GRAY", "Gray")
    return simplejpeg.encode_jpeg(np.array(pixels), quality, "RGB", sampling)


def saved(pixels: np.ndarray | Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, name, **options)
    return out.getvalue()


def tagged(data: bytes, orientation: int, make: str = "Acme") -> bytes:
    """A JPEG with an EXIF block of a camera."""
    exif = Image.Exif()
    exif[0x010F] = make
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x829A] = TiffImagePlugin.IFDRational(1, 100)
    block = exif.tobytes().removeprefix(jpeg.EXIF)
    return data[:20] + jpeg.make_segment(jpeg.APP1, jpeg.EXIF + block) + data[20:]


@functools.cache
def bomb_jpeg(side: int = 20_000) -> bytes:
    """A whole, valid JPEG of 400 million pixels: gray, all blocks alike."""
    gray = np.zeros((side, side, 1), np.uint8)
    return simplejpeg.encode_jpeg(gray, 50, "GRAY", "Gray", fastdct=True)


@functools.cache
def bomb_png(side: int = 20_000) -> bytes:
    return saved(Image.new("1", (side, side)), "PNG")


def cut(data: bytes, share: float = 0.6) -> bytes:
    """A JPEG whose scan ends too soon, but with an end: its structure is whole."""
    return data[: int(len(data) * share)] + jpeg.EOI


def cmyk(width: int = 320, height: int = 240) -> bytes:
    return saved(Image.fromarray(scene(width, height)).convert("CMYK"), "JPEG", quality=92)


def png_16_bit(width: int = 64, height: int = 48, *, colour: bool = True) -> bytes:
    """A PNG of 16 bits a channel, written by hand: Pillow writes none in colour."""
    small = scene(width, height)[:, :, : 3 if colour else 1]
    deep = (small.astype(np.uint16) << 8) | 0x5A
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if colour else 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def twelve_bit() -> bytes:
    """A header that says 12 bits a sample."""
    data = bytearray(make(64, 64))
    for segment in jpeg.segments(bytes(data)):
        if segment.marker in jpeg.FRAMES:
            data[segment.start + 1] = 0xC1
            data[segment.start + 4] = 12
    return bytes(data)


def animated(name: str) -> bytes:
    frames = [Image.fromarray(scene(96, 64, seed)) for seed in range(3)]
    return saved(frames[0], name, save_all=True, append_images=frames[1:], duration=100)


def pixels_of(data: bytes) -> np.ndarray:
    """Decode by Pillow, which is none of ours, as it is stored."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)
