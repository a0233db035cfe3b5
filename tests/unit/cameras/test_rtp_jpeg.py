"""JPEG out of RTP packets (RFC 2435): rebuilt with the camera's own tables (issue 6, RTSP)."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cameras.frame import read_jpeg
from connectors.cameras.rtp import AccessUnit, Lost, Ordered, Packet, Sequencer
from connectors.cameras.rtp_jpeg import (
    CHROMA,
    LUMA,
    JpegDepacketizer,
    parse_piece,
    scaled_tables,
)
from connectors.cameras.simulated_rtsp_media import payloads

MIB = 1 << 20


def picture(quality=75, width=64, height=48, seed=1, subsampling="420"):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    pixels = small.repeat(8, axis=0).repeat(8, axis=1)
    pixels += rng.integers(0, 20, pixels.shape, dtype=np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling)


def packets_of(jpegs, start=0):
    made = []
    for number, jpeg in enumerate(jpegs):
        parts = list(payloads("jpeg", [jpeg]))
        for at, part in enumerate(parts):
            sequence, last = (start + len(made)) & 0xFFFF, at == len(parts) - 1
            made.append(Packet(sequence, number * 3_000, last, 26, 1, part, float(number)))
    return made


def run(packets, window=0, **more):
    sequencer = Sequencer(window)
    depacketizer = JpegDepacketizer(**({"max_bytes": MIB} | more))
    return [e for p in packets for o in sequencer.push(p) for e in depacketizer.push(o)]


def same(left, right):
    return np.array_equal(simplejpeg.decode_jpeg(left), simplejpeg.decode_jpeg(right))


def changed(packets, change):
    return [p._replace(payload=change(p.payload)) for p in packets]


@settings(max_examples=30)
@given(st.integers(1, 100), st.integers(1, 40), st.integers(1, 30))
def test_every_pixel_comes_through(quality, columns, rows):
    """Nothing is compressed a second time: the decoded picture is the same, pixel by pixel."""
    sent = picture(quality, columns * 8, rows * 8)
    (got,) = run(packets_of([sent]))
    frame = read_jpeg(got.data)
    assert (frame.width_px, frame.height_px) == (columns * 8, rows * 8)
    assert same(got.data, sent)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 99])
def test_the_standard_tables_are_scaled_as_the_rfc_says(quality):
    """RFC 2435, 4.2: libjpeg scales them by the same rule, so its picture is the witness."""
    sent = picture(quality)
    tables = scaled_tables(quality)
    assert tables in b"".join((sent[25:89], sent[94:158]))

    def without_tables(payload):
        at = 8 + (4 + 128 if payload[1:4] == bytes(3) else 0)
        return payload[:5] + bytes([quality]) + payload[6:8] + payload[at:]

    (got,) = run(changed(packets_of([sent]), without_tables))
    assert same(got.data, sent)
    assert scaled_tables(50) == LUMA + CHROMA


def test_tables_sent_once_hold_for_the_pictures_after():
    """RFC 2435, 3.1.8: a length of 0 means the tables of the same Q that came before."""
    pictures = [picture(seed=n) for n in range(3)]

    def as_q_200(payload):
        return payload[:5] + bytes([200]) + payload[6:]

    packets = changed(packets_of(pictures), as_q_200)
    later = [
        p._replace(payload=p.payload[:10] + b"\x00\x00" + p.payload[12 + 128 :])
        if p.timestamp and p.payload[1:4] == bytes(3)
        else p
        for p in packets
    ]
    got = run(later)
    assert all(same(e.data, sent) for e, sent in zip(got, pictures, strict=True))
    (lost,) = run([p for p in later if p.timestamp == 3_000])
    assert "tables" in lost.why


def test_other_sampling_and_restart_markers():
    sent = picture(subsampling="422")
    packets = changed(packets_of([sent]), lambda p: p[:4] + b"\x00" + p[5:])
    (got,) = run(packets)
    assert same(got.data, sent)
    assert simplejpeg.decode_jpeg_header(got.data)[3] == "422"
    with_restart = changed(
        packets_of([picture()]), lambda p: p[:4] + b"\x41" + p[5:8] + b"\x00\x04\xff\xff" + p[8:]
    )
    (got,) = run(with_restart)
    assert b"\xff\xdd\x00\x04\x00\x04" in got.data


def test_a_picture_too_wide_for_the_header_takes_its_size_from_the_sdp():
    sent = picture(width=64, height=48)
    packets = changed(packets_of([sent]), lambda p: p[:6] + b"\x00\x00" + p[8:])
    (got,) = run(packets, size_px=(64, 48))
    assert same(got.data, sent)
    assert isinstance(run(packets)[0], Lost)


def test_an_end_marker_in_the_scan_is_not_doubled():
    packets = packets_of([picture()])
    packets[-1] = packets[-1]._replace(payload=packets[-1].payload + b"\xff\xd9")
    (got,) = run(packets)
    assert not got.data.endswith(b"\xff\xd9\xff\xd9")


def test_a_picture_that_grows_too_long_is_dropped():
    lost, good = run(packets_of([picture(100, 640, 480), picture()]), max_bytes=65_536)
    assert "longer" in lost.why
    assert isinstance(good, AccessUnit)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.data())
def test_never_a_picture_that_was_not_sent(sizes, data):
    """Packets are lost, doubled and late: what comes out decodes to what was sent."""
    jpegs = [picture(90, 64 * size, 48, seed=n) for n, size in enumerate(sizes)]
    fates = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=40)
    )
    sent = [
        (n + late, n, packet)
        for n, packet in enumerate(packets_of(jpegs, 65_500))
        for times, late in [fates[n % len(fates)]]
        for _ in range(times)
    ]
    got = run([packet for _, _, packet in sorted(sent, key=lambda s: s[:2])], window=8)
    pictures = [e for e in got if isinstance(e, AccessUnit)]
    assert [e.ticks for e in pictures] == sorted({e.ticks for e in pictures})
    assert all(same(e.data, jpegs[e.ticks // 3_000]) for e in pictures)


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans(), st.integers(0, 3), st.booleans())))
def test_garbage_never_raises(packets):
    depacketizer = JpegDepacketizer(max_bytes=65_536)
    for n, (body, marker, timestamp, gap) in enumerate(packets):
        list(depacketizer.push(Ordered(Packet(n, timestamp, marker, 26, 1, body, 0.0), gap)))


@given(st.binary(max_size=300))
def test_any_payload_is_read_or_refused(payload):
    parse_piece(payload)
