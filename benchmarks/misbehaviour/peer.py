"""The misbehaving peer: a process that stands in front of a good camera.

    python -m benchmarks.misbehaviour.peer '{"upstream": 40123, "faults": [{"kind": "drip"}]}'
    {"ports": [40200], "control": 40300}

A port a fault. A line to the control port asks: ``counts`` → the connections and requests each port
has seen; ``forget`` → the same, and steps are counted from the start again. Steps are counted by
device (``cam-00001`` in what the request says), so captures of many devices may run at once.

Once its standard input closes, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from benchmarks.misbehaviour.faults import Fault

DEVICE: Final = re.compile(rb"cam-\d{5}")
CSEQ: Final = re.compile(rb"(?i)\r\ncseq:\s*(\d+)")
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><body><form>Please log in</form></body></html>"
PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
RESET: Final = struct.pack("ii", 1, 0)
CUT_BYTES: Final = 20
DRIP_S: Final = 1.0
LINE_S: Final = 0.1
CHUNK: Final = b"\xff\xd8" + b"x" * 16_382
TLS_HELLO: Final = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"
"""The beginning of a ServerHello of 16 KiB."""

Send = Callable[[bytes], Awaitable[None]]


class Door:
    """One port: one fault."""

    def __init__(self, fault: Fault, upstream: int) -> None:
        self.fault = fault
        self.upstream = upstream
        self.connections = 0
        self.requests = 0
        self.port = 0
        self.never = asyncio.Event()
        """Never set; kept, as what waits for something that nobody keeps is garbage."""
        self._steps: Counter[bytes] = Counter()
        self._held: list[socket.socket] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        if self.fault.kind == "no-syn":
            self._fill_queue()
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _fill_queue(self) -> None:
        """Listen without accepting, and fill the queue ourselves: further SYNs are dropped."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.port = int(listener.getsockname()[1])
        self._held.append(listener)
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self.port))
            self._held.append(one)

    def forget(self) -> None:
        """Count from the start."""
        self.connections = self.requests = 0
        self._steps.clear()

    def step_of(self, data: bytes, device: bytes) -> tuple[int, bytes]:
        """Count a request; return which of its device's it is, and the device."""
        found = DEVICE.search(data)
        device = found.group() if found else device
        self._steps[device] += 1
        return self._steps[device], device

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.fault.kind in ALONE:
                await self._alone(reader, writer)
            else:
                await Line(self, reader, writer).run()
        with contextlib.suppress(OSError):
            writer.close()

    async def _alone(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request by ourselves."""

        async def send(data: bytes) -> None:
            await put(writer, data)

        while data := await reader.read(65_536):
            self.requests += 1
            rtsp = b" RTSP/1.0\r\n" in data
            found = CSEQ.search(data)
            version = b"RTSP/1.0" if rtsp else b"HTTP/1.1"
            sequence = b"CSeq: %b\r\n" % (found.group(1) if found else b"1") if rtsp else b""
            if not await ALONE[self.fault.kind](send, version, sequence, data):
                return


class Line:
    """One connection through to the good camera."""

    def __init__(
        self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.door, self.reader, self.writer = door, reader, writer
        self.kind, self.step = door.fault.kind, door.fault.step
        self.cut = False
        self.device = b""
        self.answered = True

    async def run(self) -> None:
        """Pass on both ways until the fault, or the end."""
        back, ahead = await asyncio.open_connection("127.0.0.1", self.door.upstream)
        down = asyncio.ensure_future(self._down(back))
        try:
            await self._up(ahead)
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
            ahead.close()

    async def _up(self, ahead: asyncio.StreamWriter) -> None:
        while data := await self.reader.read(65_536):
            if self.answered:  # what comes before an answer is the same request still
                self.answered = False
                self.door.requests += 1
                number, self.device = self.door.step_of(data, self.device)
                if number == self.step:
                    match self.kind:
                        case "freeze":
                            await self.door.never.wait()
                        case "close":
                            return
                        case "reset":
                            reset(self.writer)
                            return
                        case "cut":
                            self.cut = True
            ahead.write(data)
            await ahead.drain()

    async def _down(self, back: asyncio.StreamReader) -> None:
        try:
            while data := await back.read(65_536):
                self.answered = True
                if self.cut:
                    await put(self.writer, data[:CUT_BYTES])
                    break
                if self.kind == "never-closes":
                    data = re.sub(rb"(?i)\r\ncontent-length:", b"\r\nx-not-said-len:", data)
                if self.kind == "drip":
                    for at in range(len(data)):
                        await put(self.writer, data[at : at + 1])
                        await asyncio.sleep(DRIP_S)
                    continue
                await put(self.writer, data)
        except OSError:
            pass
        if self.kind != "never-closes":
            self.writer.close()


async def put(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send; raise ConnectionResetError where the other side has gone (uvloop raises none)."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets a RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def _silent(_send: Send, _version: bytes, _sequence: bytes, _request: bytes) -> bool:
    return True


def _whole(version: bytes, sequence: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"%b 200 OK\r\n%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (version, sequence, kind, len(body)) + body


async def _html(send: Send, _version: bytes, _sequence: bytes, _request: bytes) -> bool:
    await send(_whole(b"HTTP/1.1", b"", b"text/html", LOGIN_PAGE))
    return True


async def _png(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    await send(_whole(version, sequence, b"image/jpeg", PNG))
    return True


async def _noise(send: Send, _version: bytes, _sequence: bytes, _request: bytes) -> bool:
    await send(os.urandom(4_096))
    return False


async def _401(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    nonce = os.urandom(8).hex().encode()
    challenge = b'Digest realm="r", nonce="%b", qop="auth", algorithm=MD5, stale=true' % nonce
    head = b"%b 401 Unauthorized\r\n%bWWW-Authenticate: %b\r\nContent-Length: 0\r\n\r\n"
    await send(head % (version, sequence, challenge))
    return True


async def _redirect(send: Send, version: bytes, sequence: bytes, request: bytes) -> bool:
    target = request.split(b" ", 2)[1]
    await send(
        b"%b 302 Found\r\n%bLocation: %b\r\nContent-Length: 0\r\n\r\n" % (version, sequence, target)
    )
    return True


async def _endless_body(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    if sequence:
        length = b"Content-Type: application/sdp\r\nContent-Length: 1000000000000\r\n\r\n"
        await send(b"%b 200 OK\r\n%b" % (version, sequence) + length)
        while True:
            await send(CHUNK)
    await send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await send(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))


async def _endless_head(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    await send(b"%b 200 OK\r\n%b" % (version, sequence))
    while True:
        await send(b"X-Line: %b\r\n" % (b"x" * 100) * 100)


async def _no_end_of_head(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    await send(b"%b 200 OK\r\n%b" % (version, sequence))
    while True:
        await send(b"X-Line: 1\r\n")
        await asyncio.sleep(LINE_S)


async def _continues(send: Send, version: bytes, sequence: bytes, _request: bytes) -> bool:
    while True:
        await send(b"%b 100 Continue\r\n%b\r\n" % (version, sequence))
        await asyncio.sleep(LINE_S)


async def _tls_drip(send: Send, _version: bytes, _sequence: bytes, _request: bytes) -> bool:
    for at in range(len(TLS_HELLO)):
        await send(TLS_HELLO[at : at + 1])
        await asyncio.sleep(DRIP_S)
    return True


Answer = Callable[[Send, bytes, bytes, bytes], Awaitable[bool]]
ALONE: Final[dict[str, Answer]] = {
    "silent": _silent,
    "html": _html,
    "png": _png,
    "noise": _noise,
    "401": _401,
    "redirect": _redirect,
    "endless-body": _endless_body,
    "endless-head": _endless_head,
    "no-end-of-head": _no_end_of_head,
    "continues": _continues,
    "tls-silent": _silent,
    "tls-drip": _tls_drip,
}
"""Faults that need no good camera; each says whether the connection stays open."""


async def serve(settings: dict[str, object]) -> None:
    """Open all doors and serve until standard input closes."""
    faults = settings["faults"]
    assert isinstance(faults, list)
    doors = [Door(Fault(**fault), int(str(settings["upstream"]))) for fault in faults]
    for door in doors:
        await door.open()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            counts = [[door.connections, door.requests] for door in doors]
            if line.strip() == b"forget":
                for door in doors:
                    door.forget()
            writer.write(json.dumps(counts).encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(control, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"ports": [door.port for door in doors], "control": port}), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    os._exit(0)  # what is held back is dropped, too


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
