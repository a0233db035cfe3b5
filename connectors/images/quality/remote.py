"""A model on a server: shown to be the released one, asked, and what it answers looked at.

:class:`RemoteModel` blocks, and decides nothing about when it is asked (``remote_watch.py``).

**Shown to be the released one** (:meth:`RemoteModel.verify`): the server and the model are ready;
the model takes and gives what ours does; and it answers made-up frames (``canary.py``) as the local
model does. A server may also say in its answers which file it runs (parameter ``sha256``): that
must be one of ``models.json``, and then the local file of the same hash is what it is compared
with. Where there is no onnxruntime to compare with, a server that says its hash is taken at its
word, and one that does not is not used: what judges photographs is known, or it does not judge.

**What it answers is looked at** (:meth:`RemoteModel.rows`): by the model and the version that were
shown, one row a box, finite, scores from 0 to 1. Anything else is ``nonsense``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from connectors.images.quality import canary
from connectors.images.quality.boxes import BOX, CLASSES, FIRST_CLASS, MAX_CANDIDATES, Floats
from connectors.images.quality.letterbox import SIDE_PX
from connectors.images.quality.model import (
    INPUT,
    MAX_BATCH,
    OUTPUT,
    PROVIDERS,
    ModelError,
    catalogue,
    load,
)
from connectors.images.quality.server_address import ServerAddress
from connectors.images.quality.v2 import RemoteError, Tensor, V2Client
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.images.quality.letterbox import Pixels
    from connectors.images.quality.v2 import Answer

COLUMNS: Final = FIRST_CLASS + len(CLASSES)
DEFAULT_MODEL: Final = "quality"
ROUNDING: Final = 1e-3
"""By how much a probability may lie beyond 0 and 1."""
FRAME: Final = Tensor(INPUT, "UINT8", (SIDE_PX, SIDE_PX, 3))
ROW: Final = Tensor(OUTPUT, "FP32", (COLUMNS,))


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A server of models, and how it is asked."""

    address: str
    """``HOST:PORT`` of its gRPC, or ``grpcs://…``: see ``server_address.py``."""
    model: str = DEFAULT_MODEL
    version: str = ""
    """Empty: the server's choice."""
    batch: int = 12
    """Frames of a call; 1 to 64. Twelve are 3.7 MB: many servers take 4 MiB a message."""
    in_flight: int = 2
    """Calls under way at once; 1 to 16. While one is answered, the next is decoded."""
    timeout_ms: int = 1_000
    """Of a call, where its photos have as long; 20 to 10,000."""
    look_timeout_ms: int = 3_000
    """Of each call of a look, for which no photo waits; 20 to 60,000."""
    room_ms: int = 250
    """What a call leaves of its photos' time, to judge them here; 0 to 10,000."""
    probe_ms: int = 1_000
    """From a failure to the first look whether it is well again; doubles each time."""
    most_probe_ms: int = 60_000
    look_ms: int = 60_000
    """How often one that is well is shown anew to run the released model."""

    def __post_init__(self) -> None:
        ServerAddress.parse(self.address)
        bounds = {
            "batch": (1, MAX_BATCH), "in_flight": (1, 16), "timeout_ms": (20, 10_000),
            "look_timeout_ms": (20, 60_000),
            "room_ms": (0, 10_000), "probe_ms": (1, 600_000),
            "most_probe_ms": (self.probe_ms, 600_000), "look_ms": (1, 3_600_000),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must be from {low:,} to {high:,}.")
        if not self.model:
            raise UsageError("The quality server's model needs a name.")

    @classmethod
    def parse(cls, address: str, model: str = "") -> RemoteSettings:
        """Take options: the address, and ``NAME`` or ``NAME:VERSION`` (empty: ``quality``)."""
        name, _, version = (model or DEFAULT_MODEL).partition(":")
        return cls(address, name, version)

    @property
    def provider(self) -> str:
        """What stands in a verdict for this server, ``grpc:quality``."""
        return f"grpc:{self.model}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server has shown to run."""

    version: str
    """The version that answers; later answers must be of it."""
    sha256: str
    """Of the released file it runs, or answers as."""
    said: bool
    """The hash is the server's own word; else it answers as that file does."""
    compared: bool
    """It was compared with the local model."""


class RemoteModel:
    """A model of a server. Used by several threads, but for ``close``."""

    def __init__(
        self,
        settings: RemoteSettings,
        expected: Callable[[str], Floats] | None = None,
        variant: str = "fp32",
    ) -> None:
        """Take the settings; nothing is connected yet.

        ``expected`` returns what a variant says of the canary, and raises ModelError where there
        is nothing that could.
        """
        self.settings = settings
        self.variant = variant
        self._expected = expected or _said_here
        self._client = V2Client(settings.address)

    def close(self) -> None:
        """Break off what is under way."""
        self._client.close()

    def verify(self) -> Shown:
        """Look whether the server runs the released model; takes up to five calls.

        Raises RemoteError.
        """
        settings, timeout_s = self.settings, self.settings.look_timeout_ms / 1e3
        name, version = settings.model, settings.version
        if not self._client.server_ready(timeout_s=timeout_s):
            raise RemoteError("not_ready", f"{settings.address} is not ready.")
        ready = self._model_ready(timeout_s)
        said = self._client.metadata(name, version, timeout_s=timeout_s)
        if not ready:
            raise RemoteError("not_ready", f"{settings.address}: {name} is not ready.")
        for tensors, wanted in ((said.inputs, FRAME), (said.outputs, ROW)):
            _check_tensor(tensors, wanted)
        frames = canary.frames()
        answer: Answer | None = None
        parts = list[Floats]()
        for at in range(0, len(frames), settings.batch):
            part = frames[at : at + settings.batch]
            answer = self._client.infer(name, version, part, timeout_s=timeout_s)
            self._check(answer, len(part))
            parts.append(answer.rows)
        assert answer is not None, "there are canary frames"
        if said.versions and answer.version not in said.versions:
            raise RemoteError(
                "wrong_model",
                f"Version {answer.version[:20]!r} answers, and it has {list(said.versions)[:4]}.",
            )
        return self._compared(answer, np.concatenate(parts))

    def _model_ready(self, timeout_s: float) -> bool:
        """Ask whether the model is ready; False where the server errs at the question.

        Of a model that they have not, servers say that it is not ready (Triton), or fail with a
        code of any kind (MLServer): metadata says NOT_FOUND in both.
        """
        try:
            return self._client.model_ready(
                self.settings.model, self.settings.version, timeout_s=timeout_s
            )
        except RemoteError as error:
            if error.kind not in {"refused", "no_model"}:
                raise
            return False

    def _compared(self, answer: Answer, rows: Floats) -> Shown:
        variant = self.variant
        if answer.sha256:
            listed = {one.sha256: name for name, one in catalogue().items()}
            if answer.sha256 not in listed:
                raise RemoteError(
                    "wrong_model", f"It runs a model that was not released: {answer.sha256[:12]}…."
                )
            variant = listed[answer.sha256]
        sha256 = answer.sha256 or catalogue()[variant].sha256
        try:
            expected = self._expected(variant)
        except ModelError as error:
            if answer.sha256:
                return Shown(answer.version, sha256, said=True, compared=False)
            raise RemoteError(
                "wrong_model", f"It does not say which model it runs, and here: {error}"
            ) from error
        apart = canary.difference(rows, expected)
        if not apart <= canary.TOLERANCE:
            raise RemoteError(
                "wrong_model",
                f"It does not answer as the released model ({variant}) does: scores differ by "
                f"{apart:.2f}, at most {canary.TOLERANCE} is rounding.",
            )
        return Shown(answer.version, sha256, said=bool(answer.sha256), compared=True)

    def rows(self, frames: Pixels, shown: Shown, *, timeout_s: float) -> Floats:
        """Return (n, m, 9) rows for (n, 320, 320, 3) bytes, n at most ``settings.batch``.

        Raises RemoteError.
        """
        settings = self.settings
        answer = self._client.infer(settings.model, settings.version, frames, timeout_s=timeout_s)
        self._check(answer, len(frames))
        if answer.version != shown.version:
            raise RemoteError(
                "wrong_model",
                f"Version {answer.version[:20]!r} answers, not {shown.version[:20]!r}.",
            )
        if shown.said and answer.sha256 != shown.sha256:
            raise RemoteError("wrong_model", f"It runs another model now: {answer.sha256[:12]}….")
        return answer.rows

    def _check(self, answer: Answer, count: int) -> None:
        """Raise RemoteError for what no such model says of ``count`` frames."""
        settings, rows = self.settings, answer.rows
        if answer.model != settings.model:
            raise RemoteError("wrong_model", f"{answer.model[:40]!r} answers.")
        if settings.version and answer.version != settings.version:
            raise RemoteError("wrong_model", f"Version {answer.version[:20]!r} answers.")
        fits = rows.ndim == 3 and rows.shape[0] == count and rows.shape[2] == COLUMNS
        if not fits or not 0 < rows.shape[1] <= MAX_CANDIDATES:
            raise RemoteError("nonsense", f"Its rows for {count} frames are {rows.shape}.")
        odds = rows[..., BOX:]
        if not np.isfinite(rows).all() or odds.min() < -ROUNDING or odds.max() > 1 + ROUNDING:
            raise RemoteError("nonsense", "Its rows hold what is no number from 0 to 1.")


@cache
def _said_here(variant: str) -> Floats:
    """Return what a variant says of the canary on this CPU; the model is let go again."""
    return load(variant, PROVIDERS[-1:]).rows(canary.frames())


def _check_tensor(tensors: tuple[Tensor, ...], wanted: Tensor) -> None:
    """Raise RemoteError where no tensor is as ours; a server may leave them unsaid."""
    if not tensors:
        return
    tail = len(wanted.shape)
    for one in tensors:
        same = all(a in {b, -1} for a, b in zip(one.shape[-tail:], wanted.shape, strict=False))
        if (one.name, one.datatype) == (wanted.name, wanted.datatype) and same:
            return
    raise RemoteError(
        "wrong_model",
        f"It has no tensor {wanted.name} of {wanted.datatype} {list(wanted.shape)}, but "
        f"{[(t.name[:20], t.datatype[:10], list(t.shape)[:6]) for t in tensors[:4]]}.",
    )
