"""Calendar rules against python-dateutil's, and what is refused (RFC 5545)."""

# ruff: noqa: DTZ001 - wall-clock time, as dateutil's rules take it

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.records import ScheduleSpec
from streams.core.recurrence import check_spec, compile_spec
from streams.core.recurrence.civil import DAY_MS, day_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dateutil.rrule import rrulestr

EPOCH = datetime(1970, 1, 1)


def spec(text: str, zone: str = "", from_ms: int | None = None) -> ScheduleSpec:
    return ScheduleSpec("calendar", expression=text, zone=zone, from_ms=from_ms)


def ours(text: str, end: datetime, most: int = 400) -> list[datetime]:
    recurrence = compile_spec(spec(text))
    found = []
    for time_ms in recurrence.between(0, int((end - EPOCH).total_seconds() * 1000)):
        found.append(EPOCH + timedelta(milliseconds=time_ms))
        if len(found) == most:
            break
    return found


def theirs(text: str, end: datetime, most: int = 400) -> list[datetime]:
    rule = rrulestr(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # COUNT with UNTIL: so that what never comes ends
        rule = rule.replace(until=min(end, rule._until or end))
    found = []
    for time in rule:
        if time >= end or len(found) == most:
            break
        found.append(time)
    return found


START = "DTSTART:20260131T093015\n"


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=10;COUNT=5",
        "FREQ=DAILY;UNTIL=20260224T093015",
        "FREQ=DAILY;UNTIL=20260224T093014",
        "FREQ=DAILY;BYMONTH=1;BYHOUR=8,20;BYMINUTE=0,30",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO;COUNT=9",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU;COUNT=9",
        "FREQ=MONTHLY",
        "FREQ=MONTHLY;BYDAY=1FR;COUNT=10",
        "FREQ=MONTHLY;BYDAY=1SU,-1SU;INTERVAL=2;COUNT=10",
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "FREQ=MONTHLY;BYMONTHDAY=2,15,-1",
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "FREQ=MONTHLY;BYDAY=TU,WE,TH;BYSETPOS=3;COUNT=3",
        "FREQ=YEARLY",
        "FREQ=YEARLY;BYMONTH=6,7",
        "FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200,-1",
        "FREQ=YEARLY;BYDAY=20MO",
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
    ],
)
def test_the_examples_of_the_rfc_that_are_in_the_subset(rule):
    end = datetime(2060, 1, 1)
    expected = theirs(START + "RRULE:" + rule, end)
    assert ours(START + "RRULE:" + rule, end) == expected
    assert len(expected) >= 3


DAYS = st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=3, unique=True)  # fmt: skip


@st.composite
def rules(draw) -> str:
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 5))}"]

    def maybe(name: str, values: st.SearchStrategy[list]) -> bool:
        if draw(st.booleans()):
            parts.append(f"{name}={','.join(map(str, draw(values)))}")
            return True
        return False

    def some(low: int, high: int, signed: bool = False) -> st.SearchStrategy[list]:
        number = st.integers(low, high)
        if signed:
            number |= st.integers(-high, -low)
        return st.lists(number, min_size=1, max_size=4, unique=True)

    maybe("BYMONTH", some(1, 12))
    if frequency != "WEEKLY":
        maybe("BYMONTHDAY", some(1, 31, signed=True))
    if frequency == "YEARLY":
        maybe("BYYEARDAY", some(1, 366, signed=True))
    days = draw(st.none() | DAYS)
    if days is not None:
        # Mixed, as in MO,1FR, dateutil wants both to match; the RFC says either, as ours.
        if frequency in {"MONTHLY", "YEARLY"} and draw(st.booleans()):
            days = [f"{draw(st.sampled_from(['1', '2', '-1', '5']))}{day}" for day in days]
        parts.append(f"BYDAY={','.join(days)}")
    if draw(st.booleans()) and len(parts) > 2:
        maybe("BYSETPOS", some(1, 6, signed=True))
    else:
        maybe("BYHOUR", some(0, 23))
        maybe("BYMINUTE", some(0, 59))
    maybe("WKST", st.lists(st.sampled_from(["MO", "WE", "SU"]), min_size=1, max_size=1))
    if draw(st.booleans()):
        parts.append(f"COUNT={draw(st.integers(1, 50))}")
    return ";".join(parts)


@settings(max_examples=150, deadline=None)
@given(
    rules(), st.dates(datetime(1990, 1, 1).date(), datetime(2030, 1, 1).date()), st.integers(0, 23)
)
def test_random_rules_agree_with_dateutil(rule, start, hour):
    """Without zones, where both mean the same; forwards and backwards."""
    text = f"DTSTART:{start:%Y%m%d}T{hour:02}1500\nRRULE:{rule}"
    end = datetime(start.year + 12, 1, 1)
    found = ours(text, end)
    # dateutil looks at UNTIL where it finds a time: a BYSETPOS that never is takes it to year 9999.
    assume(found or "BYSETPOS" not in rule)
    try:
        expected = theirs(text, end)
    except ValueError:  # dateutil finds a BYSETPOS or a combination that cannot be
        assume(False)
        raise
    if "WEEKLY" in rule and "BYSETPOS" in rule:
        # dateutil picks in the first week among the days from the start on; the RFC, as ours,
        # among all of the week's.
        assume("COUNT" not in rule)
        after = datetime(start.year, start.month, start.day) + timedelta(days=7)
        last = min(found[-1], expected[-1])  # either may have one more in the first week
        mine, its = ([t for t in times if after < t <= last] for times in (found, expected))
        assert mine == its
        return
    assert found == expected
    recurrence = compile_spec(spec(text))
    if found:
        back, time_ms = [], int((found[-1] - EPOCH).total_seconds() * 1000) + 1
        for _ in found:
            before = recurrence.before(time_ms)
            assert before is not None
            time_ms = before
            back.append(EPOCH + timedelta(milliseconds=time_ms))
        assert back[::-1] == found
        assert recurrence.before(time_ms) is None


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_a_rule_is_evaluated_in_its_zone_and_meets_dst_by_the_one_rule():
    """Where the RFC would say 03:30, ours says 03:00, as cron lines do."""
    daily = compile_spec(spec("DTSTART;TZID=Europe/Paris:20260327T023000\nRRULE:FREQ=DAILY"))
    found = list(daily.between(at("2026-03-27"), at("2026-03-31")))
    assert found == [at("2026-03-27T01:30"), at("2026-03-28T01:30"), at("2026-03-29T01:00"), at("2026-03-30T00:30")]  # fmt: skip


def test_without_dtstart_the_spec_says_where_it_starts():
    from_ms = at("2026-06-01T07:00")  # 09:00 in Paris
    found = compile_spec(spec("FREQ=DAILY;INTERVAL=3", "Europe/Paris", from_ms))
    assert list(found.between(0, from_ms + 7 * DAY_MS)) == [from_ms, from_ms + 3 * DAY_MS, from_ms + 6 * DAY_MS]  # fmt: skip


def test_a_far_jump_does_not_walk_through_what_lies_between():
    rule = compile_spec(spec("DTSTART:19900101T000000\nRRULE:FREQ=DAILY;BYHOUR=1,2,3"))
    assert rule.at_or_after(day_of(2090, 1, 1) * DAY_MS) == day_of(2090, 1, 1) * DAY_MS + 3_600_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FREQ=DAILY", ["DTSTART", "from_ms"]),
        (START + "RRULE:FREQ=SOMETIMES", ["'SOMETIMES'", "DAILY"]),
        (START + "RRULE:INTERVAL=2", ["FREQ"]),
        (START + "RRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY", ["EXRULE", "exclude"]),
        (START + "RRULE:FREQ=MONTHLY;BYWEEKNO=20", ["BYWEEKNO", "YEARLY"]),
        (START + "RRULE:FREQ=YEARLY;BYWEEKNO=54", ["BYWEEKNO", "'54'", "53"]),
        (START + "RRULE:FREQ=YEARLY;BYWEEKNO=20;BYDAY=1MO", ["BYWEEKNO", "number"]),
        (START + "RRULE:FREQ=HOURLY;BYDAY=1MO", ["BYDAY", "HOURLY"]),
        (START + "RRULE:FREQ=HOURLY;INTERVAL=2;BYHOUR=8", ["never due"]),
        (START + "RRULE:FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=30", ["never due"]),
        (START + "RRULE:FREQ=DAILY\nEXDATE;TZID=Mars/X:20260301T000000", ["Mars/X", "tz data"]),
        (START + "RRULE:FREQ=DAILY\nEXDATE;TZID=Asia/Tokyo:20260301T000000Z", ["TZID", "Z"]),
        (START + "RRULE:FREQ=DAILY\nEXDATE:20260301T", ["EXDATE", "20260301T"]),
        (START + "RRULE:FREQ=DAILY\nRDATE;VALUE=PERIOD:20260301T000000/PT1H", ["RDATE"]),
        (START + "RRULE:FREQ=DAILY;COUNT=1\nEXDATE:20260131T093015", ["never due"]),
        (START + "RRULE:FREQ=DAILY;BYDAY=1MO", ["BYDAY", "MONTHLY"]),
        (START + "RRULE:FREQ=WEEKLY;BYMONTHDAY=1", ["BYMONTHDAY"]),
        (START + "RRULE:FREQ=DAILY;COUNT=2;UNTIL=20270101", ["COUNT", "UNTIL"]),
        (START + "RRULE:FREQ=DAILY;COUNT=10001", ["COUNT", "10000"]),
        (START + "RRULE:FREQ=DAILY;INTERVAL=0", ["INTERVAL", "'0'"]),
        (START + "RRULE:FREQ=DAILY;BYHOUR=24", ["BYHOUR", "'24'", "23"]),
        (START + "RRULE:FREQ=DAILY;BYHOUR=1;BYHOUR=2", ["BYHOUR", "twice"]),
        (START + "RRULE:FREQ=MONTHLY;BYDAY=XX", ["BYDAY", "'XX'"]),
        (START + "RRULE:FREQ=MONTHLY;BYMONTHDAY=0", ["BYMONTHDAY", "'0'", "-31"]),
        (START + "RRULE:FREQ=DAILY;X=1", ["'X=1'", "BYDAY"]),
        ("DTSTART:20261301T000000\nRRULE:FREQ=DAILY", ["DTSTART", "20261301"]),
        ("DTSTART;TZID=Mars/X:20260101T000000\nRRULE:FREQ=DAILY", ["Mars/X", "tz database"]),
        (START + "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", ["never due"]),
        (START + "RRULE:FREQ=DAILY\nRRULE:FREQ=DAILY", ["second rule", "also"]),
    ],
)
def test_what_is_not_in_the_subset_is_refused_with_what_to_do(text, said):
    refusal = check_spec(spec(text))
    assert refusal is not None
    for word in said:
        assert word in refusal.reason, refusal.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (START + "RRULE:FREQ=HOURLY", "FREQ=HOURLY is not taken; use the kind 'interval' or"),
        (START + "RRULE:FREQ=YEARLY;BYWEEKNO=20", "BYWEEKNO is not taken; use BYMONTH with BYDAY"),
        (START + "RRULE:FREQ=DAILY\nEXDATE:20260301T000000", "EXDATE is not taken; put the dates"),
        (START + "RRULE:FREQ=DAILY\nRDATE:20260301T000000", "RDATE is not taken; put the times"),
        (START + "RRULE:FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1;BYHOUR=1,2", "BYSETPOS wants one time"),
        (START + "RRULE:FREQ=DAILY;X=1", "BYSECOND, BYSETPOS, BYYEARDAY, COUNT"),
        (START + "RRULE:FREQ=NO", "expected one of DAILY, WEEKLY, MONTHLY, YEARLY."),
    ],
)
def test_ticks_of_older_rules_refuse_what_they_refused_in_the_same_words(text, said):
    """A refusal is in the log: what is taken since does not change what was answered then."""
    refusal = check_spec(spec(text), language=3)
    assert refusal is not None
    assert said in refusal.reason
