"""The signatures of protocols: a table, and what it must not be fooled by (SPEC 3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.negotiate import (
    HEAD_BYTES,
    SIGNATURES,
    UNKNOWN,
    classify,
    content_type,
    seen_text,
    split_http,
)

SOAP12 = b'<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope">'
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'


@pytest.mark.parametrize(
    ("seen", "name", "protocol"),
    [
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "RTSP", "rtsp"),
        (b"RTSP/1.0 401 Unauthorized\r\n", "RTSP", "rtsp"),
        (b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=Session\r\n", "SDP", "rtsp"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "JPEG", "http-snapshot"),
        (b"\xff\xd8\xff\xdb\x00", "JPEG", "http-snapshot"),
        (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8", "MJPEG stream", "http-snapshot"),
        (
            b"\r\n--myboundary\r\nContent-Length: 5\r\nX-T: 1\r\ncontent-type:image/jpeg\r\n\r\n",
            "MJPEG stream",
            "http-snapshot",
        ),
        (SOAP12, "SOAP", "onvif"),
        (XML + SOAP12, "SOAP", "onvif"),
        (b"\xef\xbb\xbf" + XML + b"<!-- gSOAP 2.8 --><s:Envelope>", "SOAP", "onvif"),
        (b"<Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'>", "SOAP", "onvif"),
        (XML + b'<wsdl:definitions xmlns:wsdl="x">', "WSDL", "onvif"),
        (b'{"device": "cam-1"}', "JSON", "http-json"),
        (b"  {\n}", "JSON", "http-json"),
        (b'[{"id": 1}]', "JSON", "http-json"),
        (b"<!DOCTYPE html><html>", "HTML", ""),
        (b"<!-- login --><HTML>", "HTML", ""),
        (b"<html lang=en>", "HTML", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n<html>", "HTML", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n\xff\xd8\xff\xe0", "JPEG", "http-snapshot"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", "JPEG", "http-snapshot"),
        (
            b"HTTP/1.0 200 OK\r\nContent-type: multipart/x-mixed-replace; boundary=x\r\n\r\n",
            "MJPEG stream",
            "http-snapshot",
        ),
        (b"HTTP/1.1 200 OK\r\nCONTENT-TYPE: Application/JSON; charset=utf-8\r\n\r\n", "JSON", "http-json"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml", "SOAP", "onvif"),
    ],
)  # fmt: skip
def test_signatures(seen, name, protocol):
    found = classify(seen)
    assert (found.name, found.protocol) == (name, protocol)


@pytest.mark.parametrize(
    "seen",
    [
        b"",
        b"220 FTP ready\r\n",
        b"SSH-2.0-OpenSSH_9.2",
        b"RTSP/1.0",
        b"v=0",
        b"\xff\xd8",
        b"<envelopes>",
        b"<Envelopes>",
        XML + b"<root/>",
        b"{not json",
        b"--\r\n",
        b"--frame\r\nContent-Type: text/plain\r\n\r\n",
        b"GIF89a",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b" " * 600 + b"\xff\xd8\xff",
        b"x" * 600 + b"<html>",
    ],
)
def test_what_is_none(seen):
    assert classify(seen) is UNKNOWN


def test_only_the_first_bytes_count():
    """SPEC 3.1: within the first 128-512 bytes; what comes behind them is not looked at."""
    late = XML + b"<!-- " + b"x" * (HEAD_BYTES - len(XML)) + b" -->" + SOAP12
    assert classify(late) is UNKNOWN


def test_128_bytes_are_enough_for_every_signature():
    for seen in (
        XML + SOAP12,
        b"--frame\r\nContent-Type: image/jpeg\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n",
    ):
        assert classify(seen[:128]).protocol


@given(st.binary(max_size=600))
def test_any_bytes_are_taken_and_shown(seen):
    assert classify(seen) in (*SIGNATURES, UNKNOWN)
    assert seen_text(seen).isprintable()
    head, body = split_http(seen)
    assert len(head) + len(body) in {len(seen), len(seen) - 4}
    assert content_type(head).isprintable()


@pytest.mark.parametrize("seen", [b"<!--" * 128, b"<?xml" + b"?" * 500, b"--" + b"a:\r\n" * 127])
def test_no_pattern_runs_away(seen):
    """Backtracking is bounded: hypothesis finds no such input by itself."""
    assert classify(seen) is UNKNOWN
