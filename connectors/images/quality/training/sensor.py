"""What a camera adds by itself: noise, sharpening, a date stamp, JPEG. None of it is a fault."""

# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional

STAMPS: Final = 48
STAMP_PX: Final = (26, 420)
DRAWN_FOR_PX: Final = 640
# The quantisation tables of ITU-T T.81, annex K.
LUMA_TABLE: Final = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA_TABLE: Final = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
)  # fmt: skip


def camera(
    shown: torch.Tensor,
    frame: torch.Tensor,
    dose: torch.Tensor,
    lots: torch.Generator,
    *,
    jpeg: bool,
) -> torch.Tensor:
    """Return pictures (n, 3, s, s), 0 to 1, with noise, sharpening, stamp and JPEG by dose (n, 4).

    A dose below 0.3 leaves noise at a trace, one below 0.65 sharpens nothing, one below 0.7 stamps
    nothing, one below 0.35 leaves JPEG out.
    """
    noise, sharpen, stamp, quality = dose.unbind(1)
    spread = 0.004 + 0.05 * ((noise - 0.3).clamp_min(0) / 0.7) ** 2
    grain = torch.randn(shown.shape, device=shown.device, generator=lots)
    shown = shown + grain * spread[:, None, None, None] * (1.2 - 0.7 * shown)
    amount = ((sharpen - 0.65).clamp_min(0) / 0.35 * 1.4)[:, None, None, None]
    shown = (shown + amount * (shown - functional.avg_pool2d(shown, 3, 1, 1))).clamp(0, 1)
    shown = _stamped(shown, frame, stamp, lots)
    if jpeg:
        at = (quality >= 0.35).nonzero()[:, 0]
        if len(at):
            shown = shown.clone()
            shown[at] = imitate_jpeg(shown[at], 25 + (quality[at] - 0.35) / 0.65 * 70)
    return shown


@functools.lru_cache(maxsize=4)
def _stamps(device: torch.device, size: int) -> torch.Tensor:
    """Return date stamps and camera names as ink for a canvas, (STAMPS, height, width)."""
    made = np.zeros((STAMPS, *STAMP_PX), np.float32)
    for number in range(STAMPS):
        image = Image.new("L", (STAMP_PX[1], STAMP_PX[0]))
        text = (
            f"20{number % 60:02d}-{number % 12 + 1:02d}-{number % 28 + 1:02d} "
            f"{number % 24:02d}:{number * 7 % 60:02d}:{number * 13 % 60:02d} CAM{number:02d}"
        )
        font = ImageFont.load_default(12 + number % 13)
        ImageDraw.Draw(image).text((2, 1), text[number % 9 :], fill=255, font=font)
        made[number] = np.asarray(image) / 255
    ink = torch.from_numpy(made).to(device)[:, None]
    scaled = [side * size // DRAWN_FOR_PX for side in STAMP_PX]
    return functional.interpolate(ink, scaled, mode="bilinear", antialias=True)[:, 0]


def _stamped(
    shown: torch.Tensor, frame: torch.Tensor, stamp: torch.Tensor, lots: torch.Generator
) -> torch.Tensor:
    size = shown.shape[-1]
    ink = _stamps(shown.device, size)
    high, wide = ink.shape[1:]
    for index in (stamp >= 0.7).nonzero()[:, 0].tolist():
        top, left, bottom, right = (int((side + 1) / 2 * size) for side in frame[index].tolist())
        lot = torch.rand(4, generator=lots, device=shown.device).tolist()
        y = top + 6 if lot[0] < 0.5 else bottom - high - 6
        x = left + 6 if lot[1] < 0.6 else max(left, right - wide)
        x, y = max(0, min(x, size - wide)), max(0, min(y, size - high))
        alpha = ink[int(lot[2] * STAMPS) % STAMPS]
        area = shown[index, :, y : y + high, x : x + wide]
        if lot[3] < 0.3:
            area *= 1 - 0.8 * functional.max_pool2d(alpha[None], 3, 1, 1)[0]
        area += (1.0 - area) * alpha
    return shown


@functools.lru_cache(maxsize=4)
def _transform(device: torch.device) -> torch.Tensor:
    """Return the 8 x 8 matrix of the discrete cosine transform."""
    rows = [
        [
            math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(1 / 8) if u == 0 else 0.5)
            for x in range(8)
        ]
        for u in range(8)
    ]
    return torch.tensor(rows, device=device)


def imitate_jpeg(pictures: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Return pictures as JPEG of a quality (n,) leaves them: blocks of 8, quantised, 4:4:4."""
    n, _, height, width = pictures.shape
    device = pictures.device
    red, green, blue = pictures.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = torch.stack((luma, (blue - luma) * 0.564, (red - luma) * 0.713), 1) * 255
    matrix = _transform(device)
    blocks = planes.view(n, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    found = matrix @ blocks @ matrix.T
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    tables = torch.tensor(
        (LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE), device=device, dtype=torch.float32
    )
    steps = (tables.view(1, 3, 1, 1, 8, 8) * factor.view(n, 1, 1, 1, 1, 1)).clamp_min(1)
    found = torch.round(found / steps) * steps
    planes = (matrix.T @ found @ matrix).transpose(3, 4).reshape(n, 3, height, width) / 255
    luma, cb, cr = planes.unbind(1)
    red, blue = luma + cr / 0.713, luma + cb / 0.564
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.stack((red, green, blue), 1).clamp(0, 1)
