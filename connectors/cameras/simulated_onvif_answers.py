"""What the simulated ONVIF cameras answer, good and bad. See ``simulated_onvif.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from connectors.cameras.onvif_soap import DEVICE, MEDIA, MEDIA2, SCHEMA, SOAP
from connectors.cameras.simulated_http import LOGIN_PAGE

if TYPE_CHECKING:
    from datetime import datetime
    from xml.etree.ElementTree import Element

    from connectors.cameras.simulated_onvif import Traits

ERROR: Final = "http://www.onvif.org/ver10/error"
SIZES: Final = {"main": (1920, 1080), "sub": (640, 360)}


def envelope(body: str) -> bytes:
    """Return an answer with a device's usual prefixes."""
    names = f'xmlns:env="{SOAP}" xmlns:tt="{SCHEMA}" xmlns:tds="{DEVICE}" xmlns:ter="{ERROR}"'
    media = f'xmlns:trt="{MEDIA}" xmlns:tr2="{MEDIA2}"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<env:Envelope {names} {media}>'
        f"<env:Body>{body}</env:Body></env:Envelope>"
    ).encode()


def fault(code: str, subcode: str, reason: str) -> bytes:
    """Return a SOAP fault."""
    return envelope(
        f"<env:Fault><env:Code><env:Value>env:{code}</env:Value><env:Subcode>"
        f"<env:Value>ter:{subcode}</env:Value></env:Subcode></env:Code>"
        f'<env:Reason><env:Text xml:lang="en">{escape(reason)}</env:Text></env:Reason></env:Fault>'
    )


def _bomb() -> bytes:
    """Return ten entities, each ten times the one before: 10^10 characters if it is believed."""
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)]
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [{"".join(lines)}]>'
        f'<env:Envelope xmlns:env="{SOAP}"><env:Body><x>&a9;</x></env:Body></env:Envelope>'
    ).encode()


_FILE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><x>&f;</x>'
BAD_ANSWERS: Final[dict[str, tuple[int, bytes]]] = {
    "bomb": (200, _bomb()),
    "external-entity": (200, _FILE),
    "huge": (200, envelope("<tt:x>" + "x" * 1_000_000 + "</tt:x>")),
    "many": (200, envelope("<tt:x/>" * 40_000)),
    "deep": (200, envelope("<x>" * 15_000 + "</x>" * 15_000)),
    "html": (200, LOGIN_PAGE),
    "cut": (200, envelope("<tds:GetServicesResponse>")[:-60]),
    "empty": (200, b""),
    "empty-body": (200, envelope("")),
    "fault": (500, fault("Receiver", "Action", "Out of memory")),
    "http-500": (500, b"Internal Server Error"),
    "http-503": (503, b"Busy"),
    "forbidden": (403, b""),
}
"""Answers that are none, by name: status and body."""


def answer_to(
    operation: str, body: Element, device: str, here: str, traits: Traits, utc: datetime
) -> bytes:
    """Answer an operation. ``here``: where the device was reached, ``host:port``."""
    said = traits.host or here
    service = f"http://{said}/onvif/{device}/device_service"
    media = f"http://{said}/onvif/{device}/media_service"
    token = next((e.text or "" for e in body.iter() if e.tag.endswith("}ProfileToken")), "")
    known = {f"{kind}-{n}" for n in range(1, traits.channels + 1) for kind in SIZES}
    prefix = "trt" if traits.media == 1 else "tr2"
    of_profile = operation in {"GetSnapshotUri", "GetStreamUri", "SetSynchronizationPoint"}
    if of_profile and token not in known:
        return fault("Sender", "NoProfile", f"no profile {token}")
    match operation:
        case "GetSystemDateAndTime":
            return envelope(_date_and_time(utc))
        case "GetServices" if traits.services:
            return envelope(_services(service, media, traits.media))
        case "GetCapabilities":
            return envelope(_capabilities(service, media))
        case "GetProfiles":
            kinds = SIZES if traits.sub_stream else {"main": SIZES["main"]}
            each = (
                _profile(prefix, kind, channel)
                for channel in range(1, traits.channels + 1)
                for kind in kinds
            )
            return envelope(
                f"<{prefix}:GetProfilesResponse>{''.join(each)}</{prefix}:GetProfilesResponse>"
            )
        case "GetSnapshotUri" if traits.snapshot:
            uri = f"http://{said}/cam/{device}/snapshot.jpg?firmware={traits.firmware}"
            return envelope(_uri(prefix, operation, uri))
        case "GetStreamUri" if traits.streams:
            place = traits.rtsp or f"{said.partition(':')[0]}:554"
            return envelope(_uri(prefix, operation, f"rtsp://{place}/{device}/{token}"))
        case "SetSynchronizationPoint":
            return envelope(f"<{prefix}:SetSynchronizationPointResponse/>")
        case "SystemReboot":
            return envelope(
                "<tds:SystemRebootResponse><tds:Message>Rebooting in 30 seconds</tds:Message>"
                "</tds:SystemRebootResponse>"
            )
        case "GetDeviceInformation":
            return envelope(
                "<tds:GetDeviceInformationResponse><tds:Manufacturer>Simulated</tds:Manufacturer>"
                f"<tds:Model>S1</tds:Model><tds:SerialNumber>{device}</tds:SerialNumber>"
                "</tds:GetDeviceInformationResponse>"
            )
        case _:
            return fault("Receiver", "ActionNotSupported", f"{operation} is not implemented")


def _date_and_time(utc: datetime) -> str:
    return (
        "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime>"
        "<tt:DateTimeType>Manual</tt:DateTimeType><tt:UTCDateTime><tt:Time>"
        f"<tt:Hour>{utc.hour}</tt:Hour><tt:Minute>{utc.minute}</tt:Minute>"
        f"<tt:Second>{utc.second}</tt:Second></tt:Time><tt:Date><tt:Year>{utc.year}</tt:Year>"
        f"<tt:Month>{utc.month}</tt:Month><tt:Day>{utc.day}</tt:Day></tt:Date></tt:UTCDateTime>"
        "</tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
    )


def _services(service: str, media: str, generation: int) -> str:
    places = ((DEVICE, service), (MEDIA if generation == 1 else MEDIA2, media))
    each = (
        f"<tds:Service><tds:Namespace>{namespace}</tds:Namespace><tds:XAddr>{place}</tds:XAddr>"
        "<tds:Version><tt:Major>2</tt:Major><tt:Minor>60</tt:Minor></tds:Version></tds:Service>"
        for namespace, place in places
    )
    return f"<tds:GetServicesResponse>{''.join(each)}</tds:GetServicesResponse>"


def _capabilities(service: str, media: str) -> str:
    return (
        "<tds:GetCapabilitiesResponse><tds:Capabilities>"
        f"<tt:Device><tt:XAddr>{service}</tt:XAddr></tt:Device>"
        f"<tt:Media><tt:XAddr>{media}</tt:XAddr></tt:Media>"
        "</tds:Capabilities></tds:GetCapabilitiesResponse>"
    )


def _profile(prefix: str, kind: str, channel: int) -> str:
    width, height = SIZES[kind]
    source = f"<tt:SourceToken>source-{channel}</tt:SourceToken>"
    size = (
        f"<tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height>"
        "</tt:Resolution>"
    )
    if prefix == "trt":
        inner = (
            f'<tt:VideoSourceConfiguration token="vs">{source}</tt:VideoSourceConfiguration>'
            f'<tt:VideoEncoderConfiguration token="ve"><tt:Encoding>H264</tt:Encoding>{size}'
            "</tt:VideoEncoderConfiguration>"
        )
    else:
        inner = (
            f'<tr2:Configurations><tr2:VideoSource token="vs">{source}</tr2:VideoSource>'
            f'<tr2:VideoEncoder token="ve"><tt:Encoding>H265</tt:Encoding>{size}'
            "</tr2:VideoEncoder></tr2:Configurations>"
        )
    name = f"<tt:Name>{kind}</tt:Name>"
    return f'<{prefix}:Profiles token="{kind}-{channel}">{name}{inner}</{prefix}:Profiles>'


def _uri(prefix: str, operation: str, uri: str) -> str:
    inner = escape(uri)
    if prefix == "trt":
        found = f"<trt:MediaUri><tt:Uri>{inner}</tt:Uri></trt:MediaUri>"
    else:
        found = f"<tr2:Uri>{inner}</tr2:Uri>"
    return f"<{prefix}:{operation}Response>{found}</{prefix}:{operation}Response>"
