"""From the network's rows to findings, as SPEC 4.4 says it.

A row is a box and what it may be: centre x, centre y, width, height (pixels of the 320 x 320
square), objectness, and a probability a class. Its score is objectness x the greatest class
probability, its class that class. Rows below the confidence fall away. Of rows of one class that
overlap by more than the IoU threshold only the best stays (non-maximum suppression).

Cost: 30 µs for a good picture, where no row passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

CLASSES: Final = ("blur", "occlusion", "overexposure", "underexposure")
CONFIDENCE: Final = 0.65
IOU: Final = 0.4
MAX_CANDIDATES: Final = 400
"""Rows that suppression looks at, the best first: all that the network has."""
BOX: Final = 4
FIRST_CLASS: Final = 5


@dataclass(frozen=True, slots=True)
class Box:
    """One finding in the square."""

    kind: str
    score: float
    """0 to 1."""
    sides: tuple[float, float, float, float]
    """Left, top, right, bottom; pixels of the square."""


def scored(rows: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return each row's score and class; rows is (…, 5 + classes)."""
    classes = rows[..., FIRST_CLASS:]
    kinds = classes.argmax(-1)
    return rows[..., BOX] * classes.max(-1), kinds


def picture_scores(rows: Floats) -> tuple[float, ...]:
    """Return the best score of each class in a picture's rows (n, 5 + classes)."""
    scores, kinds = scored(rows)
    return tuple(
        float(scores[kinds == kind].max(initial=0.0))
        for kind in range(rows.shape[-1] - FIRST_CLASS)
    )


def decode(rows: Floats, confidence: float = CONFIDENCE, iou: float = IOU) -> list[Box]:
    """Return the findings in a picture's rows (n, 5 + classes), the best first.

    A row that is not finite is no finding.
    """
    scores, kinds = scored(rows)
    kept = np.flatnonzero((scores >= confidence) & np.isfinite(rows).all(-1))
    if not len(kept):
        return []
    kept = kept[np.argsort(-scores[kept], kind="stable")][:MAX_CANDIDATES]
    half = rows[kept, 2:BOX] / 2
    sides: Floats = np.concatenate((rows[kept, :2] - half, rows[kept, :2] + half), 1).astype(
        np.float32
    )
    found = []
    for index in suppress(sides, kinds[kept], iou):
        left, top, right, bottom = (float(side) for side in sides[index])
        row = kept[index]
        found.append(Box(CLASSES[kinds[row]], float(scores[row]), (left, top, right, bottom)))
    return found


def suppress(sides: Floats, kinds: npt.NDArray[np.intp], iou: float) -> list[int]:
    """Return which boxes stay; they come best first, as left, top, right, bottom."""
    areas = np.clip(sides[:, 2:] - sides[:, :2], 0, None).prod(1)
    waiting = np.arange(len(sides))
    stay: list[int] = []
    while len(waiting):
        best, rest = int(waiting[0]), waiting[1:]
        stay.append(best)
        low = np.maximum(sides[best, :2], sides[rest, :2])
        high = np.minimum(sides[best, 2:], sides[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        union = areas[best] + areas[rest] - shared
        overlap = shared / np.maximum(union, 1e-9)
        waiting = rest[(overlap <= iou) | (kinds[rest] != kinds[best])]
    return stay
