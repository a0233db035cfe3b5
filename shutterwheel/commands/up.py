"""``shutterwheel up``: run everything on this machine, with a demo if asked for."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import (
    Allow,
    Capacity,
    DeviceTimeout,
    DeviceWorkers,
    ImageProcesses,
    Ntp,
    Poll,
    PruneEvery,
    QualityModel,
    QualityServer,
    SignKey,
    SnapshotEvery,
    prune_every_ms,
    snapshot_every_ms,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from shutterwheel.check import RunReport
    from shutterwheel.cluster import Cluster
    from shutterwheel.demo import Demo, DemoOptions

EPILOG = """
Examples:

  shutterwheel up --demo

  shutterwheel up --demo --devices 1000 --every 5s --for 60s --json report.json

  shutterwheel up --kafka kafka-1:9092,kafka-2:9092 --capture-workers 4

  shutterwheel up --poll 30s --device-timeout 2m

  shutterwheel up --prune-every 10m --sign-key site.key

  shutterwheel up --quality-server 10.0.0.7:8001 --quality-model quality:2

  shutterwheel up --ntp ntp-1 --ntp ntp-2 --ntp ntp-3:1123
"""
PLAIN_EVERY_S = 5.0
"""How often a line is printed where standard output is no terminal."""
LOOK_S = 0.2


For = Annotated[str, typer.Option("--for", help="Run the demo this long, drain, check, and end.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the demo's report to this file.")
]
Data = Annotated[Path, typer.Option(envvar="SHUTTERWHEEL_DATA", help="Folder of all data.")]
KafkaServers = Annotated[
    str, typer.Option(help="Use this Kafka (HOST:PORT[,…]) instead of the embedded one.")
]
KafkaPort = Annotated[
    int, typer.Option(help="Port of the embedded Kafka; 0: the one it had before, or any.")
]
Partitions = Annotated[
    int, typer.Option(help="Partitions of new topics: a power of two up to 1,024.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", epilog=EPILOG)(up)


def up(
    data: Data = Path(".shutterwheel"),
    kafka: KafkaServers = "",
    kafka_port: KafkaPort = 0,
    namespace: Annotated[str, typer.Option(help="Prefix of topics and groups.")] = "",
    partitions: Partitions = 8,
    replication: Annotated[int, typer.Option(help="Copies of new topics.")] = 1,
    wheel_workers: Annotated[int, typer.Option(min=1, max=64, help="Timing wheel workers.")] = 1,
    capture_workers: Annotated[int, typer.Option(min=1, max=64, help="Capture workers.")] = 1,
    device_workers: DeviceWorkers = None,
    device_timeout: DeviceTimeout = "2m",
    poll: Poll = "",
    blobs: Annotated[str, typer.Option(help="Folder or URL of photos. Default: DATA/blobs.")] = "",
    prune_every: PruneEvery = "",
    sign_key: SignKey = None,
    image_processes: ImageProcesses = 0,
    quality_server: QualityServer = "",
    quality_model: QualityModel = "",
    allow: Allow = None,
    schema_registry: Annotated[str, typer.Option(help="URL of a Schema Registry.")] = "",
    ntp: Ntp = None,
    capacity: Capacity = 0,
    snapshot_every: SnapshotEvery = "24h",
    demo: Annotated[bool, typer.Option("--demo", help="Run a fleet of simulated cameras.")] = False,
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="Cameras of the demo.")] = 100,
    every: Annotated[str, typer.Option(help="Period of the demo's schedules.")] = "5s",
    for_: For = "",
    json_file: JsonFile = None,
) -> None:
    """Start Kafka, the workers and, with --demo, cameras; run until Ctrl-C.

    With --for the demo is drained and checked from its topics and photos, and the exit code is 1
    if a photo was lost, doubled or early.
    """
    from shutterwheel.cluster import Cluster, ClusterOptions
    from shutterwheel.judging import check_photos
    from streams.runtime.ntp import NtpSettings

    NtpSettings(tuple(ntp or ()))  # refused here, not by each worker
    _check_health(device_timeout, poll)
    check_photos(image_processes, sign_key, quality_server, quality_model)
    snapshot_every_ms(snapshot_every)
    options = _demo_options(demo, devices, every, for_, json_file)
    cluster = Cluster(
        ClusterOptions(
            data=data,
            kafka=kafka,
            kafka_port=kafka_port,
            namespace=namespace,
            partitions=partitions,
            replication=replication,
            wheel_workers=wheel_workers,
            capture_workers=capture_workers,
            device_workers=_device_workers(device_workers, demo, poll),
            device_timeout=device_timeout,
            poll_every=poll,
            blobs=blobs,
            prune_every=_prune_every(prune_every, demo),
            sign_key=_sign_key(sign_key),
            image_processes=image_processes,
            quality_server=quality_server,
            quality_model=quality_model,
            allow=tuple(allow or ()),
            schema_registry=schema_registry,
            ntp=tuple(ntp or ()),
            capacity=capacity,
            snapshot_every=snapshot_every,
        ),
        say,
    )
    with _stopped(cluster):
        cluster.start(wait=options is None)
        if options is not None:
            raise typer.Exit(_run_demo(cluster, options, json_file))
        _run(cluster)


def _prune_every(wanted: str, demo: bool) -> str:
    """Return how often photos are pruned; empty: never."""
    every = wanted or ("0" if demo else "1h")
    return every if prune_every_ms(every) else ""


def _sign_key(path: Path | None) -> str:
    """Return the key's file, looked at here and not by each worker; empty: none."""
    if path is None:
        return ""
    from connectors.images.signing import Signer

    Signer.load(path)
    return str(path.absolute())


def _device_workers(wanted: int | None, demo: bool, poll: str) -> int:
    """Return how many workers look after heartbeats: none where nobody sends any."""
    if wanted is not None:
        return wanted
    return 0 if demo and not poll else 1


def _check_health(device_timeout: str, poll: str) -> None:
    from connectors.clients.values import duration_ms
    from connectors.gateway.poller import PollSettings
    from streams.core.health import HealthSettings

    HealthSettings(timeout_ms=duration_ms(device_timeout, "--device-timeout"))
    if poll:
        PollSettings(every_ms=duration_ms(poll, "--poll"))


def _demo_options(
    demo: bool, devices: int, every: str, for_: str, json_file: Path | None
) -> DemoOptions | None:
    """Return what the demo is to be, checked before anything starts; ``None``: no demo."""
    from connectors.clients.values import duration_ms
    from schemas.errors import UsageError
    from shutterwheel.demo import DemoOptions
    from streams.core.schedule import validate_schedule

    if not demo:
        if for_ or json_file:
            raise UsageError("--for and --json are about the demo: add --demo.")
        return None
    if json_file and not for_:
        raise UsageError("--json writes the report of a run that ends: add --for, as in --for 60s.")
    options = DemoOptions(
        devices=devices,
        every_ms=duration_ms(every, "--every"),
        for_s=duration_ms(for_, "--for") / 1000.0 if for_ else None,
    )
    refusal = validate_schedule(*options.schedule())
    if refusal is not None:
        raise UsageError(f"--every: {refusal.reason}")
    return options


def _run(cluster: Cluster) -> None:
    """Look after the cluster until Ctrl-C."""
    say(f"ready: Kafka at {cluster.kafka}, photos in {cluster.blobs}")
    for worker in cluster.workers:
        say(f"  {worker.child.name}: {worker.url}/metrics")
    say("Ctrl-C stops everything")
    while True:
        cluster.watch()
        time.sleep(LOOK_S)


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stopped(cluster: Cluster) -> Iterator[None]:
    """Stop the cluster at the end, in order, also on Ctrl-C and SIGTERM."""

    def on_term(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        # A second Ctrl-C while things stop must not leave them half stopped.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("stopping")
        cluster.stop()


def _run_demo(cluster: Cluster, options: DemoOptions, json_file: Path | None) -> int:
    from shutterwheel.demo import Demo

    demo = Demo(options, cluster, say)
    try:
        demo.start()
        _tell_places(cluster, demo)
        until_s = None if options.for_s is None else time.monotonic() + options.for_s
        _live(cluster, demo, until_s)
        demo.finish()
        report = demo.check()
    finally:
        demo.close()
    if json_file is not None:
        json_file.write_text(report.to_json() + "\n")
    print(_summary(report))
    return 0 if report.ok else 1


def _summary(report: RunReport) -> str:
    late = report.lateness_ms
    lines = [
        (
            f"due {report.due:,}  succeeded {report.succeeded:,}  failed {report.failed:,}  "
            f"expired {report.expired:,}  skipped {report.skipped:,}"
        ),
        (
            f"lost {report.lost:,}  duplicated {report.duplicated:,}  early {report.early:,}  "
            f"unexpected {report.unexpected:,}  illegal {report.illegal:,}"
        ),
    ]
    if late is not None:
        lines.append(
            f"lateness p50 {late.p50:g} ms  p90 {late.p90:g} ms  p99 {late.p99:g} ms  "
            f"max {late.max:g} ms"
        )
    images = report.images
    lines.append(
        f"photos {images.count:,}  {images.bytes / 1e6:,.1f} MB  "
        f"sha256 verified {images.sha256_verified:,}"
    )
    if report.first_photo_s is not None:
        lines.append(f"first photo after {report.first_photo_s:.1f} s")
    lines += [f"finding: {text}" for text in report.findings]
    lines.append("all is well" if report.ok else "NOT well: see above")
    return "\n".join(lines)


def _tell_places(cluster: Cluster, demo: Demo) -> None:
    say(f"Kafka    {cluster.kafka}")
    say(f"cameras  http://127.0.0.1:{demo.camera_port}/cam/cam-00001/snapshot.jpg")
    say(f"photos   {cluster.blobs}")
    for worker in cluster.workers:
        say(f"metrics  {worker.url}/metrics  ({worker.child.name})")
    say(f"logs     {cluster.data / 'logs'}")
    if demo.options.for_s is None:
        say("Ctrl-C stops everything; a second start goes on from there")


def _live(cluster: Cluster, demo: Demo, until_s: float | None) -> None:
    """Show what happens until the time is over; for ever without one."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    started_s = time.monotonic()
    said_s = started_s
    with contextlib.ExitStack() as stack:
        live = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, refresh_per_second=4, transient=True))
        while until_s is None or time.monotonic() < until_s:
            cluster.watch()
            if live is not None:
                live.update(_table(cluster, demo, time.monotonic() - started_s))
            elif time.monotonic() - said_s >= PLAIN_EVERY_S:
                said_s = time.monotonic()
                say(_line(cluster, demo, said_s - started_s))
            time.sleep(LOOK_S)


def _line(cluster: Cluster, demo: Demo, elapsed_s: float) -> str:
    view = demo.view()
    counts = ", ".join(f"{state} {count:,}" for state, count in sorted(view.states.items()))
    return (
        f"{elapsed_s:5.0f} s  {view.per_s:,.0f}/s  {counts or 'no photo yet'}  open {view.open:,}  "
        f"lateness p50 {view.lateness_ms_p50} ms p99 {view.lateness_ms_p99} ms  "
        f"restarts {cluster.restarts}"
    )


def _table(cluster: Cluster, demo: Demo, elapsed_s: float) -> Table:
    from rich.table import Table

    view = demo.view()
    table = Table(title=f"{demo.options.devices:,} cameras, {elapsed_s:,.0f} s", min_width=60)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("photos a second", f"{view.per_s:,.0f}")
    for state, count in sorted(view.states.items()):
        table.add_row(state, f"{count:,}")
    table.add_row("open captures", f"{view.open:,}")
    table.add_row("lateness p50 / p99", f"{view.lateness_ms_p50} / {view.lateness_ms_p99} ms")
    table.add_row("workers", f"{len(cluster.workers)}, restarts {cluster.restarts}")
    if view.last is not None and view.last.image is not None:
        table.add_row("newest photo", view.last.image.uri[-56:])
    return table
