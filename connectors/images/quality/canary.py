"""Six made-up frames by whose rows a model is known.

A server says a name and a version of what it runs; neither tells which weights. So before a server
judges photographs it is asked about these frames, and so is the local model: the scores of all
2,400 rows must agree. Measured, greatest difference of a score from the released fp32 model:

    fp16        0.006
    int8        0.087
    the model released before it    0.875

:data:`TOLERANCE` lies between: kernels of other machines round otherwise, other weights differ by
more. The frames are noise, rings, a slope, light, dark, and rings with something before them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors.images.quality.boxes import scored
from connectors.images.quality.letterbox import SIDE_PX

if TYPE_CHECKING:
    from connectors.images.quality.boxes import Floats
    from connectors.images.quality.letterbox import Pixels

TOLERANCE: Final = 0.05
"""Of a score."""


@cache
def frames() -> Pixels:
    """Return the frames, (6, 320, 320, 3) bytes."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    noise = np.random.default_rng(320).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    rings = np.repeat(((np.sin(x * x / 700 + y / 9) + 1) * 127)[:, :, None], 3, 2)
    slope = np.stack([x * 0.6 + 20, y * 0.5 + 40, (x + y) * 0.3], 2)
    hidden = rings.copy()
    hidden[(x - 200) ** 2 + (y - 180) ** 2 < 90**2] = (34, 24, 18)
    found: Pixels = np.stack([noise, rings, slope, rings / 12 + 234, noise // 24, hidden]).astype(
        np.uint8
    )
    found.setflags(write=False)
    return found


def difference(rows: Floats, expected: Floats) -> float:
    """Return by how much the scores of two models' rows differ at most; infinite: in shape."""
    if rows.shape != expected.shape:
        return float("inf")
    return float(np.abs(scored(rows)[0] - scored(expected)[0]).max())
