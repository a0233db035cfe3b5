"""The system's libturbojpeg by PyTurboJPEG: all that simplejpeg does, and lossless transforms.

PyTurboJPEG 1.8 speaks to libjpeg-turbo 2 (Debian 12) and 3; its 2.x only to 3. Two things of
it are reached by the names Python gives to private methods, both held by the contract test: how it
reports errors (it warns where we must know) and how a transform is run (it offers crops, no turns).
"""

from __future__ import annotations

from ctypes import byref
from math import gcd
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import turbojpeg

from connectors.images.errors import ImageError

if TYPE_CHECKING:
    from connectors.images.codec import Pixels
    from connectors.images.facts import Facts
    from connectors.images.plan import Box

OPERATIONS: Final = {
    1: turbojpeg.TJXOP_NONE,
    2: turbojpeg.TJXOP_HFLIP,
    3: turbojpeg.TJXOP_ROT180,
    4: turbojpeg.TJXOP_VFLIP,
    5: turbojpeg.TJXOP_TRANSPOSE,
    6: turbojpeg.TJXOP_ROT90,
    7: turbojpeg.TJXOP_TRANSVERSE,
    8: turbojpeg.TJXOP_ROT270,
}
"""What makes a picture of this EXIF orientation stand upright."""
SUBSAMPLINGS: Final = {
    "444": turbojpeg.TJSAMP_444,
    "422": turbojpeg.TJSAMP_422,
    "420": turbojpeg.TJSAMP_420,
    "440": turbojpeg.TJSAMP_440,
    "411": turbojpeg.TJSAMP_411,
    "gray": turbojpeg.TJSAMP_GRAY,
}


class _Strict(turbojpeg.TurboJPEG):  # type: ignore[misc]
    """PyTurboJPEG, for which a warning of the library is an error."""

    def _TurboJPEG__report_error(self, handle: Any) -> None:  # noqa: N802
        private: Any = self
        raise OSError(private._TurboJPEG__get_error_string(handle))  # noqa: SLF001

    def transform(self, data: bytes, region: Any, operation: int, options: int) -> bytes:
        """Run one lossless transform."""
        private: Any = self
        handle = private._TurboJPEG__init_transform()  # noqa: SLF001
        try:
            source = np.frombuffer(data, dtype=np.uint8)
            address = private._TurboJPEG__getaddr(source)  # noqa: SLF001
            wanted = turbojpeg.TransformStruct(region, operation, options)
            found: list[bytes] = private._TurboJPEG__do_transform(  # noqa: SLF001
                handle, address, source.size, 1, byref(wanted)
            )
        finally:
            private._TurboJPEG__destroy(handle)  # noqa: SLF001
        return found[0]


class TurboCodec:
    """PyTurboJPEG. Raises OSError or RuntimeError where the library is not to be had."""

    name: ClassVar[str] = "turbojpeg"
    lossless: ClassVar[bool] = True
    planar: ClassVar[bool] = True

    def __init__(self, library: str | None = None) -> None:
        """Load the library; ``library``: its path, where it is not the system's."""
        self._turbo: Any = _Strict(library)

    def decode(self, data: bytes, facts: Facts, eighths: int = 8) -> Pixels:
        """See :class:`~connectors.images.codec.JpegCodec`."""
        colour = turbojpeg.TJPF_GRAY if facts.colour == "gray" else turbojpeg.TJPF_RGB
        try:
            pixels: Pixels = self._turbo.decode(
                data, colour, _factor(eighths), turbojpeg.TJFLAG_STOPONWARNING
            )
        except (OSError, ValueError) as error:
            raise ImageError("damaged", f"{error}.") from error
        return pixels

    def decode_planes(self, data: bytes, facts: Facts, eighths: int = 8) -> list[Pixels]:  # noqa: ARG002
        """See :class:`~connectors.images.codec.JpegCodec`."""
        try:
            planes: list[Pixels] = self._turbo.decode_to_yuv_planes(
                data, _factor(eighths), flags=turbojpeg.TJFLAG_STOPONWARNING
            )
        except (OSError, ValueError) as error:
            raise ImageError("damaged", f"{error}.") from error
        return planes

    def encode(self, pixels: Pixels, quality: int, subsampling: str) -> bytes:
        """See :class:`~connectors.images.codec.JpegCodec`."""
        colour = turbojpeg.TJPF_GRAY if pixels.shape[2] == 1 else turbojpeg.TJPF_RGB
        jpeg: bytes = self._turbo.encode(pixels, quality, colour, SUBSAMPLINGS[subsampling])
        return jpeg

    def move(self, data: bytes, box: Box | None, orientation: int) -> bytes:
        """See :class:`~connectors.images.codec.JpegCodec`."""
        try:
            if box is not None:
                region = turbojpeg.CroppingRegion(box.left, box.top, box.width, box.height)
                crop = turbojpeg.TJXOPT_CROP
                data = self._turbo.transform(data, region, turbojpeg.TJXOP_NONE, crop)
            if orientation != 1:
                region, perfect = turbojpeg.CroppingRegion(0, 0, 0, 0), turbojpeg.TJXOPT_PERFECT
                operation = OPERATIONS[orientation]
                data = self._turbo.transform(data, region, operation, perfect)
        except OSError as error:
            raise ImageError("damaged", f"{error}.") from error
        return data


def _factor(eighths: int) -> tuple[int, int]:
    """Return a scale as PyTurboJPEG wants it, reduced."""
    whole = gcd(eighths, 8)
    return eighths // whole, 8 // whole
