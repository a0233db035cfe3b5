"""What a preview says is what the fold fires; surprises stand where they are (issue 5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.records import CapturePolicy, DeviceProfile, ScheduleSpec, ScheduleState
from shutterwheel import manifest
from shutterwheel.commands.schedule_list import _state_words
from shutterwheel.outlook import (
    Subject,
    find_zone,
    place_of,
    show_local,
    subject_of_row,
    subjects_of_file,
    warnings_of,
)
from streams.core.recurrence import Place, compile_spec
from streams.core.recurrence.zones import zone_names
from streams.core.times import first_scheduled

NOW_MS = 1_800_000_000_000
SPECS = st.sampled_from(
    [
        ScheduleSpec("interval", every_ms=60_000),
        ScheduleSpec("interval", every_ms=60_000, max_count=3),
        ScheduleSpec("cron", expression="*/7 * * * *", zone="Europe/Paris"),
        ScheduleSpec("once", at_ms=NOW_MS + 5_000),
        ScheduleSpec("once", at_ms=NOW_MS - 5_000),
    ]
)


def row(spec: ScheduleSpec, policy: CapturePolicy, **more) -> ScheduleState:
    return ScheduleState("cam-1", "s", 1, spec, policy, NOW_MS - 1_000, **{"paused": False, **more})


@settings(deadline=None)
@given(SPECS, st.integers(0, 59_999), st.sampled_from([0, 0, 1]), st.integers(0, 400_000))
def test_the_next_time_is_the_one_that_the_fold_would_fire(spec, spread_ms, jitter_ms, later_ms):
    policy = CapturePolicy(spread_ms=spread_ms, jitter_ms=jitter_ms)
    state = row(spec, policy, ends_at_ms=NOW_MS + 200_000 if spec.max_count else None)
    subject = subject_of_row(state, {})
    at_ms = NOW_MS + later_ms
    assert subject.next_ms(at_ms) == first_scheduled(compile_spec(spec), state, at_ms)
    found = list(subject.next(at_ms, 5))
    assert [scheduled for _, scheduled in found] == sorted({s for _, s in found})
    assert all(0 <= scheduled - nominal <= 60_000 for nominal, scheduled in found)
    last = subject.last_ms(at_ms)
    assert last is None or state.starts_at_ms <= last < at_ms


def test_a_count_that_is_not_begun_begins_now():
    subject = Subject(
        "c", "s", ScheduleSpec("interval", every_ms=1_000, max_count=3), CapturePolicy()
    )
    assert [nominal for nominal, _ in subject.next(NOW_MS + 1, 10)] == [
        NOW_MS + 1_000,
        NOW_MS + 2_000,
        NOW_MS + 3_000,
    ]


def test_what_rests_has_no_next_time():
    state = row(ScheduleSpec("interval", every_ms=1_000), CapturePolicy(), paused=True)
    subject = subject_of_row(state, {})
    assert subject.next_ms(NOW_MS) is None
    assert list(subject.next(NOW_MS, 1)) == [(NOW_MS, NOW_MS)], "a preview shows what it would do"


def test_the_state_of_a_schedule_in_words():
    spec, sun = ScheduleSpec("interval", every_ms=1_000), ScheduleSpec("sun", expression="noon")

    def words(spec: ScheduleSpec, **more) -> str:
        return _state_words(subject_of_row(row(spec, CapturePolicy(), **more), {}))

    assert words(spec) == ""
    assert words(spec, paused=True, pause_reason="dirty") == "paused: dirty"
    failing = {"paused": True, "paused_by": "shutterwheel", "pause_reason": "5 failures"}
    assert words(spec, **failing) == "paused by the wheel itself: 5 failures"
    assert words(sun) == "waits for the device's place"


def profile(device_id: str, *place: float) -> DeviceProfile:
    at = dict(zip(("latitude", "longitude"), place, strict=False))
    return DeviceProfile(device_id, "http://h/", "http-snapshot", **at)


def test_a_file_is_shown_for_a_device_whose_place_is_known():
    text = """\
version: 1
schedules:
  - {id: a, devices: [c1, c2, c3], sun: noon}
  - {id: b, devices: [c1, c2, c3], every: 5m}
"""
    asked = manifest.parse(text.encode(), "m.yaml")
    known = {one.device_id: one for one in (profile("c1"), profile("c2", 48.86, 2.35))}
    found = subjects_of_file(asked, known)
    assert [(one.device_id, one.place, one.devices) for one in found] == [
        ("c2", Place(48.86, 2.35), 3),
        ("c1", None, 3),
    ]
    assert [one.device_id for one in subjects_of_file(asked, known, "c3")] == ["c3", "c3"]
    assert subjects_of_file(asked, known, "c9") == []
    (surprise,) = warnings_of(asked, known.values(), NOW_MS)
    assert surprise.startswith("m.yaml:3:41: schedule 'a': It hangs on the sun")
    assert surprise.endswith("(2 of 3 devices).")


def test_a_place_has_both_parts():
    assert place_of(None) is None
    assert place_of(profile("c")) is None
    assert place_of(profile("c", 48.86)) is None
    assert place_of(profile("c", 0.0, 0.0)) == Place(0.0, 0.0)


def test_moments_are_shown_as_the_clock_of_a_zone_shows_them():
    at_ms = 1_792_890_000_500  # 25 October 2026, 01:00:00.5 UTC: Paris has just gone back
    assert show_local(at_ms, find_zone("Europe/Paris")) == "Sun 2026-10-25 02:00:00.500 +01:00"
    assert show_local(at_ms - 1_000, find_zone("Europe/Paris")) == (
        "Sun 2026-10-25 02:59:59.500 +02:00"
    )
    assert show_local(0, find_zone("America/St_Johns")) == "Wed 1969-12-31 20:30:00 -03:30"
    assert show_local(0, find_zone("")) == "Thu 1970-01-01 00:00:00 +00:00"


@given(st.sampled_from(sorted(zone_names())), st.integers(0, 4_000_000_000_000))
def test_moments_can_be_shown_in_every_zone(name, at_ms):
    from datetime import datetime

    shown = show_local(at_ms, find_zone(name))
    weekday, rest = shown.split(" ", 1)
    read = datetime.fromisoformat(rest.replace(" ", "T", 1).replace(" ", ""))
    assert abs(read.timestamp() - at_ms / 1_000) < 60, "old offsets have seconds, which are cut"
    assert read.strftime("%a") == weekday


def test_a_zone_that_there_is_not():
    with pytest.raises(UsageError, match="did you mean 'Europe/Paris'"):
        find_zone("Europe/Pariss")
