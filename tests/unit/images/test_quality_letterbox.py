"""JPEG bytes to the 320 pixel square: scaled while decoded, and bad input has a clear outcome."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectors.images.quality.letterbox import (
    GREY,
    MAX_PIXELS,
    SIDE_PX,
    Placement,
    UnreadablePictureError,
    letterbox,
)


def square():
    return np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)


def jpeg(width, height, mode="RGB", **options):
    x = np.linspace(0, 255, width)[None] * np.ones((height, 1))
    image = Image.fromarray(x.astype(np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, **options)
    return out.getvalue()


@settings(max_examples=40)
@given(st.integers(1, 1_500), st.integers(1, 1_500))
def test_the_picture_keeps_its_shape_and_stands_in_the_middle(width, height):
    out = square()
    place = letterbox(jpeg(width, height), out)
    wide, high = SIDE_PX - 2 * place.left_px, SIDE_PX - 2 * place.top_px
    assert place.scale <= 1
    assert abs(wide - max(1, width * place.scale)) <= 1.5
    assert abs(high - max(1, height * place.scale)) <= 1.5
    assert max(width, height) < SIDE_PX or SIDE_PX in {wide, high}
    outside = np.ones((SIDE_PX, SIDE_PX), bool)
    outside[place.top_px : SIDE_PX - place.top_px, place.left_px : SIDE_PX - place.left_px] = False
    assert (out[outside] == GREY).all()


@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (1_920, 1_080), (1_000, 700), (333, 999)]
)
def test_it_is_what_scaling_the_decoded_picture_gives(width, height):
    """DCT scaling is a shortcut, not another picture."""
    chance = np.random.default_rng(3)
    grid = chance.integers(0, 255, (12, 16, 3), np.uint8)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95)
    out = square()
    place = letterbox(data.getvalue(), out)
    whole = Image.fromarray(simplejpeg.decode_jpeg(data.getvalue()))
    wide, high = round(width * place.scale), round(height * place.scale)
    wanted = np.asarray(whole.resize((wide, high), Image.Resampling.BOX)).astype(int)
    got = out[place.top_px : place.top_px + high, place.left_px : place.left_px + wide].astype(int)
    assert np.abs(got - wanted).mean() < 2.5


def test_a_small_picture_is_not_enlarged():
    out = square()
    assert letterbox(jpeg(160, 120), out) == Placement(80, 100, 1.0, 160, 120)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_and_colour_are_read(mode):
    out = square()
    letterbox(jpeg(640, 360, mode), out)
    assert out[160, 0, 0] < 20
    assert out[160, 319, 0] > 235


def test_print_colours_are_read_too():
    """Issue 8: CMYK has a stated outcome: libjpeg-turbo makes RGB of it, and that is judged."""
    assert letterbox(jpeg(640, 360, "CMYK"), square()).width_px == 640


def test_a_progressive_picture_is_read():
    letterbox(jpeg(640, 360, progressive=True), square())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JPEG"),
        (b"<html>login</html>", "no JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "no JPEG"),
        (jpeg(640, 360)[:200], "JPEG"),
        (jpeg(640, 360)[:-2_000], "damaged"),
    ],
    ids=["nothing", "login page", "png", "header only", "scan cut off"],
)
def test_what_cannot_be_judged_says_so(data, words):
    """Issue 8: a truncated scan has a stated outcome."""
    with pytest.raises(UnreadablePictureError, match=words):
        letterbox(data, square())


def test_a_bomb_is_refused_before_it_is_decoded():
    """Issue 8: 20,000 x 20,000 pixels; the header is enough to say no."""
    data = bytearray(jpeg(64, 64))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 20_000, 20_000)
    with pytest.raises(UnreadablePictureError, match=f"{MAX_PIXELS:,}"):
        letterbox(bytes(data), square())


@pytest.mark.parametrize(
    ("name", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("GIF", "P")]
)
def test_other_formats_are_judged_as_the_same_picture_would_be(name, mode):
    """Issue 8: PNG, WebP and HEIC input; scaled by area, as a JPEG's last step is."""
    x = np.linspace(0, 255, 640)[None] * np.ones((360, 1))
    image = Image.fromarray(x.astype(np.uint8)).convert("RGB")
    out = io.BytesIO()
    image.convert(mode).save(out, name)
    got, wanted = square(), square()
    assert letterbox(out.getvalue(), got) == letterbox(jpeg(640, 360), wanted)
    assert np.abs(got.astype(int) - wanted).mean() < 6


def test_a_png_bomb_is_refused_before_it_is_decoded():
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    with pytest.raises(UnreadablePictureError, match="pixels"):
        letterbox(out.getvalue(), square())


def test_a_bomb_of_scans_is_refused_before_it_is_decoded(monkeypatch):
    """A progressive picture of few pixels can cost minutes: each of its scans is gone through."""
    data = jpeg(640, 360, progressive=True)
    at = data.rindex(b"\xff\xda")
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    with pytest.raises(UnreadablePictureError, match="scans"):
        letterbox(data[:-2] + data[at:-2] * 101 + data[-2:], square())


@given(st.tuples(*[st.floats(0, SIDE_PX)] * 4))
def test_boxes_of_the_square_become_boxes_within_the_picture(box):
    place = letterbox(jpeg(800, 450), square())
    left, top, right, bottom = place.to_picture(box)
    assert 0 <= left <= 800
    assert 0 <= right <= 800
    assert 0 <= top <= 450
    assert 0 <= bottom <= 450


def test_the_whole_square_is_the_whole_picture():
    place = letterbox(jpeg(1_920, 1_080), square())
    assert place.to_picture((0, 0, SIDE_PX, SIDE_PX)) == (0, 0, 1_920, 1_080)
    assert place.to_picture((0, 70, 160, 160)) == pytest.approx((0, 0, 960, 540))
