"""``shutterwheel worker``: run one worker of one app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError
from shutterwheel.context import (  # noqa: TC001 - typer reads the annotations
    Allow,
    Capacity,
    DeviceTimeout,
    ImageProcesses,
    Ntp,
    QualityModel,
    QualityServer,
    SignKey,
    SnapshotEvery,
)

if TYPE_CHECKING:
    from streams.runtime.settings import RuntimeSettings

APPS = ("wheel", "captures", "devices")

EPILOG = """
Examples:

  shutterwheel worker wheel --kafka 127.0.0.1:9092

  shutterwheel worker captures --slot 1 --blobs s3://photos --allow 10.20.0.0/16

  shutterwheel worker devices --device-timeout 2m

  shutterwheel worker wheel --ntp ntp-1 --ntp ntp-2 --ntp 10.20.0.5:1123
"""
Port = Annotated[int, typer.Option(help="Port of /metrics, /health, /ready on 127.0.0.1; 0: any.")]
RegistryUrl = Annotated[
    str, typer.Option(envvar="SHUTTERWHEEL_SCHEMA_REGISTRY", help="URL of a Schema Registry.")
]
SessionTimeout = Annotated[int, typer.Option(help="How long the group waits for a silent worker.")]
SandboxFile = Annotated[
    Path | None,
    typer.Option(hidden=True, help="File of a replay's clock; in a sandbox's namespace only."),
]
KafkaServers = Annotated[
    str, typer.Option(envvar="SHUTTERWHEEL_KAFKA", help="Kafka, HOST:PORT[,HOST:PORT…].")
]
Slot = Annotated[str, typer.Option(help="Slot of this worker: one process a slot at a time.")]
Data = Annotated[Path, typer.Option(envvar="SHUTTERWHEEL_DATA", help="Folder of local state.")]
Blobs = Annotated[str, typer.Option(help="Folder or URL of the blob store. Default: DATA/blobs.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("worker", epilog=EPILOG)(worker)


def worker(
    app: Annotated[str, typer.Argument(help="Which app: wheel, captures or devices.")],
    kafka: KafkaServers = "127.0.0.1:9092",
    slot: Slot = "0",
    namespace: Annotated[str, typer.Option(help="Prefix of topics and groups.")] = "",
    data: Data = Path(".shutterwheel"),
    blobs: Blobs = "",
    port: Port = 0,
    allow: Allow = None,
    schema_registry: RegistryUrl = "",
    ntp: Ntp = None,
    capacity: Capacity = 0,
    snapshot_every: SnapshotEvery = "24h",
    device_timeout: DeviceTimeout = "2m",
    sign_key: SignKey = None,
    image_processes: ImageProcesses = 0,
    quality_server: QualityServer = "",
    quality_model: QualityModel = "",
    session_timeout_ms: SessionTimeout = 6_000,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    tether: Annotated[bool, typer.Option(help="Stop when standard input closes.")] = False,
    sandbox_clock: SandboxFile = None,
) -> None:
    """Run one worker until Ctrl-C or SIGTERM: it drains, commits and leaves its group."""
    from connectors.clients.values import duration_ms
    from shutterwheel.context import snapshot_every_ms
    from shutterwheel.judging import check_photos
    from shutterwheel.worker import WorkerOptions, in_sandbox, run
    from streams.agents.capture_settings import ExecutorSettings
    from streams.agents.timing_wheel import WheelSettings
    from streams.core.health import HealthSettings
    from streams.runtime.ntp import NtpSettings
    from streams.runtime.settings import HEARTBEAT_MS, RuntimeSettings

    if app not in APPS:
        raise UsageError(f"There is no app {app!r}; there are: {', '.join(APPS)}.")
    quality = check_photos(image_processes, sign_key, quality_server, quality_model)
    data = data.absolute()
    runtime = RuntimeSettings(
        app=app,
        slot=slot,
        bootstrap=kafka,
        data_dir=data / "state",
        namespace=namespace,
        session_timeout_ms=session_timeout_ms,
        heartbeat_ms=min(HEARTBEAT_MS, session_timeout_ms // 3),
        lease_margin_ms=min(1_000, session_timeout_ms // 3),
    )
    runtime, executor = in_sandbox(_suited(runtime), ExecutorSettings(), sandbox_clock)
    run(
        WorkerOptions(
            runtime=runtime,
            port=port,
            blobs=blobs or str(data / "blobs"),
            schema_registry=schema_registry,
            log_level=log_level,
            tethered=tether,
            allow=tuple(allow or ()),
            ntp=NtpSettings(tuple(ntp or ())),
            wheel=WheelSettings(
                capacity_per_shard=capacity,
                snapshot_every_ms=snapshot_every_ms(snapshot_every),
            ),
            executor=executor,
            sign_key=sign_key,
            image_processes=image_processes,
            quality=quality,
            sandbox_clock=sandbox_clock,
            health=HealthSettings(timeout_ms=duration_ms(device_timeout, "--device-timeout")),
        )
    )


def _suited(runtime: RuntimeSettings) -> RuntimeSettings:
    """Return settings as the app wants them."""
    from streams.agents import capture_executor, capture_settings, device_health

    suits = {
        capture_executor.APP: capture_settings.suited,
        device_health.APP: device_health.suited,
    }
    return suits[runtime.app](runtime) if runtime.app in suits else runtime
