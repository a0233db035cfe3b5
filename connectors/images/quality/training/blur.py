"""Blur of our own making: point spread functions of lenses out of focus and of cameras that
move.

Strength is ``spread``: the root mean square radius of the point spread function along one axis,
in pixels of the network's 320 x 320 picture, so that a number means the same for every camera and
for every kind. Of a disc with radius r it is r / 2, of a line with length L it is L / sqrt(24). A
spread of 0.8 is 4.8 pixels of a 1920 pixel wide frame.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import math
from typing import Final

import torch
from torch.nn import functional

GAUSSIAN, DISC, LINE, SHAKE = range(4)
MAX_SPREAD: Final = 5.0
PATH_POINTS: Final = 24


def reach_px(scale: int) -> int:
    """Return a kernel's radius in canvas pixels, ``scale`` of which are a network pixel."""
    return math.ceil(2.8 * MAX_SPREAD * scale)


def kernels(
    kind: torch.Tensor, spread: torch.Tensor, scale: int, lots: torch.Generator
) -> torch.Tensor:
    """Return point spread functions, shape (n, k, k), each with the sum 1.

    ``kind`` and ``spread`` have the shape (n,); k = 2 reach_px(scale) + 1.
    """
    n, device = len(kind), kind.device
    reach = reach_px(scale)
    axis = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    y, x = axis[None, :, None], axis[None, None, :]
    sigma = (spread * scale).clamp_min(0.25)[:, None, None]
    square = x * x + y * y
    gaussian = torch.exp(-square / (2 * sigma**2))
    disc = torch.sigmoid((2 * sigma - square.sqrt()) * 2.5)
    angle = torch.rand(n, 1, 1, device=device, generator=lots) * math.pi
    along = x * angle.cos() + y * angle.sin()
    across = y * angle.cos() - x * angle.sin()
    half = sigma * math.sqrt(24) / 2
    line = torch.sigmoid((half - along.abs()) * 2.5) * torch.exp(-(across**2) / (2 * 0.6**2))
    shake = _shaken(n, sigma, axis, lots)
    which = kind[:, None, None]
    made = torch.where(which == GAUSSIAN, gaussian, disc)
    made = torch.where(which == LINE, line, made)
    made = torch.where(which == SHAKE, shake, made)
    return made / made.sum((1, 2), keepdim=True)


def _shaken(n: int, sigma: torch.Tensor, axis: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
    """Return the traces of a hand's random walk, scaled to the spread asked for."""
    steps = torch.randn(n, PATH_POINTS, 2, device=axis.device, generator=lots)
    velocity = steps.cumsum(1) * 0.4 + torch.randn(n, 1, 2, device=axis.device, generator=lots)
    path = velocity.cumsum(1)
    path = path - path.mean(1, keepdim=True)
    size = (path.square().sum(2).mean(1) / 2).sqrt().clamp_min(1e-3)
    path = path / size[:, None, None] * sigma
    near_x = torch.exp(-((axis[None, None] - path[..., 0:1]) ** 2) / (2 * 0.9**2))
    near_y = torch.exp(-((axis[None, None] - path[..., 1:2]) ** 2) / (2 * 0.9**2))
    return torch.einsum("npy,npx->nyx", near_y, near_x)


def convolve(pictures: torch.Tensor, psf: torch.Tensor) -> torch.Tensor:
    """Convolve each of (n, 3, h, w) with its own (k, k), by FFT; the border is reflected."""
    if not len(pictures):
        return pictures
    reach = psf.shape[-1] // 2
    height, width = pictures.shape[-2:]
    padded = functional.pad(pictures, (reach,) * 4, mode="reflect")
    size = (_smooth(height + 2 * reach), _smooth(width + 2 * reach))
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(psf, s=size)[:, None]
    found = torch.fft.irfft2(spectrum, s=size)
    return found[..., 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width].clamp_min(0)


def _smooth(size: int) -> int:
    """Return the next size that FFTs like: only the factors 2, 3 and 5."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1
