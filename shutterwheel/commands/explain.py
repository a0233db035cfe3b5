"""``shutterwheel explain``: why there is a photo at a time, or why there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from schemas.errors import UsageError
from shutterwheel.context import (
    Archive,
    AsJson,
    DataDir,
    Kafka,
    Namespace,
    Registry,
    TzFolders,
    find_cluster,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from schemas.codec import Codec
    from streams.core.recurrence.zones import Zone
    from streams.replay.explain_types import Ask, Explanation
    from streams.replay.log import Log
    from streams.replay.start import ReadRows

    Where = tuple[str | None, str | None, str | None, Path | None, str | None, str | None]

EXAMPLES: Final = """
Examples:

  shutterwheel explain cam-1 --at 14:05 --zone Europe/Paris

  shutterwheel explain cam-1 --at 2026-12-01T14:05:00+01:00 --schedule door

  shutterwheel explain cam-1 --at -10m --window 5s --json

  shutterwheel explain 117935296434176000
"""
MAX_DIGITS: Final = 19
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_DAY_AND_CLOCK: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\S+)")


At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="When the photo was wanted: HH:MM[:SS] (today), ISO 8601, -10m, or now. Without a"
        " zone of its own it is read in --zone. A device needs it.",
    ),
]
Blobs = Annotated[
    str | None,
    typer.Option(
        "--blobs",
        metavar="PLACE",
        help="Folder or URL of the blob store with the wheel's snapshots. Default: that of the "
        "running `up`.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", epilog=EXAMPLES)(explain)


def explain(
    what: Annotated[
        str, typer.Argument(metavar="DEVICE|COMMAND", help="Id of a device, or of a command.")
    ],
    at: At = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="ID", help="Only this schedule.")
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="DURATION",
            help="How far from that time a photo may have been due; up to 1d.",
        ),
    ] = "60s",
    zone: Annotated[
        str | None,
        typer.Option("--zone", metavar="NAME", help="Read and show times in it; default: UTC."),
    ] = None,
    tz: TzFolders = None,
    blobs: Blobs = None,
    archive: Archive = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Say why there is a photo of a device at a time, or why there is none.

    Shown are the schedule as it stood, who changed it, the tick that decided, the policy, the
    command, its attempts, its outcome and the image: all from the topics, nothing is asked of
    workers. Where the device has several schedules, the one whose time is nearest is the answer.
    Where it stood, and what the topics do not keep any more, is read from the wheel's last snapshot
    before that time (`began` in --json).

    The exit code is 0 if there is a photo, and 1 if there is none.
    """
    from connectors.clients.events import now_ms
    from connectors.clients.values import duration_ms
    from shutterwheel.outlook import find_zone, show_local
    from shutterwheel.show import write_json
    from streams.core.schedule import validate_device_id
    from streams.replay.explain_types import MAX_WINDOW_MS, Ask

    now, shown_in = now_ms(), find_zone(zone or "UTC")
    window_ms = duration_ms(window, "--window")
    if not 1 <= window_ms <= MAX_WINDOW_MS:
        raise UsageError(f"--window is {window!r}; expected 1ms to 1d.")
    command_id = None
    if at is None:
        command_id = _command_id(what)
    elif (refusal := validate_device_id(what)) is not None:
        raise UsageError(refusal.reason)
    ask = Ask(
        device_id=what,
        at_ms=0 if at is None else read_moment(at, shown_in, now),
        now_ms=now,
        window_ms=window_ms,
        live=archive is None,
        schedule_id=schedule,
        show=lambda moment_ms: show_local(moment_ms, shown_in),
    )
    where = (archive, kafka, namespace, data, registry, blobs)
    found = _answer(ask, command_id, where, tz or ())
    write_json(found) if as_json else _print(found, ask)
    if not found.photo:
        raise typer.Exit(1)


def _answer(
    ask: Ask, command_id: int | None, where: Where, tz_folders: Iterable[str]
) -> Explanation:
    from shutterwheel.tz_files import know_tz
    from streams.replay import explain as found_by

    know_tz(tz_folders)
    log, codec, read_rows = open_log(*where)
    if command_id is not None:
        return found_by.explain_command(log, codec, command_id, ask, read_rows)
    return found_by.explain(log, codec, ask, read_rows)


def _print(found: Explanation, ask: Ask) -> None:
    from shutterwheel.show import clean
    from streams.replay.explain_words import lines

    for line in lines(found, ask.show):
        typer.echo(clean(line))


def open_log(
    archive: str | None,
    kafka: str | None,
    namespace: str | None,
    data: Path | None,
    registry: str | None,
    blobs: str | None,
) -> tuple[Log, Codec, ReadRows | None]:
    """Return what is read, the codec for it, and what reads the rows of snapshots."""
    from shutterwheel import logs_at

    if archive is not None:
        log: Log = logs_at.open_log(namespace=namespace or "", archive=archive)
        return log, logs_at.codec_of(log, registry or ""), logs_at.rows_reader(blobs or "")
    cluster = find_cluster(kafka, namespace, data, registry)
    if blobs is None:
        blobs = "" if cluster.run is None else cluster.run.blobs
    log = logs_at.open_log(cluster.kafka, cluster.namespace)
    return log, logs_at.codec_of(log, cluster.registry), logs_at.rows_reader(blobs)


def _command_id(text: str) -> int:
    """Return the id of a command; UsageError for what can only be a device."""
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise UsageError(
            f"{text!r} is no command's id: give --at TIME for a device, such as --at 14:05."
        )
    command_id = int(text)
    if not 0 < command_id < 1 << 63:
        raise UsageError(f"{text} is no command's id; they have 63 bits.")
    return command_id


def read_moment(text: str, zone: Zone, now: int) -> int:
    """Return a moment that a person wrote, in UTC milliseconds.

    ``14:05`` is today's in the zone, ``-10m`` and ``10m ago`` are before now; ISO 8601 without a
    zone is read in the zone. An hour that a clock shows twice is the first one.
    """
    from connectors.clients.values import duration_ms, moment_ms
    from streams.core.recurrence.civil import DAY_MS, day_of, month_length

    text = text.strip()
    if text == "now":
        return now
    if text.startswith("-") or text.endswith(" ago"):
        return now - duration_ms(text.removeprefix("-").removesuffix(" ago"), "--at")
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return zone.moment_ms(zone.local_ms(now) // DAY_MS * DAY_MS + _of_day_ms(clock))
    dated = _DAY_AND_CLOCK.fullmatch(text)
    clock = None if dated is None else _CLOCK.fullmatch(dated[4])
    if dated is not None and clock is not None:
        year, month, day = int(dated[1]), int(dated[2]), int(dated[3])
        if 1 <= month <= 12 and 1 <= day <= month_length(year, month):
            return zone.moment_ms(day_of(year, month, day) * DAY_MS + _of_day_ms(clock))
    try:
        return moment_ms(text, "--at")
    except UsageError as error:
        raise UsageError(f"{error} Or HH:MM for today, or -10m.") from None


def _of_day_ms(clock: re.Match[str]) -> int:
    return (int(clock[1]) * 3_600 + int(clock[2]) * 60 + int(clock[3] or 0)) * 1_000
