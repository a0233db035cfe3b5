"""Photos are kept as long as their schedule says; issue 8, 'retention by schedule'."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from moto_s3 import MotoS3
from typer.testing import CliRunner

from connectors.blobs.keys import DAY_MS
from connectors.blobs.retention import prune
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.picture import Painter
from schemas.records import CaptureCommand
from shutterwheel.cli import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW_MS = 1_795_433_700_000
HOUR_MS = 3_600_000


def command(command_id: int, age_ms: int, keep_ms: int, device: str = "c") -> CaptureCommand:
    at_ms = NOW_MS - age_ms
    return CaptureCommand(
        command_id, device, "s", "", 1, at_ms, at_ms, at_ms, 3_000, 0, at_ms, keep_ms=keep_ms
    )


@pytest.fixture(params=["local", "memory", "s3"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BlobStore]:
    if request.param == "s3":
        with MotoS3(tmp_path) as peer:
            for name, value in peer.environment().items():
                monkeypatch.setenv(name, value)
            peer.make_bucket("photos")
            yield BlobStore.open("s3://photos/north")
        return
    opened = BlobStore.open("memory://" if request.param == "memory" else tmp_path / "blobs")
    yield opened
    await opened.aclose()


async def filled(store: BlobStore) -> None:
    painter = Painter(96, 96)
    for number, (age_ms, keep_ms) in enumerate(
        ((2 * HOUR_MS, HOUR_MS), (2 * HOUR_MS, 3 * HOUR_MS), (9 * DAY_MS, DAY_MS), (9 * DAY_MS, 0)),
        1,
    ):
        wanted = command(number, age_ms, keep_ms)
        frame = read_jpeg(painter.paint("c", wanted.scheduled_ms, number))
        stored = await store.put(wanted, frame)
        kept = stored.image.keep_until_ms
        assert kept == (wanted.scheduled_ms + keep_ms if keep_ms else None)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def names(store: BlobStore) -> set[str]:
    return {entry.key.rpartition("/")[2] async for entry in store.iterate()}


async def test_what_is_over_its_time_goes_and_nothing_else(store: BlobStore) -> None:
    await filled(store)
    counted = await prune(store, NOW_MS, dry_run=True)
    assert await names(store) == {"1.jpg", "2.jpg", "3.jpg", "4.jpg"}
    done = await prune(store, NOW_MS)
    assert (counted.looked_at, counted.deleted) == (done.looked_at, done.deleted) == (4, 2)
    assert done.deleted_bytes > 0
    assert await names(store) == {"2.jpg", "4.jpg"}, "3 h are not over; and 0 is for ever"
    assert (await prune(store, NOW_MS)).deleted == 0
    found = await store.find(command(2, 2 * HOUR_MS, 3 * HOUR_MS))
    assert found is not None
    assert found.keep_until_ms == NOW_MS + HOUR_MS


async def test_a_day_goes_with_its_last_photo(tmp_path: Path) -> None:
    """Folders of days long over, and of devices without any, do not stay behind."""
    store = BlobStore.open(tmp_path)
    wanted = command(3, 9 * DAY_MS, DAY_MS)
    await store.put(wanted, read_jpeg(Painter(96, 96).paint("c", 0, 1)))
    await prune(store, NOW_MS - 7 * DAY_MS - 12 * HOUR_MS)
    assert files(tmp_path) == {"index.jsonl"}
    await store.put(command(4, 9 * DAY_MS, DAY_MS), read_jpeg(Painter(96, 96).paint("c", 0, 2)))
    await prune(store, NOW_MS)
    assert files(tmp_path) == set()
    assert not (await asyncio.to_thread(lambda: list(tmp_path.iterdir())))


def test_a_torn_line_and_strange_files_are_left_alone(tmp_path: Path) -> None:
    store = BlobStore.open(tmp_path)
    asyncio.run(filled(store))
    (day,) = {path.parent for path in tmp_path.rglob("1.jpg")}
    index = day / "index.jsonl"
    lines = index.read_bytes().splitlines()
    index.write_bytes(lines[0][:-9] + b"\n" + b"\n".join(lines[1:]) + b"\n")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "c" / "not-a-day").mkdir()
    (day / "7.jpg").write_bytes(b"no line says when this may go")
    asyncio.run(prune(store, NOW_MS))
    assert asyncio.run(names(store)) == {"1.jpg", "2.jpg", "4.jpg", "7.jpg"}
    assert (tmp_path / "notes.txt").exists()


def test_the_command_line_lists_shows_and_prunes(tmp_path: Path) -> None:
    asyncio.run(filled(BlobStore.open(tmp_path / "blobs")))
    run, data = CliRunner().invoke, ["--data", str(tmp_path)]
    listed = run(app, ["photos", "list", "c", *data, "--json"])
    assert [one["command_id"] for one in json.loads(listed.stdout)] == [3, 4, 1, 2]
    newest = run(app, ["photos", "latest", "c", "--out", str(tmp_path / "new.jpg"), *data])
    assert newest.stdout.strip().endswith("/2.jpg")
    (photo,) = tmp_path.rglob("2.jpg")
    assert (tmp_path / "new.jpg").read_bytes() == photo.read_bytes()
    pruned = run(app, ["photos", "prune", "--dry-run", "--json", *data])
    assert json.loads(pruned.stdout)["deleted"] == 0
    assert json.loads(run(app, ["photos", "prune", "--json", *data]).stdout)["looked_at"] == 4
    assert run(app, ["photos", "latest", "nobody", *data]).exit_code == 1
    missing = run(app, ["photos", "list", "c", "--blobs", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "--blobs" in missing.stderr) == (2, True)
