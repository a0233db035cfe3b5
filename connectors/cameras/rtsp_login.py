"""How a camera wants its credentials over RTSP: Digest (RFC 7616), else Basic.

Nothing is sent before the camera asked. Digest is taken wherever it is offered, whichever stands
first, and answers what was asked: with ``qop`` and the algorithm (aiortsp leaves both out, which
SHA-256 does not survive). A challenge is answered once; the next one means that the credentials
are wrong, and cameras lock out who goes on.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp.client_middleware_digest_auth import parse_header_pairs
from aiortsp.rtsp.auth import Auth, BasicAuth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from connectors.cameras.credentials import Credentials

HASHES: Final[Mapping[str, Callable[[bytes], hashlib._Hash]]] = {
    "SHA-256": hashlib.sha256,
    "MD5": hashlib.md5,
}
"""By algorithm, the better one first."""


class DigestLogin(Auth):  # type: ignore[misc]  # aiortsp has no types
    """Answers Digest challenges."""

    def __init__(self, credentials: Credentials, challenge: Mapping[str, str]) -> None:
        super().__init__()
        self._credentials = credentials
        self._challenge = challenge
        self._count = 0

    def handle_401(self, headers: Mapping[str, str | list[str]]) -> bool:
        """Take a challenge; say whether it may be answered."""
        challenge = digest_challenge(challenges(headers))
        if challenge is None:
            return False
        self._challenge, self._count = challenge, 0
        return bool(super().handle_401(headers))

    def make_auth(self, method: str, url: str, headers: dict[str, str]) -> None:
        """Add the answer to a request's headers."""
        asked = self._challenge
        algorithm = asked.get("algorithm", "MD5").upper()
        digest = HASHES[algorithm]

        def h(*parts: str) -> str:
            return digest(":".join(parts).encode()).hexdigest()

        user, realm, nonce = self._credentials.user, asked.get("realm", ""), asked.get("nonce", "")
        secret, what = h(user, realm, self._credentials.password), h(method, url)
        fields = {"username": user, "realm": realm, "nonce": nonce, "uri": url}
        tokens = {"algorithm": algorithm} if "algorithm" in asked else {}
        if "auth" in [word.strip() for word in asked.get("qop", "").split(",")]:
            self._count += 1
            count, own = f"{self._count:08x}", secrets.token_hex(8)
            fields |= {"response": h(secret, nonce, count, own, "auth", what), "cnonce": own}
            tokens |= {"qop": "auth", "nc": count}
        else:
            fields["response"] = h(secret, nonce, what)
        if "opaque" in asked:
            fields["opaque"] = asked["opaque"]
        quoted = [f'{name}="{_escaped(value)}"' for name, value in fields.items()]
        plain = [f"{name}={value}" for name, value in tokens.items()]
        headers["Authorization"] = "Digest " + ", ".join(quoted + plain)


def choose(credentials: Credentials, headers: Mapping[str, str | list[str]]) -> Auth | None:
    """Return how to answer a 401; None: it asks for something that we do not have."""
    asked = challenges(headers)
    digest = digest_challenge(asked)
    if digest is not None:
        return DigestLogin(credentials, digest)
    if any(scheme == "basic" for scheme, _ in asked):
        return BasicAuth(credentials.user, credentials.password)
    return None


def challenges(headers: Mapping[str, str | list[str]]) -> list[tuple[str, str]]:
    """Return the schemes, in lower case, and their parameters."""
    found = headers.get("www-authenticate", [])
    lines = [found] if isinstance(found, str) else found
    parts = [line.strip().partition(" ") for line in lines]
    return [(scheme.lower(), rest) for scheme, _, rest in parts]


def digest_challenge(asked: Sequence[tuple[str, str]]) -> Mapping[str, str] | None:
    """Return the best Digest challenge that can be answered."""
    found = [parse_header_pairs(rest) for scheme, rest in asked if scheme == "digest"]
    for algorithm in HASHES:
        for fields in found:
            if fields.get("algorithm", "MD5").upper() == algorithm and fields.get("nonce"):
                return fields
    return None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
