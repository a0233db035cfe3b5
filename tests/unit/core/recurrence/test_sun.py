"""The sun against PyEphem, whose positions are good to an arc second, and at its odd places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.recurrence.civil import DAY_MS, END_MS, day_of
from streams.core.recurrence.sun import EVENTS, Place, SunTimes, event_ms, noon_ms

GOLDEN = [
    # latitude, longitude, day, then dawn, sunrise, noon, sunset, dusk in seconds of that day (UTC)
    # PyEphem 4.2: horizon -0:50 and -6, no pressure, centre of the sun; None: it does not come
    (48.86, 2.35, 20532, 19337, 21224, 43082, 64996, 66888),
    (48.86, 2.35, 20625, 11056, 13616, 42745, 71873, 74434),
    (48.86, 2.35, 21084, 18391, 20283, 42182, 64028, 65914),
    (48.86, 2.35, 22269, 25437, 27676, 42519, 57363, 59602),
    (48.86, 2.35, 27434, 23620, 25598, 43485, 61413, 63394),
    (-33.87, 151.21, 20532, -16019, -14522, 7363, 29216, 30710),
    (-33.87, 151.21, 20625, -12466, -10802, 7013, 24828, 26492),
    (-33.87, 151.21, 21084, -16836, -15343, 6465, 28304, 29800),
    (-33.87, 151.21, 22269, -20911, -19161, 6781, 32723, 34473),
    (-33.87, 151.21, 27434, -18056, -16467, 7759, 31952, 33536),
    (0.0, 0.0, 20532, 20611, 21851, 43646, 65441, 66681),
    (0.0, 0.0, 20625, 20136, 21488, 43309, 65130, 66482),
    (0.0, 0.0, 21084, 19712, 20952, 42746, 64540, 65780),
    (0.0, 0.0, 22269, 19906, 21259, 43084, 64908, 66261),
    (0.0, 0.0, 27434, 20964, 22243, 44049, 65855, 67133),
    (64.15, -21.94, 20532, 24056, 26917, 48911, 71004, 73882),
    (64.15, -21.94, 20625, None, 10507, 48575, 86642, None),
    (64.15, -21.94, 21084, 23092, 25968, 48011, 69955, 72815),
    (64.15, -21.94, 22269, 36180, 40941, 48351, 55761, 60522),
    (64.15, -21.94, 27434, 31530, 34699, 49315, 63997, 67171),
    (69.65, 18.96, 20532, 13428, 17035, 39097, 61290, 64924),
    (69.65, 18.96, 20625, None, None, 38758, None, None),
    (69.65, 18.96, 21084, 12378, 16012, 38197, 60252, 63859),
    (69.65, 18.96, 22269, 30671, None, 38532, None, 46392),
    (69.65, 18.96, 27434, 23145, 27421, 39499, 51658, 55942),
    (-54.8, -68.3, 20532, 35906, 38070, 60035, 81931, 84087),
    (-54.8, -68.3, 20625, 44016, 46731, 59704, 72677, 75392),
    (-54.8, -68.3, 21084, 35013, 37170, 59134, 81166, 83331),
    (-54.8, -68.3, 22269, 24840, 28288, 59481, 90675, 94123),
    (-54.8, -68.3, 27434, 30917, 33427, 60441, 87375, 89866),
    (21.31, -157.86, 20532, 58382, 59712, 81525, 103356, 104688),
    (21.31, -157.86, 20625, 55532, 57024, 81201, 105378, 106870),
    (21.31, -157.86, 21084, 57499, 58830, 80623, 102398, 103728),
    (21.31, -157.86, 22269, 60020, 61476, 80983, 100490, 101946),
    (21.31, -157.86, 27434, 60089, 61459, 81936, 102428, 103798),
    (51.48, 0.0, 20532, 19780, 21774, 43646, 65579, 67579),
    (51.48, 0.0, 20625, 10502, 13365, 43309, 73253, 76116),
    (51.48, 0.0, 21084, 18830, 20830, 42746, 64603, 66597),
    (51.48, 0.0, 22269, 26566, 28984, 43084, 57182, 59601),
    (51.48, 0.0, 27434, 24446, 26547, 44049, 61596, 63699),
    (-17.71, 178.07, 20532, -22215, -20913, 918, 22734, 24035),
    (-17.71, 178.07, 20625, -20778, -19358, 566, 20489, 21909),
    (-17.71, 178.07, 21084, -23070, -21769, 20, 21824, 23126),
    (-17.71, 178.07, 22269, -24864, -23416, 332, 24080, 25528),
    (-17.71, 178.07, 27434, -22988, -21631, 1312, 24241, 25595),
    (78.22, 15.65, 20532, 11164, 17506, 39891, 62513, 68970),
    (78.22, 15.65, 20625, None, None, 39552, None, None),
    (78.22, 15.65, 21084, 9939, 16392, 38991, 61357, 67696),
    (78.22, 15.65, 22269, None, None, 39326, None, None),
    (78.22, 15.65, 27434, 29042, None, 40293, None, 51683),
]  # fmt: skip


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row[0]},{row[1]},{row[2]}")
def test_events_are_within_ten_seconds_of_pyephem(row):
    """From the equator to 78 degrees north, solstices and equinoxes included, to 2045."""
    place, day = Place(row[0], row[1]), row[2]
    for event, expected in zip(EVENTS, row[3:], strict=True):
        found = event_ms(event, place, day)
        if expected is None:
            assert found is None, event
        else:
            assert found is not None, event
            assert abs(found / 1000 - day * 86_400 - expected) <= 10, event


def test_there_is_no_sunrise_in_the_polar_night_and_the_next_one_is_found():
    """Tromso, from late November to mid-January."""
    sunrise = SunTimes("sunrise", 0, Place(69.65, 18.96))
    first = sunrise.at_or_after(day_of(2026, 12, 1) * DAY_MS)
    assert first is not None
    assert day_of(2027, 1, 10) <= first // DAY_MS <= day_of(2027, 1, 20)
    last = sunrise.before(first)
    assert last is not None
    assert day_of(2026, 11, 20) <= last // DAY_MS <= day_of(2026, 11, 30)


@pytest.mark.parametrize("latitude", [90.0, -90.0, 89.6])
def test_at_a_pole_there_is_noon_and_no_other_event(latitude):
    place = Place(latitude, 0.0)
    assert SunTimes("sunrise", 0, place).at_or_after(0) is None
    assert SunTimes("dusk", 0, place).before(END_MS) is None
    assert SunTimes("noon", 0, place).at_or_after(0) is not None


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-89.5, 89.5), st.floats(-180, 180), st.integers(1970, 2097), st.sampled_from(EVENTS)
)
def test_up_to_half_a_degree_from_a_pole_each_event_comes_every_year(
    latitude, longitude, year, event
):
    """What bounds the search: 400 days without it mean that it never comes."""
    start = day_of(year, 1, 1) * DAY_MS
    found = SunTimes(event, 0, Place(latitude, longitude)).at_or_after(start)
    assert found is not None
    assert found < start + 400 * DAY_MS


PLACES = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=150, deadline=None)
@given(
    PLACES,
    st.sampled_from(EVENTS),
    st.integers(-DAY_MS // 2, DAY_MS // 2),
    st.integers(DAY_MS * 500, END_MS - DAY_MS * 500),
)
def test_next_and_previous_agree_with_the_list_of_events(place, event, offset_ms, time_ms):
    times = SunTimes(event, offset_ms, place)
    first = (time_ms - noon_ms(place, 0)) // DAY_MS
    listed = [event_ms(event, place, day) for day in range(first - 4, first + 5)]
    moved = [found + offset_ms for found in listed if found is not None]
    assert moved == sorted(set(moved)), "events come in the order of their days"
    after, before = times.at_or_after(time_ms), times.before(time_ms)
    assert after is None or after >= time_ms
    assert before is None or before < time_ms
    later, earlier = [t for t in moved if t >= time_ms], [t for t in moved if t < time_ms]
    if later and later[0] < time_ms + 2 * DAY_MS:
        assert after == later[0]
    if earlier and earlier[-1] > time_ms - 2 * DAY_MS:
        assert before == earlier[-1]
