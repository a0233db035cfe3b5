"""``shutterwheel poll``: ask devices that send no heartbeats whether they are there."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from schemas.errors import UsageError

EPILOG = """
Examples:

  shutterwheel poll --every 30s

  shutterwheel poll --kafka kafka-1:9092 --share 0/4 --allow 10.20.0.0/16
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("poll", epilog=EPILOG)(poll)


def poll(
    kafka: Annotated[
        str, typer.Option(envvar="SHUTTERWHEEL_KAFKA", help="Kafka, HOST:PORT[,HOST:PORT…].")
    ] = "127.0.0.1:9092",
    namespace: Annotated[str, typer.Option(help="Prefix of topics.")] = "",
    every: Annotated[str, typer.Option(help="How often each device is asked.")] = "30s",
    timeout: Annotated[str, typer.Option(help="How long it may take to answer.")] = "3s",
    at_once: Annotated[int, typer.Option(help="Devices asked at the same time at most.")] = 256,
    per_host: Annotated[int, typer.Option(help="The same, to one host: channels.")] = 4,
    share: Annotated[
        str, typer.Option(metavar="K/N", help="Of N pollers this is number K, from 0 on.")
    ] = "0/1",
    null_cameras: Annotated[
        bool, typer.Option("--null-cameras", help="Ask null cameras, too (benchmarks).")
    ] = False,
    port: Annotated[
        int, typer.Option(help="Port of /metrics, /health, /ready on 127.0.0.1; 0: any.")
    ] = 0,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Network (CIDR) whose cameras may be contacted; may be repeated."),
    ] = None,
    schema_registry: Annotated[
        str, typer.Option(envvar="SHUTTERWHEEL_SCHEMA_REGISTRY", help="URL of a Schema Registry.")
    ] = "",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    tether: Annotated[bool, typer.Option(help="Stop when standard input closes.")] = False,
) -> None:
    """Ask each device now and then whether it is there, and publish a heartbeat if it is.

    No credentials are sent: a refusal is a sign of life, too. Runs until Ctrl-C or SIGTERM.
    """
    from connectors.clients.values import duration_ms
    from connectors.gateway.poller import PollSettings
    from shutterwheel.poll import PollOptions, run

    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", share)
    if found is None:
        raise UsageError(f"--share {share!r} is no share; expected K/N, as in 0/4.")
    run(
        PollOptions(
            kafka=kafka,
            namespace=namespace,
            schema_registry=schema_registry,
            port=port,
            allow=tuple(allow or ()),
            log_level=log_level,
            tethered=tether,
            poll=PollSettings(
                every_ms=duration_ms(every, "--every"),
                timeout_ms=duration_ms(timeout, "--timeout"),
                at_once=at_once,
                per_host=per_host,
                share=(int(found[1]), int(found[2])),
                null_cameras=null_cameras,
            ),
        )
    )
