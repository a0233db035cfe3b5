"""Weights to model files: fp32, fp16 and int8, each beside its SHA-256 in ``models.json``.

The threshold of SPEC 4.4 is one figure for all classes, 0.65. Each class's objectness is
therefore shifted before the file is written, so that on the validation pictures the score 0.65 is
the point of greatest recall at which precision is at least 0.92 and at most three in two hundred
pictures without any fault are called faulty. Precision alone would not do: of those pictures most
have a fault, of a fleet's photos hardly any.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from connectors.images.quality.training.degrade import CLASSES
from connectors.images.quality.training.measure import Floats, precision_recall
from connectors.images.quality.training.network import ROW, SLOTS, Network
from connectors.images.quality.training.pool import Pool
from connectors.images.quality.training.start import begin
from connectors.images.quality.training.train import scores, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIDENCE: Final = 0.65
PRECISION: Final = 0.92
FALSE_ALARMS: Final = 0.015
CALIBRATION: Final = 160
"""Pictures that the ranges of int8 are taken from."""


def operating_point(bad: Floats, good: Floats, clean: Floats) -> float:
    """Return the score of greatest recall with PRECISION and no more than FALSE_ALARMS.

    Args:
        bad: scores of pictures with the fault.
        good: of all without it.
        clean: of those without any fault.

    """
    levels, precision, recall = precision_recall(bad, good)
    alarms = 1 - np.searchsorted(np.sort(clean), levels, "left") / max(len(clean), 1)
    enough = (precision >= PRECISION) & (alarms <= FALSE_ALARMS)
    if not enough.any():
        raise SystemExit("No score has the precision and the false alarms that are asked for.")
    return float(levels[np.flatnonzero(enough)[recall[enough].argmax()]])


def _logit(score: float) -> float:
    score = min(max(score, 1e-4), 1 - 1e-4)
    return math.log(score / (1 - score))


def shift(network: Network, check: Pool) -> dict[str, float]:
    """Move each class's operating point to CONFIDENCE; return where it was."""
    found, truth = scores(network, check)
    clean = (truth == 0).all(1)
    points = {}
    for number, name in enumerate(CLASSES):
        bad = found[truth[:, number] == 1, number]
        good = found[truth[:, number] == 0, number]
        points[name] = operating_point(bad, good, found[clean, number])
        with torch.no_grad():
            bias = network.out.bias.view(SLOTS, ROW)
            bias[number, 4] += _logit(CONFIDENCE) - _logit(points[name])
    return points


class Ranges(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    """Pictures for the ranges of int8, from training scenes."""

    def __init__(self, pool: Pool) -> None:
        count = min(CALIBRATION, len(pool))
        self._left: Iterator[dict[str, np.ndarray]] = (
            {"frames": np.array(pool.pictures[at : at + 8])} for at in range(0, count, 8)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override, unused-ignore]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the next pictures."""
        return next(self._left, None)


def write(network: Network, path: Path, *, half: bool = False) -> None:
    """Write the graph: bytes in, rows out, any number of pictures at a time."""
    network = network.eval().half() if half else network.eval()
    example = torch.zeros(1, 320, 320, 3, dtype=torch.uint8)
    names = {"input_names": ["frames"], "output_names": ["rows"]}
    axes = {"frames": {0: "n"}, "rows": {0: "n"}}
    torch.onnx.export(
        network, (example,), str(path), **names, dynamic_axes=axes, opset_version=17, dynamo=False
    )
    model = onnx.load(path)
    model.producer_name, model.producer_version = "shutterwheel", ""
    model.doc_string = "Image quality: " + ", ".join(CLASSES)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def quantise(source: Path, target: Path, pool: Pool) -> None:
    """Write the int8 variant: weights a channel, activations a tensor.

    The first stage, what is told of the whole picture and the head stay float.
    """
    ready = target.with_suffix(".ready")
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    graph = onnx.load(ready).graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    first = [node.name for node in convolutions if _feeds(graph, node, "LeakyRelu")]
    whole = [node.name for node in convolutions if node.input[1].startswith("context.")]
    quantize_static(
        str(ready),
        str(target),
        Ranges(pool),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Relu"],
        nodes_to_exclude=[*first, *whole, convolutions[-1].name],
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    ready.unlink()


def _feeds(graph: onnx.GraphProto, node: onnx.NodeProto, kind: str) -> bool:
    return any(other.op_type == kind and node.output[0] in other.input for other in graph.node)


def main() -> None:
    """Read the command line, write the three files and the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help=".pt or a model file")
    parser.add_argument("--check", type=Path, required=True, help="pool of validation scenes")
    parser.add_argument("--pool", type=Path, required=True, help="pool of training scenes")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    network, check = Network(), Pool(asked.check)
    begin(network, asked.weights, check)
    network.eval()
    print(json.dumps({"auc": summary(*scores(network, check))}))
    print(json.dumps({"operating points": shift(network, check)}))
    files = {name: asked.out / f"quality-{name}.onnx" for name in ("fp32", "fp16", "int8")}
    write(network, files["fp32"])
    quantise(files["fp32"], files["int8"], Pool(asked.pool))
    write(network, files["fp16"], half=True)
    listed = {}
    for name, path in files.items():
        data = path.read_bytes()
        listed[name] = {
            "file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
        }  # fmt: skip
    (asked.out / "models.json").write_text(json.dumps(listed, indent=1) + "\n")
    print(json.dumps(listed, indent=1))


if __name__ == "__main__":
    main()
