"""The 48 bytes of NTP: what is asked, what is believed (RFC 5905, sections 7.3 and 9.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.ntp_packet import (
    ERA_S,
    PACKET,
    Answer,
    NtpRefusal,
    decode_answer,
    encode_question,
    ntp_timestamp,
    unix_s,
)

COOKIE = 0x0123_4567_89AB_CDEF
NOW_S = 1_795_554_829.25


def answer(**changes):
    parts = {
        "flags": 0 << 6 | 4 << 3 | 4,
        "stratum": 2,
        "precision": -20,
        "root_delay": 1 << 15,
        "root_dispersion": 1 << 14,
        "name": 0x7F000001,
        "origin": COOKIE,
        "receive": ntp_timestamp(NOW_S),
        "transmit": ntp_timestamp(NOW_S + 0.001),
    } | changes
    return PACKET.pack(
        parts["flags"],
        parts["stratum"],
        6,
        parts["precision"],
        parts["root_delay"],
        parts["root_dispersion"],
        parts["name"],
        ntp_timestamp(NOW_S - 10),
        parts["origin"],
        parts["receive"],
        parts["transmit"],
    )


def test_a_question_tells_nothing_but_that_it_is_one():
    """Version 4, mode 3, the cookie as transmit timestamp; all else is zero."""
    assert encode_question(COOKIE).hex() == "23" + "00" * 39 + "0123456789abcdef"


def test_a_packet_of_a_server_as_it_stands_on_the_wire():
    """Bytes written down by hand from RFC 5905, figure 8."""
    packet = bytes.fromhex(
        "24 02 06 ec 00008000 00004000 7f000001 e8330000 00000000 0123456789abcdef"
        " e8335499 80000000 e833549a 40000000"
    )
    found = decode_answer(packet, COOKIE, NOW_S)
    seconds = 0xE8335499 - 2_208_988_800
    assert found == Answer(seconds + 0.5, seconds + 1.25, 0.5, 0.25, 2.0**-20, 2)


@pytest.mark.parametrize("leap", [0, 1, 2])
def test_a_leap_second_that_is_announced_is_no_reason_to_refuse(leap):
    assert isinstance(decode_answer(answer(flags=leap << 6 | 0x24), COOKIE, NOW_S), Answer)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"origin": COOKIE ^ 1}, NtpRefusal("origin")),
        ({"flags": 0x24, "stratum": 0, "name": 0x52415445}, NtpRefusal("kiss", "RATE")),
        ({"stratum": 0, "name": 0x1B5B4A41}, NtpRefusal("kiss", "????")),
        ({"flags": 0xE4}, NtpRefusal("alarm")),
        ({"stratum": 16}, NtpRefusal("stratum", "16")),
        ({"stratum": 255}, NtpRefusal("stratum", "255")),
        ({"flags": 0x23}, NtpRefusal("not_an_answer", "mode 3, version 4")),
        ({"flags": 0x25}, NtpRefusal("not_an_answer", "mode 5, version 4")),
        ({"flags": 0x14}, NtpRefusal("not_an_answer", "mode 4, version 2")),
        ({"transmit": 0}, NtpRefusal("times", "not set")),
        ({"receive": 0}, NtpRefusal("times", "not set")),
        ({"precision": 100}, NtpRefusal("times", "not set")),
        (
            {"transmit": ntp_timestamp(NOW_S - 0.001)},
            NtpRefusal("times", "sent before the question came"),
        ),
        ({"root_dispersion": 2 << 16}, NtpRefusal("distance", "2.2 s")),
        ({"root_delay": 0xFFFF_FFFF}, NtpRefusal("distance", "32768.2 s")),
    ],
)
def test_what_is_refused_and_why(changes, refusal):
    assert decode_answer(answer(**changes), COOKIE, NOW_S) == refusal


def test_a_kiss_that_does_not_repeat_the_cookie_is_nobodys():
    """Else anybody could silence our servers."""
    forged = answer(stratum=0, name=0x44454E59, origin=0)
    assert decode_answer(forged, COOKIE, NOW_S) == NtpRefusal("origin")


def test_extension_fields_after_the_packet_are_let_be():
    assert isinstance(decode_answer(answer() + bytes(20), COOKIE, NOW_S), Answer)


@given(st.binary(max_size=100))
def test_no_bytes_do_harm(data):
    found = decode_answer(data, COOKIE, NOW_S)
    assert isinstance(found, NtpRefusal)
    assert found.code in {"short", "not_an_answer", "origin"}


@given(st.floats(0.0, 2.0 * ERA_S), st.floats(-2e9, 2e9))
def test_timestamps_are_read_in_the_era_that_is_near(utc_s, away_s):
    """2036-02-07 is the first day of era 1; a clock that is right within 63 years will do."""
    assert unix_s(ntp_timestamp(utc_s), utc_s + away_s) == pytest.approx(utc_s, abs=2e-6)


def test_the_last_second_of_era_0_and_the_first_of_era_1():
    end_s = ERA_S - 2_208_988_800
    assert ntp_timestamp(end_s - 1.0) >> 32 == 0xFFFF_FFFF
    assert ntp_timestamp(end_s + 0.5) == 1 << 31
    assert unix_s(1 << 31, end_s - 100.0) == end_s + 0.5
