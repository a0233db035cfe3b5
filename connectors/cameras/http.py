"""Cameras that speak HTTP: ``http-snapshot`` and ``http-json``.

``http-snapshot``: the profile's address is the snapshot itself; one GET opens the shutter. A stream
of pictures (MJPEG) is one as well: its first whole picture is taken, and the stream is left.

    GET /cam/cam-00001/snapshot.jpg      → 200, a JPEG
    GET /stream.mjpeg                    → 200, multipart/x-mixed-replace; boundary=x

``http-json``: the address is the device's root. The shutter opens at the first request, and the
picture is fetched by a second, so that a slow transfer does not delay the shutter.

    GET /cam/cam-00001/capture?command_id=7  → 200, {"snapshot": "frames/9.jpg",
                                                     "captured_at_ms": 1795433700000}
    GET /cam/cam-00001/frames/9.jpg          → 200, a JPEG

``snapshot`` is a URL reference, resolved against the request's URL and checked like any address.
Every request carries the command's id in ``X-Command-Id``.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from yarl import URL

from connectors.cameras.exchange import status_error
from connectors.cameras.frame import SOI, clean, describe, read_jpeg, read_other
from connectors.cameras.mjpeg import read_picture
from connectors.cameras.readers import nothing
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.cameras.base import Frame
    from connectors.cameras.exchange import Answer, HttpExchange
    from schemas.records import CaptureCommand, DeviceProfile

COMMAND_HEADER: Final = "X-Command-Id"
HEAD_UNKNOWN: Final = frozenset({400, 405, 501})
"""What a device answers that knows no HEAD request: it is there all the same."""


class CaptureAnswer(msgspec.Struct, frozen=True):
    """What an ``http-json`` device answers to ``capture``."""

    snapshot: str
    captured_at_ms: int | None = None


_CAPTURE: Final = msgspec.json.Decoder(CaptureAnswer)


async def head(exchange: HttpExchange, profile: DeviceProfile, deadline_s: float) -> int:
    """Ask for the headers of the profile's address and return the status; opens no shutter.

    The connection stays open, and the login is known: the next request is a single round trip. A
    device that knows no HEAD says 501, or hangs up, which is taken as 501 and remembered.
    """
    if exchange.headless.get(profile.device_id, profile.address):
        return 501
    try:
        answer = await exchange.get(
            profile,
            profile.address,
            headers={},
            max_bytes=exchange.settings.max_answer_bytes,
            deadline_s=deadline_s,
            method="HEAD",
            read=nothing,
        )
    except CameraError as error:
        if error.cause != "disconnected":
            raise
        exchange.headless.keep(profile.device_id, profile.address, True)
        return 501
    if answer.status in {405, 501}:
        exchange.headless.keep(profile.device_id, profile.address, True)
    return answer.status


async def _reach(exchange: HttpExchange, profile: DeviceProfile, deadline_s: float) -> None:
    """Raise CameraError if the profile's address is no good."""
    if exchange.headless.get(profile.device_id, profile.address):
        await exchange.connect(profile, deadline_s=deadline_s)
        return
    status = await head(exchange, profile, deadline_s)
    if status >= 400 and status not in HEAD_UNKNOWN:
        raise status_error(profile, status)


def is_ready(exchange: HttpExchange, profile: DeviceProfile) -> bool:
    """Say whether a request to the profile's address will be one round trip; does no I/O."""
    return exchange.knows_login(profile) and exchange.is_connected(profile.address)


async def make_ready(exchange: HttpExchange, profile: DeviceProfile, deadline_s: float) -> None:
    """Have a connection in the pool, TLS included, and the login known; opens no shutter."""
    exchange.policy.target(profile.address)  # one that cannot be used is no connection at hand
    if not exchange.knows_login(profile):
        await head(exchange, profile, deadline_s)
    if not exchange.is_connected(profile.address):
        await exchange.connect(profile, deadline_s=deadline_s)


def read_frame(answer: Answer, *, made_over: bool = False) -> Frame:
    """Return the picture of an answer, and by which certificate it came; raises CameraError.

    ``made_over``: the image pipeline has it next, so it may have any format that is read there.
    """
    plain = not made_over or answer.body[:2] == SOI
    frame = read_jpeg(answer.body) if plain else read_other(answer.body)
    if not answer.certificate_sha256:
        return frame
    return dataclasses.replace(frame, certificate_sha256=answer.certificate_sha256)


async def picture(
    exchange: HttpExchange,
    profile: DeviceProfile,
    url: str,
    command: CaptureCommand,
    deadline_s: float,
) -> Frame:
    """Fetch a URL that is expected to be a picture, or a stream of them."""
    answer = await exchange.get(
        profile,
        url,
        headers={COMMAND_HEADER: str(command.command_id)},
        max_bytes=exchange.settings.max_image_bytes,
        deadline_s=deadline_s,
        read=read_picture,
    )
    if answer.status != 200:
        raise status_error(profile, answer.status)
    try:
        return read_frame(answer, made_over=bool(command.image))
    except CameraError as error:
        name = clean(profile.device_id)
        raise CameraError(error.cause, f"{name}: {error}", retry=error.retry) from error


class HttpSnapshotCamera:
    """The adapter of ``http-snapshot``."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the address answers; takes no photo."""
        await _reach(self._exchange, profile, deadline_s)

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether no idle connection is at hand, or the login is not known."""
        return not is_ready(self._exchange, profile)

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Open a connection ahead and log in; without credentials nothing is sent."""
        await make_ready(self._exchange, profile, deadline_s)

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Take one photo by one GET of the address."""
        return await picture(self._exchange, profile, profile.address, command, deadline_s)

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],  # noqa: ARG002
        *,
        deadline_s: float,  # noqa: ARG002
    ) -> bytes:
        """Raise: a snapshot address has no methods."""
        raise CameraError(
            "unknown_protocol",
            f"{clean(profile.device_id)} is a snapshot address; it has no method {method!r}",
            retry=False,
        )

    async def close(self) -> None:
        """Do nothing: the connections belong to the exchange."""


class HttpJsonCamera:
    """The adapter of ``http-json``."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the address answers; takes no photo."""
        await _reach(self._exchange, profile, deadline_s)

    def wants_prepare(self, profile: DeviceProfile) -> bool:
        """Say whether no idle connection is at hand, or the login is not known."""
        return not is_ready(self._exchange, profile)

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Open a connection ahead and log in; without credentials nothing is sent."""
        await make_ready(self._exchange, profile, deadline_s)

    async def capture(
        self, profile: DeviceProfile, command: CaptureCommand, *, deadline_s: float
    ) -> Frame:
        """Open the shutter, then fetch the picture."""
        url = f"{_method_url(profile.address, 'capture')}command_id={command.command_id}"
        answer = await self._exchange.get(
            profile,
            url,
            headers={COMMAND_HEADER: str(command.command_id)},
            max_bytes=self._exchange.settings.max_answer_bytes,
            deadline_s=deadline_s,
        )
        if answer.status != 200:
            raise status_error(profile, answer.status)
        try:
            reply = _CAPTURE.decode(answer.body)
            snapshot = str(answer.url.join(URL(reply.snapshot)))
        except (msgspec.MsgspecError, ValueError) as error:
            raise CameraError(
                "bad_answer",
                f"{clean(profile.device_id)}: expected JSON with the field 'snapshot', but got "
                f"{describe(answer.body)}",
            ) from error
        frame = await picture(self._exchange, profile, snapshot, command, deadline_s)
        if frame.frame_at_ms is None and reply.captured_at_ms is not None:
            return dataclasses.replace(frame, frame_at_ms=reply.captured_at_ms)
        return frame

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],
        *,
        deadline_s: float,
    ) -> bytes:
        """Send ``GET address/method?arguments`` and return the body of its answer."""
        pairs = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in arguments.items())
        answer = await self._exchange.get(
            profile,
            _method_url(profile.address, method) + pairs,
            headers={},
            max_bytes=self._exchange.settings.max_answer_bytes,
            deadline_s=deadline_s,
        )
        if answer.status != 200:
            raise status_error(profile, answer.status)
        return answer.body

    async def close(self) -> None:
        """Do nothing: the connections belong to the exchange."""


@functools.lru_cache(maxsize=65_536)
def _method_url(address: str, method: str) -> str:
    """Return the URL of a device's method, ready for ``name=value``; keeps the address's query."""
    try:
        url = URL(address)
    except ValueError as error:
        message = "the device's address cannot be used: it is not a URL"
        raise CameraError("bad_address", message, retry=False) from error
    path = f"{url.raw_path.rstrip('/')}/{quote(method, safe='')}"
    query = f"{url.raw_query_string}&" if url.raw_query_string else ""
    return f"{url.with_path(path, encoded=True).with_query(None)}?{query}"
