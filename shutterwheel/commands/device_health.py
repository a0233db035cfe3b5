"""``shutterwheel device health``: who is there, since when, and how busy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ShutterwheelError, UsageError
from shutterwheel.context import (
    AsJson,
    DataDir,
    Kafka,
    Namespace,
    Registry,
    find_cluster,
)

if TYPE_CHECKING:
    from connectors.clients.health import Seen
    from schemas.records import DeviceHealth
    from shutterwheel.context import Cluster

STATES = ("online", "offline", "flapping")


class UnheardDeviceError(ShutterwheelError):
    """Nothing was ever heard of a device."""

    advice = (
        "Its terminal has to send heartbeats, or `shutterwheel poll` has to ask it; and a worker "
        "of the app devices has to run."
    )


def register(group: typer.Typer) -> None:
    """Add the command to ``device``."""
    group.command(
        "health",
        epilog="""
Examples:

  shutterwheel device health

  shutterwheel device health cam-1 --json | jq .last_seen_ms

  shutterwheel device health --only offline
""",
    )(health)


def health(
    device_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One device; default: all.")
    ] = None,
    only: Annotated[str, typer.Option(help=f"Only those that are {', '.join(STATES)}.")] = "",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show which devices are online, when they were last heard of, their load, who is flapping.

    The workers of a running `up` are asked; without them the health table is read, in which the
    last heartbeat and the load of a quiet device are up to a quarter of an hour old.
    """
    from connectors.clients.events import now_ms
    from shutterwheel.show import say, write_json, write_table

    if only and only not in STATES:
        raise UsageError(f"--only {only!r} is none of {', '.join(STATES)}.")
    seen = read_health(find_cluster(kafka, namespace, data, registry), device_id)
    rows = [
        row
        for _, row in sorted(seen.rows.items())
        if not only or only == state_of(row) or (only == "online" and row.online)
    ]
    if device_id is not None and not seen.rows:
        raise UnheardDeviceError(f"Nothing was heard of device {device_id!r}.")
    if as_json:
        for row in rows:
            write_json({**plain_health(row), "live": seen.live})
        return
    at_ms = now_ms()
    write_table(
        ("device", "state", ">last seen", ">for", ">cpu", ">memory", ">clock off"),
        ((row.device_id, *cells(row, at_ms)) for row in rows),
        "No heartbeat of any device is known.",
    )
    if not seen.live:
        say("note: no worker was asked; last seen and load may be a quarter of an hour old")


def read_health(cluster: Cluster, device_id: str | None = None) -> Seen:
    """Return how devices are: from the workers of the running ``up``, else from the table."""
    from connectors.clients.health import ask_workers, read_table
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner

    urls = [one.url for one in cluster.run.workers if one.app == "devices"] if cluster.run else []
    found = ask_workers(urls, device_id)
    if found is not None:
        return found
    with Scanner(cluster.kafka, make_codec(cluster.registry)) as scanner:
        return read_table(scanner, cluster.namespace, device_id)


def state_of(row: DeviceHealth) -> str:
    """Return a device's state in a word; a flapping one is on or off besides."""
    if row.flapping:
        return "flapping"
    return "online" if row.online else "offline"


def cells(row: DeviceHealth, at_ms: int) -> tuple[object, ...]:
    """Return a row's cells: state, last seen, for how long, load, clock."""
    return (
        state_of(row),
        f"{ago(at_ms - row.last_seen_ms)} ago",
        ago(at_ms - row.since_ms),
        _share(row.cpu),
        _share(row.memory),
        "" if math.isnan(row.clock_offset_ms) else f"{row.clock_offset_ms:+,.0f} ms",
    )


def plain_health(row: DeviceHealth) -> dict[str, Any]:
    """Return a row as what JSON has, without what only the fold needs; null: not known."""
    from shutterwheel.show import plain

    found = {**plain(row), "state": state_of(row)}
    del found["flap_ms"]
    return found


def ago(passed_ms: int) -> str:
    """Return a time that has passed in its largest unit and the next: ``2m 05s``."""
    seconds = max(passed_ms, 0) // 1_000
    for unit, size, below, small in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // small:02}{below}"
    return f"{seconds // 60}m {seconds % 60:02}s" if seconds >= 60 else f"{seconds}s"


def _share(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}"
