"""The model file: found, its hash checked, run by onnxruntime on the best provider there is.

``models/models.json`` names each variant with its SHA-256. A file with another hash is not
loaded: what judges photographs is known, or it does not judge.

onnxruntime says which providers it was built with, not which will work; one whose driver is
missing falls back when the session is made. So the provider that is reported is asked of the
session itself.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from schemas.errors import ShutterwheelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.images.quality.boxes import Floats
    from connectors.images.quality.letterbox import Pixels

MODELS: Final = Path(__file__).with_name("models")
PROVIDERS: Final = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "CPUExecutionProvider",
)
"""In the order in which they are tried."""
VARIANTS: Final = ("fp32", "fp16", "int8")
MAX_BATCH: Final = 64
INPUT: Final = "frames"
OUTPUT: Final = "rows"
QUIET: Final = 3
"""onnxruntime's level 'error': that a provider is missing is reported by us, once."""


class ModelError(ShutterwheelError):
    """The quality model cannot be used."""


class ModelFile(msgspec.Struct, frozen=True):
    """A variant of the model."""

    file: str
    sha256: str
    bytes: int


class Session(Protocol):
    """What is used of an onnxruntime session."""

    def run(self, outputs: Sequence[str], inputs: dict[str, Any]) -> list[Any]:
        """Run the graph."""
        ...

    def get_providers(self) -> list[str]:
        """Return the providers in use, the first one first."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model."""

    session: Session
    variant: str
    sha256: str

    @property
    def provider(self) -> str:
        """The provider that runs the graph, by the session's own word: ``CPU``, ``CUDA``, …."""
        return self.execution_provider.removesuffix("ExecutionProvider")

    @property
    def execution_provider(self) -> str:
        """The same in onnxruntime's own words, ``CPUExecutionProvider``."""
        return self.session.get_providers()[0]

    def rows(self, frames: Pixels) -> Floats:
        """Return (n, 400, 9) rows for (n, 320, 320, 3) bytes, n at most MAX_BATCH."""
        found: Floats = self.session.run([OUTPUT], {INPUT: frames})[0]
        return found


@cache
def catalogue(folder: Path = MODELS) -> dict[str, ModelFile]:
    """Return the variants that ``models.json`` names.

    Raises:
        ModelError: the list is missing or malformed.

    """
    try:
        return msgspec.json.decode((folder / "models.json").read_bytes(), type=dict[str, ModelFile])
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"The list of quality models cannot be read: {error}.") from error


def checked_bytes(variant: str, folder: Path = MODELS) -> tuple[bytes, str]:
    """Return a variant's bytes and their SHA-256.

    Raises:
        ModelError: there is no such variant, or the file is missing or not the one listed.

    """
    listed = catalogue(folder).get(variant)
    if listed is None:
        known = ", ".join(catalogue(folder))
        raise ModelError(f"There is no quality model {variant!r}; there are {known}.")
    try:
        data = (folder / listed.file).read_bytes()
    except OSError as error:
        raise ModelError(f"The quality model {listed.file} cannot be read: {error}.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != listed.sha256:
        raise ModelError(
            f"The quality model {listed.file} is not the one that was released: its SHA-256 is "
            f"{found[:12]}…, {listed.sha256[:12]}… is expected. Install shutterwheel again."
        )
    return data, found


def runtime() -> Any:
    """Return the module onnxruntime.

    Raises:
        ModelError: it is not installed.

    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ModelError(
            "Judging pictures needs onnxruntime. Install shutterwheel[quality], or "
            "shutterwheel[quality-gpu] where there is an NVIDIA GPU; not both."
        ) from error


def load(
    variant: str = "fp32",
    providers: Sequence[str] = PROVIDERS,
    threads: int = 1,
    folder: Path = MODELS,
) -> Model:
    """Load a variant on the first of ``providers`` that works, with a bounded number of threads.

    Raises:
        ModelError: the file is not the one listed, or onnxruntime is missing or refuses it.

    """
    data, digest = checked_bytes(variant, folder)
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = QUIET
    built = ort.get_available_providers()
    wanted = [name for name in providers if name in built]
    if not wanted:
        raise ModelError(
            f"This onnxruntime has none of {', '.join(providers)}; it has {', '.join(built)}."
        )
    try:
        session = ort.InferenceSession(data, options, providers=wanted)
    except Exception as error:  # its exceptions have no common class of their own
        raise ModelError(f"onnxruntime refuses the quality model: {error}") from error
    return Model(session, variant, digest)
