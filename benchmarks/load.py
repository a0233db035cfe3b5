"""Puts a real system under a known load: broker, workers, cameras, schedules; and stops it all.

A :class:`Rig` holds one broker (the embedded one, in a folder of its own that is deleted at the
end, or another one by ``--kafka``). Each case runs in its own namespace with workers of its own, so
that cases do not see each other. Whatever ends the program, nothing is left running: workers and
cameras are tethered to it, and the broker has its watchdog.

**A paced load** of R captures/s on N devices: each device has an interval schedule of N/R seconds,
spread over the whole period. The window begins ``SETTLE_S`` after all schedules were accepted and
ends when they are cancelled; what is measured comes from the topics (``shutterwheel/check.py``),
CPU from the operating system, by process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from connectors.cameras.null_camera import PROTOCOL as NULL_CAMERA
from connectors.cameras.simulated import LogEntry
from connectors.clients import events
from connectors.clients.publisher import Publisher
from infra.kafka.admin import drop_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.settings import BrokerSettings
from infra.kafka.topics import TOPICS
from schemas.errors import BrokerError
from shutterwheel.check import check_run, offsets_now
from shutterwheel.cluster import Cluster, ClusterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from prometheus_client.samples import Sample

    from schemas.records import DeviceProfile, ScheduleEvent
    from shutterwheel.check import RunReport

    Say = Callable[[str], None]

DATA: Final = Path(".shutterwheel/bench")
SCHEDULE: Final = "bench"
SETTLE_S: Final = 2.0
"""From the acceptance of the last schedule to the window: publishing is over and forgotten."""
DRAIN_S: Final = 60.0
"""The longest wait for captures in flight after the window."""
QUIET_S: Final = 3.0
"""Results that do not grow for so long are complete: longer than commits, retries and leads."""
OPEN: Final = ("captures", "shutterwheel_open_captures")
LOOK_S: Final = 0.25
CAMERAS_S: Final = 20.0
PARTITIONS: Final = 8
MANY_PARTITIONS: Final = 256
QUIET_PERCENT: Final = 25.0
"""CPU of a broker that does nothing but keep its files, and of one core."""
FILES_S: Final = 70
"""Kafka deletes the files of a topic a minute after the topic: quiet for longer than that."""
DELETED_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Load:
    """A paced load."""

    devices: int
    """1 to 10,000,000."""
    per_s: float
    """Captures a second over all devices."""
    seconds: float
    """Length of the window."""
    sockets: bool = False
    """Simulated cameras on sockets; else ``null-camera``."""
    blobs: str = ""
    """Where pictures go: a store's address; empty: a folder of the run."""
    workers: int = 1
    """Captures workers."""
    warm_up_s: float = SETTLE_S
    """Of the load, before the window."""

    @property
    def every_ms(self) -> int:
        """The period of a device."""
        return max(100, round(self.devices / self.per_s * 1000))

    @property
    def case(self) -> str:
        """The load in words."""
        camera = "cameras on sockets" if self.sockets else NULL_CAMERA
        return f"{camera}, {self.devices:,} devices, {self.per_s:,.0f}/s"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a paced load came to."""

    load: Load
    report: RunReport
    drained: bool
    """Everything came to its end; where it did not, captures without a result are no loss."""
    cpu_s: dict[str, float]
    """CPU seconds within the window, by process."""
    window_s: float
    restarts: int
    """Workers that had to be started again: their pauses are in the figures."""


class Cpu:
    """CPU seconds since it was made, by process.

    ``elsewhere`` is what all other processes of the machine took: a figure that was taken while
    the machine was busy with something else says so. A process that ended is left out.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._began = self._now()

    def _now(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, process in self._processes.items():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            found[name] = times.user + times.system
        whole = psutil.cpu_times()
        more = sum(getattr(whole, name, 0.0) for name in ("nice", "irq", "softirq", "steal"))
        busy = whole.user + whole.system + more
        found["elsewhere"] = busy - sum(found.values())
        return found

    def spent_s(self) -> dict[str, float]:
        """Return the CPU seconds, by name."""
        return {name: max(0.0, now - self._began[name]) for name, now in self._now().items()}


@dataclass(slots=True)
class Rig:
    """A broker and a folder for a benchmark; ``with`` starts and removes them."""

    say: Say
    kafka: str = ""
    """Another cluster; empty: the embedded broker."""
    folder: Path = field(default_factory=Path)
    broker: EmbeddedBroker | None = None
    needed: bool = True
    """Whether there is to be a broker at all."""
    partitions: int = PARTITIONS
    """Of the topics of namespaces to come."""
    most_partitions: int = PARTITIONS
    """The most there will be of a topic."""
    _cases: int = 0
    _namespaces: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        DATA.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=DATA)).absolute()
        try:
            if self.needed and not self.kafka:
                self.say("starting Kafka")
                settings = BrokerSettings(partitions=self.most_partitions * len(TOPICS))
                self.broker = EmbeddedBroker(self.folder / "kafka", settings)
                self.kafka = self.broker.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self.broker is not None:
                self.broker.stop()
            else:
                for namespace in self._namespaces:
                    drop_topics(self.kafka, namespace)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def new_namespace(self) -> str:
        """Return the namespace of a new case."""
        self._cases += 1
        # Names differ between runs: on somebody's own cluster another run may be going on.
        namespace = f"bench-{self.folder.name.removeprefix('run-').strip('_')}-{self._cases}"
        self._namespaces.append(namespace)
        return namespace

    def drop(self, namespace: str) -> None:
        """Drop the topics of a case that is over: the broker has each of their partitions open.

        Of thousands it is busy for a minute, and is waited for: the next case is not to pay.
        """
        drop_topics(self.kafka, namespace)
        self._namespaces.remove(namespace)
        if self.broker is None or self.partitions <= MANY_PARTITIONS:
            return
        self.say("waiting for Kafka to delete files")
        process, quiet, began_s = psutil.Process(self.broker.pid), 0, time.monotonic()
        while quiet < FILES_S and time.monotonic() - began_s < DELETED_S:
            quiet = quiet + 1 if process.cpu_percent(1.0) < QUIET_PERCENT else 0

    @contextmanager
    def cluster(
        self,
        namespace: str,
        *,
        wheels: int = 1,
        captures: int = 1,
        blobs: str = "",
        log_level: str = "error",
    ) -> Iterator[Cluster]:
        """Run workers in a namespace; stop them in the end."""
        options = ClusterOptions(
            data=self.folder / namespace,
            kafka=self.kafka,
            namespace=namespace,
            partitions=self.partitions,
            wheel_workers=wheels,
            capture_workers=captures,
            blobs=blobs,
            log_level=log_level,
        )
        cluster = Cluster(options)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()

    def pids(self, cluster: Cluster, **more: int) -> dict[str, int]:
        """Return the process ids to watch, by name."""
        found: dict[str, int] = {}
        for worker in cluster.workers:
            found[worker.app + ("" if worker.slot == "0" else worker.slot)] = worker.child.pid
        if self.broker is not None:
            found["broker"] = self.broker.pid
        return found | more

    def stages_s(self, cluster: Cluster) -> dict[str, float]:
        """Return the seconds of the captures workers by stage (``metrics.STAGES``)."""
        found: dict[str, float] = {}
        for sample in _samples(cluster, "captures", "shutterwheel_stage_seconds_total"):
            stage = sample.labels["stage"]
            found[stage] = found.get(stage, 0.0) + sample.value
        return found

    def publish(self, cluster: Cluster, records: Iterable[DeviceProfile | ScheduleEvent]) -> float:
        """Publish and wait for all answers; return the seconds it took.

        The workers are looked after meanwhile: one that ended in doubt is started again.
        """
        began_s = time.monotonic()
        with Publisher(self.kafka, cluster.options.namespace) as publisher:
            report = publisher.publish_many(
                records, wait=True, progress=lambda _report: cluster.watch()
            )
        bad = report.refused + report.undecided + report.failed
        if bad:
            why = report.refusals[0].reason if report.refusals else "no answer"
            raise BrokerError(f"{bad} of {report.published} records were not accepted: {why}")
        return time.monotonic() - began_s

    def drain(
        self,
        cluster: Cluster,
        longest_s: float = DRAIN_S,
        quiet_s: float = QUIET_S,
        grown: Callable[[], None] = lambda: None,
    ) -> bool:
        """Wait until no more results come; return False if some were to come still at the end.

        A capture that was RUNNING as its partition moved is tried again after its time-out.
        ``grown`` is called whenever there are more than before.
        """
        namespace, deadline_s = cluster.options.namespace, time.monotonic() + longest_s
        seen, since_s = -1, time.monotonic()
        while time.monotonic() < deadline_s:
            cluster.watch()
            ends = offsets_now(self.kafka, namespace)
            count = sum(end for (topic, _), end in ends.items() if topic.endswith("results"))
            if count != seen:
                seen, since_s = count, time.monotonic()
                grown()
            elif time.monotonic() - since_s > quiet_s and not metric_sum(cluster, *OPEN):
                return True
            time.sleep(LOOK_S)
        return False


def metric_sum(cluster: Cluster, app: str, name: str) -> int:
    """Return a metric's sum over the workers of an app."""
    return round(sum(sample.value for sample in _samples(cluster, app, name)))


def _samples(cluster: Cluster, app: str, name: str) -> Iterator[Sample]:
    """Yield a metric of this name of each worker of an app."""
    for worker in cluster.workers:
        if worker.app == app:
            with urllib.request.urlopen(f"{worker.url}/metrics", timeout=10.0) as answer:  # noqa: S310
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                yield from (sample for sample in family.samples if sample.name == name)


@contextmanager
def simulated_cameras(devices: int) -> Iterator[tuple[int, int]]:
    """Run a fleet of simulated cameras; give its port and process id."""
    command = [sys.executable, "-m", "connectors.cameras.simulated", "--tether", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--devices", str(devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BrokerError("The simulated cameras did not start.")
            port: int = msgspec.json.decode(line)["port"]
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(CAMERAS_S)
            except subprocess.TimeoutExpired:
                process.kill()


def camera_log(port: int) -> Iterator[LogEntry]:
    """Yield what the simulated cameras saw, page by page."""
    since, lines = 0, [b""]
    while lines:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/log?since={since}") as answer:
            lines = answer.read().splitlines()
        for line in lines:
            entry = msgspec.json.decode(line, type=LogEntry)
            since = entry.seq
            yield entry


def device_ids(devices: int) -> Iterator[str]:
    """Yield the ids that simulated cameras have; null cameras get the same."""
    return (f"cam-{number:05d}" for number in range(1, devices + 1))


def profiles(devices: int, port: int | None) -> Iterator[DeviceProfile]:
    """Yield profiles: of simulated cameras on this port, or of null cameras."""
    for device_id in device_ids(devices):
        if port is None:
            yield events.profile(device_id, "null:", protocol=NULL_CAMERA)
        else:
            yield events.profile(device_id, f"http://127.0.0.1:{port}/cam/{device_id}/snapshot.jpg")


def paced(rig: Rig, load: Load) -> Measured:
    """Put a paced load on a new set of workers and measure it."""
    namespace, devices, every = rig.new_namespace(), load.devices, load.every_ms
    with ExitStack() as stack:
        port: int | None = None
        more: dict[str, int] = {}
        if load.sockets:
            port, more["cameras"] = stack.enter_context(simulated_cameras(devices))
        rig.say(f"{load.case}: starting workers")
        cluster = stack.enter_context(
            rig.cluster(namespace, captures=load.workers, blobs=load.blobs)
        )
        rig.say(f"{load.case}: publishing {devices:,} profiles and schedules")
        rig.publish(cluster, profiles(devices, port))
        rig.publish(
            cluster,
            (
                events.upserted(device_id, SCHEDULE, every=every, spread=every)
                for device_id in device_ids(devices)
            ),
        )
        _watch_for(cluster, load.warm_up_s)
        rig.say(f"{load.case}: measuring for {load.seconds:g} s")
        since, started_ms = offsets_now(rig.kafka, namespace), int(time.time() * 1000) + 1
        cpu, began_s = Cpu(rig.pids(cluster, **more)), time.monotonic()
        _watch_for(cluster, load.seconds)
        cpu_s, window_s = cpu.spent_s(), time.monotonic() - began_s
        rig.say(f"{load.case}: cancelling and draining")
        rig.publish(
            cluster, (events.cancelled(device_id, SCHEDULE) for device_id in device_ids(devices))
        )
        drained = rig.drain(cluster)
        rig.say(f"{load.case}: checking topics and pictures")
        log = None if port is None else camera_log(port)
        report = check_run(rig.kafka, namespace, cluster.blobs, since, started_ms, log)
        restarts = cluster.restarts
    rig.drop(namespace)
    return Measured(load, report, drained, cpu_s, window_s, restarts)


def _watch_for(cluster: Cluster, seconds: float) -> None:
    """Look after the workers for so long."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        cluster.watch()
        time.sleep(min(LOOK_S, left_s))
