"""``shutterwheel schedule``: what is to be photographed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ShutterwheelError
from shutterwheel.commands import schedule_look, schedule_plan
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from connectors.clients.decisions import Answer
    from connectors.clients.publisher import Publisher
    from connectors.clients.receipt import Receipt
    from schemas.records import ScheduleSpec, ScheduleState
    from shutterwheel.context import Cluster

SCHEDULES = "wheel.schedules.changelog"

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Id of the device.")]
ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id of the schedule.")]
Timeout = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for the decision.")
]

group = typer.Typer(
    no_args_is_help=True,
    help="Schedules: apply a file and see what that would do, list, cancel, pause, resume.",
)
schedule_plan.register(group)
schedule_look.register(group)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="schedule")


class RefusedError(ShutterwheelError):
    """The timing wheel did not take a request."""


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
                due_in_words(one.spec),
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


def due_in_words(spec: ScheduleSpec) -> str:
    """Return when a schedule is due, in a few words."""
    from connectors.clients.values import show_duration, show_moment

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
