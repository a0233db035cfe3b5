"""The network: 320 x 320 bytes in, 400 boxes out, in the manner of YOLO.

A grid of 10 x 10 cells has a slot a class, each with a box, an objectness and class
probabilities:

    (n, 320, 320, 3) bytes -> (n, 400, 9): centre x, centre y, width, height in pixels,
                              objectness, blur, occlusion, overexposure, underexposure

The first stage is not learned: brightness steps over 1, 2 and 3 pixels in four directions, as
logarithms, and the colours, each as mean and maximum of 4 x 4 pixels (22 channels of 80 x 80).
How much less steep an edge is over one pixel than over three is its width, which is what blur
changes. Few photographs suffice to learn from these, and the stage costs a third of a learned
one.

From there on three stages of convolutions, whose means and maxima over the picture are given to
every cell: convolution, ReLU and add, which every runtime fuses and quantises.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

from connectors.images.quality.training.degrade import CLASSES, SIDE_PX

GRID: Final = 10
STRIDE: Final = SIDE_PX // GRID
SLOTS: Final = len(CLASSES)
ROW: Final = 5 + len(CLASSES)
FILTERS: Final = 8
UNIT: Final = 64
MIDDLE: Final = 128
"""Bytes: a step of UNIT is 1 to the network, and MIDDLE is 0."""
COLOURS: Final = 2 * FILTERS
"""Where the first stage's channels of brightness steps end."""
CHANNELS: Final = 4 * FILTERS
"""Of the first stage: brightness steps and colours (three, and five that are nought), mean and
maximum of each."""


class Unit(nn.Module):  # type: ignore[misc, unused-ignore]
    """Convolution, normalisation, ReLU."""

    def __init__(self, into: int, out: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, size, stride, (size - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(out, momentum=0.03)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return functional.relu(self.norm(self.conv(x)))


class Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """A narrow 1 x 1, a 3 x 3 back to full width, added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Unit(width, width // 2, 1)
        self.second = Unit(width // 2, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return x + self.second(self.first(x))


class Network(nn.Module):  # type: ignore[misc, unused-ignore]
    """About 0.3 million parameters."""

    def __init__(self, widths: tuple[int, ...] = (48, 80, 112), context: int = 64) -> None:
        super().__init__()
        c, d, e = widths
        self.three = nn.Sequential(Unit(CHANNELS, c, 3, 2), Residual(c))
        self.four = nn.Sequential(Unit(c, d, 3, 2), Residual(d))
        self.five = nn.Sequential(Unit(d, e, 3, 2), Residual(e))
        self.context = nn.Sequential(
            nn.Conv2d(2 * (c + d + e), context, 1),
            nn.ReLU(),
            nn.Conv2d(context, context, 1),
        )
        self.join = Unit(e + context, e, 1)
        self.out = nn.Conv2d(e, SLOTS * ROW, 1)
        nn.init.zeros_(self.out.bias)
        axis = (torch.arange(GRID) + 0.5) * STRIDE
        cells = torch.stack((axis[None].repeat(GRID, 1), axis[:, None].repeat(1, GRID)), 2)
        self.register_buffer("cells", cells, persistent=False)
        places = torch.zeros(GRID, GRID, SLOTS, ROW)
        places[..., :2] = cells[:, :, None]
        self.register_buffer("places", places.view(-1, ROW), persistent=False)
        to_rows = torch.eye(ROW)
        for near, far in ((0, 2), (1, 3)):  # left and right, top and bottom
            to_rows[near, near], to_rows[far, near] = -SIDE_PX / 2, SIDE_PX / 2
            to_rows[near, far] = to_rows[far, far] = SIDE_PX
        self.register_buffer("to_rows", to_rows, persistent=False)
        filters = torch.zeros(2 * FILTERS, 3, 4, 4)
        for number, (first, second) in enumerate(((1, 2), (1, 3), (0, 3))):
            for rows in (filters[2 * number], filters[2 * number + 1].transpose(1, 2)):
                rows[:, 1:3, first], rows[:, 1:3, second] = -1 / 6, 1 / 6
        filters[6, :, 1, 1] = filters[7, :, 1, 2] = -1 / 3
        filters[6, :, 2, 2] = filters[7, :, 2, 1] = 1 / 3
        for colour in range(3):
            filters[FILTERS + colour, colour, 1:3, 1:3] = 1 / 4
        self.register_buffer("filters", filters / UNIT, persistent=False)

    def raw(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return what the last convolution says, (n, 10, 10, slots, 9); pictures as bytes."""
        x3 = self.three(self.first(pictures))
        x4 = self.four(x3)
        x5 = self.five(x4)
        pools = (functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d)
        pooled = [pool(stage, 1) for stage in (x3, x4, x5) for pool in pools]
        whole = self.context(torch.cat(pooled, 1)).expand(-1, -1, GRID, GRID)
        found = self.out(self.join(torch.cat((x5, whole), 1)))
        return found.view(-1, SLOTS, ROW, GRID, GRID).permute(0, 3, 4, 1, 2)

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def first(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the first stage's channels, (n, 32, 80, 80)."""
        # Bytes as they are: the steps' filters sum to nought, so nothing has to be taken off, and
        # the colours' means ride in the same convolution. Of its 16 filters, what a processor
        # takes at once, five are nought. A leaky ReLU of slope -1 is the absolute value, and one
        # that runtimes do within the convolution (with half the bits they do not). Two maxima of
        # 2 x 2 cost half of one of 4 x 4.
        x = pictures.permute(0, 3, 1, 2).to(self.out.weight.dtype)
        found = functional.conv2d(x, self.filters.to(x.dtype), stride=2)
        half = x.dtype == torch.float16
        found = found.abs() if half else functional.leaky_relu(found, -1.0)
        mean = functional.avg_pool2d(found, 2, padding=1, count_include_pad=False)
        high = functional.max_pool2d(found, 2, padding=1)
        brightest = functional.max_pool2d(functional.max_pool2d(x, 2), 2) * (1 / UNIT)
        steps = torch.log(torch.cat((mean[:, :FILTERS], high[:, :FILTERS]), 1) + 0.05) * 0.5
        colours = torch.cat((mean[:, FILTERS:], high[:, FILTERS:-3], brightest), 1) - MIDDLE / UNIT
        return torch.cat((steps, colours), 1)

    def boxes(self, raw: torch.Tensor) -> torch.Tensor:
        """Return left, top, right, bottom in pixels, (n, 10, 10, slots, 4)."""
        near = torch.sigmoid(raw[..., :4]) * SIDE_PX
        cells = self.cells.to(raw.dtype)[None, :, :, None]
        return torch.cat((cells - near[..., :2], cells + near[..., 2:]), -1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the rows that a reader decodes, (n, 400, 9)."""
        # Centre and size are sums of the four distances: one product instead of twenty steps.
        rows = torch.sigmoid(self.raw(pictures)).reshape(-1, GRID * GRID * SLOTS, ROW)
        return (rows @ self.to_rows + self.places).float()


def loss_of(
    network: Network, raw: torch.Tensor, present: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of a batch and its parts.

    Slot c of a cell answers for class c. Of a box, the cells in its inner part are positive, those
    in its rest do not count, all others are negative. The greatest objectness of a class over the
    picture is held to the picture's own label: that is the figure a verdict is made of.
    """
    raw = raw.float()
    objectness, classes = raw[..., 4], raw[..., 5:]
    cells = network.cells[None]
    left, top, right, bottom = (boxes[:, None, None, :, side] for side in range(4))
    x, y = cells[..., 0:1], cells[..., 1:2]
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    off_x = (x - centre_x).abs() / (right - left).clamp_min(STRIDE)
    off_y = (y - centre_y).abs() / (bottom - top).clamp_min(STRIDE)
    off = torch.maximum(off_x, off_y)
    there = (present == 1)[:, None, None, :]
    unknown = (present < 0)[:, None, None, :]
    positive = there & (off <= 0.32)
    negative = ~unknown & ~(there & (off <= 0.5))
    entropy = functional.binary_cross_entropy_with_logits(
        objectness, positive.float(), reduction="none"
    )
    cell = (entropy * positive).sum((1, 2)) / positive.sum((1, 2)).clamp_min(1)
    cell = cell + (entropy * negative).sum((1, 2)) / negative.sum((1, 2)).clamp_min(1)
    top_logit = objectness.amax((1, 2))
    known = (present >= 0).float()
    picture = functional.binary_cross_entropy_with_logits(
        top_logit, present.clamp_min(0), reduction="none"
    )
    picture = (picture * known).sum() / known.sum()
    target = torch.eye(SLOTS, device=raw.device).expand_as(classes)
    kind = functional.binary_cross_entropy_with_logits(classes, target, reduction="none").mean(-1)
    kind = (kind * positive).sum() / positive.sum().clamp_min(1)
    overlap = _generalised_iou(network.boxes(raw), boxes[:, None, None])
    place = ((1 - overlap) * positive).sum() / positive.sum().clamp_min(1)
    total = 0.5 * cell.mean() + 1.5 * picture + 0.2 * kind + 0.5 * place
    return total, {
        "cell": cell.mean().detach(),
        "picture": picture.detach(),
        "place": place.detach(),
    }


def _generalised_iou(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """Return the generalised intersection over union of boxes (Rezatofighi et al., 2019)."""
    low = torch.maximum(one[..., :2], two[..., :2])
    high = torch.minimum(one[..., 2:], two[..., 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp_min(0).prod(-1) for box in (one, two)]
    union = areas[0] + areas[1] - shared
    around = (
        torch.maximum(one[..., 2:], two[..., 2:]) - torch.minimum(one[..., :2], two[..., :2])
    ).prod(-1)
    return shared / union.clamp_min(1) - (around - union) / around.clamp_min(1)
