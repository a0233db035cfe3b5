"""The current group of pictures, and which one a shutter takes (issue 6, warm sessions)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtp import AccessUnit, Lost
from connectors.cameras.rtp_clock import Shutter
from connectors.cameras.rtp_gop import MAX_GOP_PICTURES, Gop, Stream
from connectors.cameras.rtsp_sdp import Video

VIDEO = Video("h264", 96, 90_000, (), (0, 0), "rtsp://h/x")


def picture(number, *, key=False, size=10):
    return AccessUnit(number * 3_600, number / 25, key, bytes(size))


def packet(number, kind, *, sequence=None, marker=True):
    sequence = number if sequence is None else sequence
    head = bytes([0x80, 96 | (0x80 if marker else 0)]) + (sequence & 0xFFFF).to_bytes(2, "big")
    return head + (number * 3_600).to_bytes(4, "big") + b"ssrc" + bytes([kind]) + b"\x80body"


def stream(video=VIDEO, latency_s=0.0):
    return Stream(video, udp=False, max_bytes=1 << 20, latency_s=latency_s)


def play(one, numbers, gop=10):
    for number in numbers:
        one.receive_rtp(packet(number, 5 if number % gop == 0 else 1), number / 25)


def shutter(number):
    return Shutter(number / 25, 1_795_433_700_000.0)


# --- the group ------------------------------------------------------------------------------------


def test_a_group_begins_with_its_key_frame():
    gop = Gop(1_000)
    for number in range(8):
        gop.add(picture(number, key=number in {2, 5}))
    assert [one.ticks // 3_600 for one in gop.units] == [5, 6, 7]
    assert gop.size == 30


def test_a_loss_breaks_the_chain_until_the_next_key_frame():
    gop = Gop(1_000)
    for event in (picture(0, key=True), Lost("x"), picture(2)):
        gop.add(event)
    assert gop.units == []
    gop.add(picture(3, key=True))
    assert len(gop.units) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 400))))
def test_a_group_stays_within_its_bounds_and_can_be_decoded(events):
    gop = Gop(1_000)
    for number, (key, lost, size) in enumerate(events):
        gop.add(Lost("x") if lost else picture(number, key=key, size=size))
        assert gop.size == sum(len(one.data) for one in gop.units) <= 1_000
        assert not gop.units or gop.units[0].key
        ticks = [one.ticks for one in gop.units]
        assert ticks == [ticks[0] + 3_600 * n for n in range(len(ticks))], "none is missing"


def test_a_group_without_an_end_is_given_up():
    gop = Gop(1 << 30)
    gop.add(picture(0, key=True))
    for number in range(1, MAX_GOP_PICTURES + 2):
        gop.add(picture(number))
    assert gop.units == []


# --- a shutter ------------------------------------------------------------------------------------


def test_the_first_picture_after_the_shutter_with_all_before_it():
    one = stream()
    play(one, range(40, 48))
    choice = one.choose(shutter(44.5))
    assert [u.ticks // 3_600 for u in choice.units] == [40, 41, 42, 43, 44, 45]
    assert choice.camera_ms is None
    assert one.choose(shutter(47.5)) is None, "nothing newer has come"


def test_a_key_frame_after_the_shutter_is_enough():
    one = stream()
    play(one, range(45, 55))
    (unit,) = one.choose(shutter(48.5)).units
    assert unit.key
    assert unit.ticks // 3_600 == 50


def test_who_comes_in_the_middle_waits_for_a_key_frame():
    one = stream()
    play(one, range(41, 50))
    assert one.wants_key
    assert one.choose(shutter(41)) is None
    play(one, [50])
    assert not one.wants_key
    assert one.choose(shutter(41)) is not None


def test_a_lost_packet_is_counted_and_named():
    one = stream()
    play(one, [40, 41, 43])
    assert (one.lost, one.last_lost) == (1, "packets are missing between pictures")
    assert one.wants_key


def test_packets_of_another_payload_type_are_none_of_ours():
    one = stream(dataclasses.replace(VIDEO, payload_type=97))
    play(one, range(40, 45))
    assert one.packets == 0


def test_a_report_of_another_source_says_nothing():
    one = stream()
    play(one, range(40, 45))
    fields = (
        b"xxxx" + (3_904_422_500).to_bytes(4, "big") + bytes(4) + (44 * 3_600).to_bytes(4, "big")
    )
    report = b"\x80\xc8\x00\x06" + fields + bytes(8)
    assert not one.receive_rtcp(report)
    assert one.receive_rtcp(report.replace(b"xxxx", b"ssrc"))
    taken_ms = (3_904_422_500 - 2_208_988_800) * 1000
    late = Shutter(43.5 / 25, taken_ms - 20)
    assert one.choose(late).camera_ms == taken_ms


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
@given(st.lists(st.binary(max_size=50), max_size=30))
def test_garbage_never_raises(codec, packets):
    one = stream(dataclasses.replace(VIDEO, codec=codec))
    for number, data in enumerate(packets):
        one.receive_rtp(b"\x80\x60" + data, number / 25)
        one.receive_rtcp(data)
        one.choose(shutter(0))
