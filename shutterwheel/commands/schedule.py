"""``shutterwheel schedule``: what is to be photographed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ShutterwheelError
from shutterwheel.commands import (
    schedule_forecast,
    schedule_list,
    schedule_look,
    schedule_plan,
    schedule_tz,
)
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from connectors.clients.decisions import Answer
    from connectors.clients.publisher import Publisher
    from connectors.clients.receipt import Receipt
    from shutterwheel.context import Cluster

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Id of the device.")]
ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id of the schedule.")]
Timeout = Annotated[
    str, typer.Option(metavar="DURATION", help="How long to wait for the decision.")
]

group = typer.Typer(
    no_args_is_help=True,
    help="Schedules: apply a file, see what that would do, preview, list, pause, trigger.",
)
schedule_plan.register(group)
schedule_look.register(group)
schedule_list.register(group)
schedule_forecast.register(group)
schedule_tz.register(group)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="schedule")


class RefusedError(ShutterwheelError):
    """The timing wheel did not take a request."""


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


@group.command(
    "trigger",
    epilog="""
Examples:

  shutterwheel schedule trigger cam-1 every-5s

  shutterwheel schedule trigger cam-1 every-5s --no-wait
""",
)
def trigger(
    device: DeviceArgument,
    schedule: ScheduleArgument,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the photo, not only to be heard.")
    ] = True,
    timeout: Timeout = "30s",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Take a photo now, as the schedule would: its priority, its timeout, its catch-up window.

    The schedule itself goes on as it did, paused or not. The exit code is 0 only if there is a
    photo.
    """
    import msgspec

    from connectors.clients.events import requested
    from connectors.clients.values import duration_ms
    from shutterwheel.commands.capture import ask
    from shutterwheel.commands.schedule_look import UnknownScheduleError
    from shutterwheel.inventory import read_rows

    wait_s = duration_ms(timeout, "--timeout") / 1_000
    cluster = find_cluster(kafka, namespace, data, registry)
    rows = [row for row in read_rows(cluster, device) if row.schedule_id == schedule]
    if not rows:
        raise UnknownScheduleError(f"Device {device!r} has no schedule {schedule!r}.")
    # Now is one moment: there is nothing to spread it over.
    policy = msgspec.structs.replace(rows[0].policy, spread_ms=0, jitter_ms=0)
    event = msgspec.structs.replace(requested(device), policy=policy)
    ask(cluster, event, wait_s if wait else None, as_json=as_json)


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
