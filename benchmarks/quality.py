"""Quality: what it costs to judge a photo, by provider, variant of the model and batch.

``network_ms`` is the network alone, a call divided by the pictures in it: the median of many
calls, and ``network_cpu_ms`` the processor time of this process for the same, which other
programs on the machine disturb less. ``reader_…`` is all of it: JPEG bytes to verdict. One thread
each. Pictures are drawn, not photographed: their content changes nothing but the time to decode
them, and they are as large as a photograph's file (about 400 kB for 1920 x 1080). No broker runs.

``--systems CPU,CUDA,TensorRT`` and ``--cases fp32,int8`` choose; a provider that does not come up
is left out, with a note.
"""

from __future__ import annotations

import io
import statistics
import time
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from benchmarks.options import chosen
from benchmarks.result import OURS, Row
from connectors.images.quality import model as models
from connectors.images.quality.letterbox import SIDE_PX, letterbox
from connectors.images.quality.model import ModelError
from connectors.images.quality.reader import QualityReader, QualitySettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.load import Rig
    from benchmarks.options import Options

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
QUICK_BATCHES: Final = (1, 16)
PROVIDERS: Final = {name.removesuffix("ExecutionProvider"): name for name in models.PROVIDERS}
SECONDS: Final = 3.0
QUICK_SECONDS: Final = 0.4
SIZES: Final = ((640, 480), (1_920, 1_080), (3_840, 2_160))
PICTURES: Final = 8
MAX_CALLS: Final = 2_000


def versions() -> dict[str, str]:
    """Return what ran the model, and which model."""
    found = {f"model {name}": entry.sha256[:16] for name, entry in models.catalogue().items()}
    return {"onnxruntime": str(models.runtime().__version__), **found}


def run(options: Options, rig: Rig) -> Iterator[Row]:
    """Measure every case."""
    variants = chosen(options.cases, models.VARIANTS, "variant")
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    yield from _decoding(seconds)
    for provider in chosen(options.systems, tuple(PROVIDERS), "provider"):
        for variant in variants:
            settings = QualitySettings(variant=variant, providers=(PROVIDERS[provider],), batch=64)
            try:
                reader = QualityReader(settings)
            except ModelError as error:
                rig.say(f"{provider} {variant}: {error.line()}")
                continue
            with reader:
                if reader.provider != provider:
                    rig.say(f"{provider} {variant}: did not come up, {reader.provider} did")
                    continue
                batches = QUICK_BATCHES if options.quick else BATCHES
                yield from _measured(reader, batches, seconds)


def drawn(width_px: int, height_px: int, seed: int) -> bytes:
    """Return a JPEG with detail at every scale, quality 85."""
    chance = np.random.default_rng(seed)
    picture = np.full((height_px, width_px), 128.0)
    for cells in (4, 16, 64, 256):
        grid = chance.normal(0, 22, (max(2, cells * height_px // width_px), cells))
        layer = Image.fromarray(grid.astype(np.float32)).resize(
            (width_px, height_px), Image.Resampling.BICUBIC
        )
        picture += np.asarray(layer)
    picture += chance.normal(0, 3, picture.shape)
    out = io.BytesIO()
    grey = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    grey.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def _decoding(seconds: float) -> Iterator[Row]:
    out = np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
    for width, height in SIZES:
        pictures = [drawn(width, height, seed) for seed in range(2)]

        def work(pictures: list[bytes] = pictures) -> None:
            for jpeg in pictures:
                letterbox(jpeg, out)

        case = f"letterbox {width} x {height}"
        yield from _rows(case, "letterbox", timed(work, seconds / 2), len(pictures))
        yield Row(case, OURS, "jpeg_bytes", float(len(pictures[0])), "bytes")


def _measured(reader: QualityReader, batches: tuple[int, ...], seconds: float) -> Iterator[Row]:
    label = f"{reader.provider}, {reader.model.variant}"
    yield Row(label, OURS, "model_bytes", float(_bytes(reader.model.variant)), "bytes")
    chance = np.random.default_rng(1)
    for batch in batches:
        frames = chance.integers(0, 255, (batch, SIDE_PX, SIDE_PX, 3), np.uint8)
        found = timed(lambda frames=frames: reader.model.rows(frames), seconds)  # type: ignore[misc]
        yield from _rows(f"{label}, batch {batch}", "network", found, batch)
    jpegs = [drawn(1_920, 1_080, seed) for seed in range(PICTURES)]
    found = timed(lambda: reader.judge(jpegs), seconds)
    yield from _rows(f"{label}, 1920 x 1080 to verdict", "reader", found, len(jpegs))


def _bytes(variant: str) -> int:
    return models.catalogue()[variant].bytes


def timed(work: Callable[[], object], seconds: float) -> tuple[float, float, float]:
    """Return median and 99th percentile of the elapsed, and the mean of the CPU milliseconds."""
    for _ in range(3):
        work()
    elapsed: list[float] = []
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while not elapsed or (time.perf_counter() - began_s < seconds and len(elapsed) < MAX_CALLS):
        at_s = time.perf_counter()
        work()
        elapsed.append((time.perf_counter() - at_s) * 1e3)
    cpu_ms = (time.process_time() - cpu_s) * 1e3 / len(elapsed)
    worst = sorted(elapsed)[min(len(elapsed) - 1, len(elapsed) * 99 // 100)]
    return statistics.median(elapsed), worst, cpu_ms


def _rows(case: str, part: str, found: tuple[float, float, float], pictures: int) -> Iterator[Row]:
    median_ms, worst_ms, cpu_ms = found
    for metric, value, unit in (
        (f"{part}_ms", median_ms / pictures, "ms"),
        (f"{part}_cpu_ms", cpu_ms / pictures, "ms"),
        ("call_ms_p99", worst_ms, "ms"),
        ("frames_per_s", pictures / median_ms * 1e3, "1/s"),
    ):
        yield Row(case, OURS, metric, round(value, 3), unit)
