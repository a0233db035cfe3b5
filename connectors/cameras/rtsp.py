"""Cameras that speak RTSP: protocol ``rtsp``. The profile's address is the stream.

    rtsp://10.0.0.7/Streaming/Channels/102      rtsps://… for TLS

A stream has no shutter: it runs, and a photo is the first picture that was taken after the capture
was asked for (``rtp_clock.py`` says how that is known). Cold, a stream is opened for the photo and
ended after it. Warm (``rtsp_warm.py``), it plays already and the pictures since the last key frame
are at hand, so the next picture will do, however far the next key frame is.

H.264 and H.265 are decoded and encoded as JPEG in a thread (``rtsp_decode.py``); Motion JPEG is
passed on with the camera's own tables (``rtp_jpeg.py``). The deadline is one timeout around all of
it, and what is open at its end is closed without waiting for the camera.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from connectors.cameras.frame import clean, read_jpeg
from connectors.cameras.policy import RTSP_PORTS
from connectors.cameras.rtp_clock import Shutter
from connectors.cameras.rtsp_connection import RtspConnection
from connectors.cameras.rtsp_decode import Decoders
from connectors.cameras.rtsp_session import (
    Opening,
    Progress,
    Session,
    SilentError,
    describe,
    open_session,
)
from connectors.cameras.rtsp_warm import WarmSessions
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.cameras.base import CameraSettings, Frame
    from connectors.cameras.credentials import CredentialProvider, Credentials
    from connectors.cameras.policy import AddressPolicy
    from connectors.cameras.rtp_gop import Choice
    from connectors.cameras.rtsp_warm import Key
    from schemas.records import CaptureCommand, DeviceProfile

PROTOCOL: Final = "rtsp"
SCHEMES: Final = tuple(RTSP_PORTS)
UDP_SILENCE_S: Final = 1.0
"""After so long without a packet over UDP, TCP is tried: a firewall lies between."""
WARM_SILENCE_S: Final = 1.0
"""After so long without a packet, and two pictures' time, a warm stream is given up."""
MAX_LEARNT: Final = 65_536
"""Devices whose transport is remembered, some 200 bytes each."""


class RtspCamera:
    """The adapter of ``rtsp``."""

    def __init__(
        self, settings: CameraSettings, policy: AddressPolicy, credentials: CredentialProvider
    ) -> None:
        self._all = settings
        self._settings = settings.rtsp
        self._policy = policy
        self._credentials = credentials
        self._decoders = Decoders(self._settings.decoders, self._settings.jpeg_quality)
        self._slots = asyncio.Semaphore(self._settings.max_sessions)
        self._warm = WarmSessions(self._settings.warm_sessions, self._settings.warm_idle_ms / 1000)
        self._opening: dict[Key, asyncio.Future[None]] = {}
        self._learnt: OrderedDict[Key, str] = OrderedDict()
        self._tls: ssl.SSLContext | None = None
        self._connections: set[RtspConnection] = set()
        self._closed = False

    @property
    def warm_sessions(self) -> int:
        """How many streams play on."""
        return len(self._warm)

    async def connect(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Check that the stream is there and we may see it; takes no photo."""
        opening = self._begin(profile)
        try:
            async with asyncio.timeout_at(deadline_s), self._slots:
                connection = self._connection(profile, opening)
                try:
                    await describe(connection, opening)
                finally:
                    connection.finish()
        except TimeoutError:
            raise _timeout(profile, opening.progress) from None

    def wants_prepare(self, profile: DeviceProfile) -> bool:  # noqa: ARG002
        """Say whether :meth:`prepare` would help: wherever streams may play on."""
        return self._settings.warm_sessions > 0

    async def prepare(self, profile: DeviceProfile, *, deadline_s: float) -> None:
        """Begin to play, where a place for it is free, so that a capture takes the next picture."""
        key = _key(profile)
        if self._warm.promise(key) or key in self._opening or not self._warm.make_room():
            return
        opening = self._begin(profile)
        ready = self._opening[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(deadline_s):
                session = await self._open(profile, opening)
            if self._warm.make_room():
                self._warm.put(key, session)
            else:
                session.finish()
        except TimeoutError:
            raise _timeout(profile, opening.progress) from None
        finally:
            del self._opening[key]
            ready.set_result(None)

    async def capture(
        self,
        profile: DeviceProfile,
        command: CaptureCommand,  # noqa: ARG002 - a stream has no place for its id
        *,
        deadline_s: float,
    ) -> Frame:
        """Return the first picture taken after now."""
        shutter = Shutter(asyncio.get_running_loop().time(), time.time_ns() / 1e6)
        progress = Progress()
        try:
            async with asyncio.timeout_at(deadline_s):
                session, choice = await self._picture(profile, shutter, progress)
                codec = session.stream.video.codec
                data = choice.units[-1].data
                if codec != "jpeg":
                    data = await self._decoders.jpeg(codec, choice.units)
        except TimeoutError:
            raise _timeout(profile, progress) from None
        except CameraError as error:
            if error.cause != "undecodable":
                raise
            raise _named(profile, error) from None
        frame = self._frame(profile, data)
        return dataclasses.replace(
            frame, frame_at_ms=choice.camera_ms, certificate_sha256=session.certificate_sha256
        )

    async def invoke(
        self,
        profile: DeviceProfile,
        method: str,
        arguments: Mapping[str, str],  # noqa: ARG002
        *,
        deadline_s: float,  # noqa: ARG002
    ) -> bytes:
        """Raise: a stream has no methods."""
        text = f"{clean(profile.device_id)} is a stream; it has no method {method!r}"
        raise CameraError("unknown_protocol", text, retry=False)

    async def close(self) -> None:
        """End every stream and the decoders."""
        self._closed = True
        self._warm.close()
        self._decoders.close()
        connections = [one for one in self._connections if not one.closed.is_set()]
        for connection in connections:
            connection.finish()
            connection.abort()
        for connection in connections:
            await connection.closed.wait()

    # --- a picture --------------------------------------------------------------------------------

    async def _picture(
        self, profile: DeviceProfile, shutter: Shutter, progress: Progress
    ) -> tuple[Session, Choice]:
        """Return the stream and what to decode; keeps or ends the stream."""
        key = _key(profile)
        if (ready := self._opening.get(key)) is not None:
            await asyncio.wait([ready])
        session = self._warm.take(key)
        if session is not None:
            progress.session = session
            try:
                return session, await self._wait(key, session, shutter, _warm_silence_s(session))
            except SilentError:
                pass
            except CameraError as error:
                if error.cause != "disconnected":
                    raise
            progress.session = None
        return await self._cold_picture(profile, shutter, progress)

    async def _cold_picture(
        self, profile: DeviceProfile, shutter: Shutter, progress: Progress
    ) -> tuple[Session, Choice]:
        key = _key(profile)
        opening = self._begin(profile, progress)
        while True:
            session = await self._open(profile, opening)
            others = [
                name
                for name in opening.transports
                if name not in opening.refused and name != session.transport
            ]
            silence_s = UDP_SILENCE_S if session.transport == "udp" and others else None
            try:
                return session, await self._wait(key, session, shutter, silence_s)
            except SilentError:
                progress.session = None
                opening.transports = [*others, session.transport]

    async def _wait(
        self, key: Key, session: Session, shutter: Shutter, silence_s: float | None
    ) -> Choice:
        """Wait for a picture; keep the stream for the next one, or end it."""
        good = False
        try:
            choice = await session.next_picture(shutter, silence_s=silence_s)
            good = True
        finally:
            self._warm.give_back(key, session, good=good)
        return choice

    def _frame(self, profile: DeviceProfile, data: bytes) -> Frame:
        """Judge a picture as any other."""
        limit = self._all.max_image_bytes
        if len(data) > limit:
            text = f"its picture has {len(data)} bytes; the camera settings allow {limit}"
            raise _named(profile, CameraError("too_large", text, retry=False))
        try:
            return read_jpeg(data)
        except CameraError as error:
            raise _named(profile, error) from error

    # --- a stream ---------------------------------------------------------------------------------

    def _begin(self, profile: DeviceProfile, progress: Progress | None = None) -> Opening:
        """Check what needs no I/O, and gather what opening a stream needs."""
        target = self._policy.target(profile.address, SCHEMES)
        if target.url.scheme == "rtsps" and self._tls is None:
            self._tls = ssl.create_default_context()
        transports = list(self._settings.transports)
        learnt = self._learnt.get(_key(profile))
        if learnt in transports:
            transports.sort(key=lambda name: name != learnt)
        return Opening(
            target,
            self._policy,
            self._tls if target.url.scheme == "rtsps" else None,
            self._settings,
            transports,
            progress=progress or Progress(),
        )

    async def _open(self, profile: DeviceProfile, opening: Opening) -> Session:
        """Open a stream; it gives its slot back when it is finished."""
        opening.progress.step = "waiting for other streams to end"
        if self._slots.locked():
            self._warm.drop_oldest()
        await self._slots.acquire()
        try:
            session = await open_session(self._connection(profile, opening), opening)
        except BaseException:
            self._slots.release()
            raise
        session.on_finish = self._slots.release
        key = _key(profile)
        self._learnt[key] = session.transport
        self._learnt.move_to_end(key)
        if len(self._learnt) > MAX_LEARNT:
            self._learnt.popitem(last=False)
        return session

    def _connection(self, profile: DeviceProfile, opening: Opening) -> RtspConnection:
        if self._closed:
            raise CameraError("unreachable", "the camera client is closed", retry=False)
        who = clean(f"{profile.device_id} at {opening.target.place}")
        connection = RtspConnection(
            who,
            opening.target,
            self._login(profile),
            max_answer_bytes=self._all.max_answer_bytes,
        )
        self._connections = {one for one in self._connections if not one.closed.is_set()}
        self._connections.add(connection)
        return connection

    def _login(self, profile: DeviceProfile) -> Credentials | None:
        if not profile.credentials_ref:
            return None
        credentials = self._credentials.get(profile.credentials_ref)
        if credentials.token:
            name = clean(profile.credentials_ref)
            text = f"the credentials {name!r} hold a bearer token, which RTSP does not know"
            raise CameraError("auth", text, retry=False)
        return credentials


def _key(profile: DeviceProfile) -> Key:
    return profile.device_id, profile.address, profile.credentials_ref


def _warm_silence_s(session: Session) -> float:
    return max(WARM_SILENCE_S, 2.5 * session.stream.clock.interval_s)


def _named(profile: DeviceProfile, error: CameraError) -> CameraError:
    return CameraError(error.cause, f"{clean(profile.device_id)}: {error}", retry=error.retry)


def _timeout(profile: DeviceProfile, progress: Progress) -> CameraError:
    who = clean(profile.device_id)
    return CameraError("timeout", f"{who} did not finish before the deadline: {progress.text()}")
