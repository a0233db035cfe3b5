"""Train the network from pools, for a given time: ``python -m …training.train``.

Pools may still be growing (``pool.py``). The learning rate follows the clock (a warm-up, then a
cosine to nought), so a run is as long as asked for, whatever the machine; without a GPU it is the
processor's clock, which stands still while others have the machine. What is kept is the moving
average of the weights, with its scores on the validation scenes. Arithmetic is bfloat16 where the
processor has it.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from connectors.images.quality.training.degrade import CLASSES
from connectors.images.quality.training.measure import Floats, area_under_curve
from connectors.images.quality.training.network import Network, loss_of
from connectors.images.quality.training.pool import Pool, Resident
from connectors.images.quality.training.start import begin

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP: Final = 0.04
AVERAGE: Final = 0.995
SEED: Final = 20_261_128
SHARES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of what was learned, where training began with weights."""
FIRST: Final = 1_000
"""Pictures that a pool holds before training begins."""


@torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
def scores(network: Network, pool: Pool, size: int = 64) -> tuple[Floats, Floats]:
    """Return each picture's score a class, and what is true, (n, 4) each."""
    network.eval()
    device = next(network.parameters()).device
    found = []
    count = len(pool)
    for at in range(0, count, size):
        x = torch.from_numpy(np.array(pool.pictures[at : min(at + size, count)])).to(device)
        rows = network(x).view(len(x), -1, len(CLASSES), 5 + len(CLASSES))
        best = (rows[..., 4:5] * rows[..., 5:].amax(-1, keepdim=True)).amax((1, 3))
        found.append(best.cpu().numpy())
    return np.concatenate(found), np.array(pool.present[:count])


def summary(found: Floats, truth: Floats) -> dict[str, float]:
    """Return the area under the curve of each class."""
    return {
        name: round(area_under_curve(found[truth[:, c] == 1, c], found[truth[:, c] == 0, c]), 4)
        for c, name in enumerate(CLASSES)
    }


def batch(
    pools: Sequence[Pool | Resident], size: int, chance: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a batch from all pools as they are now."""
    counts = [len(pool) for pool in pools]
    which = chance.choice(len(pools), size, p=np.array(counts) / sum(counts))
    parts = []
    for number, pool in enumerate(pools):
        wanted = int((which == number).sum())
        if wanted:
            parts.append(pool.draw(chance.integers(0, counts[number], wanted), chance))
    x, present, boxes = (torch.cat(part) for part in zip(*parts, strict=True))
    return x, present, boxes


def optimiser(network: Network, rate: float) -> torch.optim.AdamW:
    """Return AdamW that leaves norms and biases undecayed."""
    grouped: list[list[torch.nn.Parameter]] = [[], []]
    for parameter in network.parameters():
        grouped[parameter.ndim > 1].append(parameter)
    return torch.optim.AdamW(
        [{"params": grouped[0], "weight_decay": 0.0}, {"params": grouped[1], "weight_decay": 0.02}],
        lr=rate,
    )


def average(kept: Network, network: Network, step: int) -> None:
    """Move the average a little towards the weights as they are."""
    weight = min(AVERAGE, step / (step + 20))
    states = zip(kept.state_dict().values(), network.state_dict().values(), strict=True)
    pairs = [(mine, theirs) for mine, theirs in states if mine.dtype.is_floating_point]
    with torch.no_grad():
        torch._foreach_lerp_(*map(list, zip(*pairs, strict=True)), 1 - weight)


def train(asked: argparse.Namespace) -> None:
    """Train, report, keep."""
    torch.manual_seed(SEED)
    chance = np.random.default_rng(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check = Pool(asked.check)
    pools: list[Pool | Resident] = [Pool(folder) for folder in asked.pools]
    if device.type == "cuda":
        pools = [Resident(pool, device) for pool in pools if isinstance(pool, Pool)]
    while sum(map(len, pools)) < FIRST:
        time.sleep(1)
    network = Network()
    if asked.start:
        begin(network, asked.start, check)
    network = network.to(device).to(memory_format=torch.channels_last)
    kept, first = copy.deepcopy(network), copy.deepcopy(network)
    maker = optimiser(network, asked.rate)
    clock = time.monotonic if device.type == "cuda" else time.process_time
    began_s = told_s = clock()
    step = 0
    asked.out.mkdir(parents=True, exist_ok=True)
    while (done := (clock() - began_s) / asked.seconds) < 1:
        rate = asked.rate * min(1.0, done / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in maker.param_groups:
            group["lr"] = rate + 1e-6
        x, present, boxes = (part.to(device) for part in batch(pools, asked.batch, chance))
        network.train()
        with torch.autocast(device.type, torch.bfloat16):
            raw = network.raw(x)
        loss, parts = loss_of(network, raw, present, boxes)
        maker.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        maker.step()
        step += 1
        average(kept, network, step)
        if clock() - told_s > asked.tell:
            told_s = clock()
            line = {
                "s": round(told_s - began_s),
                "pictures": step * asked.batch,
                "of": sum(map(len, pools)),
                "loss": round(float(loss.detach()), 4),
                **{name: round(float(part), 4) for name, part in parts.items()},
                **summary(*scores(kept, check)),
            }
            print(json.dumps(line), flush=True)
            keep(kept, asked.out, step * asked.batch)
    if asked.start:
        kept = between(first, kept, check)
    keep(kept, asked.out, step * asked.batch)
    found, true = scores(kept, check)
    print(json.dumps({"pictures": step * asked.batch, "final": summary(found, true)}), flush=True)


def between(first: Network, last: Network, check: Pool) -> Network:
    """Return the weights on the line from ``first`` to ``last`` that do best on the validation
    scenes (Wortsman et al., 2022): what few scenes taught too well is taken back.

    Best is the greatest sum of areas under the curve.
    """
    best, best_sum = last, 0.0
    for share in SHARES:
        mixed = copy.deepcopy(last)
        states = zip(mixed.state_dict().values(), first.state_dict().values(), strict=True)
        with torch.no_grad():
            for value, before in states:
                if value.dtype.is_floating_point:
                    value.lerp_(before, 1 - share)
        areas = summary(*scores(mixed, check))
        print(json.dumps({"share": share, **areas}), flush=True)
        if sum(areas.values()) > best_sum:
            best, best_sum = mixed, sum(areas.values())
    return best


def keep(kept: Network, folder: Path, pictures: int) -> None:
    """Write the weights, whole or not at all."""
    weights = {name: value.cpu() for name, value in kept.state_dict().items()}
    torch.save({"weights": weights, "pictures": pictures}, folder / "weights.new")
    (folder / "weights.new").replace(folder / "weights.pt")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=Path, nargs="+", required=True)
    parser.add_argument("--check", type=Path, required=True, help="pool of validation scenes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1_800.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--tell", type=float, default=120.0, help="seconds between reports")
    parser.add_argument("--start", type=Path, help="weights to begin with: .onnx or .pt")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(arguments())
