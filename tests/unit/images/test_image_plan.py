"""The plan that does the least: pure, from a header and a wish to steps (issue 8, "Pipeline")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.images.facts import Facts
from connectors.images.plan import (
    BLOCKS,
    EIGHTHS,
    MIRRORED,
    SWAPPED,
    Box,
    Crop,
    Decode,
    Encode,
    Lossless,
    PassThrough,
    Resize,
    Turn,
    Write,
    plan,
    scaled,
)
from connectors.images.spec import FITS, CaptureSpec, Overlay
from schemas.errors import UsageError

HD = Facts("jpeg", 1920, 1080, subsampling="420")
UHD = Facts("jpeg", 3840, 2160, subsampling="420")


def steps(facts: Facts, lossless: bool = True, **wish: object):
    return plan(facts, CaptureSpec(**wish), lossless=lossless).steps


@pytest.mark.parametrize(
    "wish",
    [
        {}, {"width_px": 1920}, {"width_px": 4000, "height_px": 1080}, {"quality": 30},
        {"subsampling": "420"}, {"width_px": 1920, "height_px": 1080, "fit": "cover"},
        {"width_px": 1920, "height_px": 1080, "fit": "crop"}, {"keep_original": True},
        {"thumbnail_px": 160},
    ],
    ids=str,
)  # fmt: skip
def test_bytes_that_fit_pass_through(wish):
    assert steps(HD, **wish) == (PassThrough(),)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1280, (Decode(4), Resize(1280, 720))),
        (1920, (Decode(4),)),
        (1921, (Decode(8), Resize(1921, 1081))),
        (960, (Decode(2),)),
        (500, (Decode(2), Resize(500, 281))),
        (480, (Decode(1),)),
        (100, (Decode(1), Resize(100, 56))),
    ],
)
def test_coefficients_are_scaled_before_pixels_are(width, expected):
    assert steps(UHD, width_px=width) == (*expected, Encode("jpeg", 85, "420"))


def test_steps_come_in_the_order_of_least_pixels():
    facts = Facts("jpeg", 3840, 2160, subsampling="422", orientation=6)
    wish = {"width_px": 500, "height_px": 500, "fit": "cover", "overlay": Overlay()}
    assert steps(facts, **wish) == (
        Decode(2), Resize(889, 500), Turn(6), Crop(Box(0, 194, 500, 500)), Write(),
        Encode("jpeg", 85, "422"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"format": "png"}, ()), ({"colour": "cmyk", "subsampling": "other"}, ("cmyk_to_rgb",)),
        ({"format": "png", "bits": 16}, ("16_to_8_bits",)),
        ({"format": "webp", "frames": 3}, ("first_frame",)),
        ({"format": "png", "alpha": True}, ("flattened",)),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_plain_jpeg_is_encoded_and_noted(change, note):
    facts = Facts(**{"format": "jpeg", "width_px": 64, "height_px": 48, **change})
    found = plan(facts, CaptureSpec())
    assert found.steps == (Decode(8), Encode("jpeg", 85, "420"))
    assert (found.treatment, found.notes) == ("encoded", note)


def test_a_wish_for_other_colour_makes_a_re_encode_and_gray_has_none():
    assert steps(HD, subsampling="444") == (Decode(8), Encode("jpeg", 85, "444"))
    gray = Facts("jpeg", 1920, 1080, "gray", "gray")
    assert steps(gray, subsampling="444") == (PassThrough(),)


# --- moving blocks --------------------------------------------------------------------------------


def test_the_middle_is_cut_out_without_loss_on_the_border_of_a_block():
    wish = {"width_px": 1000, "height_px": 500, "fit": "crop"}
    found = plan(HD, CaptureSpec(**wish))
    assert found.steps == (Lossless(Box(448, 288, 1000, 500), 1),)
    assert (found.width_px, found.height_px, found.treatment) == (1000, 500, "lossless")


def test_without_the_transform_the_same_part_is_cut_out_of_pixels_and_it_is_said():
    wish = {"width_px": 1000, "height_px": 500, "fit": "crop"}
    found = plan(HD, CaptureSpec(**wish), lossless=False)
    assert found.steps == (
        Decode(8), Crop(Box(448, 288, 1000, 500)), Encode("jpeg", 85, "420"),
    )  # fmt: skip
    assert found.notes == ("no_lossless",)


def test_no_lossless_is_said_only_where_it_was_to_be_had():
    tall = Facts("jpeg", 1920, 1080, subsampling="420", orientation=3)
    assert "no_lossless" not in plan(tall, CaptureSpec(upright=True), lossless=False).notes
    assert "no_lossless" not in plan(HD, CaptureSpec(width_px=960), lossless=False).notes


def test_a_tag_is_kept_unless_pixels_are_wanted_upright():
    facts = Facts("jpeg", 1920, 1088, subsampling="420", orientation=6)
    found = plan(facts, CaptureSpec())
    assert (found.steps, found.notes) == ((PassThrough(),), ("tag_kept",))
    found = plan(facts, CaptureSpec(upright=True))
    assert (found.steps, found.notes) == ((Lossless(None, 6),), ("turned",))
    assert (found.width_px, found.height_px) == (1088, 1920)


def test_1080_lines_of_16_cannot_be_mirrored_without_loss():
    """67.5 blocks: libjpeg would leave half a block where it is; so pixels are turned."""
    facts = Facts("jpeg", 1920, 1080, subsampling="420", orientation=6)
    found = plan(facts, CaptureSpec(upright=True))
    assert found.steps == (Decode(8), Turn(6), Encode("jpeg", 85, "420"))
    sideways = Facts("jpeg", 1920, 1080, subsampling="420", orientation=8)
    assert plan(sideways, CaptureSpec(upright=True)).steps == (Lossless(None, 8),)


# --- properties -----------------------------------------------------------------------------------

FACTS = st.builds(
    Facts,
    st.just("jpeg"),
    st.integers(1, 5000),
    st.integers(1, 5000),
    subsampling=st.sampled_from(sorted(BLOCKS.keys() - {"gray"})),
    orientation=st.integers(1, 8),
)
SPECS = st.builds(
    CaptureSpec,
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(FITS),
    upright=st.booleans(),
    overlay=st.sampled_from([None, Overlay()]),
)


@given(FACTS, SPECS, st.booleans())
def test_every_plan_keeps_its_promises(facts, spec, lossless):
    found = plan(facts, spec, lossless=lossless)
    upright = found.treatment == "encoded" or (spec.upright and "turned" in found.notes)
    width, height = found.width_px, found.height_px
    if not upright and facts.orientation in SWAPPED:
        width, height = height, width
    assert 1 <= width <= spec.width_px or width <= spec.width_px
    assert width <= spec.width_px, "never more than was wanted"
    assert height <= spec.height_px
    seen = (facts.width_px, facts.height_px)
    seen = seen[::-1] if facts.orientation in SWAPPED else seen
    assert width <= seen[0], "nothing is enlarged"
    assert height <= seen[1]
    have = (facts.width_px, facts.height_px)
    for step in found.steps:
        match step:
            case Lossless(box, turn):
                block = BLOCKS[facts.subsampling]
                if box is not None:
                    assert box.left % block[0] == box.top % block[1] == 0
                    assert box.left + box.width <= have[0]
                    assert box.top + box.height <= have[1]
                    have = (box.width, box.height)
                across, down = MIRRORED.get(turn, (False, False))
                assert not (across and have[0] % block[0])
                assert not (down and have[1] % block[1])
                have = have[::-1] if turn in SWAPPED else have
                assert lossless
            case Decode(eighths):
                assert eighths in EIGHTHS
                have = scaled(facts, eighths)
            case Resize(new_width, new_height):
                assert new_width <= have[0], "a decode is never too small"
                assert new_height <= have[1]
                have = (new_width, new_height)
            case Turn(orientation):
                have = have[::-1] if orientation in SWAPPED else have
            case Crop(box):
                assert box.left >= 0 <= box.top
                assert box.left + box.width <= have[0]
                assert box.top + box.height <= have[1]
                have = (box.width, box.height)
    assert have == (found.width_px, found.height_px)


@given(FACTS, st.integers(1, 5000), st.integers(1, 5000))
def test_a_crop_shows_the_same_part_whatever_the_codec_can(facts, width, height):
    spec = CaptureSpec(width, height, "crop", upright=True)
    moved, worked = plan(facts, spec), plan(facts, spec, lossless=False)
    assert (moved.width_px, moved.height_px) == (worked.width_px, worked.height_px)


@pytest.mark.parametrize(
    "wish",
    [
        {"width_px": -1}, {"height_px": 16_385}, {"quality": 0}, {"quality": 101},
        {"fit": "stretch"}, {"format": "gif"}, {"subsampling": "410"}, {"thumbnail_px": 8},
        {"fit": "cover", "width_px": 100}, {"fit": "crop"}, {"check": "all"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wish_out_of_bounds_is_refused(wish):
    with pytest.raises(UsageError):
        CaptureSpec(**wish)
