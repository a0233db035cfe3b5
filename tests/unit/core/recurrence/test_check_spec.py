"""Which specs are refused, and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
from streams.core.recurrence import check_spec, describe, warnings
from streams.core.schedule import validate_schedule

NOON = ScheduleSpec("cron", expression="0 12 * * *")
HOURLY = ScheduleSpec("interval", every_ms=3_600_000)


def interval(**changes) -> ScheduleSpec:
    return ScheduleSpec("interval", every_ms=3_600_000, **changes)


@pytest.mark.parametrize(
    "spec",
    [
        NOON,
        HOURLY,
        ScheduleSpec("sun", expression="Sunrise + 1h30m"),
        ScheduleSpec("calendar", expression="FREQ=DAILY", from_ms=0),
        interval(zone="Europe/Paris", exclude=(Exclusion("night", hours="22:00..06:00"),)),
        interval(also=(Term("sun", expression="noon"), Term("once", at_ms=5))),
        interval(daylight="dawn..dusk+10m", from_ms=5, until_ms=6_000_000, max_count=3),
        interval(max_count=1_000_000_000),
    ],
)
def test_good_specs_are_taken(spec):
    assert check_spec(spec) is None
    assert validate_schedule(spec, CapturePolicy()) is None


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        (ScheduleSpec("monthly"), "unknown_kind", ["'monthly'", "'cron'"]),
        (ScheduleSpec("cron", every_ms=5, expression="* * * * *"), "bad_every_ms", ["cron", "interval"]),
        (ScheduleSpec("cron", at_ms=5, expression="* * * * *"), "bad_at_ms", ["once"]),
        (ScheduleSpec("cron"), "bad_expression", ["no expression"]),
        (interval(expression="* * * * *"), "bad_expression", ["'* * * * *'", "'cron'"]),
        (interval(zone="Europe/Berln"), "bad_zone", ["'Europe/Berln'", "Europe/Paris"]),
        (interval(zone="berlin"), "bad_zone", ["did you mean Europe/Berlin?"]),
        (interval(also=(Term("cron", expression="x"),)), "bad_also", ["term 1", "1 fields"]),
        (interval(also=(Term("interval", every_ms=1),)), "bad_also", ["term 1", "100"]),
        (interval(also=(Term("once", at_ms=5),) * 16), "bad_also", ["16", "at most 15"]),
        (interval(exclude=(Exclusion("hols"),)), "bad_exclude", ["'hols'", "empty"]),
        (interval(exclude=(Exclusion(dates=(20260229,)),)), "bad_exclude", ["20260229", "20261224"]),
        (interval(exclude=(Exclusion(weekdays="saturday"),)), "bad_exclude", ["'saturday'", "sat,sun"]),
        (interval(exclude=(Exclusion(hours="6-22"),)), "bad_exclude", ["'6-22'", "22:00-06:00"]),
        (interval(exclude=(Exclusion(hours="06:00-06:00"),)), "bad_exclude", ["not empty"]),
        (interval(exclude=(Exclusion(hours="24:00-06:00"),)), "bad_exclude", ["'24:00-06:00'"]),
        (interval(exclude=(Exclusion(hours="1"),) * 33), "bad_exclude", ["33", "32"]),
        (interval(exclude=(Exclusion(dates=(20260101,) * 1_001),)), "bad_exclude", ["1000"]),
        (interval(exclude=(Exclusion(weekdays="mon-sun"),)), "never_due", ["exclusions"]),
        (interval(from_ms=10, until_ms=10), "bad_until_ms", ["window is empty"]),
        (interval(from_ms=-1), "bad_from_ms", ["-1"]),
        (interval(until_ms=2**61), "bad_until_ms", [str(2**61)]),
        (interval(max_count=0), "bad_max_count", ["0 is below 1"]),
        (interval(max_count=10_001, from_ms=5), "bad_max_count", ["10001", "10000"]),
        (interval(daylight="06:00..sunset"), "bad_daylight", ["'06:00'", "sunrise"]),
        (interval(daylight="sunrise"), "bad_daylight", ["two sun events"]),
        (interval(daylight="sunrise-13h..sunset"), "bad_daylight", ["12h"]),
        (ScheduleSpec("sun", expression="moonrise"), "bad_expression", ["'moonrise'", "dusk"]),
        (ScheduleSpec("sun", expression="sunrise+5"), "bad_expression", ["'sunrise+5'"]),
    ],
)  # fmt: skip
def test_bad_specs_are_refused_by_field_with_what_is_expected(spec, code, said):
    refusal = check_spec(spec)
    assert refusal is not None
    assert refusal.code == code
    for word in said:
        assert word in refusal.reason, refusal.reason
    assert validate_schedule(spec, CapturePolicy()) == refusal


@pytest.mark.parametrize(
    ("spec", "policy", "code", "said"),
    [
        (ScheduleSpec("cron", expression="* * * * * *"), CapturePolicy(lead_ms=100_001), "bad_lead_ms", ["100000"]),
        (ScheduleSpec("cron", expression="*/5 * * * *"), CapturePolicy(spread_ms=300_001), "bad_spread_ms", ["300000", "usual distance"]),
        (NOON, CapturePolicy(spread_ms=3_600_001), "bad_spread_ms", ["3600000"]),
        (interval(also=(Term("cron", expression="* * * * *"),)), CapturePolicy(spread_ms=60_001), "bad_spread_ms", ["60000"]),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_fit_the_times_is_refused(spec, policy, code, said):
    refusal = validate_schedule(spec, policy)
    assert refusal is not None
    assert refusal.code == code
    for word in said:
        assert word in refusal.reason, refusal.reason


CRONISH = st.lists(
    st.text(alphabet="0123456789*/,-?LW#monfri@ \u0664", max_size=6), min_size=4, max_size=7
).map(" ".join)
RULEISH = st.lists(
    st.sampled_from(
        ["FREQ=DAILY", "FREQ=YEARLY", "BYDAY=1MO,TU", "BYDAY=99MO", "BYSETPOS=-400", "COUNT=10000",
         "UNTIL=20270101T000000Z", "UNTIL=1", "BYMONTHDAY=-31", "BYHOUR=", "INTERVAL=1000", "WKST=XX",
         "DTSTART:20260101", "DTSTART;TZID=Asia/Tokyo:20260101T000000", "RRULE:", "=", ";;", "BYMONTH=2"]
    ), max_size=6,
).map(";".join)  # fmt: skip
SUNNISH = st.text(alphabet="sunriedawk+-0123hm. ", max_size=14)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["cron", "calendar", "sun", "interval", "once", "?"]),
    st.text(max_size=20) | CRONISH | RULEISH | SUNNISH,
    st.sampled_from(["", "UTC", "Europe/Paris", "../x", "\0"]) | st.text(max_size=8),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["", "sunrise..sunset"]) | SUNNISH,
    st.lists(
        st.builds(
            Exclusion,
            dates=st.lists(st.integers(-(2**63), 2**63 - 1) | st.just(20260101), max_size=2).map(
                tuple
            ),
            weekdays=st.sampled_from(["", "mon-fri", "x"]) | st.text(max_size=4),
            hours=st.sampled_from(["", "22:00-06:00", "24:00-24:00"]) | st.text(max_size=8),
        ),
        max_size=2,
    ),
)
def test_whatever_is_published_is_refused_or_can_be_evaluated(
    kind, text, zone, number, daylight, exclude
):
    """A poison record is policy, not an exception (CONVENTIONS.md 8)."""
    spec = ScheduleSpec(
        kind, expression=text, zone=zone, from_ms=number, daylight=daylight, exclude=tuple(exclude),
        every_ms=3_600_000 if kind == "interval" else None, at_ms=number if kind == "once" else None,
    )  # fmt: skip
    refusal = validate_schedule(spec, CapturePolicy())
    if refusal is None:
        assert describe(spec, CapturePolicy())
        warnings(spec, CapturePolicy(), None, 1_790_000_000_000)
    else:
        assert refusal.reason.endswith((".", "?"))
