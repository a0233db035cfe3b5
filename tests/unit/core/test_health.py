"""Device health as a fold: issue 6 (heartbeats and health), SPEC 2.3, 4.3."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from health_model import Model
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.records import DeviceHealth, DeviceOffline, DeviceOnline
from streams.core.health import Health, HealthSettings
from streams.core.health_table import DOUBTS_MAX, HealthTable

CAM = b"cam-7"
S = 1_000
SETTINGS = HealthSettings()
QUICK = HealthSettings(
    timeout_ms=10_000, flap_changes=2, flap_window_ms=60_000, stable_ms=30_000, blind_ms=20_000,
    forget_ms=3_600_000,
)  # fmt: skip


def beat(health: Health, sequence: int, seen_s: float, key: bytes = CAM, at_s: float = -1) -> str:
    seen_ms = round(seen_s * S)
    at_ms = seen_ms if at_s < 0 else round(at_s * S)
    return health.beat(key, sequence, at_ms, 0.25, 0.5, 3.0, seen_ms)


def pass_time(health: Health, to_s: float) -> list[DeviceOnline | DeviceOffline]:
    """Let a second pass after the other, as the agent does; return what is announced."""
    events: list[DeviceOnline | DeviceOffline] = []
    while health.clock_ms < to_s * S:
        while health.advance(min(health.clock_ms + S, round(to_s * S))):
            pass
        events += health.take().events
    return events


def test_a_device_is_online_from_its_first_heartbeat_on():
    health = Health(SETTINGS, 0)
    assert beat(health, 1, 5) == "first"
    outputs = health.take()
    assert outputs.events == [DeviceOnline("cam-7", 5_000)]
    row = outputs.rows[CAM]
    assert row == DeviceHealth("cam-7", True, False, 5_000, 5_000, 1, 5_000, 0.25, 0.5, 3.0, 0)
    assert health.table.online == 1


def test_silence_of_two_minutes_is_offline_and_not_a_moment_less():
    """SPEC 4.3: heartbeat lost 2 min."""
    health = Health(SETTINGS, 0)
    for n in range(4):
        beat(health, n, 30 * n)
    health.take()
    assert pass_time(health, 209.999) == []
    assert pass_time(health, 210) == [DeviceOffline("cam-7", 210_000, 90_000)]
    assert health.table.online == 0
    beat(health, 9, 300)
    assert health.take().events == [DeviceOnline("cam-7", 300_000)]


def test_heartbeats_of_a_device_that_stays_write_nothing_but_its_row_now_and_then():
    health = Health(HealthSettings(row_every_ms=600_000), 0)
    beat(health, 0, 0)
    health.take()
    rows = []
    for n in range(1, 121):
        pass_time(health, 30 * n - 1)
        assert beat(health, n, 30 * n) == "fresh"
        while health.advance(30_000 * n):
            pass
        outputs = health.take()
        assert outputs.events == []
        rows += outputs.rows.values()
    assert 4 <= len(rows) <= 6  # an hour, at most one each ten minutes
    assert all(row.last_seen_ms > 0 for row in rows)


@pytest.mark.parametrize(
    ("heartbeats", "verdicts"),
    [
        ([(1, 1), (2, 2), (2, 2)], ["first", "fresh", "repeat"]),
        ([(1, 1), (5, 5), (3, 3), (6, 6)], ["first", "fresh", "old", "fresh"]),
        ([(7, 9), (0, 20), (1, 21)], ["first", "restart", "fresh"]),  # its clock went on
        ([(7, 9), (0, 0), (1, 1), (2, 2)], ["first", "old", "restart", "fresh"]),  # began anew too
        ([(7, 9), (0, 0), (0, 0), (1, 1)], ["first", "old", "old", "restart"]),
        ([(7, 9), (4, 4), (3, 3), (2, 2)], ["first", "old", "old", "old"]),
        ([(7, 9), (0, 0), (2, 5), (1, 1)], ["first", "old", "restart", "old"]),
        ([(0, 1), (0, 2), (0, 3)], ["first", "restart", "restart"]),  # one that does not count
        ([(2, 9), (3, 1), (4, 2)], ["first", "fresh", "fresh"]),  # its clock was set back
    ],
)
def test_repeats_and_reordered_are_ignored_and_restarts_recognised(heartbeats, verdicts):
    health = Health(SETTINGS, 0)
    found = [beat(health, number, 10 + n, at_s=at) for n, (number, at) in enumerate(heartbeats)]
    assert found == verdicts
    row = health.row("cam-7")
    assert row is not None
    counted = [n for n, verdict in enumerate(verdicts) if verdict not in {"old", "repeat"}]
    assert (row.sequence, row.at_ms) == (heartbeats[counted[-1]][0], heartbeats[counted[-1]][1] * S)
    assert row.last_seen_ms == (10 + counted[-1]) * S


def test_a_flapping_device_is_announced_so_and_then_held_until_it_is_stable():
    """Issue 6: flapping is damped."""
    health = Health(QUICK, 0)
    told = []
    for cycle in range(6):  # 10 s silent, then back: a change every 5 s
        told += pass_time(health, 20 * cycle)
        beat(health, cycle, 20 * cycle)
        told += health.take().events
    told += pass_time(health, 105)
    assert [(type(e).__name__, e.flapping) for e in told] == [
        ("DeviceOnline", False),
        ("DeviceOffline", False),
        ("DeviceOnline", False),
        ("DeviceOffline", True),
    ]
    assert health.table.flapping == 1
    assert health.table.online == 1  # what it is stays known
    told = pass_time(health, 139.9)
    assert told == []
    assert pass_time(health, 140) == [DeviceOffline("cam-7", 140_000, 100_000)]
    assert (health.table.flapping, health.table.online) == (0, 0)
    beat(health, 99, 150)
    assert health.take().events == [DeviceOnline("cam-7", 150_000)]


def test_a_device_that_was_stable_may_change_again_as_often_as_any_other():
    health = Health(HealthSettings(timeout_ms=1_000, flap_changes=2, stable_ms=1_000), 0)
    told = []
    for n, at_s in enumerate((0, 2, 6, 8)):
        told += pass_time(health, at_s)
        beat(health, n, at_s)
        told += health.take().events
    assert [e.flapping for e in told] == [False, False, False, True, False, False, False, True]
    assert [type(e).__name__ for e in told[4:6]] == ["DeviceOffline", "DeviceOnline"]


def test_what_happened_before_does_not_turn_time_back():
    health = Health(SETTINGS, 0)
    beat(health, 1, 90)
    health.take()
    pass_time(health, 210)
    beat(health, 2, 209)
    assert health.take().events == [DeviceOnline("cam-7", 210_000)]


def test_a_flapping_device_that_stays_on_is_announced_online_at_last():
    health = Health(QUICK, 0)
    for cycle in range(4):
        pass_time(health, 20 * cycle)
        beat(health, cycle, 20 * cycle)
    health.take()
    assert health.table.flapping
    told = []
    for n in range(100, 140):
        pass_time_to = 60 + n - 99
        told += pass_time(health, pass_time_to)
        beat(health, n, pass_time_to)
    assert told == [DeviceOnline("cam-7", 90_000)]


def test_an_outage_of_ours_is_no_outage_of_the_fleet():
    """A leap of what is known gives everybody a whole timeout from its end on."""
    health = Health(SETTINGS, 0)
    for n in range(100):
        beat(health, 1, 1, key=b"cam-%d" % n)
    health.take()
    pass_time(health, 60)
    while health.advance(1_000_000):
        pass
    assert health.take().events == []
    assert health.blind_spells == 1
    assert pass_time(health, 1_119.9) == []
    beat(health, 2, 1_119.9, key=b"cam-3")
    events = pass_time(health, 1_120)
    assert len(events) == 99
    assert all(isinstance(e, DeviceOffline) and e.last_seen_ms == 1_000 for e in events)


def test_a_herd_that_falls_silent_at_once_is_announced_in_pieces():
    health = Health(SETTINGS, 0)
    for n in range(2_500):
        beat(health, 1, 1, key=b"cam-%d" % n)
    health.take()
    pass_time(health, 120.9)
    sizes = []
    more = True
    while more:
        more = health.advance(121_000, most=1_000)
        sizes.append(len(health.take().events))
    assert sizes == [1_000, 1_000, 500]


def test_a_device_that_is_gone_for_long_is_forgotten_and_its_place_used_again():
    health = Health(QUICK, 0)
    beat(health, 1, 0)
    pass_time(health, 10)
    while health.advance(3_600_000 + 10_000):
        pass
    outputs = health.take()
    assert outputs.rows == {CAM: None}
    assert outputs.events == []
    assert len(health) == 0
    assert health.row("cam-7") is None
    assert beat(health, 0, 3_700, key=b"other") == "first"
    assert len(health.table.keys) == 1


def test_rows_are_shown_page_by_page():
    health = Health(SETTINGS, 0)
    for n in range(5):
        beat(health, 1, 1, key=b"cam-%d" % n)
    first = list(health.rows(-1, 3))
    rest = list(health.rows(first[-1][0], 3))
    assert [row.device_id for _, row in first + rest] == [f"cam-{n}" for n in range(5)]
    assert list(health.rows(4, 3)) == []


def test_what_is_not_known_stays_so():
    health = Health(SETTINGS, 0)
    health.beat(CAM, 1, 1, math.nan, math.nan, math.nan, 1)
    row = health.row("cam-7")
    assert row is not None
    assert math.isnan(row.cpu)
    assert math.isnan(row.memory)
    assert math.isnan(row.clock_offset_ms)


def test_a_load_is_told_when_it_has_moved_by_much():
    """SPEC 2.3: live load of the device; not a record a heartbeat."""
    health = Health(HealthSettings(row_every_ms=600_000), 0)
    told = []
    shares = [0.05, 0.1, 0.05, 0.2, 0.21, 0.15, 0.4, 0.45, 0.05, 0.1, math.nan]
    for n, share in enumerate(shares):  # CPU and memory alike
        health.beat(CAM, n, n, share, share, 0.0, n)
        told += [load.cpu for load in health.take().loads]
    assert told == [pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.05)]


def test_a_busy_devices_load_is_told_again_with_its_row():
    health = Health(HealthSettings(row_every_ms=600_000), 0)
    told = []
    for n in range(100):
        pass_time_s = 30 * n
        while health.clock_ms < pass_time_s * S:
            while health.advance(min(health.clock_ms + S, pass_time_s * S)):
                pass
        health.beat(CAM, n, n, 0.5, 0.5, 0.0, pass_time_s * S)
        health.beat(b"idle", n, n, 0.05, 0.05, 0.0, pass_time_s * S)
        told += [load.device_id for load in health.take().loads]
    assert 4 <= len(told) <= 6  # 50 minutes
    assert set(told) == {"cam-7"}


def test_doubts_are_bounded():
    table = HealthTable()
    for n in range(DOUBTS_MAX * 2):
        table.doubt(n, 0, 0)
    assert len(table.doubts) <= DOUBTS_MAX


def test_settings_out_of_bounds_are_refused():
    for name, value in (("timeout_ms", 999), ("flap_changes", 0), ("forget_ms", 1)):
        with pytest.raises(UsageError, match=name):
            HealthSettings(**{name: value})


def test_a_device_costs_little():
    """Issue 6: a million devices cost what a million small records cost. Ids are counted."""
    health = Health(SETTINGS, 0)
    tracemalloc.start()
    try:
        for n in range(20_000):
            beat(health, 1, n / 1_000, key=b"cam-%07d" % n)
        health.take()
        bytes_a_device = tracemalloc.get_traced_memory()[0] / 20_000
    finally:
        tracemalloc.stop()
    assert bytes_a_device < 260


# -- against the model -----------------------------------------------------------------------------

BEATS = st.tuples(
    st.just("beat"), st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 6), st.integers(0, 6)
)
TIMES = st.tuples(st.just("time"), st.sampled_from([500, 1_000, 4_000, 9_500, 15_000, 45_000]))
STORIES = st.lists(BEATS | TIMES, max_size=80)


@given(STORIES)
def test_the_fold_does_what_the_model_does(story):
    health, model = Health(QUICK, 1_000), Model(QUICK, 1_000)
    now = 1_000
    events = []
    for kind, *what in story:
        if kind == "beat":
            key, sequence, at = what
            verdict = health.beat(key, sequence, at, 0.0, 0.0, 0.0, now)
            assert verdict == model.beat(key, sequence, at, now)
        else:
            now += what[0]
            while health.advance(now, most=2):
                pass
            model.advance(now)
        made = health.take().events
        events += [(e.device_id.encode(), isinstance(e, DeviceOnline), e.flapping) for e in made]
        assert sorted(events) == sorted(model.events)
        assert health.table.online == sum(d.online for d in model.devices.values())
        assert health.table.flapping == sum(d.flapping for d in model.devices.values())
    for key, device in model.devices.items():
        row = health.row(key.decode())
        assert row is not None
        assert (row.online, row.flapping, row.last_seen_ms, row.sequence) == (
            device.online, device.flapping, device.seen, device.sequence,
        )  # fmt: skip


@given(STORIES, st.lists(st.integers(0, 79), max_size=4))
def test_a_worker_that_dies_between_two_steps_announces_nothing_twice_and_leaves_nothing_out(
    story, deaths
):
    """The rows are all that survives: each is written with its event, or neither is."""
    health = Health(QUICK, 1_000)
    now = 1_000
    rows: dict[bytes, DeviceHealth] = {}
    told: dict[bytes, list[tuple[bool, bool]]] = {}
    for n, (kind, *what) in enumerate(story):
        if n in deaths:
            health = Health(QUICK, now)
            health.load(rows.values())
        if kind == "beat":
            health.beat(what[0], what[1], what[2], 0.0, 0.0, 0.0, now)
        else:
            now += what[0]
            while health.advance(now):
                pass
        outputs = health.take()
        for key, row in outputs.rows.items():
            if row is None:
                del rows[key]
            else:
                rows[key] = row
        for event in outputs.events:
            said = (isinstance(event, DeviceOnline), event.flapping)
            before = told.setdefault(event.device_id.encode(), [])
            assert not before or before[-1] != said
            before.append(said)
    for key, row in rows.items():
        online, flapping = told[key][-1]
        assert flapping == row.flapping
        assert flapping or online == row.online
