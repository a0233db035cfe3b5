"""From encoded pictures to a JPEG, off the event loop.

Each picture is decoded by FFmpeg (PyAV) with one thread and ``err_detect=explode``: without it a
damaged picture comes out as a grey or smeared one, and nothing says so. That finds most damage, not
all: an H.265 slice whose last 32 bytes are foreign passed once in 1,700 decodes of the same bytes.
The picture is brought to JPEG's colours (full range, ITU-R BT.601) and encoded by libjpeg-turbo.

Only so many pictures are decoded at once as there are threads; others wait inside their deadline.
A decode whose capture is over stops at the next picture.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import simplejpeg

from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.cameras.rtp import AccessUnit

DECODERS: Final = {"h264": "h264", "h265": "hevc"}
"""FFmpeg's names."""
MAX_PIXELS: Final = 64 * 1024 * 1024
"""The largest picture that is decoded: 8K has 33 million."""


class Decoders:
    """The threads, started at the first use."""

    def __init__(self, threads: int, quality: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._quality = quality

    async def jpeg(self, codec: str, units: Sequence[AccessUnit]) -> bytes:
        """Return the last of ``units`` as a JPEG; the first is a key frame.

        Raises CameraError ``undecodable``.
        """
        over = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, decode, codec, units, self._quality, over)
        finally:
            over.set()

    def close(self) -> None:
        """End the threads; a decode that runs stops at its next picture."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def decode(codec: str, units: Sequence[AccessUnit], quality: int, over: threading.Event) -> bytes:
    """Decode all of ``units`` and return the last one's picture as a JPEG; runs in a thread."""
    import av
    import av.error

    context: Any = av.CodecContext.create(DECODERS[codec], "r")
    context.thread_count = 1
    context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    wanted, picture = units[-1].ticks, None
    try:
        for unit in units:
            if over.is_set():
                raise CameraError("timeout", "the capture was over before its picture was decoded")
            packet = av.Packet(unit.data)
            packet.pts = unit.ticks
            for frame in context.decode(packet):
                picture = frame if frame.pts == wanted else picture
        for frame in context.decode(None):
            picture = frame if frame.pts == wanted else picture
    except av.error.FFmpegError as error:
        raise CameraError("undecodable", f"its {codec} is damaged: {error.strerror}") from None
    if picture is None or picture.is_corrupt:
        raise CameraError("undecodable", f"its {codec} is damaged: no whole picture came of it")
    return encode(picture, quality)


def encode(picture: Any, quality: int) -> bytes:
    """Return a decoded picture as a JPEG."""
    full = picture.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    y, u, v = (
        np.ascontiguousarray(
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
                : plane.height, : plane.width
            ]
        )
        for plane in full.planes
    )
    data: bytes = simplejpeg.encode_jpeg_yuv_planes(y, u, v, quality)
    return data
