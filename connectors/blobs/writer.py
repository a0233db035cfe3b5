"""Pictures written to a folder by processes of their own, so that a shutter never waits for a disk.

A thread would do, but for the interpreter's lock: a put is seven system calls, and after each one
the thread must win the lock back from a busy event loop. Of the worker's CPU a put took 370 to
600 µs by threads and takes 33 µs this way (10,000 pictures of 0.6 kB, 1,000 folders, 64 at a time).

**Protocol**, over a Unix socket pair: frames of a 4-byte big-endian length and MessagePack. A
:class:`Put` goes out; a list of :class:`Outcome` comes back, one list for what lay in the socket
together. The process works in the order in which puts come. It ends when the socket does: when its
worker dies, what it has begun is finished, and a successor finds it.

**A process that dies** fails the puts it had (StoreError: the capture's next attempt finds what was
written), and the next put starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from connectors.blobs.index import LocalIndex
from connectors.blobs.local import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH: Final = struct.Struct(">I")
READ_BYTES: Final = 1 << 20
END_S: Final = 10.0
"""How long the processes may take to finish what they have begun when the store is closed."""


class Put(msgspec.Struct, frozen=True, array_like=True):
    """One picture to write."""

    key: str
    data: bytes
    line: bytes
    """Of the index."""
    replace: bool


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of a put."""

    errno: int = 0
    """0: written."""
    existed: bool = False


_ENCODER: Final = msgspec.msgpack.Encoder()
_PUTS: Final = msgspec.msgpack.Decoder(Put)
_OUTCOMES: Final = msgspec.msgpack.Decoder(list[Outcome])


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what came; yield the frames that are whole now."""
        held = self._bytes
        held += data
        at = 0
        while len(held) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(held, at)[0]
            if len(held) < end:
                break
            yield bytes(memoryview(held)[at + LENGTH.size : end])
            at = end
        del held[:at]


def framed(value: object) -> bytes:
    """Return a value as a frame."""
    body = _ENCODER.encode(value)
    return LENGTH.pack(len(body)) + body


# -- the worker's side -----------------------------------------------------------------------------


class _Writer(asyncio.Protocol):
    """One process and the puts it has, oldest first."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(folder), str(theirs.fileno())]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        self.alive = True
        self._socket = ours
        self._transport: asyncio.WriteTransport | None = None
        self._frames = Frames()
        self._waiting: deque[asyncio.Future[Outcome]] = deque()

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, sock=self._socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            for outcome in _OUTCOMES.decode(frame):
                future = self._waiting.popleft()
                if not future.done():  # its capture may have run out of time
                    future.set_result(outcome)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.alive = False
        for future in self._waiting:
            if not future.done():
                future.set_exception(BrokenPipeError("the process that writes pictures has ended"))
        self._waiting.clear()

    def put(self, put: Put) -> asyncio.Future[Outcome]:
        assert self._transport is not None
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(framed(put))
        return future

    async def close(self) -> None:
        """Let the process finish what it has, and wait for its end."""
        self.alive = False
        if self._transport is not None:
            self._transport.close()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self.process.wait, END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class WriterProcesses:
    """The processes of one folder; a picture's key says which of them writes it."""

    def __init__(self, folder: Path, count: int) -> None:
        """Take the folder and how many processes, at least 1. ``start`` begins them."""
        self._folder = folder
        self._writers: list[_Writer | None] = [None] * count
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start what does not run. Blocks for some milliseconds a process."""
        async with self._starting:
            for number, writer in enumerate(self._writers):
                if writer is None or not writer.alive:
                    if writer is not None:
                        await writer.close()
                    writer = _Writer(self._folder)  # noqa: PLW2901
                    await writer.connect()
                    self._writers[number] = writer

    async def put(self, put: Put) -> Outcome:
        """Write a picture; raises OSError where its process ends before it has answered."""
        number = zlib.crc32(put.key.encode()) % len(self._writers)
        writer = self._writers[number]
        if writer is None or not writer.alive:
            await self.start()
            writer = self._writers[number]
            assert writer is not None
        return await writer.put(put)

    async def close(self) -> None:
        """End the processes."""
        for writer in self._writers:
            if writer is not None:
                await writer.close()


# -- the process -----------------------------------------------------------------------------------


def perform(index: LocalIndex, put: Put) -> Outcome:
    """Write the line, then the picture. Blocks."""
    try:
        index.append(put.key, put.line)
        write_file(index.path(put.key), put.data, replace=put.replace)
    except FileExistsError:
        return Outcome(existed=True)
    except OSError as error:
        return Outcome(error.errno or -1)
    return Outcome()


def main() -> None:
    """Write what comes until the socket ends: ``python -m connectors.blobs.writer FOLDER FD``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's: it drains first
    index, frames = LocalIndex(Path(sys.argv[1])), Frames()
    with socket.socket(fileno=int(sys.argv[2])) as stream:
        while data := _received(stream):
            outcomes = [perform(index, _PUTS.decode(frame)) for frame in frames.feed(data)]
            if outcomes:
                # If the worker has gone, what it had sent is written all the same.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    stream.sendall(framed(outcomes))


def _received(stream: socket.socket) -> bytes:
    """Return what has come; nothing at the end. A peer that died is told once, then data go on."""
    try:
        return stream.recv(READ_BYTES)
    except ConnectionResetError:
        return stream.recv(READ_BYTES)


if __name__ == "__main__":
    main()
