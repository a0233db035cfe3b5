"""Frames to be judged by: each with one fault of a known strength, or none, as JPEG files.

Written as ``PART.tar`` files with ``truth.json``: for each frame its case (fault, kind,
strength), the presence of each class and the amounts. Cases and counts are the same at every run,
the chance is seeded; with ``--scale 2`` frames are 640 pixels long, with 1 they are 320.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import io
import json
import random
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image

from connectors.images.quality.training import degrade, occlude
from connectors.images.quality.training.batch import coloured, gather
from connectors.images.quality.training.degrade import CLASSES, SIDE_PX, Plan
from connectors.images.quality.training.pool import load_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED: Final = 4_104
TAR_BYTES: Final = 15_500_000
KINDS_OF_BLUR: Final = ("gaussian", "defocus", "motion", "shake")
STRENGTHS: Final = ("light", "medium", "strong")
SPREADS: Final = ((0.8, 1.3), (1.3, 2.2), (2.2, 4.5))
SHARES: Final = ((0.11, 0.18), (0.18, 0.4), (0.4, 0.85))
CLIPPED: Final = ((0.22, 0.35), (0.35, 0.6), (0.6, 0.95))
MEANS: Final = ((0.06, 0.095), (0.03, 0.06), (0.012, 0.03))


def cases(per: float) -> Iterator[tuple[str, str, str, int, dict[str, float]]]:
    """Yield fault, kind, strength, count, and what of a plan it sets; ``per`` scales the counts."""

    def count(n: int) -> int:
        return max(2, round(n * per))

    yield "none", "good", "", count(360), {}
    yield "none", "bokeh", "", count(80), {"area": degrade.BOKEH, "low": 1.0, "high": 4.0}
    yield (
        "none",
        "low light",
        "",
        count(80),
        {"light": degrade.DIM, "to_low": 0.18, "to_high": 0.28},
    )
    for kind, name in enumerate(KINDS_OF_BLUR):
        faint = {"kind": kind, "area": degrade.FULL, "low": 0.5, "high": 0.8}
        yield "blur", name, "faint", count(12), faint
        for strength, (low, high) in zip(STRENGTHS, SPREADS, strict=True):
            full = {"kind": kind, "area": degrade.FULL, "low": low, "high": high}
            yield "blur", name, strength, count(18), full
    yield "blur", "partial", "", count(60), {"area": degrade.PARTIAL, "low": 1.3, "high": 4.0}
    for thing, name in enumerate(occlude.KINDS):
        for strength, (low, high) in zip(STRENGTHS, SHARES, strict=True):
            if name == "cover" and strength != "strong":
                continue  # a cover hides all there is
            shares = (0.96, 1.0) if name == "cover" else (low, high)
            yield "occlusion", name, strength, count(12), {
                "thing": thing, "share_low": shares[0], "share_high": shares[1],
            }  # fmt: skip
    for strength, (low, high) in zip(STRENGTHS, CLIPPED, strict=True):
        flood = {"light": degrade.FLOOD, "to_low": low, "to_high": high}
        yield "overexposure", "flood", strength, count(40), flood
    spot = {"light": degrade.SPOT, "to_low": 0.24, "to_high": 0.5}
    yield "overexposure", "spot", "", count(40), spot
    for strength, (low, high) in zip(STRENGTHS, MEANS, strict=True):
        dark = {"light": degrade.DARK, "to_low": low, "to_high": high}
        yield "underexposure", "dark", strength, count(30), dark


def plan_of(
    setting: dict[str, float], n: int, chance: torch.Generator, device: torch.device
) -> Plan:
    """Return a plan with one fault; softness and the sensor's dose are as in training."""

    def between(low: str, high: str, least: float, most: float) -> torch.Tensor:
        return occlude.uniform(n, setting.get(low, least), setting.get(high, most), chance, device)

    def constant(name: str, otherwise: int) -> torch.Tensor:
        return torch.full((n,), int(setting.get(name, otherwise)), device=device)

    kind = torch.randint(0, 4, (n,), device=device, generator=chance)
    if "kind" in setting:
        kind = constant("kind", 0)
    return Plan(
        kind,
        constant("area", 0),
        between("low", "high", 0.0, 0.4),
        constant("thing", -1),
        between("share_low", "share_high", 0.1, 0.2),
        constant("light", degrade.NO_LIGHT),
        between("to_low", "to_high", 0.2, 0.3),
        torch.rand(n, 4, device=device, generator=chance),
    )


def write(asked: argparse.Namespace) -> None:
    """Write the frames of a part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scenes = load_scenes(asked.scenes, asked.part, device)
    seed = SEED + len(asked.part)
    lots, chance = random.Random(seed), torch.Generator(device).manual_seed(seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, object]] = []
    pack: list[tuple[str, bytes]] = []
    for fault, kind, strength, count, setting in cases(asked.per):
        for begin in range(0, count, asked.batch):
            n = min(asked.batch, count - begin)
            pictures, frame, numbers = gather(scenes, n, SIDE_PX * asked.scale, lots)
            plan = plan_of(setting, n, chance, device)
            shown, found = degrade.degrade(
                coloured(pictures, chance), frame, plan, chance, jpeg=False
            )
            present, amount = found.present.int().tolist(), found.amount.tolist()
            for index in range(n):
                name = f"{len(truth):05d}.jpg"
                pack.append((name, _encoded(shown[index], frame[index], lots)))
                truth.append(
                    {
                        "name": name,
                        "scene": numbers[index],
                        "fault": fault,
                        "kind": kind,
                        "strength": strength,
                        "present": present[index],
                        "amount": [round(value, 4) for value in amount[index]],
                    }
                )
    _write_tars(asked.out, asked.part, pack)
    head = {"classes": CLASSES, "scale": asked.scale, "frames": truth}
    (asked.out / f"{asked.part}.json").write_text(json.dumps(head) + "\n")
    print(f"{len(truth)} frames of {len(scenes)} scenes, {sum(len(d) for _, d in pack):,} bytes")


def _encoded(shown: torch.Tensor, frame: torch.Tensor, lots: random.Random) -> bytes:
    size = shown.shape[-1]
    top, left, bottom, right = (round((side + 1) / 2 * size) for side in frame.tolist())
    part = (shown[:, top:bottom, left:right] * 255).round().to(torch.uint8)
    image = Image.fromarray(np.ascontiguousarray(part.permute(1, 2, 0).cpu().numpy()))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=lots.randint(55, 92), subsampling=lots.choice((0, 2, 2)))
    return out.getvalue()


def _write_tars(folder: Path, part: str, pack: list[tuple[str, bytes]]) -> None:
    number, size = 0, TAR_BYTES
    tar: tarfile.TarFile | None = None
    for name, data in pack:
        if size + len(data) + 1_024 > TAR_BYTES:
            if tar:
                tar.close()
            tar, size = tarfile.open(folder / f"{part}-{number}.tar", "w"), 0
            number += 1
        assert tar is not None
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        size += len(data) + 1_024
    if tar:
        tar.close()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of prepared scenes")
    parser.add_argument("--part", choices=("validate", "test", "later"), default="test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per", type=float, default=1.0, help="scale of the counts")
    parser.add_argument("--scale", type=int, default=2, help="pixels of a frame a network pixel")
    parser.add_argument("--batch", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    write(arguments())
