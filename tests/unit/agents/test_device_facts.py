"""What the wheel makes of profiles and device events: facts in its next tick."""

from __future__ import annotations

import pytest
from agent_parts import CODEC, FakeApp, kafka_record

from schemas.records import (
    DeadLetter,
    DeviceFact,
    DeviceFailing,
    DeviceOffline,
    DeviceOnline,
    DeviceProfile,
    DeviceRecovered,
    DeviceReset,
    Record,
    ScheduleTick,
)
from streams.agents.timing_wheel import CHANGELOGS, INPUTS, TimingWheel, WheelSettings
from streams.core import ids

PARTITIONS = 8
DEVICE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS) == 0)
ELSEWHERE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS))


@pytest.fixture
def app() -> FakeApp:
    return FakeApp(INPUTS, CHANGELOGS)


@pytest.fixture
def wheel(app: FakeApp) -> TimingWheel:
    return TimingWheel(app.settings, WheelSettings(), CODEC, app.clock, app.metrics, PARTITIONS)


def profile(latitude: float | None, longitude: float | None, **more: bool) -> DeviceProfile:
    return DeviceProfile(
        DEVICE, "http://h", "http-json", latitude=latitude, longitude=longitude, **more
    )


def told(app: FakeApp) -> list[DeviceFact]:
    return [fact for _, t in app.commit() if isinstance(t, ScheduleTick) for fact in t.facts]


def test_a_place_is_told_once_and_again_when_it_changes(app: FakeApp, wheel: TimingWheel) -> None:
    partition = app.open(0, wheel)
    here, there = profile(48.0, 2.0), profile(-1.0, 3.0)
    for records, expected in (
        ([here], [(48.0, 2.0)]),
        ([here, here], []),
        ([there, here], [(-1.0, 3.0), (48.0, 2.0)]),
        ([profile(1.0, 1.0, removed=True)], [(None, None)]),
    ):
        with app.step(partition) as step:
            found = [kafka_record(r, n) for n, r in enumerate(records)]
            wheel.on_profiles(partition, found, step)
        assert [(f.latitude, f.longitude) for f in told(app)] == expected
    with app.step(partition) as step:
        wheel.on_profiles(partition, [kafka_record(here, 1)], step)
    app.commit()
    reopened = app.open(0, wheel)  # from its rows
    with app.step(reopened) as step:
        wheel.on_profiles(reopened, [kafka_record(None, 2, DEVICE.encode())], step)
    assert told(app) == [DeviceFact(DEVICE, "place")]


@pytest.mark.parametrize(
    "record",
    [
        b"rubbish",
        profile(91.0, 0.0),
        profile(1.0, None),
        DeviceProfile(ELSEWHERE, "http://h", "http-json", latitude=1.0, longitude=1.0),
    ],
)
def test_a_profile_that_can_never_work_says_nothing(
    app: FakeApp, wheel: TimingWheel, record: Record | bytes
) -> None:
    """The captures app dead-letters it."""
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_profiles(partition, [kafka_record(record, 1, b"x")], step)
        wheel.on_profiles(partition, [kafka_record(record, 1)], step)
    assert app.commit() == []


def test_failing_and_recovered_become_facts_and_the_rest_does_not(
    app: FakeApp, wheel: TimingWheel
) -> None:
    partition = app.open(0, wheel)
    records = [
        DeviceOnline(DEVICE, 1),
        DeviceOffline(DEVICE, 2, 1, flapping=True),
        DeviceReset(DEVICE, 2, "heartbeat lost"),
        DeviceFailing(DEVICE, 2, 3, "timeout: no answer"),
        DeviceFailing(DEVICE, 3, 3, "timeout: no answer"),
        DeviceRecovered(DEVICE, 4, 3),
    ]
    with app.step(partition) as step:
        found = [kafka_record(r, n) for n, r in enumerate(records)]
        wheel.on_device_events(partition, found, step)
    assert told(app) == [
        DeviceFact(DEVICE, "failing", failures=3, cause="timeout: no answer"),
        DeviceFact(DEVICE, "recovered"),
    ]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b"rubbish", "not_avro"),
        (profile(1.0, 1.0), "wrong_record"),
        (DeviceFailing(ELSEWHERE, 1, 3, ""), "wrong_partition"),
        (DeviceFailing(DEVICE, 1, -3, ""), "bad_failures"),
    ],
)
def test_an_event_that_is_none_is_dead_lettered(
    app: FakeApp, wheel: TimingWheel, record: Record | bytes, code: str
) -> None:
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_device_events(partition, [kafka_record(record, 1)], step)
    (letter,) = [r for _, r in app.commit()]
    assert isinstance(letter, DeadLetter)
    assert (letter.code, letter.topic) == (code, "device.events")
