"""Calendar rules of hours and less, weeks, picks and lists, against python-dateutil's (RFC 5545)."""

# ruff: noqa: DTZ001 - wall-clock time, as dateutil's rules take it

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.records import ScheduleSpec
from streams.core.recurrence import Recurrence
from streams.core.recurrence.civil import DAY_MS, HOUR_MS, day_of
from streams.core.recurrence.hours import Steps
from streams.core.recurrence.zones import zone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dateutil.rrule import rrulestr

EPOCH = datetime(1970, 1, 1)
START = "DTSTART:20260131T093015\n"
HORIZON = {"YEARLY": 4_000, "MONTHLY": 1_500, "WEEKLY": 800, "DAILY": 300, "HOURLY": 20,
           "MINUTELY": 1, "SECONDLY": 0.1}  # fmt: skip
"""Days looked at."""
MOST = 300


def rule_of(text: str) -> Recurrence:
    return Recurrence(ScheduleSpec("calendar", expression=text), None)


def ours(text: str, end: datetime) -> list[datetime]:
    found = []
    for time_ms in rule_of(text).between(0, int((end - EPOCH).total_seconds() * 1000)):
        found.append(EPOCH + timedelta(milliseconds=time_ms))
        if len(found) == MOST:
            break
    return found


def theirs(text: str, end: datetime) -> list[datetime]:
    """dateutil's times; each rule of a set is ended, as one that never comes does not end."""
    rules = rrulestr(text, forceset=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rules._rrule = [one.replace(until=min(end, one._until or end)) for one in rules._rrule]
    found = []
    for time in rules:
        if time >= end or len(found) == MOST:
            break
        found.append(time)
    return found


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY;INTERVAL=3;UNTIL=20260201T170000",
        "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
        "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
        "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16",
        "FREQ=HOURLY",
        "FREQ=HOURLY;INTERVAL=5",
        "FREQ=HOURLY;INTERVAL=1000;BYMINUTE=10,50",
        "FREQ=HOURLY;BYDAY=SA;BYHOUR=6,7;BYMINUTE=0,59",
        "FREQ=HOURLY;BYYEARDAY=32,-1",
        "FREQ=MINUTELY;INTERVAL=7",
        "FREQ=MINUTELY;INTERVAL=997;BYSECOND=1,2",
        "FREQ=MINUTELY;INTERVAL=120",
        "FREQ=MINUTELY;INTERVAL=7;BYHOUR=23;BYMONTHDAY=-1",
        "FREQ=SECONDLY;INTERVAL=7",
        "FREQ=SECONDLY;INTERVAL=300",
        "FREQ=SECONDLY;BYHOUR=10;BYMINUTE=1;BYSECOND=5,6",
        "FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1",
        "FREQ=MINUTELY;INTERVAL=13;BYSECOND=1,2,3,4;BYSETPOS=2,-1",
        "FREQ=DAILY;BYHOUR=8,12,18;BYMINUTE=0,30;BYSETPOS=1,-1",
        "FREQ=MONTHLY;BYDAY=MO,TU;BYHOUR=6,18;BYSETPOS=2,-3;COUNT=11",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "FREQ=YEARLY;BYWEEKNO=1,53,-1;BYDAY=MO,SU",
        "FREQ=YEARLY;BYWEEKNO=1;BYDAY=SU;WKST=SU",
        "FREQ=YEARLY;INTERVAL=2;BYWEEKNO=52,53;BYDAY=TH,FR,SA;BYHOUR=1,2",
        "FREQ=YEARLY;BYWEEKNO=10;BYMONTH=3;BYDAY=WE",
    ],
)
def test_rules_agree_with_dateutil(rule):
    text = START + "RRULE:" + rule
    frequency = rule.split(";")[0][5:]
    end = min(datetime(2026, 1, 31) + timedelta(days=10 * HORIZON[frequency]), datetime(2099, 1, 1))
    expected = theirs(text, end)
    assert ours(text, end) == expected
    assert len(expected) >= 2


@pytest.mark.parametrize(
    ("lists", "kept"),
    [
        ("EXDATE:20260201T093015", [0, 2, 3]),
        ("EXDATE:20260131T093015,20260202T093015\nEXDATE:20260201T093014", [1, 3]),
        ("RDATE:20260131T120000", [0, 0.1, 1, 2, 3]),
        ("RDATE:20260130T093015,20260131T093015", [-1, 0, 1, 2, 3]),
        ("RDATE:20260131T120000\nEXDATE:20260131T120000", [0, 1, 2, 3]),
    ],
)
def test_lists_of_times_agree_with_dateutil(lists, kept):
    """COUNT counts before EXDATE takes away, and RDATE comes on top."""
    text = f"{START}RRULE:FREQ=DAILY;COUNT=4\n{lists}"
    found = ours(text, datetime(2027, 1, 1))
    assert found == theirs(text, datetime(2027, 1, 1))
    first = datetime(2026, 1, 31, 9, 30, 15)
    assert [round((time - first) / timedelta(days=1), 1) for time in found] == kept


def numbers(low: int, high: int, *, signed: bool = False) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    if signed:
        number |= st.integers(-high, -low)
    return st.lists(number, min_size=1, max_size=4, unique=True).map(
        lambda found: ",".join(map(str, found))
    )


DAYS = st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=4, unique=True).map(",".join)  # fmt: skip


@st.composite
def rules(draw) -> str:
    frequency = draw(st.sampled_from(["HOURLY", "MINUTELY", "SECONDLY", "DAILY", "MONTHLY", "YEARLY"]))  # fmt: skip
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.sampled_from([1, 1, 2, 5, 7, 15, 24, 90, 997]))}"]  # fmt: skip
    if frequency in {"DAILY", "MONTHLY", "YEARLY"}:
        parts[1] = f"INTERVAL={draw(st.integers(1, 3))}"
    short = frequency in {"HOURLY", "MINUTELY", "SECONDLY"}

    def maybe(name: str, values: st.SearchStrategy[str], chance: int = 3) -> None:
        if not draw(st.integers(0, chance - 1)):
            parts.append(f"{name}={draw(values)}")

    maybe("BYMONTH", numbers(1, 12), 5)
    if frequency == "YEARLY" and draw(st.booleans()):
        # At the turn of some years dateutil takes week 52 for 53, and of the negative ones it has
        # only -1: those are compared with Python's own calendar, below.
        parts.append(f"BYWEEKNO={draw(numbers(1, 51) | st.just('-1'))}")
        parts.append(f"BYDAY={draw(DAYS)}")  # without it dateutil takes seven days
    else:
        maybe("BYDAY", DAYS)
    maybe("BYMONTHDAY", numbers(1, 31, signed=True), 6)
    if short:
        maybe("BYYEARDAY", numbers(1, 366, signed=True), 8)
    maybe("BYHOUR", numbers(0, 23))
    maybe("BYMINUTE", numbers(0, 59))
    maybe("BYSECOND", numbers(0, 59))
    maybe("BYSETPOS", numbers(1, 6, signed=True), 4)
    maybe("WKST", st.sampled_from(["MO", "WE", "SU"]))
    maybe("COUNT", st.integers(1, 40).map(str))
    return ";".join(parts)


def _expected(text: str, end: datetime) -> list[datetime]:
    try:
        return theirs(text, end)
    except (ValueError, TypeError, IndexError):
        # A combination that cannot be, or a BYSETPOS beyond what a day has: dateutil raises.
        assume(False)
        raise


@settings(max_examples=120, deadline=None)
@given(rules(), st.integers(0, 12_000), st.integers(0, 86_399), st.lists(st.integers(0, 20), max_size=3))  # fmt: skip
def test_random_rules_agree_with_dateutil(rule, day, second, left_out):
    """Without zones, where both mean the same; forwards and backwards, with times taken away."""
    start = datetime(1995, 1, 1) + timedelta(days=day, seconds=second)
    text = f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}"
    end = start + timedelta(days=HORIZON[rule.split(";")[0][5:]])
    if "BYSETPOS" in rule and not ours(text, end):
        return  # dateutil looks at UNTIL where it finds a time: it goes on to year 9999
    whole = _expected(text, end)
    gone = sorted({whole[n] for n in left_out if n < len(whole)})
    if gone:
        text += "\nEXDATE:" + ",".join(f"{time:%Y%m%dT%H%M%S}" for time in gone)
    found = ours(text, end)
    expected = _expected(text, end)
    assert found == expected
    recurrence = rule_of(text)
    times = [int((time - EPOCH).total_seconds() * 1000) for time in found]
    for before, after in pairwise(times):
        assert recurrence.find_before(after) == before
        assert recurrence.find_at_or_after(before + 1) == after
    if times:
        assert recurrence.find_before(times[0]) is None


def test_the_weeks_at_the_turn_of_a_year_are_the_calendars():
    """Every day of 40 years: its week as ISO 8601 says (Python's calendar), from either end."""
    for number in (1, 2, 26, 52, 53, -1, -2, -52, -53):
        text = f"DTSTART:20000101T000000\nRRULE:FREQ=YEARLY;BYWEEKNO={number};BYDAY=MO,TU,WE,TH,FR,SA,SU"  # fmt: skip
        found = set(rule_of(text).between(0, day_of(2040, 1, 1) * DAY_MS))
        for day in range(day_of(2000, 1, 1), day_of(2040, 1, 1)):
            date = (EPOCH + timedelta(days=day)).date()
            year, week, _ = date.isocalendar()
            weeks = datetime(year, 12, 28).isocalendar().week
            wanted = week == number or week - weeks - 1 == number
            assert (day * DAY_MS in found) == wanted, (date, number)


def test_a_week_without_a_weekday_has_the_starts():
    found = ours("DTSTART:20260106T093000\nRRULE:FREQ=YEARLY;BYWEEKNO=20", datetime(2029, 1, 1))
    assert [time.isocalendar()[1:] for time in found] == [(20, 2)] * 3


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def paris(rule: str, first: str, end: str, lists: str = "") -> list[str]:
    text = f"DTSTART;TZID=Europe/Paris:20260101T000000\nRRULE:{rule}{lists}"
    where = zone("Europe/Paris")
    return [
        (EPOCH + timedelta(milliseconds=where.local_ms(time))).strftime("%d. %H:%M")
        for time in rule_of(text).between(at(first), at(end))
    ]


def test_a_rule_with_every_hour_goes_on_in_real_time_and_others_by_the_one_rule():
    """29 March 2026: 02:00 becomes 03:00; 25 October: 03:00 becomes 02:00."""
    hourly = paris("FREQ=HOURLY;BYMINUTE=30", "2026-03-29T00:00", "2026-03-29T03:00")
    assert hourly == ["29. 01:30", "29. 03:30", "29. 04:30"]
    hourly = paris("FREQ=HOURLY;BYMINUTE=30", "2026-10-24T23:00", "2026-10-25T03:00")
    assert hourly == ["25. 01:30", "25. 02:30", "25. 02:30", "25. 03:30"]
    two = paris("FREQ=HOURLY;INTERVAL=2", "2026-03-28T23:00", "2026-03-29T04:00")
    assert two == ["29. 00:00", "29. 03:00", "29. 04:00"]
    two = paris("FREQ=HOURLY;INTERVAL=2", "2026-10-24T22:00", "2026-10-25T04:00")
    assert two == ["25. 00:00", "25. 02:00", "25. 04:00"]
    # 125,280 minutes, and 6 more, after the start: 17,898 steps of 7
    sevens = paris("FREQ=MINUTELY;INTERVAL=7", "2026-03-29T00:50", "2026-03-29T01:15")
    assert sevens == ["29. 01:51", "29. 01:58", "29. 03:01", "29. 03:08"]
    named = paris("FREQ=MINUTELY;INTERVAL=30;BYHOUR=2", "2026-03-29T00:00", "2026-03-30T00:00")
    assert named == ["29. 03:00"]


def test_a_listed_time_names_its_hour_and_an_excluded_one_takes_both():
    lists = "\nRDATE:20260329T021000,20261025T021000"
    assert paris("FREQ=HOURLY", "2026-03-29T00:30", "2026-03-29T02:00", lists) == ["29. 03:00"]
    found = paris("FREQ=HOURLY", "2026-10-24T23:30", "2026-10-25T02:00", lists)
    assert found == ["25. 02:00", "25. 02:10", "25. 02:00"]
    lists = "\nEXDATE:20261025T020000\nEXDATE:20261025T000000Z"
    found = paris("FREQ=HOURLY", "2026-10-24T22:30", "2026-10-25T03:30", lists)
    assert found == ["25. 01:00", "25. 03:00", "25. 04:00"]


def test_excluded_dates_take_whole_days_and_other_zones_are_brought_into_the_rules():
    lists = "\nEXDATE;VALUE=DATE:20260202\nEXDATE;TZID=Asia/Tokyo:20260204T020000"
    found = paris("FREQ=HOURLY;INTERVAL=6;BYHOUR=0,18", "2026-02-01T00:00", "2026-02-04T00:00", lists)  # fmt: skip
    assert found == ["01. 18:00", "03. 00:00", "04. 00:00"]


def test_each_zone_has_a_rule_of_five_hours_at_the_first_moment_that_shows_it():
    """In a sample of zones with odd changes, five years, read off the clock."""
    for name in ("Australia/Lord_Howe", "America/Havana", "Africa/Casablanca", "Pacific/Apia", "America/Nuuk"):  # fmt: skip
        where = zone(name)
        text = f"DTSTART;TZID={name}:20100101T030000\nRRULE:FREQ=HOURLY;INTERVAL=5"
        first_ms, end_ms = day_of(2010, 1, 2) * DAY_MS, day_of(2015, 1, 1) * DAY_MS
        found = list(rule_of(text).between(first_ms, end_ms))
        expected = set()
        local_ms = day_of(2010, 1, 1) * DAY_MS + 3 * HOUR_MS
        while local_ms < end_ms + DAY_MS:
            expected.add(where.moment_ms(local_ms))
            local_ms += 5 * HOUR_MS
        assert found == sorted(time for time in expected if first_ms <= time < end_ms)


def test_what_never_comes_ends_and_costs_a_bounded_number_of_looks(monkeypatch):
    looks = 0
    lets = Steps._lets

    def counted(self, second):
        nonlocal looks
        looks += 1
        return lets(self, second)

    monkeypatch.setattr(Steps, "_lets", counted)
    for rule in (
        "FREQ=SECONDLY;INTERVAL=2;BYSECOND=2",
        "FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=8",
        "FREQ=MINUTELY;INTERVAL=999;BYDAY=MO;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=SECONDLY;INTERVAL=997;BYYEARDAY=1;BYHOUR=0;BYMINUTE=0;BYSECOND=0;UNTIL=20260301T000000",
        "FREQ=HOURLY;BYMINUTE=1;BYSETPOS=2",
        "FREQ=DAILY;BYHOUR=1,2;BYSETPOS=3",
    ):
        looks = 0
        recurrence = rule_of(START + "RRULE:" + rule)
        assert recurrence.find_at_or_after(0) is None
        assert recurrence.find_before(day_of(2099, 1, 1) * DAY_MS) is None
        assert looks <= 2 * 86_400
