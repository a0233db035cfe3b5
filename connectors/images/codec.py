"""libjpeg-turbo, by whichever binding there is: one interface, and the same results.

================  ==============================  ===============================================
Codec             libjpeg-turbo comes from        What it cannot do, and what is done instead
================  ==============================  ===============================================
``TurboCodec``    the system's, by PyTurboJPEG
``SimpleCodec``   simplejpeg's wheel              moving blocks without loss: decode and encode,
                                                  with the note ``no_lossless``; decoding to YCbCr
                                                  planes: RGB is scaled, which takes 1.2 to 1.5
                                                  times as long and looks the same (above 38 dB)
================  ==============================  ===============================================

Both decode to the same RGB at every scale and encode to the same bytes: one contract test holds
them to it. Both let go of the interpreter's lock while they work.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np
import simplejpeg

from connectors.images.errors import ImageError
from connectors.images.plan import scaled

if TYPE_CHECKING:
    import numpy.typing as npt

    from connectors.images.facts import Facts
    from connectors.images.plan import Box

    Pixels = npt.NDArray[np.uint8]

SIMPLE_NAMES: Final = {"gray": "Gray"}


class JpegCodec(Protocol):
    """What is asked of a binding. Every method raises ImageError ``damaged``."""

    name: ClassVar[str]
    lossless: ClassVar[bool]
    """Whether ``move`` works."""
    planar: ClassVar[bool]
    """Whether ``decode_planes`` works."""

    def decode(self, data: bytes, facts: Facts, eighths: int = 8) -> Pixels:
        """Return RGB, shape (height, width, 3), or gray, (height, width, 1).

        ``eighths``: 1, 2, 4 or 8. Damage that libjpeg would gloss over is an error.
        """
        ...

    def decode_planes(self, data: bytes, facts: Facts, eighths: int = 8) -> list[Pixels]:
        """Return Y, Cb and Cr as they are stored, shape (height, width) each."""
        ...

    def encode(self, pixels: Pixels, quality: int, subsampling: str) -> bytes:
        """Return a baseline JPEG; ``subsampling`` is ``gray`` where there is one channel."""
        ...

    def move(self, data: bytes, box: Box | None, orientation: int) -> bytes:
        """Cut and turn without decoding; every segment is kept as it is."""
        ...


class SimpleCodec:
    """simplejpeg's bundled libjpeg-turbo."""

    name: ClassVar[str] = "simplejpeg"
    lossless: ClassVar[bool] = False
    planar: ClassVar[bool] = False

    def decode(self, data: bytes, facts: Facts, eighths: int = 8) -> Pixels:
        """See :class:`JpegCodec`."""
        width, height = scaled(facts, eighths)
        colour = "GRAY" if facts.colour == "gray" else "RGB"
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(
                data, colour, min_width=width, min_height=height
            )
        except ValueError as error:
            raise ImageError("damaged", f"{error}.") from error
        return pixels

    def decode_planes(self, data: bytes, facts: Facts, eighths: int = 8) -> list[Pixels]:
        """Not to be had: the pipeline asks ``planar`` first."""
        raise NotImplementedError("simplejpeg decodes to no planes")

    def encode(self, pixels: Pixels, quality: int, subsampling: str) -> bytes:
        """See :class:`JpegCodec`."""
        colour = "GRAY" if pixels.shape[2] == 1 else "RGB"
        sampling = SIMPLE_NAMES.get(subsampling, subsampling)
        jpeg: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels), quality, colour, sampling
        )
        return jpeg

    def move(self, data: bytes, box: Box | None, orientation: int) -> bytes:
        """Not to be had: no plan for this codec asks for it."""
        raise NotImplementedError("simplejpeg has no lossless transform")


PLANAR: Final = ("420", "422", "444")
"""Subsamplings that :func:`encode_planes` takes."""


def encode_planes(planes: list[Pixels], quality: int) -> bytes:
    """Return a JPEG of Y, Cb and Cr planes; their sizes say how colour is subsampled."""
    y, cb, cr = planes
    jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(y, cb, cr, quality)
    return jpeg


@functools.cache
def pick_codec() -> JpegCodec:
    """Return the best codec there is: the one that also moves blocks, where it can be loaded."""
    from connectors.images.codec_turbo import TurboCodec

    try:
        return TurboCodec()
    except (ImportError, OSError, RuntimeError, AttributeError):
        return SimpleCodec()
