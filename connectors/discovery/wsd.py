"""WS-Discovery (OASIS 1.1 and the 2005 draft that ONVIF uses): SOAP over UDP port 3702.

Three questions: for ONVIF's ``NetworkVideoTransmitter``, for ``Device`` of ONVIF's device
service, and for ``Device`` of DPWS, as not every firmware answers to each. Answers are
``ProbeMatches``, or a bare ``ProbeMatch`` without it, which some cameras (and ipycam) send.

What is taken of a match: the endpoint reference, types, scopes (name, hardware, MAC, channel) and
that XAddr which names the sender. One that names another host is rewritten to the sender: a camera
behind a port forwarding is found that way, and nobody can point us elsewhere.
"""

from __future__ import annotations

import re
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from yarl import URL

from connectors.discovery.base import (
    BadAnswerError,
    Kind,
    Sighting,
    mac_of,
    serial_of,
    text_of,
    uuid_of,
)
from connectors.discovery.datagrams import Question, ask
from connectors.discovery.xml import Node, read_xml

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from connectors.discovery.base import Scope, Tally

GROUP, PORT = "239.255.255.250", 3702
NAME: Final = "ws-discovery"
TYPES: Final = (
    ("dn", "http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter"),
    ("tds", "http://www.onvif.org/ver10/device/wsdl", "Device"),
    ("wsdp", "http://schemas.xmlsoap.org/ws/2006/02/devprof", "Device"),
)
OTHERS: Final = {
    "computer": "a computer (WS-Discovery type Computer)",
    "printdevicetype": "a printer",
    "scandevicetype": "a scanner",
    "networkvideodisplay": "a display that shows video",
    "networkvideostorage": "a store of video without cameras of its own",
    "networkvideoanalytics": "an analytics engine",
}
"""Types of what is no camera, in lower case, with the reason that is shown."""
MAX_MATCHES: Final = 512
"""Matches in one answer; a proxy or a recorder may send several."""
MAX_SCOPES: Final = 256
_PROBE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
    ' xmlns:{prefix}="{namespace}"><e:Header>'
    "<w:MessageID>uuid:{message}</w:MessageID>"
    "<w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>"
    "<w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>"
    "<e:Body><d:Probe><d:Types>{prefix}:{type}</d:Types></d:Probe></e:Body></e:Envelope>"
)


def probes() -> tuple[bytes, ...]:
    """Return the three questions, each with a message id of its own."""
    return tuple(
        _PROBE.format(prefix=prefix, namespace=namespace, type=kind, message=uuid.uuid4()).encode()
        for prefix, namespace, kind in TYPES
    )


class WsDiscovery:
    """Finds ONVIF devices; ``port`` is 3702 but in tests."""

    name = NAME

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """See :class:`connectors.discovery.base.Source`."""
        question = Question(probes(), self._port, group=GROUP)
        async with aclosing(ask(question, scope, tally)) as answers:
            async for data, sender in answers:
                try:
                    for found in read_matches(data, sender):
                        yield found
                except BadAnswerError as error:
                    tally.refuse(error.word)


def read_matches(data: bytes, sender: str) -> Iterator[Sighting]:
    """Give what the matches of an answer say; raises BadAnswerError for what is no answer."""
    root = read_xml(data)
    matches = root.all("ProbeMatch")
    if not matches:
        if root.all("ProbeMatches"):  # an empty answer is a polite no
            return
        raise BadAnswerError("malformed")
    if len(matches) > MAX_MATCHES:
        raise BadAnswerError("hostile")
    for match in matches:
        yield _sighting(match, sender)


def _sighting(match: Node, sender: str) -> Sighting:
    reference = match.all("EndpointReference")
    epr = uuid_of(reference[0].first("Address")) if reference else ""
    types = [one.rpartition(":")[2] for one in match.first("Types").split()]
    scopes = _scopes(match.first("Scopes"))
    address = own_address(match.first("XAddrs").split(), sender)
    port = address.port or 0 if address is not None else 0
    kind, why = _kind(types, scopes)
    channel = _channel(scopes, address)
    return Sighting(
        NAME,
        sender,
        port,
        kind="camera" if kind == "recorder" and channel else kind,
        why=why,
        protocol="onvif" if address is not None and kind in {"camera", "recorder"} else "",
        address=str(address) if address is not None else "",
        mac=mac_of(scopes.get("mac", "")),
        uuid=f"epr:{epr}" if epr else "",
        serial=serial_of(scopes.get("serial", "") or scopes.get("serialnumber", "")),
        maker=scopes.get("manufacturer", "") or scopes.get("mfr", ""),
        model=scopes.get("hardware", ""),
        name=scopes.get("name", ""),
        channel=channel,
    )


def own_address(given: list[str], sender: str) -> URL | None:
    """Return the sender's own URL among those it gives, else the first rewritten to the sender."""
    usable: list[URL] = []
    for text in given[:16]:
        try:
            url = URL(text[:1_024])
            good = url.scheme in {"http", "https"} and bool(url.host) and bool(url.port)
        except ValueError:
            continue
        if good and url.raw_user is None and url.raw_password is None:
            usable.append(url.with_fragment(None))
    for url in usable:
        if url.host == sender:
            return url
    return usable[0].with_host(sender) if usable else None


def _scopes(text: str) -> dict[str, str]:
    """Return ONVIF's scopes by their names in lower case; of several the first counts.

    ``onvif://www.onvif.org/hardware/X1`` is ``hardware: X1``; ``type/…`` are gathered in one.
    """
    found: dict[str, str] = {}
    for word in text.split()[:MAX_SCOPES]:
        lower = word.lower()
        if not lower.startswith("onvif://"):
            continue
        key, _, value = word[len("onvif://") :].partition("/")[2].partition("/")
        cleaned = text_of(unquote(value))
        if key.lower() == "type":
            found["type"] = text_of(f"{found.get('type', '')} {cleaned.lower()}")
        elif cleaned:
            found.setdefault(key.lower(), cleaned)
        found["onvif"] = "yes"
    return found


def _kind(types: list[str], scopes: dict[str, str]) -> tuple[Kind, str]:
    lower = {one.lower() for one in types}
    for word, reason in OTHERS.items():
        if word in lower and "networkvideotransmitter" not in lower:
            return "other", reason
    said = scopes.get("type", "").split()
    if "networkvideorecorder" in said or "network_video_recorder" in said or "nvr" in said:
        return "recorder", "ONVIF scope of a recorder"
    if "networkvideotransmitter" in lower:
        return "camera", "ONVIF NetworkVideoTransmitter"
    if "onvif" in scopes and {"video_encoder", "ptz", "networkvideotransmitter"} & set(said):
        return "camera", "ONVIF scopes of a camera"
    if "onvif" in scopes:
        return "unknown", "an ONVIF device that does not say that it has video"
    return "other", f"not ONVIF: {text_of(' '.join(types)) or 'no type'}"


def _channel(scopes: dict[str, str], address: URL | None) -> int:
    """Return which of a recorder's channels this is; 0: it does not say."""
    said = scopes.get("channel", "")
    if not said and address is not None:
        said = address.query.get("channel", "")
    return int(said) if re.fullmatch(r"[1-9][0-9]{0,2}", said) else 0
