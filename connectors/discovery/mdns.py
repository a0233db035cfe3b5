"""mDNS and DNS-SD (RFC 6762, 6763) by ``zeroconf``: what announces itself as a camera's service.

``_onvif._tcp`` and ``_axis-video._tcp`` are cameras. ``_rtsp._tcp`` is a camera unless its words
say otherwise (media servers have it too). ``_http._tcp`` is anything with a web page: it counts
only with the words of a camera in its name, host or TXT record.

An answer is not tied to its sender: whoever answers may name any address. So the address policy is
all that stands between a liar and a profile; nothing is contacted here.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from yarl import URL
from zeroconf import (
    BadTypeInNameException,
    Error,
    IPVersion,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from connectors.discovery.base import Kind, Sighting, mac_of, remaining_s, serial_of, text_of
from connectors.discovery.words import looks_like_camera, looks_like_recorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from connectors.discovery.base import Scope, Tally

NAME: Final = "mdns"
ONVIF: Final = "_onvif._tcp.local."
AXIS: Final = "_axis-video._tcp.local."
RTSP: Final = "_rtsp._tcp.local."
HTTP: Final = "_http._tcp.local."
TYPES: Final = (ONVIF, AXIS, RTSP, HTTP)
MAX_NAMES: Final = 4_096
"""Services that are resolved in one search."""
RESOLVING: Final = 64
"""Services resolved at a time."""
MAX_ADDRESSES: Final = 4
"""Addresses of one service that are looked at."""
MAX_TXT: Final = 64


class Mdns:
    """Finds services by multicast DNS."""

    name = NAME

    async def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """See :class:`connectors.discovery.base.Source`."""
        deadline_s = asyncio.get_running_loop().time() + scope.timeout_s
        if not scope.interfaces:
            return  # hosts asked one by one speak the other protocols
        addresses = _usable([one.address for one in scope.interfaces])
        zeroconf = AsyncZeroconf(interfaces=addresses, ip_version=IPVersion.V4Only)
        names: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_NAMES)
        heard: set[str] = set()

        def on_change(
            zeroconf: Zeroconf,  # noqa: ARG001 - zeroconf passes them by name
            service_type: str,
            name: str,
            state_change: ServiceStateChange,
        ) -> None:
            if state_change is ServiceStateChange.Removed or name in heard:
                return
            tally.answers += 1
            if len(heard) >= MAX_NAMES or names.full():
                tally.refuse("overflow")
                return
            heard.add(name)
            names.put_nowait((service_type, name))

        browser: AsyncServiceBrowser | None = None
        try:
            await zeroconf.zeroconf.async_wait_for_start()
            browser = AsyncServiceBrowser(
                zeroconf.zeroconf, list(TYPES), handlers=[on_change], delay=1_000
            )
            tally.asked += len(TYPES)
            seen = _resolve(zeroconf.zeroconf, names, deadline_s, tally)
            async with aclosing(seen):
                async for found in seen:
                    if scope.permits(found.host):
                        yield found
                    else:
                        tally.refuse("not_allowed")
        finally:
            if browser is not None:
                await browser.async_cancel()
            await zeroconf.async_close()


def _usable(addresses: Sequence[str]) -> list[str]:
    """Return those that are this machine's now; OSError if none is.

    zeroconf forgets to close its first socket where a later one cannot be opened.
    """
    found: list[str] = []
    problem: OSError | None = None
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind((address, 0))
            except OSError as error:
                problem = error
            else:
                found.append(address)
    if not found and problem is not None:
        raise problem
    return found


async def _resolve(
    zeroconf: Zeroconf,
    names: asyncio.Queue[tuple[str, str]],
    deadline_s: float,
    tally: Tally,
) -> AsyncGenerator[Sighting, None]:
    """Resolve names as they are heard, several at a time, until the deadline."""
    found: asyncio.Queue[Sighting] = asyncio.Queue()

    async def work() -> None:
        while True:
            service_type, name = await names.get()
            try:
                info = AsyncServiceInfo(service_type, name)
            except BadTypeInNameException:
                tally.refuse("malformed")
                continue
            with suppress(Error, OSError):
                if await info.async_request(zeroconf, max(1.0, remaining_s(deadline_s) * 1_000)):
                    for one in read_service(service_type, info):
                        found.put_nowait(one)

    workers = [asyncio.create_task(work()) for _ in range(RESOLVING)]
    try:
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    one = await found.get()
            except TimeoutError:
                return
            yield one
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def read_service(service_type: str, info: AsyncServiceInfo) -> list[Sighting]:
    """Return what a service says of its device, once for each of its first IPv4 addresses."""
    port = info.port or 0
    name = text_of(info.name.removesuffix(f".{service_type}"))
    server = text_of((info.server or "").removesuffix(".").removesuffix(".local"))
    txt = {
        text_of(key).lower(): text_of(value or "")
        for key, value in list(info.decoded_properties.items())[:MAX_TXT]
    }
    words = " ".join((name, server, *(f"{key} {value}" for key, value in txt.items())))
    kind, why = _kind(service_type, words)
    said = txt.get("channel", "")
    channel = int(said) if said.isascii() and said.isdigit() and int(said[:4]) < 1_000 else 0
    wanted = kind in {"camera", "recorder"}
    return [
        Sighting(
            NAME,
            host,
            port,
            kind="camera" if channel and kind == "recorder" else kind,
            why=why,
            protocol=_PROTOCOLS[service_type] if wanted and port else "",
            address=_address(service_type, host, port, txt.get("path", "")) if wanted else "",
            mac=mac_of(txt.get("mac", "") or txt.get("macaddress", "")),
            serial=serial_of(txt.get("serial", "") or txt.get("serialnumber", "")),
            maker=txt.get("manufacturer", ""),
            model=txt.get("model", "") or txt.get("md", ""),
            name=name,
            channel=channel,
        )
        for host in info.parsed_addresses(IPVersion.V4Only)[:MAX_ADDRESSES]
    ]


_PROTOCOLS: Final = {ONVIF: "onvif", AXIS: "auto", RTSP: "rtsp", HTTP: "auto"}


def _kind(service_type: str, words: str) -> tuple[Kind, str]:
    if looks_like_recorder(words):
        return "recorder", f"mDNS: {text_of(words)}"
    if service_type in {ONVIF, AXIS}:
        return "camera", f"mDNS {service_type.removesuffix('.local.')}"
    if looks_like_camera(words):
        return "camera", f"mDNS: {text_of(words)}"
    if service_type == RTSP:
        if "media" in words.lower():
            return "other", "a media server (mDNS _rtsp._tcp)"
        return "camera", "mDNS _rtsp._tcp"
    return "other", "a web page that does not look like a camera's (mDNS _http._tcp)"


def _address(service_type: str, host: str, port: int, path: str) -> str:
    """Return the service's URL, at this host whatever its path says; empty without a port."""
    if not port:
        return ""
    scheme = "rtsp" if service_type == RTSP else "http"
    if service_type == ONVIF and not path:
        path = "/onvif/device_service"
    own = URL.build(scheme=scheme, host=host, port=port, path="/")
    try:
        found = own.join(URL(path))
    except ValueError:
        return str(own)
    # A path such as //other/ would be another host's.
    return str(found if found.origin() == own.origin() else own)
