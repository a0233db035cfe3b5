"""Photos are kept as long as their schedule says; issue 8, 'retention by schedule'."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import takewhile
from typing import TYPE_CHECKING

import pytest
from moto_s3 import MotoS3
from msgspec.structs import replace
from typer.testing import CliRunner

from connectors.blobs import retention
from connectors.blobs.keys import DAY_MS
from connectors.blobs.retention import SKEW_MS, prune
from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.picture import Painter
from schemas.errors import StoreError
from schemas.records import CaptureCommand
from shutterwheel.cli import app
from shutterwheel.commands import up
from shutterwheel.pruner import Pruner, PrunerOptions
from streams.observability.metrics import Metrics

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


async def test_what_another_attempt_may_look_for_stays(store: BlobStore) -> None:
    """DESIGN 'Captures': recovery looks for the photo until ``not_after``; then the clocks agree."""
    wanted = replace(command(5, 2 * HOUR_MS, 1_000), not_after_ms=NOW_MS - 1_000)
    stored = await store.put(wanted, read_jpeg(Painter(96, 96).paint("c", 0, 1)))
    needed_ms = NOW_MS + 2_000
    assert stored.image.keep_until_ms == needed_ms, "not_after and the time of a capture"
    for at_ms in (NOW_MS, needed_ms, needed_ms + SKEW_MS):
        assert (await prune(store, at_ms)).deleted == 0
    assert (await prune(store, needed_ms + SKEW_MS + 1)).deleted == 1


async def test_it_goes_in_steps_and_can_be_ended_after_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_FILES", 2)
    store = BlobStore.open(tmp_path)
    for number in range(1, 8):
        frame = read_jpeg(Painter(96, 96).paint("c", 0, number))
        await store.put(command(number, 2 * HOUR_MS, HOUR_MS), frame)
    seen: list[int] = []

    def told(so_far: retention.Pruned) -> None:
        seen.append(so_far.deleted)
        if so_far.deleted >= 4:
            raise StoreError("enough")

    with pytest.raises(StoreError, match="enough"):
        await prune(store, NOW_MS, progress=told)
    assert seen == [2, 4]
    assert len(await names(store)) == 3
    assert (await prune(store, NOW_MS, rest=1e-9)).deleted == 3


async def test_the_pruner_counts_what_it_does_and_lives_through_failures(tmp_path: Path) -> None:
    """``up`` runs it: photos go by themselves, and /metrics says so."""
    blobs, metrics = tmp_path / "blobs", Metrics("photos", "0")
    await filled(BlobStore.open(blobs))
    pruner = Pruner(PrunerOptions(str(blobs), 1_000), metrics)
    await pruner.once(NOW_MS)
    assert (metrics.pruned_photos.total, metrics.prune_failures.total) == (2, 0)
    assert metrics.pruned_bytes.total > 0
    assert metrics.pruned_at.value == NOW_MS / 1000
    assert await names(BlobStore.open(blobs)) == {"2.jpg", "4.jpg"}
    await Pruner(PrunerOptions("s3://", 1_000), metrics).once(NOW_MS)
    assert metrics.prune_failures.total == 1


def test_the_process_that_up_starts_prunes_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """Also where no photo has been stored yet: a worker may make the folder later."""
    store = BlobStore.open(tmp_path / "blobs")
    wanted = CaptureCommand(1, "c", "s", "", 1, 0, 0, 0, 3_000, 0, 0, keep_ms=1_000)
    asyncio.run(store.put(wanted, read_jpeg(Painter(96, 96).paint("c", 0, 1))))
    words = ["--every", "1s", "--blobs", str(tmp_path / "blobs"), "--tether"]
    with subprocess.Popen(
        [sys.executable, "-m", "shutterwheel", "photos", "prune", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        said = list(takewhile(lambda line: "photos pruned" not in line, process.stderr))
        process.stdin.close()
        said += process.stderr
        assert process.wait(30) == 0, said
    assert files(tmp_path / "blobs") == set(), said


@pytest.mark.parametrize(
    ("wanted", "demo", "every"),
    [("", False, "1h"), ("", True, ""), ("0", False, ""), ("5m", True, "5m")],
)
def test_up_prunes_hourly_unless_it_is_told_or_a_demo(wanted: str, demo: bool, every: str) -> None:
    assert up._prune_every(wanted, demo) == every


@pytest.mark.parametrize("every", ["999ms", "31d", "soon"])
def test_how_often_is_checked(every: str, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    words = ["photos", "prune", "--every", every, "--data", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 2
    assert CliRunner().invoke(app, ["up", "--prune-every", every]).exit_code == 2


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
