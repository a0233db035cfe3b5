"""The quality bench measures what it says, of a model that came up as asked."""

from __future__ import annotations

import numpy as np

from benchmarks import quality
from benchmarks.options import Options
from connectors.images.quality.letterbox import SIDE_PX, letterbox


class Quiet:
    """A rig that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_rows_of_the_cpu_and_a_note_of_what_is_not_there():
    """Issue 8: frames a second and latency per provider; a provider that is away has no row."""
    rig = Quiet()
    options = Options(quick=True, seconds=0.01, cases=("int8",), systems=("CUDA", "CPU"))
    rows = list(quality.run(options, rig))  # type: ignore[arg-type]
    cases = {row.case for row in rows}
    assert {"CPU, int8", "CPU, int8, batch 1", "CPU, int8, batch 16"} <= cases
    assert not [case for case in cases if case.startswith("CUDA")]
    assert [note for note in rig.said if note.startswith("CUDA int8")]
    assert all(row.value > 0 for row in rows)


def test_drawn_pictures_are_pictures_of_their_size():
    out = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    place = letterbox(quality.drawn(640, 480, 1), out)
    assert (place.width_px, place.height_px) == (640, 480)
    assert out.std() > 10


def test_versions_name_the_models():
    assert {"onnxruntime", "model fp32", "model fp16", "model int8"} <= set(quality.versions())
