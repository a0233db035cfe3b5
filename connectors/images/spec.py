"""What is to be done with a photo: one frozen description for a schedule or a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from schemas.errors import UsageError

MAX_SIDE_PX: Final = 16_384
"""WebP's own limit is 16,383; no camera of ours comes near."""
Fit = Literal["inside", "cover", "crop"]
Format = Literal["jpeg", "png", "webp"]
Subsampling = Literal["keep", "444", "422", "420"]
FITS: Final = ("inside", "cover", "crop")
FORMATS: Final = ("jpeg", "png", "webp")
SUBSAMPLINGS: Final = ("keep", "444", "422", "420")
CHECKS: Final = ("structure", "scan")


@dataclass(frozen=True, slots=True)
class Overlay:
    """Text drawn into the pixels, in a strip at the lower edge. It makes a re-encode necessary."""

    time: bool = True
    """The shutter's time, to the millisecond, with its offset from UTC."""
    device: bool = True


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """The photo that is wanted. The default wants the camera's own bytes."""

    width_px: int = 0
    """Greatest width as a viewer sees it; 0: any; at most 16,384."""
    height_px: int = 0
    """Greatest height as a viewer sees it; 0: any; at most 16,384."""
    fit: Fit = "inside"
    """``inside``: scaled down to fit; ``cover``: scaled down to fill, the rest is cut off;
    ``crop``: the middle, not scaled, its corner on a block's border. Nothing is enlarged."""
    quality: int = 85
    """JPEG or WebP quality of a re-encode, 1 to 100. What need not be re-encoded keeps its own."""
    format: Format = "jpeg"
    subsampling: Subsampling = "keep"
    """Of colour in a JPEG; one that differs from the picture's makes a re-encode necessary.
    ``keep``: as the picture has it, 4:2:0 for one that was no JPEG."""
    upright: bool = False
    """Turn pixels that an EXIF tag wants turned. False: the tag does, where bytes pass through."""
    overlay: Overlay | None = None
    keep_original: bool = False
    """Give the camera's bytes beside those that were changed."""
    thumbnail_px: int = 0
    """Longest side of a thumbnail; 0: none; 16 to 1,024."""
    check: Literal["structure", "scan"] = "structure"
    """``scan``: decode bytes that pass through, too, at an eighth, to see that they are whole."""

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px"):
            if not 0 <= getattr(self, name) <= MAX_SIDE_PX:
                raise UsageError(f"{name} must be from 0 to {MAX_SIDE_PX:,}.")
        if self.thumbnail_px and not 16 <= self.thumbnail_px <= 1_024:
            raise UsageError("thumbnail_px must be 0 or from 16 to 1,024.")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality must be from 1 to 100, not {self.quality}.")
        for name, known in (
            ("fit", FITS), ("format", FORMATS), ("subsampling", SUBSAMPLINGS), ("check", CHECKS),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}.")
        if self.fit != "inside" and not (self.width_px and self.height_px):
            raise UsageError(f"fit {self.fit} needs width_px and height_px.")
