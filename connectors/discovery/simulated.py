"""Simulated devices that answer discovery over real sockets, and those that answer badly.

Beside the real peers (avahi, GSSDP, ipycam, wsdd, minidlna) under the same contract tests, and
alone for what no real peer can show here: Hikvision's and Dahua's protocols, recorders with
channels, a fleet of hundreds, and hostile answers. Each device answers from its own IP address, so
give the interface as many as there are devices (all of 127.0.0.0/8 is there already).

    python -m connectors.discovery.simulated --interface 10.77.0.2 < devices.json

reads a JSON list of :class:`SimulatedDevice`, prints ``ready``, and answers until it is ended; it
prints ``heard`` for the first question.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import socket
import struct
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import msgspec
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from connectors.discovery import dhip, sadp, ssdp, wsd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

APP_MAX_DELAY_S: Final = 0.5
"""SOAP-over-UDP 1.1: an answer to a multicast comes after a random wait of at most this."""
BOMB: Final = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaa">'
    b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    b"<Envelope><Body><ProbeMatch><Types>&c;</Types></ProbeMatch></Body></Envelope>"
)


class SimulatedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device, and by which protocols it answers."""

    host: str
    speaks: tuple[str, ...] = ("ws-discovery",)
    """``mdns``, ``ssdp``, ``ws-discovery``, ``sadp``, ``dhip``."""
    port: int = 80
    name: str = "Simulated camera"
    maker: str = "Shutterwheel"
    model: str = "SIM-1"
    serial: str = ""
    mac: str = ""
    epr: str = ""
    channels: int = 0
    """More than 0: a recorder with so many."""
    channel: int = 0
    """More than 0: one channel of a recorder that answers for itself (WS-Discovery)."""
    bare: bool = False
    """ProbeMatch without ProbeMatches around it."""
    xaddr_host: str = ""
    """Host that its XAddr names instead of its own."""
    upnp_type: str = ssdp.CAMERA
    service: str = "_onvif._tcp.local."
    answers: int = 1
    """How often it answers each question."""
    fault: str = ""
    """``garbage``, ``huge``, ``bomb``, ``deep`` or ``elsewhere`` instead of its answer; of a
    description also ``endless``."""


Reply = Callable[[SimulatedDevice, bytes, str], list[bytes]]
"""Gives a device's answers to a question; the text is where its description is."""


class SimulatedNetwork:
    """Devices that answer on one interface, until closed. ``ports`` differ in tests only."""

    def __init__(
        self,
        devices: Sequence[SimulatedDevice],
        interface: str,
        ports: dict[str, int] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.devices = tuple(devices)
        self.questions = 0
        """Questions heard, all protocols but mDNS together."""
        self.heard = asyncio.Event()
        """Set when the first one was."""
        self.bad_descriptions: dict[str, str] = {}
        """Faults of descriptions alone, by host."""
        self._interface = interface
        usual = {"ssdp": ssdp.PORT, "ws-discovery": wsd.PORT, "sadp": sadp.PORT, "dhip": dhip.PORT}
        self.ports = {**usual, **(ports or {})}
        self._delay_s = delay_s
        self._random = random.Random(1)  # noqa: S311 - waits, not secrets
        self._sockets: list[socket.socket] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._locations: dict[str, str] = {}

    async def start(self) -> None:
        """Open what is needed; raises OSError."""
        for protocol, (group, reply) in _PROTOCOLS.items():
            speakers = [one for one in self.devices if protocol in one.speaks]
            if speakers:
                if protocol == "ssdp":
                    await self._describe(speakers)
                self._listen(protocol, group, speakers, reply)
        announcing = [one for one in self.devices if "mdns" in one.speaks]
        if announcing:
            self._zeroconf = AsyncZeroconf(
                interfaces=[self._interface], ip_version=IPVersion.V4Only
            )
            # Each is a second of probing for its name.
            registered = [
                await self._zeroconf.async_register_service(_service(one, number))
                for number, one in enumerate(announcing)
            ]
            await asyncio.gather(*registered)

    async def close(self) -> None:
        """Close every socket."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._zeroconf is not None:
            await self._zeroconf.async_close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def _listen(
        self, protocol: str, group: str, speakers: Sequence[SimulatedDevice], reply: Reply
    ) -> None:
        """Hear the group and answer from each device's own address."""
        loop = asyncio.get_running_loop()
        heard = self._socket("", self.ports[protocol])
        membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(self._interface))
        heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        own = {one.host: self._socket(one.host, 0) for one in speakers}

        def answer() -> None:
            with suppress(BlockingIOError):
                while True:
                    data, asker = heard.recvfrom(65_535)
                    self.questions += 1
                    self.heard.set()
                    for one in speakers:
                        wait_s = self._random.uniform(0, self._delay_s)
                        for payload in reply(one, data, self._locations.get(one.host, "")):
                            if self._delay_s:
                                loop.call_later(wait_s, _send, own[one.host], payload, asker)
                            else:
                                _send(own[one.host], payload, asker)

        loop.add_reader(heard.fileno(), answer)

    def _socket(self, host: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((host, port))
        return sock

    async def _describe(self, speakers: Sequence[SimulatedDevice]) -> None:
        """Serve each device's UPnP description at its own address."""
        for one in speakers:

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                one: SimulatedDevice = one,
            ) -> None:
                self._writers.add(writer)
                with suppress(asyncio.IncompleteReadError, OSError, asyncio.LimitOverrunError):
                    await reader.readuntil(b"\r\n\r\n")
                    body = faulty(self.bad_descriptions.get(one.host, one.fault), _description(one))
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    writer.write(head.encode() + body)
                    await writer.drain()
                writer.close()
                self._writers.discard(writer)

            server = await asyncio.start_server(serve, one.host, 0)
            self._servers.append(server)
            port = server.sockets[0].getsockname()[1]
            self._locations[one.host] = f"http://{one.host}:{port}/device.xml"


def _send(sock: socket.socket, payload: bytes, asker: tuple[str, int]) -> None:
    with suppress(OSError):
        sock.sendto(payload, asker)


def faulty(fault: str, answer: bytes) -> bytes:
    """Return what a device with a fault sends instead of its answer."""
    if fault == "garbage":
        return bytes(range(256))
    if fault == "huge":
        return answer + b" " * (65_000 - len(answer))
    if fault == "endless":
        return answer * 1_000
    if fault == "bomb":
        return BOMB
    if fault == "deep":
        return b"<a>" * 200 + b"</a>" * 200
    return answer


def wsd_reply(one: SimulatedDevice, question: bytes, _location: str) -> list[bytes]:
    """Return the answers to a probe; none to what it does not ask for."""
    if b"/discovery/Probe<" not in question or b"wsdp:Device" in question:
        return []
    found = re.search(rb"MessageID>([^<]{1,128})<", question)
    relates = found[1].decode("latin-1") if found else ""
    kind = "NetworkVideoRecorder" if one.channels else "NetworkVideoTransmitter"
    scopes = [f"type/{kind}", f"name/{one.name}", f"hardware/{one.model}"]
    scopes += [f"MAC/{one.mac}"] if one.mac else []
    scopes += [f"channel/{one.channel}"] if one.channel else []
    text = " ".join(f"onvif://www.onvif.org/{scope.replace(' ', '%20')}" for scope in scopes)
    host = "198.51.100.1" if one.fault == "elsewhere" else one.xaddr_host or one.host
    match = (
        f"<d:ProbeMatch><a:EndpointReference><a:Address>urn:uuid:{one.epr or one.host}</a:Address>"
        "</a:EndpointReference><d:Types>dn:NetworkVideoTransmitter tds:Device</d:Types>"
        f"<d:Scopes>{escape(text)}</d:Scopes>"
        f"<d:XAddrs>http://{host}:{one.port}/onvif/device_service</d:XAddrs>"
        "<d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch>"
    )
    if not one.bare:
        match = f"<d:ProbeMatches>{match}</d:ProbeMatches>"
    answer = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
        ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
        ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
        ' xmlns:dn="http://www.onvif.org/ver10/network/wsdl"'
        ' xmlns:tds="http://www.onvif.org/ver10/device/wsdl">'
        f"<s:Header><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID>"
        f"<a:RelatesTo>{escape(relates)}</a:RelatesTo>"
        "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>"
        "<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches</a:Action>"
        '<d:AppSequence InstanceId="1" MessageNumber="1"/></s:Header>'
        f"<s:Body>{match}</s:Body></s:Envelope>"
    )
    return [faulty(one.fault, answer.encode())] * one.answers


def ssdp_reply(one: SimulatedDevice, question: bytes, location: str) -> list[bytes]:
    """Return the answer to an M-SEARCH for the device's type or for root devices."""
    if not question.startswith(b"M-SEARCH"):
        return []
    asked = re.search(rb"\r\nST: *([^\r]{1,128})", question)
    target = asked[1].decode("latin-1") if asked else ""
    if target not in {one.upnp_type, "upnp:rootdevice", "ssdp:all"}:
        return []
    if one.fault == "elsewhere":
        location = "http://198.51.100.1/device.xml"
    answer = (
        f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\nLOCATION: {location}\r\n"
        f"SERVER: Linux UPnP/1.1 sim/1\r\nST: {target}\r\n"
        f"USN: uuid:{one.epr or one.host}::{target}\r\n\r\n"
    )
    return [faulty(one.fault, answer.encode())] * one.answers


def sadp_reply(one: SimulatedDevice, question: bytes, _location: str) -> list[bytes]:
    """Return the answer to an inquiry."""
    if b"<Types>inquiry</Types>" not in question or b"ProbeMatch" in question:
        return []
    host = "198.51.100.1" if one.fault == "elsewhere" else one.host
    mac = "-".join(re.findall("..", one.mac))
    answer = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ProbeMatch>\n<Types>inquiry</Types>\n'
        f"<DeviceType>1</DeviceType>\n<DeviceDescription>{escape(one.model)}</DeviceDescription>\n"
        f"<DeviceSN>{escape(one.serial)}</DeviceSN>\n<MAC>{mac}</MAC>\n"
        f"<IPv4Address>{host}</IPv4Address>\n<HttpPort>{one.port}</HttpPort>\n"
        f"<AnalogChannelNum>0</AnalogChannelNum>\n"
        f"<DigitalChannelNum>{one.channels}</DigitalChannelNum>\n</ProbeMatch>"
    )
    return [faulty(one.fault, answer.encode())] * one.answers


def dhip_reply(one: SimulatedDevice, question: bytes, _location: str) -> list[bytes]:
    """Return the answer to a search."""
    if b"DHDiscover.search" not in question or question[4:8] != dhip.MAGIC:
        return []
    host = "198.51.100.1" if one.fault == "elsewhere" else one.host
    body = msgspec.json.encode(
        {
            "mac": ":".join(re.findall("..", one.mac)),
            "method": "client.notifyDevInfo",
            "params": {
                "deviceInfo": {
                    "DeviceClass": "NVR" if one.channels else "IPC",
                    "DeviceType": one.model,
                    "HttpPort": one.port,
                    "IPv4Address": {"IPAddress": host},
                    "MachineName": one.name,
                    "RemoteVideoInputChannels": one.channels,
                    "SerialNo": one.serial,
                    "Vendor": one.maker,
                    "VideoInputChannels": 0,
                }
            },
        }
    )
    return [faulty(one.fault, dhip.pack(body))] * one.answers


_PROTOCOLS: Final = {
    "ws-discovery": (wsd.GROUP, wsd_reply),
    "ssdp": (ssdp.GROUP, ssdp_reply),
    "sadp": (sadp.GROUP, sadp_reply),
    "dhip": (dhip.GROUP, dhip_reply),
}


def _description(one: SimulatedDevice) -> bytes:
    said = {
        "deviceType": one.upnp_type,
        "friendlyName": one.name,
        "manufacturer": one.maker,
        "modelName": one.model,
        "serialNumber": one.serial,
        "UDN": f"uuid:{one.epr or one.host}",
        "presentationURL": f"http://{one.host}:{one.port}/",
    }
    inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in said.items())
    space = "urn:schemas-upnp-org:device-1-0"
    return f'<root xmlns="{space}"><device>{inner}</device></root>'.encode()


def _service(one: SimulatedDevice, number: int) -> AsyncServiceInfo:
    properties = {"model": one.model, "serial": one.serial, "macaddress": one.mac}
    if one.channel:
        properties["channel"] = str(one.channel)
    return AsyncServiceInfo(
        one.service,
        f"{one.name} {number}.{one.service}",
        port=one.port,
        addresses=[socket.inet_aton(one.host)],
        server=f"sim-{one.host.replace('.', '-')}.local.",
        properties={key: value for key, value in properties.items() if value},
    )


async def _serve(network: SimulatedNetwork) -> None:
    async with network:
        print("ready", flush=True)
        await network.heard.wait()
        print("heard", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Answer as the devices on standard input, until ended."""
    parser = argparse.ArgumentParser(description="Simulated devices that answer discovery.")
    parser.add_argument("--interface", required=True, help="IPv4 address of the interface.")
    parser.add_argument("--delay", type=float, default=0.0, help="Longest wait, in s.")
    parser.add_argument("--devices", type=Path, help="JSON file; default: standard input.")
    parser.add_argument(
        "--port", action="append", default=[], metavar="PROTOCOL=N", help="Instead of its own."
    )
    options = parser.parse_args()
    ports = {name: int(number) for name, _, number in (one.partition("=") for one in options.port)}
    text = options.devices.read_bytes() if options.devices else sys.stdin.buffer.read()
    devices = msgspec.json.decode(text, type=tuple[SimulatedDevice, ...])
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(SimulatedNetwork(devices, options.interface, ports, options.delay)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
