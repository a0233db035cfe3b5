"""One playing RTSP stream: how it is begun, waited on, kept alive and ended.

    connect → DESCRIBE → SETUP (the transports in turn) → PLAY → pictures …  → finish

OPTIONS is not asked: it would be one more round trip, and who leaves out ``Public`` in its answer
plays all the same. PLAY names no Range, which means now: at ``npt=0-``, which FFmpeg sends, a
GStreamer server seeks, and the stream begins anew for all who watch it. A transport that is
answered 461 is followed by the next one on the same connection. The deadline is the caller's;
:meth:`Session.finish` waits for nothing.

A key frame that has not come is asked for by RTCP (picture loss indication, RFC 4585) once a
second: who understands it sends one at once, others ignore it.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.cameras import rtsp_connection
from connectors.cameras.rtp_clock import picture_loss, receiver_report
from connectors.cameras.rtp_gop import Stream
from connectors.cameras.rtsp_sdp import read_sdp
from connectors.cameras.rtsp_udp import UdpPair
from schemas.errors import CameraError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aiortsp.rtsp.parser import RTSPResponse

    from connectors.cameras.policy import AddressPolicy, Target
    from connectors.cameras.rtp_clock import Shutter
    from connectors.cameras.rtp_gop import Choice
    from connectors.cameras.rtsp_connection import RtspConnection
    from connectors.cameras.rtsp_sdp import Video
    from connectors.cameras.rtsp_settings import RtspSettings

UNSUPPORTED_TRANSPORT: Final = "rtsp_461"
QUIET_S: Final = 0.04
"""A stream that begins with pictures from its store sends them at once. After this long without a
packet, or when pictures come at the pace of their timestamps, the newest one is of now."""
KEY_REQUEST_S: Final = 1.0
RECENT_S: Final = 1.0
DEFAULT_TIMEOUT_S: Final = 60.0
"""How long a server keeps a session that it hears nothing of (RFC 2326, 12.37)."""


class SilentError(Exception):
    """No packet comes."""


@dataclass(slots=True)
class Progress:
    """How far a capture came, for the message of a timeout."""

    step: str = "looking its name up"
    session: Session | None = None

    def text(self) -> str:
        """Say it in words."""
        if self.session is None:
            return f"it was {self.step}"
        stream = self.session.stream
        if not stream.packets:
            return f"it plays, but no packet came over {self.session.transport.upper()}"
        if not stream.gop.units:
            lost = f", pictures were lost ({stream.last_lost})" if stream.lost else ""
            return f"{stream.packets} packets came, but no key frame{lost}"
        return "no picture came that was taken after the shutter opened"


@dataclass(slots=True)
class Opening:
    """What is needed to begin a stream."""

    target: Target
    policy: AddressPolicy
    tls: ssl.SSLContext | None
    settings: RtspSettings
    transports: list[str]
    """In the order to try."""
    refused: set[str] = field(default_factory=set)
    """What was answered 461."""
    progress: Progress = field(default_factory=Progress)


async def describe(connection: RtspConnection, opening: Opening) -> RTSPResponse:
    """Connect, and ask what there is."""
    opening.progress.step = "connecting"
    await rtsp_connection.connect(connection, opening.target, opening.policy, opening.tls)
    opening.progress.step = "waiting for its answer to DESCRIBE"
    url = str(opening.target.url)
    return await connection.ask("DESCRIBE", url, {"Accept": "application/sdp"})


async def open_session(connection: RtspConnection, opening: Opening) -> Session:
    """Begin to play; ends the connection where that fails. Raises CameraError."""
    session: Session | None = None
    try:
        answer = await describe(connection, opening)
        base = _header(answer, "content-base") or _header(answer, "content-location")
        url = base if base.startswith(("rtsp://", "rtsps://")) else str(opening.target.url)
        try:
            video = read_sdp(answer.data, url)
        except CameraError as error:
            text = f"{connection.who}: {error}"
            raise CameraError(error.cause, text, retry=error.retry) from None
        session = Session(connection, url, opening.settings)
        await session.set_up(video, opening)
        opening.progress.step = "waiting for its answer to PLAY"
        await session.ask("PLAY")
        opening.progress.session = session
    except BaseException:
        if session is not None:
            session.finish()
        connection.finish()
        raise
    return session


class Session:
    """A stream that plays."""

    stream: Stream

    def __init__(self, connection: RtspConnection, url: str, settings: RtspSettings) -> None:
        self._connection = connection
        self._url = url
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._udp: UdpPair | None = None
        self._channels = (0, 1)
        self._news = asyncio.Event()
        self._ssrc = secrets.randbits(32)
        self._key_asked_s = 0.0
        self._parameters = True
        self.session_id = ""
        self.transport = ""
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.heard_s = self._loop.time()
        """When we last said something."""
        self.on_finish: Callable[[], None] = lambda: None
        self._finished = False
        connection.on_failure = self._wake

    @property
    def certificate_sha256(self) -> str:
        """Fingerprint of the certificate that the camera showed; empty: without TLS."""
        return self._connection.certificate_sha256

    @property
    def failure(self) -> CameraError | None:
        """Why it ended, if it did."""
        return self._connection.failure

    @property
    def waits_for_key(self) -> bool:
        """Packets come, and nothing is missing but a key frame."""
        last_s = self.stream.last_at_s
        recent = last_s is not None and self._loop.time() - last_s < RECENT_S
        return self.failure is None and recent and self.stream.wants_key

    async def ask(self, method: str) -> RTSPResponse:
        """Send a request about the session."""
        self.heard_s = self._loop.time()
        return await self._connection.ask(method, self._url, {"Session": self.session_id})

    # --- SETUP ------------------------------------------------------------------------------------

    async def set_up(self, video: Video, opening: Opening) -> None:
        """Agree on a transport; raises CameraError ``no_transport`` if none is taken."""
        for name in opening.transports:
            if name in opening.refused:
                continue
            opening.progress.step = f"waiting for its answer to SETUP ({name.upper()})"
            self.transport = name
            self.stream = Stream(
                video,
                udp=name == "udp",
                max_bytes=self._settings.max_gop_bytes,
                latency_s=self._settings.latency_ms / 1000,
            )
            try:
                if await (self._set_up_udp if name == "udp" else self._set_up_tcp)(video.control):
                    return
            except CameraError as error:
                if error.cause != UNSUPPORTED_TRANSPORT:
                    raise
            opening.refused.add(name)
            self._close_udp()
        tried = " and ".join(name.upper() for name in opening.transports)
        raise CameraError("no_transport", f"{self._connection.who} takes neither of: {tried}")

    async def _set_up_tcp(self, control: str) -> bool:
        self._connection.on_data = self._on_channel
        answer = await self._connection.ask(
            "SETUP", control, {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        )
        self._learn_session(answer)
        fields = transport_fields(_header(answer, "transport"))
        if "interleaved" in fields:
            self._channels = _pair(fields["interleaved"], self._channels)
        elif "server_port" in fields or "rtp/avp/tcp" not in fields:
            return False  # it answered with another transport than was asked for
        return True

    async def _set_up_udp(self, control: str) -> bool:
        self._udp = udp = UdpPair(self._connection.peer_ip, self._on_packet)
        await udp.open(self._connection.local_ip)
        ports = f"{udp.ports[0]}-{udp.ports[1]}"
        answer = await self._connection.ask(
            "SETUP", control, {"Transport": f"RTP/AVP;unicast;client_port={ports}"}
        )
        self._learn_session(answer)
        fields = transport_fields(_header(answer, "transport"))
        if "interleaved" in fields or "multicast" in fields:
            return False
        udp.aim(_pair(fields.get("server_port", ""), (0, 0)))
        for channel in range(2):  # opens the way through a firewall between us
            udp.send(channel, receiver_report(self._ssrc))
        return True

    def _learn_session(self, answer: RTSPResponse) -> None:
        name, *options = _header(answer, "session").split(";")
        self.session_id = name.strip()
        if not self.session_id:
            text = f"{self._connection.who} answered SETUP without a session"
            raise CameraError("bad_answer", text)
        for option in options:
            key, _, value = option.partition("=")
            if key.strip().lower() == "timeout" and value.strip().isdigit():
                self.timeout_s = max(1.0, float(value))

    # --- pictures ---------------------------------------------------------------------------------

    def _on_channel(self, channel: int, data: bytes) -> None:
        if channel in self._channels:
            self._on_packet(self._channels.index(channel), data)

    def _on_packet(self, channel: int, data: bytes) -> None:
        """Take a packet: channel 0 is RTP, 1 is RTCP."""
        now_s = self._loop.time()
        stream = self.stream
        if not (stream.receive_rtcp(data) if channel else stream.receive_rtp(data, now_s)):
            return
        if self.stream.wants_key and now_s - self._key_asked_s >= KEY_REQUEST_S:
            self._key_asked_s = now_s
            self._send_rtcp(picture_loss(self._ssrc, self.stream.ssrc or 0))
        self._wake()

    def _send_rtcp(self, data: bytes) -> None:
        if self._udp is not None:
            self._udp.send(1, data)
        elif self._connection.running:
            self._connection.send_binary(self._channels[1], data)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def next_picture(self, shutter: Shutter, *, silence_s: float | None) -> Choice:
        """Wait for the first picture that was taken after the shutter.

        Raises CameraError when the connection ends, SilentError after ``silence_s`` without a
        packet. Waits without end otherwise: the deadline is the caller's.
        """
        began_s = self._loop.time()
        while True:
            news = self._news
            if self.failure is not None:
                raise self.failure
            stream, now_s = self.stream, self._loop.time()
            choice = stream.choose(shutter)
            quiet_s = now_s - (stream.last_at_s or now_s)
            if choice is not None and (stream.clock.settled or quiet_s >= QUIET_S):
                return choice
            wait_s = None if choice is None else QUIET_S - quiet_s
            if choice is None and silence_s is not None:
                wait_s = max(began_s, stream.last_at_s or began_s) + silence_s - now_s
                if wait_s <= 0:
                    raise SilentError
            try:
                async with asyncio.timeout(wait_s):
                    await news.wait()
            except TimeoutError:
                continue

    # --- alive, and ended -------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Tell the camera that we are still there. Raises CameraError."""
        self._send_rtcp(receiver_report(self._ssrc))
        try:
            await self.ask("GET_PARAMETER" if self._parameters else "OPTIONS")
        except CameraError as error:
            if not self._parameters or not error.cause.startswith("rtsp_"):
                raise
            self._parameters = False
            await self.ask("OPTIONS")

    def finish(self) -> None:
        """End it: TEARDOWN is sent, nobody waits for its answer."""
        if self._finished:
            return
        self._finished = True
        self._close_udp()
        self._connection.finish(self.session_id, self._url)
        self._wake()
        self.on_finish()

    def _close_udp(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None


def transport_fields(text: str) -> dict[str, str]:
    """Return the parameters of a Transport header by name in lower case."""
    parts = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in parts}


def _pair(text: str, default: tuple[int, int]) -> tuple[int, int]:
    """Read ``4-5`` or ``4``."""
    first, _, second = text.partition("-")
    if not first.isdigit() or (second and not second.isdigit()):
        return default
    low = int(first)
    high = int(second) if second else low + 1
    return (low, high) if max(low, high) < 65_536 else default


def _header(answer: RTSPResponse, name: str) -> str:
    """Return a header's value, the first where it comes more than once."""
    found = (answer.headers or {}).get(name, "")
    return str(found[0] if isinstance(found, list) else found)
