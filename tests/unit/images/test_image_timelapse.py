"""``shutterwheel timelapse``: the right photos, in order, in a film that a player reads."""

from __future__ import annotations

import asyncio
import json

import av
import numpy as np
import pytest
from image_files import cut, make, saved, scene, tagged
from typer.testing import CliRunner

from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.images.label import Label
from connectors.images.pipeline import process
from connectors.images.spec import CaptureSpec
from connectors.images.timelapse import FilmSettings, fitted, make_film, shots
from schemas.errors import StoreError, UsageError
from schemas.records import CaptureCommand
from shutterwheel.cli import app
from streams.core.ids import command_id, shard_of

START_MS = 1_795_433_700_000
MINUTE_MS = 60_000


def shade(level: int, width: int = 160, height: int = 120) -> bytes:
    return saved(np.full((height, width, 3), level, np.uint8), "JPEG", quality=90)


async def put(
    store: BlobStore, minute: int, data: bytes, device: str = "cam-1", *, labelled: bool = True
):
    at_ms = START_MS + minute * MINUTE_MS
    identity = command_id(at_ms - 5_000, shard_of(device), 0)
    if labelled:
        data = process(data, CaptureSpec(), Label(device, identity, "s", 1, at_ms, at_ms)).data
    command = CaptureCommand(identity, device, "s", "", 1, at_ms, at_ms, 0, 3_000, 0, 0)
    await store.put(command, read_jpeg(data))


@pytest.fixture
async def store(tmp_path):
    opened = BlobStore.open(tmp_path / "blobs")  # the folder is looked into below
    yield opened
    await opened.aclose()


def frames(path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


async def film(store, out, minutes: tuple[int, int] = (0, 100), **wish: int):
    span = (START_MS + minute * MINUTE_MS for minute in minutes)
    return await make_film(store, "cam-1", *span, out, FilmSettings(**wish))


async def test_photos_come_in_order_and_only_those_of_device_and_time(store, tmp_path):
    for minute in (3, 0, 2, 1, 4):
        await put(store, minute, shade(40 + 40 * minute))
    for other in ("cam-2", "cam-10", "cam"):
        await put(store, 2, shade(255), other)
    made = await film(store, tmp_path / "a.mp4", (1, 4))
    assert (made.photos, made.left_out, made.seconds) == (3, 0, 3 / 25)
    assert (made.first_ms, made.last_ms) == (START_MS + MINUTE_MS, START_MS + 3 * MINUTE_MS)
    found = frames(tmp_path / "a.mp4")
    assert [round(float(frame.mean()) / 40) * 40 for frame in found] == [80, 120, 160]
    assert found[0].shape == (120, 160, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "blobs"}


async def test_photos_of_a_store_without_folders_are_found_by_device_too():
    store = BlobStore.open("memory://")
    for device in ("cam-1", "cam-10"):
        await put(store, 0, shade(40), device)
    (found,) = await shots(store, "cam-1", START_MS, START_MS + MINUTE_MS)
    assert "/cam-1/" in found.uri


async def test_the_edge_of_the_time_asked_for_is_the_shutters_not_the_commands(store, tmp_path):
    """A command is issued 5 s before: its photo of minute 0 belongs to minute 0."""
    await put(store, 0, shade(40))
    await put(store, 1, shade(80))
    made = await film(store, tmp_path / "a.mp4", (0, 1))
    assert (made.photos, made.first_ms) == (1, START_MS)


async def test_without_a_label_the_commands_time_counts(store, tmp_path):
    await put(store, 1, shade(40), labelled=False)
    made = await film(store, tmp_path / "a.mp4", (0, 2))
    assert made.first_ms == START_MS + MINUTE_MS - 5_000


async def test_at_most_one_in_so_long(store, tmp_path):
    for minute in range(7):
        await put(store, minute, shade(100))
    made = await film(store, tmp_path / "a.mp4", every_ms=3 * MINUTE_MS)
    assert made.photos == 3


async def test_a_photo_that_cannot_be_read_is_left_out_and_counted(store, tmp_path):
    await put(store, 0, shade(40))
    await put(store, 1, cut(make(320, 240)), labelled=False)
    made = await film(store, tmp_path / "a.mp4")
    assert (made.photos, made.left_out) == (1, 1)


async def test_photos_of_another_shape_are_fitted_into_the_first_ones(store, tmp_path):
    await put(store, 0, shade(200, 161, 121))
    await put(store, 1, shade(200, 300, 600))
    made = await film(store, tmp_path / "a.mp4")
    assert (made.width_px, made.height_px) == (160, 120)
    second = frames(tmp_path / "a.mp4")[1]
    assert second[:, :45].mean() < 20
    assert second[:, 65:95].mean() > 190


async def test_nothing_is_left_where_there_is_no_photo_or_no_room(store, tmp_path):
    with pytest.raises(UsageError, match="no photos of cam-1"):
        await film(store, tmp_path / "a.mp4")
    await put(store, 0, shade(40))
    with pytest.raises(StoreError, match="cannot be written"):
        await film(store, tmp_path / "no such folder" / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


async def test_what_is_no_photo_of_ours_in_the_folder_is_passed_over(store, tmp_path):
    await put(store, 0, shade(40))
    (tmp_path / "blobs" / "cam-1" / "holiday.jpg").write_bytes(shade(3))
    assert len(await shots(store, "cam-1", 0, START_MS * 2)) == 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_is_fitted_upright(orientation):
    found = fitted(tagged(make(640, 480), orientation), 200, 200)
    assert found.shape == ((150, 200, 3) if orientation == 1 else (200, 150, 3))
    assert fitted(make(64, 48, "gray"), 200, 200).shape == (48, 64, 3)
    assert fitted(saved(scene(64, 48), "PNG"), 200, 200).shape == (48, 64, 3)


def test_the_command(tmp_path):
    async def fill() -> None:
        store = BlobStore.open(tmp_path / "blobs")
        for minute in range(3):
            await put(store, minute, shade(100))
        await store.aclose()

    asyncio.run(fill())
    arguments = ["timelapse", "cam-1", str(tmp_path / "a.mp4"), "--blobs", str(tmp_path / "blobs")]
    span = ["--from", "2026-11-01T00:00:00Z", "--to", "2026-12-31T00:00:00Z"]
    answer = CliRunner().invoke(app, [*arguments, *span, "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)["film"]["photos"] == 3
    assert len(frames(tmp_path / "a.mp4")) == 3
    assert CliRunner().invoke(app, [*arguments, *span]).exit_code == 2, "it is there already"


@pytest.mark.parametrize(
    "change",
    [{"frames_per_s": 0}, {"width_px": 8}, {"height_px": 5_000}, {"crf": 52}, {"every_ms": -1}],
    ids=str,
)
def test_film_settings_out_of_bounds_are_refused(change):
    with pytest.raises(UsageError):
        FilmSettings(**change)
