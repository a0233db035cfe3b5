"""What a schedule asks of its photos, in words: ``label width=1280 quality=80``.

The words travel in the policy and the command as one short text, so that the log says what was
asked for; here they become a :class:`CaptureSpec` and whether the file is labelled. Empty: the
camera's bytes as they came, and nothing costs anything.

==========================  ==================================================================
word                        means
==========================  ==================================================================
``label``                   EXIF and XMP say device, command, times and hashes (``verify``)
``width=N``, ``height=N``   at most so many pixels
``fit=F``                   ``inside``, ``cover`` or ``crop``
``quality=N``               of a re-encode, 1 to 100
``subsampling=S``           ``keep``, ``444``, ``422`` or ``420``
``format=F``                ``jpeg``, ``png`` or ``webp``
``thumbnail=N``             keep a JPEG of at most so many pixels a side beside the photo
``original``                keep the camera's bytes beside the photo, where it does not hold them
``upright``                 turn the pixels that an EXIF tag wants turned
``overlay``                 draw time and device into the picture
``scan``                    decode what passes through, too, to see that it is whole
==========================  ==================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final

from connectors.images.spec import CaptureSpec, Overlay
from schemas.errors import UsageError

FLAGS: Final[dict[str, dict[str, Any]]] = {
    "upright": {"upright": True},
    "overlay": {"overlay": Overlay()},
    "scan": {"check": "scan"},
    "original": {"keep_original": True},
}
NUMBERS: Final = {"width": "width_px", "height": "height_px", "quality": "quality",
                  "thumbnail": "thumbnail_px"}  # fmt: skip
CHOICES: Final = ("fit", "subsampling", "format")
LABEL: Final = "label"
AS_IT_CAME: Final = CaptureSpec()
KNOWN: Final = (
    LABEL, "width=N", "height=N", "fit=F", "quality=N", "subsampling=S", "format=F",
    "thumbnail=N", *FLAGS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What is to become of a photo's bytes."""

    spec: CaptureSpec = AS_IT_CAME
    label: bool = False


@lru_cache(maxsize=1_024)
def parse(text: str) -> ImageRequest:
    """Return what the words ask for; UsageError with the word that is wrong."""
    label, changes = False, dict[str, Any]()
    seen = set[str]()
    for word in text.split():
        name, equals, value = word.partition("=")
        if name in seen:
            raise UsageError(f"image: {name!r} is said twice.")
        seen.add(name)
        if word == LABEL:
            label = True
        elif word in FLAGS:
            changes |= FLAGS[word]
        elif equals and name in NUMBERS and value.isdecimal() and value.isascii():
            changes[NUMBERS[name]] = int(value)
        elif equals and name in CHOICES:
            changes[name] = value
        else:
            raise UsageError(f"image: {word!r} is not known; use {', '.join(KNOWN)}.")
    try:
        return ImageRequest(replace(AS_IT_CAME, **changes), label)
    except UsageError as error:
        raise UsageError(f"image: {error}") from None


assert {name for flag in FLAGS.values() for name in flag} | {*NUMBERS.values(), *CHOICES} <= {
    field.name for field in fields(CaptureSpec)
}
