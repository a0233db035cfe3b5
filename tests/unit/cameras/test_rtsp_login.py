"""Digest and Basic over RTSP (issue 6: Digest preferred, answered once)."""

from __future__ import annotations

import hashlib

from aiohttp.client_middleware_digest_auth import parse_header_pairs
from aiortsp.rtsp.auth import BasicAuth

from connectors.cameras.credentials import Credentials
from connectors.cameras.rtsp_login import DigestLogin, choose

ME = Credentials(user="admin", password='p"ß%40:')
BASIC = 'Basic realm="x"'
MD5 = 'Digest realm="a camera", nonce="abc"'
SHA = 'digest realm="a camera", nonce="abc", algorithm=SHA-256, qop="auth,auth-int", opaque="o"'


def answer(header):
    headers = {"www-authenticate": header}
    login = choose(ME, headers)
    assert login.handle_401(headers)
    sent = {}
    login.make_auth("DESCRIBE", "rtsp://h/x", sent)
    scheme, _, rest = sent["Authorization"].partition(" ")
    return scheme, parse_header_pairs(rest)


def test_digest_is_taken_wherever_it_stands():
    """aiortsp takes Basic where both are offered."""
    for headers in ([BASIC, MD5], [MD5, BASIC], MD5, [BASIC, SHA]):
        assert isinstance(choose(ME, {"www-authenticate": headers}), DigestLogin)
    assert isinstance(choose(ME, {"www-authenticate": BASIC}), BasicAuth)
    assert choose(ME, {"www-authenticate": 'Negotiate x="y"'}) is None
    assert choose(ME, {}) is None
    assert choose(ME, {"www-authenticate": 'Digest realm="x", nonce="a", algorithm=X'}) is None


def test_without_qop_it_is_rfc_2069():
    scheme, got = answer(MD5)

    def h(text):
        return hashlib.md5(text.encode()).hexdigest()

    secret = h('admin:a camera:p"ß%40:')
    assert scheme == "Digest"
    assert got["response"] == h(f"{secret}:abc:{h('DESCRIBE:rtsp://h/x')}")
    assert "qop" not in got
    assert "algorithm" not in got


def test_with_qop_and_sha_256_all_that_was_asked_is_answered():
    """RFC 7616, 3.4.1; the stronger algorithm is taken where both are offered."""
    _, got = answer([MD5, SHA])

    def h(text):
        return hashlib.sha256(text.encode()).hexdigest()

    secret = h('admin:a camera:p"ß%40:')
    parts = [secret, "abc", got["nc"], got["cnonce"], "auth", h("DESCRIBE:rtsp://h/x")]
    assert got["response"] == h(":".join(parts))
    assert (got["algorithm"], got["qop"], got["opaque"]) == ("SHA-256", "auth", "o")
    assert got["nc"] == "00000001"


def test_a_second_challenge_is_not_answered_but_one_after_success_is():
    headers = {"www-authenticate": MD5}
    login = choose(ME, headers)
    assert login.handle_401(headers)
    assert not login.handle_401(headers)
    login = choose(ME, headers)
    assert login.handle_401(headers)
    login.handle_ok({})
    assert login.handle_401(headers), "its nonce has run out"
    assert not login.handle_401({"www-authenticate": BASIC}), "never Basic after Digest"
