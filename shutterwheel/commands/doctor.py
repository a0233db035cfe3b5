"""``shutterwheel doctor``: what is well on this machine and its cluster, and what is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from shutterwheel.context import (  # noqa: TC001 - typer reads the annotations
    AsJson,
    DataDir,
    Kafka,
    Namespace,
    Ntp,
    QualityModel,
    QualityServer,
    Registry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shutterwheel.diagnosis import Check


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "doctor",
        epilog="""
Examples:

  shutterwheel doctor

  shutterwheel doctor --ntp ntp-1 --ntp ntp-2 --ntp ntp-3:1123

  shutterwheel doctor --quality-server 10.0.0.7:8001

  shutterwheel doctor --kafka kafka-1:9092 --json | jq '.checks[] | select(.status != "ok")'
""",
    )(doctor)


def doctor(
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    ntp: Ntp = None,
    quality_server: QualityServer = "",
    quality_model: QualityModel = "",
    as_json: AsJson = False,
) -> None:
    """Check this machine, Kafka, topics, schemas, clocks and workers; say what to do.

    Each line is ok, warn or fail. The exit code is 1 if one of them is fail.
    """
    from shutterwheel.diagnosis import examine
    from shutterwheel.show import write_json

    found: list[Check] = []
    checks = examine(
        *(kafka, namespace, data, registry, tuple(ntp or ())), (quality_server, quality_model)
    )
    for check in _each(checks, quiet=as_json):
        found.append(check)
        if not as_json:
            _print(check)
    failed = sum(check.status == "fail" for check in found)
    if as_json:
        write_json({"ok": not failed, "checks": found})
    else:
        warned = sum(check.status == "warn" for check in found)
        typer.echo(f"{len(found)} checks, {warned} warnings, {failed} failures")
    if failed:
        raise typer.Exit(1)


def _each(checks: Iterator[Check], *, quiet: bool) -> Iterator[Check]:
    """Give the checks as they come; on a terminal, something moves while one takes its time."""
    from shutterwheel.show import console

    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield from checks
        return
    while True:
        with out.status("checking"):
            check = next(checks, None)
        if check is None:
            return
        yield check


def _print(check: Check) -> None:
    from rich.text import Text

    from shutterwheel.show import STATE_STYLES, clean, console

    line = Text.assemble(
        (f"{check.status:<5}", STATE_STYLES[check.status]),
        f"{check.name:<12}",
        clean(check.found),
    )
    out = console()
    out.print(line)
    if check.advice:
        out.print(
            Text(f"{'':17}{clean(check.advice)}", style="bold" if sys.stdout.isatty() else "")
        )
