"""What is a valid schedule, and when it is due (SPEC 2.1, 2.2; issue 3 'Bad input')."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import (
    CapturePolicy,
    CaptureRequested,
    ScheduleCancelled,
    SchedulePaused,
    ScheduleResumed,
    ScheduleSpec,
    ScheduleUpserted,
)
from streams.core import schedule as schedules
from streams.core.schedule import DAY_MS, first_scheduled_at_or_after, validate
from streams.core.spread import offset_ms

NOW_MS = 1_790_000_000_000
YEAR_MS = 366 * DAY_MS


def interval(
    every_ms=60_000, phase_ms=0, *, request_id="r", device_id="d", schedule_id="s", **policy
):
    spec = ScheduleSpec("interval", every_ms=every_ms, phase_ms=phase_ms)
    return ScheduleUpserted(request_id, device_id, schedule_id, spec, CapturePolicy(**policy), 0)


def once(at_ms=NOW_MS, **policy):
    spec = ScheduleSpec("once", at_ms=at_ms)
    return ScheduleUpserted("r", "d", "s", spec, CapturePolicy(**policy), 0)


def request(at_ms=None, **policy):
    return CaptureRequested("r", "d", at_ms, CapturePolicy(**policy), 0)


GOOD = [
    interval(),
    interval(every_ms=100),
    interval(every_ms=YEAR_MS, phase_ms=YEAR_MS - 1, spread_ms=YEAR_MS),
    interval(every_ms=36_000, lead_ms=3_600_000),
    interval(lead_ms=0, catch_up_ms=0, capture_timeout_ms=100, priority=9),
    interval(catch_up_ms=7 * DAY_MS, capture_timeout_ms=60_000),
    interval(device_id="d" * 256, request_id="ü" * 128, schedule_id="line 3/left"),
    once(),
    once(spread_ms=3_600_000),
    request(),
    request(NOW_MS),
    ScheduleCancelled("r", "d", "s", 0),
    SchedulePaused("r", "d", "s", "", 0),
    SchedulePaused("r", "d", "s", "cleaning the lens", 0),
    ScheduleResumed("r", "d", "s", 0),
]


@pytest.mark.parametrize("event", GOOD, ids=str)
def test_good_events_are_taken(event):
    assert validate(event) is None


BAD = [
    # (event, code, what the sentence must name)
    (interval(every_ms=0), "bad_every_ms", ["0", "100"]),
    (interval(every_ms=-5), "bad_every_ms", ["-5", "100"]),
    (interval(every_ms=99), "bad_every_ms", ["99", "100"]),
    (interval(every_ms=10 * YEAR_MS), "bad_every_ms", [str(10 * YEAR_MS), str(YEAR_MS)]),
    (interval(every_ms=None), "bad_every_ms", ["every_ms"]),
    (interval(phase_ms=60_000), "bad_phase_ms", ["60000", "59999"]),
    (interval(phase_ms=-1), "bad_phase_ms", ["-1"]),
    (interval(lead_ms=-1), "bad_lead_ms", ["-1", "3600000"]),
    (interval(lead_ms=3_600_001), "bad_lead_ms", ["3600001", "3600000"]),
    (interval(every_ms=100, lead_ms=10_001), "bad_lead_ms", ["10001", "10000 ms"]),
    (interval(capture_timeout_ms=99), "bad_capture_timeout_ms", ["99", "60000"]),
    (interval(capture_timeout_ms=60_001), "bad_capture_timeout_ms", ["60001"]),
    (interval(catch_up_ms=-1), "bad_catch_up_ms", ["-1"]),
    (interval(catch_up_ms=7 * DAY_MS + 1), "bad_catch_up_ms", [str(7 * DAY_MS)]),
    (interval(spread_ms=60_001), "bad_spread_ms", ["60001", "60000", "period"]),
    (interval(spread_ms=-1), "bad_spread_ms", ["-1"]),
    (interval(priority=10), "bad_priority", ["10", "9"]),
    (interval(priority=-1), "bad_priority", ["-1"]),
    (once(at_ms=None), "bad_at_ms", ["at_ms"]),
    (once(at_ms=-1), "bad_at_ms", ["-1"]),
    (once(at_ms=1 << 62), "bad_at_ms", [str(1 << 62)]),
    (once(spread_ms=3_600_001), "bad_spread_ms", ["3600001"]),
    (request(at_ms=-1), "bad_at_ms", ["-1"]),
    (request(priority=99), "bad_priority", ["99"]),
    (interval(device_id=""), "bad_device_id", ["empty"]),
    (interval(device_id=" \u00a0"), "bad_device_id", ["blank"]),
    (interval(device_id="d" * 257), "bad_device_id", ["257", "256"]),
    (interval(device_id="x" * 10_240), "bad_device_id", ["10240", "256", "shorten"]),
    (interval(device_id="ü" * 129), "bad_device_id", ["258", "256"]),
    (interval(device_id="cam\0left"), "bad_device_id", ["control", "\\x00"]),
    (interval(device_id="cam\n1"), "bad_device_id", ["control"]),
    (interval(device_id="cam\x85"), "bad_device_id", ["control"]),
    (interval(device_id="cam\ud800"), "bad_device_id", ["Unicode"]),
    (interval(request_id=""), "bad_request_id", ["empty"]),
    (interval(schedule_id=""), "bad_schedule_id", ["empty"]),
    (interval(schedule_id="request/7"), "bad_schedule_id", ["request/"]),
    (ScheduleCancelled("r", "d", "", 0), "bad_schedule_id", ["empty"]),
    (ScheduleResumed("r", "d", "request/7", 0), "bad_schedule_id", ["request/"]),
    (SchedulePaused("r", "d", "s", "x" * 1_001, 0), "bad_reason", ["1000"]),
    (SchedulePaused("r", "d", "s", "\ud800", 0), "bad_reason", ["Unicode"]),
]


@pytest.mark.parametrize(("event", "code", "words"), BAD, ids=lambda v: str(v)[:60])
def test_bad_events_are_refused_with_a_sentence_to_act_on(event, code, words):
    refusal = validate(event)
    assert refusal is not None
    assert refusal.code == code
    for word in words:
        assert word in refusal.reason
    assert refusal.reason.endswith(".")
    assert len(refusal.reason) < 300


def test_an_unknown_kind_names_the_known_ones():
    spec = ScheduleSpec("croon", every_ms=5)
    refusal = validate(ScheduleUpserted("r", "d", "s", spec, CapturePolicy(), 0))
    assert refusal is not None
    assert refusal.code == "unknown_kind"
    for kind in ("croon", *schedules.KINDS):
        assert repr(kind) in refusal.reason


@pytest.mark.parametrize(
    "spec",
    [
        ScheduleSpec("interval", every_ms=1_000, at_ms=5),
        ScheduleSpec("once", every_ms=1_000, at_ms=5),
        ScheduleSpec("once", phase_ms=1, at_ms=5),
    ],
)
def test_fields_of_another_kind_are_refused(spec):
    """A field that would be ignored is a mistake of the sender."""
    assert validate(ScheduleUpserted("r", "d", "s", spec, CapturePolicy(), 0)) is not None


@given(
    st.integers(100, 5_000),
    st.integers(0, 4_999),
    st.integers(0, 5_000),
    st.integers(0, 100_000),
    st.sampled_from(["cam-1", "cam-2", "küche"]),
)
def test_interval_times_are_those_found_by_walking(
    every_ms, phase_ms, spread_ms, time_ms, device_id
):
    """SPEC 2.1: O(1) mathematics against a walk over every millisecond of a period."""
    phase_ms, spread_ms = phase_ms % every_ms, min(spread_ms, every_ms)
    spec = ScheduleSpec("interval", every_ms=every_ms, phase_ms=phase_ms)
    policy = CapturePolicy(spread_ms=spread_ms)
    shift = offset_ms(device_id, spread_ms)
    walked = next(
        t for t in range(time_ms, time_ms + every_ms) if (t - shift - phase_ms) % every_ms == 0
    )
    assert first_scheduled_at_or_after(spec, policy, device_id, time_ms) == walked


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 5_000))
def test_a_single_time_comes_once(at_ms, time_ms, spread_ms):
    spec, policy = ScheduleSpec("once", at_ms=at_ms), CapturePolicy(spread_ms=spread_ms)
    scheduled = at_ms + offset_ms("cam-1", spread_ms)
    found = first_scheduled_at_or_after(spec, policy, "cam-1", time_ms)
    assert found == (scheduled if scheduled >= time_ms else None)
