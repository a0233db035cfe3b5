"""When a picture was taken, and whether that was after the shutter (issue 6, RTSP, freshness)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.cameras.rtp import AccessUnit
from connectors.cameras.rtp_clock import (
    FrameClock,
    SenderReport,
    Shutter,
    is_fresh,
    picture_loss,
    sender_reports,
)

HZ = 90_000
T0_MS = 1_795_433_700_000.0
SHUTTER = Shutter(at_s=100.0, at_ms=T0_MS)
LATENCY_S = 0.1


def report_bytes(ssrc=5, seconds=3_900_000_000, fraction=1 << 31, timestamp=77, blocks=0):
    fields = (ssrc, seconds, fraction, timestamp, 0, 0)
    body = b"".join(value.to_bytes(4, "big") for value in fields) + bytes(24 * blocks)
    return bytes([0x80 | blocks, 200]) + (len(body) // 4).to_bytes(2, "big") + body


def unit(at_s, taken_s=None, way_s=0.15):
    """A picture that came at ``at_s`` and was taken ``way_s`` before."""
    taken_s = at_s - way_s if taken_s is None else taken_s
    return AccessUnit(round(taken_s * HZ), at_s, key=True, data=b"")


def clock_of(units, ahead_ms=None):
    """A clock that has seen pictures; ``ahead_ms``: it reports, and is so far ahead of ours."""
    clock = FrameClock(HZ)
    for one in units:
        clock.seen(one.ticks, one.at_s)
    if ahead_ms is not None:
        ntp_ms = T0_MS + (units[-1].ticks / HZ - SHUTTER.at_s) * 1000 + ahead_ms
        clock.report(SenderReport(5, ntp_ms, units[-1].ticks & 0xFFFF_FFFF))
    return clock


def steady(start_s, count, way_s=0.15):
    return [unit(start_s + n / 10, way_s=way_s) for n in range(count)]


# --- RTCP -----------------------------------------------------------------------------------------


def test_a_sender_report_is_read_out_of_a_compound_packet():
    data = b"\x80\xc9\x00\x01abcd" + report_bytes(blocks=2) + b"\x81\xca\x00\x02" + bytes(8)
    (report,) = sender_reports(data)
    assert report == SenderReport(5, (3_900_000_000 - 2_208_988_800) * 1000 + 500, 77)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", report_bytes()[:-1], b"\x80\xc8\x00\x00", b"\x00" + report_bytes()]
)
def test_a_damaged_report_is_none(data):
    assert list(sender_reports(data)) == []


@given(st.binary(max_size=80))
def test_garbage_never_raises(data):
    list(sender_reports(data))


def test_a_request_for_a_key_frame_names_whose():
    """RFC 4585, 6.3.1, behind the report that each compound packet begins with."""
    assert picture_loss(1, 2).hex() == "80c9000100000001" + "81ce00020000000100000002"


# --- fresh ----------------------------------------------------------------------------------------


def test_the_worked_example():
    """The docstring of rtp_clock.py: the camera's clock is right."""
    clock = clock_of([*steady(98.07, 20), unit(100.07), unit(100.17)], ahead_ms=0)
    assert not is_fresh(unit(100.07), clock, SHUTTER, LATENCY_S)
    assert is_fresh(unit(100.17), clock, SHUTTER, LATENCY_S)


@pytest.mark.parametrize("ahead_ms", [7_200_000, -7_200_000, -2_500, 300, None])
def test_a_clock_that_is_wrong_or_silent_is_not_believed(ahead_ms):
    """Then the picture must come the least latency after the shutter."""
    clock = clock_of(steady(98.05, 25), ahead_ms)
    assert not is_fresh(unit(100.05), clock, SHUTTER, LATENCY_S)
    assert is_fresh(unit(100.15), clock, SHUTTER, LATENCY_S)


@pytest.mark.parametrize("ahead_ms", [0, None, 7_200_000])
def test_what_came_before_the_shutter_is_never_fresh(ahead_ms):
    clock = clock_of(steady(98.0, 25, way_s=0.0), ahead_ms)
    for way_s in (0.0, -0.5, -3.0):
        assert not is_fresh(unit(99.999, way_s=way_s), clock, SHUTTER, 0.0)


def test_pictures_from_a_store_that_come_at_once_are_dated_by_the_newest():
    """A camera that begins with its last ten seconds: none of them is new but the last."""
    burst = [unit(100.18, taken_s=90.05 + n / 10) for n in range(101)]
    clock = clock_of(burst)
    assert not clock.settled
    fresh = [is_fresh(one, clock, SHUTTER, LATENCY_S) for one in burst]
    assert fresh == [False] * 100 + [True]


def test_after_the_network_stood_still_the_backlog_is_old():
    stalled = [unit(101.0, taken_s=99.0 + n / 10) for n in range(20)]
    clock = clock_of([*steady(97.15, 19), *stalled])
    assert clock.settled
    fresh = [is_fresh(one, clock, SHUTTER, LATENCY_S) for one in stalled]
    assert fresh.index(True) == 10, "taken at 100.0, as far as can be told"
    assert all(fresh[10:])


def test_pictures_at_their_pace_settle_the_clock():
    clock = FrameClock(HZ)
    for n, settled in enumerate([False, True, True]):
        clock.seen(n * 9_000, 5.0 + n / 10)
        assert clock.settled == settled
    assert clock.interval_s == pytest.approx(0.1)


def test_a_timestamp_that_jumps_begins_anew():
    clock = clock_of([*steady(98.0, 10), unit(99.1, taken_s=5_000.0)])
    assert not clock.settled
    assert clock.arrival_s(5_000 * HZ) == pytest.approx(99.1)


def test_a_clock_that_runs_slower_is_followed():
    """Crystals drift apart: the smallest wait of an hour ago says nothing about now."""
    clock = FrameClock(HZ)
    for n in range(36_000):  # an hour at ten a second, one part in ten thousand slow
        clock.seen(n * 9_000, n / 10 * 1.0001)
    assert clock.arrival_s(36_000 * 9_000) == pytest.approx(3_600 * 1.0001, abs=0.01)


def test_the_cameras_own_time_crosses_the_wrap():
    clock = FrameClock(HZ)
    clock.seen(2**32 - 4_500, 1.0)
    clock.report(SenderReport(5, T0_MS, 4_500))
    assert clock.camera_ms(2**32 - 4_500) == pytest.approx(T0_MS - 100)


def test_a_clock_that_counts_from_switching_on_is_no_time():
    clock = FrameClock(HZ)
    clock.seen(0, 1.0)
    clock.report(SenderReport(5, 3_600_000.0, 0))
    assert clock.camera_ms(0) is None


@given(
    st.lists(st.floats(0.0, 0.3), min_size=5, max_size=60),
    st.floats(0.02, 0.3),
    st.one_of(st.none(), st.floats(-86_400_000, 86_400_000)),
)
def test_a_picture_taken_before_the_shutter_is_never_fresh(jitters, way_s, ahead_ms):
    """Any jitter, any clock that is right to 20 ms or wrong by seconds, a way as long as the least
    latency at least: what is believed was taken after the shutter."""
    if ahead_ms is not None and abs(ahead_ms) < 2_500:
        ahead_ms /= 1e9  # as good as right
    way_s = max(way_s, LATENCY_S)
    units = []
    for n, jitter in enumerate(jitters):
        taken_s = 98.0 + n / 20
        at_s = max(taken_s + way_s + jitter, units[-1].at_s if units else 0.0)
        units.append(unit(at_s, taken_s=taken_s))
    clock = clock_of(units[:1], ahead_ms)
    for one in units:
        clock.seen(one.ticks, one.at_s)
        if is_fresh(one, clock, SHUTTER, LATENCY_S):
            assert one.ticks / HZ >= SHUTTER.at_s - 0.001
