"""RTP packets and their order (RFC 3550): reordered, lost, doubled, strange (issue 6, RTSP)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtp import Packet, Sequencer, parse_packet, unwrap


def packet(sequence, timestamp=0, ssrc=1):
    return Packet(sequence & 0xFFFF, timestamp, False, 96, ssrc, b"x", 0.0)


def run(sequencer, packets):
    return [(o.packet.sequence, o.gap) for p in packets for o in sequencer.push(p)]


def wire(*, first=0x80, second=96, sequence=7, timestamp=9, ssrc=5, rest=b"payload"):
    head = bytes([first, second]) + sequence.to_bytes(2, "big")
    return head + timestamp.to_bytes(4, "big") + ssrc.to_bytes(4, "big") + rest


# --- one packet -----------------------------------------------------------------------------------


def test_a_packet_is_read():
    assert parse_packet(wire(second=0x80 | 96), 1.5) == Packet(7, 9, True, 96, 5, b"payload", 1.5)


@pytest.mark.parametrize(
    ("first", "rest", "payload"),
    [
        (0x82, b"12345678payload", b"payload"),  # two contributing sources
        (0x90, b"\xbe\xde\x00\x01wordpayload", b"payload"),  # an extension of one word
        (0xA0, b"payload\x00\x00\x03", b"payload"),  # three bytes of padding
    ],
)
def test_what_stands_around_the_payload_is_taken_off(first, rest, payload):
    assert parse_packet(wire(first=first, rest=rest), 0.0).payload == payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        wire()[:11],
        wire(rest=b""),
        wire(first=0x40),  # version 1
        wire(first=0x8F, rest=b"short"),
        wire(first=0x90, rest=b"\x00\x00"),
        wire(first=0x90, rest=b"\x00\x00\xff\xffword"),
        wire(first=0xA0, rest=b"payload\x00"),
        wire(first=0xA0, rest=b"payload\xff"),
    ],
)
def test_what_is_no_packet_is_none(data):
    assert parse_packet(data, 0.0) is None


@given(st.binary(max_size=64))
def test_garbage_never_raises(data):
    parse_packet(data, 0.0)


@given(st.integers(0, 2**40), st.integers(-(2**31) + 1, 2**31 - 1))
def test_a_timestamp_is_unwrapped_to_the_nearest(near, step):
    assert unwrap((near + step) & 0xFFFF_FFFF, near) == near + step


# --- their order ----------------------------------------------------------------------------------


def test_the_worked_example():
    """The docstring of rtp.py."""
    sequencer = Sequencer(32)
    assert run(sequencer, [packet(7)]) == [(7, False)]
    assert run(sequencer, [packet(9)]) == []
    assert run(sequencer, [packet(8)]) == [(8, False), (9, False)]
    assert run(sequencer, [packet(11)]) == []
    assert run(sequencer, [packet(12, timestamp=1)]) == [(11, True), (12, False)]


def test_without_a_window_a_gap_is_known_at_once():
    assert run(Sequencer(0), [packet(1), packet(3)]) == [(1, False), (3, True)]


def test_late_and_doubled_packets_are_left_out():
    sent = [packet(n) for n in (1, 2, 2, 1, 3, 3)]
    assert run(Sequencer(32), sent) == [(1, False), (2, False), (3, False)]


def test_a_stray_packet_changes_nothing():
    """RFC 3550, A.1: a strange number is believed when its successor comes."""
    sent = [packet(1), packet(30_000), packet(2), packet(9, ssrc=2), packet(3)]
    assert run(Sequencer(32), sent) == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize(("start", "ssrc"), [(30_000, 1), (40_000, 1), (2, 2)])
def test_a_camera_that_begins_anew_is_followed(start, ssrc):
    sent = [packet(1), packet(2), *(packet(start + n, ssrc=ssrc) for n in range(3))]
    got = run(Sequencer(32), sent)
    assert got == [(1, False), (2, False), (start + 1, True), (start + 2, False)]


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.integers(0, 20), min_size=1, max_size=200),
)
def test_reordering_inside_the_window_is_undone(start, delays):
    """Each packet is late by less than the window: all come out, in order, without a gap."""
    sent = sorted(range(1, len(delays) + 1), key=lambda n: (n + delays[n - 1], n))
    got = run(Sequencer(32), [packet(start), *(packet(start + n) for n in sent)])
    assert got == [((start + n) & 0xFFFF, False) for n in range(len(delays) + 1)]


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 4)), max_size=300),
    st.integers(0, 40),
)
def test_whatever_is_lost_or_doubled_the_order_holds_and_gaps_are_marked(start, fates, window):
    """A packet is lost or not, sent some times, late by some places; pictures of ten packets."""
    sent = [(0, 0)]
    for n, (lost, times, late) in enumerate(fates, 1):
        sent += [] if lost else [(n + late + copy, n) for copy in range(times)]
    sequencer = Sequencer(window)
    numbers = [n for _, n in sorted(sent)]
    got = []
    for n in numbers:
        got += run(sequencer, [packet(start + n, timestamp=n // 10)])
        assert len(sequencer) <= window
    offsets = [(sequence - start) & 0xFFFF for sequence, _ in got]
    assert offsets == sorted(set(offsets))
    for before, after, (_, gap) in zip(offsets, offsets[1:], got[1:], strict=False):
        assert gap == (after != before + 1)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 3), st.integers(0, 2))))
def test_any_numbers_are_taken_and_little_is_held(packets):
    sequencer = Sequencer(8)
    for sequence, timestamp, ssrc in packets:
        list(sequencer.push(packet(sequence, timestamp, ssrc)))
        assert len(sequencer) <= 8
