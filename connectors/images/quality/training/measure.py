"""Ranking measures: area under the curve, precision and recall."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def area_under_curve(bad: Floats, good: Floats) -> float:
    """Return the chance that a bad picture scores above a good one; ties count half."""
    if not len(bad) or not len(good):
        return float("nan")
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, "left")
    upto = np.searchsorted(ordered, bad, "right")
    return float((below + upto).mean() / 2 / len(good))


def precision_recall(bad: Floats, good: Floats) -> tuple[Floats, Floats, Floats]:
    """Return thresholds, falling, and precision and recall at each."""
    levels = np.unique(np.concatenate((bad, good)))[::-1]
    found = len(bad) - np.searchsorted(np.sort(bad), levels, "left")
    wrong = len(good) - np.searchsorted(np.sort(good), levels, "left")
    return levels, found / np.maximum(found + wrong, 1), found / max(len(bad), 1)
