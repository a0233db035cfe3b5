"""``shutterwheel timelapse``: a device's photos as a film."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError
from shutterwheel.context import AsJson, DataDir  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from connectors.images.timelapse import Film, FilmSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "timelapse",
        epilog="""
Examples:

  shutterwheel timelapse cam-00001 day.mp4

  shutterwheel timelapse cam-00001 week.mp4 --from 2026-11-21T00:00:00Z --every 10m --fps 30

  shutterwheel timelapse cam-00001 day.mp4 --blobs s3://photos --json
""",
    )(timelapse)


def timelapse(
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    out: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The film; never overwritten.")],
    start: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="ISO 8601 with its zone. Default: a day ago."),
    ] = "",
    end: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Not included. Default: now.")
    ] = "",
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="At most one photo in so long, such as 10m.")
    ] = "",
    fps: Annotated[int, typer.Option(min=1, max=120, help="Photos a second of film.")] = 25,
    width: Annotated[int, typer.Option(min=16, max=7_680, help="Greatest width, pixels.")] = 1_920,
    height: Annotated[
        int, typer.Option(min=16, max=4_320, help="Greatest height, pixels.")
    ] = 1_080,
    data: DataDir = None,
    blobs: Annotated[
        str, typer.Option(help="Folder or URL of photos. Default: what runs, else DATA/blobs.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a film (H.264 in MP4) of a device's photos, in the order in which they were taken.

    Photos that cannot be read are left out and counted.
    """
    from connectors.clients.values import duration_ms, moment_ms
    from connectors.images.timelapse import FilmSettings
    from shutterwheel.context import RunFile, data_dir_of
    from shutterwheel.show import say, write_json

    now_ms = time.time_ns() // 1_000_000
    to_ms = moment_ms(end, "--to") if end else now_ms
    from_ms = moment_ms(start, "--from") if start else to_ms - 86_400_000
    if from_ms >= to_ms:
        raise UsageError("--from must be before --to.")
    if out.exists():
        raise UsageError(f"{out} is there already.")
    folder = data_dir_of(data)
    running = RunFile.load(folder)
    location = blobs or (running.blobs if running else str(folder / "blobs"))
    settings = FilmSettings(fps, width, height, duration_ms(every, "--every") if every else 0)
    if "://" not in location and not Path(location).is_dir():
        raise UsageError(f"There is no folder {location} with photos. Give --blobs.")
    film = asyncio.run(_make(location, device, from_ms, to_ms, out, settings))
    if as_json:
        write_json({"file": str(out), "bytes": out.stat().st_size, "film": film})
        return
    say(
        f"{out}: {film.photos:,} photos, {film.seconds:.1f} s, {film.width_px} x {film.height_px}, "
        f"{out.stat().st_size:,} bytes; {film.left_out:,} left out"
    )


async def _make(
    location: str, device: str, from_ms: int, to_ms: int, out: Path, settings: FilmSettings
) -> Film:
    from connectors.blobs.store import BlobStore
    from connectors.images.timelapse import make_film

    store = BlobStore.open(location)
    try:
        return await make_film(store, device, from_ms, to_ms, out, settings)
    finally:
        await store.aclose()
