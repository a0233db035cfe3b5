"""Everything that `shutterwheel up` runs on one machine: broker, topics, workers.

``Cluster`` is what the command, the demo, the benchmarks and the tests start. The broker is the
embedded one unless ``kafka`` names another; workers are processes under the supervisor.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import TopicPartition

from infra.kafka.admin import admin_client, cluster_metadata, create_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.offsets import list_offsets, stable_offsets
from infra.kafka.ports import free_port
from infra.kafka.settings import BrokerSettings
from infra.kafka.topics import DEFAULT_PARTITIONS, TOPICS, topic_name
from schemas.errors import BrokerError
from shutterwheel.context import RunFile, WorkerEntry
from shutterwheel.supervisor import Child, Supervisor
from streams.replay.cut import group_name

Say = Callable[[str], None]

READY_S: Final = 60.0
READY_A_PARTITION_S: Final = 0.1
"""How long the workers may take until they work: join, assignment, recovery."""
POLL_S: Final = 0.05
COORDINATOR_S: Final = 30.0
"""How long a new cluster is given to make its topic of offsets before we ask no more."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What is started, and where its data are."""

    data: Path = Path(".shutterwheel")
    """Folder of everything: broker, state, blobs, logs."""
    kafka: str = ""
    """Another cluster's bootstrap servers; empty: the embedded broker."""
    kafka_port: int = 0
    """Port of the embedded broker; 0: the one it had before, or any."""
    namespace: str = ""
    partitions: int = DEFAULT_PARTITIONS
    """Partitions of new topics; topics that exist keep theirs."""
    replication: int = 1
    wheel_workers: int = 1
    """1 to 64."""
    capture_workers: int = 1
    """1 to 64."""
    device_workers: int = 0
    """0 to 64; 0: nobody looks after heartbeats."""
    device_timeout: str = "2m"
    """How long nothing may be heard of a device that is online."""
    poll_every: str = ""
    """How often devices that send no heartbeats are asked for one; empty: never."""
    blobs: str = ""
    """Folder or URL of the blob store; empty: ``blobs`` in the data folder."""
    allow: tuple[str, ...] = ()
    """Networks whose cameras may be contacted; empty: loopback and private ones."""
    session_timeout_ms: int = 6_000
    schema_registry: str = ""
    ntp: tuple[str, ...] = ()
    """NTP servers, HOST[:PORT]; empty: the machine's own clock."""
    capacity: int = 0
    """Captures a second a logical shard; 0: no bound."""
    snapshot_every: str = "24h"
    """How often the wheel writes its state down for audits; 0: never."""
    prune_every: str = ""
    """How often photos whose ``keep`` is over are deleted; empty: never."""
    sign_key: str = ""
    """File of the private key that signs labels; empty: they are not signed."""
    image_processes: int = 0
    """Processes of each captures worker that make photos over; 0: threads."""
    quality_server: str = ""
    """HOST:PORT of a server of models that judges photos; empty: they are judged here."""
    quality_model: str = ""
    """NAME or NAME:VERSION of its model; empty: ``quality``."""
    log_level: str = "info"
    sandbox_clock: Path | None = None
    """File of the clock by which the workers go, in a sandbox; none: the real time."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process and where it answers."""

    app: str
    slot: str
    url: str
    child: Child

    def ready(self) -> bool:
        """Ask whether it owns its partitions and works on them."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=1.0) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False


class Cluster:
    """One machine's shutterwheel. Not thread-safe: one thread starts, watches and stops it."""

    def __init__(self, options: ClusterOptions, say: Say = lambda _text: None) -> None:
        """Take the options; ``say`` is told in short lines what is being done."""
        self.options = options
        self.data = options.data.absolute()
        self.blobs = options.blobs or (self.data / "blobs").as_uri()
        self.kafka = options.kafka
        self.partitions = options.partitions
        self.workers: list[Worker] = []
        self._say = say
        self._downloading = 0
        broker = None if options.kafka else self._embedded()
        self.supervisor = Supervisor(broker)
        self.run_file = RunFile.path(self.data)

    def _embedded(self) -> EmbeddedBroker:
        partitions = self.options.partitions * len(TOPICS)
        settings = BrokerSettings(port=self.options.kafka_port, partitions=partitions)
        return EmbeddedBroker(self.data / "kafka", settings, self._on_download)

    def _on_download(self, done_bytes: int, total_bytes: int) -> None:
        percent = done_bytes * 100 // max(total_bytes, 1) // 10 * 10
        if percent > self._downloading:
            self._downloading = percent
            self._say(f"fetching Kafka: {percent} % of {total_bytes / 1e6:.0f} MB")

    def start(self, wait: bool = True) -> None:
        """Start everything; with ``wait`` return when each worker works.

        Raises:
            BrokerError: the broker cannot be started or does not answer.
            ChildError: a worker cannot be kept running.

        """
        self.data.mkdir(parents=True, exist_ok=True)
        broker = self.supervisor.broker
        if broker is not None:
            self._say("starting Kafka")
            self.kafka = broker.start()
        self._make_topics()
        self._say("starting workers")
        for app, count in (
            ("wheel", self.options.wheel_workers),
            ("captures", self.options.capture_workers),
            ("devices", self.options.device_workers),
        ):
            for slot in range(count):
                self._start_worker(app, str(slot))
        if self.options.poll_every:
            self._start_poller()
        if self.options.prune_every:
            self._start_pruner()
        self._write_run_file()
        if wait:
            self.await_ready()

    def _make_topics(self) -> None:
        options = self.options
        topic = topic_name(options.namespace, "schedule.events")
        found = cluster_metadata(admin_client(self.kafka), self.kafka).topics.get(topic)
        if found is not None and found.partitions:
            self.partitions = len(found.partitions)
        report = create_topics(self.kafka, options.namespace, self.partitions, options.replication)
        if report.created:
            self._say(f"created {len(report.created)} topics of {self.partitions} partitions")
        for sentence in report.differences:
            self._say(f"warning: {sentence}")
        # A new cluster makes its topic of offsets when a coordinator is first asked for: now,
        # so that the workers need not wait for it.
        threading.Thread(target=self._ask_coordinator, args=(topic,), daemon=True).start()

    def has_heard_all(self) -> bool:
        """Say whether the wheel has answered every schedule event that is written by now.

        Raises:
            BrokerError: the broker does not answer.

        """
        namespace = self.options.namespace
        topic = topic_name(namespace, "schedule.events")
        asked = [(topic, number) for number in range(self.partitions)]
        ends = list_offsets(admin_client(self.kafka), asked, "latest", READY_S)
        parts = [TopicPartition(*at) for at, end in ends.items() if end]
        group = group_name(namespace, "wheel")
        read = stable_offsets(self.kafka, group, parts, READY_S) if parts else []
        return all(part.offset >= ends[topic, part.partition] for part in read)

    def _ask_coordinator(self, topic: str) -> None:
        with contextlib.suppress(BrokerError):
            stable_offsets(self.kafka, "wheel", [TopicPartition(topic, 0)], COORDINATOR_S)

    def _start_worker(self, app: str, slot: str) -> None:
        options = self.options
        port = free_port()
        command = [
            *(sys.executable, "-m", "shutterwheel", "worker", app),
            *("--slot", slot, "--kafka", self.kafka, "--namespace", options.namespace),
            *("--data", str(self.data), "--blobs", self.blobs, "--port", str(port)),
            *("--session-timeout-ms", str(options.session_timeout_ms)),
            *("--schema-registry", options.schema_registry),
            *("--log-level", options.log_level, "--tether"),
        ]
        for network in options.allow:
            command += ["--allow", network]
        if app == "wheel" and options.capacity:
            command += ["--capacity", str(options.capacity)]
        if app == "wheel":
            command += ["--snapshot-every", options.snapshot_every]
        if options.sandbox_clock is not None:
            command += ["--sandbox-clock", str(options.sandbox_clock)]
        if app == "captures" and options.sign_key:
            command += ["--sign-key", options.sign_key]
        if app == "captures" and options.image_processes:
            command += ["--image-processes", str(options.image_processes)]
        if app == "captures" and options.quality_server:
            command += ["--quality-server", options.quality_server]
            command += ["--quality-model", options.quality_model]
        if app == "devices":
            command += ["--device-timeout", options.device_timeout]
        for server in options.ntp:
            command += ["--ntp", server]
        self._keep(f"worker {app} {slot}", app, slot, port, command)

    def _start_poller(self) -> None:
        options = self.options
        port = free_port()
        command = [
            *(sys.executable, "-m", "shutterwheel", "poll", "--every", options.poll_every),
            *("--kafka", self.kafka, "--namespace", options.namespace, "--port", str(port)),
            *("--schema-registry", options.schema_registry),
            *("--log-level", options.log_level, "--tether"),
        ]
        for network in options.allow:
            command += ["--allow", network]
        self._keep("poller", "poll", "0", port, command)

    def _start_pruner(self) -> None:
        port = free_port()
        command = [
            *(sys.executable, "-m", "shutterwheel", "photos", "prune"),
            *("--every", self.options.prune_every, "--blobs", self.blobs, "--port", str(port)),
            *("--log-level", self.options.log_level, "--tether"),
        ]
        self._keep("pruner", "photos", "0", port, command)

    def _keep(self, name: str, app: str, slot: str, port: int, command: list[str]) -> None:
        child = Child(name, command, self.data / "logs" / f"{app}-{slot}.log")
        self.supervisor.add(child)
        self.workers.append(Worker(app, slot, f"http://127.0.0.1:{port}", child))

    def _write_run_file(self) -> None:
        RunFile(
            kafka=self.kafka,
            namespace=self.options.namespace,
            partitions=self.partitions,
            workers=tuple(WorkerEntry(w.app, w.slot, w.url) for w in self.workers),
            blobs=self.blobs,
            schema_registry=self.options.schema_registry,
            ntp=self.options.ntp,
            quality_server=self.options.quality_server,
            quality_model=self.options.quality_model,
        ).save(self.data)

    def await_ready(self) -> None:
        """Wait until every worker works, looking after them meanwhile."""
        patience_s = READY_S + self.options.partitions * READY_A_PARTITION_S
        deadline_s = time.monotonic() + patience_s
        while not all(worker.ready() for worker in self.workers):
            self.supervisor.watch()
            if time.monotonic() > deadline_s:
                late = next(worker for worker in self.workers if not worker.ready())
                raise BrokerError(
                    f"{late.child.name} was not ready within {patience_s:.0f} s: "
                    f"{late.child.last_words()}"
                )
            time.sleep(POLL_S)

    def watch(self) -> None:
        """Look after everybody once; call it a few times a second."""
        self.supervisor.watch()

    def stop(self) -> None:
        """Drain and stop the workers, then the broker; remove the run file."""
        self.supervisor.stop()
        self.run_file.unlink(missing_ok=True)

    @property
    def restarts(self) -> int:
        """How often a worker or the broker was started again."""
        return self.supervisor.broker_restarts + sum(w.child.restarts for w in self.workers)
