"""SOAP calls to ONVIF devices over the shared HTTP exchange: who we are, what time it is there.

Nothing that proves who we are is sent before the device asked. The first request goes bare; how it
is refused says what the device wants, and that is kept:

    401 with a Digest challenge, or Basic and no SOAP fault    HTTP login (by the exchange)
    any other 401, or a fault NotAuthorized                    WS-Security UsernameToken

A UsernameToken carries the device's own time (:mod:`connectors.cameras.onvif_clock`). A refused one
is ``auth`` and never tried again, with one exception that is no retry of credentials: the refusal's
own ``Date`` header shows that the device's clock is not where we believed it. Then the token was
judged by its age, and one with the right time is sent, once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from connectors.cameras import onvif_clock, onvif_soap
from connectors.cameras.exchange import status_error
from connectors.cameras.frame import clean
from connectors.cameras.ways import Ways
from schemas.errors import CameraError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from yarl import URL

    from connectors.cameras.exchange import Answer, HttpExchange
    from connectors.cameras.onvif_clock import DeviceTime
    from schemas.records import DeviceProfile

Login = Literal["", "wsse", "http"]
LOGINS: Final[dict[Login, str]] = {"": "none", "wsse": "WS-Security", "http": "HTTP"}
"""How a login is shown to people."""
REFUSALS: Final = frozenset({401, 403, 407})
NONCE_BYTES: Final = 16
AT_ONCE_BYTES: Final = 32 * 1024
"""A longer answer is parsed in a thread: shutters of others wait on this event loop. 100 µs for
1 kB, 50 ms for 500 kB."""
MAX_LESSONS: Final = 2
"""Refusals that a request may learn from: what login is wanted, and what time it is there."""


@dataclass(slots=True)
class Device:
    """What is known of one ONVIF device."""

    service: URL
    """Its device service, as we reached it."""
    own: URL | None = None
    """Its device service by its own account: what of its addresses stands for :attr:`service`."""
    media: str = ""
    """Namespace of the media service that is used."""
    media_url: str = ""
    login: Login = ""
    clock: DeviceTime | None = None
    ways: Ways = field(default_factory=Ways)


def at_address(profile: DeviceProfile, address: str, protocol: str = "") -> DeviceProfile:
    """Return the profile of the same device at another address: its credentials may go there."""
    return msgspec.structs.replace(profile, address=address, protocol=protocol or profile.protocol)


class OnvifCalls:
    """Sends SOAP requests."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    async def call(
        self, profile: DeviceProfile, device: Device, url: str, body: str, *, deadline_s: float
    ) -> tuple[Element, bytes]:
        """Send a request and return its answer, parsed and raw.

        Raises CameraError: ``soap_fault``, ``auth``, and what the exchange raises.
        """
        lessons = 0
        while True:
            answer = await self._send(profile, device, url, body, deadline_s)
            element, fault = await _read(profile, answer)
            if not _refused(answer, fault):
                break
            if lessons == MAX_LESSONS or not self._understood(profile, device, answer, fault):
                raise self._auth(profile, device, answer, fault)
            lessons += 1
        if element is None:
            raise status_error(profile, answer.status)
        if fault is not None:
            message = f"{clean(profile.device_id)} answered with a SOAP fault: {fault}"
            raise CameraError("soap_fault", message, retry=False)
        return element, answer.body

    async def ask_time(self, profile: DeviceProfile, device: Device, *, deadline_s: float) -> None:
        """Read the device's clock, and what it wants as a login if it will not tell us.

        Sent without credentials: devices should answer it to anybody.
        """
        body = onvif_soap.call(onvif_soap.DEVICE, "GetSystemDateAndTime")
        answer = await self._post(profile, str(device.service), body, None, False, deadline_s)
        element, fault = await _read(profile, answer)
        now_s = asyncio.get_running_loop().time()
        if _refused(answer, fault):
            self._wanted(profile, device, answer, fault)
        elif element is None:
            raise status_error(profile, answer.status)
        elif fault is None:
            device.clock = onvif_clock.from_utc(onvif_soap.device_utc(element), now_s)
        if device.clock is None:
            device.clock = onvif_clock.from_date_header(answer.headers.get("Date", ""), now_s)
        if device.clock is None:
            device.clock = onvif_clock.from_our_own(wall_ms(), now_s)

    def _understood(
        self,
        profile: DeviceProfile,
        device: Device,
        answer: Answer,
        fault: onvif_soap.Fault | None,
    ) -> bool:
        """Learn from a refusal; False: there is nothing to learn, the refusal stands."""
        if not profile.credentials_ref:
            return False
        if not device.login:
            self._wanted(profile, device, answer, fault)
            return True
        now_s = asyncio.get_running_loop().time()
        shown = onvif_clock.from_date_header(answer.headers.get("Date", ""), now_s)
        if device.login != "wsse" or shown is None or device.clock is None:
            return False
        if device.clock.agrees(shown):
            return False
        device.clock = shown
        return True

    def _wanted(
        self,
        profile: DeviceProfile,
        device: Device,
        answer: Answer,
        fault: onvif_soap.Fault | None,
    ) -> None:
        if profile.credentials_ref:
            scheme = answer.headers.get("WWW-Authenticate", "").partition(" ")[0].lower()
            by_http = scheme == "digest" or (scheme == "basic" and fault is None)
            device.login = "http" if by_http else "wsse"

    async def _send(
        self, profile: DeviceProfile, device: Device, url: str, body: str, deadline_s: float
    ) -> Answer:
        token = self._token(profile, device) if device.login == "wsse" else None
        by_http = device.login == "http"
        return await self._post(profile, url, body, token, by_http, deadline_s)

    def _token(self, profile: DeviceProfile, device: Device) -> onvif_soap.Token:
        self._exchange.check_refused(profile)
        credentials = self._exchange.credentials_of(profile)
        if credentials.token:
            raise CameraError(
                "auth",
                f"{clean(profile.device_id)} wants a user and a password, but "
                f"{clean(profile.credentials_ref)} names a bearer token",
                retry=False,
            )
        now_s = asyncio.get_running_loop().time()
        clock = device.clock or onvif_clock.from_our_own(wall_ms(), now_s)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return onvif_soap.Token(credentials.user, credentials.password, clock.at(now_s), nonce)

    async def _post(
        self,
        profile: DeviceProfile,
        url: str,
        body: str,
        token: onvif_soap.Token | None,
        by_http: bool,
        deadline_s: float,
    ) -> Answer:
        return await self._exchange.get(
            at_address(profile, url),
            url,
            headers={"Content-Type": "application/soap+xml; charset=utf-8"},
            max_bytes=onvif_soap.MAX_SOAP_BYTES,
            deadline_s=deadline_s,
            method="POST",
            body=onvif_soap.envelope(body, token),
            login=by_http,
        )

    def _auth(
        self,
        profile: DeviceProfile,
        device: Device,
        answer: Answer,
        fault: onvif_soap.Fault | None,
    ) -> CameraError:
        if not profile.credentials_ref:
            why = "the profile names no credentials"
        else:
            self._exchange.refuse(profile)
            why = f"check what {clean(profile.credentials_ref)} names"
        if device.clock is not None and device.login == "wsse":
            skew_s = device.clock.skew_ms(asyncio.get_running_loop().time(), wall_ms()) / 1000
            why += f" (its clock is {skew_s:+.0f} s off ours, by its {device.clock.source})"
        what = f"SOAP fault {fault}" if fault else f"HTTP {answer.status}"
        message = f"{clean(profile.device_id)} refused access with {what}: {why}"
        return CameraError("auth", message, retry=False)


def wall_ms() -> int:
    """Return this machine's wall time in UTC milliseconds."""
    return time.time_ns() // 1_000_000


async def _read(
    profile: DeviceProfile, answer: Answer
) -> tuple[Element | None, onvif_soap.Fault | None]:
    """Return the answer's element and fault; neither: an HTTP error that is no SOAP."""
    try:
        if len(answer.body) > AT_ONCE_BYTES:
            element = await asyncio.to_thread(onvif_soap.parse, answer.body)
        else:
            element = onvif_soap.parse(answer.body)
    except CameraError as error:
        if answer.status != 200 and error.cause == "bad_answer":
            return None, None
        message = f"{clean(profile.device_id)}: {error}"
        raise CameraError(error.cause, message, retry=error.retry) from error
    return element, onvif_soap.fault_of(element)


def _refused(answer: Answer, fault: onvif_soap.Fault | None) -> bool:
    return answer.status in REFUSALS or (fault is not None and fault.is_refusal)
