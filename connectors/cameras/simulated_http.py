"""One connection of the simulated cameras: reads requests, answers them, or breaks as told.

Answers without a fault are written at once in ``data_received``; a fault that takes time runs as a
task, during which the connection reads no further. See :mod:`connectors.cameras.simulated`.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp.client_middleware_digest_auth import parse_header_pairs

from connectors.cameras.picture import darkened
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from connectors.cameras.faults import Fault
    from connectors.cameras.simulated import SimulatedCameras

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><body><form>Please log in</form></body></html>"
REALM: Final = "simulated camera"
REASONS: Final = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized"}
CHUNK: Final = b"x" * 16_384
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Request(NamedTuple):
    """A parsed HTTP request; names of headers are in lower case."""

    method: str
    path: str
    raw_target: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """An answer before a fault has touched it."""

    status: int
    content_type: str
    body: bytes


def parse_head(head: bytes) -> Request:
    """Read a request's first line and headers; raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    path, mark, query = target.partition("?")
    pairs = dict(parse_qsl(query)) if mark else {}
    return Request(method, unquote(path) if "%" in path else path, target, pairs, headers, b"")


def head_of(status: int, content_type: str, length: int | None, extra: str = "") -> bytes:
    """Return an answer's head; without a length the body is chunked."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n"
        f"Content-Type: {content_type}\r\n{size}\r\n{extra}\r\n"
    ).encode("latin-1")


def capture_reply(counter: int, at_ms: int) -> Reply:
    """Return the answer of ``capture``."""
    answer = {"snapshot": f"frames/{counter}.jpg", "captured_at_ms": at_ms}
    return Reply(200, "application/json", msgspec.json.encode(answer))


def kind_of(what: str) -> str:
    """Name the kind of a device's request, by the rest of its path."""
    return "frame" if what.startswith("frames/") else what.removesuffix(".jpg")


class Connection(asyncio.Protocol):
    """The server's side of one TCP connection."""

    def __init__(self, cameras: SimulatedCameras) -> None:
        self._cameras = cameras
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._cameras.connections.add(self)
        self._cameras.quiet.clear()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Stop what is still being sent."""
        self._cameras.connections.discard(self)
        if not self._cameras.connections:
            self._cameras.quiet.set()
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._drained.set()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._task is None and self._transport is not None:
            request = self._take()
            if request is None:
                return
            self._cameras.requests += 1
            self._answer(request)

    def _take(self) -> Request | None:
        """Take one request off the buffer; None: it is not complete."""
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            if len(head) > MAX_HEAD_BYTES:
                self.abort()
            return None
        try:
            request = parse_head(head)
            length = int(request.headers.get("content-length", "0"))
        except ValueError:
            self.abort()
            return None
        if length > MAX_BODY_BYTES:
            self.abort()
            return None
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return request._replace(body=rest[:length]) if length else request

    def _answer(self, request: Request) -> None:
        path = request.path
        if path.startswith("/cam/"):
            device, _, what = path[5:].partition("/")
            self._camera(request, device, what)
        elif path == "/log":
            since = request.query.get("since", "0")
            lines = self._cameras.log_lines(int(since) if since.isdigit() else 0)
            self._send(Reply(200, "application/jsonl", lines), request)
        elif path == "/faults" and request.method == "POST":
            try:
                self._cameras.faults.update_json(request.body)
            except UsageError as error:
                self._send(Reply(400, "text/plain", str(error).encode()), request)
            else:
                self._send(Reply(200, "application/json", b"{}"), request)
        elif path == "/health":
            counts = {"shutters": self._cameras.shutters, "requests": self._cameras.requests}
            self._send(Reply(200, "application/json", msgspec.json.encode(counts)), request)
        else:
            self._send(Reply(404, "text/plain", b"no such page\n"), request)

    def _camera(self, request: Request, device: str, what: str) -> None:
        cameras = self._cameras
        if not cameras.has(device):
            self._send(Reply(404, "text/plain", b"no such device\n"), request)
            return
        try:
            fault = cameras.faults.pick(device, kind_of(what), request.query)
        except UsageError as error:
            self._send(Reply(400, "text/plain", str(error).encode()), request)
            return
        if fault is not None:
            # As a task even where it would be short: one way for all of them.
            self._start(self._faulty(request, device, what, fault))
        else:
            self._send(self._take_photo(request, device, what, None), request)

    def _take_photo(self, request: Request, device: str, what: str, fault: Fault | None) -> Reply:
        """Do what was asked of a device, without any fault."""
        cameras = self._cameras
        if request.method == "HEAD":
            return Reply(200, "image/jpeg" if what else "application/json", b"")
        if what == "snapshot.jpg":
            jpeg, _, _ = cameras.shoot(device)
            cameras.note(device, "snapshot", request, fault, shutter=True)
            return Reply(200, "image/jpeg", jpeg)
        if not what:
            return Reply(200, "application/json", msgspec.json.encode({"device": device}))
        if what == "capture":
            _, at_ms, counter = cameras.shoot(device)
            cameras.note(device, "capture", request, fault, shutter=True)
            return capture_reply(counter, at_ms)
        if what.startswith("frames/"):
            number = what[7:].removesuffix(".jpg")
            kept = cameras.frame(device, int(number)) if number.isdigit() else None
            if kept is not None:
                cameras.note(device, "frame", request, fault, shutter=False)
                return Reply(200, "image/jpeg", kept)
        return Reply(404, "text/plain", b"no such page\n")

    def _old_photo(self, device: str, what: str) -> Reply:
        """Answer with the device's last picture as if it were new; the first one is."""
        jpeg, at_ms, counter = self._cameras.last(device) or self._cameras.shoot(device)
        return (
            capture_reply(counter, at_ms) if what == "capture" else Reply(200, "image/jpeg", jpeg)
        )

    def _send(self, reply: Reply, request: Request, extra: str = "") -> None:
        if self._transport is None:
            return
        head = head_of(reply.status, reply.content_type, len(reply.body), extra)
        self._transport.write(head if request.method == "HEAD" else head + reply.body)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
        if self._buffer:
            self.data_received(b"")

    async def _faulty(self, request: Request, device: str, what: str, fault: Fault) -> None:
        """Answer as the fault says."""
        if fault.kind in {"slow", "drip", "cut", "cut-jpeg", "padding", "dark"}:
            reply = self._take_photo(request, device, what, fault)
            await self._damaged(reply, request, fault)
        elif fault.kind in {"basic", "digest"}:
            if authorized(request, fault, self._cameras.nonce):
                self._send(self._take_photo(request, device, what, fault), request)
            else:
                self._cameras.note(device, kind_of(what), request, fault, shutter=False)
                challenge = f'WWW-Authenticate: {fault.kind.title()} realm="{REALM}"'
                if fault.kind == "digest":
                    challenge += f', nonce="{self._cameras.nonce}", qop="auth", algorithm=MD5'
                reply = Reply(401, "text/html", LOGIN_PAGE)
                self._send(reply, request, f"{challenge}\r\n")
        else:
            self._cameras.note(device, kind_of(what), request, fault, shutter=False)
            await self._refusal(request, device, what, fault)

    async def _damaged(self, reply: Reply, request: Request, fault: Fault) -> None:
        """Send a good answer badly."""
        delay_s = fault.delay_ms / 1000
        if fault.kind == "slow":
            await asyncio.sleep(delay_s)
            self._send(reply, request)
        elif fault.kind == "drip":
            self._write(head_of(reply.status, reply.content_type, len(reply.body)))
            for at in range(len(reply.body)):
                await asyncio.sleep(delay_s)
                self._write(reply.body[at : at + 1])
        elif fault.kind == "cut":
            head = head_of(reply.status, reply.content_type, len(reply.body))
            self._write(head + reply.body[: len(reply.body) // 2])
            self._close()
        elif fault.kind == "cut-jpeg":
            self._send(reply._replace(body=reply.body[: len(reply.body) // 2]), request)
        elif fault.kind == "dark":
            self._send(reply._replace(body=darkened(reply.body)), request)
        else:
            self._send(reply._replace(body=reply.body + bytes(16)), request)

    async def _refusal(self, request: Request, device: str, what: str, fault: Fault) -> None:
        """Send no new picture at all."""
        match fault.kind:
            case "disconnect":
                self._close()
            case "reset":
                self._reset()
            case "never":
                await asyncio.Event().wait()
            case "html":
                self._send(Reply(200, "text/html", LOGIN_PAGE), request)
            case "html-as-jpeg":
                self._send(Reply(200, "image/jpeg", LOGIN_PAGE), request)
            case "empty":
                self._send(Reply(200, "image/jpeg", b""), request)
            case "stale":
                self._send(self._old_photo(device, what), request)
            case "redirect":
                reply = Reply(302, "text/plain", b"moved\n")
                self._send(reply, request, f"Location: {fault.location}\r\n")
            case "not-http":
                self._write(b"220 simulated camera FTP ready\r\n\r\n")
                self._close()
            case "huge":
                self._write(head_of(200, "image/jpeg", fault.size_bytes))
                await self._pour(fault.size_bytes)
            case "endless":
                self._write(head_of(200, "image/jpeg", None))
                await self._pour(None)
            case _:
                # 204 and 304 have no body (RFC 9110, 6.4.1).
                body = b"" if fault.status in {204, 304} else b"fault\n"
                self._send(Reply(fault.status, "text/plain", body), request)

    async def _pour(self, size_bytes: int | None) -> None:
        """Send so many bytes, or chunks without end, as fast as the peer takes them."""
        sent = 0
        while self._transport is not None and (size_bytes is None or sent < size_bytes):
            await self._drained.wait()
            if size_bytes is None:
                self._write(f"{len(CHUNK):x}\r\n".encode() + CHUNK + b"\r\n")
            else:
                self._write(CHUNK[: size_bytes - sent])
            sent += len(CHUNK)
            await asyncio.sleep(0)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reset(self) -> None:
        """Close so that the peer gets a TCP reset (SO_LINGER of 0 s)."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()


def authorized(request: Request, fault: Fault, nonce: str) -> bool:
    """Say whether a request carries the fault's credentials (RFC 7617, RFC 7616)."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if fault.kind == "basic":
        wanted = b64encode(f"{fault.user}:{fault.password}".encode()).decode()
        return scheme.lower() == "basic" and secrets.compare_digest(value.strip(), wanted)
    if scheme.lower() != "digest":
        return False
    got = parse_header_pairs(value)
    if got.get("nonce") != nonce or got.get("uri") != request.raw_target:
        return False
    ha1 = _md5(f"{fault.user}:{REALM}:{fault.password}")
    ha2 = _md5(f"{request.method}:{got['uri']}")
    rest = ":".join(got.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
    return secrets.compare_digest(got.get("response", ""), _md5(f"{ha1}:{rest}:{ha2}"))


def _md5(text: str) -> str:
    """RFC 7616's H for algorithm MD5; not used to protect anything."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
