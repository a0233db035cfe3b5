"""Judges photographs: blurred, covered, over- or underexposed, or good (SPEC 4.4).

::

    reader = QualityReader()
    for verdict in reader.judge([jpeg_of_one_device, jpeg_of_another]):
        if not verdict.good:
            ...  # verdict.faults == ("blur",), or verdict.reason says why it cannot be read

Pictures of any devices go through the network together, at most ``batch`` at a time. A picture
that cannot be read has a verdict that says so; it does not disturb the others. ``judge`` blocks:
an event loop calls it in a thread, where it runs alone, as decoding and the network release the
lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from connectors.images.quality import model as models
from connectors.images.quality.boxes import CLASSES, CONFIDENCE, IOU, decode, picture_scores
from connectors.images.quality.letterbox import (
    SIDE_PX,
    Placement,
    UnreadablePictureError,
    letterbox,
)
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from connectors.images.quality.boxes import Floats
    from connectors.images.quality.letterbox import Pixels

MAX_THREADS: Final = 64


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """How pictures are judged."""

    variant: str = "fp32"
    """``fp32``, ``fp16`` (for GPUs) or ``int8``."""
    providers: tuple[str, ...] = models.PROVIDERS
    """onnxruntime's, in the order in which they are tried."""
    threads: int = 1
    """Of the network, and as many of decoding; 1 to 64."""
    batch: int = 16
    """Pictures that go through the network together; 1 to 64."""
    confidence: float = CONFIDENCE
    """Score from which on something is a fault, 0 to 1."""
    iou: float = IOU
    """Overlap from which on two boxes are one, 0 to 1."""
    folder: Path = models.MODELS
    """Where the model files lie, with the list of their hashes."""

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= MAX_THREADS:
            raise UsageError(f"threads must be from 1 to {MAX_THREADS}, not {self.threads}.")
        if not 1 <= self.batch <= models.MAX_BATCH:
            raise UsageError(f"batch must be from 1 to {models.MAX_BATCH}, not {self.batch}.")
        if not (0 < self.confidence < 1 and 0 < self.iou < 1):
            raise UsageError("confidence and iou must lie between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault and where it lies."""

    kind: str
    """One of CLASSES."""
    score: float
    """0 to 1."""
    box_px: tuple[float, float, float, float]
    """Left, top, right, bottom in the picture's own pixels."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one picture."""

    readable: bool
    reason: str = ""
    """Why it cannot be read; empty if it can."""
    scores: tuple[float, ...] = ()
    """Best score of each of CLASSES, 0 to 1; empty if it cannot be read."""
    findings: tuple[Finding, ...] = ()
    """The best first."""

    @property
    def good(self) -> bool:
        """Whether the picture can be read and has no fault."""
        return self.readable and not self.findings

    @property
    def faults(self) -> tuple[str, ...]:
        """The kinds found, each once, the surest first."""
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))


class QualityReader:
    """A model and what it says of pictures. One thread at a time calls ``judge``."""

    def __init__(self, settings: QualitySettings | None = None) -> None:
        """Load the model.

        Raises:
            ModelError: it cannot be loaded (see ``model.load``).

        """
        self.settings = settings or QualitySettings()
        self.model = models.load(
            self.settings.variant,
            self.settings.providers,
            self.settings.threads,
            self.settings.folder,
        )
        self._decoders = (
            ThreadPoolExecutor(self.settings.threads, "quality-decode")
            if self.settings.threads > 1
            else None
        )
        self._frames = np.empty((self.settings.batch, SIDE_PX, SIDE_PX, 3), np.uint8)

    @property
    def provider(self) -> str:
        """What runs the network, by the session's own word: ``TensorRT``, ``CUDA``, ``CPU``…."""
        return self.model.provider

    def judge(self, frames: Sequence[bytes]) -> list[Verdict]:
        """Return a verdict for each picture (JPEG bytes), in their order."""
        found: list[Verdict] = []
        for at in range(0, len(frames), self.settings.batch):
            found += self._judged(frames[at : at + self.settings.batch])
        return found

    def close(self) -> None:
        """End the threads; the reader is of no use after that."""
        if self._decoders:
            self._decoders.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def judge_prepared(self, prepared: Prepared) -> list[Verdict]:
        """Return a verdict for each of at most MAX_BATCH pictures that are decoded already."""
        rows = self.model.rows(prepared.pixels) if len(prepared.pixels) else ()
        return prepared.verdicts(rows, self.settings)

    def _judged(self, frames: Sequence[bytes]) -> list[Verdict]:
        walk = self._decoders.map if self._decoders else map
        return self.judge_prepared(prepare(frames, self._frames[: len(frames)], walk))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pictures in their squares, for whichever network is to look at them."""

    placed: tuple[Placement | str, ...]
    """Where each lies, or why it cannot be read."""
    pixels: Pixels
    """(n, 320, 320, 3): those that can be read, in their order."""

    def verdicts(self, rows: Iterable[Floats], settings: QualitySettings) -> list[Verdict]:
        """Return a verdict for each, from the rows of those that can be read."""
        found, waiting = list[Verdict](), iter(rows)
        for place in self.placed:
            if isinstance(place, Placement):
                found.append(_verdict(next(waiting), place, settings))
            else:
                found.append(Verdict(readable=False, reason=place))
        return found


def prepare(
    frames: Sequence[bytes], out: Pixels, walk: Callable[..., Iterable[Placement | str]] = map
) -> Prepared:
    """Decode pictures (JPEG bytes) into ``out``, (n, 320, 320, 3); ``walk`` is a kind of map."""
    placed = tuple(walk(_placed, frames, out))
    readable = [index for index, place in enumerate(placed) if isinstance(place, Placement)]
    return Prepared(placed, out if len(readable) == len(frames) else out[readable])


def _verdict(rows: Floats, place: Placement, settings: QualitySettings) -> Verdict:
    boxes = decode(rows, settings.confidence, settings.iou)
    findings = tuple(Finding(b.kind, b.score, place.to_picture(b.sides)) for b in boxes)
    return Verdict(readable=True, scores=picture_scores(rows), findings=findings)


def _placed(jpeg: bytes, out: Pixels) -> Placement | str:
    """Return where the picture was put, or why it cannot be read."""
    try:
        return letterbox(jpeg, out)
    except UnreadablePictureError as error:
        return str(error)


__all__ = [
    "CLASSES", "Finding", "Prepared", "QualityReader", "QualitySettings", "Verdict", "prepare",
]  # fmt: skip
