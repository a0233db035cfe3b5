"""Decoding to JPEG: right picture, right colours, damage found (issue 6, RTSP)."""

from __future__ import annotations

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg

from connectors.cameras.rtp import AccessUnit
from connectors.cameras.rtsp_decode import decode
from connectors.cameras.simulated_rtsp_media import START, Source, read_number
from schemas.errors import CameraError

START_CODE = b"\x00\x00\x00\x01"
GOING = threading.Event()


def units_of(codec, count=8):
    source = Source(codec, 320, 240, 25, 100)
    found = []
    for number in range(count):
        nals, key = source.take(1_000 + number)
        data = b"".join(START_CODE + nal for nal in nals)
        found.append(AccessUnit(number * 3_600, number / 25, key, data))
    return found


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_the_last_picture_comes_out(codec):
    units = units_of(codec)
    for count in (1, 2, 8):
        jpeg = decode(codec, units[:count], 90, GOING)
        assert read_number(jpeg) == 1_000 + count - 1


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_damage_is_found_and_not_smeared_over(codec):
    """Without err_detect=explode H.265 of random bytes comes out as a grey picture, unmarked.

    A foreign end is asked of H.264 only: of the same bytes of H.265, FFmpeg takes it for whole once
    in some hundred to some thousand times.
    """
    units = units_of(codec)
    key = units[0]
    damaged = [key.data[:-200], key.data[:40], b"\x00" * 50]
    if codec == "h264":
        damaged.append(key.data[:-32] + bytes(range(32)))
    for data in damaged:
        with pytest.raises(CameraError) as caught:
            decode(codec, [AccessUnit(0, 0.0, True, data)], 90, GOING)
        assert (caught.value.cause, caught.value.retry) == ("undecodable", True)
    with pytest.raises(CameraError):
        decode(codec, units[1:], 90, GOING)


def test_a_picture_that_others_lean_on_comes_out_in_its_turn():
    """With B-frames the decoder gives pictures out in another order than they come in."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {
        "x264-params": "bframes=2:b-adapt=0:keyint=100:log-level=-1:sync-lookahead=0"
    }
    packets = []
    for number in range(12):
        frame = av.VideoFrame.from_ndarray(
            np.full((240, 320, 3), 20 * number, dtype=np.uint8), format="rgb24"
        )
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    assert [p.pts for p in packets] != sorted(p.pts for p in packets)
    units = [AccessUnit(p.pts, 0.0, n == 0, bytes(p)) for n, p in enumerate(packets)]
    for count in range(1, 12):
        grey = simplejpeg.decode_jpeg(decode("h264", units[:count], 95, GOING))[120, 160, 0]
        assert int(grey) == pytest.approx(20 * units[count - 1].ticks, abs=6)


@pytest.mark.parametrize("space", [1, 5], ids=["bt709", "bt601"])
@pytest.mark.parametrize("reach", [1, 2], ids=["limited", "full"])
def test_colours_are_those_of_the_camera(space, reach):
    rgb = np.empty((64, 64, 3), dtype=np.uint8)
    rgb[:] = (200, 60, 30)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuv420p"
    encoder.time_base, encoder.colorspace, encoder.color_range = Fraction(1, 25), space, reach
    encoder.options = {"crf": "1", "x264-params": "log-level=-1"}
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=space, dst_color_range=reach
    )
    packets = encoder.encode(frame) + encoder.encode(None)
    unit = AccessUnit(packets[0].pts or 0, 0.0, True, bytes(packets[0]))
    pixel = simplejpeg.decode_jpeg(decode("h264", [unit], 95, GOING))[32, 32]
    assert np.abs(pixel.astype(int) - (200, 60, 30)).max() <= 8


def test_a_picture_of_another_format_is_brought_to_jpegs():
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 66, 50, "yuv444p10le"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"x264-params": "log-level=-1"}
    frame = av.VideoFrame.from_ndarray(np.full((50, 66, 3), 128, np.uint8), format="rgb24")
    packets = encoder.encode(frame.reformat(format="yuv444p10le")) + encoder.encode(None)
    unit = AccessUnit(packets[0].pts or 0, 0.0, True, bytes(packets[0]))
    assert simplejpeg.decode_jpeg_header(decode("h264", [unit], 90, GOING))[:2] == (50, 66)


def test_a_decode_that_nobody_waits_for_stops():
    over = threading.Event()
    over.set()
    with pytest.raises(CameraError) as caught:
        decode("h264", units_of("h264", 2), 90, over)
    assert caught.value.cause == "timeout"


def test_start_codes_are_cut_as_they_come():
    assert START.split(b"\x00\x00\x01a\x00\x00\x00\x01b") == [b"", b"a", b"b"]
