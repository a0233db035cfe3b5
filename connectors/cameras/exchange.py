"""One HTTP request to a device: bounded, checked, authenticated, and over at its deadline.

What the adapters that speak HTTP share, ONVIF's SOAP included. Every hop of a redirect is checked
like the first address, and credentials go to the origin of the profile's address only. The body is
read to its end inside the deadline, because a camera that never completes its answer is the common
way of hanging. A request is sent once: aiohttp would send a GET again by itself after a lost
connection, which could open a shutter twice, so that is switched off.

Cost: see infra/adr/0006-cameras-and-blobs.md.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from connectors.cameras.certificate import fingerprint
from connectors.cameras.frame import clean
from connectors.cameras.login import Logins
from connectors.cameras.readers import Reader, name_of, read_bounded
from connectors.cameras.ways import Memory
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from connectors.cameras.base import CameraSettings
    from connectors.cameras.credentials import CredentialProvider, Credentials
    from connectors.cameras.login import Login
    from connectors.cameras.policy import AddressPolicy, Target
    from schemas.records import DeviceProfile

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may work a moment later."""
NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None)
"""The deadline around the whole request is the only clock; aiohttp starts none of its own."""
MAX_HEADLESS: Final = 65_536
"""Devices of which it is remembered that they know no HEAD; about 200 bytes each."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end, or as far as its reader wanted."""

    status: int
    body: bytes
    url: URL
    """Where it came from, after redirects."""
    headers: Mapping[str, str]
    """Names in any case."""
    certificate_sha256: str = ""
    """Of the certificate that it came with; empty: without TLS."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent, and how the answer is taken."""

    method: str
    headers: Mapping[str, str]
    max_bytes: int
    body: bytes | None
    login: bool
    read: Reader


@dataclass(slots=True)
class _Progress:
    """How far a request came, for the message of a timeout."""

    step: str = "connecting"
    response: aiohttp.ClientResponse | None = None

    def text(self) -> str:
        if self.response is None:
            return "no answer"
        return f"the answer stopped after {self.response.content.total_bytes} bytes"


_CERTIFICATE: ContextVar[str] = ContextVar("certificate", default="")
"""Of the connection that the last request of this task went by."""


class _Connector(aiohttp.TCPConnector):
    """Notes with which certificate a request's connection was made.

    An answer cannot be asked: a short one has given its connection back before it is looked at.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it is aiohttp's
    ) -> Connection:
        """See aiohttp."""
        connection = await super().connect(req, traces, timeout)
        _CERTIFICATE.set(fingerprint(connection.transport))
        return connection


class CheckingResolver(AbstractResolver):
    """Resolves names and keeps only what the policy permits.

    The addresses it returns are the ones that are connected, so there is no second look-up in
    between that could answer otherwise.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the permitted addresses of ``host``; raise if there is none."""
        found = await self._resolver.resolve(host, port, family)
        permitted = [result for result in found if self._policy.permits(result["host"])]
        if not permitted and found:
            self._policy.check_ip(found[0]["host"])
        return permitted

    async def close(self) -> None:
        """Close the resolver beneath."""
        await self._resolver.close()


class HttpExchange:
    """The shared HTTP client of the adapters."""

    def __init__(
        self, settings: CameraSettings, policy: AddressPolicy, credentials: CredentialProvider
    ) -> None:
        self.settings = settings
        self.policy = policy
        self._logins = Logins(credentials)
        self._session: aiohttp.ClientSession | None = None
        self.headless: Memory[bool] = Memory(MAX_HEADLESS)
        """Devices that close the connection at a HEAD request (motion does): asked once."""
        self._closed = False
        self._key = functools.lru_cache(maxsize=65_536)(self._pool_key)

    async def get(
        self,
        profile: DeviceProfile,
        url: str,
        *,
        headers: Mapping[str, str],
        max_bytes: int,
        deadline_s: float,
        method: str = "GET",
        body: bytes | None = None,
        login: bool = True,
        read: Reader | None = None,
    ) -> Answer:
        """Send one request and read its answer; follow redirects and answer one challenge.

        Without ``login`` no credentials are looked up or sent, and a refusal is an answer like
        any other. A request with a ``body`` follows a redirect on its own host only: the body may
        hold what proves who we are.

        Raises CameraError for everything but the status, which is the caller's business except
        for 401, 403 and 407 with ``login`` (``auth``).
        """
        request = _Request(method, headers, max_bytes, body, login, read or read_bounded)
        progress = _Progress()
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._follow(profile, url, request, progress)
        except TimeoutError:
            raise CameraError(
                "timeout",
                f"{name_of(profile)} did not finish before the deadline: {progress.text()}",
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise explain(profile, error) from error

    def is_connected(self, address: str) -> bool:
        """Say whether an idle connection to an address's origin is at hand; does no I/O, 2 µs."""
        session = self._session
        connector = session.connector if session is not None else None
        try:
            key = self._key(address)
        except CameraError:
            return True  # it cannot be used, which the capture will say
        # No public question: a contract test sees that the key and the pool are what they were.
        idle = () if connector is None else connector._conns.get(key, ())  # noqa: SLF001
        return any(protocol.is_connected() for protocol, _ in idle)

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Have an idle connection to the profile's origin in the pool; raises CameraError."""
        try:
            async with asyncio.timeout_at(deadline_s):
                session = self._session or self._open()
                connector = session.connector
                if connector is None:
                    raise CameraError("unreachable", "the camera client is closed", retry=False)
                connection = await connector.connect(self._request(profile.address), [], NO_TIMEOUT)
                connection.release()
        except TimeoutError:
            raise CameraError("timeout", f"{name_of(profile)} did not accept in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise explain(profile, error) from error

    def _request(self, address: str) -> aiohttp.ClientRequest:
        """Return a request that stands for the origin; it is never sent."""
        loop = asyncio.get_running_loop()
        return aiohttp.ClientRequest("GET", self.policy.target(address).url, loop=loop)

    def _pool_key(self, address: str) -> ConnectionKey:
        return self._request(address).connection_key

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _follow(
        self, profile: DeviceProfile, url: str, request: _Request, progress: _Progress
    ) -> Answer:
        # What is asked for once (a command's id in it, a picture's name) is not worth keeping.
        judge = self.policy.target if url == profile.address else self.policy.look
        target = judge(url)
        fenced = request.login and profile.credentials_ref
        home = self.policy.target(profile.address).url.origin() if fenced else None
        for _ in range(self.settings.max_redirects + 1):
            at_home = home is not None and target.url.origin() == home
            if at_home:
                self.check_refused(profile)
            login = self._logins.get(profile) if at_home else None
            response = await self._send(target, request, login)
            progress.response = response
            try:
                if response.status == 401 and login is not None and login.answer(response.headers):
                    response.release()
                    response = await self._send(target, request, login)
                    progress.response = response
                if response.status not in REDIRECTS:
                    if request.login:
                        self._check_login(profile, response, login)
                    body = await request.read(profile, response, request.max_bytes)
                    return Answer(
                        response.status, body, response.url, response.headers, _CERTIFICATE.get()
                    )
                target = self._next(profile, response, request)
            finally:
                response.release()
        raise CameraError(
            "redirects",
            f"{name_of(profile)} redirected more than {self.settings.max_redirects} times",
            retry=False,
        )

    async def _send(
        self, target: Target, request: _Request, login: Login | None
    ) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        if login is None:
            return await session.request(
                request.method,
                target.url,
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
            )
        return await session.request(
            request.method,
            target.url,
            headers={**request.headers, **login.headers},
            data=request.body,
            allow_redirects=False,
            middlewares=login.middlewares,
        )

    def credentials_of(self, profile: DeviceProfile) -> Credentials:
        """Return a device's credentials; raises CameraError ``auth`` if there are none."""
        return self._logins.credentials(profile)

    def check_refused(self, profile: DeviceProfile) -> None:
        """Raise CameraError ``auth`` if the device refused the same credentials a moment ago."""
        self._logins.check_refused(profile, asyncio.get_running_loop().time())

    def refuse(self, profile: DeviceProfile) -> None:
        """Note that the device refused the profile's credentials: they rest for a while."""
        self._logins.refuse(profile, asyncio.get_running_loop().time())

    def knows_login(self, profile: DeviceProfile) -> bool:
        """Say whether the device was asked what login it wants, or is to get none."""
        return not profile.credentials_ref or self._logins.knows(profile)

    def _check_login(
        self, profile: DeviceProfile, response: aiohttp.ClientResponse, login: Login | None
    ) -> None:
        if response.status not in {401, 403, 407}:
            return
        if login is not None:
            self.refuse(profile)
        if not profile.credentials_ref:
            why = "the profile names no credentials"
        elif login is None:
            why = "credentials are sent to the profile's own address only"
        else:
            why = f"check what {clean(profile.credentials_ref)} names"
        raise CameraError(
            "auth",
            f"{name_of(profile)} refused access with HTTP {response.status}: {why}",
            retry=False,
        )

    def _next(
        self, profile: DeviceProfile, response: aiohttp.ClientResponse, request: _Request
    ) -> Target:
        location = response.headers.get("Location", "")
        if not location:
            raise CameraError("bad_answer", f"{name_of(profile)} redirected to nowhere")
        target = self.policy.target(str(response.url.join(URL(location))))
        if request.body is not None and target.url.host != response.url.host:
            raise CameraError(
                "redirects",
                f"{name_of(profile)} redirected a request with a body to {target.place}",
                retry=False,
            )
        return target

    def _open(self) -> aiohttp.ClientSession:
        """Make the session at the first use: it belongs to the running event loop."""
        if self._closed:
            raise CameraError("unreachable", "the camera client is closed", retry=False)
        connector = _Connector(
            limit=self.settings.max_connections,
            keepalive_timeout=self.settings.keepalive_ms / 1000,
            ttl_dns_cache=self.settings.name_ttl_ms // 1000,
            resolver=CheckingResolver(self.policy),
            socket_factory=self._socket,
            happy_eyeballs_delay=None,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=NO_TIMEOUT,
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            requote_redirect_url=False,
            headers={"Accept": "*/*"},
        )
        # No public option: aiohttp sends an idempotent request again after a lost connection.
        # A contract test counts the requests that a camera sees.
        session._retry_connection = False  # noqa: SLF001
        self._session = session
        return session

    def _socket(
        self, info: tuple[socket.AddressFamily | int, socket.SocketKind | int, int, str, object]
    ) -> socket.socket:
        """Make the socket for one address; the last place where an address can be refused."""
        family, kind, proto, _, address = info
        if isinstance(address, tuple):
            self.policy.check_ip(str(address[0]))
        return socket.socket(family, kind, proto)


def status_error(profile: DeviceProfile, status: int) -> CameraError:
    """Return the error of an answer whose status is not 200."""
    return CameraError(
        f"http_{status}",
        f"{name_of(profile)} answered with HTTP {status}",
        retry=status in RETRY_STATUSES,
    )


def explain(profile: DeviceProfile, error: Exception) -> CameraError:
    """Turn an error of aiohttp or the operating system into one a person can act on."""
    who = name_of(profile)
    if isinstance(error, aiohttp.ClientSSLError):
        return CameraError(
            "tls", f"{who}: its TLS is not accepted: {clean(str(error))}", retry=False
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return CameraError("unreachable", f"{who}: its host name cannot be resolved")
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno == errno.ECONNREFUSED:
            return CameraError("refused", f"{who}: nothing listens there (connection refused)")
        reason = error.os_error.strerror or "no connection"
        return CameraError("unreachable", f"{who} cannot be reached: {clean(reason)}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return CameraError("truncated", f"{who} closed the connection in the middle of its answer")
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        return CameraError("disconnected", f"{who} closed the connection without an answer")
    if isinstance(error, (aiohttp.InvalidURL, ValueError)):
        return CameraError("bad_address", f"{who}: its address cannot be used", retry=False)
    if isinstance(error, aiohttp.ClientError):
        # str(error) would show the whole URL, and a query may hold a secret.
        text = error.message if isinstance(error, aiohttp.ClientResponseError) else ""
        message = f"{who} did not answer with HTTP: {clean(text) or type(error).__name__}"
        return CameraError("bad_answer", message)
    return CameraError("unreachable", f"{who} cannot be reached: {clean(str(error))}")
