"""``shutterwheel photos``: what is in the blob store, by device; and what may go."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import AsJson, DataDir, RunFile, data_dir_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from connectors.blobs.store import BlobEntry, BlobStore

COLUMNS = ("day", "command", ">size", "photo")

group = typer.Typer(no_args_is_help=True, help="Photos in the blob store: list, latest, prune.")

Blobs = Annotated[
    str | None,
    typer.Option(help="Folder or URL. Default: of the running `up` here, else DATA/blobs."),
]
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="photos")


@group.command(
    "list",
    epilog="""
Examples:

  shutterwheel photos list gate-1

  shutterwheel photos list gate-1 --day 2026-11-28 --json
""",
)
def list_(
    device: Device,
    day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Only this day (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a device's photos, the newest last."""
    from shutterwheel.show import say, write_json, write_table

    found = asyncio.run(_of_device(where(blobs, data), device, day))
    shown = found[-limit:]
    if as_json:
        write_json([_plain(entry) for entry in shown])
        return
    write_table(COLUMNS, [_row(entry) for entry in shown], "no photos")
    left_out = f", the newest {limit} shown" if len(shown) < len(found) else ""
    say(f"{len(found):,} photos{left_out}")
    if not found:
        raise typer.Exit(1)


@group.command(
    "latest",
    epilog="""
Examples:

  shutterwheel photos latest gate-1

  shutterwheel photos latest gate-1 --out gate-1.jpg
""",
)
def latest(
    device: Device,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write its bytes here.")] = None,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest photo of a device; the exit code is 1 if there is none."""
    from pathlib import Path

    from schemas.errors import StoreError
    from shutterwheel.show import say, write_json

    place = where(blobs, data)
    found = asyncio.run(_of_device(place, device, None))
    if not found:
        say(f"There is no photo of {device} in {place}.")
        raise typer.Exit(1)
    newest = found[-1]
    if out is not None:
        content = asyncio.run(_read(place, newest.uri))
        try:
            Path(out).write_bytes(content)
        except OSError as error:
            raise StoreError(f"{out} cannot be written: {error.strerror}.") from error
    if as_json:
        write_json(_plain(newest))
    else:
        typer.echo(newest.uri)


@group.command(
    "prune",
    epilog="""
Schedules say how long their photos are kept: `keep: 30d` in a manifest. A photo says itself until
when, so a change of its schedule changes nothing for it. Run this daily, by cron or a CronJob.

Examples:

  shutterwheel photos prune --dry-run

  shutterwheel photos prune --blobs s3://photos/north --json
""",
)
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete the photos whose time is over. Audits know that those may be gone."""
    from connectors.blobs.retention import Pruned, prune
    from shutterwheel.show import say, write_json

    place, told_s = where(blobs, data), time.monotonic()

    def tell(so_far: Pruned) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > 1.0 and not as_json:
            told_s = time.monotonic()
            say(f"looked at {so_far.looked_at:,} photos, {so_far.deleted:,} over their time")

    async def run() -> Pruned:
        async with _store(place) as store:
            return await prune(store, time.time_ns() // 1_000_000, dry_run=dry_run, progress=tell)

    done = asyncio.run(run())
    if as_json:
        write_json(
            {
                "looked_at": done.looked_at,
                "deleted": 0 if dry_run else done.deleted,
                "over": done.deleted,
                "over_bytes": done.deleted_bytes,
            }
        )
        return
    verb = "would be deleted" if dry_run else "deleted"
    say(f"{done.looked_at:,} photos, {done.deleted:,} {verb} ({done.deleted_bytes / 1e6:,.1f} MB)")


def where(blobs: str | None, data: Path | None) -> str:
    """Return the blob store that is meant: as asked, of the running ``up``, or in the data folder.

    Raises UsageError for a folder that is not there: opening it would make it.
    """
    from pathlib import Path
    from urllib.parse import unquote, urlsplit

    from schemas.errors import UsageError

    folder = data_dir_of(data)
    run = RunFile.load(folder)
    place = blobs or (run.blobs if run else str(folder / "blobs"))
    parts = urlsplit(place)
    if parts.scheme in {"", "file"} and not Path(unquote(parts.path)).is_dir():
        raise UsageError(f"There is no folder {place}. Say where the photos are: --blobs.")
    return place


@asynccontextmanager
async def _store(place: str) -> AsyncIterator[BlobStore]:
    from connectors.blobs.store import BlobStore

    store = BlobStore.open(place)
    try:
        yield store
    finally:
        await store.aclose()


async def _of_device(place: str, device: str, day: str | None) -> list[BlobEntry]:
    """Return a device's photos in the order of their days and commands."""
    async with _store(place) as store:
        entries = [entry async for entry in store.iterate(device)]
    found = [entry for entry in entries if day is None or _day(entry) == day]
    return sorted(found, key=lambda entry: (_day(entry), _command(entry)))


async def _read(place: str, uri: str) -> bytes:
    async with _store(place) as store:
        return await store.read(uri)


def _day(entry: BlobEntry) -> str:
    return entry.key.split("/")[-2]


def _command(entry: BlobEntry) -> int:
    name = entry.key.rpartition("/")[2].partition(".")[0]
    return int(name) if name.isdecimal() else 0


def _row(entry: BlobEntry) -> tuple[str, ...]:
    size = f"{entry.image_bytes / 1024:.0f} KiB"
    return (_day(entry), str(_command(entry)), size, entry.uri)


def _plain(entry: BlobEntry) -> dict[str, object]:
    return {
        "day": _day(entry),
        "command_id": _command(entry),
        "image_bytes": entry.image_bytes,
        "uri": entry.uri,
    }
