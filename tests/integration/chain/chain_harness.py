"""What the tests of the whole chain share: cluster, cameras, publisher, faults and the check.

Everything is real: Kafka, worker processes under the supervisor, cameras on sockets (served by a
thread of the test), the public client and the checker of ``shutterwheel/check.py``.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import msgspec
from chain_reader import PATIENCE_S, values
from confluent_kafka import Producer

from connectors.cameras.simulated import device_id
from connectors.cameras.simulated_onvif import SimulatedOnvif
from connectors.clients import events
from connectors.clients.kafka import make_codec
from connectors.clients.publisher import Publisher
from infra.kafka.admin import drop_topics
from infra.kafka.topics import topic_name
from schemas.records import Accepted, CaptureCommand, CaptureResult, DeadLetter, Record
from shutterwheel import check
from shutterwheel.cluster import Cluster, ClusterOptions

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator

    from connectors.cameras.faults import Fault
    from connectors.cameras.simulated import LogEntry
    from shutterwheel.cluster import Worker

SCHEDULE = "chain"
PARTITIONS = 4
SESSION_MS = 2_000
SIDE_PX = 96  # of a picture


class CameraThread:
    """Simulated cameras on an event loop of their own."""

    def __init__(self, devices: int, port: int = 0) -> None:
        self._fleet = SimulatedOnvif(devices, port=port, width_px=SIDE_PX, height_px=SIDE_PX)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._fleet.start())

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def url(self, device: str) -> str:
        return self._fleet.url(device)

    def service(self, device: str) -> str:
        """The ONVIF device service in front of the same camera."""
        return self._fleet.service(device)

    @property
    def port(self) -> int:
        return self._fleet.port

    def log(self) -> list[LogEntry]:
        return self._fleet.log()

    def faults(self, faults: dict[str, Fault | None]) -> None:
        self._fleet.faults.update_json(msgspec.json.encode(faults))

    def close(self) -> None:
        self._call(self._fleet.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Chain:
    """A running cluster with cameras; one thread uses it, and every wait looks after the workers."""

    def __init__(
        self, options: ClusterOptions, devices: int = 30, cameras: CameraThread | None = None
    ) -> None:
        self.cluster = Cluster(options)
        self.namespace = options.namespace
        self.devices = [device_id(n) for n in range(1, devices + 1)]
        self.codec = make_codec(options.schema_registry)
        self.cameras = cameras or CameraThread(devices)
        self._own_cameras = cameras is None
        self._unused = list(reversed(self.devices))
        self._scheduled: set[str] = set()
        self._publisher: Publisher | None = None
        self.started_ms = 0
        self.since: dict[tuple[str, int], int] = {}

    def start(self) -> Self:
        self.started_ms = time.time_ns() // 1_000_000
        self.cluster.start()
        self.since = check.offsets_now(self.kafka, self.namespace)
        return self

    def stop(self) -> None:
        """Close the clients, then drain and stop the workers, as ``shutterwheel up`` does."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        self.cluster.stop()

    def close(self) -> None:
        """Stop, and leave nothing on the shared broker."""
        try:
            self.stop()
        finally:
            if self._own_cameras:
                self.cameras.close()
            if self.cluster.options.kafka:
                drop_topics(self.kafka, self.namespace)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def kafka(self) -> str:
        return self.cluster.kafka

    @property
    def publisher(self) -> Publisher:
        if self._publisher is None:
            registry = self.cluster.options.schema_registry
            self._publisher = Publisher(self.kafka, self.namespace, registry=registry)
        return self._publisher

    # -- asking for photos ---------------------------------------------------------------------

    def take(self, count: int) -> list[str]:
        """Return known devices that no other test of this chain uses."""
        found = [self._unused.pop() for _ in range(count)]
        self.introduce(found)
        return found

    def introduce(self, devices: Iterable[str] | None = None) -> None:
        """Make devices known by their cameras' addresses."""
        for device in devices or self.devices:
            self.publisher.device(device, self.cameras.url(device))
        self.publisher.flush()

    def schedule(
        self, every_ms: int, devices: Iterable[str] | None = None, lead: str = "2s", **policy: Any
    ) -> None:
        """Put devices on a schedule, spread over its period; each must be accepted."""
        options = {"lead": lead, "spread": every_ms, **policy}
        chosen = list(devices or self.devices)
        self._scheduled.update(chosen)
        self.all_accepted(
            events.upserted(device, SCHEDULE, every=every_ms, **options) for device in chosen
        )

    def cancel(self, devices: Iterable[str] | None = None) -> None:
        """End the schedules of devices."""
        chosen = list(devices or self.devices)
        self.all_accepted(events.cancelled(device, SCHEDULE) for device in chosen)
        self._scheduled.difference_update(chosen)

    def cancel_what_is_left(self) -> None:
        """End the schedules of a test that failed, so that the next one's commands can end."""
        if self._scheduled:
            self.cancel(self._scheduled)

    def all_accepted(self, wanted: Iterable[Any]) -> None:
        receipts = [self.publisher.publish(event, repeated=False) for event in wanted]
        for receipt in receipts:
            self.wait_until(f"the broker has {receipt}", lambda r=receipt: self._acknowledged(r))
            answer = receipt.decision(PATIENCE_S)
            assert isinstance(answer, Accepted), answer

    def _acknowledged(self, receipt: Any) -> bool:
        self.publisher.serve(0.01)
        return bool(receipt.done)

    # -- waiting -------------------------------------------------------------------------------

    def wait_until(
        self, what: str, ready: Callable[[], Any], patience_s: float = PATIENCE_S
    ) -> Any:
        """Return the first true answer, looking after the workers; fail with ``what`` else."""
        deadline_s = time.monotonic() + patience_s
        while True:
            self.cluster.watch()
            found = ready()
            if found:
                return found
            assert time.monotonic() < deadline_s, f"Not in {patience_s:.0f} s: {what}"
            time.sleep(0.05)

    def run_on(self, photos: int, devices: Iterable[str] | None = None) -> None:
        """Let the system work until the cameras have opened that many more shutters."""
        chosen = list(devices or self.devices)
        wanted = self.shutters(chosen) + photos
        self.wait_until(f"{photos} more shutters", lambda: self.shutters(chosen) >= wanted)

    def shutters(self, devices: Iterable[str] | None = None) -> int:
        """Return how many photos these devices (default: all) took, by their own log."""
        wanted = set(devices or self.devices)
        return sum(1 for e in self.cameras.log() if e.shutter and e.device_id in wanted)

    def await_ready(self) -> None:
        self.wait_until(
            "every worker is ready", lambda: all(w.ready() for w in self.cluster.workers)
        )

    def drain(self) -> None:
        """Wait until every command has its result."""
        self.wait_until("every command has its result", lambda: not self.open_commands())

    def open_commands(self) -> set[int]:
        commands = {c.command_id for c in self.records("capture.commands", CaptureCommand)}
        return commands - {r.command_id for r in self.results()}

    # -- reading -------------------------------------------------------------------------------

    def records(self, name: str, *kinds: type[Record]) -> Iterator[Any]:
        """Yield the records of a topic that are of these kinds."""
        for value in values(self.kafka, self.topic(name)):
            record = self.codec.decode(value)
            if isinstance(record, kinds):
                yield record

    def results(self) -> list[CaptureResult]:
        return list(self.records("capture.results", CaptureResult))

    def result(self, command_id: int) -> CaptureResult:
        """Return the result of a command, waiting for it."""

        def found() -> list[CaptureResult]:
            return [r for r in self.results() if r.command_id == command_id]

        return self.wait_until(f"a result of {command_id}", found)[0]

    def letters(self) -> dict[tuple[str, int, int], DeadLetter]:
        """Return the dead letters by origin; two of one origin fail the test."""
        found: dict[tuple[str, int, int], DeadLetter] = {}
        for letter in self.records("dead.letters", DeadLetter):
            origin = (letter.topic, letter.partition, letter.offset)
            assert origin not in found, f"two letters of {origin}"
            found[origin] = letter
        return found

    def check(self) -> check.RunReport:
        """Check the run from its topics, its photos and the cameras' own log."""
        return check.check_run(
            self.kafka,
            self.namespace,
            self.cluster.blobs,
            since=self.since,
            started_ms=self.started_ms,
            camera_logs=self.cameras.log(),
            schema_registry=self.cluster.options.schema_registry,
        )

    def finish(self, devices: Iterable[str] | None = None) -> check.RunReport:
        """Cancel the schedules, drain, check, and demand what holds under every fault."""
        self.cancel(devices)
        self.drain()
        report = self.check()
        assert_kept(report)
        assert not self.shutters_after_the_end()
        return report

    def shutters_after_the_end(self) -> list[LogEntry]:
        """Return photos a camera took of captures that had ended: nobody could want them."""
        ended = {str(r.command_id): r.ended_at_ms for r in self.results()}
        return [
            e
            for e in self.cameras.log()
            if e.shutter and e.at_ms > ended.get(e.command_id, e.at_ms)
        ]

    # -- hurting -------------------------------------------------------------------------------

    def worker(self, app: str, slot: int = 0) -> Worker:
        return next(w for w in self.cluster.workers if (w.app, w.slot) == (app, str(slot)))

    def pid(self, app: str, slot: int = 0) -> int:
        """Return a worker's process id; 0 while it does not run."""
        return self.worker(app, slot).child.pid

    def signal(self, app: str, number: signal.Signals, slot: int = 0) -> int:
        """Send a signal to a worker; return its process id."""
        pid = self.worker(app, slot).child.pid
        assert pid, f"{app} {slot} does not run"
        os.kill(pid, number)
        return pid

    def owned(self, app: str, slot: int) -> int:
        """Return how many partitions a worker owns, by its own metrics; -1: it does not answer."""
        try:
            url = f"{self.worker(app, slot).url}/metrics"
            with urllib.request.urlopen(url, timeout=1.0) as answer:
                text = answer.read().decode()
        except OSError:
            return -1
        return next(
            int(float(line.rpartition(" ")[2]))
            for line in text.splitlines()
            if line.startswith("shutterwheel_partitions_owned")
        )

    def raw_producer(self, **settings: Any) -> Producer:
        """Return a producer that writes whatever it is given."""
        return Producer(
            {"bootstrap.servers": self.kafka, "linger.ms": 0, "log_level": 0, **settings}
        )

    def write(self, topic: str, partition: int, key: bytes, value: bytes | None) -> int:
        """Write a record as it is, good or not; return its offset."""
        placed: list[tuple[Any, int]] = []
        producer = self.raw_producer()
        producer.produce(
            self.topic(topic),
            value,
            key,
            partition,
            on_delivery=lambda error, message: placed.append((error, message.offset())),
        )
        assert producer.flush(PATIENCE_S) == 0
        error, offset = placed[0]
        assert error is None, error
        return offset

    def topic(self, name: str) -> str:
        return topic_name(self.namespace, name)


def assert_kept(report: check.RunReport) -> None:
    """Nothing lost, nothing doubled, nothing early, nothing that nobody asked for, all on record."""
    wrong = (report.lost, report.duplicated, report.early, report.unexpected, report.illegal)
    assert wrong == (0, 0, 0, 0, 0), report.findings
    assert report.unanswered == 0, report.findings
    assert report.images.sha256_verified == report.images.count, report.findings
    assert report.ok, report.findings
    settled = report.succeeded + report.failed + report.expired
    assert report.due == settled + report.revoked_due + report.superseded, report
