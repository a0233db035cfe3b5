"""What an SDP says about the video (issue 6, RTSP)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtsp_sdp import read_sdp
from schemas.errors import CameraError

BASE = "rtsp://10.0.0.7/cam/"


def sdp(*lines):
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=x", "t=0 0", *lines, ""]
    return "\r\n".join(lines).encode()


H264 = (
    "m=video 0 RTP/AVP 96",
    "a=rtpmap:96 H264/90000",
    "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0IAKQ==,aM4=;profile-level-id=420029",
    "a=control:trackID=1",
)


def test_h264():
    video = read_sdp(sdp("a=control:*", *H264), BASE)
    assert (video.codec, video.payload_type, video.clock_hz) == ("h264", 96, 90_000)
    assert video.sets == (b"\x67\x42\x00\x29", b"\x68\xce")
    assert video.control == "rtsp://10.0.0.7/cam/trackID=1"


def test_h265_has_three_kinds_of_sets():
    lines = ("m=video 0 RTP/AVP 98", "a=rtpmap:98 H265/90000")
    fmtp = "a=fmtp:98 sprop-vps=QAE=; sprop-sps=QgE=; sprop-pps=RAE="
    video = read_sdp(sdp(*lines, fmtp), BASE)
    assert video.codec == "h265"
    assert video.sets == (b"\x40\x01", b"\x42\x01", b"\x44\x01")
    assert video.control == BASE


def test_jpeg_needs_no_map():
    """RFC 3551: payload type 26 is JPEG."""
    video = read_sdp(sdp("m=video 0 RTP/AVP 26", "a=x-dimensions:2560,1440"), BASE)
    assert (video.codec, video.payload_type, video.size_px) == ("jpeg", 26, (2560, 1440))
    video = read_sdp(sdp("m=video 0 RTP/AVP 26", "a=framesize:26 4096-2160"), BASE)
    assert video.size_px == (4096, 2160)


def test_the_first_video_that_can_be_read_counts():
    """Audio, metadata and codecs that are not known stand beside it."""
    other = ("m=audio 0 RTP/AVP 0", "a=control:track0")
    strange = ("m=video 0 RTP/AVP 97", "a=rtpmap:97 AV1/90000", "a=control:track9")
    data = ("m=application 0 RTP/AVP 107", "a=rtpmap:107 vnd.onvif.metadata/90000")
    video = read_sdp(sdp(*other, *strange, *data, *H264), BASE)
    assert video.control.endswith("trackID=1")


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ((), "no video at all"),
        (("m=audio 0 RTP/AVP 0",), "no video at all"),
        (("m=video 0 RTP/AVP 97", "a=rtpmap:97 VP8/90000"), "VP8"),
        (("m=video 0 RTP/AVP 97",), "?"),
    ],
)
def test_no_video_shows_what_there_is(lines, shown):
    with pytest.raises(CameraError) as caught:
        read_sdp(sdp(*lines), BASE)
    assert (caught.value.cause, caught.value.retry) == ("no_video", False)
    assert shown in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"<html>", b"m=video 0 RTP/AVP 26", b"\xff\xd8"])
def test_what_is_no_sdp_is_said(data):
    with pytest.raises(CameraError) as caught:
        read_sdp(data, BASE)
    assert caught.value.cause == "bad_answer"
    assert "expected an SDP" in str(caught.value)


def test_sets_that_are_no_base64_are_left_out():
    lines = [line.replace("aM4=", "a") for line in H264]
    assert read_sdp(sdp(*lines), BASE).sets == (b"\x67\x42\x00\x29",)


def test_an_absolute_control_is_taken_as_it_is():
    """It is only ever asked for on the connection that there is."""
    lines = [line.replace("trackID=1", "rtsp://elsewhere/1") for line in H264]
    assert read_sdp(sdp(*lines), BASE).control == "rtsp://elsewhere/1"


word = st.sampled_from(
    ["m=video 0 RTP/AVP 96", "m=video 0 RTP/AVP", "a=rtpmap:96 H264/0", "a=rtpmap:96 H264/90000",
     "a=rtpmap:x", "a=fmtp:96 x", "a=fmtp:96 sprop-parameter-sets=,,", "a=control:", "a=control",
     "a=framesize:1 2-3", "a=x-dimensions:1", "c=", "v=7", "=", "a", "a=x-dimensions:٣,٣"]
)  # fmt: skip


@given(st.lists(st.one_of(word, st.text(max_size=20)), max_size=12))
def test_any_text_is_a_video_or_none(lines):
    with contextlib.suppress(CameraError):
        assert read_sdp(b"v=0\n" + "\n".join(lines).encode("utf-8", "replace"), BASE).clock_hz > 0
