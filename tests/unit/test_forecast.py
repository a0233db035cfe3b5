"""The forecast counts what the fold will fire (issue 5, 'Herds')."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import CapturePolicy, ScheduleSpec
from shutterwheel import forecast as counting
from shutterwheel.forecast import Population, forecast, heaviest, with_spread
from shutterwheel.hashes import hashes_of, shards_of
from streams.core import ids
from streams.core.recurrence import Place, compile_spec
from streams.core.spread import hash32
from streams.core.times import Times

BEGIN_MS = 1_800_000_000_000

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(IDS, min_size=1, max_size=30))
def test_hashes_of_many_are_those_of_one(device_ids):
    assert hashes_of(device_ids).tolist() == [hash32(one) for one in device_ids]
    assert shards_of(device_ids).tolist() == [ids.shard_of(one) for one in device_ids]


SPECS = st.one_of(
    st.builds(
        ScheduleSpec,
        kind=st.just("interval"),
        every_ms=st.integers(40_000, 400_000),
        phase_ms=st.integers(0, 39_999),
    ),
    st.builds(
        ScheduleSpec,
        kind=st.just("cron"),
        expression=st.sampled_from(["*/5 * * * *", "0 * * * *", "10,40 */2 * * * *"]),
        zone=st.sampled_from(["", "Europe/Paris"]),
    ),
    st.builds(
        ScheduleSpec,
        kind=st.just("once"),
        at_ms=st.integers(BEGIN_MS - 100_000, BEGIN_MS + 8_000_000),
    ),
)
SCHEDULES = st.tuples(
    st.integers(0, 10_000).map("cam-{}".format),
    SPECS,
    st.integers(0, 29_999),  # below every gap: no offset is cut
    st.sampled_from([0, 0, BEGIN_MS + 1_234_567]),
    st.sampled_from([None, None, BEGIN_MS + 2_345_678]),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(SCHEDULES, max_size=12), st.sampled_from([1, 60, 4_000]), st.booleans())
def test_each_second_has_what_the_times_of_the_fold_put_there(schedules, seconds, dense):
    population = Population(BEGIN_MS + 500, seconds)
    expected: Counter[int] = Counter()
    by_shard: Counter[tuple[int, int]] = Counter()
    for device_id, spec, spread_ms, starts_ms, ends_ms in schedules:
        policy = CapturePolicy(spread_ms=spread_ms)
        population.add(device_id, "s", spec, policy, starts_at_ms=starts_ms, ends_at_ms=ends_ms)
        # The fold's start and end are scheduled times, a gathering's nominal ones: a spread apart.
        recurrence = compile_spec(spec)
        times = Times(recurrence, policy, device_id)
        at_ms = times.at_or_after(BEGIN_MS)
        while at_ms is not None and at_ms < BEGIN_MS + seconds * 1_000:
            nominal_ms = times.nominal(at_ms)
            if nominal_ms >= starts_ms and (ends_ms is None or nominal_ms < ends_ms):
                second = (at_ms - BEGIN_MS) // 1_000
                expected[second] += 1
                by_shard[ids.shard_of(device_id), second] += 1
            at_ms = times.at_or_after(at_ms + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "DENSE_GAIN", 10**9 if dense else 0)
        load = forecast(population)
    found = {int(n): int(load.per_second[n]) for n in np.flatnonzero(load.per_second)}
    assert found == dict(expected)
    assert load.captures == expected.total()
    assert int(load.shard_peak.max()) == max(by_shard.values(), default=0)


def population_of(count: int, spec: ScheduleSpec, seconds: int, spread_ms: int = 0) -> Population:
    population = Population(BEGIN_MS, seconds)
    for n in range(count):
        population.add(f"cam-{n:05}", "s", spec, CapturePolicy(spread_ms=spread_ms))
    return population


HOURLY = ScheduleSpec("cron", expression="0 * * * *")


def test_a_herd_and_what_a_spread_does_to_it():
    population = population_of(3_000, HOURLY, 7_200)
    load = forecast(population)
    assert (load.captures, load.peak) == (6_000, 3_000)
    assert load.peak_at_ms % 3_600_000 == 0
    ((count, one),) = heaviest(population, load.peak_at_ms)
    assert (count, one.example) == (3_000, "s")
    assert one.words.startswith("at minute 0")
    wide = with_spread(load, population, one, 60_000)
    assert 50 <= wide <= 90, "3,000 over 60 s are 50 a second, evenly"
    assert wide == forecast(population_of(3_000, HOURLY, 7_200, spread_ms=60_000)).peak


def test_what_a_capacity_would_let_wait():
    """As queues, shard by shard, in plain Python."""
    population = population_of(4_000, HOURLY, 3_600)
    load = forecast(population, capacity=2)
    due: Counter[int] = Counter(ids.shard_of(f"cam-{n:05}") for n in range(4_000))
    over = {shard: count - 2 for shard, count in due.items() if count > 2}
    assert load.herd is not None
    assert load.herd.moved == sum(over.values())
    assert load.herd.shards == len(over)
    assert load.herd.wait_s == max(-(-count // 2) for count in over.values())
    assert forecast(population, capacity=1_000).herd == counting.Herd(1_000, 0, 0, 0)


def test_jitter_is_spread_as_it_will_be():
    population = Population(BEGIN_MS, 3_600)
    policy = CapturePolicy(jitter_ms=30_000)
    for n in range(3_000):
        population.add(f"cam-{n}", "s", ScheduleSpec("interval", every_ms=600_000), policy)
    load = forecast(population)
    assert load.captures == 3_000 * 6
    assert 100 <= load.peak <= 150, "3,000 over 30 s are 100 a second, evenly"


def test_a_schedule_that_follows_the_sun_needs_a_place():
    sun = ScheduleSpec("sun", expression="noon")
    population = Population(BEGIN_MS, 86_400)
    population.add("a", "s", sun, CapturePolicy())
    population.add("b", "s", sun, CapturePolicy(), place=Place(48.86, 2.35))
    assert (population.schedules, population.without_place) == (2, 1)
    assert forecast(population).captures == 1


def test_a_count_ends_it():
    spec = ScheduleSpec("interval", every_ms=60_000, max_count=5)
    population = Population(BEGIN_MS, 3_600)
    population.add("a", "s", spec, CapturePolicy())
    assert forecast(population).captures == 5


def test_nothing_at_all():
    load = forecast(Population(BEGIN_MS, 10), capacity=1)
    assert (load.captures, load.peak, heaviest(Population(BEGIN_MS, 10), BEGIN_MS)) == (0, 0, [])


def test_spans_have_the_most_and_the_mean():
    load = counting.Load(0, np.array([1, 3, 2, 0, 5]), np.zeros(4, np.int64))
    peaks, means = load.by(2)
    assert peaks.tolist() == [3, 2, 5]
    assert means.tolist() == [2.0, 1.0, 2.5]
