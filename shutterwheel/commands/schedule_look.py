"""``shutterwheel schedule preview``, ``explain-schedule`` and ``schema``: nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

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
    from schemas.records import DeviceProfile
    from shutterwheel.context import Cluster
    from shutterwheel.manifest import Manifest
    from shutterwheel.outlook import Subject

MAX_NEXT: Final = 10_000
SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})

Where = tuple[str | None, str | None, Path | None, str | None]
What = Annotated[
    str, typer.Argument(metavar="FILE|DEVICE", help="A manifest, or the id of a device.")
]
Schedule = Annotated[
    str | None, typer.Argument(metavar="[SCHEDULE]", help="Only this schedule; default: all.")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="Of a file: for this device.")
]

PREVIEW_EXAMPLES: Final = """
Examples:

  shutterwheel schedule preview schedules.yaml

  shutterwheel schedule preview cam-1 every-5s --next 5 --zone Europe/Paris

  shutterwheel schedule preview schedules.yaml --from 2026-10-25T00:00:00Z --json
"""
EXPLAIN_EXAMPLES: Final = """
Examples:

  shutterwheel schedule explain-schedule schedules.yaml

  shutterwheel schedule explain-schedule cam-1 every-5s
"""
SCHEMA_EXAMPLES: Final = """
Example:

  shutterwheel schedule schema > manifest.schema.json
"""


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("preview", epilog=PREVIEW_EXAMPLES)(preview)
    group.command("explain-schedule", epilog=EXPLAIN_EXAMPLES)(explain_schedule)
    group.command("schema", epilog=SCHEMA_EXAMPLES)(schema)


class UnknownScheduleError(ShutterwheelError):
    """There is no such schedule."""

    advice = "`shutterwheel schedule list` shows the schedules there are."


def preview(
    what: What,
    schedule: Schedule = None,
    count: Annotated[
        int, typer.Option("--next", min=1, max=MAX_NEXT, help="How many of each schedule.")
    ] = 20,
    zone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show in this zone; default: its own.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Begin here; default: now.")
    ] = None,
    device: Device = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show the next times of schedules, by the function that fires them. With --json one a line.

    A schedule of a file is shown for its first device. 'scheduled' is the nominal time with the
    device's spread and jitter. A paused schedule is shown as if it went on. Captures that the herd
    rule will move are shown where they would be without it.
    """
    from connectors.clients.events import now_ms
    from connectors.clients.values import moment_ms
    from shutterwheel.outlook import find_zone, show_local
    from shutterwheel.show import say, write_json, write_table

    from_ms = now_ms() if begin is None else moment_ms(begin, "--from")
    shown_in = None if zone is None else find_zone(zone)
    rows: list[tuple[object, ...]] = []
    for one in _subjects(what, schedule, device, (kafka, namespace, data, registry), quiet=as_json):
        where = shown_in or find_zone(one.spec.zone)
        found = list(one.next(from_ms, count))
        if not found and not as_json:
            say(f"{one.schedule_id} of {one.device_id or 'no device'}: {_why_none(one)}")
        for nominal_ms, scheduled_ms in found:
            if as_json:
                row = {"device_id": one.device_id, "schedule_id": one.schedule_id}
                times = {"nominal_ms": nominal_ms, "scheduled_ms": scheduled_ms}
                local = {"zone": where.name, "local": show_local(scheduled_ms, where)}
                write_json({**row, **times, **local})
            else:
                rows.append(
                    (
                        one.schedule_id,
                        one.device_id,
                        show_local(nominal_ms, where),
                        show_local(scheduled_ms, where),
                        where.name,
                    )
                )
    if rows:
        write_table(("schedule", "device", "nominal", "scheduled", "zone"), rows, "")


def explain_schedule(
    what: What,
    schedule: Schedule = None,
    device: Device = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Say in words when schedules are due, and what may surprise. With --json one a line."""
    from connectors.clients.events import now_ms
    from shutterwheel.outlook import find_zone, show_local
    from shutterwheel.show import clean, write_json
    from streams.core.recurrence import warnings

    now = now_ms()
    for one in _subjects(what, schedule, device, (kafka, namespace, data, registry), quiet=as_json):
        notes = warnings(one.spec, one.policy, one.place, now)
        coming = one.next_ms(now)
        if as_json:
            row = {"device_id": one.device_id, "schedule_id": one.schedule_id}
            more = {"devices": one.devices, "words": one.words, "warnings": notes}
            write_json({**row, **more, "next_ms": coming})
            continue
        others = f" and {one.devices - 1:,} more" if one.devices > 1 else ""
        whom = f" ({one.device_id}{others})" if one.device_id else ""
        typer.echo(clean(f"{one.schedule_id}{whom}: {one.words}"))
        if one.state is not None and one.state.paused:
            typer.echo(clean(f"  paused: {one.state.pause_reason or 'no reason was given'}"))
        elif coming is not None:
            typer.echo(f"  next: {show_local(coming, find_zone(one.spec.zone))}")
        for note in notes:
            typer.echo(clean(f"  note: {note}"))


def schema(as_json: AsJson = True) -> None:
    """Print the JSON Schema of manifests, for editors that complete and check them.

    In the first line of a manifest: '# yaml-language-server: $schema=manifest.schema.json'.
    """
    import json

    from shutterwheel.manifest_schema import schema as make

    del as_json  # it is JSON in any case
    typer.echo(json.dumps(make(), indent=2, ensure_ascii=False))


# --- whom it is about ---------------------------------------------------------------------------


def _subjects(
    what: str, schedule: str | None, device: str | None, where: Where, *, quiet: bool
) -> list[Subject]:
    """Return what is looked at: schedules of a file, or of a device as the wheel has them."""
    if Path(what).suffix.lower() in SUFFIXES or Path(what).is_file():
        found = _of_file(Path(what), device, where, quiet=quiet)
        missing = f"{what} has no schedule"
    else:
        from shutterwheel.commands.schedule_list import subjects

        if device is not None:
            raise UsageError("--device belongs to a file; give the device alone.")
        found = subjects(find_cluster(*where), what)
        missing = f"Device {what!r} has no schedule"
    if schedule is not None:
        # Of a file with an owner the name alone will do, as it is written there.
        named = {schedule, *(one.schedule_id for one in found if _is_named(one, schedule))}
        found = [one for one in found if one.schedule_id in named]
        missing += f" {schedule!r}"
    if not found:
        raise UnknownScheduleError(f"{missing}{'' if device is None else f' for {device!r}'}.")
    return found


def _is_named(one: Subject, schedule: str) -> bool:
    return one.state is None and one.schedule_id.partition("/")[2] == schedule


def _of_file(path: Path, device: str | None, where: Where, *, quiet: bool) -> list[Subject]:
    from shutterwheel import manifest
    from shutterwheel.outlook import subjects_of_file

    expanded, profiles = expand(manifest.load(path), where, quiet=quiet)
    return subjects_of_file(expanded, profiles, device)


def expand(
    asked: Manifest, where: Where, *, quiet: bool
) -> tuple[Manifest, dict[str, DeviceProfile]]:
    """Return a manifest with devices in place of groups, and the profiles that matter.

    A cluster is asked only where the file needs one and one is known; else the file stands alone.
    """
    from shutterwheel.inventory import read_profiles, waiting
    from shutterwheel.show import say

    profiles: dict[str, DeviceProfile] = {}
    cluster = _cluster_if_any(where) if asked.has_groups or asked.needs_places else None
    if cluster is not None:
        with waiting("reading the devices", quiet=quiet):
            profiles = {one.device_id: one for one in read_profiles(cluster)}
    profiles.update((one.device_id, one) for one in asked.devices)
    expanded, warnings = asked.expand(profiles.values())
    for warning in warnings:
        say(f"warning: {warning}")
    return expanded, profiles


def _cluster_if_any(where: Where) -> Cluster | None:
    try:
        return find_cluster(*where)
    except UsageError:
        if where[0] or where[2]:
            raise
        return None


def _why_none(one: Subject) -> str:
    if one.waits_for_place:
        return "it waits for the device's place (latitude and longitude in its profile)"
    return "there is no time any more"
