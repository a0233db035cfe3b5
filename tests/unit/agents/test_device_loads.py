"""What whoever ranks captures knows of devices' load: issue 6 (dynamic priority), SPEC 2.3."""

from __future__ import annotations

import pytest
from agent_parts import CODEC, FakeApp, kafka_record

from schemas.records import DeadLetter, DeviceLoad, DeviceOnline
from streams.agents.device_loads import KEPT_MS, TOPIC, DeviceLoads
from streams.agents.ports import Load
from streams.core import ids
from streams.runtime.dead_letters import DeadLetters

HERE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, 8) == 0)
ELSEWHERE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, 8))


class Idle:
    """A program that keeps nothing of a partition."""

    def opened(self, partition: object) -> None: ...


@pytest.fixture
def app() -> FakeApp:
    return FakeApp((TOPIC,), {})


@pytest.fixture
def loads(app: FakeApp) -> DeviceLoads:
    app.open(0, Idle())
    return DeviceLoads(CODEC, DeadLetters("captures", CODEC, app.clock, app.metrics), app.clock, 8)


def told(app: FakeApp, loads: DeviceLoads, *records: object) -> None:
    partition = app.partitions[0]
    with app.step(partition) as step:
        found = [kafka_record(r, n) for n, r in enumerate(records)]  # type: ignore[arg-type]
        loads.on_loads(partition, found, step)


def test_the_load_told_last_counts_and_nobody_told_of_is_idle(app, loads):
    assert loads.of(HERE) == loads.own() == Load(0.0, 0.0)
    told(app, loads, DeviceLoad(HERE, 1, 0.5, 0.25), DeviceLoad(HERE, 2, 0.75, 0.5))
    assert loads.of(HERE) == (0.75, 0.5)
    assert app.commit() == []


def test_a_device_that_is_told_of_no_more_is_forgotten(app, loads):
    """Memory holds the busy ones of the last hour, not the fleet."""
    told(app, loads, DeviceLoad(HERE, 1, 0.5, 0.25))
    app.clock.ms += KEPT_MS
    told(app, loads)
    assert loads.of(HERE) == (0.5, 0.25)
    app.clock.ms += KEPT_MS
    told(app, loads)
    assert loads.of(HERE) == loads.own() == Load(0.0, 0.0)
    assert len(loads) == 0


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b"rubbish", "not_avro"),
        (DeviceOnline(HERE, 1), "wrong_record"),
        (DeviceLoad(ELSEWHERE, 1, 0.5, 0.5), "wrong_partition"),
        (DeviceLoad(HERE, 1, 1.5, 0.5), "bad_load"),
        (DeviceLoad(HERE, 1, 0.5, float("nan")), "bad_load"),
    ],
)
def test_what_is_no_load_is_dead_lettered(app, loads, record, code):
    told(app, loads, record)
    (letter,) = [r for _, r in app.commit()]
    assert isinstance(letter, DeadLetter)
    assert (letter.code, letter.topic) == (code, TOPIC)
    assert loads.of(HERE) == loads.own() == Load(0.0, 0.0)
