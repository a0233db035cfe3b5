"""One RTSP connection: checked when it is made, bounded while it lasts, gone when it is closed.

aiortsp's :class:`RTSPConnection` does the protocol (requests, answers, their numbers). What differs
here, and why:

* The address is resolved and judged by the policy here, and the socket that was judged is the one
  that is used. Nothing in an SDP or a header is ever connected to.
* Its parser takes an answer of which one byte has come for a request, copies a chunk once for each
  packet in it, and keeps a head without an end for ever: :class:`Framer` does not.
* Whatever cannot be read ends the connection as ``bad_answer``; aiortsp prints a traceback.
* A closed connection fails the request at once; aiortsp waits for its timeout.
* Closing never waits: see :meth:`RtspConnection.finish`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from aiortsp.rtsp.connection import RTSPConnection
from aiortsp.rtsp.errors import RTSPError, RTSPResponseError
from aiortsp.rtsp.parser import RTSPParser, RTSPRequest, RTSPResponse

from connectors.cameras import rtsp_login
from connectors.cameras.certificate import fingerprint
from connectors.cameras.frame import clean, describe
from schemas.errors import CameraError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aiortsp.rtsp.auth import Auth

    from connectors.cameras.credentials import Credentials
    from connectors.cameras.policy import AddressPolicy, Target

QUIET: Final = logging.getLogger("aiortsp.quiet")
QUIET.disabled = True
NEVER_S: Final = 86_400
"""aiortsp's own timeouts: the deadline around everything is the only clock."""
UNBOUNDED: Final = 1 << 62
"""aiortsp's own bound on an answer, which is checked here before it."""
LINGER_S: Final = 0.2
"""How long a closed connection may still try to send what it has, its TEARDOWN."""
MAX_BYTES_PER_S: Final = 64 * 1024 * 1024
"""More than any camera sends; who does is cut off."""
RETRY_STATUSES: Final = frozenset({408, 453, 454, 500, 502, 503, 504})
"""RTSP statuses after which the same request may work a moment later."""


class Interleaved(NamedTuple):
    """A packet of a stream, between the answers (RFC 2326, 10.12)."""

    channel: int
    data: bytes
    type: str = "binary"


class TooLongError(Exception):
    """An answer announces more than is taken."""


class Framer(RTSPParser):  # type: ignore[misc]  # aiortsp has no types
    """Cuts what comes into messages; see the module's text."""

    pending_msg: Any
    _prev_data: bytes

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._open_bytes = 0

    def parse(self, data: bytes) -> Iterator[Any]:
        """Yield the messages (RTSPResponse, RTSPRequest, Interleaved) that are complete.

        Raises TooLongError, ValueError, and what aiortsp raises.
        """
        data, self._prev_data = self._prev_data + data, b""
        at = 0
        while at < len(data):
            if self.pending_msg is None:
                if data[at] in b"\r\n":
                    at += 1
                    continue
                if data[at] == 0x24:  # $
                    end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
                    if len(data) < at + 4 or len(data) < end:
                        break
                    yield Interleaved(data[at + 1], data[at + 4 : end])
                    at = end
                    continue
                if not self._begin(data[at : at + 16]):
                    break
            left, pending = len(data) - at, cast("RTSPResponse", self.pending_msg)
            rest, done = pending.feed(data[at:])
            self._open_bytes += left - len(rest)
            at = len(data) - len(rest)
            if pending.content_length > self._max_bytes:
                raise TooLongError
            if done:
                self.pending_msg, self._open_bytes = None, 0
                yield pending
            elif self._open_bytes > self._max_bytes:
                raise ValueError("an answer is too long")
        self._prev_data = data[at:]

    def _begin(self, start: bytes) -> bool:
        """Begin a message by its first bytes; False: they are too few."""
        if start.startswith(b"RTSP/"):
            self.pending_msg = RTSPResponse(UNBOUNDED)
        elif start.startswith(RTSPRequest.CLIENT_REQUESTS):
            self.pending_msg = RTSPRequest(UNBOUNDED)
        elif any(word.startswith(start) for word in (b"RTSP/", *RTSPRequest.CLIENT_REQUESTS)):
            return False
        else:
            raise ValueError("no RTSP")
        return True


class RtspConnection(RTSPConnection):  # type: ignore[misc]  # aiortsp has no types
    """A connection to one camera. ``who`` names it in messages."""

    _auth: Auth | None
    _transport: Any

    def __init__(
        self, who: str, target: Target, credentials: Credentials | None, *, max_answer_bytes: int
    ) -> None:
        super().__init__(target.url.host, target.port, logger=QUIET, timeout=NEVER_S)
        self.who = who
        self.credentials = credentials
        self.failure: CameraError | None = None
        self.certificate_sha256 = ""
        """Of the certificate that the camera showed; empty: without TLS."""
        self.closed = asyncio.Event()
        """Set when the socket is closed."""
        self.closed.set()
        self.on_failure: Callable[[], None] = lambda: None
        self.on_data: Callable[[int, bytes], None] = lambda _channel, _data: None
        """Takes interleaved packets: channel, packet."""
        self.parser = Framer(max_answer_bytes)
        self._loop = asyncio.get_running_loop()
        self._second = (0, 0)

    # --- a request --------------------------------------------------------------------------------

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> RTSPResponse:
        """Send a request; return its answer if that is 2xx.

        Raises CameraError: ``auth``, ``redirects``, ``rtsp_<status>``, ``bad_answer``,
        ``disconnected``.
        """
        if not self.running:
            raise self.failure or self._disconnected()
        try:
            return await self.send_request(method, url, dict(headers or {}))
        except RTSPResponseError as error:
            status = error.response.status if error.response is not None else 0
            raise self._status_error(method, status) from None
        except RTSPError:
            raise self.failure or self._disconnected() from None

    def _status_error(self, method: str, status: int) -> CameraError:
        if status in {401, 403, 407}:
            why = "check what its credentials name"
            if self.credentials is None:
                why = "the profile names no credentials"
            text = f"{self.who} refused access ({method}: RTSP {status}): {why}"
            return CameraError("auth", text, retry=False)
        if 300 <= status < 400:
            text = f"{self.who} redirected us (RTSP {status}), which is not followed over RTSP"
            return CameraError("redirects", text, retry=False)
        return CameraError(
            f"rtsp_{status}",
            f"{self.who} answered {method} with RTSP {status}",
            retry=status in RETRY_STATUSES,
        )

    def handle_401(self, resp: RTSPResponse) -> bool:
        """Say whether a challenge may be answered; called by aiortsp, which then asks again."""
        if self.credentials is None:
            return False
        if self._auth is None:
            self._auth = rtsp_login.choose(self.credentials, resp.headers or {})
        return self._auth is not None and bool(self._auth.handle_401(resp.headers))

    # --- what comes -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        super().connection_made(transport)
        self.certificate_sha256 = fingerprint(transport)
        self.closed.clear()

    def data_received(self, data: bytes) -> None:
        """Hand on what came; end the connection where it is no RTSP."""
        if self.failure is not None or not self._in_bounds(len(data)):
            return
        try:
            for message in self.parser.parse(data):
                if message.type == "binary":
                    self.on_data(message.channel, message.data)
                elif message.type == "response":
                    if message.status < 200:
                        continue  # 100 Continue: the answer is still to come
                    waiting = self.active_requests.get(message.cseq)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
                else:
                    self.send_response(message, 551, "Option not supported")
        except TooLongError:
            text = f"{self.who} announces an answer longer than the camera settings allow"
            self.fail(CameraError("too_large", text, retry=False))
        except (ValueError, AssertionError, RTSPError):
            text = f"{self.who} did not answer with RTSP: {describe(data)}"
            self.fail(CameraError("bad_answer", text))

    def _in_bounds(self, count: int) -> bool:
        second = int(self._loop.time())
        total = count + (self._second[1] if self._second[0] == second else 0)
        self._second = second, total
        if total > MAX_BYTES_PER_S:
            text = f"{self.who} sends more than {MAX_BYTES_PER_S} bytes a second"
            self.fail(CameraError("too_large", text, retry=False))
        return total <= MAX_BYTES_PER_S

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Fail what waits."""
        self._transport = None
        self.closed.set()
        self.fail(self._disconnected())

    def fail(self, error: CameraError) -> None:
        """End the connection with an error; the first one counts."""
        if self.failure is not None:
            return
        self.failure = error
        for waiting in self.active_requests.values():
            if not waiting.done():
                waiting.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        self.on_failure()

    def _disconnected(self) -> CameraError:
        return CameraError("disconnected", f"{self.who} closed the connection")

    # --- the end ----------------------------------------------------------------------------------

    def finish(self, session_id: str = "", url: str = "") -> None:
        """Close, with a TEARDOWN that nobody waits for; what cannot be sent is dropped soon.

        A peer that is stopped would hold up an orderly end for as long as it likes.
        """
        transport: Any = self._transport
        if transport is None or self.failure is not None:
            return
        self.failure = CameraError("disconnected", "the connection was closed by us")
        if session_id:
            headers = {"Session": session_id}
            if self._auth is not None:
                self._auth.make_auth("TEARDOWN", url, headers)
            self.send_message(f"TEARDOWN {url} RTSP/1.0", self._next_seq(), headers)
        transport.close()
        self._loop.call_later(LINGER_S, transport.abort)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def local_ip(self) -> str:
        """Our address on this connection."""
        return str(self._transport.get_extra_info("sockname")[0])

    @property
    def peer_ip(self) -> str:
        """The camera's address."""
        return str(self._transport.get_extra_info("peername")[0])


async def connect(
    connection: RtspConnection,
    target: Target,
    policy: AddressPolicy,
    tls: ssl.SSLContext | None,
) -> None:
    """Connect to the first of the target's permitted addresses that takes us.

    Raises CameraError ``address_not_allowed``, ``unreachable``, ``refused`` or ``tls``.
    """
    loop = asyncio.get_running_loop()
    host = str(target.url.host)
    try:
        found = await loop.getaddrinfo(host, target.port, type=socket.SOCK_STREAM)
    except OSError:
        text = f"{connection.who}: its host name cannot be resolved"
        raise CameraError("unreachable", text) from None
    permitted = [info for info in found if policy.permits(str(info[4][0]))]
    if not permitted:
        policy.check_ip(str(found[0][4][0]))
    sock = await _connected(connection.who, permitted)
    name = host if tls is not None else None
    try:
        await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
    except OSError as error:  # ssl.SSLError is one
        sock.close()
        text = f"{connection.who}: its TLS is not accepted: {clean(str(error))}"
        raise CameraError("tls", text, retry=False) from None
    except BaseException:
        sock.close()
        raise


async def _connected(who: str, infos: Sequence[Any]) -> socket.socket:
    """Return a socket that is connected to the first of the addresses that takes us."""
    loop = asyncio.get_running_loop()
    failed = CameraError("unreachable", f"{who}: its host name has no address")
    for family, kind, proto, _, address in infos:
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = _explain(who, error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed


def _explain(who: str, error: OSError) -> CameraError:
    if isinstance(error, ConnectionRefusedError):
        return CameraError("refused", f"{who}: nothing listens there (connection refused)")
    reason = clean(error.strerror or "no connection")
    return CameraError("unreachable", f"{who} cannot be reached: {reason}")
