"""Hikvision's SADP: an XML question to UDP port 37020, by multicast and by broadcast.

**Unverified against real devices**: written from public descriptions of the protocol and tested
with simulated ones. Older firmware answers to the group, newer to the asker, so both are heard.
Only ``inquiry`` is ever sent; SADP's other verbs activate devices and change their addresses.

The answer is the best identification there is: model, serial number, MAC, and a recorder's number
of channels. Each channel becomes a sighting of its own, with the URL that ISAPI has for its picture
(``/ISAPI/Streaming/channels/N01/picture``, N01 the main stream of channel N).
"""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from connectors.discovery.base import (
    BadAnswerError,
    Kind,
    Sighting,
    mac_of,
    serial_of,
    text_of,
    web_address,
)
from connectors.discovery.channels import with_channels
from connectors.discovery.datagrams import Question, ask
from connectors.discovery.words import looks_like_recorder
from connectors.discovery.xml import read_xml

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from connectors.discovery.base import Scope, Tally

GROUP, PORT = "239.255.255.250", 37020
NAME: Final = "sadp"


class Sadp:
    """Finds Hikvision's devices; ``port`` is 37020 but in tests."""

    name = NAME

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """See :class:`connectors.discovery.base.Source`."""
        question = Question((inquiry(),), self._port, group=GROUP, broadcast=True, listen=True)
        async with aclosing(ask(question, scope, tally)) as answers:
            async for data, sender in answers:
                try:
                    found = read_answer(data, sender)
                except BadAnswerError as error:
                    tally.refuse(error.word)
                    continue
                if found is not None:
                    for one in with_channels(found, picture_path, scope.limits.max_channels):
                        yield one


def inquiry() -> bytes:
    """Return the question."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<Probe>\n'
        f"<Uuid>{str(uuid.uuid4()).upper()}</Uuid>\n<Types>inquiry</Types>\n</Probe>"
    ).encode()


def picture_path(channel: int) -> str:
    """Return where ISAPI has a channel's picture."""
    return f"/ISAPI/Streaming/channels/{channel}01/picture"


def read_answer(data: bytes, sender: str) -> Sighting | None:
    """Return what an answer says; None for somebody else's question. Raises BadAnswerError."""
    root = read_xml(data)
    if root.name == "Probe":
        return None
    if root.name != "ProbeMatch":
        raise BadAnswerError("malformed")
    if root.first("IPv4Address") not in {"", sender}:
        raise BadAnswerError("elsewhere")
    model = text_of(root.first("DeviceDescription"))
    serial = text_of(root.first("DeviceSN"))
    channels = number(root.first("AnalogChannelNum")) + number(root.first("DigitalChannelNum"))
    recorder = looks_like_recorder(model) or channels > 1
    kind: Kind = "recorder" if recorder else "camera"
    port = number(root.first("HttpPort")) or 80
    return Sighting(
        NAME,
        sender,
        port,
        kind=kind,
        why=f"SADP: {model or 'no model'}",
        protocol="auto",
        address=web_address(sender, port),
        mac=mac_of(root.first("MAC")),
        serial=serial_of(serial),
        maker="Hikvision",
        model=model,
        channels=channels if recorder else 0,
    )


def number(text: str) -> int:
    """Return a number from 0 to 65,535; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and int(text[:6]) <= 65_535 else 0
