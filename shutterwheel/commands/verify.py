"""``shutterwheel verify``: is this file the photo it says it is? Asked of the file alone."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError
from shutterwheel.context import AsJson  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.images.signing import PublicKey
    from connectors.images.verify import Verified

MAX_FILE_BYTES = 256 * 1024 * 1024
"""As long as a camera's picture may ever be."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What is looked at in a folder, but for what lies beside photos."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "verify",
        epilog="""
Examples:

  shutterwheel verify photo.jpg

  shutterwheel verify .shutterwheel/blobs/cam-00001/2026-11-28

  shutterwheel verify photo.jpg --source as-the-camera-sent-it.jpg

  shutterwheel verify photo.jpg --key site.key.pub

  shutterwheel verify *.jpg --json | jq '.files[] | select(.ok | not)'
""",
    )(verify)


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Photos, or folders.")],
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="FILE", help="The camera's own bytes of the one photo."),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", metavar="PUB", help="Public key (PEM) that must have signed; may be repeated."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only what is not well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check photos by what they carry: bytes, pixels, times, command and device. Offline.

    Of a photo in a blob store's folder the camera's own bytes are looked for beside it. The exit
    code is 1 if a check of one of them fails.
    """
    from connectors.images.verify import verify as check
    from shutterwheel.show import write_json

    paths = list(_photos(files))
    if source is not None and len(paths) != 1:
        raise UsageError("--source belongs to one photo.")
    sent = None if source is None else _read(source)
    keys = _keys(key or [])
    found: list[Verified] = []
    for path in paths:
        data = _read(path)
        camera = _beside(path, data) if sent is None else sent
        one = check(data, str(path), time.time_ns() // 1_000_000, camera, keys)
        found.append(one)
        if not as_json:
            _print(one, quiet=quiet)
    failed = sum(not one.ok for one in found)
    if as_json:
        write_json({"ok": not failed, "files": found})
    else:
        typer.echo(f"{len(found)} photos, {failed} not well")
    if failed:
        raise typer.Exit(1)


def _keys(paths: list[Path]) -> tuple[PublicKey, ...]:
    if not paths:
        return ()
    from connectors.images.signing import PublicKey

    return tuple(PublicKey.load(path) for path in paths)


def _beside(path: Path, data: bytes) -> bytes | None:
    """Return the camera's bytes that lie beside a photo of a blob store, if they do."""
    from connectors.blobs.keys import BESIDE_DIGITS, photo_id

    identity = photo_id(path.name)
    if identity is None:
        return None
    digits = hashlib.sha256(data).hexdigest()[:BESIDE_DIGITS]
    found = sorted(path.parent.glob(f"{identity}.{digits}.original.*"))
    return _read(found[0]) if found else None


def _photos(files: list[Path]) -> Iterator[Path]:
    from connectors.blobs.keys import beside_name

    for path in files:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not beside_name(p.name)
        )
        if not inside:
            raise UsageError(f"There are no photos in {path}.")
        yield from inside


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is longer than {MAX_FILE_BYTES:,} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _print(one: Verified, *, quiet: bool) -> None:
    from rich.text import Text

    from shutterwheel.show import STATE_STYLES, clean, console

    if quiet and one.ok:
        return
    out = console()
    out.print(Text(f"{clean(one.file)}: {'well' if one.ok else 'NOT WELL'}"))
    for finding in one.findings:
        if quiet and finding.status != "fail":
            continue
        line = Text.assemble(
            "  ",
            (f"{finding.status:<5}", STATE_STYLES.get(finding.status, "")),
            f"{finding.check:<11}",
            clean(finding.found),
        )
        out.print(line)
