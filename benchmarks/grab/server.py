"""An HTTP server that sends one of some pictures of 100 KB to each request, as cheaply as it can.

    python -m benchmarks.grab.server
    {"port": 40123, "picture_bytes": 102400}

Its share of the machine should be small beside the client's: nothing is drawn, nothing is parsed
but the end of a request. The pictures differ in a comment, so that none is stale. It ends when its
standard input closes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import simplejpeg
import uvloop

from connectors.cameras.picture import with_comment

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE_BYTES: Final = 100 * 1024
PICTURES: Final = 256
"""More than twice the captures at once, so that none is the one before again."""
WIDTH_PX: Final = 640
HEIGHT_PX: Final = 480


def pictures() -> list[bytes]:
    """Return JPEGs of exactly :data:`PICTURE_BYTES`: noise, and a comment that fills them up."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    quality = 20
    jpeg: bytes = simplejpeg.encode_jpeg(noise, quality)
    while len(jpeg) > PICTURE_BYTES - 100:
        quality -= 1
        jpeg = simplejpeg.encode_jpeg(noise, quality)
    while PICTURE_BYTES - len(jpeg) > 60_000:
        jpeg = with_comment(jpeg, b"x" * 50_000)
    room = PICTURE_BYTES - len(jpeg) - 4
    return [with_comment(jpeg, f"{n:08d}".encode().ljust(room, b"x")) for n in range(PICTURES)]


class Answering(asyncio.Protocol):
    """Answers each request with the next picture."""

    def __init__(self, answers: Iterator[bytes]) -> None:
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._head += data
        while b"\r\n\r\n" in self._head and self._transport is not None:
            _, _, self._head = self._head.partition(b"\r\n\r\n")
            self._transport.write(next(self._answers))


async def serve() -> None:
    """Serve until standard input closes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {PICTURE_BYTES}\r\n\r\n"
    answers = itertools.cycle([head.encode() + picture for picture in pictures()])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(answers), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "picture_bytes": PICTURE_BYTES}), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(serve())
