"""How a device wants its credentials: Basic, Digest (RFC 7616) or a bearer token.

Nothing is sent before the device asked, so that a password never goes out in the clear to a device
that would have taken a digest. The first request carries nothing; its 401 says what is wanted;
what was learned is kept, so that later requests are right at once. One challenge is answered once,
and what was refused is not sent again for :data:`REFUSED_S`, unless it has changed meanwhile:
cameras lock out who tries again and again.

Digest is aiohttp's middleware. It reads the first ``WWW-Authenticate`` header only; a camera that
lists Basic before Digest is given Basic.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import aiohttp

from connectors.cameras.frame import clean
from schemas.errors import CameraError

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
    from multidict import CIMultiDictProxy

    from connectors.cameras.credentials import CredentialProvider, Credentials
    from schemas.records import DeviceProfile

MAX_LOGINS: Final = 65_536
"""Devices whose way of authentication is remembered; about 1 kB each."""
MAX_REFUSED: Final = 65_536
"""Devices whose refusal is remembered; about 300 bytes each."""
REFUSED_S: Final = 30.0
"""How long refused credentials are not sent again: a capture is made ready, and taken, with one."""


async def release_challenge(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Free the connection of a 401 before the digest middleware sends the request again."""
    response = await handler(request)
    if response.status == 401:
        response.release()
    return response


class Login:
    """What is known about one device's way of authentication."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.headers: dict[str, str] = {}
        self.middlewares: tuple[ClientMiddlewareType, ...] = ()
        if credentials.token:
            self.headers["Authorization"] = f"Bearer {credentials.token}"
        else:
            digest = aiohttp.DigestAuthMiddleware(credentials.user, credentials.password)
            self.middlewares = (digest, release_challenge)

    def answer(self, headers: CIMultiDictProxy[str]) -> bool:
        """Say whether the request should be sent once more, now with Basic credentials.

        A Digest challenge was answered by the middleware already; if a 401 comes nevertheless,
        the credentials are wrong.
        """
        if "Authorization" in self.headers:
            return False
        schemes = [h.partition(" ")[0].lower() for h in headers.getall("WWW-Authenticate", [])]
        if schemes[:1] == ["digest"] or "basic" not in schemes:
            return False
        self.headers["Authorization"] = aiohttp.encode_basic_auth(
            self.credentials.user, self.credentials.password, encoding="utf-8"
        )
        self.middlewares = ()
        return True


class Logins:
    """The logins of the devices that need one; bounded, the longest unused goes first."""

    def __init__(self, credentials: CredentialProvider) -> None:
        self._credentials = credentials
        self._logins: OrderedDict[tuple[str, str], Login] = OrderedDict()
        self._refused: OrderedDict[str, tuple[Credentials, float]] = OrderedDict()

    def credentials(self, profile: DeviceProfile) -> Credentials:
        """Return a device's credentials; raises CameraError ``auth`` if there are none."""
        return self._credentials.get(profile.credentials_ref)

    def refuse(self, profile: DeviceProfile, now_s: float) -> None:
        """Note that the device did not accept what the profile names."""
        self.forget(profile)
        self._refused[profile.device_id] = (self.credentials(profile), now_s + REFUSED_S)
        self._refused.move_to_end(profile.device_id)
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)

    def check_refused(self, profile: DeviceProfile, now_s: float) -> None:
        """Raise CameraError ``auth`` if the same credentials were refused a moment ago."""
        if profile.device_id not in self._refused:
            return
        credentials, until_s = self._refused[profile.device_id]
        if now_s < until_s and credentials == self.credentials(profile):
            raise CameraError(
                "auth",
                f"{clean(profile.device_id)} refused what {clean(profile.credentials_ref)} names; "
                f"it is not asked again for {until_s - now_s:.0f} s, lest it lock us out",
                retry=False,
            )
        del self._refused[profile.device_id]

    def get(self, profile: DeviceProfile) -> Login:
        """Return the login of a device; raises CameraError ``auth`` if there are no credentials.

        The credentials are asked for each time: a changed password makes a new login.
        """
        credentials = self.credentials(profile)
        key = (profile.device_id, profile.address)
        login = self._logins.get(key)
        if login is None or login.credentials != credentials:
            login = self._logins[key] = Login(credentials)
        self._logins.move_to_end(key)
        if len(self._logins) > MAX_LOGINS:
            self._logins.popitem(last=False)
        return login

    def knows(self, profile: DeviceProfile) -> bool:
        """Say whether the device was asked for its way of authentication."""
        return (profile.device_id, profile.address) in self._logins

    def forget(self, profile: DeviceProfile) -> None:
        """Forget what was learned: the device did not accept it."""
        self._logins.pop((profile.device_id, profile.address), None)
