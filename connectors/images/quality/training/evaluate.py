"""How well the model judges frames of scenes it never saw, beside classic measures.

Frames are those of ``frames.py``; they go through the product's own reader, JPEG decoding
included. Set beside it, on the same 320 pixel pictures: the variance of the Laplacian (blur), the
share of saturated pixels (overexposure), the share of the frame in its flattest connected blocks
(occlusion), the mean brightness (underexposure), and BRISQUE (Mittal et al., 2012) as its package
computes it.

Frames in which only a part is blurred are hard to tell from those whose lens was focused near: a
person calls the one blurred and the other not by what the picture is of. Blur is counted with
them (``blur``, as ever) and without them (``blur, of the whole frame``). Frames of the scenes that
came later have rows of their own (``…, later scenes``).

Writes rows as benchmarks write them, and a picture of precision against recall.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import tarfile
import warnings
from pathlib import Path
from typing import Any, Final

import brisque
import matplotlib as mpl
import numpy as np
import onnxruntime

from connectors.images.quality.boxes import CLASSES, CONFIDENCE
from connectors.images.quality.letterbox import SIDE_PX, letterbox
from connectors.images.quality.reader import QualityReader, QualitySettings
from connectors.images.quality.training.measure import Floats, area_under_curve, precision_recall

mpl.use("Agg")

OURS: Final = "shutterwheel"
LATER: Final = "later"
PRECISION: Final = 0.9
SATURATED: Final = 250
PARTLY: Final = ("partial", "bokeh")
"""Kinds of frames of which a part is blurred; the one as a fault, the other not."""
FLAT: Final = 3.0
"""Standard deviation below which a block of 16 pixels counts as flat."""
PEERS: Final = {
    "blur": ("laplacian variance", "brisque"),
    "occlusion": ("flat share", "brisque"),
    "overexposure": ("saturated share", "brisque"),
    "underexposure": ("mean brightness", "brisque"),
}


def load(folder: Path, part: str) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Return the frames of a part and what is true of each."""
    data = {}
    for path in sorted(folder.glob(f"{part}-*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                file = tar.extractfile(info)
                assert file is not None
                data[info.name] = file.read()
    truth = json.loads((folder / f"{part}.json").read_text())["frames"]
    return [data[frame["name"]] for frame in truth], truth


def classic(frames: list[bytes]) -> dict[str, Floats]:
    """Return each measure of each frame; greater is worse."""
    judge = brisque.BRISQUE(url=False)
    found: dict[str, list[float]] = {name: [] for names in PEERS.values() for name in names}
    square = np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
    for jpeg in frames:
        place = letterbox(jpeg, square)
        picture = square[
            place.top_px : SIDE_PX - place.top_px, place.left_px : SIDE_PX - place.left_px
        ]
        grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        inner = grey[1:-1, 1:-1]
        laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
        found["laplacian variance"].append(-float(laplacian.var()))
        found["saturated share"].append(float((picture.min(2) >= SATURATED).mean()))
        found["mean brightness"].append(-float(grey.mean()))
        high, wide = (side // 16 * 16 for side in grey.shape)
        blocks = grey[:high, :wide].reshape(high // 16, 16, wide // 16, 16)
        found["flat share"].append(float((blocks.std((1, 3)) < FLAT).mean()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                score = float(judge.score(np.ascontiguousarray(picture)))
        except Exception:  # noqa: BLE001  # it divides by a flat picture's variance
            score = float("nan")
        found["brisque"].append(score)
    values = {name: np.array(measured) for name, measured in found.items()}
    known = values["brisque"]
    values["brisque"] = np.where(np.isfinite(known), known, np.nanmedian(known))
    return values


def row(case: str, system: str, metric: str, value: float, unit: str = "1") -> dict[str, Any]:
    """Return a row as benchmarks write them."""
    return {
        "case": case, "system": system, "metric": metric,
        "value": round(float(value), 4), "unit": unit,
    }  # fmt: skip


def ranked(case: str, system: str, bad: Floats, good: Floats) -> list[dict[str, Any]]:
    """Return area under the curve, and the recall at PRECISION of the best threshold."""
    _, precision, recall = precision_recall(bad, good)
    enough = precision >= PRECISION
    return [
        row(case, system, "auc", area_under_curve(bad, good)),
        row(case, system, "recall_at_precision_90", recall[enough].max(initial=0.0)),
    ]


def headline(
    scores: Floats, truth: list[dict[str, Any]], system: str, where: str = ""
) -> list[dict[str, Any]]:
    """Return the rows of every class over all frames; ``where`` is put behind a case's name."""
    rows = []
    present, faint, fault, kind = _truth(truth)
    partly = np.isin(kind, PARTLY)
    for number, name in enumerate(CLASSES):
        is_bad, is_good = (present[:, number] == 1) & ~faint, present[:, number] == 0
        rows += _figures(f"{name}{where}", system, scores[is_bad, number], scores[is_good, number])
        if name == "blur":
            bad, good = scores[is_bad & ~partly, number], scores[is_good & ~partly, number]
            rows += _figures(f"blur, of the whole frame{where}", system, bad, good)
        clean = is_good & (fault == "none")
        case = f"{name}, among frames with no other fault{where}"
        rows += ranked(case, system, scores[is_bad, number], scores[clean, number])
    return rows


def _truth(truth: list[dict[str, Any]]) -> tuple[Any, Any, Any, Any]:
    present = np.array([frame["present"] for frame in truth])
    faint = np.array([frame["strength"] == "faint" for frame in truth])
    fault = np.array([frame["fault"] for frame in truth])
    return present, faint, fault, np.array([frame["kind"] for frame in truth])


def _figures(case: str, system: str, bad: Floats, good: Floats) -> list[dict[str, Any]]:
    alarms, false = (bad >= CONFIDENCE).sum(), (good >= CONFIDENCE).sum()
    return [
        *ranked(case, system, bad, good),
        row(case, system, "precision", alarms / max(1, alarms + false)),
        row(case, system, "recall", (bad >= CONFIDENCE).mean()),
        row(case, system, "bad_frames", len(bad)),
        row(case, system, "good_frames", len(good)),
    ]


def detailed(
    scores: Floats, others: dict[str, Floats], truth: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of the peers, and of every kind and strength."""
    rows = []
    present, faint, fault, _ = _truth(truth)
    cases = np.array([f"{frame['kind']} {frame['strength']}".strip() for frame in truth])
    for number, name in enumerate(CLASSES):
        is_bad, is_good = (present[:, number] == 1) & ~faint, present[:, number] == 0
        good = scores[is_good, number]
        for peer in PEERS[name]:
            rows += ranked(name, peer, others[peer][is_bad], others[peer][is_good])
        for case in dict.fromkeys(cases[fault == name]):
            at = (fault == name) & (cases == case)
            at &= (present[:, number] == 1) | faint
            if at.any():
                detail, found = f"{name}: {case}", scores[at, number]
                rows.append(row(detail, OURS, "frames", at.sum()))
                rows.append(row(detail, OURS, "recall", (found >= CONFIDENCE).mean()))
                rows.append(row(detail, OURS, "auc", area_under_curve(found, good)))
    for case in dict.fromkeys(cases[fault == "none"]):
        at = (fault == "none") & (cases == case)
        wrong = (scores[at] >= CONFIDENCE).any(1).mean()
        rows.append(row(f"no fault: {case}", OURS, "false_alarms", wrong))
        rows.append(row(f"no fault: {case}", OURS, "frames", at.sum()))
    return rows


def draw(
    path: Path, scores: Floats, others: dict[str, Floats], truth: list[dict[str, Any]]
) -> None:
    """Draw precision against recall, a panel a class."""
    from matplotlib import pyplot as plt

    present = np.array([frame["present"] for frame in truth])
    faint = np.array([frame["strength"] == "faint" for frame in truth])
    figure, axes = plt.subplots(1, len(CLASSES), figsize=(15, 3.9), sharey=True)
    for number, (name, panel) in enumerate(zip(CLASSES, axes, strict=True)):
        bad, good = (present[:, number] == 1) & ~faint, present[:, number] == 0
        for label, values in {
            OURS: scores[:, number],
            **{peer: others[peer] for peer in PEERS[name]},
        }.items():
            _, precision, recall = precision_recall(values[bad], values[good])
            area = area_under_curve(values[bad], values[good])
            panel.plot(recall, precision, label=f"{label}, AUC {area:.3f}")
        level = scores[bad, number] >= CONFIDENCE
        false = (scores[good, number] >= CONFIDENCE).sum()
        panel.plot(
            level.mean(), level.sum() / max(1, level.sum() + false), "ko", ms=5, label="at 0.65"
        )
        panel.set(title=name, xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.02))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7.5, loc="lower left")
    axes[0].set_ylabel("precision")
    figure.tight_layout()
    figure.savefig(path, dpi=75, metadata={"Software": None})


def main() -> None:
    """Read the command line; evaluate every variant; write JSON and PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--part", default="test")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--png", type=Path, required=True)
    asked = parser.parse_args()
    frames, truth = load(asked.frames, asked.part)
    later, true_of_later = load(asked.frames, LATER)
    others = classic(frames)
    rows: list[dict[str, Any]] = []
    model = ""
    for variant in ("fp32", "fp16", "int8"):
        system = OURS if variant == "fp32" else f"{OURS} {variant}"
        with QualityReader(
            QualitySettings(variant=variant, providers=("CPUExecutionProvider",))
        ) as reader:
            scores = np.array([verdict.scores for verdict in reader.judge(frames)])
            of_later = np.array([verdict.scores for verdict in reader.judge(later)])
            digest = reader.model.sha256
        rows += headline(scores, truth, system)
        rows += headline(of_later, true_of_later, system, ", later scenes")
        rows.append(row("model", system, "frames", len(frames) + len(later)))
        if variant == "fp32":
            rows += detailed(scores, others, truth)
            draw(asked.png, scores, others, truth)
            model = digest
    for part, known in (("test", truth), (LATER, true_of_later)):
        scenes = len({frame["scene"] for frame in known})
        rows.append(row("model", OURS, f"scenes_{part}", scenes))
    found = {
        "bench": "quality-accuracy",
        "command": "python -m connectors.images.quality.training",
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {"platform": platform.platform()},
        "versions": {
            "model": model, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__,
        },
        "rows": rows,
    }  # fmt: skip
    asked.json.write_text(json.dumps(found, indent=1) + "\n")
    for line in rows:
        print(f"{line['case']:45} {line['system']:20} {line['metric']:24} {line['value']}")


if __name__ == "__main__":
    main()
