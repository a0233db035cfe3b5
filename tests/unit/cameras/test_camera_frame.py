"""A frame is believed only if it is one (research/cameras.md; connectors/cameras/frame.py)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.frame import (
    MAX_PADDING_BYTES,
    StaleFrames,
    clean,
    describe,
    read_comment,
    read_jpeg,
)
from connectors.cameras.null_camera import tiny_frame
from connectors.cameras.picture import Painter, with_comment
from schemas.errors import CameraError

PICTURE = Painter(128, 96).paint("cam-00001", 1_795_433_700_123, 7)


def test_a_picture_is_read():
    frame = read_jpeg(PICTURE)
    assert (frame.width_px, frame.height_px, frame.format) == (128, 96, "jpeg")
    assert frame.sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert frame.frame_at_ms == 1_795_433_700_123
    assert frame.data == PICTURE
    assert str(len(PICTURE)) in repr(frame)
    assert len(repr(frame)) < 100, "a frame in a log line must not bring its bytes"


@given(st.integers(1, len(PICTURE) - 1))
def test_a_picture_cut_anywhere_is_refused(length):
    with pytest.raises(CameraError) as caught:
        read_jpeg(PICTURE[:length])
    assert caught.value.cause in {"truncated", "not_an_image"}


@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_a_camera_error(data):
    for text in (data, b"\xff\xd8" + data + b"\xff\xd9", PICTURE[:200] + data + b"\xff\xd9"):
        error = None
        try:
            frame = read_jpeg(text)
        except CameraError as raised:
            error = raised
        if error is None:
            assert frame.width_px > 0
            assert frame.height_px > 0
        else:
            assert error.cause in {"not_an_image", "truncated"}
            assert str(error).isprintable()


@pytest.mark.parametrize("tail", [b"\0", b"\r\n", b"\n" * 100, b"\0" * MAX_PADDING_BYTES, b"\xff"])
def test_padding_is_cut_off(tail):
    assert read_jpeg(PICTURE + tail).data == PICTURE


@pytest.mark.parametrize("tail", [b"x", b"\0" * (MAX_PADDING_BYTES + 1), b"\0\0--boundary\r\n"])
def test_anything_else_behind_the_end_is_not_believed(tail):
    with pytest.raises(CameraError) as caught:
        read_jpeg(PICTURE + tail)
    assert caught.value.cause == "truncated"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "nothing (0 bytes)"),
        (b"<!DOCTYPE html><title>Log in</title>", "an HTML page"),
        (b"  <HTML>", "an HTML page"),
        (b'<?xml version="1.0"?>', "XML"),
        (b'{"error": 1}', "JSON"),
        (b"\x89PNG\r\n\x1a\n", "8 bytes"),
        (b"\x1b[31mred\x07" * 20, "180 bytes"),
    ],
)
def test_the_message_says_what_came(data, words):
    with pytest.raises(CameraError, match="expected a JPEG") as caught:
        read_jpeg(data)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(st.text())
def test_clean_text_is_one_short_printable_line(text):
    result = clean(text)
    assert result.isascii()
    assert result.isprintable()
    assert len(result) <= 200


@given(st.binary(max_size=64))
def test_describe_is_safe(data):
    assert describe(data).isprintable()


def test_a_picture_without_a_time_has_none():
    grey = np.zeros((16, 16, 1), dtype=np.uint8)
    plain = simplejpeg.encode_jpeg(grey, 75, "GRAY", "Gray")
    assert read_jpeg(plain).frame_at_ms is None
    assert read_jpeg(with_comment(plain, b"made by hand")).frame_at_ms is None
    assert read_jpeg(with_comment(plain, b'{"frame_at_ms": "soon"}')).frame_at_ms is None
    assert read_jpeg(with_comment(plain, b'{"frame_at_ms": 5}')).frame_at_ms == 5


@given(st.binary(max_size=200))
def test_reading_a_comment_never_fails(data):
    read_comment(b"\xff\xd8" + data)


class TestStaleFrames:
    """research/cameras.md: flag a repeated SHA-256."""

    def frame(self, number):
        return read_jpeg(Painter(128, 96).paint("cam", number, number))

    def test_the_same_picture_again_is_stale_until_another_comes(self):
        stale = StaleFrames(10)
        stale.check("a", self.frame(1))
        for _ in range(2):
            with pytest.raises(CameraError) as caught:
                stale.check("a", self.frame(1))
            assert caught.value.cause == "stale"
        stale.check("a", self.frame(2))
        stale.check("a", self.frame(1))

    def test_devices_are_apart(self):
        stale = StaleFrames(10)
        stale.check("a", self.frame(1))
        stale.check("b", self.frame(1))

    def test_the_memory_is_bounded_and_forgets_the_longest_unheard_of(self):
        stale = StaleFrames(2)
        for device in ("a", "b", "a", "c"):
            stale.check(device, self.frame(ord(device) + len(stale)))
        assert len(stale) == 2

    def test_no_memory_means_no_check(self):
        stale = StaleFrames(0)
        stale.check("a", self.frame(1))
        stale.check("a", self.frame(1))
        assert len(stale) == 0


def test_the_null_camera_takes_a_valid_picture():
    frame = tiny_frame()
    assert simplejpeg.decode_jpeg(frame.data).shape == (8, 8, 3)
