"""One connection of the simulated RTSP camera: answers, sends pictures, or breaks as told.

See :mod:`connectors.cameras.simulated_rtsp` for the faults.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from aiohttp.client_middleware_digest_auth import parse_header_pairs

from connectors.cameras.rtsp_udp import UdpPair

if TYPE_CHECKING:
    from connectors.cameras.simulated_rtsp import RtspFault, SimulatedRtsp

MAX_BUFFER_BYTES: Final = 64 * 1024
REALM: Final = "simulated camera"
REASONS: Final = {200: "OK", 401: "Unauthorized", 461: "Unsupported Transport"}
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
PICTURE_LOSS: Final = b"\x81\xce"
ENDLESS_PARTS: Final = 60
"""Packets that an endless picture adds at each turn."""


class Asked(NamedTuple):
    """A request."""

    method: str
    url: str
    headers: dict[str, str]


class CameraConnection(asyncio.Protocol):
    """The camera's side of one connection."""

    def __init__(self, server: SimulatedRtsp) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._udp: UdpPair | None = None
        self._channel = 0
        self._playing = False
        self._sequence = secrets.randbits(16)
        self._ssrc = secrets.randbits(32)
        self._task: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._sent = 0
        self._reported_s = 0.0
        self._loop = asyncio.get_running_loop()

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.accepted += 1
        self._server.connections.add(self)
        self._server.quiet.clear()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Stop what is being sent."""
        self._transport = None
        self._playing = False
        if self._task is not None:
            self._task.cancel()
        if self._udp is not None:
            self._udp.close()
        self._server.connections.discard(self)
        if not self._server.connections:
            self._server.quiet.set()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        if len(self._buffer) > MAX_BUFFER_BYTES:
            self.abort()
        while self._buffer and self._transport is not None:
            if self._buffer[:1] == b"$":
                end = 4 + int.from_bytes(self._buffer[2:4], "big")
                if len(self._buffer) < max(end, 4):
                    return
                self._on_report(1, self._buffer[4:end])
                self._buffer = self._buffer[end:]
                continue
            head, mark, rest = self._buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            self._buffer = rest
            self._answer(_parse(head))

    def _on_report(self, channel: int, data: bytes) -> None:
        if channel and PICTURE_LOSS in data:
            self._server.want_key()

    # --- requests ---------------------------------------------------------------------------------

    def _answer(self, asked: Asked) -> None:
        server = self._server
        server.requests.append(asked.method)
        cseq = f"CSeq: {asked.headers.get('cseq', '0')}\r\n"
        fault = server.fault
        if fault is not None and fault.at == asked.method:
            self._misbehave(fault, cseq)
            return
        if server.camera.auth and not _may(asked, server):
            self._send(_head(401, cseq + "".join(_challenges(server))))
            return
        session = "Session: 12345678\r\n"
        match asked.method:
            case "DESCRIBE":
                body = server.sdp.encode()
                extra = f"Content-Base: {server.url}/\r\nContent-Type: application/sdp\r\n"
                extra += f"Content-Length: {len(body)}\r\n"
                self._send(_head(200, cseq + extra) + body)
            case "SETUP":
                self._task = self._loop.create_task(self._set_up(asked, cseq))
            case "PLAY":
                self._send(_head(200, cseq + session))
                self._play()
            case "TEARDOWN":
                self._playing = False
                self._send(_head(200, cseq))
            case _:
                self._send(_head(200, cseq + session))

    async def _set_up(self, asked: Asked, cseq: str) -> None:
        """Agree on a transport."""
        camera = self._server.camera
        wanted = asked.headers.get("transport", "")
        name = "tcp" if "TCP" in wanted.upper() else "udp"
        if name not in camera.transports or self._transport is None:
            self._send(_head(461, cseq))
            return
        answer = wanted
        if name == "udp":
            peer = self._transport.get_extra_info("peername")[0]
            self._udp = UdpPair(peer, self._on_report)
            await self._udp.open(self._server.host)
            low, _, high = wanted.partition("client_port=")[2].partition("-")
            self._udp.aim((int(low), int(high)))
            answer += f";server_port={self._udp.ports[0]}-{self._udp.ports[1]}"
        else:
            self._channel = int(wanted.partition("interleaved=")[2].partition("-")[0] or 0)
        session = f"Session: 12345678;timeout={camera.timeout_s}\r\nTransport: {answer}\r\n"
        self._send(_head(200, cseq + session))

    def _misbehave(self, fault: RtspFault, cseq: str) -> None:
        """Answer a request as the fault says."""
        head = _head(200, f"{cseq}X-Simulated: {'x' * 64}\r\n")
        match fault.kind:
            case "drip":
                self._task = self._loop.create_task(self._drip(head, fault.delay_ms / 1000))
            case "cut":
                self._send(head[: len(head) // 2])
                self._close()
            case "close":
                self._close()
            case "reset":
                self._reset()
            case "not-rtsp":
                self._send(b"220 simulated camera FTP ready\r\n\r\n")
            case "status":
                location = f"Location: {fault.location}\r\n" if fault.location else ""
                self._send(_head(fault.status, cseq + location))
            case "endless":
                self._send(_head(200, cseq)[:-2])
                self._task = self._loop.create_task(self._pour(b"X-More: x\r\n" * 100))
            case _:
                pass  # hang

    async def _drip(self, data: bytes, delay_s: float) -> None:
        for at in range(len(data)):
            self._send(data[at : at + 1])
            await asyncio.sleep(delay_s)

    async def _pour(self, data: bytes) -> None:
        while self._transport is not None:
            if self._transport.get_write_buffer_size() < MAX_BUFFER_BYTES:
                self._send(data)
            await asyncio.sleep(0)

    # --- the stream -------------------------------------------------------------------------------

    def _play(self) -> None:
        fault = self._server.fault
        if fault is not None and fault.kind == "cached":
            for number, parts in self._server.last_group():
                self._send_picture(number, parts, None)
        self._playing = True
        if fault is not None and fault.kind == "flood":
            packet = self._packet(0, secrets.token_bytes(1_200), marker=False)
            self._task = self._loop.create_task(self._pour(self._framed(0, packet) * 50))

    def send_picture(self, number: int, parts: list[bytes]) -> None:
        """Send a picture to this viewer, as the fault says."""
        fault = self._server.fault
        if not self._playing:
            return
        if fault is None or fault.at != "STREAM":
            self._send_picture(number, parts, None)
        elif fault.kind in {"hang", "flood"} or (fault.kind == "udp-silent" and self._udp):
            pass
        elif fault.kind in {"close", "reset", "cut"}:
            if fault.kind == "cut":
                self._send(b"$\x00\x04\xb0" + bytes(600))
            (self._reset if fault.kind == "reset" else self._close)()
        elif fault.kind == "drip":
            if self._task is None or self._task.done():
                packet = self._framed(0, self._packet(number, parts[0], marker=False))
                self._task = self._loop.create_task(self._drip(packet, fault.delay_ms / 1000))
        else:
            self._send_picture(number, parts, fault)

    def _send_picture(self, number: int, parts: list[bytes], fault: RtspFault | None) -> None:
        kind = fault.kind if fault is not None else ""
        if kind == "endless":
            number, parts = 1, [parts[0][:2] + secrets.token_bytes(1_198)] * ENDLESS_PARTS
        elif kind == "garbage":
            parts = [part[:1] + secrets.token_bytes(len(part)) for part in parts]
        for at, part in enumerate(parts):
            last = at == len(parts) - 1 and kind != "endless"
            packet = self._packet(number, part, marker=last)
            self._sent += 1
            if kind == "noise":
                packet = secrets.token_bytes(len(packet))
            elif fault is not None and kind == "lossy" and self._sent % fault.every == 0:
                continue
            elif kind == "disorder" and self._sent % 2:
                self._held.append(packet)
                continue
            self._deliver(0, packet)
            for late in self._held:
                self._deliver(0, late)
            self._held.clear()
        self._report()

    def _report(self) -> None:
        now_s = self._loop.time()
        if self._server.camera.reports and now_s - self._reported_s >= 0.5:
            self._reported_s = now_s
            self._deliver(1, self._server.report(self._ssrc))

    def _packet(self, number: int, payload: bytes, *, marker: bool) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        return (
            bytes([0x80, self._server.payload_type | (0x80 if marker else 0)])
            + self._sequence.to_bytes(2, "big")
            + self._server.timestamp(number).to_bytes(4, "big")
            + self._ssrc.to_bytes(4, "big")
            + payload
        )

    def _deliver(self, channel: int, packet: bytes) -> None:
        if self._udp is not None:
            self._udp.send(channel, packet)
        else:
            self._send(self._framed(channel, packet))

    def _framed(self, channel: int, packet: bytes) -> bytes:
        return bytes([0x24, self._channel + channel]) + len(packet).to_bytes(2, "big") + packet

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
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


def _parse(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, url, _ = (*first.split(" "), "", "")[:3]
    pairs = (line.partition(":") for line in lines)
    return Asked(method, url, {name.lower(): value.strip() for name, _, value in pairs})


def _head(status: int, headers: str) -> bytes:
    return f"RTSP/1.0 {status} {REASONS.get(status, 'Status')}\r\n{headers}\r\n".encode()


def _challenges(server: SimulatedRtsp) -> list[str]:
    lines = []
    for name in server.camera.auth:
        line = f'{name.partition("-")[0].title()} realm="{REALM}"'
        if name != "basic":
            line += f', nonce="{server.nonce}"'
        if name == "digest-sha256":
            line += ', algorithm=SHA-256, qop="auth"'
        lines.append(f"WWW-Authenticate: {line}\r\n")
    return lines


def _may(asked: Asked, server: SimulatedRtsp) -> bool:
    """Say whether a request carries the right credentials, in a way that was offered."""
    camera = server.camera
    scheme, _, value = asked.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic" and "basic" in camera.auth:
        wanted = b64encode(f"{camera.user}:{camera.password}".encode()).decode()
        return secrets.compare_digest(value.strip(), wanted)
    if scheme.lower() != "digest":
        return False
    got = parse_header_pairs(value)
    strong = got.get("algorithm") == "SHA-256"
    if got.get("nonce") != server.nonce or got.get("uri") != asked.url:
        return False
    if ("digest-sha256" if strong else "digest") not in camera.auth:
        return False
    digest = hashlib.sha256 if strong else hashlib.md5

    def h(text: str) -> str:
        return digest(text.encode()).hexdigest()

    secret = h(f"{camera.user}:{REALM}:{camera.password}")
    parts = [secret, server.nonce]
    if "qop" in got:
        parts += [got.get("nc", ""), got.get("cnonce", ""), got["qop"]]
    parts.append(h(f"{asked.method}:{asked.url}"))
    return secrets.compare_digest(got.get("response", ""), h(":".join(parts)))
