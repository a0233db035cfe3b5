"""Deletes photos that nobody wants kept any more, with what lies beside them.

A photo says itself until when it is kept (``keep_until_ms``, from its schedule's ``keep``): in the
index of its folder, or in the attributes of its object. So nothing needs to be asked but the store,
and a schedule that is changed or gone changes nothing for the photos it had. A photo that says
nothing is kept for ever, and so is one whose index line is lost.

**What the log still needs is not touched.** A photo is kept at least while another attempt of its
command may come and look for it (``describe.keep_until_ms``): one that did not find it would open
the shutter again. Then it is kept ``SKEW_MS`` longer, so that an audit whose clock is behind ours
never misses one. Snapshots, archives and whatever has no name of ours are no photos.

In a folder, a day's index goes with its last photo, once the day is two days over: until then a
late one may be written beside it. An object store is asked for the attributes of each object, 32
at a time: some 1,000 a second. For many millions set a lifecycle rule on the bucket instead.

It goes in steps of at most :data:`STEP_FILES` files, so that memory is bounded and it can be ended
after each; a run beside other work rests after each step for ``rest`` times as long as that took.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from connectors.blobs.index import DECODER, INDEX_NAME
from connectors.blobs.keys import beside_name, photo_id
from schemas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from connectors.blobs.index import BlobMetadata
    from connectors.blobs.store import BlobEntry, BlobStore

    Progress = Callable[["Pruned"], None]

AT_ONCE: Final = 32
STEP_FILES: Final = 1_000
"""Of a folder; of an object store ``AT_ONCE``. A device's day is listed whole, whatever it has."""
SKEW_MS: Final = 2_000
"""Clocks of workers, pruner and audit may differ by so much: DESIGN's ``max_skew``."""
DAYS_OVER: Final = 2


@dataclass(slots=True)
class Pruned:
    """How far it is."""

    looked_at: int = 0
    """Photos."""
    deleted: int = 0
    """Photos deleted, or that would have been."""
    beside: int = 0
    """The same of what lay beside photos."""
    deleted_bytes: int = 0
    """Of both."""


async def prune(
    store: BlobStore,
    now_ms: int,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    rest: float = 0.0,
) -> Pruned:
    """Delete the photos whose time is over; ``dry_run`` only counts them.

    ``progress`` is told after each step. ``rest``: 0 and more, see the module's text. Raises
    StoreError: the store cannot be read, or does not let go of something.
    """
    told = progress or (lambda _so_far: None)
    done = Pruned()
    if store.base_uri.startswith("file://"):
        folder = Path(unquote(urlsplit(store.base_uri).path))
        steps = _folder_steps(folder, now_ms, dry_run, done)
    else:
        steps = _object_steps(store, now_ms, dry_run, done)
    began_s = time.monotonic()
    async for _ in steps:
        told(done)
        if rest:
            await asyncio.sleep(rest * (time.monotonic() - began_s))
            began_s = time.monotonic()
    told(done)
    return done


async def _folder_steps(
    folder: Path, now_ms: int, dry_run: bool, done: Pruned
) -> AsyncIterator[None]:
    walk = _prune_folder(folder, now_ms, dry_run, done)
    try:
        while await asyncio.to_thread(next, walk, True) is None:
            yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StoreError(f"{error.filename} cannot be deleted or read: {reason}") from error


def _prune_folder(folder: Path, now_ms: int, dry_run: bool, done: Pruned) -> Iterator[None]:
    """Go through a folder; yield after each step."""
    today = datetime.fromtimestamp(now_ms / 1000.0, UTC).date()
    files = 0
    for day in _days(folder):
        index = day / INDEX_NAME
        names = {path.name for path in day.iterdir() if _command_of(path.name) is not None}
        ids = _ids_over(index, now_ms)
        over = {name for name in names if _command_of(name) in ids}
        for name in over:
            _delete(day / name, done, dry_run)
            files += 1
            if files % STEP_FILES == 0:
                yield
        done.looked_at += sum(photo_id(name) is not None for name in names)
        files += len(names) - len(over)
        old = (today - date.fromisoformat(day.name)).days > DAYS_OVER
        if old and over == names and not dry_run:
            index.unlink(missing_ok=True)
            _remove_if_empty(day)
            _remove_if_empty(day.parent)
        if files >= STEP_FILES:
            files = 0
            yield


def _delete(path: Path, done: Pruned, dry_run: bool) -> None:
    """Delete and count one file; one that is gone has been deleted by another pruner."""
    try:
        size = path.stat().st_size
        if not dry_run:
            path.unlink()
    except FileNotFoundError:
        return
    done.deleted_bytes += size
    if photo_id(path.name) is None:
        done.beside += 1
    else:
        done.deleted += 1


def _command_of(name: str) -> int | None:
    """Return whose photo a file is, or lies beside; None: it is no file of ours."""
    identity = photo_id(name)
    if identity is None and (beside := beside_name(name)) is not None:
        return beside.command_id
    return identity


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


def _ids_over(index: Path, now_ms: int) -> set[int]:
    """Return the commands of a day whose photos' time is over."""
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
        if _is_over(metadata, now_ms):
            found.add(metadata.command_id)
    return found


def _is_over(metadata: BlobMetadata | None, now_ms: int) -> bool:
    until_ms = None if metadata is None else metadata.keep_until_ms
    return until_ms is not None and until_ms + SKEW_MS < now_ms


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if next(folder.iterdir(), None) is None:
            folder.rmdir()


async def _object_steps(
    store: BlobStore, now_ms: int, dry_run: bool, done: Pruned
) -> AsyncIterator[None]:
    """Go through an object store; yield after each step."""
    line: list[BlobEntry] = []

    async def look() -> None:
        answers = await asyncio.gather(*(store.metadata(entry.key) for entry in line))
        pairs = zip(line, answers, strict=True)
        over = [entry for entry, metadata in pairs if _is_over(metadata, now_ms)]
        if over and not dry_run:
            await store.delete([entry.key for entry in over])
        photos = sum(entry.kind == "photo" for entry in over)
        done.looked_at += sum(entry.kind == "photo" for entry in line)
        done.deleted += photos
        done.beside += len(over) - photos
        done.deleted_bytes += sum(entry.image_bytes for entry in over)
        line.clear()

    async for entry in store.iterate(beside=True):
        line.append(entry)
        if len(line) == AT_ONCE:
            await look()
            yield
    if line:
        await look()
