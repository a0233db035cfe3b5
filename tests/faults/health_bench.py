"""Three workers of the devices app under heartbeats that never stop, hurt and then checked.

Each device sends heartbeats from a thread of its own bench, but for those that are told to fall
silent. What device.events must hold then is known: a device that spoke all the time was announced
once, one that fell silent and spoke again went off and on once. ``finish`` compares: what is
missing is lost, what is too much is doubled, what comes in another order is a zombie's.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from chain_reader import values
from confluent_kafka import Producer
from fault_report import FaultReport, FaultRow
from typer.testing import CliRunner

from connectors.clients.kafka import make_codec
from infra.kafka.admin import drop_topics
from infra.kafka.topics import topic_name
from schemas.records import DeviceHeartbeat, DeviceOffline, DeviceOnline
from shutterwheel.cli import app
from shutterwheel.cluster import Cluster, ClusterOptions
from streams.core.ids import partition_of

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from pathlib import Path

PARTITIONS = 8
WORKERS = 3
SESSION_MS = 3_000
TIMEOUT_S = 8
"""After so long a silent device is offline: longer than a takeover, as ``steady`` ones never are."""
BEAT_S = 0.2
PATIENCE_S = 90.0
CODEC = make_codec()
STEADY = tuple(f"steady-{n}" for n in range(30))
OTHERS = tuple(f"other-{n}" for n in range(30))


class HealthBench:
    """A cluster of devices workers, and those who speak to it."""

    def __init__(self, kafka: str, namespace: str, data: Path, report: FaultReport) -> None:
        self._data, self._namespace, self._report = data, namespace, report
        self.cluster = Cluster(
            ClusterOptions(
                data=data, kafka=kafka, namespace=namespace, partitions=PARTITIONS,
                wheel_workers=0, capture_workers=0, device_workers=WORKERS,
                device_timeout=f"{TIMEOUT_S}s", session_timeout_ms=SESSION_MS,
            )
        )  # fmt: skip
        self.cluster.start()
        self.wanted: dict[str, list[str]] = {}
        self._kafka = self.cluster.kafka
        self._numbers: dict[str, int] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._producer = Producer({"bootstrap.servers": self._kafka, "linger.ms": 1})
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()
        self._since = 0.0

    def _speak(self) -> None:
        topic = topic_name(self._namespace, "device.heartbeats")
        while not self._stop.wait(BEAT_S):
            with self._lock:
                for device, number in self._numbers.items():
                    now_ms = time.time_ns() // 1_000_000
                    value = CODEC.encode(DeviceHeartbeat(device, number, now_ms, 0.5, 0.25, 0.0))
                    home = partition_of(device, PARTITIONS)
                    self._producer.produce(topic, value, device.encode(), home)
                    self._numbers[device] = number + 1
            self._producer.flush(10)

    def up(self, devices: tuple[str, ...]) -> None:
        """Have devices speak, which is to be announced."""
        with self._lock:
            self._numbers |= dict.fromkeys(devices, 0)
        for device in devices:
            self.wanted.setdefault(device, []).append("Online")

    def down(self, devices: tuple[str, ...]) -> None:
        """Have devices fall silent, which is to be announced."""
        with self._lock:
            for device in devices:
                del self._numbers[device]
        for device in devices:
            self.wanted[device].append("Offline")

    def pid(self, slot: int) -> int:
        """Return a worker's process id; 0 while it is not there."""
        return self.cluster.workers[slot].child.pid

    def strike(self, number: signal.Signals, slot: int) -> int:
        """Signal a worker; the time to recover counts from here. Return its process id."""
        self._since, pid = time.monotonic(), self.pid(slot)
        assert pid, "there is no worker to hurt"
        os.kill(pid, number)
        return pid

    def said(self) -> dict[str, list[str]]:
        """Return the names of the events of each device, in order."""
        found: dict[str, list[str]] = {}
        for value in values(self._kafka, topic_name(self._namespace, "device.events")):
            event = CODEC.decode(value)
            assert isinstance(event, DeviceOnline | DeviceOffline)
            found.setdefault(event.device_id, []).append(type(event).__name__[6:])
        return found

    def until(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait, and look after the workers meanwhile."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not ready():
            self.cluster.watch()
            assert time.monotonic() < deadline_s, f"not in {PATIENCE_S:.0f} s: {what}"
            time.sleep(0.1)

    def announced(self) -> None:
        """Wait until all is announced that is to be."""
        self.until("all is announced", lambda: self.said() == self.wanted)

    def finish(self, name: str) -> None:
        """Compare events and state with what they must be, and report."""
        with suppress(AssertionError):  # the report says what is missing
            self.announced()
        recovered_s = time.monotonic() - self._since
        said, lost, doubled, order = self.said(), 0, 0, 0
        for device in said.keys() | self.wanted.keys():
            has, wants = Counter(said.get(device)), Counter(self.wanted.get(device))
            lost += (wants - has).total()
            doubled += (has - wants).total()
            order += has == wants and said[device] != self.wanted[device]
        row = FaultRow(name, lost, doubled, order, self._wrong_rows(), recovered_s)
        self._report.add(row)
        assert (lost, doubled, order, row.wrong_rows) == (0, 0, 0, 0), row

    def _wrong_rows(self) -> int:
        arguments = ["device", "health", "--json", "--data", str(self._data)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        lines = map(json.loads, result.stdout.splitlines())
        rows = {row["device_id"]: row["state"] for row in lines}
        last = {device: names[-1].lower() for device, names in self.wanted.items()}
        return sum(rows.get(device) != last.get(device) for device in rows.keys() | last.keys())

    def close(self) -> None:
        """End everything."""
        self._stop.set()
        self._thread.join()
        self.cluster.stop()
        drop_topics(self._kafka, self._namespace)
