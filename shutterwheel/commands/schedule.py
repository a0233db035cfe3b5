"""``shutterwheel schedule``: what is to be photographed, and when."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ShutterwheelError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from connectors.clients.batch import BatchReport
    from connectors.clients.decisions import Answer
    from connectors.clients.publisher import Publisher
    from connectors.clients.receipt import Receipt
    from schemas.records import ScheduleState
    from shutterwheel.context import Cluster
    from shutterwheel.manifest import Manifest

SCHEDULES = "wheel.schedules.changelog"

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Id of the device.")]
ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id of the schedule.")]
Timeout = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for the decision.")
]

group = typer.Typer(
    no_args_is_help=True, help="Schedules: apply a file, list, cancel, pause, resume."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="schedule")


class RefusedError(ShutterwheelError):
    """The timing wheel did not take a request."""


@group.command(
    "apply",
    epilog="""
Examples:

  shutterwheel schedule apply schedules.yaml --dry-run

  shutterwheel schedule apply schedules.yaml --wait
""",
)
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A manifest, in YAML.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and publish nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the timing wheel has decided.")
    ] = False,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Publish the devices and schedules of a file. May be repeated: what is so stays so.

    What the file does not name is left as it is. The exit code is 1 if anything was refused.
    """
    from shutterwheel import manifest
    from shutterwheel.show import say, write_json

    asked = manifest.load(file)
    counts: dict[str, Any] = {"devices": len(asked.devices), "schedules": asked.schedule_count}
    if dry_run:
        if as_json:
            write_json({**counts, "published": False})
        else:
            typer.echo(f"{file} is well: {_counted(counts)}; nothing was published")
        return
    cluster = find_cluster(kafka, namespace, data, registry)
    report = _publish(asked, cluster, wait=wait, quiet=as_json)
    refusals = [
        {"device_id": one.device_id, "schedule_id": one.schedule_id, "reason": one.reason}
        for one in report.refusals
    ]
    if as_json:
        decided = {"accepted": report.accepted, "refused": report.refused}
        undecided = {"undecided": report.undecided, "refusals": refusals}
        write_json({**counts, "published": True, **(decided | undecided if wait else {})})
    else:
        for one in report.refusals:
            say(f"refused: {one.device_id} {one.schedule_id}: {one.reason}")
        outcome = (
            f"accepted {report.accepted}, refused {report.refused}, undecided {report.undecided}"
        )
        typer.echo(f"published {_counted(counts)}" + (f"; {outcome}" if wait else ""))
        if report.undecided:
            say("some decisions did not come in time; `shutterwheel doctor` says what runs")
    if report.refused or report.undecided:
        raise typer.Exit(1)


def _counted(counts: dict[str, Any]) -> str:
    return f"{counts['devices']:,} devices, {counts['schedules']:,} schedules"


def _publish(asked: Manifest, cluster: Cluster, *, wait: bool, quiet: bool) -> BatchReport:
    """Publish devices, then schedules, with a progress bar on a terminal."""
    from rich.progress import Progress

    from connectors.clients.publisher import Publisher
    from shutterwheel.show import console

    out = console(stderr=True)
    with (
        # A manifest was checked as it was read.
        Publisher(
            cluster.kafka, cluster.namespace, registry=cluster.registry, check=False
        ) as publisher,
        Progress(console=out, disable=quiet or not out.is_terminal, transient=True) as bar,
    ):
        if asked.devices:
            publisher.publish_many(asked.devices)
        task = bar.add_task("schedules", total=max(1, asked.schedule_count))

        def progress(report: BatchReport) -> None:
            decided = report.accepted + report.refused + report.already_known
            bar.update(task, completed=decided if wait else report.acknowledged)

        return publisher.publish_many(asked.events(), wait=wait, progress=progress)


@group.command(
    "list",
    epilog="""
Examples:

  shutterwheel schedule list

  shutterwheel schedule list --device cam-1 --json
""",
)
def list_(
    device: Annotated[str | None, typer.Option(metavar="ID", help="Only this device.")] = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show the schedules there are, as the timing wheel has them. With --json one a line."""
    from connectors.clients.events import now_ms
    from connectors.clients.values import show_moment
    from shutterwheel.show import plain, write_json, write_table

    rows = schedules(find_cluster(kafka, namespace, data, registry), device)
    now = now_ms()
    if as_json:
        for one in rows:
            write_json({**plain(one), "next_ms": _next_ms(one, now)})
        return
    write_table(
        ("device", "schedule", "due", "next", ">epoch", "state"),
        (
            (
                one.device_id,
                one.schedule_id,
                _due(one),
                "" if (next_ms := _next_ms(one, now)) is None else show_moment(next_ms),
                one.epoch,
                f"paused: {one.pause_reason}" if one.paused else "",
            )
            for one in rows
        ),
        "There is no schedule." if device is None else f"Device {device!r} has no schedule.",
    )


def schedules(cluster: Cluster, device_id: str | None = None) -> list[ScheduleState]:
    """Return the rows of the wheel's table, by device and schedule."""
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner
    from infra.kafka.topics import topic_name
    from schemas.records import ScheduleState
    from streams.core.ids import partition_of

    topic = topic_name(cluster.namespace, SCHEDULES)
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        if device_id is None:
            return scanner.table(topic, ScheduleState)
        begin = f"{device_id}\0".encode()
        home = partition_of(device_id, scanner.partitions(topic))
        return scanner.table(topic, ScheduleState, home, lambda key: key.startswith(begin))


def _due(one: ScheduleState) -> str:
    from connectors.clients.values import show_duration, show_moment

    spec = one.spec
    if spec.every_ms is not None:
        return f"every {show_duration(spec.every_ms)}"
    return "" if spec.at_ms is None else f"at {show_moment(spec.at_ms)}"


def _next_ms(one: ScheduleState, now_ms: int) -> int | None:
    """Return the next scheduled time; None: it rests, or has none."""
    from streams.core.schedule import KINDS, first_scheduled_at_or_after

    if one.paused or one.spec.kind not in KINDS:
        return None
    after_ms = max(now_ms, one.starts_at_ms)
    return first_scheduled_at_or_after(one.spec, one.policy, one.device_id, after_ms)


@group.command(
    "cancel",
    epilog="""
Example:

  shutterwheel schedule cancel cam-1 every-5s
""",
)
def cancel(
    device: DeviceArgument,
    schedule: ScheduleArgument,
    timeout: Timeout = "10s",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """End a schedule; its commands that are not armed yet are revoked."""
    with _publisher(find_cluster(kafka, namespace, data, registry)) as publisher:
        _decide(publisher.cancel(device, schedule), timeout, "cancelled", as_json=as_json)


@group.command(
    "pause",
    epilog="""
Example:

  shutterwheel schedule pause cam-1 every-5s --reason "lens is being cleaned"
""",
)
def pause(
    device: DeviceArgument,
    schedule: ScheduleArgument,
    reason: Annotated[str, typer.Option(help="Kept with the schedule.")] = "",
    timeout: Timeout = "10s",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Let a schedule rest until it is resumed."""
    with _publisher(find_cluster(kafka, namespace, data, registry)) as publisher:
        _decide(publisher.pause(device, schedule, reason), timeout, "paused", as_json=as_json)


@group.command(
    "resume",
    epilog="""
Example:

  shutterwheel schedule resume cam-1 every-5s
""",
)
def resume(
    device: DeviceArgument,
    schedule: ScheduleArgument,
    timeout: Timeout = "10s",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused schedule go on."""
    with _publisher(find_cluster(kafka, namespace, data, registry)) as publisher:
        _decide(publisher.resume(device, schedule), timeout, "resumed", as_json=as_json)


def _publisher(cluster: Cluster) -> Publisher:
    from connectors.clients.publisher import Publisher

    return Publisher(cluster.kafka, cluster.namespace, registry=cluster.registry)


def _decide(receipt: Receipt, timeout: str, done: str, *, as_json: bool) -> None:
    """Wait for the decision on one request and show it."""
    from connectors.clients.values import duration_ms
    from shutterwheel.show import plain, write_json

    answer = receipt.decision(duration_ms(timeout, "--timeout") / 1_000)
    if as_json:
        write_json(plain(answer))
    refuse_if_refused(answer, quiet=as_json)
    if not as_json:
        typer.echo(f"{answer.device_id} {getattr(answer, 'schedule_id', '')} is {done}")


def refuse_if_refused(answer: Answer, *, quiet: bool) -> None:
    """End with the reason, or with exit code 1 alone, if a request was refused."""
    from schemas.records import Accepted, Refused

    if isinstance(answer, Accepted):
        return
    if isinstance(answer, Refused) or answer.first == "refused":
        if quiet:
            raise typer.Exit(1)
        raise RefusedError(f"refused: {answer.reason}")
