"""The devices app without Kafka: rows, events, dead letters and time (issue 6, SPEC 1.8, 4.3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agent_parts import CODEC, FakeApp

from schemas.records import (
    DeadLetter,
    DeviceHealth,
    DeviceHeartbeat,
    DeviceLoad,
    DeviceOffline,
    DeviceOnline,
    Record,
)
from streams.agents import device_health
from streams.agents.device_health import CHANGELOGS, HEARTBEATS, HealthWatch
from streams.core import ids
from streams.core.health import HealthSettings
from streams.runtime.fetched import PlainRecord

PARTITIONS = 8
HERE = [d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS) == 0]
ELSEWHERE = next(d for d in (f"cam-{n}" for n in range(99)) if ids.partition_of(d, PARTITIONS))
SETTINGS = HealthSettings(timeout_ms=10_000, blind_ms=5_000)


class HealthApp(FakeApp):
    """An app whose input a test has read up to a time."""

    def __init__(self) -> None:
        super().__init__((HEARTBEATS,), CHANGELOGS)
        self.read_ms: int | None = None

    def read_up_to_ms(self, topic: str, partition: int) -> int | None:
        assert (topic, partition) == (HEARTBEATS, 0)
        return self.read_ms


@pytest.fixture
def app() -> HealthApp:
    return HealthApp()


@pytest.fixture
def watch(app: HealthApp) -> HealthWatch:
    made = HealthWatch(SETTINGS, CODEC, app.clock, app.metrics, PARTITIONS)
    made._app = app  # type: ignore[assignment]
    return made


def heard(app: HealthApp, watch: HealthWatch, *beats: Any, at_ms: int = 0, kind: int = 1) -> None:
    """Have heartbeats worked on, as records that were appended at a time (default: now)."""
    records = [
        PlainRecord(
            HEARTBEATS, 0, n, at_ms or app.clock.ms, kind,
            getattr(one, "device_id", "cam-1").encode(),
            CODEC.encode(one) if isinstance(one, Record) else one, (),
        )
        for n, one in enumerate(beats)
    ]  # fmt: skip
    partition = app.partitions[0]
    with app.step(partition) as step:
        watch.on_heartbeats(partition, records, step)  # type: ignore[arg-type]


def beat(device: str, sequence: int = 0) -> DeviceHeartbeat:
    return DeviceHeartbeat(device, sequence, 1_800_000_000_000 + sequence, 0.25, 0.5, 3.0)


def pass_s(app: HealthApp, watch: HealthWatch, seconds: int, *, read: bool = True) -> None:
    """Let seconds pass, with the input read to its end or not."""
    for _ in range(seconds):
        app.clock.ms += 1_000
        if read:
            app.read_ms = app.clock.ms
        asyncio.run(watch._look(app.partitions[0]))


def records_of(app: HealthApp, kind: type[Record]) -> list[Any]:
    return [r for _, r in app.commit() if isinstance(r, kind)]


def test_a_heartbeat_of_a_device_that_stays_writes_nothing(app, watch):
    """The changelog holds what must survive, not a record a heartbeat (ADR 0017)."""
    app.open(0, watch)
    heard(app, watch, beat(HERE[0], 0), beat(HERE[1], 0))
    assert len(app.batch.writes) == 2
    assert [t for t, _ in app.commit()] == ["device.events"] * 2 + ["device.loads"] * 2
    for n in range(1, 100):
        pass_s(app, watch, 1)
        heard(app, watch, beat(HERE[0], n), beat(HERE[1], n))
    assert app.batch.writes == {}
    assert app.commit() == []
    assert app.metrics.heartbeats["fresh"] == 198


def test_events_and_rows_go_out_in_one_step_and_the_clock_is_compared(app, watch):
    app.open(0, watch)
    heard(app, watch, beat(HERE[0]))
    assert app.batch.clocked == {CHANGELOGS["health"]}
    seen_ms = app.clock.ms
    assert records_of(app, DeviceOnline) == [DeviceOnline(HERE[0], seen_ms)]
    pass_s(app, watch, 9)
    assert app.batch.writes == {}
    pass_s(app, watch, 1)
    assert app.batch.clocked == {CHANGELOGS["health"]}
    assert records_of(app, DeviceOffline) == [DeviceOffline(HERE[0], seen_ms + 10_000, seen_ms)]
    row = CODEC.decode(app.rows["health", 0, HERE[0].encode()])
    assert isinstance(row, DeviceHealth)
    assert (row.online, row.last_seen_ms) == (False, seen_ms)


def test_loads_are_told_of_with_the_heartbeat_that_moved_them(app, watch):
    app.open(0, watch)
    heard(app, watch, beat(HERE[0], 0), beat(HERE[0], 1))
    assert records_of(app, DeviceLoad) == [DeviceLoad(HERE[0], app.clock.ms, 0.25, 0.5)]


def test_the_metric_tells_of_devices_online(app, watch):
    """SPEC 1.8: agent_online_devices_total."""
    app.open(0, watch)
    heard(app, watch, beat(HERE[0]), beat(HERE[1]))
    assert b"agent_online_devices_total 2.0" in app.metrics.exposition()
    pass_s(app, watch, 5)
    heard(app, watch, beat(HERE[0], 1))
    pass_s(app, watch, 6)
    text = app.metrics.exposition()
    assert b"agent_online_devices_total 1.0" in text
    assert b"shutterwheel_known_devices 2.0" in text
    assert b'shutterwheel_device_changes_total{event="DeviceOffline"} 1.0' in text


def test_a_worker_that_is_behind_takes_nobody_for_silent(app, watch):
    """What is not read yet may hold the heartbeats that seem to be missing."""
    app.open(0, watch)
    heard(app, watch, beat(HERE[0]))
    app.commit()
    pass_s(app, watch, 60, read=False)
    assert app.batch.writes == {}
    heard(app, watch, beat(HERE[0], 1), at_ms=app.clock.ms - 30_000)  # it is being caught up with
    pass_s(app, watch, 9)
    assert records_of(app, DeviceOffline) == []
    pass_s(app, watch, 2)  # a whole timeout after it had caught up
    assert [e.device_id for e in records_of(app, DeviceOffline)] == [HERE[0]]


def test_a_successor_goes_on_from_the_rows(app, watch):
    app.open(0, watch)
    heard(app, watch, beat(HERE[0], 7), beat(HERE[1], 7))
    pass_s(app, watch, 5)
    heard(app, watch, beat(HERE[1], 8))
    pass_s(app, watch, 6)
    assert [e.device_id for e in records_of(app, DeviceOffline)] == [HERE[0]]
    app.clock.ms += 100_000
    app.open(0, watch)
    heard(app, watch, beat(HERE[0], 8))  # back meanwhile
    heard(app, watch, beat(HERE[0], 7))  # a repeat that the row knows of
    assert [r.device_id for r in records_of(app, DeviceOnline)] == [HERE[0]]
    pass_s(app, watch, 11)
    assert {r.device_id for r in records_of(app, DeviceOffline)} == {HERE[0], HERE[1]}


def test_bad_heartbeats_are_dead_lettered_and_the_rest_goes_on(app, watch):
    app.open(0, watch)
    heard(app, watch, b"rubbish", beat(ELSEWHERE), beat(HERE[0]), DeviceOnline(HERE[1], 1))
    made = app.commit()
    letters = [r for _, r in made if isinstance(r, DeadLetter)]
    assert [x.code for x in letters] == ["not_avro", "wrong_partition", "wrong_record"]
    assert {x.topic for x in letters} == {"device.heartbeats"}
    assert [r.device_id for _, r in made if isinstance(r, DeviceOnline)] == [HERE[0]]


def test_where_the_broker_sets_no_time_our_own_counts(app, watch):
    """A sender's clock that is an hour slow must not put its devices off."""
    app.open(0, watch)
    heard(app, watch, beat(HERE[0]), at_ms=app.clock.ms - 3_600_000, kind=0)
    (event,) = records_of(app, DeviceOnline)
    assert event.at_ms == app.clock.ms
    pass_s(app, watch, 9)
    assert app.commit() == []


def test_devices_are_found_and_shown_page_by_page(app, watch, monkeypatch):
    monkeypatch.setattr(device_health, "PAGE", 2)
    app.open(0, watch)
    heard(app, watch, *(beat(d) for d in HERE[:5]))
    found, following = watch.find(0, HERE[3]), (0, -1)
    assert found is not None
    assert found.cpu == 0.25
    assert watch.find(0, "nobody") is None
    assert watch.find(5, HERE[0]) is None
    shown: list[str] = []
    while following is not None:
        rows, following = watch.page(*following)
        shown += [row.device_id for row in rows]
    assert shown == HERE[:5]
