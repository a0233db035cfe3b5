"""Simulated ONVIF cameras: the simulated fleet with a device service in front of each camera.

    python -m connectors.cameras.simulated_onvif --devices 3 --login wsse --skew-s 7200
    {"host": "127.0.0.1", "ports": [40123], "devices": 3, "pid": 4711}

The device service of a camera is at ``/onvif/<id>/device_service``; what it names as its snapshot
is ``/cam/<id>/snapshot.jpg`` of :mod:`connectors.cameras.simulated`, with all of its faults. What
is peculiar about the devices is said by :class:`Traits`, which may be changed while they run. They
are strict where real ones are: a token older than five seconds by their own clock is refused, a
nonce counts once, and who is refused too often is locked out.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
import time
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from xml.etree.ElementTree import ParseError

import uvloop
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from connectors.cameras import onvif_soap
from connectors.cameras.faults import Fault
from connectors.cameras.simulated import SimulatedCameras, run_until_told
from connectors.cameras.simulated_http import REALM, Connection, Reply, authorized
from connectors.cameras.simulated_onvif_answers import BAD_ANSWERS, answer_to, fault
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from connectors.cameras.simulated_http import Request

TOKEN_AGE_S: Final = 5.0
"""How old a token may be, by the device's own clock (ONVIF Core asks for about this much)."""
NEVER: Final = "never"
MAX_NONCES: Final = 10_000
OPEN: Final = frozenset({"GetSystemDateAndTime"})
"""What is answered to anybody, unless :attr:`Traits.refuse_time`."""


@dataclass(slots=True)
class Traits:
    """What is peculiar about the simulated devices."""

    login: Literal["none", "wsse", "digest"] = "none"
    user: str = "admin"
    password: str = "secret"  # noqa: S105 - a pretended camera
    lock_after: int = 3
    """Refused logins of a device after which it takes none; the real ones have 3 to 10."""
    skew_s: float = 0.0
    """How far the devices' clocks are ahead, in seconds."""
    utc_lies_s: float = 0.0
    """How far what they call their UTC is from what they check tokens by, in seconds."""
    refuse_time: bool = False
    """GetSystemDateAndTime wants a login too."""
    date_header: bool = True
    host: str = ""
    """``host:port`` they take themselves to be at; empty: where they were reached."""
    snapshot: bool = True
    """Whether they offer a snapshot."""
    firmware: int = 1
    """Part of the snapshot's address: what an update moves. Other addresses answer 404."""
    rtsp: str = ""
    """``host:port`` of their streams; empty: port 554 where they were reached."""
    streams: bool = True
    """Whether they name their streams."""
    sub_stream: bool = True
    channels: int = 1
    """Video sources: more than one is a recorder."""
    media: Literal[1, 2] = 1
    """Which generation of the media service they have."""
    services: bool = True
    """False: devices of the first generation, which know GetCapabilities only."""
    redirect: str = ""
    """Where SOAP requests but for the time are redirected to (307); empty: they are not."""
    answer: str = ""
    """How every operation is answered instead of as it should be: a key of ``BAD_ANSWERS``,
    or ``never``: not at all."""
    answer_to: str = ""
    """The one operation that :attr:`answer` is for; empty: all."""


class OnvifConnection(Connection):
    """The server's side of one TCP connection: SOAP, and what the simulated cameras do anyway."""

    _cameras: SimulatedOnvif

    def _answer(self, request: Request) -> None:
        if not request.path.startswith("/onvif/"):
            super()._answer(request)
            return
        device = request.path[7:].partition("/")[0]
        if not self._cameras.has(device):
            self._send(Reply(404, "text/plain", b"no such device\n"), request)
        elif request.method != "POST":
            self._send(Reply(405, "text/plain", b"POST it\n"), request)
        else:
            self._soap(request, device)

    def _soap(self, request: Request, device: str) -> None:
        try:
            body = onvif_soap.parse(request.body)
        except CameraError:
            self._tell(request, 400, fault("Sender", "WellFormed", "no SOAP envelope"))
            return
        operation = body.tag.rpartition("}")[2]
        refusal = self._cameras.refusal(device, operation, request)
        self._cameras.operations[operation] += 1
        traits = self._cameras.traits
        if refusal is not None:
            self._refuse(request, refusal)
        elif traits.redirect and operation not in OPEN:
            self._send(Reply(307, "text/plain", b""), request, f"Location: {traits.redirect}\r\n")
        elif traits.answer == NEVER and traits.answer_to in {"", operation}:
            return
        elif traits.answer and traits.answer_to in {"", operation}:
            status, data = BAD_ANSWERS[traits.answer]
            self._tell(request, status, data)
        else:
            here = request.headers.get("host", "")
            found = answer_to(operation, body, device, here, traits, self._cameras.device_utc())
            self._tell(request, 400 if b"Fault>" in found else 200, found)

    def _refuse(self, request: Request, reason: str) -> None:
        extra = ""
        if self._cameras.traits.login == "digest":
            nonce = self._cameras.nonce
            challenge = f'Digest realm="{REALM}", nonce="{nonce}", qop="auth", algorithm=MD5'
            extra = f"WWW-Authenticate: {challenge}\r\n"
        self._tell(request, 401, fault("Sender", "NotAuthorized", reason), extra)

    def _tell(self, request: Request, status: int, data: bytes, extra: str = "") -> None:
        if self._cameras.traits.date_header:
            extra += f"Date: {format_datetime(self._cameras.clock(), usegmt=True)}\r\n"
        self._send(Reply(status, "application/soap+xml; charset=utf-8", data), request, extra)

    def _camera(self, request: Request, device: str, what: str) -> None:
        firmware = str(self._cameras.traits.firmware)
        if what == "snapshot.jpg" and request.query.get("firmware", "1") != firmware:
            self._send(Reply(404, "text/plain", b"no such page\n"), request)
            return
        super()._camera(request, device, what)


class SimulatedOnvif(SimulatedCameras):
    """The fleet; ``traits`` may be changed while it runs."""

    connection: ClassVar[type[Connection]] = OnvifConnection

    def __init__(
        self,
        devices: int = 1,
        *,
        traits: Traits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        width_px: int = 320,
        height_px: int = 240,
    ) -> None:
        super().__init__(devices, host=host, port=port, width_px=width_px, height_px=height_px)
        self.traits = traits or Traits()
        self.operations: Counter[str] = Counter()
        """SOAP requests by operation, refused ones included."""
        self.refused: Counter[str] = Counter()
        """Refused logins by device: requests that carried credentials."""
        self._nonces: OrderedDict[bytes, None] = OrderedDict()

    def service(self, device: str, channel: str = "") -> str:
        """Return the address of a device's service for a profile."""
        mark = f"#{channel}" if channel else ""
        return f"http://{self.host}:{self.port}/onvif/{device}/device_service{mark}"

    def clock(self) -> datetime:
        """Return the devices' time."""
        return datetime.fromtimestamp(time.time() + self.traits.skew_s, UTC)

    def device_utc(self) -> datetime:
        """Return what the devices say that their time is."""
        return datetime.fromtimestamp(
            time.time() + self.traits.skew_s + self.traits.utc_lies_s, UTC
        )

    def refusal(self, device: str, operation: str, request: Request) -> str | None:
        """Say why a request is refused; None: it is not. Counts refused logins."""
        traits = self.traits
        if traits.login == "none" or (operation in OPEN and not traits.refuse_time):
            return None
        if self.refused[device] >= traits.lock_after:
            return "The account is locked"
        if traits.login == "digest":
            given = "authorization" in request.headers
            as_fault = Fault(kind="digest", user=traits.user, password=traits.password)
            good = authorized(request, as_fault, self.nonce)
        else:
            token = _token(request.body)
            given = token is not None
            good = token is not None and self._accepts(token)
        if good:
            return None
        self.refused[device] += int(given)
        return "Sender not authorized"

    def _accepts(self, token: dict[str, str]) -> bool:
        """Judge a UsernameToken as OASIS WSS UsernameToken Profile 1.0 says."""
        try:
            nonce = b64decode(token["Nonce"], validate=True)
            created = datetime.fromisoformat(token["Created"])
        except (KeyError, ValueError):
            return False
        age_s = abs((self.clock() - created).total_seconds())
        if age_s > TOKEN_AGE_S or nonce in self._nonces:
            return False
        self._nonces[nonce] = None
        if len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        text = nonce + token["Created"].encode() + self.traits.password.encode()
        wanted = b64encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode()
        right = secrets.compare_digest(token.get("Password", ""), wanted)
        return right and token.get("Username") == self.traits.user


def _token(body: bytes) -> dict[str, str] | None:
    """Return the parts of a request's UsernameToken, by local name; None: it has none."""
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException):
        return None
    for element in root.iter():
        if element.tag.endswith("}UsernameToken"):
            return {part.tag.rpartition("}")[2]: (part.text or "").strip() for part in element}
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m connectors.cameras.simulated_onvif",
        description="Serve simulated ONVIF cameras; print one JSON line when they are ready.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--login", choices=("none", "wsse", "digest"), default="none")
    parser.add_argument("--skew-s", type=float, default=0.0, help="how far their clocks are ahead")
    parser.add_argument("--rtsp", default="", metavar="HOST:PORT", help="where their streams are")
    options = parser.parse_args(arguments)
    traits = Traits(login=options.login, skew_s=options.skew_s, rtsp=options.rtsp)
    fleet = SimulatedOnvif(options.devices, traits=traits, host=options.host, port=options.port)
    uvloop.run(run_until_told(fleet, asyncio.Event()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
