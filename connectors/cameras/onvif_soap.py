"""The few SOAP messages of ONVIF that a photo needs: written and read, without I/O.

    <s:Envelope>
      <s:Header><wsse:Security>…UsernameToken…</wsse:Security></s:Header>    where WSSE is wanted
      <s:Body><trt:GetSnapshotUri><trt:ProfileToken>P1</…></…></s:Body>
    </s:Envelope>

Requests are text with escaped values. Answers are parsed with a hardened parser (no DTD, so no
entities: a "billion laughs" is refused at its first line) and read by local names, because devices
disagree about prefixes and even namespaces. What comes from a device is bounded: bytes by the
caller (:data:`MAX_SOAP_BYTES`), elements here, tokens and URIs in length.

The digest of a UsernameToken proves the password without sending it, for a few seconds only:

    PasswordDigest = Base64(SHA-1(nonce + created + password))      created: the device's UTC

Sources: ONVIF Core 5.9 and Media 5 and Media2 5; OASIS WSS UsernameToken Profile 1.0; SOAP 1.2.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from connectors.cameras.frame import clean, describe
from schemas.errors import CameraError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SOAP: Final = "http://www.w3.org/2003/05/soap-envelope"
DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2: Final = "http://www.onvif.org/ver20/media/wsdl"
SCHEMA: Final = "http://www.onvif.org/ver10/schema"
_OASIS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
WSSE: Final = f"{_OASIS}wssecurity-secext-1.0.xsd"
WSU: Final = f"{_OASIS}wssecurity-utility-1.0.xsd"
PASSWORD_DIGEST: Final = f"{_OASIS}username-token-profile-1.0#PasswordDigest"
BASE64: Final = f"{_OASIS}soap-message-security-1.0#Base64Binary"

MAX_SOAP_BYTES: Final = 512 * 1024
"""Longest SOAP answer taken. GetProfiles of a 64-channel recorder has some 300 KB."""
MAX_ELEMENTS: Final = 20_000
"""Elements of an answer; a recorder's GetProfiles has some 100 a profile."""
MAX_PROFILES: Final = 256
"""Media profiles looked at."""
MAX_TEXT: Final = 2_048
"""Longest token, address or name taken from an answer, in characters."""
NOT_AUTHORIZED: Final = ("notauthorized", "not authorized", "unauthorized", "failedauthentication")
"""How devices say in a fault that they do not accept us, in lower case; the first is ONVIF's."""


@dataclass(frozen=True, slots=True)
class MediaProfile:
    """One way a device encodes one of its video sources."""

    token: str
    source: str
    """Token of the video source: the channel of a recorder; may be empty."""
    width_px: int
    height_px: int
    """0 where the device does not say."""

    @property
    def pixels(self) -> int:
        """Size of a picture."""
        return self.width_px * self.height_px


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a device refused a SOAP request."""

    codes: tuple[str, ...]
    """Code and subcodes without prefixes, outermost first."""
    reason: str

    @property
    def is_refusal(self) -> bool:
        """True: our credentials, or the lack of them, are what is wrong."""
        text = " ".join((*self.codes, self.reason)).lower()
        return any(words in text for words in NOT_AUTHORIZED)

    def __str__(self) -> str:
        return clean(f"{'/'.join(self.codes)}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Token:
    """What a UsernameToken is made of."""

    user: str
    password: str
    created: datetime
    """The device's own time, UTC."""
    nonce: bytes

    def __repr__(self) -> str:
        return f"Token({self.user!r})"


def password_digest(nonce: bytes, created: str, password: str) -> str:
    """Return the PasswordDigest of a UsernameToken."""
    # SHA-1 is what the profile says; it proves the password, it protects no document.
    digest = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False)
    return b64encode(digest.digest()).decode()


def envelope(body: str, token: Token | None = None) -> bytes:
    """Return a SOAP 1.2 envelope around ``body``."""
    header = f"<s:Header>{_security(token)}</s:Header>" if token else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{SOAP}">'
        f"{header}<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _security(token: Token) -> str:
    created = token.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    digest = password_digest(token.nonce, created, token.password)
    return (
        f'<wsse:Security s:mustUnderstand="1" xmlns:wsse="{WSSE}" xmlns:wsu="{WSU}">'
        f"<wsse:UsernameToken><wsse:Username>{escape(token.user)}</wsse:Username>"
        f'<wsse:Password Type="{PASSWORD_DIGEST}">{digest}</wsse:Password>'
        f'<wsse:Nonce EncodingType="{BASE64}">{b64encode(token.nonce).decode()}</wsse:Nonce>'
        f"<wsu:Created>{created}</wsu:Created></wsse:UsernameToken></wsse:Security>"
    )


# --- requests -------------------------------------------------------------------------------------


def call(namespace: str, operation: str, inner: str = "") -> str:
    """Return the body of a request; ``inner`` is XML, its prefixes ``n`` and ``tt`` declared."""
    names = f'xmlns:n="{namespace}" xmlns:tt="{SCHEMA}"'
    return f"<n:{operation} {names}>{inner}</n:{operation}>"


def get_services() -> str:
    """Ask for the addresses of all services."""
    return call(DEVICE, "GetServices", "<n:IncludeCapability>false</n:IncludeCapability>")


def get_capabilities() -> str:
    """Ask for the addresses of the first generation's services."""
    return call(DEVICE, "GetCapabilities", "<n:Category>All</n:Category>")


def get_profiles(media: str) -> str:
    """Ask for the media profiles; ``media`` is :data:`MEDIA` or :data:`MEDIA2`."""
    return call(media, "GetProfiles", "<n:Type>All</n:Type>" if media == MEDIA2 else "")


def get_snapshot_uri(media: str, token: str) -> str:
    """Ask for the address of a profile's snapshot."""
    return call(media, "GetSnapshotUri", _profile(token))


def get_stream_uri(media: str, token: str) -> str:
    """Ask for the address of a profile's RTSP stream, unicast, over any transport."""
    if media == MEDIA2:
        return call(media, "GetStreamUri", f"<n:Protocol>RTSP</n:Protocol>{_profile(token)}")
    setup = (
        "<n:StreamSetup><tt:Stream>RTP-Unicast</tt:Stream>"
        "<tt:Transport><tt:Protocol>RTSP</tt:Protocol></tt:Transport></n:StreamSetup>"
    )
    return call(media, "GetStreamUri", setup + _profile(token))


def set_synchronization_point(media: str, token: str) -> str:
    """Ask the encoder of a profile for a key frame now."""
    return call(media, "SetSynchronizationPoint", _profile(token))


def _profile(token: str) -> str:
    return f"<n:ProfileToken>{escape(token)}</n:ProfileToken>"


# --- answers --------------------------------------------------------------------------------------


def parse(data: bytes) -> Element:
    """Return the first element of the body of a SOAP answer, a ``Fault`` included.

    Raises CameraError ``bad_answer`` if ``data`` is no SOAP envelope or not to be trusted.
    """
    shown = describe(data)
    try:
        if shown.startswith("an HTML page"):
            raise ParseError(shown)
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        message = f"the SOAP answer holds a {type(error).__name__}: it is not read"
        raise CameraError("bad_answer", message, retry=False) from None
    except (ParseError, ValueError, LookupError) as error:
        message = f"expected a SOAP envelope, but got {shown}"
        raise CameraError("bad_answer", message) from error
    if _local(root) != "Envelope":
        raise CameraError("bad_answer", f"expected a SOAP envelope, but got {shown}")
    for count, _ in enumerate(root.iter()):
        if count >= MAX_ELEMENTS:
            message = f"the SOAP answer has more than {MAX_ELEMENTS} elements"
            raise CameraError("too_large", message, retry=False)
    body = _child(root, "Body")
    found = next(iter(body), None) if body is not None else None
    if found is None:
        raise CameraError("bad_answer", "the SOAP answer has an empty body")
    return found


def fault_of(element: Element) -> Fault | None:
    """Return the fault that ``element`` is, SOAP 1.1 or 1.2; None: it is none."""
    if _local(element) != "Fault":
        return None
    values = [e for e in element.iter() if _local(e) in {"Value", "faultcode"}]
    reason = next((e for e in element.iter() if _local(e) in {"Text", "faultstring"}), None)
    codes = tuple(_text(value).rpartition(":")[2] for value in values[:4])
    return Fault(codes, _text(reason))


def services(answer: Element) -> dict[str, str]:
    """Return namespace → address of GetServicesResponse or GetCapabilitiesResponse."""
    found: dict[str, str] = {}
    for service in answer.iter():
        name, address = _local(service), _text(_child(service, "XAddr"))
        if not address:
            continue
        if name == "Service":
            found[_text(_child(service, "Namespace"))] = address
        elif name in {"Device", "Media", "Media2"}:
            found[{"Device": DEVICE, "Media": MEDIA, "Media2": MEDIA2}[name]] = address
    return found


def profiles(answer: Element) -> list[MediaProfile]:
    """Return the media profiles that have video, the device's own order kept."""
    found: list[MediaProfile] = []
    for element in answer:
        token = element.get("token", "")[:MAX_TEXT]
        if _local(element) != "Profiles" or not token or len(found) >= MAX_PROFILES:
            continue
        source = next((e for e in element.iter() if _local(e) == "SourceToken" and _text(e)), None)
        encoder = next(
            (
                e
                for e in element.iter()
                if _local(e) in {"VideoEncoderConfiguration", "VideoEncoder"}
            ),
            None,
        )
        size = _find(encoder, "Resolution")
        width, height = (_number(_child(size, name)) for name in ("Width", "Height"))
        found.append(MediaProfile(token, _text(source), width, height))
    return found


def uri(answer: Element) -> str:
    """Return the address in a GetSnapshotUriResponse or GetStreamUriResponse; empty: none."""
    return _text(_find(answer, "Uri"))


def device_utc(answer: Element) -> datetime | None:
    """Return ``UTCDateTime`` of a GetSystemDateAndTimeResponse; None: the device gives none."""
    utc = _find(answer, "UTCDateTime")
    names = ("Year", "Month", "Day", "Hour", "Minute", "Second")
    parts = [_find(utc, name) for name in names]
    if any(part is None for part in parts):
        return None
    try:
        year, month, day, hour, minute, second = (int(_text(part)) for part in parts)
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None


def _local(element: Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _child(element: Element | None, name: str) -> Element | None:
    if element is None:
        return None
    return next((child for child in element if _local(child) == name), None)


def _find(element: Element | None, name: str) -> Element | None:
    if element is None:
        return None
    return next((found for found in element.iter() if _local(found) == name), None)


def _text(element: Element | None) -> str:
    return (element.text or "").strip()[:MAX_TEXT] if element is not None else ""


def _number(element: Element | None) -> int:
    text = _text(element)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
