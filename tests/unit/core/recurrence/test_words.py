"""Schedules in words, and what may surprise in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import CapturePolicy, Exclusion, ScheduleSpec, Term
from streams.core.recurrence import Place, describe, warnings
from streams.core.recurrence.civil import duration_of, duration_text

NOW_MS = 1_790_000_000_000
"""21 September 2026."""
POLICY = CapturePolicy()
PARIS = Place(48.86, 2.35)


def cron(line: str, **changes) -> ScheduleSpec:
    return ScheduleSpec("cron", expression=line, zone="Europe/Paris", **changes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("*/5 6-20 * * mon-fri", "every 5 minutes from 06:00 to 20:55 on weekdays"),
        ("0-55/5 6-20 * * 1-5", "every 5 minutes from 06:00 to 20:55 on weekdays"),
        ("30 8 * * *", "at 08:30 every day"),
        ("30 8,17 * * sat,sun", "at 08:30 and 17:30 on weekends"),
        ("* * * * *", "every minute"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("7 * * * *", "at minute 7 of every hour"),
        ("0 0 13 * 5", "at 00:00 on the 13th or on Friday"),
        ("0 9 LW 1,7 *", "at 09:00 on the last weekday of the month in January and July"),
        ("0 9 L * *", "at 09:00 on the last day"),
        ("0 9 * * fri#2", "at 09:00 on the second Friday"),
        ("0 9 1 6-8 *", "at 09:00 on the 1st from June to August"),
        ("0 9 */1 * 5", "at 09:00 on Friday"),
    ],
)
def test_a_cron_line_in_words(line, words):
    assert describe(cron(line), POLICY) == f"{words}, Europe/Paris"


def rule(text: str) -> ScheduleSpec:
    whole = f"DTSTART:20260101T090000\nRRULE:{text}"
    return ScheduleSpec("calendar", expression=whole, zone="Europe/Paris")


@pytest.mark.parametrize(
    ("spec", "policy", "words"),
    [
        (ScheduleSpec("interval", every_ms=300_000), CapturePolicy(spread_ms=60_000), "every 5 minutes, spread over 60 s"),
        (ScheduleSpec("interval", every_ms=60_000), POLICY, "every minute"),
        (
            ScheduleSpec("interval", every_ms=300_000, daylight="sunrise-30m..sunset"),
            POLICY,
            "every 5 minutes from 30 minutes before sunrise to sunset, at 48.86, 2.35",
        ),
        (
            cron("*/5 6-23 * * *", daylight="dawn..sunset"),
            CapturePolicy(spread_ms=60_000),
            "every 5 minutes from 06:00 to 23:55 every day, only from dawn to sunset, Europe/Paris, at 48.86, 2.35, spread over 60 s",
        ),
        (
            ScheduleSpec("sun", expression="sunrise+30m", also=(Term("sun", expression="noon"),)),
            POLICY,
            "30 minutes after sunrise, and at solar noon, at 48.86, 2.35",
        ),
        (
            ScheduleSpec("interval", every_ms=90_500, exclude=(Exclusion("holidays", (20261225, 20261224)), Exclusion(weekdays="sat", hours="22:00-06:00")), max_count=3),
            POLICY,
            "every 1 minute 30.5 seconds, except on 2026-12-24 and 2026-12-25 (holidays), except on Saturday from 22:00 to 06:00, 3 times, UTC",
        ),
        (ScheduleSpec("once", at_ms=NOW_MS, zone="Asia/Tokyo"), POLICY, "once at 2026-09-21 23:13:20, Asia/Tokyo"),
        (
            ScheduleSpec("calendar", expression="DTSTART;TZID=Europe/Paris:20260105T090000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE"),
            POLICY,
            "every 2 weeks on Monday and Wednesday at 09:00 (Europe/Paris), UTC",
        ),
        (
            ScheduleSpec("calendar", expression="FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17", from_ms=NOW_MS - NOW_MS % 3_600_000),
            POLICY,
            "every month on the last Friday at 17:00, from 2026-09-21 14:00 on, UTC",
        ),
        (rule("FREQ=MINUTELY;INTERVAL=15;BYHOUR=6,7,8;BYDAY=MO,TU"), POLICY, "every 15 minutes from 06:00 to 08:45 on Monday and Tuesday, Europe/Paris"),
        (rule("FREQ=HOURLY;INTERVAL=5;BYMINUTE=0,30;BYMONTH=6"), POLICY, "every 5 hours in June, counted from 2026-01-01 09:00, at minute 0 and 30, Europe/Paris"),
        (rule("FREQ=SECONDLY;INTERVAL=7;BYMINUTE=5"), POLICY, "every 7 seconds, counted from 2026-01-01 09:00, where the minute is 5, Europe/Paris"),
        (rule("FREQ=HOURLY;BYMINUTE=0,20;BYSETPOS=-1"), POLICY, "every hour, counted from 2026-01-01 09:00, at minute 0 and 20, of these the last each time, Europe/Paris"),
        (rule("FREQ=YEARLY;BYWEEKNO=1,2,3,-1;BYDAY=MO"), POLICY, "every year on Monday of weeks 1 to 3 and the last week at 09:00, Europe/Paris"),
        (rule("FREQ=MONTHLY;BYDAY=MO,TU;BYHOUR=6,18;BYSETPOS=2,-3"), POLICY, "every month on Monday and Tuesday at 06:00 and 18:00, of all these times the 2nd and 3rd last, Europe/Paris"),
        (rule("FREQ=DAILY\nEXDATE:20260301T090000\nEXDATE;VALUE=DATE:20260401\nRDATE:20260501T120000"), POLICY, "every day at 09:00, and 2026-05-01 12:00, but not 2026-04-01 and 2026-03-01 09:00, Europe/Paris"),
    ],
)  # fmt: skip
def test_a_spec_in_words(spec, policy, words):
    assert describe(spec, policy, PARIS) == words


@pytest.mark.parametrize(
    ("spec", "place", "said"),
    [
        (cron("30 2 * * *"), None, ["2026-10-25", "02:30 comes twice", "first time only"]),
        (cron("30 2 * * *"), None, ["2027-03-28", "02:30 does not exist", "due at 03:00 instead, once"]),
        (cron("*/7 * * * *"), None, ["no multiple of 7", "4 later"]),
        (cron("0 0 13 * 5"), None, ["either matches"]),
        (cron("0 0 31 * *"), None, ["no day 31", "'L'"]),
        (cron("0 0 29 2 *"), None, ["not due for 525 days"]),
        (cron("* * * * * *"), None, ["close as 1 second", "3 seconds"]),
        (ScheduleSpec("interval", every_ms=1_000), None, ["close as 1 second"]),
        (ScheduleSpec("sun", expression="dawn"), None, ["place is not known"]),
        (ScheduleSpec("sun", expression="sunrise"), Place(69.65, 18.96), ["no sunrise on 118"]),
        (ScheduleSpec("once", at_ms=5), None, ["last time is over"]),
        (rule("FREQ=SECONDLY;INTERVAL=2"), None, ["close as 2 seconds"]),
        (rule("FREQ=HOURLY;BYHOUR=2"), None, ["2027-03-28", "02:00 does not exist"]),
        (rule("FREQ=DAILY\nRDATE:20270328T021500"), None, ["02:15 does not exist"]),
        (rule("FREQ=DAILY;COUNT=2"), None, ["last time is over"]),
        (rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"), None, ["not due for"]),
        (ScheduleSpec("interval", every_ms=60_000, until_ms=NOW_MS), None, ["window of validity is over"]),
        (cron("0 3 * * *", daylight="sunrise..sunset"), PARIS, ["leaves no time"]),
    ],
)  # fmt: skip
def test_what_may_surprise_is_said(spec, place, said):
    found = warnings(spec, POLICY, place, NOW_MS)
    assert any(all(word in one for word in said) for one in found), found


def test_a_window_longer_than_the_period_is_said():
    spec = ScheduleSpec("interval", every_ms=60_000)
    assert warnings(spec, CapturePolicy(catch_up_ms=60_000), None, NOW_MS) == []
    (found,) = warnings(spec, CapturePolicy(catch_up_ms=90_000), None, NOW_MS)
    assert "catch-up window of 1 minute 30 seconds is longer than the 1 minute" in found


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (ScheduleSpec("interval", every_ms=300_000), None),
        (cron("*/5 * * * *"), None),
        (cron("0 9 * * mon-fri"), None),
        (cron("0 0 1 * *"), None),
        (ScheduleSpec("sun", expression="sunrise"), PARIS),
    ],
)
def test_what_is_plain_has_no_warning(spec, place):
    assert warnings(spec, POLICY, place, NOW_MS) == []


@given(st.integers(1, 86_400_000))
def test_a_duration_in_words_can_be_read_back(ms):
    text = duration_text(ms)
    short = {"days": "d", "day": "d", "hours": "h", "hour": "h", "minutes": "m", "minute": "m"}
    short |= {"seconds": "s", "second": "s", "milliseconds": "ms"}
    numbers, units = text.split()[::2], text.split()[1::2]
    total = sum(
        float(n) * (duration_of(f"1{short[u]}") or 0) for n, u in zip(numbers, units, strict=True)
    )
    assert round(total) == ms
