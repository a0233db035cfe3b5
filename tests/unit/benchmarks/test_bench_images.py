"""The images bench measures what it says, and leaves out peers that are not there (issue 8)."""

from __future__ import annotations

import sys

from benchmarks import images
from benchmarks.options import Options
from benchmarks.result import OURS


class Quiet:
    """A rig that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_rows_of_ours_and_pillow_and_a_note_of_what_is_not_there(monkeypatch):
    monkeypatch.setattr(images, "SIZES", {"small": (480, 360)})
    monkeypatch.setitem(sys.modules, "cv2", None)
    rig = Quiet()
    options = Options(quick=True, seconds=0.001, systems=(OURS, "Pillow", "OpenCV"))
    rows = list(images.run(options, rig))  # type: ignore[arg-type]
    assert {row.case for row in rows} == {f"small {case}" for case in images.CASES}
    assert {row.system for row in rows} == {OURS, "Pillow", "obstore", "Python"}
    assert [note for note in rig.said if note.startswith("OpenCV: left out")]
    assert all(row.value > 0 for row in rows)
    copied = {row.case: row.value for row in rows if row.metric == "copied_bytes"}
    (size,) = [row.value for row in rows if row.metric == "jpeg_bytes"]
    assert size < copied["small pass-through"] < size + 4_000, "the file once, and the label"


def test_versions_name_the_binding_and_the_peers():
    assert {"libjpeg-turbo binding", "pillow", "simplejpeg"} <= set(images.versions())
