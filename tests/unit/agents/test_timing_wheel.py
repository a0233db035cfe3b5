"""The timing wheel's agent: what becomes a tick, when, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from agent_parts import CODEC, FakeApp, kafka_record

from schemas.errors import ClockError
from schemas.records import (
    Accepted,
    CaptureCommand,
    CapturePolicy,
    DeadLetter,
    Refused,
    ScheduleCancelled,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
)
from streams.agents.timing_wheel import CHANGELOGS, EVENTS, INPUTS, TimingWheel, WheelSettings
from streams.core import ids

PARTITIONS = 8
DEVICE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS) == 0)
ELSEWHERE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS))


def upsert(device: str = DEVICE, every_ms: int = 10_000, **policy: int) -> ScheduleUpserted:
    return ScheduleUpserted(
        f"r-{device}", device, "s", ScheduleSpec("interval", every_ms), CapturePolicy(**policy), 1
    )


@pytest.fixture
def app() -> FakeApp:
    return FakeApp(INPUTS, CHANGELOGS)


@pytest.fixture
def wheel(app: FakeApp) -> TimingWheel:
    return TimingWheel(app.settings, WheelSettings(), CODEC, app.clock, app.metrics, PARTITIONS)


def outputs_of(app: FakeApp, kind: type) -> list[object]:
    return [record for _, record in app.commit() if isinstance(record, kind)]


def test_a_slice_becomes_one_tick_with_its_changes(app: FakeApp, wheel: TimingWheel) -> None:
    """SPEC 1.9: the journal holds what was known and when, with the offsets of the events."""
    partition = app.open(0, wheel)
    records = [kafka_record(upsert(), 7), kafka_record(upsert(every_ms=20_000), 8)]
    with app.step(partition) as step:
        wheel.on_events(partition, records, step)
    ticks = [t for _, t in app.commit() if isinstance(t, ScheduleTick)]
    assert [[change.offset for change in tick.changes] for tick in ticks] == [[7, 8]]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (upsert(every_ms=0), "every_ms"),
        (upsert(every_ms=315_360_000_000), "every_ms"),
        (upsert(ELSEWHERE), "wrong_partition"),
        (upsert("x" * 10_000), "device_id"),
        (ScheduleCancelled("r", DEVICE, "", 1), "schedule_id"),
    ],
)
def test_bad_events_are_refused_and_dead_lettered_alone(
    app: FakeApp, wheel: TimingWheel, event: ScheduleUpserted, code: str
) -> None:
    """SPEC 1.10: the answer has a sentence; the good event beside it is taken."""
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(event, 1), kafka_record(upsert(), 2)], step)
    found = [record for _, record in app.commit()]
    (letter,) = [r for r in found if isinstance(r, DeadLetter)]
    (refused,) = [r for r in found if isinstance(r, Refused)]
    (accepted,) = [r for r in found if isinstance(r, Accepted)]
    assert (letter.topic, letter.offset, letter.reason) == (EVENTS, 1, refused.reason)
    assert code in refused.code or code in refused.reason
    assert len(refused.device_id) <= 256
    assert accepted.request_id == f"r-{DEVICE}"


@pytest.mark.parametrize("value", [None, b"", b"rubbish", b"\x00\x00\x00\x00\x01x"])
def test_what_is_no_record_is_dead_lettered(
    app: FakeApp, wheel: TimingWheel, value: bytes | None
) -> None:
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(value, 1, b"k")], step)
    (letter,) = outputs_of(app, DeadLetter)
    assert isinstance(letter, DeadLetter)
    assert (letter.value, letter.key) == (value, b"k")


async def test_an_event_that_comes_while_the_clock_waits_for_room_does_no_harm(
    app: FakeApp, wheel: TimingWheel
) -> None:
    """Found by hand: the clock's tick kept the time of before the wait, and the fold refused it."""
    partition = app.open(0, wheel)
    app.clock.ms += 5_000

    def event_comes() -> None:
        app.clock.ms += 50
        with app.step(partition) as step:
            wheel.on_events(partition, [kafka_record(upsert(), 1)], step)
        app.clock.ms += 5_000

    app.while_waiting.append(event_comes)
    await wheel._catch_up(app, partition)  # type: ignore[arg-type]
    times = [t.time_ms for _, t in app.commit() if isinstance(t, ScheduleTick)]
    assert len(times) >= 2
    assert times == sorted(times)
    assert not app.failures


async def test_commands_with_time_gather_into_a_tick_a_second(
    app: FakeApp, wheel: TimingWheel
) -> None:
    """DESIGN 'Ticks': a step a second is the common case, and every command leaves in time."""
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(upsert(every_ms=700), 1)], step)
    app.commit()
    commands: list[CaptureCommand] = []
    ticks = 0
    for _ in range(100):
        app.clock.ms += 100
        await wheel._catch_up(app, partition)  # type: ignore[arg-type]
        for _, record in app.commit():
            ticks += isinstance(record, ScheduleTick)
            if isinstance(record, CaptureCommand):
                commands.append(record)
    assert 9 <= ticks <= 11
    scheduled = [c.scheduled_ms for c in commands]
    assert [b - a for a, b in itertools.pairwise(scheduled)] == [700] * 13
    assert all(c.scheduled_ms - c.issued_at_ms >= 3_900 for c in commands)


async def test_a_short_lead_is_served_on_the_next_boundary(
    app: FakeApp, wheel: TimingWheel
) -> None:
    """SPEC 1.2: 100 ms."""
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(upsert(every_ms=2_000, lead_ms=400), 1)], step)
    app.commit()
    for _ in range(80):
        app.clock.ms += 100
        await wheel._catch_up(app, partition)  # type: ignore[arg-type]
        for _, record in app.commit():
            if isinstance(record, CaptureCommand):
                assert record.scheduled_ms - record.issued_at_ms >= 200


@pytest.mark.parametrize(("partitions", "ticks"), [(8, 10), (256, 9), (1_024, 2)])
async def test_idle_partitions_tick_less_where_there_are_many(
    app: FakeApp, partitions: int, ticks: int
) -> None:
    """Each tick costs the broker a marker; what is due does not wait for it."""
    wheel = TimingWheel(app.settings, WheelSettings(), CODEC, app.clock, app.metrics, partitions)
    partition = app.open(0, wheel)
    await wheel._catch_up(app, partition)  # type: ignore[arg-type]
    app.commit()
    made = 0
    for _ in range(105):
        app.clock.ms += 100
        await wheel._catch_up(app, partition)  # type: ignore[arg-type]
        made += sum(isinstance(record, ScheduleTick) for _, record in app.commit())
    assert made == ticks


async def test_what_a_tick_left_over_is_issued_by_the_next_one_at_once(app: FakeApp) -> None:
    """Found by measuring: a wheel gave out max_fires a second and a partition, and not one more."""
    settings = WheelSettings(max_fires=2)
    wheel = TimingWheel(app.settings, settings, CODEC, app.clock, app.metrics, PARTITIONS)
    home = [d for d in (f"cam-{n}" for n in range(400)) if ids.partition_of(d, PARTITIONS) == 0]
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(upsert(d), n) for n, d in enumerate(home)], step)
    app.commit()
    commands: list[CaptureCommand] = []
    for _ in range(150):
        app.clock.ms += 100
        await wheel._catch_up(app, partition)  # type: ignore[arg-type]
        commands += [r for _, r in app.commit() if isinstance(r, CaptureCommand)]
    assert len(commands) >= len(home) > 20
    assert all(c.scheduled_ms - c.issued_at_ms >= 3_900 for c in commands)


def test_a_clock_behind_the_last_tick_stops_the_wheel(app: FakeApp, wheel: TimingWheel) -> None:
    """SPEC 1.5: loudly, instead of writing."""
    partition = app.open(0, wheel)
    with app.step(partition) as step:
        wheel.on_events(partition, [kafka_record(upsert(), 1)], step)
    app.clock.ms -= 2_001
    with pytest.raises(ClockError, match="behind the last tick"):
        wheel._is_due(partition.state)
