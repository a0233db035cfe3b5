"""Devices whose protocol nobody named: ``auto`` finds it out, and hands over to its adapter.

What is asked depends on the address; the cheapest question that opens no shutter comes first:

    http://host/                   ONVIF at /onvif/device_service, then HEAD, then GET
    http://host/onvif/…            ONVIF there, then the same
    http://host/any/other/path     HEAD, then GET: an exact address is taken at its word
    rtsp://…                       OPTIONS
    a port that speaks no HTTP     OPTIONS to the same port, to see what it says

A GET can open a shutter, so it is sent by ``capture`` only, and if a picture comes that is the
photo: one shutter, not two. An answer without a known signature is an error that shows what was
seen. What was found is kept until the device no longer answers to it; then it is asked again, at
the next attempt.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yarl import URL

from connectors.cameras import onvif_soap
from connectors.cameras.exchange import RETRY_STATUSES, status_error
from connectors.cameras.frame import clean
from connectors.cameras.http import COMMAND_HEADER, read_frame
from connectors.cameras.mjpeg import read_picture
from connectors.cameras.negotiate import (
    HEAD_BYTES,
    UNKNOWN,
    Signature,
    classify,
    content_type,
    seen_text,
    split_http,
)
from connectors.cameras.onvif_calls import at_address
from connectors.cameras.policy import schemes_of
from connectors.cameras.readers import nothing
from connectors.cameras.ways import Known, Memory, is_broken
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.cameras.base import DeviceClient, Frame
    from connectors.cameras.exchange import Answer, HttpExchange
    from schemas.records import CaptureCommand, DeviceProfile

PROTOCOL: Final = "auto"
ONVIF_PATH: Final = "/onvif/device_service"
INCONCLUSIVE: Final = frozenset({"bad_answer", "disconnected", "redirects", "too_large"})
"""How a question fails that the device does not understand; the next question may do."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a device speaks, and where."""

    protocol: str
    address: str
    signature: str
    """What it was known by."""


class UndecidedError(CameraError):
    """Only a photo will tell what the device speaks, and none may be taken now."""

    def __init__(self, profile: DeviceProfile) -> None:
        message = f"{clean(profile.device_id)}: what it speaks shows with its first photo only"
        super().__init__("unknown_signature", message)


class AutoCamera:
    """The adapter of ``auto``: finds the protocol, then is the adapter of that."""

    def __init__(
        self, exchange: HttpExchange, adapters: Mapping[str, DeviceClient], max_devices: int
    ) -> None:
        """``adapters``: by protocol; who is in it when a device is asked can be found."""
        self._exchange = exchange
        self._adapters = adapters
        self._found: Memory[Found] = Memory(max_devices)

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Find the protocol anew and connect by it; takes no photo."""
        self._found.forget(profile.device_id, profile.address)
        found = await self._find(profile, deadline_s)
        if found is not None:
            adapter = self._adapter(profile, found)
            await adapter.connect(self._at(profile, found), deadline_s=deadline_s)

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether the protocol is not known, or its adapter has something to make ready."""
        found = self._found.get(profile.device_id, profile.address)
        adapter = self._adapters.get(found.protocol) if found else None
        wants = getattr(adapter, "wants_prepare", None)
        return found is None or wants is None or bool(wants(self._at(profile, found)))

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Find the protocol if it is not known, and make ready by it; opens no shutter."""
        found = await self._find(profile, deadline_s)
        if found is not None:
            adapter = self._adapter(profile, found)
            await adapter.prepare(self._at(profile, found), deadline_s=deadline_s)

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Take one photo by the protocol the device speaks."""
        found = self._found.get(profile.device_id, profile.address)
        if found is None:
            found, frame = await self._ask(profile, command, deadline_s)
            if frame is not None:
                return frame
        try:
            there = self._at(profile, found)
            adapter = self._adapter(profile, found)
            return await adapter.capture(there, command, deadline_s=deadline_s)
        except CameraError as error:
            if is_broken(error.cause):
                log.warning(
                    "%s: no longer taken for %s (%s)",
                    profile.device_id, found.protocol, error.cause,
                )  # fmt: skip
                self._found.forget(profile.device_id, profile.address)
            raise

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],
        *,
        deadline_s: float,
    ) -> bytes:
        """Call a method by the protocol the device speaks."""
        found = await self._find(profile, deadline_s)
        if found is None:
            raise UndecidedError(profile)
        there, adapter = self._at(profile, found), self._adapter(profile, found)
        return await adapter.invoke(there, method, arguments, deadline_s=deadline_s)

    async def close(self) -> None:
        """Do nothing: the connections belong to the exchange."""

    def spoken(self, profile: DeviceProfile) -> DeviceProfile | None:
        """Return the profile by which the device is spoken to; None: not found out yet."""
        found = self._found.get(profile.device_id, profile.address)
        return self._at(profile, found) if found else None

    def known(self, profile: DeviceProfile) -> Known | None:
        """Return what was found; does no I/O."""
        there = self.spoken(profile)
        return Known(there.protocol, there.address) if there else None

    def _at(self, profile: DeviceProfile, found: Found) -> DeviceProfile:
        return at_address(profile, found.address, found.protocol)

    def _adapter(self, profile: DeviceProfile, found: Found) -> DeviceClient:
        adapter = self._adapters.get(found.protocol)
        if adapter is None:
            message = f"{clean(profile.device_id)} speaks {found.protocol}: no adapter does"
            raise CameraError("unknown_protocol", message, retry=False)
        return adapter

    def _keep(self, profile: DeviceProfile, found: Found) -> Found:
        self._found.keep(profile.device_id, profile.address, found)
        log.info("%s: speaks %s, known by %s", profile.device_id, found.protocol, found.signature)
        return found

    async def _find(self, profile: DeviceProfile, deadline_s: float) -> Found | None:
        """Return what is known, or can be found without a shutter; None: only a photo will tell."""
        found = self._found.get(profile.device_id, profile.address)
        if found is not None:
            return found
        try:
            found, _ = await self._ask(profile, None, deadline_s)
        except UndecidedError:
            return None
        return found

    # -- questions -----------------------------------------------------------------------------

    async def _ask(
        self, profile: DeviceProfile, command: CaptureCommand | None, deadline_s: float
    ) -> tuple[Found, Frame | None]:
        """Ask until a signature is known, and keep it; with a ``command`` a photo may come too."""
        if profile.address.startswith(("rtsp://", "rtsps://")):
            return self._keep(profile, await self._options(profile, deadline_s)), None
        url = self._exchange.policy.target(profile.address).url
        seen = b""
        for question in _questions(url, shutter=command is not None):
            frame: Frame | None = None
            try:
                if question == "ONVIF":
                    found, seen = await self._soap(profile, url, deadline_s)
                elif question == "GET" and command is not None:
                    frame, found, seen = await self._get(profile, command, deadline_s)
                else:
                    found, seen = await self._head(profile, deadline_s)
            except CameraError as error:
                if error.cause not in INCONCLUSIVE:
                    raise
                continue
            if found is not None:
                return self._keep(profile, found), frame
        if not split_http(seen)[1] and not content_type(seen):
            # No HTTP at all, or hardly: the HTTP library takes an RTSP status line for one.
            try:
                return self._keep(profile, await self._options(profile, deadline_s)), None
            except CameraError as error:
                if command is not None or error.cause != "unknown_signature":
                    raise
        raise unknown(profile, seen) if command is not None else UndecidedError(profile)

    async def _soap(
        self, profile: DeviceProfile, url: URL, deadline_s: float
    ) -> tuple[Found | None, bytes]:
        """Ask for the time as ONVIF does, which needs no login."""
        service = url if _is_onvif(url) else url.join(URL(ONVIF_PATH))
        body = onvif_soap.call(onvif_soap.DEVICE, "GetSystemDateAndTime")
        answer = await self._exchange.get(
            at_address(profile, str(service)),
            str(service),
            headers={"Content-Type": "application/soap+xml; charset=utf-8"},
            max_bytes=onvif_soap.MAX_SOAP_BYTES,
            deadline_s=deadline_s,
            method="POST",
            body=onvif_soap.envelope(body),
            login=False,
        )
        seen = _raw(answer)
        signature = classify(seen)
        if signature.protocol != "onvif":
            return None, seen
        return Found("onvif", str(service), signature.name), seen

    async def _head(self, profile: DeviceProfile, deadline_s: float) -> tuple[Found | None, bytes]:
        answer = await self._exchange.get(
            profile,
            profile.address,
            headers={},
            max_bytes=HEAD_BYTES,
            deadline_s=deadline_s,
            method="HEAD",
            read=nothing,
        )
        seen = _raw(answer)
        signature = classify(seen) if answer.status == 200 else UNKNOWN
        return self._by(signature, profile.address), seen

    async def _get(
        self, profile: DeviceProfile, command: CaptureCommand, deadline_s: float
    ) -> tuple[Frame | None, Found | None, bytes]:
        answer = await self._exchange.get(
            profile,
            profile.address,
            headers={COMMAND_HEADER: str(command.command_id)},
            max_bytes=self._exchange.settings.max_image_bytes,
            deadline_s=deadline_s,
            read=read_picture,
        )
        if answer.status in RETRY_STATUSES:
            raise status_error(profile, answer.status)
        seen = _raw(answer)
        signature = classify(seen)
        found = self._by(signature, profile.address) if answer.status == 200 else None
        if found is None or found.protocol != "http-snapshot":
            return None, found, seen
        try:
            return read_frame(answer), found, seen
        except CameraError as error:
            message = f"{clean(profile.device_id)}: {error}"
            raise CameraError(error.cause, message, retry=error.retry) from error

    def _by(self, signature: Signature, address: str) -> Found | None:
        if not signature.protocol or signature.protocol == "rtsp":
            return None  # SDP over HTTP names no port to grab from
        return Found(signature.protocol, address, signature.name)

    async def _options(self, profile: DeviceProfile, deadline_s: float) -> Found:
        """Ask a port what it says to an RTSP request."""
        target = self._exchange.policy.target(profile.address, schemes_of(PROTOCOL))
        url, host, port = target.url, target.url.host or "", target.port
        address = profile.address
        if url.scheme in {"http", "https"}:
            address = str(url.with_scheme("rtsp").with_port(port))
        request = f"OPTIONS {address} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode()
        try:
            async with asyncio.timeout_at(deadline_s):
                seen = await self._first_bytes(host, port, request)
        except TimeoutError:
            message = f"{clean(profile.device_id)} said nothing before the deadline"
            raise CameraError("timeout", message) from None
        except OSError as error:
            cause = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
            reason = clean(error.strerror or str(error))
            message = f"{clean(profile.device_id)} cannot be reached: {reason}"
            raise CameraError(cause, message) from error
        signature = classify(seen)
        if signature.protocol != "rtsp":
            raise unknown(profile, seen)
        return Found("rtsp", address, signature.name)

    async def _first_bytes(self, host: str, port: int, request: bytes) -> bytes:
        """Connect to a permitted address of ``host`` and return the first bytes it sends."""
        loop = asyncio.get_running_loop()
        policy = self._exchange.policy
        resolved = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        places = [place for *_, place in resolved]
        permitted = [place for place in places if policy.permits(str(place[0]))]
        if not permitted:
            policy.check_ip(str(places[0][0]))
        reader, writer = await asyncio.open_connection(str(permitted[0][0]), port, limit=HEAD_BYTES)
        try:
            writer.write(request)
            return await reader.read(HEAD_BYTES)
        finally:
            writer.transport.abort()


def unknown(profile: DeviceProfile, seen: bytes) -> CameraError:
    """Return the error of a device that nothing is known to speak to; it shows what was seen."""
    signature = classify(seen)
    what = f" ({signature.name})" if signature is not UNKNOWN else ""
    return CameraError(
        "unknown_signature",
        f"{clean(profile.device_id)} speaks no protocol we know: it sent "
        f"{seen_text(seen)}{what}; name its protocol in the profile, or a more exact address",
        retry=False,
    )


def _questions(url: URL, *, shutter: bool) -> tuple[str, ...]:
    """Return what an http address is asked, in turn."""
    onvif = ("ONVIF",) if _is_onvif(url) or url.path in {"", "/"} else ()
    return (*onvif, "HEAD", *(("GET",) if shutter else ()))


def _is_onvif(url: URL) -> bool:
    return "/onvif/" in url.path.lower()


def _raw(answer: Answer) -> bytes:
    """Return an answer's beginning as it came: the part of its head that counts, and its body."""
    kind = answer.headers.get("Content-Type", "")
    head = f"HTTP/1.1 {answer.status}\r\nContent-Type: {kind}\r\n\r\n"
    return head.encode("latin-1", "replace") + answer.body[:HEAD_BYTES]
