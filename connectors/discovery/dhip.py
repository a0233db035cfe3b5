"""Dahua's DHIP discovery: JSON behind a header of 32 bytes, to UDP port 37810.

**Unverified against real devices**: written from public descriptions of the protocol and tested
with simulated ones. The header, little-endian: ``20 00 00 00``, ``DHIP``, 8 bytes of zero, the
JSON's length, zero, the length again, zero. Devices are silent to the JSON without it.

Channels of a recorder (``RemoteVideoInputChannels``, ``VideoInputChannels``) become sightings of
their own, with the URL that Dahua's HTTP API has for a picture of one.
"""

from __future__ import annotations

import struct
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import msgspec

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

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from connectors.discovery.base import Scope, Tally

GROUP, PORT = "239.255.255.251", 37810
NAME: Final = "dhip"
HEADER: Final = struct.Struct("<I4sQIIII")
MAGIC: Final = b"DHIP"
RECORDERS: Final = frozenset({"NVR", "DVR", "XVR", "HVR", "HCVR", "MCVR", "EVS", "IVSS"})
"""Values of DeviceClass."""
OTHERS: Final = {
    "VTO": "a door station",
    "VTH": "an indoor monitor",
    "BSC": "an access terminal",
    "ASI": "an access terminal",
    "NKB": "a keyboard",
}


class _Addresses(msgspec.Struct):
    IPAddress: str = ""


class _DeviceInfo(msgspec.Struct):
    DeviceClass: str = ""
    DeviceType: str = ""
    HttpPort: int = 80
    IPv4Address: _Addresses = msgspec.field(default_factory=_Addresses)
    MachineName: str = ""
    RemoteVideoInputChannels: int = 0
    SerialNo: str = ""
    Vendor: str = ""
    VideoInputChannels: int = 0


class _Params(msgspec.Struct):
    device_info: _DeviceInfo = msgspec.field(name="deviceInfo")


class _Notice(msgspec.Struct):
    params: _Params
    method: str = ""
    mac: str = ""


_DECODER: Final = msgspec.json.Decoder(_Notice)


class Dhip:
    """Finds Dahua's devices; ``port`` is 37810 but in tests."""

    name = NAME

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """See :class:`connectors.discovery.base.Source`."""
        asked = pack(b'{"method":"DHDiscover.search","params":{"mac":"","uni":1}}\n')
        question = Question((asked,), self._port, group=GROUP, broadcast=True, listen=True)
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


def pack(body: bytes) -> bytes:
    """Return a DHIP packet."""
    return HEADER.pack(0x20, MAGIC, 0, len(body), 0, len(body), 0) + body


def picture_path(channel: int) -> str:
    """Return where Dahua's HTTP API has a channel's picture."""
    return f"/cgi-bin/snapshot.cgi?channel={channel}"


def read_answer(data: bytes, sender: str) -> Sighting | None:
    """Return what an answer says; None for somebody else's question. Raises BadAnswerError."""
    if len(data) < HEADER.size or data[4:8] != MAGIC:
        raise BadAnswerError("malformed")
    body = data[HEADER.size :].rstrip(b"\0\r\n ")
    if b'"DHDiscover.search"' in body[:200]:
        return None
    try:
        notice = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadAnswerError("malformed") from None
    info = notice.params.device_info
    if info.IPv4Address.IPAddress not in {"", sender}:
        raise BadAnswerError("elsewhere")
    device_class, model = text_of(info.DeviceClass).upper(), text_of(info.DeviceType)
    channels = max(0, info.VideoInputChannels) + max(0, info.RemoteVideoInputChannels)
    recorder = device_class in RECORDERS or looks_like_recorder(model)
    port = info.HttpPort if 0 < info.HttpPort <= 65_535 else 80
    kind: Kind = "recorder" if recorder else "camera"
    why = f"DHIP: {device_class or 'no class'} {model}".strip()
    if device_class in OTHERS:
        kind, why = "other", OTHERS[device_class]
    return Sighting(
        NAME,
        sender,
        port,
        kind=kind,
        why=why,
        protocol="" if kind == "other" else "auto",
        address="" if kind == "other" else web_address(sender, port),
        mac=mac_of(notice.mac),
        serial=serial_of(info.SerialNo),
        maker=text_of(info.Vendor) or "Dahua",
        model=model,
        name=text_of(info.MachineName),
        channels=channels if recorder and kind != "other" else 0,
    )
