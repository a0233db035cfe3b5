"""H.264 and H.265 out of RTP packets: whole pictures only (issue 6, RTSP)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtp import AccessUnit, Lost, Ordered, Packet, Sequencer
from connectors.cameras.rtp_h26x import RULES, START_CODE, NalDepacketizer
from connectors.cameras.simulated_rtsp_media import payloads

CODECS = ("h264", "h265")
MIB = 1 << 20


def unit(codec, kind, body=b"\x80body"):
    return bytes([kind | 0x60]) + body if codec == "h264" else bytes([kind << 1, 1]) + body


def slice_of(codec, *, key=False, first=True, body=b"body"):
    kind = (5 if key else 1) if codec == "h264" else (19 if key else 1)
    return unit(codec, kind, (b"\x80" if first else b"\x00") + body)


def sets_of(codec, mark=b""):
    kinds = (7, 8) if codec == "h264" else (32, 33, 34)
    return [unit(codec, kind, b"set" + mark) for kind in kinds]


def packets_of(codec, pictures, start=0):
    """Return the packets of pictures (lists of NAL units), numbered and timed."""
    made = []
    for number, units in enumerate(pictures):
        parts = list(payloads(codec, units))
        for at, part in enumerate(parts):
            sequence = (start + len(made)) & 0xFFFF
            last = at == len(parts) - 1
            made.append(Packet(sequence, number * 3_000, last, 96, 1, part, float(number)))
    return made


def run(codec, packets, sets=(), max_bytes=MIB, window=0):
    sequencer = Sequencer(window)
    depacketizer = NalDepacketizer(codec, sets, max_bytes=max_bytes)
    return [e for p in packets for o in sequencer.push(p) for e in depacketizer.push(o)]


def single(codec, *bodies, **more):
    """Push payloads as one picture."""
    count = len(bodies)
    packets = [Packet(n, 0, n == count - 1, 96, 1, body, 0.0) for n, body in enumerate(bodies)]
    return run(codec, packets, **more)


def annex_b(units):
    return b"".join(START_CODE + one for one in units)


@pytest.mark.parametrize("codec", CODECS)
def test_a_picture_of_one_packet(codec):
    one = slice_of(codec, key=True)
    assert single(codec, one) == [AccessUnit(0, 0.0, True, annex_b([one]))]


@pytest.mark.parametrize("codec", CODECS)
def test_the_sdps_parameter_sets_stand_before_a_key_frame_only(codec):
    sets = sets_of(codec)
    pictures = [[slice_of(codec, key=True)], [slice_of(codec)]]
    key, other = run(codec, packets_of(codec, pictures), sets)
    assert key.data == annex_b([*sets, *pictures[0]])
    assert other.data == annex_b(pictures[1])
    assert (key.key, other.key) == (True, False)


@pytest.mark.parametrize("codec", CODECS)
def test_sets_in_the_stream_replace_those_of_the_sdp(codec):
    new = sets_of(codec, b"new")
    pictures = [[*new, slice_of(codec, key=True)], [slice_of(codec, key=True)]]
    first, second = run(codec, packets_of(codec, pictures), sets_of(codec))
    assert first.data == annex_b(pictures[0]), "its own sets once, the SDP's not at all"
    assert second.data == annex_b([*new, *pictures[1]])


@pytest.mark.parametrize("codec", CODECS)
def test_sets_that_come_alone_are_kept(codec):
    """Some cameras set the marker on each packet, also on those of parameter sets."""
    sets = sets_of(codec)
    pictures = [[one] for one in sets] + [[slice_of(codec, key=True)]]
    (key,) = run(codec, packets_of(codec, pictures))
    assert key.data == annex_b([*sets, *pictures[-1]])


@pytest.mark.parametrize("codec", CODECS)
def test_aggregated_units_are_taken_apart(codec):
    units = [*sets_of(codec), slice_of(codec, key=True)]
    head = bytes([24]) if codec == "h264" else bytes([48 << 1, 1])
    body = b"".join(len(one).to_bytes(2, "big") + one for one in units)
    assert single(codec, head + body) == [AccessUnit(0, 0.0, True, annex_b(units))]
    (lost,) = single(codec, head + body[:-1])
    assert "cut" in lost.why


@pytest.mark.parametrize("codec", CODECS)
def test_a_picture_may_end_without_a_marker(codec):
    pictures = [[slice_of(codec, key=True)], [slice_of(codec)]]
    packets = [p._replace(marker=False) for p in packets_of(codec, pictures)]
    assert [e.data for e in run(codec, packets)] == [annex_b(pictures[0])]


@pytest.mark.parametrize("codec", CODECS)
def test_what_cannot_be_whole_is_lost(codec):
    large = slice_of(codec, body=b"x" * 5_000)
    parts = list(payloads(codec, [large]))
    assert len(parts) == 5
    whole = slice_of(codec)
    for bodies, why in (
        (parts[1:], "no beginning"),
        (parts[:-1], "no end"),
        ([*parts[:-1], whole], "no end"),
        ([*parts[:2], parts[0]], "no end"),
        ([slice_of(codec, first=False)], "first slice"),
        ([whole[:1]], "empty"),
        ([unit(codec, 29 if codec == "h264" else 50)], "type"),
    ):
        (lost,) = single(codec, *bodies)
        assert isinstance(lost, Lost), bodies
        assert why in lost.why


@pytest.mark.parametrize("codec", CODECS)
def test_a_picture_that_grows_too_long_is_dropped_and_the_next_one_is_not(codec):
    pictures = [[slice_of(codec, body=b"x" * 90_000)], [slice_of(codec, key=True)]]
    lost, good = run(codec, packets_of(codec, pictures), max_bytes=65_536)
    assert "longer" in lost.why
    assert good.key


@pytest.mark.parametrize("codec", CODECS)
def test_an_endless_picture_holds_little(codec):
    depacketizer = NalDepacketizer(codec, max_bytes=65_536)
    begin, part, *_ = payloads(codec, [slice_of(codec, body=b"x" * 5_000)])
    for n, body in enumerate(itertools.chain([begin], itertools.repeat(part, 1_000))):
        packet = Packet(n, 0, False, 96, 1, body, 0.0)
        assert list(depacketizer.push(Ordered(packet, False))) == []
    held = depacketizer._picture
    assert held.fragment is None
    assert held.units == []


def test_a_key_frame_of_h265_is_any_random_access_point():
    for kind in range(32):
        (picture,) = single("h265", unit("h265", kind))
        assert picture.key == (16 <= kind <= 21)


sizes = st.integers(0, 4_000)
pictures_of = st.lists(st.lists(sizes, min_size=1, max_size=4), min_size=1, max_size=12)


def made(codec, sizes_of_pictures):
    """Return pictures of slices, each with its own content, every fifth one a key frame."""
    return [
        [
            slice_of(codec, key=n % 5 == 0, first=at == 0, body=bytes([n, at]) * (size // 2))
            for at, size in enumerate(sizes)
        ]
        for n, sizes in enumerate(sizes_of_pictures)
    ]


@pytest.mark.parametrize("codec", CODECS)
@given(pictures_of, st.integers(0, 0xFFFF))
def test_what_was_cut_into_packets_comes_out_again(codec, sizes_of_pictures, start):
    pictures = made(codec, sizes_of_pictures)
    got = run(codec, packets_of(codec, pictures, start))
    assert [(e.key, e.data, e.ticks, e.at_s) for e in got] == [
        (n % 5 == 0, annex_b(units), n * 3_000, float(n)) for n, units in enumerate(pictures)
    ]


@pytest.mark.parametrize("codec", CODECS)
@given(pictures_of, st.data())
def test_never_a_picture_that_was_not_sent(codec, sizes_of_pictures, data):
    """Packets are lost, doubled and late: what comes out was sent so, in its order; and a loss
    between two pictures is said."""
    pictures = made(codec, sizes_of_pictures)
    fates = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60)
    )
    sent = [
        (n + late, n, packet)
        for n, packet in enumerate(packets_of(codec, pictures, 65_500))
        for times, late in [fates[n % len(fates)]]
        for _ in range(times)
    ]
    got = run(codec, [packet for _, _, packet in sorted(sent, key=lambda s: s[:2])], window=8)
    numbers = [e.ticks // 3_000 for e in got if isinstance(e, AccessUnit)]
    assert numbers == sorted(set(numbers))
    for event in got:
        if isinstance(event, AccessUnit):
            assert event.data == annex_b(pictures[event.ticks // 3_000])
    previous = None
    for event in got:
        if isinstance(event, Lost):
            previous = None
        else:
            number = event.ticks // 3_000
            assert previous is None or number == previous + 1, "a picture is missing, unsaid"
            previous = number


@pytest.mark.parametrize("codec", CODECS)
@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans(), st.integers(0, 3), st.booleans())))
def test_garbage_never_raises(codec, packets):
    depacketizer = NalDepacketizer(codec, [b"", b"\x67"], max_bytes=65_536)
    for n, (body, marker, timestamp, gap) in enumerate(packets):
        list(depacketizer.push(Ordered(Packet(n, timestamp, marker, 96, 1, body, 0.0), gap)))


@pytest.mark.parametrize("codec", CODECS)
def test_the_rules_agree_with_the_table(codec):
    """The table of the docstring."""
    rules = RULES[codec]
    assert (rules.aggregated, rules.fragment) == ((24, 28) if codec == "h264" else (48, 49))
    assert not set(rules.slices) & rules.sets
    assert set(rules.keys) <= set(rules.slices)
