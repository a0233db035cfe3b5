"""Things before the lens, of our own making: dirt, fingers, cloth, drops, leaves, a cover.

Each kind is a field over the picture, high where the thing lies. A threshold is set so that the
share of the frame asked for is covered, so strength is one number for all kinds: the covered
share.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import math
from typing import Final

import torch
from torch.nn import functional

BLOB, FINGER, CLOTH, DIRT, DROPS, THING, COVER = range(7)
KINDS: Final = ("blob", "finger", "cloth", "dirt", "drops", "thing", "cover")
FIELD_PX: Final = 160
"""Side of a field; it is enlarged to the canvas."""
GRID: Final = 40

# Colours in linear light: skin, dirt, cloth and covers.
SKIN: Final = ((0.55, 0.28, 0.19), (0.36, 0.17, 0.10), (0.75, 0.45, 0.33), (0.16, 0.07, 0.04))
EARTH: Final = ((0.10, 0.07, 0.04), (0.22, 0.16, 0.10), (0.35, 0.30, 0.22), (0.05, 0.05, 0.05))


def noise(
    n: int, cells: torch.Tensor, size: int, lots: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return smooth noise about 0 with unit spread, (n, size, size); ``cells`` bumps a side."""
    table = torch.randn(n, 1, GRID, GRID, device=device, generator=lots)
    zoom = (cells / GRID).clamp(0.02, 0.95)
    shift = (torch.rand(n, 2, device=device, generator=lots) * 2 - 1) * (1 - zoom)[:, None]
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    where = functional.affine_grid(theta, [n, 1, size, size], align_corners=False)
    found = functional.grid_sample(
        table, where, mode="bicubic", padding_mode="reflection", align_corners=False
    )[:, 0]
    spread = found.flatten(1).std(1).clamp_min(1e-3)
    return (found - found.flatten(1).mean(1)[:, None, None]) / spread[:, None, None]


def uniform(
    n: int, low: float, high: float, lots: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return n numbers from [low, high)."""
    return torch.rand(n, device=device, generator=lots) * (high - low) + low


def _axes(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y and x of a field, -1 to 1."""
    axis = (torch.arange(FIELD_PX, device=device) + 0.5) / FIELD_PX * 2 - 1
    return axis[None, :, None], axis[None, None, :]


def edge_ramp(
    n: int, frame: torch.Tensor, lots: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return fields that rise towards an edge or corner of the frame."""
    y, x = _axes(device)
    angle = uniform(n, 0, 2 * math.pi, lots, device)[:, None, None]
    half_y = ((frame[:, 2] - frame[:, 0]) / 2)[:, None, None]
    half_x = ((frame[:, 3] - frame[:, 1]) / 2)[:, None, None]
    return (x / half_x * angle.cos() + y / half_y * angle.sin()) * 1.0


def blob(n: int, frame: torch.Tensor, lots: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return fields of one roundish thing somewhere in the frame."""
    y, x = _axes(device)
    few = noise(n, uniform(n, 2, 6, lots, device), FIELD_PX, lots, device)
    centre = (torch.rand(n, 2, device=device, generator=lots) * 2 - 1) * 0.9
    half = torch.stack((frame[:, 2] - frame[:, 0], frame[:, 3] - frame[:, 1]), 1) / 2
    cy, cx = (centre * half)[:, 0, None, None], (centre * half)[:, 1, None, None]
    stretch = uniform(n, 0.5, 2.0, lots, device)[:, None, None]
    away = ((x - cx) ** 2 * stretch + (y - cy) ** 2 / stretch).sqrt()
    return 0.35 * few - 2.0 * away


def fields(kind: torch.Tensor, frame: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
    """Return a field for each kind, (n, FIELD_PX, FIELD_PX).

    ``frame`` is (n, 4): top, left, bottom, right in units where the canvas is -1 to 1.
    """
    n, device = len(kind), kind.device
    few = noise(n, uniform(n, 2, 6, lots, device), FIELD_PX, lots, device)
    many = noise(n, uniform(n, 12, 34, lots, device), FIELD_PX, lots, device)
    ramp = edge_ramp(n, frame, lots, device)
    made = {
        BLOB: blob(n, frame, lots, device),
        FINGER: _fingers(n, frame, lots, device),
        CLOTH: ramp * 2.0 + 0.12 * few + 0.015 * many,
        DIRT: many + 0.7 * few,
        DROPS: _drops(n, frame, lots, device),
        THING: ramp + 0.5 * few + 0.08 * many,
        COVER: few,
    }
    found = made[BLOB]
    for number, field in made.items():
        found = torch.where((kind == number)[:, None, None], field, found)
    return found


def _fingers(
    n: int, frame: torch.Tensor, lots: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return fields of one to three fingers that come in from one edge: minus the distance."""
    y, x = _axes(device)
    side = torch.randint(0, 4, (n,), device=device, generator=lots)
    top, left, bottom, right = frame.unbind(1)
    best = torch.full((n, FIELD_PX, FIELD_PX), -9.0, device=device)
    along = uniform(n, 0.1, 0.9, lots, device)
    count = torch.randint(1, 4, (n,), device=device, generator=lots)
    for finger in range(3):
        at = along + finger * uniform(n, 0.16, 0.22, lots, device)
        far = uniform(n, 0.25, 0.75, lots, device)
        lean = uniform(n, -0.15, 0.15, lots, device)
        low = torch.stack((at, torch.zeros_like(at)), 1)
        tip = torch.stack((at + lean, far), 1)
        (y0, x0), (y1, x1) = (
            _placed(point, side, top, left, bottom, right) for point in (low, tip)
        )
        dy, dx = (y1 - y0)[:, None, None], (x1 - x0)[:, None, None]
        ry, rx = y - y0[:, None, None], x - x0[:, None, None]
        part = ((rx * dx + ry * dy) / (dx * dx + dy * dy + 1e-6)).clamp(-0.5, 1)
        distance = ((rx - part * dx) ** 2 + (ry - part * dy) ** 2).sqrt()
        best = torch.where((count > finger)[:, None, None], torch.maximum(best, -distance), best)
    return best


def _placed(
    point: torch.Tensor,
    side: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    bottom: torch.Tensor,
    right: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y and x of a point given as (along the side, depth from it), 0 to 1."""
    along, depth = point.unbind(1)
    height, width = bottom - top, right - left
    y = torch.where(side == 0, top + depth * height, bottom - depth * height)
    x = torch.where(side == 2, left + depth * width, right - depth * width)
    flat = side < 2
    return (
        torch.where(flat, y, top + along * height),
        torch.where(flat, left + along * width, x),
    )


def _drops(
    n: int, frame: torch.Tensor, lots: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return fields of 3 to 16 round drops: depth below each rim, the greatest counts."""
    y, x = _axes(device)
    best = torch.full((n, FIELD_PX, FIELD_PX), -9.0, device=device)
    count = torch.randint(3, 17, (n,), device=device, generator=lots)
    for drop in range(16):
        cy = frame[:, 0] + (frame[:, 2] - frame[:, 0]) * uniform(n, 0, 1, lots, device)
        cx = frame[:, 1] + (frame[:, 3] - frame[:, 1]) * uniform(n, 0, 1, lots, device)
        radius = uniform(n, 0.05, 0.30, lots, device)[:, None, None]
        tall = uniform(n, 0.8, 1.3, lots, device)[:, None, None]
        distance = ((x - cx[:, None, None]) ** 2 + (y - cy[:, None, None]) ** 2 / tall).sqrt()
        depth = radius - distance
        best = torch.where((count > drop)[:, None, None], torch.maximum(best, depth), best)
    return best


def threshold(field: torch.Tensor, inside: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the level above which ``share`` of the frame lies, shape (n,)."""
    coarse = field[:, ::2, ::2].flatten(1)
    mask = inside[:, ::2, ::2].flatten(1)
    ranked = coarse.masked_fill(~mask, -1e9).sort(1, descending=True).values
    rank = (mask.sum(1) * share).long().clamp(0, coarse.shape[1] - 1)
    return ranked.gather(1, rank[:, None])[:, 0]


def fill(
    kind: torch.Tensor, own: torch.Tensor, other: torch.Tensor, lots: torch.Generator
) -> torch.Tensor:
    """Return what the things look like, (n, 3, h, w) in linear light.

    ``own`` is the picture itself (drops show it upside down), ``other`` that of another scene.
    """
    n, device = len(kind), kind.device
    size = own.shape[-1]
    pick = torch.randint(0, 4, (n,), device=device, generator=lots)
    any_colour = torch.rand(n, 3, device=device, generator=lots) ** 2.2 * 0.7 + 0.004
    grey = uniform(n, 0.0, 1.0, lots, device)[:, None]
    any_colour = any_colour * grey + any_colour.mean(1, keepdim=True) * (1 - grey)
    colour = any_colour
    colour = torch.where((kind == FINGER)[:, None], torch.tensor(SKIN, device=device)[pick], colour)
    colour = torch.where((kind == DIRT)[:, None], torch.tensor(EARTH, device=device)[pick], colour)
    colour = torch.where((kind == COVER)[:, None], any_colour.clamp_min(0.012), colour)
    light = uniform(n, 0.5, 1.3, lots, device)[:, None, None, None]
    broad = noise(n, uniform(n, 1, 4, lots, device), FIELD_PX, lots, device)
    fine = noise(n, uniform(n, 30, 38, lots, device), FIELD_PX, lots, device)
    weave = uniform(n, 0.0, 0.25, lots, device) * (kind == CLOTH)
    shade = 1 + 0.22 * broad + weave[:, None, None] * fine
    shade = functional.interpolate(shade[:, None], (size, size), mode="bilinear")
    plain = colour[:, :, None, None] * light * shade.clamp_min(0.1)
    # So near to the lens nothing is in focus.
    far = functional.avg_pool2d(functional.avg_pool2d(other, 4), 7, 1, 3)
    thing = functional.interpolate(far, (size, size), mode="bilinear") * light
    drop = functional.interpolate(
        functional.avg_pool2d(own.flip(2, 3), 8), (size, size), mode="bilinear"
    )
    drop = drop * uniform(n, 0.7, 1.25, lots, device)[:, None, None, None] * shade.clamp(0.5, 1.4)
    borrowed = (kind == THING) | (
        ((kind == BLOB) | (kind == CLOTH)) & (torch.rand(n, device=device, generator=lots) < 0.3)
    )
    made = torch.where(borrowed[:, None, None, None], thing, plain)
    return torch.where((kind == DROPS)[:, None, None, None], drop, made).clamp(0, 0.8)
