"""From scenes to batches: what some camera would frame, its colours and faults, 320 pixels."""

# pyright: reportMissingImports=false

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from connectors.images.quality.training.degrade import SIDE_PX, Plan, Truth, degrade, inside_frame

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

LONG_PX: Final = 1_024
"""Long side of a scene as it is kept for training."""
MIN_CROP_PX: Final = 400
ASPECTS: Final = (16 / 9, 16 / 9, 16 / 9, 4 / 3, 4 / 3, 4 / 3, 3 / 2, 1.0, 3 / 4, 9 / 16)
"""Width by height of cameras' frames."""
GREY: Final = 114 / 255
"""Of the letterbox."""


def shrink(data: bytes, long_px: int = LONG_PX) -> Image.Image:
    """Decode a scene and bring its long side to at most ``long_px``."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    ground = Image.new("RGBA", image.size, (150, 175, 205, 255))
    image = Image.alpha_composite(ground, image).convert("RGB")
    factor = long_px / max(image.size)
    if factor < 1:
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def tensor_of(image: Image.Image, device: torch.device) -> torch.Tensor:
    """Return a picture as (3, h, w) bytes on the device."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(device)


def canvas(
    scene: torch.Tensor, size: int, lots: random.Random
) -> tuple[torch.Tensor, tuple[float, float, float, float]]:
    """Return a square (3, size, size) of a scene and the frame in it (top, left, bottom, right).

    The frame lies within the scene; what of the square does not is the scene reflected.
    """
    _, height, width = scene.shape
    aspect = lots.choice(ASPECTS)
    wide, high = (1.0, 1 / aspect) if aspect >= 1 else (aspect, 1.0)
    most = min(width / wide, height / high)
    side = int(lots.uniform(min(most, max(MIN_CROP_PX, 0.45 * most)), most))
    half_x, half_y = side * wide / 2, side * high / 2
    x = int(lots.uniform(half_x, width - half_x) - side / 2)
    y = int(lots.uniform(half_y, height - half_y) - side / 2)
    rows, columns = _reflected(y, side, height), _reflected(x, side, width)
    part = scene[:, rows.to(scene.device)][:, :, columns.to(scene.device)][None].float() / 255
    part = functional.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
    if lots.random() < 0.5:
        part = part.flip(2)
    return part, (-high, -wide, high, wide)


def _reflected(first: int, count: int, size: int) -> torch.Tensor:
    at = torch.arange(first, first + count) % (2 * size - 2)
    return torch.where(at >= size, 2 * size - 2 - at, at)


def coloured(pictures: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
    """Change white balance, contrast and saturation as cameras differ; one in eight is grey."""
    n, device = len(pictures), pictures.device

    def between(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(n, *shape, device=device, generator=lots) * (high - low) + low

    shown = pictures * between(0.88, 1.12, 3, 1, 1)
    shown = shown.clamp(1e-4, 1) ** between(0.8, 1.25, 1, 1, 1)
    grey = shown.mean(1, keepdim=True)
    saturation = between(0.5, 1.25, 1, 1, 1)
    saturation = torch.where(
        between(0, 1, 1, 1, 1) < 0.125, torch.zeros_like(saturation), saturation
    )
    floor = between(0, 0.06, 1, 1, 1)  # haze: black is not quite black
    return (floor + (1 - floor) * (grey + saturation * (shown - grey))).clamp(0, 1)


def gather(
    scenes: Sequence[torch.Tensor], count: int, size: int, lots: random.Random
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return canvases (n, 3, size, size), frames (n, 4) and the number of the scene of each."""
    numbers = [lots.randrange(len(scenes)) for _ in range(count)]
    made = [canvas(scenes[number], size, lots) for number in numbers]
    device = scenes[0].device
    frames = torch.tensor([frame for _, frame in made], device=device)
    return torch.stack([picture for picture, _ in made]), frames, numbers


def network_view(shown: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """Return what the network sees, (n, 320, 320, 3) bytes, grey around the frame."""
    small = functional.interpolate(shown, (SIDE_PX, SIDE_PX), mode="area")
    inside = inside_frame(frame, SIDE_PX)[:, None]
    small = torch.where(inside, small, torch.full_like(small, GREY))
    return (small * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def training_batch(
    scenes: Sequence[torch.Tensor],
    plan: Plan,
    lots: random.Random,
    chance: torch.Generator,
    scale: int = 2,
) -> tuple[torch.Tensor, Truth]:
    """Return inputs of the network and what it should say."""
    pictures, frame, _ = gather(scenes, len(plan.spread), SIDE_PX * scale, lots)
    shown, truth = degrade(coloured(pictures, chance), frame, plan, chance, jpeg=True)
    return network_view(shown, frame), truth
