"""What becomes of a picture that is not an ordinary JPEG: a stated outcome for each.

=========================  =========================================================================
Input                      Outcome
=========================  =========================================================================
20,000 x 20,000 pixels     refused, ``too_large``, by the header alone: no pixel is allocated
a scan cut short           refused, ``damaged``, where pixels are decoded or ``check`` is ``scan``;
                           a picture that passes through untouched is checked to have an end only
a missing end              refused, ``truncated``
a CMYK or YCCK JPEG        turned into RGB (Adobe's inverted inks are known), note ``cmyk_to_rgb``;
                           its profile is dropped
16 bits a channel          the upper 8 bits are kept, note ``16_to_8_bits``
a 12-bit or lossless JPEG  refused, ``unsupported``
transparency into JPEG     laid on black, note ``flattened``
EXIF orientation           untouched bytes keep the tag (note ``tag_kept``); with ``upright`` the
                           blocks are turned without loss where the edges allow it; decoded pixels
                           are turned, and the tag says 1 (note ``turned``)
animation, several frames  the first frame, note ``first_frame``
HEIC without its library   refused, ``unsupported``: the message names the extra to install
more than 100 scans        refused, ``too_large``: a progressive bomb costs time, not memory
anything else              refused, ``not_an_image``
=========================  =========================================================================

Notes stand in :attr:`connectors.images.pipeline.Processed.notes` and in the photo's metadata.
"""

from __future__ import annotations

from typing import Final

from schemas.errors import ShutterwheelError

CODES: Final = {
    "busy": "more pictures wait than the settings allow; another attempt may help",
    "crashed": "a process of the pool died on it",
    "damaged": "its pixels cannot be decoded to the end",
    "not_an_image": "it is no picture of a format we read",
    "too_large": "it has more pixels or scans than the settings allow",
    "truncated": "it ends before its end",
    "unsupported": "it is a picture of a kind that is not read here",
}
"""Every code of an :class:`ImageError`."""


class ImageError(ShutterwheelError):
    """A picture that is refused. ``code`` is one of :data:`CODES`."""

    def __init__(self, code: str, reason: str) -> None:
        if code not in CODES:
            raise ValueError(f"{code} is no code of an ImageError")
        super().__init__(reason)
        self.code = code
        self.retry = code == "busy"
        """Whether another attempt with the same bytes may help."""

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Let it come back from a process of a pool."""
        return type(self), (self.code, str(self))
