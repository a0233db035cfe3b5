"""The first picture of a multipart stream, however its bytes are cut (issue 6, plain MJPEG)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.mjpeg import MAX_HEAD_BYTES, FirstPart, boundary_of
from connectors.cameras.null_camera import tiny_frame
from schemas.errors import CameraError

JPEG = tiny_frame().data
LENGTH = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)
BARE = b"Content-Type: image/jpeg\r\n\r\n"
STREAMS = {
    "with length": ("frame", b"--frame\r\n" + LENGTH + JPEG + b"\r\n--frame\r\n"),
    "without length": ("frame", b"--frame\r\n" + BARE + JPEG + b"\r\n--frame\r\n" + BARE),
    "hyphens in the parameter": ("--frame", b"--frame\r\n" + BARE + JPEG + b"\r\n--frame\r\n"),
    "and two more": ("--frame", b"----frame\r\n" + BARE + JPEG + b"\r\n----frame\r\n"),
    "line feeds only": ("b", b"--b\nContent-Type: image/jpeg\n\n" + JPEG + b"\n--b\n"),
    "preamble": ("b", b"\r\nhello\r\n--b\r\n" + LENGTH.lower() + JPEG),
    "quoted": ('"my frame"', b"--my frame\r\n" + BARE + JPEG + b"\r\n--my frame--\r\n"),
    "length of nought": ("b", b"--b\r\nContent-Length: 0\r\n\r\n" + JPEG + b"\r\n--b\r\n"),
}


def pieces(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@pytest.mark.parametrize("name", STREAMS)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=40))
def test_however_it_is_cut(name, cuts):
    boundary, stream = STREAMS[name]
    part = FirstPart(boundary, 1_000_000)
    found = next(
        (one for piece in pieces(stream, cuts) if (one := part.feed(piece)) is not None), None
    )
    assert found == JPEG


def test_byte_by_byte():
    for boundary, stream in STREAMS.values():
        part = FirstPart(boundary, 1_000_000)
        found = [
            one for at in range(len(stream)) if (one := part.feed(stream[at : at + 1])) is not None
        ]
        assert found[0] == JPEG


def test_a_stream_that_ends_in_its_first_part():
    part = FirstPart("b", 1_000_000)
    assert part.feed(b"--b\r\n" + BARE + JPEG) is None
    assert part.ended() == JPEG
    assert FirstPart("b", 1).ended() == b""


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"--b\r\nContent-Length: 2000\r\n\r\n", "too_large"),
        (b"--b\r\n\r\n" + b"x" * 2000, "too_large"),
        (b"x" * (MAX_HEAD_BYTES + 1), "bad_answer"),
        (b"--b\r\n" + b"X-A: 1\r\n" * 1000, "bad_answer"),
    ],
)
def test_it_is_bounded(data, cause):
    with pytest.raises(CameraError) as caught:
        FirstPart("b", 1_000).feed(data)
    assert caught.value.cause == cause


@pytest.mark.parametrize("boundary", ["", '""', " ", "x" * 300, "sch\u00f6n"])
def test_a_boundary_that_is_none(boundary):
    with pytest.raises(CameraError) as caught:
        FirstPart(boundary, 1_000)
    assert caught.value.cause == "bad_answer"


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", "frame"),
        ("multipart/x-mixed-replace;BOUNDARY=--x; charset=utf-8", "--x"),
        ('multipart/x-mixed-replace; boundary="a b"', "a b"),
        ("multipart/x-mixed-replace", ""),
    ],
)
def test_boundary_of(header, boundary):
    assert boundary_of(header) == boundary
