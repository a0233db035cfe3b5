"""One suite for every binding of libjpeg-turbo: the same pixels, bytes and errors (SPEC 3.3)."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import cut, make, pixels_of, psnr, scene

from connectors.images.codec import SimpleCodec, pick_codec
from connectors.images.codec_turbo import TurboCodec
from connectors.images.errors import ImageError
from connectors.images.facts import read_facts
from connectors.images.pipeline import PLANES_PX, process
from connectors.images.plan import EIGHTHS, Box, scaled
from connectors.images.spec import CaptureSpec

SIZES = [(640, 480), (333, 217), (17, 9)]
SAMPLINGS = ["444", "422", "420", "440", "411", "gray"]


@pytest.fixture(params=["simplejpeg", "turbojpeg"])
def codec(request):
    if request.param == "simplejpeg":
        return SimpleCodec()
    try:
        return TurboCodec()
    except (OSError, RuntimeError):
        pytest.skip("libturbojpeg is not installed")


@pytest.mark.parametrize("eighths", EIGHTHS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_codec_decodes_to_the_same_pixels(codec, size, sampling, eighths):
    data = make(*size, sampling)
    facts = read_facts(data)
    pixels = codec.decode(data, facts, eighths)
    width, height = scaled(facts, eighths)
    assert pixels.shape == (height, width, 1 if sampling == "gray" else 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, SimpleCodec().decode(data, facts, eighths))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("quality", [1, 85, 100])
def test_every_codec_encodes_to_the_same_bytes(codec, size, sampling, quality):
    pixels = scene(*size)[:, :, : 1 if sampling == "gray" else 3]
    data = codec.encode(pixels, quality, sampling)
    assert data == SimpleCodec().encode(pixels, quality, sampling)
    assert read_facts(data).subsampling == sampling


def test_a_view_is_encoded_as_what_it_shows(codec):
    pixels = scene(640, 480)
    turned = pixels[::-1, ::-1].transpose(1, 0, 2)
    data = codec.encode(turned, 100, "444")
    assert psnr(pixels_of(data), np.ascontiguousarray(turned)) > 40


@pytest.mark.parametrize("eighths", EIGHTHS)
def test_a_scan_cut_short_is_damaged_at_every_scale(codec, eighths):
    data = cut(make())
    with pytest.raises(ImageError) as caught:
        codec.decode(data, read_facts(data), eighths)
    assert caught.value.code == "damaged"


def test_bytes_that_are_no_scan_are_damaged(codec):
    data = make()
    facts, at = read_facts(data), len(data) * 2 // 3
    spoilt = data[:at] + b"\xff\xd0\x12\xff\x77" * 40 + data[at + 200 :]
    with pytest.raises(ImageError) as caught:
        codec.decode(spoilt, facts, 8)
    assert caught.value.code == "damaged"


ORIENTED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""What makes a picture of each orientation stand upright (EXIF 2.32, 4.6.4 A)."""


@pytest.mark.parametrize("orientation", ORIENTED)
def test_blocks_are_turned_without_loss(codec, orientation):
    if not codec.lossless:
        pytest.skip("it says that it cannot")
    data = make(640, 480, "444")
    moved = codec.move(data, None, orientation)
    # The same coefficients, so the same pixels, but for the rounding of a transposed transform…
    off = np.abs(pixels_of(moved) - ORIENTED[orientation](pixels_of(data)))
    assert off.max() <= 4
    # … and back again they are the same to the bit.
    back = codec.move(moved, None, {6: 8, 8: 6}.get(orientation, orientation))
    assert np.array_equal(pixels_of(back), pixels_of(data))


def test_a_part_is_cut_out_without_loss(codec):
    if not codec.lossless:
        pytest.skip("it says that it cannot")
    data = make(640, 480, "444")
    moved = codec.move(data, Box(16, 32, 203, 101), 1)
    assert np.array_equal(pixels_of(moved), pixels_of(data)[32:133, 16:219])


def test_turning_what_has_no_whole_blocks_is_an_error_not_a_loss(codec):
    if not codec.lossless:
        pytest.skip("it says that it cannot")
    with pytest.raises(ImageError):
        codec.move(make(637, 480), None, 2)


@pytest.mark.parametrize("wish", [(320, 240), (213, 0), (0, 77), (160, 0), (33, 0)], ids=str)
@pytest.mark.parametrize("sampling", ["444", "422", "420"])
@pytest.mark.parametrize("size", [(640, 480), (333, 217)], ids=str)
def test_a_photo_scaled_by_planes_looks_as_one_scaled_by_rgb(codec, size, sampling, wish):
    data = make(*size, sampling, 95)
    done = process(data, CaptureSpec(*wish, quality=95), codec=codec)
    peer = process(data, CaptureSpec(*wish, quality=95), codec=SimpleCodec())
    assert read_facts(done.data).subsampling == sampling
    assert (done.width_px, done.height_px) == (peer.width_px, peer.height_px)
    assert psnr(pixels_of(done.data), pixels_of(peer.data)) > 38
    if not codec.planar or min(done.width_px, done.height_px) < PLANES_PX:
        assert done.data == peer.data


def test_planes_of_a_scan_cut_short_are_damaged(codec):
    if not codec.planar:
        pytest.skip("it says that it cannot")
    data = cut(make())
    with pytest.raises(ImageError):
        codec.decode_planes(data, read_facts(data), 4)


def test_a_codec_that_cannot_do_something_says_so(codec):
    if codec.lossless:
        assert codec.planar
        return
    with pytest.raises(NotImplementedError):
        codec.move(make(), None, 6)
    with pytest.raises(NotImplementedError):
        codec.decode_planes(make(), read_facts(make()))


def test_the_best_codec_is_picked():
    try:
        TurboCodec()
    except (OSError, RuntimeError):
        assert pick_codec().name == "simplejpeg"
    else:
        assert pick_codec().name == "turbojpeg"


def test_a_library_that_is_not_there_leaves_the_bundled_one(monkeypatch):
    import connectors.images.codec_turbo as module

    def absent(*_):
        raise RuntimeError("Unable to locate turbojpeg library automatically")

    monkeypatch.setattr(module.TurboCodec, "__init__", absent)
    assert pick_codec.__wrapped__().name == "simplejpeg"
