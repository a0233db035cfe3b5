"""One worker process: the app of its name, its cameras and blobs, its operator's server.

Here, and only here, connectors are handed to agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import resource
import signal
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import uvloop

from infra.kafka.admin import admin_client, cluster_metadata
from infra.kafka.topics import topic_name
from schemas.codec import Codec
from schemas.errors import BrokerError, ClockError, ShutterwheelError, UsageError
from schemas.select import schema_ids
from shutterwheel.health_routes import health_routes
from streams.agents import capture_executor, device_health, timing_wheel
from streams.agents.capture_executor import CaptureExecutor
from streams.agents.capture_settings import ExecutorSettings, for_partitions
from streams.agents.device_health import HealthWatch
from streams.agents.ports import Load
from streams.agents.snapshots import Snapshots
from streams.agents.timing_wheel import TimingWheel, WheelSettings
from streams.core import ids
from streams.core.health import HealthSettings
from streams.observability.http import Condition, OperatorServer, Reply, Route
from streams.observability.load import LoadSampler
from streams.observability.logs import configure, get_logger
from streams.observability.metrics import Metrics
from streams.runtime.app import ShardApp
from streams.runtime.clock import Clock, Correction
from streams.runtime.ntp import NtpSettings, NtpSource
from streams.runtime.sandbox_clock import NO_SKEW_MS, SandboxClock, SandboxTime, check_sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

    from connectors.images.quality.remote import RemoteSettings
    from connectors.images.signing import Signer
    from schemas.records import EndedCapture, OpenCapture
    from streams.runtime.settings import RuntimeSettings


EXIT_DOUBT = 3
"""The worker was in doubt and stopped; started again it recovers."""
ORPHAN_S = 15.0
"""How long a worker whose supervisor has gone may take to end in order; then it ends as it is. Its
broker may have gone as well, and a commit would wait for that in vain."""
SWITCH_S = 0.0005
GC_THRESHOLDS = (250, 10, 80_000)
"""Objects made that are not gone by themselves, and collections of the younger generation, until
one is collected. What lives is looked at as often whatever these are; they say how much of it at a
time: 2,000 objects made at once and gone later were pauses of 10 ms, and of 30 for the second
generation. The oldest, all that lives on, is looked at each half hour of full load."""
YIELD_NICE = 3
"""How much a worker without shutters yields; a broker on its machine yields more."""
TOPICS_TRIES = 5
"""How often, a second apart, a worker looks for topics that are just being made."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is started with."""

    runtime: RuntimeSettings
    port: int = 0
    """Port of the operator's server on 127.0.0.1; 0: any."""
    blobs: str = ".shutterwheel/blobs"
    """Folder or URL of the blob store."""
    schema_registry: str = ""
    """URL of a Schema Registry; empty: ids are fingerprints."""
    log_level: str = "info"
    tethered: bool = False
    """Stop when standard input closes: the supervisor has gone."""
    allow: tuple[str, ...] = ()
    """Networks whose cameras may be contacted; empty: loopback and private ones."""
    ntp: NtpSettings = field(default_factory=NtpSettings)
    wheel: WheelSettings = field(default_factory=WheelSettings)
    executor: ExecutorSettings = field(default_factory=ExecutorSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    sign_key: Path | None = None
    """File of the private key that signs photos' labels; none: they are not signed."""
    image_processes: int = 0
    """Processes that make photos over; 0: threads."""
    quality: RemoteSettings | None = None
    """A server of models that judges photos; none: they are judged here."""
    sandbox_clock: Path | None = None
    """File of a sandbox's clock (``streams/runtime/sandbox_clock.py``); none: the real time."""


def in_sandbox(
    runtime: RuntimeSettings, executor: ExecutorSettings, clock: Path | None
) -> tuple[RuntimeSettings, ExecutorSettings]:
    """Return the settings of a worker that goes by a sandbox's clock; as they are without one.

    What it waits for commits stays as long in real time, so more passes on its clock meanwhile. No
    clock but its own tells its time. UsageError outside a sandbox's namespace.
    """
    if clock is None:
        return runtime, executor
    check_sandbox(runtime.namespace)
    speed = SandboxTime.load(clock).speed
    return (
        replace(runtime, max_skew_ms=NO_SKEW_MS),
        replace(
            executor,
            arm_ms=round(executor.arm_ms * speed),
            cover_ms=round(executor.cover_ms * speed),
        ),
    )


def run(options: WorkerOptions) -> NoReturn:
    """Run a worker until it is told to stop or fails; never returns.

    The process is left by ``os._exit``: threads of Kafka clients that wait for a broker must not
    keep a worker alive that is in doubt.
    """
    settings = options.runtime
    configure(settings.app, settings.slot, options.log_level)
    if settings.app != capture_executor.APP:
        _yield_cpu()
    log = get_logger(__name__)
    _allow_sockets()
    code = 0
    try:
        # Never closed: closing waits for threads, such as a recovery that waits for a broker.
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        runner.run(_Worker(options).main())
    except ShutterwheelError as error:
        log.error("worker stops", reason=error.line(), kind=type(error).__name__)
        code = EXIT_DOUBT if error.retryable else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        log.exception("worker crashes")
        code = EXIT_DOUBT
    sys.stderr.flush()
    os._exit(code)


def _yield_cpu() -> None:
    """Let the captures workers of this machine go first: what others take hides in the lead.

    Linux weighs sessions first, and processes within them then: sched(7), autogroup.
    """
    with contextlib.suppress(OSError):
        os.nice(YIELD_NICE)
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(YIELD_NICE))


def _allow_sockets() -> None:
    """Raise the soft limit of open files to the hard one: a capture in flight is a socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _metadata(
    admin: AdminClient, bootstrap: str, patience_s: float, stop: asyncio.Event
) -> ClusterMetadata:
    """Return the cluster's metadata, asking for as long as workers wait for a broker.

    That is longer than the life after which the supervisor calls a child steady: a worker is
    started again for as long as an outage lasts, and is not given up as one that cannot run.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while True:
        try:
            return await loop.run_in_executor(None, cluster_metadata, admin, bootstrap)
        except BrokerError as error:
            if loop.time() >= deadline_s or stop.is_set():
                raise
            get_logger(__name__).warning("waiting for Kafka", reason=str(error))


async def _partition_count(settings: RuntimeSettings, stop: asyncio.Event) -> int:
    """Return P, as the topic every app's inputs are co-partitioned with has it."""
    topic = topic_name(settings.namespace, timing_wheel.EVENTS)
    bootstrap = settings.bootstrap
    admin = admin_client(bootstrap)
    patience_s = settings.broker_patience_ms / 1000.0
    for _ in range(TOPICS_TRIES):
        metadata = await _metadata(admin, bootstrap, patience_s, stop)
        found = metadata.topics.get(topic)
        if found is not None and found.partitions:
            return len(found.partitions)
        await asyncio.sleep(1.0)
    raise UsageError(
        f"There is no topic {topic} at {bootstrap}: run `shutterwheel topics --create`."
    )


class _Worker:
    """Puts an app together and runs it."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._settings = options.runtime
        self._metrics = Metrics(self._settings.app, self._settings.slot)
        self._log = get_logger(__name__)
        self._clock = (
            Clock(on_jump=self._on_jump, on_correction=self._on_correction)
            if options.sandbox_clock is None
            else SandboxClock(options.sandbox_clock)
        )
        self._codec = Codec(schema_ids(options.schema_registry))
        self._stop = asyncio.Event()
        self._closing = contextlib.AsyncExitStack()
        self._app: ShardApp | None = None
        self._load = LoadSampler()
        self._routes: dict[str, Route] = {}

    def _on_correction(self, correction: Correction) -> None:
        self._metrics.clock_corrections.inc(correction.kind)
        error_s = self._clock.error_s()
        self._log.info(
            "clock corrected",
            kind=correction.kind,
            by_ms=round(correction.amount_s * 1000.0, 3),
            error_ms=None if error_s is None else round(error_s * 1000.0, 3),
        )

    def _bind_clock(self) -> None:
        clock, metrics = self._clock, self._metrics
        metrics.clock_offset.bind(clock.offset_s)
        metrics.clock_error.bind(
            lambda: math.nan if (error_s := clock.error_s()) is None else error_s
        )
        metrics.clock_drift.bind(lambda: clock.drift)
        metrics.clock_disciplined.bind(lambda: float(clock.disciplined))

    def _on_jump(self, jump_ms: float) -> None:
        self._metrics.clock_jumps.inc()
        self._log.warning("wall time jumped", jump_ms=round(jump_ms))
        if (
            self._app is not None
            and self._settings.app == capture_executor.APP
            and abs(jump_ms) > self._settings.max_skew_ms
        ):
            # Shutters that are armed would open by it before a commit compares it with the
            # broker's. A wheel only writes, and compares first.
            self._app.fail(ClockError(f"This machine's clock jumped by {jump_ms:+,.0f} ms."))

    async def main(self) -> None:
        """Run until told to stop."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if self._options.tethered:
            loop.add_reader(sys.stdin.fileno(), self._on_tether)
        partitions = await _partition_count(settings, self._stop)
        async with self._closing:
            ntp = NtpSource(self._options.ntp, self._clock, self._metrics)
            self._bind_clock()
            await ntp.start()
            app = self._app = await self._make(partitions)
            if ntp.servers:
                app.loop(ntp.keep)
            if settings.app == capture_executor.APP:
                app.loop(self._load.keep)
            server = OperatorServer(self._metrics, ready=lambda: self._condition(app))
            for path, route in self._routes.items():
                server.add_get(path, route)
            port = await server.start(port=self._options.port)
            self._closing.push_async_callback(server.stop)
            self._log.info("worker starts", port=port, partitions=partitions, pid=os.getpid())
            # Other threads (commits, blobs) hand the interpreter back this soon to a due timer.
            sys.setswitchinterval(SWITCH_S)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            await app.run(self._stop)
            self._log.info("worker stops", reason="asked to")

    def _on_tether(self) -> None:
        if not os.read(sys.stdin.fileno(), 1):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            end = threading.Timer(ORPHAN_S, os._exit, (EXIT_DOUBT,))
            end.daemon = True
            end.start()
            self._stop.set()

    async def _make(self, partitions: int) -> ShardApp:
        name = self._settings.app
        if name == timing_wheel.APP:
            program: TimingWheel | CaptureExecutor | HealthWatch = TimingWheel(
                self._settings,
                self._options.wheel,
                self._codec,
                self._clock,
                self._metrics,
                partitions,
                self._snapshots(partitions),
            )
            layout = timing_wheel.layout(partitions)
        elif name == capture_executor.APP:
            program = await self._make_executor(partitions)
            layout = capture_executor.layout(partitions)
        elif name == device_health.APP:
            program = HealthWatch(
                self._options.health, self._codec, self._clock, self._metrics, partitions
            )
            layout = device_health.layout(partitions)
        else:
            raise UsageError(f"There is no app {name!r}.")
        app = ShardApp(self._settings, layout, program, self._clock, self._metrics)
        program.attach(app)
        if isinstance(program, CaptureExecutor):
            self._routes["/captures/{id}"] = lambda query: self._capture(app, query)
        elif isinstance(program, HealthWatch):
            self._routes |= health_routes(program, partitions)
        return app

    def _snapshots(self, partitions: int) -> Snapshots | None:
        wheel = self._options.wheel
        if not wheel.snapshot_every_ms:
            return None
        from connectors.blobs.snapshots import SnapshotFiles

        return Snapshots(
            lambda: SnapshotFiles.open(self._options.blobs, self._settings.namespace),
            wheel.snapshot_every_ms,
            self._codec,
            self._clock,
            self._metrics,
            partitions,
            wheel.tz_version,
        )

    async def _make_executor(self, partitions: int) -> CaptureExecutor:
        # Here, because what cameras need (HTTP client, JPEG) takes a second to import.
        from connectors.blobs.store import WORKER_PROCESSES, BlobStore
        from connectors.cameras.base import CameraSettings
        from connectors.cameras.registry import Cameras
        from connectors.images.executor import ImageExecutor, ImageSettings
        from shutterwheel.judging import make_judge
        from shutterwheel.photos import CameraPhotos

        allow = self._options.allow
        cameras = Cameras(CameraSettings(allowed_networks=allow) if allow else CameraSettings())
        blobs = BlobStore.open(self._options.blobs, processes=WORKER_PROCESSES)
        await blobs.start()
        self._closing.push_async_callback(cameras.close)
        self._closing.push_async_callback(blobs.aclose)
        judge = make_judge(self._options.quality, self._metrics)
        images = ImageExecutor(
            ImageSettings(processes=self._options.image_processes), self._signer()
        )
        self._closing.push_async_callback(judge.aclose)
        self._closing.push_async_callback(images.aclose)
        return CaptureExecutor(
            self._settings,
            for_partitions(self._options.executor, self._settings, partitions),
            CameraPhotos(cameras, blobs, judge, images),
            self._codec,
            self._clock,
            self._metrics,
            partitions,
            lambda: Load(self._load.cpu, self._load.mem),
        )

    def _signer(self) -> Signer | None:
        if self._options.sign_key is None:
            return None
        from connectors.images.signing import Signer

        return Signer.load(self._options.sign_key)

    @staticmethod
    def _condition(app: ShardApp) -> Condition:
        if not app.ready():
            return Condition(ok=False, reason="partitions are being assigned or recovered")
        if not app.group.lease_alive():
            return Condition(ok=False, reason="no lease: the group's coordinator does not answer")
        return Condition(ok=True)

    @staticmethod
    async def _capture(app: ShardApp, query: Mapping[str, str]) -> Reply:
        """Answer where a capture stands, once all that was written of it is committed."""
        try:
            command_id = int(query["id"])
        except ValueError:
            return Reply(400, {"error": "a capture's id is a number"})
        number = ids.command_shard(command_id) % app.layout.partitions
        partition = app.partitions.get(number)
        if partition is None:
            return Reply(421, {"error": f"partition {number} is not of this worker"})
        book = partition.state
        device_id = book.device_of(command_id) or query.get("device", "")
        if device_id:
            for key in book.keys_of(device_id, command_id):
                await app.committer.settled(key)
            found: OpenCapture | EndedCapture | None = book.find(device_id, command_id)
            if found is not None:
                return Reply(200, {"device_id": device_id, **msgspec.to_builtins(found)})
        return Reply(404, {"error": "not open here; it may have ended: see capture.results"})
