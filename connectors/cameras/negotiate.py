r"""Which protocol a device speaks, by the signature of its first bytes (SPEC 3.1).

:func:`classify` looks at the first :data:`HEAD_BYTES` of what a device sent, with or without an
HTTP head, and finds a row of :data:`SIGNATURES`. The bytes count, not the ``Content-Type``: cameras
call a login page ``image/jpeg``. Only an answer without a body is judged by that header.

    first bytes                                          signature         protocol
    RTSP/1.0 200 OK                                      RTSP              rtsp
    v=0\r\no=- …                                         SDP               rtsp
    FF D8 FF                                             JPEG              http-snapshot
    --boundary\r\nContent-Type: image/jpeg               MJPEG stream      http-snapshot
    <?xml …?><s:Envelope …                               SOAP              onvif
    <wsdl:definitions …                                  WSDL              onvif
    {"…                                                  JSON              http-json
    <!DOCTYPE html                                       HTML              none
    anything else                                        unknown           none

Pure: who sends what to get such bytes is :mod:`connectors.cameras.negotiate_probe`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from connectors.cameras.frame import clean

HEAD_BYTES: Final = 512
"""How much of an answer is looked at."""

_XML: Final = rb"(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,300}?-->\s*)*"
"""What may stand before the first element."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a protocol begins with."""

    name: str
    """For people."""
    protocol: str
    """The adapter that speaks it; empty: none does."""
    first: re.Pattern[bytes]
    """Matched at the first byte that is no white space or byte order mark."""
    types: tuple[str, ...] = ()
    """Content types that stand for it where there is no body."""


def _first(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


SIGNATURES: Final = (
    Signature("RTSP", "rtsp", _first(rb"RTSP/\d\.\d \d{3}")),
    Signature("SDP", "rtsp", _first(rb"v=0\r?\n[a-z]="), ("application/sdp",)),
    Signature("JPEG", "http-snapshot", _first(rb"\xff\xd8\xff"), ("image/jpeg", "image/jpg")),
    Signature(
        "MJPEG stream",
        "http-snapshot",
        _first(rb"--[^\r\n]{1,200}\r?\n(?:[\w-]+:[^\r\n]*\r?\n){0,8}?content-type:\s*image/jpe?g"),
        ("multipart/x-mixed-replace",),
    ),
    Signature(
        "SOAP",
        "onvif",
        _first(_XML + rb"<(?:[\w.-]+:)?Envelope[\s>]"),
        ("application/soap+xml",),
    ),
    Signature(
        "WSDL",
        "onvif",
        _first(_XML + rb"<(?:[\w.-]+:)?definitions[\s>]"),
        ("application/wsdl+xml",),
    ),
    Signature(
        "JSON",
        "http-json",
        _first(rb"(?:\{\s*[\"}]|\[\s*[\[{\"\]\d])"),
        ("application/json",),
    ),
    Signature(
        "HTML",
        "",
        _first(rb"(?:<!--.{0,300}?-->\s*)*<(?:!doctype html|html|head|body)[\s>]"),
        ("text/html",),
    ),
)  # fmt: skip
UNKNOWN: Final = Signature("unknown", "", _first(rb"(?!)"))


def classify(seen: bytes) -> Signature:
    """Return the signature of what a device sent first, :data:`UNKNOWN` if there is none.

    ``seen`` may begin with an HTTP head; at most :data:`HEAD_BYTES` behind it are looked at.
    """
    head, body = split_http(seen)
    start = body[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start:
        found = (one for one in SIGNATURES if one.first.match(start))
    else:
        kind = content_type(head)
        found = (one for one in SIGNATURES if kind in one.types)
    return next(found, UNKNOWN)


def split_http(seen: bytes) -> tuple[bytes, bytes]:
    """Return the HTTP head, empty where there is none, and what follows it."""
    if not seen.startswith(b"HTTP/"):
        return b"", seen
    head, mark, body = seen.partition(b"\r\n\r\n")
    return (head, body) if mark else (seen, b"")


def content_type(head: bytes) -> str:
    """Return the media type in an HTTP head, in lower case; empty: it has none."""
    found = re.search(rb"(?im)^content-type:[ \t]*([\w.+/-]+)", head)
    return found[1].decode().lower() if found else ""


def seen_text(seen: bytes) -> str:
    """Say what a device sent, in one line that is safe to log and print."""
    head, body = split_http(seen)
    if not seen:
        return "nothing"
    status = clean(head.partition(b"\r\n")[0].decode("latin-1"))
    kind = content_type(head)
    shown = clean(body[:64].decode("latin-1"))
    parts = [status, kind, f"{shown!r}" if body else "no body" if head else ""]
    return ", ".join(part for part in parts if part)
