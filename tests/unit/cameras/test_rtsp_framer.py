"""Cutting an RTSP connection into messages (issue 6: aiortsp's traps)."""

from __future__ import annotations

import pytest
from aiortsp.rtsp.errors import RTSPError
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtsp_connection import Framer, Interleaved, TooLongError

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Length: 5\r\n\r\nhello"
PACKET = b"$\x02\x00\x04data"
REQUEST = b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n"


def kinds(messages):
    return [
        (m.channel, m.data) if isinstance(m, Interleaved) else (m.type, m.cseq, m.data)
        for m in messages
    ]


EXPECTED = {
    ANSWER: ("response", 3, b"hello"),
    PACKET: (2, b"data"),
    REQUEST: ("request", 9, b""),
    b"\r\n": None,
}


@given(st.lists(st.sampled_from(list(EXPECTED)), max_size=8), st.data())
def test_however_it_is_cut_the_messages_are_the_same(parts, data):
    """A dripping camera sends single bytes: aiortsp takes an R for the beginning of a request."""
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    framer = Framer(65_536)
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    got = [m for piece in pieces for m in framer.parse(piece)]
    assert kinds(got) == [EXPECTED[part] for part in parts if EXPECTED[part]]


def test_byte_by_byte():
    framer = Framer(65_536)
    whole = ANSWER + PACKET + REQUEST + PACKET
    got = [m for at in range(len(whole)) for m in framer.parse(whole[at : at + 1])]
    assert len(got) == 4


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n", b"220 FTP\r\n", b"\x00\x01", b"RTSQ"])
def test_what_is_no_rtsp_is_refused(data):
    with pytest.raises(ValueError, match="no RTSP"):
        list(Framer(65_536).parse(data))


def test_an_answer_that_announces_too_much_is_refused_at_once():
    head = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 9999999\r\n\r\n"
    with pytest.raises(TooLongError):
        list(Framer(65_536).parse(head))


def test_a_head_without_end_is_refused():
    framer = Framer(65_536)
    list(framer.parse(b"RTSP/1.0 200 OK\r\n"))
    taken = 0
    with pytest.raises(ValueError, match="too long"):
        while True:
            list(framer.parse(b"X-More: x\r\n" * 100))
            taken += 1_100
    assert taken <= 65_536


def test_a_line_without_end_is_refused():
    framer = Framer(65_536)
    list(framer.parse(b"RTSP/1.0 200 OK\r\nX: "))
    with pytest.raises(ValueError, match="too long"):
        for _ in range(100):
            list(framer.parse(b"x" * 1_000))


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_garbage_is_refused_in_few_ways(pieces):
    framer = Framer(65_536)
    try:
        for piece in pieces:
            list(framer.parse(piece))
    except (ValueError, AssertionError, RTSPError, TooLongError):
        pass
