"""How a server of models is named: ``HOST:PORT``, or with TLS and a token.

::

    10.0.0.7:8001                                           # clear: within the site's own network
    grpcs://models.site:8001                                # TLS, by the roots that gRPC brings
    grpcs://models.site:8001?ca=/etc/site-ca.pem            # TLS, by the site's own authority
    grpcs://models.site:8001?token=env:MODELS_TOKEN         # and a bearer token with each call
    grpcs://models.site:8001?token=file:/var/run/token      # read anew each call, as it may change

A token is named, never given: what is named here stands in command lines and files. Without TLS
there is none, as anybody between could read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl

from schemas.errors import UsageError

SCHEME: Final = "grpcs://"
FORMS: Final = "expected HOST:PORT or grpcs://HOST:PORT[?ca=FILE&token=env:NAME|file:PATH]"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server of models is, and how it is spoken to."""

    place: str
    """``HOST:PORT``."""
    tls: bool = False
    ca: str = ""
    """PEM file of the authorities that its certificate may be of; empty: those that gRPC brings."""
    token: str = ""
    """``env:NAME`` or ``file:PATH`` of the bearer token; empty: none."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take an option's text.

        Raises UsageError: it is not understood, or what it names is not there.
        """
        tls = text.startswith(SCHEME)
        place, _, query = text.removeprefix(SCHEME).partition("?")
        host, colon, port = place.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536 and "/" not in host):
            raise UsageError(f"The quality server is {text!r}; {FORMS}.")
        named = dict(parse_qsl(query, keep_blank_values=True))
        strange = sorted(named.keys() - {"ca", "token"})
        if strange or (query and not named) or "" in named.values():
            raise UsageError(f"The quality server is {text!r}; {FORMS}.")
        if named and not tls:
            raise UsageError(
                f"The quality server {place} is named without TLS: a token could be read on the "
                f"way. Write {SCHEME}{place}?{query}."
            )
        found = cls(place, tls, named.get("ca", ""), named.get("token", ""))
        found.roots()
        if found.token:
            found.bearer()
        return found

    def roots(self) -> bytes | None:
        """Return the authorities' certificates; None: those that gRPC brings.

        Raises UsageError.
        """
        if not self.ca:
            return None
        try:
            pem = Path(self.ca).read_bytes()
        except OSError as error:
            raise UsageError(
                f"{self.ca}: {error.strerror}; it is the quality server's ca."
            ) from error
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise UsageError(
                f"{self.ca} holds no certificate in PEM; it is the quality server's ca."
            )
        return pem

    def bearer(self) -> str:
        """Return the token as it is now. Raises UsageError: it is not there, or is none."""
        kind, _, name = self.token.partition(":")
        if kind == "env" and name:
            token = os.environ.get(name, "")
            if not token:
                raise UsageError(f"{name} is not set; it is the quality server's token.")
        elif kind == "file" and name:
            try:
                token = Path(name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "no text"
                raise UsageError(f"{name}: {why}; it is the quality server's token.") from error
        else:
            raise UsageError(f"The quality server's token is {kind!r}; {FORMS}.")
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise UsageError(f"{name} holds no token for the quality server.")
        return token
