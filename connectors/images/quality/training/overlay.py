"""Things laid over pictures of the pool while training draws from it: hands, tape and cloth,
leaves, spatter.

A picture of the pool is used several times, and it is its scene that is scarce. So a good part
of those without a thing before the lens get one when they are drawn, another one each time. The
shapes are drawn here, apart from ``occlude.py``, whose fields also make the frames of the
evaluation: a network that knows only those would learn their outlines.

Shading, noise and softness of the edge are drawn as well. Truth is as in ``degrade.py``: there from
a covered share of 0.1 on, not for a person to say from 0.03 on or where it looks like what it
hides.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from connectors.images.quality.training.degrade import BLUR, MIN_CHANGE, OCCLUSION, OVER, UNDER
from connectors.images.quality.training.occlude import SKIN

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

cv2.setNumThreads(1)
SHARE: Final = 0.3
"""Of the drawn pictures in which it can be seen."""
HAND, BAND, LEAF, SPATTER = range(4)
GAMMA: Final = 2.2
BOX_PX: Final = 6
"""Least side of a box."""


def overlay(pictures: Array, present: Array, boxes: Array, chance: np.random.Generator) -> None:
    """Lay things over some of ``pictures`` (n, 320, 320, 3), 0 to 255; truth follows, in place."""
    lit = (present[:, OVER] == 0) & (present[:, UNDER] == 0)
    free = np.flatnonzero((present[:, OCCLUSION] == 0) & lit)
    for index in free[chance.random(len(free)) < SHARE]:
        left, top, right, bottom = np.rint(boxes[index, UNDER]).astype(int)  # the frame's own
        area = pictures[index, top:bottom, left:right]
        if min(area.shape[:2]) < 2 * BOX_PX:
            continue
        other = pictures[chance.integers(len(pictures))]
        mask, thing = _thing(area, other, chance)
        solid = mask > 0.5
        covered = float(solid.mean())
        if covered < 0.03:
            continue
        mixed = area + (thing - area) * mask[:, :, None]
        change = float(np.abs(mixed - area)[solid].mean()) / 255
        area[:] = mixed
        seen = covered >= 0.1 and change >= MIN_CHANGE
        present[index, OCCLUSION] = 1 if seen else -1
        if covered > 0.7 and present[index, BLUR] == 1:
            present[index, BLUR] = -1
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        boxes[index, OCCLUSION] = (
            left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1,
        )  # fmt: skip


def _thing(area: Array, other: Array, chance: np.random.Generator) -> tuple[Array, Array]:
    """Return how much of each pixel is covered, (h, w), and what by, (h, w, 3)."""
    height, width = area.shape[:2]
    kind = int(chance.choice(4, p=(0.25, 0.3, 0.25, 0.2)))
    drawn = np.zeros((height, width), np.uint8)
    (_hand, _band, _leaf, _spatter)[kind](drawn, chance)
    inward = np.sqrt(cv2.distanceTransform(drawn, cv2.DIST_L2, 3) / max(height, width))
    soft = float(np.exp(chance.uniform(-1, 2.2)))
    mask = cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), soft)
    mask *= chance.uniform(0.6, 1.0) if kind == SPATTER else chance.uniform(0.9, 1.0)
    if kind == HAND:
        colour = np.array(SKIN[chance.integers(len(SKIN))])
    else:
        colour = chance.random(3) ** 2.2 * 0.7 + 0.004
        colour = colour.mean() + (colour - colour.mean()) * chance.random()
    light = chance.uniform(0.4, 1.4) * (0.3 + area.mean() / 180)
    thing = np.full(area.shape, 255 * np.clip(colour * light, 0, 0.9) ** (1 / GAMMA), np.float32)
    if kind in (LEAF, BAND) and chance.random() < 0.4:  # what some other scene shows, out of focus
        far = cv2.GaussianBlur(other, (0, 0), float(chance.uniform(4, 16)))
        thing = cv2.resize(far, (width, height)) * chance.uniform(0.6, 1.1)
    shade = 1 + 0.25 * _clouds(height, width, int(chance.integers(2, 6)), chance)
    shade += chance.uniform(0, 0.14) * _clouds(height, width, int(chance.integers(20, 90)), chance)
    shade *= 0.75 + chance.uniform(0, 1.0) * inward
    thing = thing * shade[:, :, None]
    thing += chance.normal(0, chance.uniform(0, 7), area.shape).astype(np.float32)
    return mask, np.clip(thing, 0, 255).astype(np.float32)


def _clouds(height: int, width: int, cells: int, chance: np.random.Generator) -> Array:
    """Return smooth noise about 0, ``cells`` bumps a side."""
    coarse = chance.normal(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _turned(drawn: npt.NDArray[np.uint8], chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a view of which a side picked by chance is the first row."""
    view = drawn.T if chance.random() < 0.5 else drawn
    return view[::-1] if chance.random() < 0.5 else view


def _hand(drawn: npt.NDArray[np.uint8], chance: np.random.Generator) -> None:
    """One to four fingers, side by side, from one side of the frame."""
    view = _turned(drawn, chance)
    canvas = np.zeros(view.shape, np.uint8)
    high, wide = view.shape
    thick = int(chance.uniform(0.12, 0.3) * wide)
    at, lean = chance.uniform(-0.1, 0.9) * wide, chance.normal(0, 0.35)
    reach = chance.uniform(0.25, 0.9) * high
    for _ in range(int(chance.integers(1, 5))):
        tip = (int(at + lean * reach), int(reach * chance.uniform(0.75, 1.1)))
        cv2.line(canvas, (int(at), -thick), tip, 255, thick)
        at += thick * chance.uniform(0.9, 1.25)
    view[:] = canvas


def _band(drawn: npt.NDArray[np.uint8], chance: np.random.Generator) -> None:
    """Cloth or tape: all on one side of a more or less wavy line, or a strip between two."""
    view = _turned(drawn, chance)
    high, wide = view.shape
    x = np.linspace(0, 1, wide)
    edge = chance.uniform(0.1, 0.85) + chance.normal(0, 0.3) * (x - 0.5)
    for waves in (1, 2, 5):
        size = chance.normal(0, 0.06) * chance.random() / waves**0.5
        edge += size * np.sin(2 * np.pi * (waves * x + chance.random()))
    begin = edge - chance.uniform(0.15, 0.5) if chance.random() < 0.25 else np.full(wide, -1.0)
    y = (np.arange(high) + 0.5)[:, None] / high
    view[:] = np.where((y < edge) & (y > begin), 255, 0)


def _leaf(drawn: npt.NDArray[np.uint8], chance: np.random.Generator) -> None:
    """One to three smooth outlines anywhere, also half outside."""
    high, wide = drawn.shape
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for _ in range(int(chance.integers(1, 4))):
        radius = np.full(60, 1.0)
        for waves in range(1, 6):
            radius += (
                chance.normal(0, 0.22) / waves**0.5 * np.cos(waves * turn + chance.uniform(0, 6))
            )
        radius = radius.clip(0.15) * chance.uniform(0.12, 0.42) * max(high, wide)
        stretch = np.exp(chance.normal(0, 0.3))
        x = chance.uniform(0, wide) + radius * np.cos(turn) * stretch
        y = chance.uniform(0, high) + radius * np.sin(turn) / stretch
        cv2.fillPoly(drawn, [np.stack((x, y), 1).astype(np.int32)], 255)


def _spatter(drawn: npt.NDArray[np.uint8], chance: np.random.Generator) -> None:
    """Many spots, denser about some place."""
    high, wide = drawn.shape
    centre, spread = chance.uniform(0.1, 0.9, 2), chance.uniform(0.15, 0.6)
    size = chance.uniform(0.01, 0.07) * max(high, wide)
    for _ in range(int(chance.integers(12, 110))):
        place = centre + chance.normal(0, spread, 2)
        axes = np.maximum(1, size * np.exp(chance.normal(0, 0.5, 2))).astype(int)
        at = (int(place[0] * wide), int(place[1] * high))
        cv2.ellipse(drawn, at, axes.tolist(), float(chance.uniform(0, 180)), 0, 360, 255, -1)
