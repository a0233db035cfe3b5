"""Names of blobs: ``<device>/<day>/<command_id>.jpg``.

A name says which device, which day (UTC, of the scheduled time) and which command, so that a
worker that takes over finds a picture without having heard of it, and a person finds it in a
folder. The device id is text from outside (1 to 256 bytes of UTF-8); it becomes one path segment:

    cam-00001       → cam-00001
    halle 3/tor     → halle=203=2Ftor
    ..              → =2E=2E

Letters, digits, ``-``, ``_`` and ``.`` stand for themselves; every other byte is ``=`` and two
hexadecimal digits (percent-encoding with another sign, so that key, file name and URI are the same
text). A segment longer than :data:`MAX_SEGMENT_CHARACTERS` is cut and ends with ``~`` and a hash;
``~`` occurs in no other segment. The mapping is one to one, but for the hash.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from schemas.errors import StoreError

if TYPE_CHECKING:
    from schemas.records import CaptureCommand

MAX_SEGMENT_CHARACTERS: Final = 200
"""File systems take 255 bytes; 55 are left for whatever a store adds."""
HASH_CHARACTERS: Final = 32
IMAGE_SUFFIX: Final = ".jpg"
DAY_MS: Final = 86_400_000
PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
"""Ids that are a segment as they are: nearly all."""


def device_segment(device_id: str) -> str:
    """Return ``device_id`` as one safe path segment.

    Raises StoreError for an empty id.
    """
    if PLAIN.fullmatch(device_id):
        return device_id
    if not device_id:
        raise StoreError("a blob needs a device id, but it is empty")
    raw = device_id.encode("utf-8", "surrogatepass")
    text = quote(raw, safe="").replace("~", "%7E").replace("%", "=")
    if set(text) == {"."}:
        text = text.replace(".", "=2E")
    if len(text) <= MAX_SEGMENT_CHARACTERS:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:HASH_CHARACTERS]
    return f"{text[: MAX_SEGMENT_CHARACTERS - HASH_CHARACTERS - 1]}~{digest}"


def day_of(scheduled_ms: int) -> str:
    """Return the UTC day of a time, ``YYYY-MM-DD``."""
    return _day(scheduled_ms // DAY_MS)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_MS / 1000, UTC).strftime("%Y-%m-%d")


def blob_key(command: CaptureCommand) -> str:
    """Return the key of a command's picture."""
    segment = device_segment(command.device_id)
    return f"{segment}/{day_of(command.scheduled_ms)}/{command.command_id}{IMAGE_SUFFIX}"
