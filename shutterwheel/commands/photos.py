"""``shutterwheel photos``: what is in the blob store, by device; and what may go."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shutterwheel.context import AsJson, DataDir, RunFile, data_dir_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from connectors.blobs.check import Wrong
    from connectors.blobs.store import BlobEntry, BlobStore

COLUMNS = ("day", "command", ">size", "beside it", "photo")

group = typer.Typer(
    no_args_is_help=True, help="Photos in the blob store: list, latest, verify, prune; keygen."
)

Blobs = Annotated[
    str | None,
    typer.Option(help="Folder or URL. Default: of the running `up` here, else DATA/blobs."),
]
Original = Annotated[
    bool, typer.Option("--original", help="The camera's own bytes, as they lie beside it.")
]
Thumbnail = Annotated[bool, typer.Option("--thumbnail", help="The thumbnail that lies beside it.")]
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
        write_json([_plain(photo) for photo in shown])
        return
    write_table(COLUMNS, [_row(photo) for photo in shown], "no photos")
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

  shutterwheel photos latest gate-1 --thumbnail --out small.jpg
""",
)
def latest(
    device: Device,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write its bytes here.")] = None,
    thumbnail: Thumbnail = False,
    original: Original = False,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest photo of a device; the exit code is 1 if there is none."""
    from schemas.errors import StoreError, UsageError
    from shutterwheel.show import say, write_json

    if thumbnail and original:
        raise UsageError("--thumbnail or --original: one of them.")

    place = where(blobs, data)
    found = asyncio.run(_of_device(place, device, None))
    if not found:
        say(f"There is no photo of {device} in {place}.")
        raise typer.Exit(1)
    newest = found[-1]
    kind = "thumbnail" if thumbnail else "original" if original else "photo"
    uri = newest.uri(kind)
    if not uri:
        say(f"No {kind} lies beside {newest.entry.uri}.")
        raise typer.Exit(1)
    if out is not None:
        content = asyncio.run(_read(place, uri))
        try:
            Path(out).write_bytes(content)
        except OSError as error:
            raise StoreError(f"{out} cannot be written: {error.strerror}.") from error
    if as_json:
        write_json(_plain(newest))
    else:
        typer.echo(uri)


@group.command(
    "prune",
    epilog="""
Schedules say how long their photos are kept: `keep: 30d` in a manifest. A photo says itself until
when, so a change of its schedule changes nothing for it. `up` does this hourly; elsewhere one
process with --every does, or a CronJob without.

Examples:

  shutterwheel photos prune --dry-run

  shutterwheel photos prune --every 1h --blobs s3://photos --port 9100

  shutterwheel photos prune --blobs s3://photos/north --json
""",
)
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    every: Annotated[
        str, typer.Option(metavar="TIME", help="Go on, and do it so often; 1s to 30 days.")
    ] = "",
    port: Annotated[
        int, typer.Option(help="With --every: port of /metrics on 127.0.0.1; 0: any.")
    ] = 0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    tether: Annotated[bool, typer.Option(help="Stop when standard input closes.")] = False,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete the photos whose time is over, with what lies beside them.

    Audits know that those may be gone.
    """
    if every:
        _prune_on(every, blobs or where(blobs, data), port, log_level, tether, dry_run, as_json)
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
                "beside": 0 if dry_run else done.beside,
                "over_beside": done.beside,
                "over_bytes": done.deleted_bytes,
            }
        )
        return
    verb = "would be deleted" if dry_run else "deleted"
    beside = f" and {done.beside:,} files beside them" if done.beside else ""
    say(
        f"{done.looked_at:,} photos, {done.deleted:,}{beside} {verb} "
        f"({done.deleted_bytes / 1e6:,.1f} MB)"
    )


def _prune_on(
    every: str, place: str, port: int, log_level: str, tether: bool, dry_run: bool, as_json: bool
) -> None:
    from schemas.errors import UsageError
    from shutterwheel.context import prune_every_ms
    from shutterwheel.pruner import PrunerOptions, run

    if dry_run or as_json:
        raise UsageError("--every goes with neither --dry-run nor --json.")
    every_ms = prune_every_ms(every, "--every")
    if not every_ms:
        raise UsageError("--every 0 would do nothing.")
    run(PrunerOptions(place, every_ms, port, log_level, tether))


@group.command(
    "verify",
    epilog="""
Examples:

  shutterwheel photos verify gate-1

  shutterwheel photos verify gate-1 --day 2026-11-28 --blobs s3://photos --json
""",
)
def verify(
    device: Device,
    day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Only this day (UTC).")
    ] = None,
    blobs: Blobs = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read a device's photos back, with what lies beside them, and compare with what was stored.

    Bytes, hashes and what should be there: of each photo, its thumbnail and its original. Whether
    a photo is the one that its label says, `verify FILE` tells; whether the log says the same,
    `audit`. The exit code is 1 if something is wrong.
    """
    from connectors.blobs.check import check
    from shutterwheel.show import clean, say, write_json

    async def run() -> tuple[int, list[Wrong]]:
        async with _store(where(blobs, data)) as store:
            return await check(store, device, day)

    count, found = asyncio.run(run())
    if as_json:
        write_json({"ok": not found, "photos": count, "findings": found})
    else:
        for one in found:
            typer.echo(f"{clean(one.uri)}: {clean(one.reason)}")
        say(f"{count:,} photos, {len(found):,} findings")
    if found:
        raise typer.Exit(1)


@group.command(
    "keygen",
    epilog="""
Examples:

  shutterwheel photos keygen site.key

  shutterwheel up --sign-key site.key
""",
)
def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of the private key; FILE.pub too.")],
    as_json: AsJson = False,
) -> None:
    """Make a key that signs photos: FILE, which is yours alone, and FILE.pub for `verify --key`."""
    from connectors.images.signing import make_keys
    from shutterwheel.show import say, write_json

    key_id = make_keys(file)
    if as_json:
        write_json({"key": key_id, "private": str(file), "public": f"{file}.pub"})
    else:
        say(f"key {key_id}: {file} signs, {file}.pub checks")


def where(blobs: str | None, data: Path | None) -> str:
    """Return the blob store that is meant: as asked, of the running ``up``, or in the data folder.

    Raises UsageError for a folder that is not there: opening it would make it.
    """
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


@dataclass(frozen=True, slots=True)
class _Photo:
    """A photo and what lies beside it."""

    entry: BlobEntry
    day: str
    command_id: int
    beside: dict[str, BlobEntry] = field(default_factory=dict)

    def uri(self, kind: str) -> str:
        """Return where the photo is, or what of it lies beside; empty: nowhere."""
        found = self.entry if kind == "photo" else self.beside.get(kind)
        return found.uri if found is not None else ""


async def _of_device(place: str, device: str, day: str | None) -> list[_Photo]:
    """Return a device's photos in the order of their days and commands."""
    from connectors.blobs.keys import beside_name, photo_id

    photos: dict[tuple[str, int], _Photo] = {}
    others: list[BlobEntry] = []
    async with _store(place) as store:
        async for entry in store.iterate(device, beside=True):
            entry_day, identity = entry.key.split("/")[-2], photo_id(entry.key)
            if day is not None and entry_day != day:
                continue
            if identity is None:
                others.append(entry)
            else:
                photos[entry_day, identity] = _Photo(entry, entry_day, identity)
    for entry in others:
        name = beside_name(entry.key)
        photo = photos.get((entry.key.split("/")[-2], name.command_id)) if name else None
        if photo is not None:
            photo.beside[entry.kind] = entry
    return [photos[key] for key in sorted(photos)]


async def _read(place: str, uri: str) -> bytes:
    async with _store(place) as store:
        return await store.read(uri)


def _row(photo: _Photo) -> tuple[str, ...]:
    size = f"{photo.entry.image_bytes / 1024:.0f} KiB"
    beside = ", ".join(sorted(photo.beside))
    return (photo.day, str(photo.command_id), size, beside, photo.entry.uri)


def _plain(photo: _Photo) -> dict[str, object]:
    return {
        "day": photo.day,
        "command_id": photo.command_id,
        "image_bytes": photo.entry.image_bytes,
        "uri": photo.entry.uri,
        "beside": {
            kind: {"image_bytes": entry.image_bytes, "uri": entry.uri}
            for kind, entry in sorted(photo.beside.items())
        },
    }
