"""A whole spec against a slow reference: unions, exclusions, daylight, bounds; and what is shared."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Exclusion, ScheduleSpec, Term
from streams.core.recurrence import Place, Recurrence, compile_spec
from streams.core.recurrence import recurrence as module
from streams.core.recurrence.civil import DAY_MS, END_MS, HOUR_MS, day_of, weekday_of
from streams.core.recurrence.gates import read_hours, read_sun, read_weekdays
from streams.core.recurrence.sun import event_ms, noon_ms
from streams.core.recurrence.zones import zone

BASE_MS = day_of(2026, 3, 27) * DAY_MS
"""Two days before Paris changes its clock."""
SPAN_MS = 6 * DAY_MS
STEP_MS = 5 * 60_000
PARIS = Place(48.86, 2.35)
TROMSO = Place(69.65, 18.96)

CRON = ["*/5 * * * *", "0 6-20 * * *", "30 2 * * *", "*/10 9-17 * * mon-fri", "0 0 L * *"]
TERMS = st.one_of(
    st.builds(
        Term,
        st.just("interval"),
        st.sampled_from([STEP_MS, HOUR_MS, 7 * HOUR_MS]),
        st.sampled_from([0, STEP_MS // 5 * 5]) | st.just(0),
    ).filter(lambda term: term.phase_ms < term.every_ms),
    st.builds(
        Term, st.just("once"), at_ms=st.integers(0, 1700).map(lambda n: BASE_MS + n * STEP_MS)
    ),
    st.builds(Term, st.just("cron"), expression=st.sampled_from(CRON)),
)
HOURS = ["", "22:00-06:00", "12:00-13:00,02:00-03:30", "00:00-24:00", "23:55-00:05"]
EXCLUSIONS = st.builds(
    Exclusion,
    dates=st.sampled_from([(), (20260328,), (20260328, 20260330)]),
    weekdays=st.sampled_from(["", "sat,sun", "fri-mon", "wed"]),
    hours=st.sampled_from(HOURS),
).filter(lambda one: one.dates or one.weekdays or one.hours)


@st.composite
def specs(draw) -> ScheduleSpec:
    first, *also = draw(st.lists(TERMS, min_size=1, max_size=3))
    moments = st.none() | st.integers(0, 1700).map(lambda n: BASE_MS + n * STEP_MS)
    return ScheduleSpec(
        **msgspec.structs.asdict(first),
        zone=draw(st.sampled_from(["", "Europe/Paris", "Asia/Kolkata"])),
        also=tuple(also),
        exclude=tuple(draw(st.lists(EXCLUSIONS, max_size=2))),
        from_ms=draw(moments),
        until_ms=draw(moments),
        daylight=draw(
            st.sampled_from(["", "", "sunrise-30m..sunset", "sunset..sunrise", "dawn..noon"])
        ),
    )


def open_now(spec: ScheduleSpec, place: Place, time_ms: int) -> bool:
    """Read the wall clock and the sun; nothing here leaps."""
    if spec.from_ms is not None and time_ms < spec.from_ms:
        return False
    if spec.until_ms is not None and time_ms >= spec.until_ms:
        return False
    day, of_day = divmod(zone(spec.zone).local_ms(time_ms), DAY_MS)
    for one in spec.exclude:
        dates = {day_of(n // 10_000, n // 100 % 100, n % 100) for n in one.dates}
        for begins in (day, day - 1):
            if dates and begins not in dates:
                continue
            if not read_weekdays(one.weekdays) >> weekday_of(begins) & 1:
                continue
            here = of_day + (day - begins) * DAY_MS
            if any(low <= here < high for low, high in read_hours(one.hours)):
                return False
    if spec.daylight:
        low, high = (read_sun(part, "daylight") for part in spec.daylight.split(".."))
        over = spec.daylight == "sunset..sunrise"
        around = (time_ms - noon_ms(place, 0)) // DAY_MS
        for solar in range(around - 2, around + 3):
            begin, end = (
                event_ms(low.event, place, solar),
                event_ms(high.event, place, solar + over),
            )
            assert begin is not None
            assert end is not None
            if begin + low.offset_ms <= time_ms < end + high.offset_ms:
                return True
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(specs())
def test_any_spec_agrees_with_each_term_filtered_at_every_time(spec):
    """The union of the terms, each asked alone, less what is shut; forwards and backwards."""
    candidates: set[int] = set()
    for term in (spec, *spec.also):
        alone = ScheduleSpec(term.kind, term.every_ms, term.phase_ms, term.at_ms, term.expression, spec.zone)  # fmt: skip
        candidates.update(Recurrence(alone, None).between(BASE_MS, BASE_MS + SPAN_MS))
    expected = sorted(t for t in candidates if open_now(spec, PARIS, t))
    recurrence = Recurrence(spec, PARIS)
    assert list(recurrence.between(BASE_MS, BASE_MS + SPAN_MS)) == expected
    back, time_ms = [], recurrence.before(BASE_MS + SPAN_MS)
    while time_ms is not None and time_ms >= BASE_MS:
        back.append(time_ms)
        time_ms = recurrence.before(time_ms)
    assert back[::-1] == expected


@settings(max_examples=200, deadline=None)
@given(
    specs(),
    st.lists(
        st.tuples(st.booleans(), st.integers(-3, 30), st.integers(-DAY_MS, DAY_MS)),
        min_size=1,
        max_size=30,
    ),
)
def test_what_is_remembered_never_changes_an_answer(spec, questions):
    """In any order of questions, near and far, each is answered as if it were the first."""
    shared = Recurrence(spec, PARIS)
    for is_before, days, offset_ms in questions:
        time_ms = BASE_MS + days * days * DAY_MS + offset_ms
        alone = Recurrence(spec, PARIS)
        if is_before:
            found = shared.before(time_ms)
            assert found == alone.find_before(time_ms)
            assert found is None or found < time_ms
            if found is not None:
                assert shared.at_or_after(found) == found
        else:
            found = shared.at_or_after(time_ms)
            assert found == alone.find_at_or_after(time_ms)
            assert found is None or found >= time_ms
            if found is not None and found > time_ms:
                assert shared.at_or_after(found - 1) == found, "nothing between"


def test_the_row_stays_bounded_and_right_over_many_steps():
    recurrence = Recurrence(ScheduleSpec("cron", expression="* * * * * *"), None)
    time_ms = BASE_MS
    for _ in range(5_000):
        assert recurrence.at_or_after(time_ms) == time_ms
        time_ms += 1_000
    assert len(recurrence._row) <= module.WINDOW
    for back in (1, 500, 1_000, 3_000):
        assert recurrence.at_or_after(time_ms - back * 1_000) == time_ms - back * 1_000
    assert len(recurrence._row) <= module.WINDOW + 1


def test_equal_specs_share_one_recurrence_and_the_place_counts_only_for_the_sun():
    cron = ScheduleSpec("cron", expression="0 9 * * *")
    assert compile_spec(cron, PARIS) is compile_spec(ScheduleSpec("cron", expression="0 9 * * *"))
    sun = ScheduleSpec("sun", expression="sunrise")
    assert compile_spec(sun, PARIS) is compile_spec(sun, Place(48.8612, 2.3488))
    assert compile_spec(sun, PARIS) is not compile_spec(sun, TROMSO)
    near = Place(48.8612, 2.3488)
    assert Recurrence(sun, near).at_or_after(0) == compile_spec(sun, PARIS).at_or_after(0)


def test_what_needs_a_place_and_has_none_is_not_due_but_the_rest_is():
    sun = ScheduleSpec("sun", expression="sunrise")
    assert compile_spec(sun).at_or_after(0) is None
    assert compile_spec(sun).lacks_place
    both = ScheduleSpec("interval", every_ms=HOUR_MS, also=(Term("sun", expression="noon"),))
    assert compile_spec(both).at_or_after(1) == HOUR_MS
    assert compile_spec(both).lacks_place
    daylight = ScheduleSpec("interval", every_ms=HOUR_MS, daylight="sunrise..sunset")
    assert compile_spec(daylight).at_or_after(0) is None
    assert not compile_spec(daylight, PARIS).lacks_place


@pytest.mark.parametrize(
    ("daylight", "month", "hours"),
    [
        ("sunrise..sunset", 6, 24),  # the midnight sun
        ("sunrise..sunset", 12, 0),
        ("dawn..dusk", 12, 5),  # twilight around noon
        ("sunset..sunrise", 6, 0),
        ("sunset..sunrise", 12, 24),
        ("noon..noon+2h", 12, 2),
    ],
)
def test_daylight_in_polar_day_and_night(daylight, month, hours):
    spec = ScheduleSpec("interval", every_ms=HOUR_MS, daylight=daylight)
    start = noon_ms(TROMSO, day_of(2026, month, 21)) - DAY_MS // 2
    found = list(Recurrence(spec, TROMSO).between(start, start + DAY_MS))
    assert abs(len(found) - hours) <= (0 if hours in {0, 24} else 1)


def test_only_a_plain_interval_has_a_period():
    assert compile_spec(ScheduleSpec("interval", every_ms=5_000, phase_ms=7)).period_ms == 5_000
    for changes in (
        {"max_count": 5},
        {"from_ms": 0},
        {"until_ms": BASE_MS},
        {"exclude": (Exclusion(weekdays="sun"),)},
        {"daylight": "dawn..dusk"},
        {"also": (Term("once", at_ms=5),)},
    ):
        spec = msgspec.structs.replace(ScheduleSpec("interval", every_ms=5_000), **changes)
        assert compile_spec(spec).period_ms is None, changes


@pytest.mark.parametrize(
    ("spec", "gap_ms"),
    [
        (ScheduleSpec("interval", every_ms=5_000), 5_000),
        (ScheduleSpec("interval", every_ms=5_000, exclude=(Exclusion(hours="22:00-06:00"),)), 5_000),
        (ScheduleSpec("cron", expression="*/5 6-20 * * *"), 300_000),
        (ScheduleSpec("cron", expression="0 9 * * mon-fri", zone="Europe/Paris"), DAY_MS),
        (ScheduleSpec("cron", expression="0 9 1 * *"), 31 * DAY_MS),
        (ScheduleSpec("once", at_ms=BASE_MS), None),
        (ScheduleSpec("once", at_ms=5), None),
    ],
)  # fmt: skip
def test_the_typical_gap(spec, gap_ms):
    assert compile_spec(spec).typical_gap_ms == gap_ms


def test_max_count_says_which_time_is_the_last_of_an_epoch():
    plain = compile_spec(ScheduleSpec("interval", every_ms=1_000, max_count=10))
    assert plain.last_ms(BASE_MS + 1) == BASE_MS + 10_000
    weekdays = compile_spec(ScheduleSpec("cron", expression="0 9 * * mon-fri", max_count=6))
    assert (
        weekdays.last_ms(day_of(2026, 3, 2) * DAY_MS) == day_of(2026, 3, 9) * DAY_MS + 9 * HOUR_MS
    )
    few = compile_spec(ScheduleSpec("once", at_ms=BASE_MS, max_count=2))
    assert few.last_ms(0) is None
    assert compile_spec(ScheduleSpec("cron", expression="0 9 * * *")).last_ms(0) is None


@pytest.mark.parametrize(
    "spec",
    [
        ScheduleSpec("cron", expression="0 0 30 2 *", zone="Europe/Paris"),
        ScheduleSpec("cron", expression="* * 30 2 *", zone="Europe/Paris"),
        ScheduleSpec("cron", expression="0 12 * * *", exclude=(Exclusion(hours="11:00-13:00"),)),
        ScheduleSpec("interval", every_ms=100, exclude=(Exclusion(weekdays="mon-sun"),)),
        ScheduleSpec("interval", every_ms=100, daylight="sunset..sunset+1s", exclude=(Exclusion(hours="00:00-24:00"),)),
        ScheduleSpec("calendar", expression="DTSTART:20260101T000000\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"),
    ],
    ids=lambda spec: spec.expression or spec.daylight or "interval",
)  # fmt: skip
def test_what_never_comes_ends_in_bounded_time_and_is_known_from_then_on(spec):
    recurrence = Recurrence(spec, PARIS)
    began = time.perf_counter()
    assert recurrence.at_or_after(BASE_MS) is None
    assert time.perf_counter() - began < 2.0, "0.03 to 0.2 s on the development machine"
    began = time.perf_counter()
    for time_ms in range(BASE_MS, BASE_MS + 1_000_000, 1_000):
        assert recurrence.at_or_after(time_ms) is None
    assert time.perf_counter() - began < 0.1
    assert recurrence.before(BASE_MS) is None


def test_a_jump_over_decades_costs_one_evaluation():
    recurrence = Recurrence(
        ScheduleSpec("cron", expression="* * * * * *", zone="Europe/Paris"), None
    )
    assert recurrence.at_or_after(0) == 0
    began = time.perf_counter()
    far = day_of(2098, 7, 1) * DAY_MS
    assert recurrence.at_or_after(far) == far
    assert recurrence.at_or_after(5_000) == 5_000
    assert time.perf_counter() - began < 0.1
    assert recurrence.at_or_after(END_MS) is None
