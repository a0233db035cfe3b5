"""``shutterwheel schedule tz``: which schedules an upgrade of the tz data would move."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from shutterwheel.context import Cluster
    from shutterwheel.outlook import Subject
    from shutterwheel.tz_moves import ScheduleMove, ZoneMove
    from streams.core.recurrence.zones import TzData

EXAMPLES: Final = """
Examples:

  shutterwheel schedule tz

  pip install --target newer tzdata==2026.7 && shutterwheel schedule tz --tz newer

  shutterwheel schedule tz schedules.yaml --tz newer --for 365d
"""


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("tz", epilog=EXAMPLES)(tz)


def tz(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A manifest; default: the schedules there are."),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(
            "--tz",
            metavar="FOLDER",
            help="The tz data to come: a folder of `pip install --target FOLDER tzdata==…`. "
            "Default: those of this installation.",
        ),
    ] = None,
    span: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How far ahead to look.")
    ] = "90d",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show which schedules other tz data would move, before they are installed.

    Compared are the data by which the timing wheel has folded its last tick (of a file: those of
    this installation) with those to come. Nothing is touched. With --json one object.
    """
    from connectors.clients.events import now_ms
    from connectors.clients.values import duration_ms
    from shutterwheel.show import write_json
    from shutterwheel.tz_files import tz_in
    from shutterwheel.tz_moves import schedule_moves, zone_moves
    from streams.core.recurrence.zones import PINNED

    now = now_ms()
    new = PINNED if folder is None else tz_in(folder)
    where = (kafka, namespace, data, registry)
    old: TzData | None = PINNED
    if file is None:
        cluster = find_cluster(*where)
        subjects, old = _of_cluster(cluster)
    else:
        subjects = _of_file(file, where, quiet=as_json)
    if old is None:
        typer.echo("The wheel has not noted its tz data yet: it does with its next tick.")
        raise typer.Exit(1)
    zones = zone_moves(_zones(subjects, old), old, new, now)
    moves = list(schedule_moves(subjects, old, new, now, now + duration_ms(span, "--for")))
    if as_json:
        write_json(_plain(old, new, zones, moves))
    else:
        _print(old, new, zones, moves, span)


def _zones(subjects: list[Subject], data: TzData) -> list[str]:
    """Return the zones in use; a million schedules have few specs."""
    from streams.core.recurrence.recurrence import Recurrence

    specs = {(one.spec, one.place) for one in subjects}
    return sorted({name for spec in specs for name in Recurrence(*spec, data).zone_names})


def _of_cluster(cluster: Cluster) -> tuple[list[Subject], TzData | None]:
    """Return the schedules there are and the tz data of the wheel, with the zones it has kept."""
    from shutterwheel.commands.schedule_list import subjects
    from shutterwheel.inventory import read_tz
    from streams.core.recurrence import zones

    version, kept = read_tz(cluster)
    return subjects(cluster), zones.data_with(version, kept) if version else None


def _of_file(path: Path, where: Any, *, quiet: bool) -> list[Subject]:
    from shutterwheel import manifest
    from shutterwheel.commands.schedule_look import expand
    from shutterwheel.outlook import subjects_of_file

    expanded, profiles = expand(manifest.load(path), where, quiet=quiet)
    return subjects_of_file(expanded, profiles)


def _print(
    old: TzData, new: TzData, zones: list[ZoneMove], moves: list[ScheduleMove], span: str
) -> None:
    from connectors.clients.values import show_moment
    from shutterwheel.show import write_table

    typer.echo(f"tz data {old.version} now, {new.version} to come")
    if not zones:
        typer.echo("No clock of a zone in use differs from now on.")
        return
    write_table(
        ("zone", "differs from", "UTC offset", "will be"),
        [
            (one.zone, show_moment(one.from_ms), _offset(one.was_offset_ms), _offset(one.offset_ms))
            for one in zones
        ],
        "",
    )
    rows = [
        (
            one.schedule_id,
            one.device_id if one.devices == 1 else f"{one.device_id} and {one.devices - 1:,} more",
            one.words,
            "" if one.was_ms is None else show_moment(one.was_ms),
            "" if one.is_ms is None else show_moment(one.is_ms),
            f"{one.moved:,}",
        )
        for one in moves
    ]
    columns = ("schedule", "device", "due", "first time that goes", "that comes", ">times")
    write_table(columns, rows, f"No schedule has a time that moves within {span}.")


def _offset(offset_ms: int | None) -> str:
    if offset_ms is None:
        return "not there: stays"
    sign, rest = ("-", -offset_ms) if offset_ms < 0 else ("+", offset_ms)
    return f"{sign}{rest // 3_600_000:02}:{rest // 60_000 % 60:02}"


def _plain(
    old: TzData, new: TzData, zones: list[ZoneMove], moves: list[ScheduleMove]
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "tz_version": old.version,
        "tz_version_to_come": new.version,
        "zones": [asdict(one) for one in zones],
        "schedules": [asdict(one) for one in moves],
    }
