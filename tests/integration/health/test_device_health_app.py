"""The devices app on a real broker, under kill -9: issue 6 (heartbeats and health), SPEC 4.3."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from chain_harness import CameraThread
from chain_reader import values
from confluent_kafka import Producer
from typer.testing import CliRunner

from connectors.cameras.faults import Fault
from connectors.cameras.simulated import device_id
from connectors.clients.kafka import make_codec
from connectors.clients.publisher import Publisher
from infra.kafka.admin import drop_topics
from infra.kafka.topics import topic_name
from schemas.records import DeadLetter, DeviceHeartbeat, DeviceOffline, DeviceOnline
from shutterwheel.cli import app
from shutterwheel.cluster import Cluster, ClusterOptions
from streams.core.ids import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kafka

PARTITIONS = 4
TIMEOUT_S = 5
"""Long enough for a sender that a busy machine makes wait."""
BEAT_S = 0.2
PATIENCE_S = 60.0
CODEC = make_codec()


class Terminals:
    """Devices that send heartbeats from a thread of their own, for as long as they are up."""

    def __init__(self, kafka: str, namespace: str) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1, "log_level": 0})
        self._topic = topic_name(namespace, "device.heartbeats")
        self._up: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def up(self, *devices: str) -> None:
        with self._lock:
            self._up |= dict.fromkeys(devices, 0)

    def down(self, *devices: str) -> None:
        with self._lock:
            for device in devices:
                del self._up[device]

    def send(self, device: str, value: bytes) -> None:
        home = partition_of(device, PARTITIONS)
        self._producer.produce(self._topic, value, device.encode(), home)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            with self._lock:
                for device, number in self._up.items():
                    now_ms = time.time_ns() // 1_000_000
                    beat = DeviceHeartbeat(device, number, now_ms, 0.5, 0.25, 0.0)
                    self.send(device, CODEC.encode(beat))
                    self._up[device] = number + 1
            self._producer.flush(10)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)


class Place:
    """A cluster of one devices worker, and its terminals."""

    def __init__(self, kafka: str, namespace: str, data: Path, **options: Any) -> None:
        self.data, self.namespace = data, namespace
        self.cluster = Cluster(
            ClusterOptions(
                data=data, kafka=kafka, namespace=namespace, partitions=PARTITIONS,
                wheel_workers=0, capture_workers=0, device_workers=1,
                device_timeout=f"{TIMEOUT_S}s", session_timeout_ms=2_000,
                **options,
            )
        )  # fmt: skip
        self.cluster.start()
        self.terminals = Terminals(kafka, namespace)
        self._said: dict[str, list[str]] = {}

    def said(self) -> dict[str, list[str]]:
        """Return the names of the events of each device, in order."""
        found: dict[str, list[str]] = {}
        for value in values(self.cluster.kafka, topic_name(self.namespace, "device.events")):
            event = CODEC.decode(value)
            assert isinstance(event, DeviceOnline | DeviceOffline)
            found.setdefault(event.device_id, []).append(type(event).__name__[6:])
        return found

    def until(self, what: str, ready: Callable[[], Any]) -> Any:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            self.cluster.watch()
            found = ready()
            if found:
                return found
            assert time.monotonic() < deadline_s, (
                f"Not in {PATIENCE_S:.0f} s: {what}: {self.said()}"
            )
            time.sleep(0.1)

    def until_said(self, wanted: dict[str, list[str]]) -> None:
        self.until(f"{wanted}", lambda: self.said() == wanted)

    def kill(self) -> None:
        pid = self.cluster.workers[0].child.pid
        assert pid, "there is no worker to kill"
        os.kill(pid, signal.SIGKILL)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.cluster.workers[0].url}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        raise AssertionError(name)

    def close(self) -> None:
        self.terminals.close()
        self.cluster.stop()
        drop_topics(self.cluster.kafka, self.namespace)


@pytest.fixture
def place(kafka: str, namespace: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(kafka, namespace, tmp_path)
    yield made
    made.close()


def health(place: Place, *words: str) -> list[dict[str, Any]]:
    arguments = ["device", "health", *words, "--json", "--data", str(place.data)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_device_is_announced_once_whenever_its_worker_is_killed(place: Place):
    """Kill -9 at any moment: no event doubled, none lost; who goes on speaking is never put off."""
    steady = [f"steady-{n}" for n in range(20)]
    others = [f"other-{n}" for n in range(20)]
    place.terminals.send("bad-1", b"rubbish")
    place.terminals.send("bad-2", CODEC.encode(DeviceHeartbeat("bad-2", 1, 1, 7.0, 0.0, 0.0)))
    place.terminals.up(*steady, *others)
    place.until_said({d: ["Online"] for d in (*steady, *others)})
    place.kill()  # they speak on while it is away, and after it
    place.until("the worker is there again", place.cluster.workers[0].ready)
    place.terminals.down(*others)
    place.kill()  # they fall silent while it is away
    gone = {d: ["Online", "Offline"] for d in others}
    stays = {d: ["Online"] for d in steady}
    place.until_said(gone | stays)
    place.terminals.up(*others)  # their numbers begin anew: a restart
    place.kill()
    place.until_said({d: ["Online", "Offline", "Online"] for d in others} | stays)
    assert place.cluster.restarts == 3
    place.until("the metric", lambda: place.metric("agent_online_devices_total") == 40)  # SPEC 1.8
    rows = health(place)
    assert {row["state"] for row in rows} == {"online"}
    assert len(rows) == 40
    (row,) = health(place, "steady-3")
    assert (row["cpu"], row["memory"], row["live"]) == (0.5, 0.25, True)
    assert time.time() * 1_000 - row["last_seen_ms"] < 60_000
    assert health(place, "--only", "offline") == []
    unheard = CliRunner().invoke(app, ["device", "health", "bad-1", "--data", str(place.data)])
    assert unheard.exit_code == 1
    assert letters(place) == [
        ("devices", "device.heartbeats", "bad_cpu"),
        ("devices", "device.heartbeats", "not_avro"),
    ]


def letters(place: Place) -> list[tuple[str, str, str]]:
    """Return app, topic and code of all dead letters."""
    found = values(place.cluster.kafka, topic_name(place.namespace, "dead.letters"))
    read = [CODEC.decode_as(value, DeadLetter) for value in found]
    return sorted((letter.app, letter.topic, letter.code) for letter in read)


@pytest.mark.long
def test_devices_without_heartbeats_are_polled(kafka: str, namespace: str, tmp_path: Path):
    """Issue 6: poll or receive. A real poller process, real cameras over HTTP."""
    cameras = CameraThread(3)
    place = Place(kafka, namespace, tmp_path, poll_every="1s")
    try:
        with Publisher(kafka, namespace) as publisher:
            for n in (1, 2):
                publisher.device(device_id(n), cameras.url(device_id(n)))
            publisher.device("nowhere", "http://127.0.0.1:9/")
        place.until_said({device_id(1): ["Online"], device_id(2): ["Online"]})
        cameras.faults({device_id(2): Fault(kind="never")})
        place.until_said({device_id(1): ["Online"], device_id(2): ["Online", "Offline"]})
        cameras.faults({device_id(2): None})
        place.until_said({device_id(1): ["Online"], device_id(2): ["Online", "Offline", "Online"]})
    finally:
        place.close()
        cameras.close()
