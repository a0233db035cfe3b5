"""The pool that training draws from: degraded pictures and their truth, made once, by the CPU.

Degrading a picture costs more than learning from it (70 ms to 14 ms of one core), so each is used
several times, mirrored and brightened anew. The pool is three plain arrays on disk that another
process may read while this one fills them; ``count`` says how far it is.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from connectors.images.quality.training.batch import tensor_of, training_batch
from connectors.images.quality.training.degrade import CLASSES, SIDE_PX, draw_plan
from connectors.images.quality.training.overlay import overlay

SEED: Final = 20_261_128
BATCH: Final = {"cpu": 16, "cuda": 128}
"""Pictures degraded together: what fits a processor's cache, what fills a GPU."""


class Pool:
    """Pictures (count, 320, 320, 3), presence (count, 4) and boxes (count, 4, 4)."""

    def __init__(self, folder: Path, size: int | None = None) -> None:
        self._count = folder / "count"
        mode: Literal["r", "w+"] = "r"
        if size:
            folder.mkdir(parents=True, exist_ok=True)
            self._count.write_text("0")
            (folder / "size").write_text(str(size))
            mode = "w+"
        size = int((folder / "size").read_text())
        faults = len(CLASSES)
        self.pictures = np.memmap(
            folder / "pictures", np.uint8, mode, shape=(size, SIDE_PX, SIDE_PX, 3)
        )
        self.present = np.memmap(folder / "present", np.float32, mode, shape=(size, faults))
        self.boxes = np.memmap(folder / "boxes", np.float32, mode, shape=(size, faults, 4))

    def __len__(self) -> int:
        return int(self._count.read_text() or "0")

    def put(
        self, at: int, pictures: torch.Tensor, present: torch.Tensor, boxes: torch.Tensor
    ) -> None:
        """Write a batch and say that it is there."""
        end = min(at + len(pictures), len(self.pictures))
        self.pictures[at:end] = pictures[: end - at].cpu().numpy()
        self.present[at:end] = present[: end - at].cpu().numpy()
        self.boxes[at:end] = boxes[: end - at].cpu().numpy()
        waiting = self._count.with_name("count.new")
        waiting.write_text(str(end))
        waiting.replace(self._count)  # read while it is written: whole or the one before

    def draw(
        self, numbers: npt.NDArray[np.int64], chance: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return some pictures, half of them mirrored, each up to 6 % brighter or darker, things
        laid over some (``overlay.py``).
        """
        pictures = self.pictures[numbers].astype(np.float32)
        pictures *= chance.uniform(0.94, 1.06, (len(numbers), 1, 1, 3)).astype(np.float32)
        present, boxes = self.present[numbers].copy(), self.boxes[numbers].copy()
        overlay(pictures, present, boxes, chance)
        mirrored = chance.random(len(numbers)) < 0.5
        pictures[mirrored] = pictures[mirrored][:, :, ::-1]
        boxes[mirrored] = boxes[mirrored][:, :, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (
            SIDE_PX,
            0,
            SIDE_PX,
            0,
        )
        x = torch.from_numpy(np.clip(pictures, 0, 255).astype(np.uint8))
        return x, torch.from_numpy(present), torch.from_numpy(boxes)


class Resident:
    """A pool's pictures on the device, as far as they have come: a GPU waits for no processor."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self._pool = pool
        size = len(pool.pictures)
        shape = (size, SIDE_PX, SIDE_PX, 3)
        self._pictures = torch.empty(shape, dtype=torch.uint8, device=device)
        self._present = torch.empty((size, len(CLASSES)), device=device)
        self._boxes = torch.empty((size, len(CLASSES), 4), device=device)
        self._mirror = torch.tensor([-1.0, 1, -1, 1], device=device)
        self._edge = torch.tensor([float(SIDE_PX), 0, SIDE_PX, 0], device=device)
        self._count = 0

    def __len__(self) -> int:
        first, end = self._count, len(self._pool)
        for mine, theirs in (
            (self._pictures, self._pool.pictures),
            (self._present, self._pool.present),
            (self._boxes, self._pool.boxes),
        ):
            if end > first:
                mine[first:end].copy_(torch.from_numpy(np.array(theirs[first:end])))
        self._count = end
        return end

    def draw(
        self, numbers: npt.NDArray[np.int64], _chance: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As :meth:`Pool.draw`, with the device's own chance."""
        at = torch.from_numpy(numbers).to(self._boxes.device)
        mirrored = torch.rand(len(at), 1, 1, 1, device=at.device) < 0.5
        bright = torch.rand(len(at), 1, 1, 3, device=at.device) * 0.12 + 0.94
        x = self._pictures[at]
        x = torch.where(mirrored, x.flip(2), x)
        x = (x * bright).clamp(0, 255).to(torch.uint8)
        boxes = self._boxes[at]
        turned = boxes[:, :, [2, 1, 0, 3]] * self._mirror + self._edge
        return x, self._present[at], torch.where(mirrored[:, :, :, 0], turned, boxes)


def load_scenes(folder: Path, part: str, device: torch.device) -> list[torch.Tensor]:
    """Return the scenes of a part, as ``prepare`` wrote them."""
    files = sorted(folder.glob(f"{part}-*.jpg"))
    if not files:
        raise SystemExit(f"No scenes of the part {part} in {folder}: prepare them first.")
    return [tensor_of(Image.open(file).convert("RGB"), device) for file in files]


def make(scenes: Path, part: str, out: Path, count: int, seed: int = SEED) -> None:
    """Fill a pool of ``count`` pictures from the scenes of a part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = load_scenes(scenes, part, device)
    lots, chance = random.Random(seed), torch.Generator(device).manual_seed(seed)
    pool = Pool(out, count)
    size = BATCH[device.type]
    for at in range(0, count, size):
        with torch.no_grad():
            plan = draw_plan(size, chance, device)
            # One batch of six is degraded at twice the size: finer JPEG and noise.
            scale = 2 if at // size % 6 == 5 else 1
            x, truth = training_batch(found, plan, lots, chance, scale)
        pool.put(at, x, truth.present, truth.boxes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--part", default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16_000)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    make(asked.scenes, asked.part, asked.out, asked.count, asked.seed)
