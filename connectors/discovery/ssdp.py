"""SSDP (UPnP Device Architecture 2.0, chapter 1): M-SEARCH over UDP port 1900.

Two questions: for ``DigitalSecurityCamera:1``, which says what it is, and for ``upnp:rootdevice``,
because most cameras announce themselves as ``Basic:1`` and say what they are in their description
only. Devices wait up to MX seconds before they answer; MX leaves a second of the search for that.

A description is fetched by HTTP from the sender alone: a LOCATION that names another host would
make us send requests for somebody else, so it is refused (``elsewhere``).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from yarl import URL

from connectors.cameras.base import CameraSettings
from connectors.cameras.credentials import LocalCredentials
from connectors.cameras.exchange import HttpExchange
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
from connectors.discovery.words import looks_like_camera, looks_like_recorder
from connectors.discovery.xml import read_xml
from schemas.errors import CameraError
from schemas.records import DeviceProfile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from connectors.discovery.base import Scope, Tally
    from connectors.discovery.datagrams import Datagram

GROUP, PORT = "239.255.255.250", 1900
NAME: Final = "ssdp"
CAMERA: Final = "urn:schemas-upnp-org:device:DigitalSecurityCamera:1"
TARGETS: Final = (CAMERA, "upnp:rootdevice")
MAX_MX_S: Final = 5
"""UPnP allows no more."""
OTHERS: Final = {
    "mediaserver": "a media server (UPnP MediaServer)",
    "mediarenderer": "a media player (UPnP MediaRenderer)",
    "internetgatewaydevice": "a router (UPnP InternetGatewayDevice)",
    "wlanaccesspointdevice": "an access point",
    "wfadevice": "an access point (Wi-Fi set-up)",
    "printer": "a printer",
    "scanner": "a scanner",
    "dimmablelight": "a lamp",
    "binarylight": "a lamp",
    "zoneplayer": "a loudspeaker",
}


def search_message(target: str, mx_s: int, port: int = PORT) -> bytes:
    """Return an M-SEARCH."""
    return (
        f'M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}:{port}\r\nMAN: "ssdp:discover"\r\n'
        f"MX: {mx_s}\r\nST: {target}\r\n\r\n"
    ).encode()


class Ssdp:
    """Finds UPnP devices; ``port`` is 1900 but in tests."""

    name = NAME

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    async def search(self, scope: Scope, tally: Tally) -> AsyncGenerator[Sighting, None]:
        """See :class:`connectors.discovery.base.Source`."""
        mx_s = max(1, min(MAX_MX_S, int(scope.timeout_s) - 1))
        payloads = tuple(search_message(one, mx_s, self._port) for one in TARGETS)
        question = Question(payloads, self._port, group=GROUP)
        async with _Descriptions(scope, tally) as descriptions:
            answers = asyncio.create_task(descriptions.read(ask(question, scope, tally)))
            try:
                while (found := await descriptions.next(answers)) is not None:
                    yield found
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
            if not answers.cancelled():
                answers.result()


def read_answer(data: bytes, sender: str) -> tuple[Sighting, str]:
    """Return what an answer says, and where its description is; raises BadAnswerError."""
    head, *lines = data.decode("latin-1").split("\r\n")
    if not re.match(r"HTTP/1\.[01] 200\b", head):
        raise BadAnswerError("malformed")
    headers: dict[str, str] = {}
    for line in lines[:64]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    usn, target = headers.get("usn", ""), headers.get("st", "")
    if not usn and not target:
        raise BadAnswerError("malformed")
    udn = uuid_of(usn.partition("::")[0])
    location = headers.get("location", "")[:1_024]
    port = 0
    if location:
        try:
            url = URL(location)
            port = url.port or 0
            http = url.scheme == "http" and bool(url.host) and url.raw_user is None
        except ValueError:
            raise BadAnswerError("malformed") from None
        if not http:
            raise BadAnswerError("malformed")
        if url.host != sender:
            raise BadAnswerError("elsewhere")
    kind, why = kind_of(target, "")
    found = Sighting(
        NAME,
        sender,
        port if kind == "camera" else 0,
        kind=kind,
        why=why,
        uuid=f"udn:{udn}" if udn else "",
    )
    return found, location


def kind_of(device_type: str, words: str) -> tuple[Kind, str]:
    """Return what a device is, from its UPnP type and the words of its description."""
    short = device_type.lower().removeprefix("urn:").partition(":device:")[2].partition(":")[0]
    if short == "digitalsecuritycamera":
        return "camera", "UPnP DigitalSecurityCamera"
    if short in OTHERS:
        return "other", OTHERS[short]
    if looks_like_recorder(words):
        return "recorder", f"UPnP description: {text_of(words)}"
    if looks_like_camera(words):
        return "camera", f"UPnP description: {text_of(words)}"
    if words.strip():
        return "other", f"UPnP {short or 'device'} that does not look like a camera"
    return "unknown", "a UPnP device without a description"


def read_description(data: bytes, answer: Sighting, location: str) -> Sighting:
    """Return what a device's description says; raises BadAnswerError."""
    root = read_xml(data)
    devices = root.all("device")
    if not devices:
        raise BadAnswerError("malformed")
    device = devices[0]
    said = {
        name: text_of(device.first(name))
        for name in ("friendlyName", "manufacturer", "modelName", "modelNumber", "serialNumber")
    }
    words = " ".join(said[name] for name in ("manufacturer", "modelName", "friendlyName"))
    device_type = device.first("deviceType")
    kind, why = kind_of(device_type, words)
    if answer.kind == "camera":
        kind, why = answer.kind, answer.why
    udn = uuid_of(device.first("UDN"))
    page = _presentation(device.first("presentationURL"), location, answer.host)
    wanted = kind in {"camera", "recorder"}
    return Sighting(
        NAME,
        answer.host,
        page.port or 0 if page is not None and wanted else answer.port,
        kind=kind,
        why=why,
        protocol="auto" if page is not None and wanted else "",
        address=str(page) if page is not None and wanted else "",
        mac=mac_of(said["serialNumber"]),
        uuid=f"udn:{udn}" if udn else answer.uuid,
        serial=serial_of(said["serialNumber"]),
        maker=said["manufacturer"],
        model=said["modelName"] or said["modelNumber"],
        name=said["friendlyName"],
    )


def _presentation(text: str, location: str, host: str) -> URL | None:
    """Return the device's own page, if it is one of its own."""
    if not text:
        return None
    try:
        url = URL(location).join(URL(text[:1_024]))
    except ValueError:
        return None
    good = url.scheme in {"http", "https"} and url.host == host and url.raw_user is None
    return url if good and url.port else None


class _Descriptions:
    """Reads answers, and fetches descriptions beside that, a few at a time and each one once."""

    def __init__(self, scope: Scope, tally: Tally) -> None:
        self._limits = scope.limits
        self._tally = tally
        settings = CameraSettings(max_redirects=0, max_connections=scope.limits.max_fetching)
        self._exchange = HttpExchange(settings, scope.policy, LocalCredentials(settings))
        self._slots = asyncio.Semaphore(scope.limits.max_fetching)
        self._asked: set[str] = set()
        self._of_one: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: deque[Sighting] = deque()
        self._some = asyncio.Event()

    async def __aenter__(self) -> _Descriptions:  # noqa: PYI034 - made by this module alone
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exchange.close()

    async def read(self, datagrams: AsyncGenerator[Datagram, None]) -> None:
        """Read every answer, and have described what wants to be."""
        async with aclosing(datagrams):
            async for data, sender in datagrams:
                try:
                    found, location = read_answer(data, sender)
                except BadAnswerError as error:
                    self._tally.refuse(error.word)
                    continue
                self._wake(found if not location or found.kind == "camera" else None)
                if location:
                    self._describe(location, found)

    async def next(self, answers: asyncio.Task[None]) -> Sighting | None:
        """Return the next sighting; None when the answers have ended and all is described."""
        while not self._ready:
            busy = {answers, *self._tasks} - ({answers} if answers.done() else set())
            if not busy:
                return None
            self._some.clear()
            waking = asyncio.create_task(self._some.wait())
            try:
                await asyncio.wait({*busy, waking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waking.cancel()
        return self._ready.popleft()

    def _wake(self, found: Sighting | None) -> None:
        if found is not None:
            self._ready.append(found)
        self._some.set()

    def _describe(self, location: str, answer: Sighting) -> None:
        """Fetch a description, unless that is done, or more than the limits allow."""
        key = f"{location} {answer.kind}"
        if key in self._asked:
            return
        full = len(self._asked) >= self._limits.max_descriptions
        if full or self._of_one[answer.host] >= self._limits.max_descriptions_of_one:
            self._tally.refuse("flood")
            return
        self._asked.add(key)
        self._of_one[answer.host] += 1
        task = asyncio.create_task(self._fetch(location, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, location: str, answer: Sighting) -> None:
        limits = self._limits
        profile = DeviceProfile(f"the device at {answer.host}", location, "auto")
        found = answer
        try:
            async with self._slots:
                deadline_s = asyncio.get_running_loop().time() + limits.description_timeout_s
                got = await self._exchange.get(
                    profile,
                    location,
                    headers={},
                    max_bytes=limits.max_description_bytes,
                    deadline_s=deadline_s,
                )
            if got.status != 200:
                raise BadAnswerError("undescribed")
            found = read_description(got.body, answer, location)
        except BadAnswerError as error:
            self._tally.refuse(error.word)
        except CameraError:
            self._tally.refuse("undescribed")
        self._wake(found)
