r"""A stream of pictures over HTTP (MJPEG, ``multipart/x-mixed-replace``): its first whole picture.

    HTTP/1.1 200 OK
    Content-Type: multipart/x-mixed-replace; boundary=frame

    --frame\r\n
    Content-Type: image/jpeg\r\nContent-Length: 4711\r\n\r\n
    FF D8 … FF D9\r\n
    --frame\r\n …                                and so on, without end

Where a part has no length it ends before the next boundary. Many cameras put the two hyphens into
the ``boundary`` parameter itself and then send it as it is, or with two more: both are understood.
The connection is closed after the picture, because the stream has no end to wait for.

:class:`FirstPart` is fed bytes and does no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from connectors.cameras.frame import clean
from connectors.cameras.readers import read_bounded
from schemas.errors import CameraError

if TYPE_CHECKING:
    import aiohttp

    from schemas.records import DeviceProfile

MIXED: Final = "multipart/x-mixed-replace"
MAX_HEAD_BYTES: Final = 4_096
"""Longest preamble and headers of the first part."""
MAX_BOUNDARY: Final = 200
"""Longest boundary taken; RFC 2046 allows 70 characters."""
_BLANK: Final = re.compile(rb"\r?\n\r?\n")
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$")


class FirstPart:
    """Takes the first part out of a multipart stream."""

    def __init__(self, boundary: str, max_bytes: int) -> None:
        """Expect ``boundary`` as the Content-Type gives it.

        Raises CameraError ``bad_answer`` if that cannot be one.
        """
        name = boundary.strip().strip('"')
        if not name or len(name) > MAX_BOUNDARY or not name.isascii():
            raise CameraError("bad_answer", f"the stream's boundary is {clean(boundary)!r}")
        self._boundary = (name if name.startswith("--") else f"--{name}").encode()
        self._end = re.compile(rb"\r?\n(?:--)?" + re.escape(self._boundary))
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._length: int | None = None
        self._body = False
        self._searched = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take more of the stream; return the part once it is whole.

        Raises CameraError ``too_large`` or ``bad_answer``.
        """
        self._buffer += data
        if not self._body and not self._take_head():
            return None
        if self._length is not None:
            whole = len(self._buffer) >= self._length
            return bytes(self._buffer[: self._length]) if whole else None
        end = self._end.search(self._buffer, self._searched)
        if end is not None:
            return bytes(self._buffer[: end.start()])
        if len(self._buffer) > self._max_bytes:
            raise self._too_large()
        self._searched = max(0, len(self._buffer) - len(self._boundary) - 4)
        return None

    def ended(self) -> bytes:
        """Return the part as it is where the stream ends: whole only if nothing bounds it."""
        return bytes(self._buffer) if self._body else b""

    def _take_head(self) -> bool:
        at = self._buffer.find(self._boundary)
        blank = _BLANK.search(self._buffer, at) if at >= 0 else None
        if blank is None:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise CameraError("bad_answer", "the stream begins without a part and its headers")
            return False
        found = _LENGTH.search(self._buffer, at, blank.end())
        if found is not None and int(found[1]) > 0:
            self._length = int(found[1])
            if self._length > self._max_bytes:
                raise self._too_large()
        del self._buffer[: blank.end()]
        self._body = True
        return True

    def _too_large(self) -> CameraError:
        message = f"the first picture of the stream has more than {self._max_bytes} bytes"
        return CameraError("too_large", message, retry=False)


async def read_picture(
    profile: DeviceProfile, response: aiohttp.ClientResponse, max_bytes: int
) -> bytes:
    """Read a body; of a stream of pictures the first one only."""
    if response.status != 200 or response.content_type != MIXED:
        return await read_bounded(profile, response, max_bytes)
    try:
        part = FirstPart(boundary_of(response.headers.get("Content-Type", "")), max_bytes)
        async for data in response.content.iter_any():
            found = part.feed(data)
            if found is not None:
                return found
        return part.ended()
    except CameraError as error:
        message = f"{clean(profile.device_id)}: {error}"
        raise CameraError(error.cause, message, retry=error.retry) from error
    finally:
        response.close()


def boundary_of(content_type: str) -> str:
    """Return the ``boundary`` parameter of a Content-Type; empty: it has none."""
    found = re.search(r'boundary=("[^"]*"|[^;\s]*)', content_type, re.IGNORECASE)
    return found[1].strip('"') if found else ""
