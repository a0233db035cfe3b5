"""Deletes photos that nobody wants kept any more.

A photo says itself until when it is kept (``keep_until_ms``, from its schedule's ``keep``): in the
index of its folder, or in the attributes of its object. So nothing needs to be asked but the store,
and a schedule that is changed or gone changes nothing for the photos it had. A photo that says
nothing is kept for ever, and so is one whose index line is lost.

In a folder, a day's index goes with its last photo, once the day is two days over: until then a
late one may be written beside it. An object store is asked for the attributes of each object, 32
at a time: some 1,000 a second. For many millions set a lifecycle rule on the bucket instead.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from connectors.blobs.index import DECODER, INDEX_NAME
from connectors.blobs.keys import IMAGE_SUFFIX
from schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.blobs.store import BlobStore

    Progress = Callable[["Pruned"], None]

AT_ONCE: Final = 32
DAYS_OVER: Final = 2


@dataclass(slots=True)
class Pruned:
    """How far it is."""

    looked_at: int = 0
    """Photos."""
    deleted: int = 0
    """Photos deleted, or that would have been."""
    deleted_bytes: int = 0


async def prune(
    store: BlobStore, now_ms: int, *, dry_run: bool = False, progress: Progress | None = None
) -> Pruned:
    """Delete the photos whose time is over; ``dry_run`` only counts them.

    Raises StoreError: the store cannot be read, or does not let go of something.
    """
    told = progress or (lambda _so_far: None)
    if store.base_uri.startswith("file://"):
        folder = Path(unquote(urlsplit(store.base_uri).path))
        try:
            return await asyncio.to_thread(_prune_folder, folder, now_ms, dry_run, told)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StoreError(f"{error.filename} cannot be deleted or read: {reason}") from error
    return await _prune_objects(store, now_ms, dry_run, told)


def _prune_folder(folder: Path, now_ms: int, dry_run: bool, told: Progress) -> Pruned:
    done = Pruned()
    today = datetime.fromtimestamp(now_ms / 1000.0, UTC).date()
    for day in _days(folder):
        index = day / INDEX_NAME
        photos = {path.name for path in day.iterdir() if path.suffix == IMAGE_SUFFIX}
        over = _names_over(index, now_ms) & photos
        for name in over:
            done.deleted += 1
            done.deleted_bytes += (day / name).stat().st_size
            if not dry_run:
                (day / name).unlink()
        done.looked_at += len(photos)
        old = (today - date.fromisoformat(day.name)).days > DAYS_OVER
        if old and over == photos and not dry_run:
            index.unlink(missing_ok=True)
            _remove_if_empty(day)
            _remove_if_empty(day.parent)
        told(done)
    return done


def _days(folder: Path) -> Iterator[Path]:
    """Yield the folders of a device's day."""
    with os.scandir(folder) as devices:
        for device in devices:
            if not device.is_dir(follow_symlinks=False):
                continue
            for day in Path(device.path).iterdir():
                if _is_day(day.name) and day.is_dir() and not day.is_symlink():
                    yield day


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def _names_over(index: Path, now_ms: int) -> set[str]:
    """Return the names of the photos of a day whose time is over."""
    try:
        lines = index.read_bytes().splitlines()
    except FileNotFoundError:
        return set()
    found = set()
    for line in lines:
        try:
            metadata = DECODER.decode(line)
        except msgspec.MsgspecError:
            continue  # torn by a crash
        if metadata.keep_until_ms is not None and metadata.keep_until_ms < now_ms:
            found.add(f"{metadata.command_id}{IMAGE_SUFFIX}")
    return found


def _remove_if_empty(folder: Path) -> None:
    if next(folder.iterdir(), None) is None:
        folder.rmdir()


async def _prune_objects(store: BlobStore, now_ms: int, dry_run: bool, told: Progress) -> Pruned:
    done = Pruned()
    line: list[tuple[str, int]] = []

    async def look() -> None:
        answers = await asyncio.gather(*(store.metadata(key) for key, _ in line))
        over = [
            (key, size)
            for (key, size), metadata in zip(line, answers, strict=True)
            if metadata and metadata.keep_until_ms is not None and metadata.keep_until_ms < now_ms
        ]
        if over and not dry_run:
            await store.delete([key for key, _ in over])
        done.looked_at += len(line)
        done.deleted += len(over)
        done.deleted_bytes += sum(size for _, size in over)
        line.clear()
        told(done)

    async for entry in store.iterate():
        line.append((entry.key, entry.image_bytes))
        if len(line) == AT_ONCE:
            await look()
    if line:
        await look()
    return done
