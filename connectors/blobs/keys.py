"""Names of blobs: ``<device>/<day>/<command_id>.jpg``, and of what lies beside them.

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

**The rule of names**: ``<digits>.jpg``, ``.png`` or ``.webp`` is a photo, and nothing else is. What
was made of a photo, or was there before it, lies beside it and begins with the same digits:

    7.jpg                                  the photo of command 7
    7.9f2c31aa04be.thumbnail.jpg           beside the photo whose SHA-256 begins with 9f2c31aa04be
    7.9f2c31aa04be.original.jpg            the camera's bytes, as they came

So a result's ImageRef says where they are (:func:`beside_key`), and of two attempts at one command
each has its own: they cannot be taken for those of the other's photo.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from schemas.errors import StoreError

if TYPE_CHECKING:
    from schemas.records import CaptureCommand

MAX_SEGMENT_CHARACTERS: Final = 200
"""File systems take 255 bytes; 55 are left for whatever a store adds."""
HASH_CHARACTERS: Final = 32
IMAGE_SUFFIX: Final = ".jpg"
SUFFIXES: Final = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
"""Of a photo by its format; a file beside one may have any other, as cameras have."""
BESIDE_KINDS: Final = ("thumbnail", "original")
BESIDE_DIGITS: Final = 12
"""Of the photo's SHA-256: 48 bits tell the few attempts of one command apart."""
PHOTO_NAME: Final = re.compile(r"([0-9]{1,19})\.(?:jpg|png|webp)")
BESIDE_NAME: Final = re.compile(
    r"([0-9]{1,19})\.([0-9a-f]{12})\.(thumbnail|original)\.([a-z0-9]{1,8})"
)
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
    suffix = suffix_of(command.image) if command.image else IMAGE_SUFFIX
    return f"{segment}/{day_of(command.scheduled_ms)}/{command.command_id}{suffix}"


@lru_cache(maxsize=1_024)
def suffix_of(image: str) -> str:
    """Return the suffix of the photos that these words of a command ask for (``format=webp``)."""
    for word in image.split():
        name, _, value = word.partition("=")
        if name == "format":
            return SUFFIXES.get(value, IMAGE_SUFFIX)
    return IMAGE_SUFFIX


def beside_key(key: str, sha256: str, kind: str, name: str = "jpeg") -> str:
    """Return the key of what lies beside a photo.

    ``key``: the photo's key or URI; ``sha256``: of the photo; ``kind``: of :data:`BESIDE_KINDS`;
    ``name``: the format.
    """
    return named_beside(key, sha256, beside_end(kind, name))


def beside_end(kind: str, name: str) -> str:
    """Return the end of the name of what lies beside a photo: ``thumbnail.jpg``."""
    return f"{kind}{SUFFIXES.get(name, f'.{name}')}"


def named_beside(key: str, sha256: str, end: str) -> str:
    """Return the key of what lies beside a photo, by the end that its ImageRef names."""
    folder, slash, photo = key.rpartition("/")
    return f"{folder}{slash}{photo.partition('.')[0]}.{sha256[:BESIDE_DIGITS]}.{end}"


def photo_id(key: str) -> int | None:
    """Return the command id of a photo's key; None: it is no photo."""
    found = PHOTO_NAME.fullmatch(key.rpartition("/")[2])
    return int(found[1]) if found else None


class BesideName(NamedTuple):
    """The name of a file beside a photo, taken apart."""

    command_id: int
    digits: str
    """The first of the photo's SHA-256."""
    kind: str


def beside_name(key: str) -> BesideName | None:
    """Take the key of what lies beside a photo apart; None: it is no such key."""
    found = BESIDE_NAME.fullmatch(key.rpartition("/")[2])
    return BesideName(int(found[1]), found[2], found[3]) if found else None
