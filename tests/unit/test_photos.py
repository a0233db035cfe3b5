"""What becomes of a bad photo, by the schedule's word; SPEC 4.4, issue 8 'Quality'."""

from __future__ import annotations

import asyncio
import hashlib
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import obstore
import pytest
from PIL import Image

from connectors.blobs.store import BlobStore
from connectors.cameras.frame import read_jpeg
from connectors.cameras.null_camera import PROTOCOL
from connectors.cameras.registry import Cameras
from connectors.images.executor import ImageExecutor
from connectors.images.verify import verify
from schemas.errors import CameraError, StoreError
from schemas.records import (
    CaptureCommand,
    CapturePolicy,
    CommandId,
    DeviceProfile,
    QualityVerdict,
)
from shutterwheel.photos import STORE_ROOM_S, CameraPhotos
from streams.agents.ports import Opening
from streams.core.ids import next_command_id, shard_of
from streams.core.policy import check_choices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.agents.ports import Photo

AT_MS = 1_795_433_700_000
PROFILE = DeviceProfile("c", "null:", PROTOCOL)
GOOD = QualityVerdict("m", (), {"blur": 0.1})
BLURRED = QualityVerdict("m", ("blur",), {"blur": 0.912})


class Said:
    """A judge that says one thing."""

    def __init__(self, verdict: QualityVerdict | None) -> None:
        self.verdict = verdict
        self.asked = 0
        self.until_s: float | None = None

    async def judge(self, _data: bytes, until_s: float | None = None) -> QualityVerdict:
        self.asked += 1
        self.until_s = until_s
        if self.verdict is None:
            await asyncio.Event().wait()
        assert self.verdict is not None
        return self.verdict


def command(quality: str = "off", image: str = "") -> CaptureCommand:
    command_id = next_command_id(CommandId(0), AT_MS - 5_000, shard_of("c"))
    return CaptureCommand(
        command_id, "c", "s", "", 1, AT_MS, AT_MS, AT_MS + 5_000, 3_000, 0, AT_MS - 5_000,
        quality=quality, image=image,
    )  # fmt: skip


@asynccontextmanager
async def photos(judge: Said | None) -> AsyncIterator[CameraPhotos]:
    cameras, blobs = Cameras(), BlobStore.open("memory://")
    await blobs.start()
    async with ImageExecutor() as images:
        yield CameraPhotos(cameras, blobs, judge, images)
    await cameras.close()
    await blobs.aclose()


async def taken(
    judge: Said | None, quality: str, *, last: bool = False, seconds: float = 5.0
) -> tuple[Photo | CameraError, bool]:
    """What an attempt gives, and whether a picture is in the store."""
    async with photos(judge) as mine:
        deadline_s = asyncio.get_running_loop().time() + seconds
        found: Photo | CameraError
        try:
            found = await mine.take(
                PROFILE, command(quality), deadline_s=deadline_s, opening=Opening(1, last)
            )
        except CameraError as error:
            found = error
        return found, await mine.find(command(quality)) is not None


@pytest.mark.parametrize("quality", ["mark", "drop", "retry"])
async def test_a_good_photo_is_kept_with_its_verdict(quality: str) -> None:
    photo, stored = await taken(Said(GOOD), quality)
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored) == (GOOD, True)


async def test_nobody_is_asked_where_quality_is_off() -> None:
    judge = Said(BLURRED)
    photo, stored = await taken(judge, "off")
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored, judge.asked) == (None, True, 0)
    async with photos(judge) as mine:
        assert mine.take_now(PROFILE, command("off")) is not None
        assert mine.take_now(PROFILE, command("mark")) is None


async def test_mark_keeps_a_bad_photo_and_says_so() -> None:
    photo, stored = await taken(Said(BLURRED), "mark")
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored) == (BLURRED, True)


async def test_drop_keeps_no_bad_photo_and_tries_no_more() -> None:
    error, stored = await taken(Said(BLURRED), "drop")
    assert isinstance(error, CameraError)
    assert (error.cause, str(error), error.retry, stored) == ("quality", "blur 0.91", False, False)


async def test_retry_keeps_no_bad_photo_while_another_attempt_fits() -> None:
    error, stored = await taken(Said(BLURRED), "retry")
    assert isinstance(error, CameraError)
    assert (error.cause, error.retry, stored) == ("quality", True, False)


async def test_retry_keeps_the_last_photo_however_it_looks() -> None:
    photo, stored = await taken(Said(BLURRED), "retry", last=True)
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored) == (BLURRED, True)


async def test_a_verdict_that_takes_too_long_costs_no_photo() -> None:
    photo, stored = await taken(Said(None), "drop", seconds=0.6)
    assert not isinstance(photo, CameraError)
    assert photo.verdict is not None
    assert photo.verdict.reason == "not judged: there was no time for it"
    assert stored


async def test_the_judge_is_told_the_photos_own_deadline() -> None:
    """What a server of models may take is bounded by it; storing has its time left."""
    judge = Said(GOOD)
    async with photos(judge) as mine:
        deadline_s = asyncio.get_running_loop().time() + 9
        await mine.take(PROFILE, command("mark"), deadline_s=deadline_s, opening=Opening(1, False))
    assert judge.until_s == deadline_s - STORE_ROOM_S


async def test_without_a_judge_there_is_no_verdict() -> None:
    photo, stored = await taken(None, "drop")
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored) == (None, True)


async def made(image: str, quality: str = "off") -> tuple[Photo, bytes]:
    async with photos(Said(GOOD)) as mine:
        deadline_s = asyncio.get_running_loop().time() + 5.0
        wanted = command(quality, image)
        opening = Opening(AT_MS + 3)
        photo = await mine.take(PROFILE, wanted, deadline_s=deadline_s, opening=opening)
        return photo, await mine._blobs.read(photo.image.uri)


async def test_a_labelled_photo_proves_itself_offline() -> None:
    """Issue 8, 'the proof of origin travels inside the file': what was stored verifies."""
    photo, data = await made("label", "mark")
    found = verify(data, photo.image.uri.rpartition("/")[2], AT_MS + 60_000)
    assert found.ok, found
    assert found.label is not None
    label = found.label
    assert (label.device_id, label.command_id, label.quality) == ("c", command().command_id, "good")
    assert (label.scheduled_ms, label.shutter_ms) == (AT_MS, AT_MS + 3)
    assert photo.image.sha256 == hashlib.sha256(data).hexdigest()
    plain, camera = await made("")
    assert label.source_sha256 == plain.image.sha256 == hashlib.sha256(camera).hexdigest()


async def test_a_photo_is_made_as_small_as_its_schedule_wants_it() -> None:
    plain, _ = await made("")
    photo, data = await made("label width=4 quality=60")
    assert plain.image.width_px > 4
    assert (photo.image.width_px, read_jpeg(data).width_px) == (4, 4)


@pytest.mark.parametrize(("name", "suffix"), [("webp", ".webp"), ("png", ".png")])
async def test_a_photo_of_another_format_is_stored_and_proves_itself(
    name: str, suffix: str
) -> None:
    """Issue 8: WebP and PNG are stored, labelled and verified like JPEG; recovery finds them."""
    async with photos(None) as mine:
        wanted = command(image=f"label format={name}")
        deadline_s = asyncio.get_running_loop().time() + 5.0
        photo = await mine.take(PROFILE, wanted, deadline_s=deadline_s, opening=Opening(AT_MS + 3))
        data = await mine._blobs.read(photo.image.uri)
        assert await mine.find(wanted) == photo.image
        kept = await obstore.get_async(mine._blobs._store, mine._blobs.key(photo.image.uri))
    assert (photo.image.format, photo.image.uri.endswith(suffix)) == (name, True)
    assert kept.attributes["Content-Type"] == f"image/{name}"
    assert Image.open(io.BytesIO(data)).format == name.upper()
    found = verify(data, photo.image.uri.rpartition("/")[2], AT_MS + 60_000)
    assert found.ok, found
    assert not verify(data + b"\0", "x", AT_MS + 60_000).ok
    assert not verify(data[:-1], "x", AT_MS + 60_000).ok


async def test_thumbnail_and_original_lie_beside_the_photo() -> None:
    """Issue 8, 'keep-original', 'thumbnails': stored with the photo, and the original proves it."""
    async with photos(None) as mine:
        wanted = command(image="label width=4 thumbnail=16 original")
        deadline_s = asyncio.get_running_loop().time() + 5.0
        photo = await mine.take(PROFILE, wanted, deadline_s=deadline_s, opening=Opening(AT_MS + 3))
        beside = await mine._blobs.beside(photo.image)
        data, camera, small = [
            await mine._blobs.read(uri)
            for uri in (photo.image.uri, beside["original"], beside["thumbnail"])
        ]
    found = verify(data, "photo.jpg", AT_MS + 60_000, camera)
    assert [one.status for one in found.findings if one.check == "source"] == ["ok"]
    assert max(read_jpeg(small).width_px, read_jpeg(small).height_px) <= 16


async def test_what_cannot_be_stored_beside_it_ends_the_attempt() -> None:
    """SUCCESS only where all that was asked for is stored: another attempt may do it."""
    async with photos(None) as mine:
        put = mine._blobs._put

        async def full(key: str, *rest: object) -> bool:
            if ".thumbnail." in key:
                raise StoreError("the disk is full")
            return await put(key, *rest)  # type: ignore[arg-type]

        mine._blobs._put = full  # type: ignore[method-assign,assignment]
        wanted = command(image="thumbnail=16")
        deadline_s = asyncio.get_running_loop().time() + 5.0
        with pytest.raises(CameraError, match="full") as caught:
            await mine.take(PROFILE, wanted, deadline_s=deadline_s, opening=Opening(AT_MS + 3))
        assert (caught.value.cause, await mine.find(wanted)) == ("store", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("labels", "'labels' is not known; use label"),
        ("width=0009999999", "width_px must be from 0"),
        ("width=2 width=3", "'width' is said twice"),
        ("fit=cover", "needs width_px and height_px"),
        ("format=gif", "format must be one of jpeg, png, webp"),
        ("thumbnail=8", "thumbnail_px must be 0 or from 16"),
    ],
)
async def test_words_that_mean_nothing_end_the_capture(words: str, said: str) -> None:
    with pytest.raises(CameraError, match=said) as caught:
        await made(words)
    assert (caught.value.cause, caught.value.retry) == ("image", False)


@pytest.mark.parametrize("image", ["Label", "label  width=2", "width=", "x" * 201, "a=b=c"])
def test_the_wheel_refuses_what_is_no_words(image: str) -> None:
    refusal = check_choices(CapturePolicy(image=image))
    assert refusal is not None
    assert refusal.code == "bad_image"
    assert check_choices(CapturePolicy(image="label width=1280 fit=cover")) is None
