"""Photos judged for an event loop; SPEC 4.4, issue 8 'Verdict in the result'."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from connectors.images.quality import model, reader
from connectors.images.quality.gate import QualityGate
from connectors.images.quality.reader import QualityReader, QualitySettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytest.importorskip("onnxruntime")


def jpeg(level: int) -> bytes:
    """A frame of noise about a level, 240 pixels high."""
    chance = np.random.default_rng(level)
    pixels = np.clip(chance.normal(level, 40, (240, 320, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


async def test_a_dark_photo_is_told_from_one_that_is_not() -> None:
    gate = QualityGate()
    dark, fair = await asyncio.gather(gate.judge(jpeg(0)), gate.judge(jpeg(120)))
    await gate.aclose()
    assert dark.faults == ("underexposure",)
    assert fair.scores["underexposure"] < dark.scores["underexposure"]
    assert fair.model == dark.model == model.catalogue()["fp32"].sha256[:12]


async def test_what_waits_goes_through_the_network_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    judged = QualityReader.judge

    def counted(self: QualityReader, frames: Sequence[bytes]) -> list[reader.Verdict]:
        sizes.append(len(frames))
        return judged(self, frames)

    monkeypatch.setattr(QualityReader, "judge", counted)
    gate = QualityGate(QualitySettings(batch=4))
    frame = jpeg(120)
    verdicts = await asyncio.gather(*(gate.judge(frame) for _ in range(9)))
    await gate.aclose()
    assert sizes == [1, 4, 4]  # the first loads the model
    assert {verdict.faults for verdict in verdicts} == {verdicts[0].faults}


async def test_a_line_that_is_full_loses_no_photo_only_its_verdict() -> None:
    gate = QualityGate(waiting=2)
    frame = jpeg(120)
    verdicts = await asyncio.gather(*(gate.judge(frame) for _ in range(5)))
    await gate.aclose()
    assert [bool(verdict.model) for verdict in verdicts] == [True, True, False, False, False]
    assert verdicts[4].reason == "not judged: 2 photos wait for their verdict already"


async def test_who_gave_up_waiting_holds_nobody_up() -> None:
    gate = QualityGate()
    frame = jpeg(120)
    waits = [asyncio.create_task(gate.judge(frame)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[1].cancel()
    first, gone, last = await asyncio.gather(*waits, return_exceptions=True)
    await gate.aclose()
    assert isinstance(gone, asyncio.CancelledError)
    assert first == last


async def test_a_picture_that_cannot_be_read_says_so() -> None:
    gate = QualityGate()
    verdict = await gate.judge(jpeg(120)[:200])
    await gate.aclose()
    assert verdict.faults == ()
    assert verdict.reason


async def test_a_model_that_is_not_the_released_one_judges_nothing(tmp_path: Path) -> None:
    for file in model.MODELS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damaged = tmp_path / "quality-fp32.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    gate = QualityGate(QualitySettings(folder=tmp_path))
    verdicts = [await gate.judge(jpeg(120)) for _ in range(2)]
    await gate.aclose()
    for verdict in verdicts:
        assert verdict.reason.startswith("not judged: The quality model quality-fp32.onnx is not")


async def test_closing_answers_who_waits_still() -> None:
    gate = QualityGate()
    waits = [asyncio.create_task(gate.judge(jpeg(120))) for _ in range(40)]
    await asyncio.sleep(0)
    await gate.aclose()
    verdicts = await asyncio.gather(*waits)
    assert verdicts[-1].reason == "not judged: the worker is ending"
