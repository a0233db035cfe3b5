"""What a picture's header says, read before anything is decoded.

A JPEG is read here, in about 10 µs; other formats by Pillow, which decodes nothing until it is
asked for pixels, and by pillow-heif, where it is installed.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image, UnidentifiedImageError

from connectors.images import jpeg
from connectors.images.errors import ImageError

FORMATS: Final = ("PNG", "WEBP", "GIF", "AVIF", "HEIF")
"""Pillow's names of what is read besides JPEG."""
DEEP_MODES: Final = {"I;16", "I;16B", "I;16L", "I"}
ALPHA_MODES: Final = {"RGBA", "LA", "PA", "La", "RGBa"}
MAX_SCANS: Final = 100
"""Of a progressive JPEG; encoders write about 10."""
DEFAULT_MAX_PIXELS: Final = 50_000_000
"""The greatest camera sensors of the trade; 150 MB as RGB."""
SUBSAMPLINGS: Final[dict[tuple[tuple[int, int], ...], str]] = {
    ((1, 1), (1, 1), (1, 1)): "444",
    ((2, 1), (1, 1), (1, 1)): "422",
    ((2, 2), (1, 1), (1, 1)): "420",
    ((1, 2), (1, 1), (1, 1)): "440",
    ((4, 1), (1, 1), (1, 1)): "411",
}
Colour = Literal["gray", "colour", "cmyk"]


@dataclass(frozen=True, slots=True)
class Facts:
    """A header. Sizes are those of the stored pixels, before an orientation is applied."""

    format: str
    """``jpeg``, ``png``, ``webp``, ``gif``, ``avif`` or ``heif``."""
    width_px: int
    height_px: int
    colour: Colour = "colour"
    subsampling: str = ""
    """Of a JPEG: ``444``, ``422``, ``420``, ``440``, ``411``, ``gray``; ``other`` or, for formats
    that are none, empty."""
    bits: int = 8
    """A channel."""
    orientation: int = 1
    """EXIF's, 1 to 8; 1: as it is seen."""
    frames: int = 1
    """2: there are several."""
    alpha: bool = False
    exif: bytes = b""
    """The TIFF block of its EXIF, if it has any."""
    icc: tuple[bytes, ...] = ()
    """The APP2 contents of its colour profile (JPEG)."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width_px * self.height_px


def read_facts(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Facts:
    """Return what the header of ``data`` says; see :mod:`connectors.images.errors`.

    Raises ImageError.
    """
    facts = _jpeg(data) if data[:2] == jpeg.SOI else _other(data)
    if facts.pixels > max_pixels:
        raise ImageError(
            "too_large",
            f"It has {facts.width_px:,} x {facts.height_px:,} pixels, more than {max_pixels:,}.",
        )
    return facts


def _jpeg(data: bytes) -> Facts:
    if data[-2:] != jpeg.EOI:
        raise ImageError("truncated", f"Its end marker is missing after {len(data):,} bytes.")
    header, exif, icc, adobe = None, b"", [], b""
    for segment in jpeg.segments(data):
        marker = segment.marker
        if marker in jpeg.FRAMES:
            header = jpeg.frame_header(jpeg.payload(data, segment), marker)
        elif marker == jpeg.APP1 and not exif:
            content = jpeg.payload(data, segment)
            if content.startswith(jpeg.EXIF):
                exif = content[len(jpeg.EXIF) :]
        elif marker == jpeg.APP2:
            content = jpeg.payload(data, segment)
            if content.startswith(jpeg.ICC):
                icc.append(content)
        elif marker == jpeg.ADOBE:
            adobe = jpeg.payload(data, segment)
    if header is None:
        raise ImageError("damaged", "It has no frame header before its scan.")
    if header.precision != 8 or header.process not in {0, 1, 2, 9, 10}:
        kind = "lossless" if header.process == 3 else f"{header.precision}-bit"
        raise ImageError("unsupported", f"It is a {kind} JPEG of process {header.process}.")
    if header.process in {2, 10} and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageError("too_large", f"It has more than {MAX_SCANS} scans.")
    return Facts(
        "jpeg", header.width_px, header.height_px, *_sampling(header, adobe),
        orientation=jpeg.find_orientation(exif)[2], exif=exif, icc=tuple(icc),
    )  # fmt: skip


def _sampling(header: jpeg.FrameHeader, adobe: bytes) -> tuple[Colour, str]:
    """Return colour and subsampling."""
    count = len(header.sampling)
    if count == 1:
        return "gray", "gray"
    if count == 4:
        return "cmyk", "other"
    if count != 3:
        raise ImageError("unsupported", f"It is a JPEG of {count} components.")
    if adobe.startswith(b"Adobe") and adobe[11:12] == b"\0":
        return "colour", "other"  # components are R, G, B: rare, and re-encoded
    return "colour", SUBSAMPLINGS.get(header.sampling, "other")


def open_other(data: bytes) -> Image.Image:
    """Open a picture that is no JPEG, without decoding it; raises ImageError."""
    if _is_heif(data):
        _register_heif()
    try:
        return Image.open(io.BytesIO(data), formats=[f for f in FORMATS if f in _known()])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_large", "It has more pixels than can be opened.") from error
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", "It is no picture of a format we read.") from error
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
        raise ImageError("damaged", "Its header cannot be read.") from error


def _other(data: bytes) -> Facts:
    image = open_other(data)
    try:
        exif = image.info.get("exif") or b""
        # Not how many: a GIF would be read to its end for that.
        frames = 2 if getattr(image, "is_animated", False) else 1
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError("damaged", "Its header cannot be read.") from error
    block = exif.removeprefix(jpeg.EXIF)
    # pillow-heif and Pillow's AVIF have turned the pixels by the container's own word already.
    name = (image.format or "").lower()
    turned = name in {"heif", "avif"}
    return Facts(
        name, image.width, image.height,
        "gray" if image.mode in {"L", "LA", "1", *DEEP_MODES} else "colour",
        bits=16 if image.mode in DEEP_MODES or _png_bits(data) == 16 else 8,
        orientation=1 if turned else jpeg.find_orientation(block)[2],
        frames=frames,
        alpha=image.mode in ALPHA_MODES or "transparency" in image.info,
        exif=jpeg.set_orientation(block, 1) if turned else block,
    )  # fmt: skip


def _png_bits(data: bytes) -> int:
    return data[24] if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 24 else 8


def _is_heif(data: bytes) -> bool:
    brands = {b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis"}
    return data[4:8] == b"ftyp" and data[8:12] in brands


@functools.cache
def _register_heif() -> None:
    """Let pillow-heif read HEIC by Pillow's own interface, once a process."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError(
            "unsupported", "It is a HEIC picture. Install shutterwheel[heic] to read them."
        ) from error
    pillow_heif.register_heif_opener()


def _known() -> set[str]:
    Image.init()
    return set(Image.OPEN)
