"""Turns good photographs into bad ones and says exactly how bad: blur, things before the lens,
light.

The order is the light's: the scene is blurred by focus and motion, then comes what hangs before
the lens, then exposure and clipping, then the sensor's noise, the camera's sharpening, its date
stamp and its JPEG. All in batches on whatever device the pictures lie on; the same code makes the
batches of training (a canvas of 2 pixels a network pixel) and the frames of the evaluation (3,
and real JPEG).

A canvas is square and wholly filled with scene; the frame is the part of it that a camera of some
aspect would see. What is outside is known to the blur, and painted over with the letterbox's grey
before the network looks.

Truth a class is 1 (there), 0 (not there) or -1 (not for a person to say, so not counted): blur of
0.45 to 0.8 network pixels, a covered share of 3 to 10 %, something of the colour of what it
hides, a clipped share of 6 to 20 %, a mean brightness of 10 to 16 %, and blur where hardly
anything is left to see.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import functional

from connectors.images.quality.training import blur, occlude, sensor
from connectors.images.quality.training.occlude import FIELD_PX, uniform

BLUR, OCCLUSION, OVER, UNDER = range(4)
CLASSES: Final = ("blur", "occlusion", "overexposure", "underexposure")
SIDE_PX: Final = 320
FULL, PARTIAL, BOKEH = 1, 2, 3
NO_LIGHT, FLOOD, SPOT, DARK, DIM = range(5)
GAMMA: Final = 2.2
MIN_TEXTURE: Final = 0.006
"""Below this mean gradient of the good picture there is nothing whose sharpness could be told."""
MIN_CHANGE: Final = 0.07
"""A thing that changes the picture by less, on the average where it lies, cannot be seen."""


@dataclass(slots=True)
class Plan:
    """What is done to each picture of a batch; every member has the shape (n,)."""

    blur_kind: torch.Tensor
    blur_area: torch.Tensor
    """0 none, FULL, PARTIAL, BOKEH."""
    spread: torch.Tensor
    """Network pixels, of the blur or of a good lens's softness."""
    thing: torch.Tensor
    """Kind of what is before the lens, or -1."""
    share: torch.Tensor
    """Of the frame that it covers."""
    light: torch.Tensor
    """NO_LIGHT, FLOOD, SPOT, DARK, DIM."""
    light_to: torch.Tensor
    """Clipped share (FLOOD, SPOT) or mean brightness (DARK, DIM)."""
    dose: torch.Tensor
    """Of noise, sharpening, stamp and JPEG, 0 to 1 each: (n, 4)."""


@dataclass(slots=True)
class Truth:
    """What is to be found: presence (n, 4), boxes (n, 4, 4) as left, top, right, bottom in network
    pixels of the canvas, and how much of it: spread, covered, clipped, brightness (n, 4).
    """

    present: torch.Tensor
    boxes: torch.Tensor
    amount: torch.Tensor


def draw_plan(n: int, lots: torch.Generator, device: torch.device) -> Plan:
    """Draw what training does: each fault in some of the pictures, about two in five have none."""

    def chance() -> torch.Tensor:
        return torch.rand(n, device=device, generator=lots)

    area = torch.zeros(n, device=device, dtype=torch.long)
    lot = chance()
    area[lot < 0.46] = BOKEH
    area[lot < 0.36] = PARTIAL
    area[lot < 0.27] = FULL
    spread = torch.exp(uniform(n, -0.92, 1.5, lots, device))  # 0.4 to 4.5, every octave alike
    spread = torch.where(area == PARTIAL, spread.clamp_min(1.1), spread)
    spread = torch.where(area == 0, uniform(n, 0.0, 0.4, lots, device), spread)
    thing = torch.full((n,), -1, device=device)
    kinds = torch.multinomial(
        torch.tensor([0.18, 0.2, 0.15, 0.13, 0.12, 0.15, 0.07], device=device),
        n,
        replacement=True,
        generator=lots,
    )
    thing = torch.where(chance() < 0.28, kinds, thing)
    share = uniform(n, 0.1, 0.35, lots, device)
    share = torch.where(chance() < 0.35, uniform(n, 0.3, 0.9, lots, device), share)
    share = torch.where(thing == occlude.COVER, uniform(n, 0.95, 1.0, lots, device), share)
    light = torch.zeros(n, device=device, dtype=torch.long)
    lot = chance()
    light[lot < 0.38] = DIM
    light[lot < 0.28] = DARK
    light[lot < 0.20] = SPOT
    light[lot < 0.14] = FLOOD
    to = uniform(n, 0.18, 0.95, lots, device)
    to = torch.where(light == SPOT, uniform(n, 0.15, 0.5, lots, device), to)
    to = torch.where(light == DARK, uniform(n, 0.012, 0.095, lots, device), to)
    to = torch.where(light == DIM, uniform(n, 0.17, 0.30, lots, device), to)
    dose = torch.rand(n, 4, device=device, generator=lots)
    kind = torch.randint(0, 4, (n,), device=device, generator=lots)
    return Plan(kind, area, spread, thing, share, light, to, dose)


def degrade(
    pictures: torch.Tensor, frame: torch.Tensor, plan: Plan, lots: torch.Generator, *, jpeg: bool
) -> tuple[torch.Tensor, Truth]:
    """Return the pictures a camera would have sent, and the truth about them.

    ``pictures`` is (n, 3, s, s), 0 to 1, gamma encoded, s a multiple of 320; ``frame`` is (n, 4):
    top, left, bottom, right where the canvas is -1 to 1. With ``jpeg`` artefacts are imitated.
    """
    n, device = len(pictures), pictures.device
    scale = pictures.shape[-1] // SIDE_PX
    inside = inside_frame(frame, FIELD_PX)
    truth = Truth(
        torch.zeros(n, 4, device=device),
        _frame_boxes(frame)[:, None].repeat(1, 4, 1),
        torch.zeros(n, 4, device=device),
    )
    texture = _texture(pictures, inside)
    linear = pictures.clamp(0, 1) ** GAMMA
    other = linear.roll(1, 0)
    linear = _blurred(linear, frame, inside, plan, truth, scale, lots)
    linear = _covered(linear, other, frame, inside, plan, truth, lots)
    linear = _lit(linear, frame, inside, plan, truth, lots)
    shown = linear.clamp(0, 1) ** (1 / GAMMA)
    shown = sensor.camera(shown, frame, plan.dose, lots, jpeg=jpeg)
    spread, covered, clipped, mean = truth.amount.unbind(1)
    unknown = -torch.ones_like(spread)
    unseen = (clipped > 0.6) | (mean < 0.05)
    nothing = (texture < MIN_TEXTURE) | (covered > 0.7) | unseen
    blurred, hidden = truth.present[:, BLUR], truth.present[:, OCCLUSION]
    truth.present[:, BLUR] = torch.where(nothing & (spread >= 0.45), unknown, blurred)
    truth.present[:, OCCLUSION] = torch.where(unseen & (hidden > 0), unknown, hidden)
    return shown, truth


def _blurred(
    linear: torch.Tensor,
    frame: torch.Tensor,
    inside: torch.Tensor,
    plan: Plan,
    truth: Truth,
    scale: int,
    lots: torch.Generator,
) -> torch.Tensor:
    n, size = len(linear), linear.shape[-1]
    kind = torch.where(plan.blur_area == 0, torch.zeros_like(plan.blur_kind), plan.blur_kind)
    touched = (plan.spread * scale > 0.3).nonzero()[:, 0]
    soft = linear.clone()
    psf = blur.kernels(kind[touched], plan.spread[touched], scale, lots)
    soft[touched] = blur.convolve(linear[touched], psf)
    # Part of the frame: from an edge inwards (dew, a smear); bokeh: all but an island.
    field = occlude.edge_ramp(n, frame, lots, linear.device) + 0.3 * occlude.noise(
        n, uniform(n, 2, 4, lots, linear.device), FIELD_PX, lots, linear.device
    )
    island = occlude.blob(n, frame, lots, linear.device)
    field = torch.where((plan.blur_area == BOKEH)[:, None, None], -island, field)
    part = uniform(n, 0.45, 0.8, lots, linear.device)
    level = occlude.threshold(field, inside, part)
    alpha = torch.sigmoid((field - level[:, None, None]) / 0.06)
    whole = (plan.blur_area == FULL) | (plan.blur_area == 0)
    alpha = torch.where(whole[:, None, None], torch.ones_like(alpha), alpha)
    wide = functional.interpolate(alpha[:, None], (size, size), mode="bilinear")
    spread = torch.where(plan.blur_area == BOKEH, torch.zeros_like(plan.spread), plan.spread)
    truth.amount[:, BLUR] = spread
    present = (spread >= 0.8).float()
    present = torch.where((spread >= 0.45) & (spread < 0.8), -torch.ones_like(present), present)
    truth.present[:, BLUR] = present
    partial = plan.blur_area == PARTIAL
    truth.boxes[partial, BLUR] = _boxes((alpha > 0.5) & inside)[partial]
    return linear * (1 - wide) + soft * wide


def _covered(
    linear: torch.Tensor,
    other: torch.Tensor,
    frame: torch.Tensor,
    inside: torch.Tensor,
    plan: Plan,
    truth: Truth,
    lots: torch.Generator,
) -> torch.Tensor:
    at = (plan.thing >= 0).nonzero()[:, 0]
    if not len(at):
        return linear
    kind, size, device = plan.thing[at], linear.shape[-1], linear.device
    field = occlude.fields(kind, frame[at], lots)
    level = occlude.threshold(field, inside[at], plan.share[at])[:, None, None]
    slope = (field[:, 1:, 1:] - field[:, :-1, :-1]).abs().flatten(1).mean(1)[:, None, None]
    edge_px = torch.exp(uniform(len(at), -1.2, 2.2, lots, device))[:, None, None]
    edge_px = torch.where((kind == occlude.FINGER)[:, None, None], edge_px.clamp_min(1.5), edge_px)
    wide = functional.interpolate(field[:, None], (size, size), mode="bilinear")
    width = (slope * edge_px * FIELD_PX / SIDE_PX).clamp_min(1e-3)[:, None] * 0.7
    depth = (wide - level[:, None]) / width
    opaque = uniform(len(at), 0.88, 1.0, lots, device)
    opaque = torch.where(kind == occlude.DIRT, uniform(len(at), 0.6, 0.97, lots, device), opaque)[
        :, None, None, None
    ]
    alpha = torch.sigmoid(depth) * opaque
    things = occlude.fill(kind, linear[at], other[at], lots)
    drops = (kind == occlude.DROPS)[:, None, None, None]
    things = torch.where(drops, things * (0.45 + 0.55 * torch.sigmoid(depth / 6)), things)
    found = linear.clone()
    found[at] = linear[at] * (1 - alpha) + things * alpha
    solid = (field > level) & inside[at]
    change = (found[at].clamp(0, 1) ** (1 / GAMMA) - linear[at].clamp(0, 1) ** (1 / GAMMA)).abs()
    change = functional.interpolate(change.mean(1, keepdim=True), (FIELD_PX,) * 2, mode="area")[
        :, 0
    ]
    seen = (change * solid).flatten(1).sum(1) / solid.flatten(1).sum(1).clamp_min(1)
    covered = solid.flatten(1).sum(1) / inside[at].flatten(1).sum(1)
    truth.amount[at, OCCLUSION] = covered
    present = torch.where((covered >= 0.1) & (seen >= MIN_CHANGE), 1.0, -1.0)
    truth.present[at, OCCLUSION] = torch.where(covered < 0.03, torch.zeros_like(present), present)
    truth.boxes[at, OCCLUSION] = _boxes(solid)
    return found


def _lit(
    linear: torch.Tensor,
    frame: torch.Tensor,
    inside: torch.Tensor,
    plan: Plan,
    truth: Truth,
    lots: torch.Generator,
) -> torch.Tensor:
    n, device, size = len(linear), linear.device, linear.shape[-1]
    weights = torch.tensor([0.299, 0.587, 0.114], device=device)
    coarse = functional.interpolate(linear, (FIELD_PX, FIELD_PX), mode="area")
    luma = torch.einsum("nchw,c->nhw", coarse, weights)
    mean = _mean(luma.clamp(0, 1) ** (1 / GAMMA), inside)
    bright = occlude.threshold(luma, inside, plan.light_to).clamp_min(0.004)
    gain = torch.ones(n, device=device)
    gain = torch.where(plan.light == FLOOD, (1.0 / bright).clamp(1.0, 60.0), gain)
    dark = (plan.light == DARK) | (plan.light == DIM)
    gain = torch.where(dark, (plan.light_to / mean.clamp_min(0.01)).clamp_max(1.0) ** GAMMA, gain)
    lamp = occlude.blob(n, frame, lots, device)
    level = occlude.threshold(lamp, inside, plan.light_to)
    rise = (lamp - level[:, None, None]).clamp(-6, 1.2) * uniform(n, 3, 9, lots, device)[
        :, None, None
    ]
    glow = torch.exp(rise) * uniform(n, 0.6, 1.0, lots, device)[:, None, None]
    glow = torch.where((plan.light == SPOT)[:, None, None], glow, torch.zeros_like(glow))
    wide = functional.interpolate(glow[:, None], (size, size), mode="bilinear")
    warm = 1 + 0.15 * (torch.rand(n, 3, 1, 1, device=device, generator=lots) - 0.5)
    lit = linear * gain[:, None, None, None] + wide * warm
    after = functional.interpolate(lit, (FIELD_PX, FIELD_PX), mode="area")
    white = (after.amin(1) >= 0.95) & inside
    clipped = white.flatten(1).sum(1) / inside.flatten(1).sum(1)
    luma = torch.einsum("nchw,c->nhw", after.clamp(0, 1), weights)
    mean = _mean(luma ** (1 / GAMMA), inside)
    truth.amount[:, OVER], truth.amount[:, UNDER] = clipped, mean
    made = (plan.light == FLOOD) | (plan.light == SPOT)
    over = torch.where(clipped >= 0.06, -1.0, 0.0)
    truth.present[:, OVER] = torch.where(made & (clipped >= 0.2), torch.ones_like(over), over)
    under = torch.where(mean <= 0.16, -1.0, 0.0)
    under = torch.where((plan.light == DARK) & (mean <= 0.10), torch.ones_like(under), under)
    truth.present[:, UNDER] = under
    truth.boxes[:, OVER] = _boxes(
        white & (functional.avg_pool2d(white.float()[:, None], 5, 1, 2)[:, 0] > 0.5)
    )
    flood = clipped > 0.55
    truth.boxes[flood, OVER] = _frame_boxes(frame)[flood]
    return _knee(lit, uniform(n, 0, 1, lots, device))


def _knee(lit: torch.Tensor, lot: torch.Tensor) -> torch.Tensor:
    """Bend the highlights as cameras do, in two of five; some never reach full white."""
    bent = torch.where(
        lit < 0.7, lit, 0.7 + 0.3 * (1 - torch.exp(-(lit - 0.7).clamp_min(0) / 0.12))
    )
    lot = lot[:, None, None, None]
    found = torch.where(lot < 0.4, bent, lit.clamp_max(1.0))
    top = torch.where(lot < 0.25, 0.84 + 0.6 * lot, torch.ones_like(lot))
    return torch.minimum(found, top)


def inside_frame(frame: torch.Tensor, size: int) -> torch.Tensor:
    """Return which points of a size x size grid over the canvas the frame holds."""
    axis = (torch.arange(size, device=frame.device) + 0.5) / size * 2 - 1
    top, left, bottom, right = (side[:, None] for side in frame.unbind(1))
    rows, columns = (axis >= top) & (axis < bottom), (axis >= left) & (axis < right)
    return rows[:, :, None] & columns[:, None, :]


def _mean(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


def _texture(pictures: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the mean gradient at the network's own size."""
    grey = functional.interpolate(pictures.mean(1, keepdim=True), (SIDE_PX, SIDE_PX), mode="area")[
        :, 0
    ]
    steps = (grey[:, 1::2, 1::2] - grey[:, ::2, ::2]).abs()
    return _mean(steps, inside)


def _frame_boxes(frame: torch.Tensor) -> torch.Tensor:
    """Return left, top, right, bottom in network pixels."""
    return (frame[:, [1, 0, 3, 2]] + 1) / 2 * SIDE_PX


def _boxes(mask: torch.Tensor) -> torch.Tensor:
    """Return the box around each mask: left, top, right, bottom in network pixels."""
    size = mask.shape[-1]
    found = []
    for along in (mask.any(1), mask.any(2)):
        ordered = along.float()
        first = ordered.argmax(1)
        last = size - ordered.flip(1).argmax(1)
        found.append((first, last))
    (left, right), (top, bottom) = found
    return torch.stack((left, top, right, bottom), 1).float() * (SIDE_PX / size)
