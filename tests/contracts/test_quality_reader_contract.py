"""The reader's contract, held with the released models on pictures made here (SPEC 4.4)."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from connectors.images.quality import model as models
from connectors.images.quality.boxes import CLASSES
from connectors.images.quality.reader import QualityReader, QualitySettings, Verdict
from schemas.errors import UsageError

SIZE = (960, 540)
OVER, UNDER = CLASSES.index("overexposure"), CLASSES.index("underexposure")
BLUR, OCCLUSION = CLASSES.index("blur"), CLASSES.index("occlusion")


@functools.cache
def scene(seed: int = 1) -> Image.Image:
    """A street of sorts: sky, houses with windows, a lawn; sharp edges at every scale."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (120, 150, 190))
    draw = ImageDraw.Draw(image)
    x = -20
    while x < SIZE[0]:
        wide, high = int(chance.integers(90, 200)), int(chance.integers(180, 400))
        wall = tuple(int(part) for part in chance.integers(60, 190, 3))
        draw.rectangle((x, 480 - high, x + wide, 480), fill=wall)
        for row in range(490 - high, 460, 34):
            for column in range(x + 10, x + wide - 16, 30):
                pane = tuple(int(part) for part in chance.integers(20, 120, 3))
                draw.rectangle((column, row, column + 16, row + 22), fill=pane, outline=(230,) * 3)
        x += wide
    for _ in range(3_000):
        x, y = int(chance.integers(0, SIZE[0])), int(chance.integers(470, SIZE[1]))
        green = int(chance.integers(60, 170))
        draw.line((x, y, x + int(chance.integers(-4, 5)), y - 14), fill=(40, green, 30), width=2)
    noise = chance.normal(0, 4, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def blurred(radius: float = 14) -> bytes:
    return encoded(scene().filter(ImageFilter.GaussianBlur(radius)))


def lit(gain: float) -> bytes:
    linear = (np.asarray(scene()) / 255.0) ** 2.2 * gain
    return encoded(Image.fromarray((np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)))


def covered() -> bytes:
    image = scene().copy()
    ImageDraw.Draw(image).ellipse((300, 80, 1_100, 700), fill=(34, 24, 18))
    return encoded(image.filter(ImageFilter.GaussianBlur(0)))


@pytest.fixture(scope="module", params=models.VARIANTS)
def reader(request):
    with QualityReader(
        QualitySettings(variant=request.param, providers=("CPUExecutionProvider",), batch=4)
    ) as found:
        yield found


def test_a_good_picture_is_not_over_or_underexposed(reader):
    (verdict,) = reader.judge([encoded(scene())])
    assert verdict.readable
    assert not {"overexposure", "underexposure"} & set(verdict.faults)


def test_an_overexposed_picture_is_found(reader):
    (verdict,) = reader.judge([lit(40)])
    assert "overexposure" in verdict.faults
    assert not verdict.good


def test_an_underexposed_picture_is_found(reader):
    (verdict,) = reader.judge([lit(0.008)])
    assert "underexposure" in verdict.faults


def test_faults_raise_their_own_score(reader):
    good, soft, bright, dark = reader.judge([encoded(scene()), blurred(), lit(40), lit(0.008)])
    assert soft.scores[BLUR] > good.scores[BLUR]
    assert bright.scores[OVER] > good.scores[OVER]
    assert dark.scores[UNDER] > good.scores[UNDER]


def test_something_before_the_lens_raises_its_score(reader):
    """Issue 8: occlusion is a class of its own."""
    good, hidden = reader.judge([encoded(scene()), covered()])
    assert hidden.scores[OCCLUSION] > good.scores[OCCLUSION]


def test_findings_lie_within_the_picture_the_best_first(reader):
    for verdict in reader.judge([blurred(), covered(), lit(40), lit(0.008)]):
        scores = [finding.score for finding in verdict.findings]
        assert scores == sorted(scores, reverse=True)
        for finding in verdict.findings:
            assert finding.score >= reader.settings.confidence
            left, top, right, bottom = finding.box_px
            assert 0 <= left < right <= SIZE[0]
            assert 0 <= top < bottom <= SIZE[1]


def test_what_cannot_be_read_does_not_disturb_the_others(reader):
    """Issue 8: a truncated scan has a stated outcome; pictures of many devices share a batch."""
    bright = lit(40)
    alone = reader.judge([bright])[0]
    first, cut, last, page = reader.judge([bright, bright[: len(bright) // 2], bright, b"<html>"])
    assert cut == Verdict(readable=False, reason=cut.reason)
    assert "damaged" in cut.reason
    assert not cut.good
    assert "no JPEG" in page.reason
    for verdict in (first, last):
        assert verdict.faults == alone.faults
        assert verdict.scores == pytest.approx(alone.scores, abs=0.02)


def test_more_than_a_batch_comes_back_in_order(reader):
    pictures = [lit(40) if n % 3 else lit(0.008) for n in range(10)]
    found = reader.judge(pictures)
    assert ["overexposure" in verdict.faults for verdict in found] == [
        bool(n % 3) for n in range(10)
    ]
    assert reader.judge([]) == []


def test_nothing_readable_asks_no_model(reader):
    assert [verdict.readable for verdict in reader.judge([b"", b"x"])] == [False, False]


def test_the_variants_agree():
    """fp16 and int8 are the same model, rounded."""
    pictures = [encoded(scene()), blurred(), covered(), lit(40), lit(0.008)]
    found = {}
    for variant in models.VARIANTS:
        settings = QualitySettings(variant=variant, providers=("CPUExecutionProvider",))
        with QualityReader(settings) as one:
            found[variant] = np.array([verdict.scores for verdict in one.judge(pictures)])
    assert np.abs(found["fp16"] - found["fp32"]).max() < 0.05
    assert np.abs(found["int8"] - found["fp32"]).mean() < 0.1


def test_threads_change_nothing_but_the_time():
    pictures = [lit(gain) for gain in (0.01, 0.3, 1, 5, 40)]
    with (
        QualityReader(QualitySettings(threads=1)) as one,
        QualityReader(QualitySettings(threads=2)) as two,
    ):
        for mine, theirs in zip(one.judge(pictures), two.judge(pictures), strict=True):
            assert mine.scores == pytest.approx(theirs.scores, abs=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"threads": 65}, {"batch": 65}, {"batch": 0}, {"confidence": 1.0}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(UsageError):
        QualitySettings(**wrong)
