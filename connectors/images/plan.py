"""The plan that does the least: from a header and a wish to the steps that must be.

In this order of preference:

1. **Nothing.** The bytes fit, so they pass through untouched.
2. **Blocks are moved** (:class:`Lossless`): a crop or a turn of a JPEG's coefficients. No pixel is
   decoded and nothing is lost. A codec that cannot do it says so, and 3 is done instead.
3. **Pixels**: decoded at 1/8, 1/4, 1/2 or 1/1 (the transform of fewer coefficients: libjpeg-turbo
   has fast code for these four, and for 5/8 to 7/8 none, they take longer than a whole decode),
   scaled by what is left, turned, cut, written on, encoded. Each step has as few pixels as can be.

Worked example: a 3840 x 2160 JPEG and ``CaptureSpec(width_px=1280)``. 1280 x 720 is wanted; 1/2
gives 1920 x 1080, 1/4 too little: ``Decode(4), Resize(1280, 720), Encode``. With
``width_px=3840`` the plan is ``PassThrough``.

A crop's corner is moved up and left to the border of a block (at most 15 pixels), also where it is
done on pixels, so that every codec shows the same part of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.images.errors import ImageError

if TYPE_CHECKING:
    from connectors.images.facts import Facts
    from connectors.images.spec import CaptureSpec

EIGHTHS: Final = (1, 2, 4, 8)
"""Scales of a decode, in eighths, the smallest first."""
SWAPPED: Final = {5, 6, 7, 8}
"""Orientations that change width and height."""
BLOCKS: Final = {
    "444": (8, 8), "gray": (8, 8), "422": (16, 8), "420": (16, 16), "440": (8, 16),
    "411": (32, 8),
}  # fmt: skip
"""Width and height of a minimal coded unit (MCU) by subsampling."""
MIRRORED: Final = {
    2: (True, False), 3: (True, True), 4: (False, True), 5: (False, False),
    6: (False, True), 7: (True, True), 8: (True, False),
}  # fmt: skip
"""By orientation: whether columns and rows of the stored picture are mirrored to stand upright. A
mirrored side must be whole blocks: libjpeg cannot move half a block to the front."""


class Box(NamedTuple):
    """A part of a picture in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The bytes as they are."""


@dataclass(frozen=True, slots=True)
class Lossless:
    """Move a JPEG's blocks: cut ``box`` out (None: all), then turn by an orientation (1: none)."""

    box: Box | None
    orientation: int


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode, at ``eighths`` / 8 of width and height, each rounded up."""

    eighths: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Scale to this size, as stored."""

    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Turn pixels so that they stand upright."""

    orientation: int


@dataclass(frozen=True, slots=True)
class Crop:
    """Cut a part out of what stands upright."""

    box: Box


@dataclass(frozen=True, slots=True)
class Write:
    """Draw the overlay."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode; ``subsampling`` is of a JPEG."""

    format: str
    quality: int
    subsampling: str


Step = PassThrough | Lossless | Decode | Resize | Turn | Crop | Write | Encode


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, what comes of them, and what a person should know of it."""

    steps: tuple[Step, ...]
    width_px: int
    height_px: int
    treatment: str
    """``untouched``, ``lossless`` or ``encoded``."""
    notes: tuple[str, ...] = ()
    """Of the table in :mod:`connectors.images.errors`; ``no_lossless``: the codec cannot."""


def plan(facts: Facts, spec: CaptureSpec, *, lossless: bool = True) -> Plan:
    """Return the least that makes the photo that is wanted.

    ``lossless``: the codec can move blocks. Raises ImageError ``unsupported``.
    """
    turned = facts.orientation != 1
    seen = _swap(facts.orientation, facts.width_px, facts.height_px)
    size, part = _fit(seen, spec)
    if not (size != seen or _must_encode(facts, spec)):
        turn = facts.orientation if spec.upright else 1
        if turn == 1 and part is None:
            notes = ("tag_kept",) if turned else ()
            return Plan((PassThrough(),), facts.width_px, facts.height_px, "untouched", notes)
        moved = _moved(facts, turn, part) if lossless else None
        if moved is not None:
            return moved
    return _pixels(facts, spec, size, part, lossless=lossless)


def _must_encode(facts: Facts, spec: CaptureSpec) -> bool:
    colour = facts.colour == "colour"
    return (
        spec.overlay is not None
        or facts.format != spec.format
        or facts.frames > 1
        or facts.bits != 8
        or facts.colour == "cmyk"
        or facts.subsampling == "other"
        or (
            colour and spec.format == "jpeg" and spec.subsampling not in {"keep", facts.subsampling}
        )
    )


def _swap(orientation: int, width: int, height: int) -> tuple[int, int]:
    return (height, width) if orientation in SWAPPED else (width, height)


def _fit(seen: tuple[int, int], spec: CaptureSpec) -> tuple[tuple[int, int], Box | None]:
    """Return the size to scale to and the part of it that is wanted, as a viewer sees them."""
    width, height = seen
    most_w, most_h = spec.width_px or width, spec.height_px or height
    if spec.fit == "crop":
        scale = 1.0
    else:
        ratios = most_w / width, most_h / height
        scale = min(1.0, max(ratios) if spec.fit == "cover" else min(ratios))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if spec.fit == "inside":
        return size, None
    cut_w, cut_h = min(most_w, size[0]), min(most_h, size[1])
    if (cut_w, cut_h) == size:
        return size, None
    return size, Box((size[0] - cut_w) // 2, (size[1] - cut_h) // 2, cut_w, cut_h)


def _moved(facts: Facts, turn: int, part: Box | None) -> Plan | None:
    """Return a plan that moves blocks; None: the picture's edges do not allow it."""
    block = BLOCKS.get(facts.subsampling)
    if block is None:
        return None
    box = None if part is None else _aligned(part, facts, block)
    width, height = (box.width, box.height) if box else (facts.width_px, facts.height_px)
    if turn != 1:
        across, down = MIRRORED[turn]
        if (across and width % block[0]) or (down and height % block[1]):
            return None
    size = _swap(turn, width, height)
    notes = ("turned",) if turn != 1 else ("tag_kept",) if facts.orientation != 1 else ()
    return Plan((Lossless(box, turn),), *size, "lossless", notes)


def _aligned(part: Box, facts: Facts, block: tuple[int, int]) -> Box:
    """Return a part as a viewer sees it as one of the stored picture, its corner on a block."""
    box = _stored(part, facts)
    left, top = box.left // block[0] * block[0], box.top // block[1] * block[1]
    return Box(left, top, box.width, box.height)


def _stored(part: Box, facts: Facts) -> Box:
    """Return where a part of the upright picture lies in the stored one.

    Undoing a swap exchanges the axes; undoing a mirror counts from the other side.
    """
    left, top, width, height = part
    if facts.orientation in SWAPPED:
        left, top, width, height = top, left, height, width
    across, down = MIRRORED.get(facts.orientation, (False, False))
    if across:
        left = facts.width_px - left - width
    if down:
        top = facts.height_px - top - height
    return Box(left, top, width, height)


def _upright(box: Box, facts: Facts) -> Box:
    """Return where a part of the stored picture is seen: the way back of :func:`_stored`."""
    left, top, width, height = box
    across, down = MIRRORED.get(facts.orientation, (False, False))
    if across:
        left = facts.width_px - left - width
    if down:
        top = facts.height_px - top - height
    if facts.orientation in SWAPPED:
        left, top, width, height = top, left, height, width
    return Box(left, top, width, height)


def _pixels(
    facts: Facts, spec: CaptureSpec, size: tuple[int, int], part: Box | None, *, lossless: bool
) -> Plan:
    """Return the plan that decodes."""
    steps: list[Step] = []
    stored = _swap(facts.orientation, *size)
    eighths = _eighths(facts, stored) if facts.format == "jpeg" else 8
    steps.append(Decode(eighths))
    if stored != scaled(facts, eighths):
        steps.append(Resize(*stored))
    if facts.orientation != 1:
        steps.append(Turn(facts.orientation))
    if part is not None:
        block = BLOCKS.get(facts.subsampling)
        if spec.fit == "crop" and block is not None:
            part = _upright(_aligned(part, facts, block), facts)
        steps.append(Crop(part))
    if spec.overlay is not None:
        steps.append(Write())
    steps.append(Encode(spec.format, spec.quality, _subsampling(facts, spec)))
    width, height = (part.width, part.height) if part is not None else size
    if spec.format == "webp" and max(width, height) > 16_383:
        raise ImageError("unsupported", "WebP takes at most 16,383 pixels a side.")
    notes = _notes(facts, spec)
    if not lossless and size == _swap(facts.orientation, facts.width_px, facts.height_px):
        able = plan(facts, spec, lossless=True)
        notes += ("no_lossless",) if able.treatment == "lossless" else ()
    return Plan(tuple(steps), width, height, "encoded", notes)


def scaled(facts: Facts, eighths: int) -> tuple[int, int]:
    """Return the size that a decode at this scale gives: libjpeg rounds up."""
    return -(-facts.width_px * eighths // 8), -(-facts.height_px * eighths // 8)


def _eighths(facts: Facts, wanted: tuple[int, int]) -> int:
    """Return the smallest scale that is not smaller than what is wanted."""
    for eighths in EIGHTHS:
        width, height = scaled(facts, eighths)
        if width >= wanted[0] and height >= wanted[1]:
            return eighths
    return 8


def _subsampling(facts: Facts, spec: CaptureSpec) -> str:
    if facts.colour == "gray":
        return "gray"
    if spec.subsampling != "keep":
        return spec.subsampling
    return facts.subsampling if facts.subsampling in BLOCKS else "420"


def _notes(facts: Facts, spec: CaptureSpec) -> tuple[str, ...]:
    found = {
        "cmyk_to_rgb": facts.colour == "cmyk",
        "16_to_8_bits": facts.bits == 16,
        "flattened": facts.alpha and spec.format == "jpeg",
        "turned": facts.orientation != 1,
        "first_frame": facts.frames > 1,
    }
    return tuple(name for name, true in found.items() if true)
