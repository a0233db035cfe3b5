"""The certificate that a device showed, by its fingerprint (SPEC 1.7)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def fingerprint(transport: asyncio.BaseTransport | None) -> str:
    """Return the SHA-256 of the other side's certificate (DER); empty: a connection without TLS.

    64 lower-case hexadecimal digits, as ``openssl x509 -fingerprint -sha256`` gives with colons.
    """
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    if tls is None:
        return ""
    certificate: bytes | None = tls.getpeercert(binary_form=True)
    return hashlib.sha256(certificate).hexdigest() if certificate else ""
