"""What becomes of a bad photo, by the schedule's word; SPEC 4.4, issue 8 'Quality'."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from connectors.blobs.store import BlobStore
from connectors.cameras.null_camera import PROTOCOL
from connectors.cameras.registry import Cameras
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile, QualityVerdict
from shutterwheel.photos import CameraPhotos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.agents.ports import Photo

PROFILE = DeviceProfile("c", "null:", PROTOCOL)
GOOD = QualityVerdict("m", (), {"blur": 0.1})
BLURRED = QualityVerdict("m", ("blur",), {"blur": 0.912})


class Said:
    """A judge that says one thing."""

    def __init__(self, verdict: QualityVerdict | None) -> None:
        self.verdict = verdict
        self.asked = 0

    async def judge(self, _data: bytes) -> QualityVerdict:
        self.asked += 1
        if self.verdict is None:
            await asyncio.Event().wait()
        assert self.verdict is not None
        return self.verdict


def command(quality: str) -> CaptureCommand:
    return CaptureCommand(7, "c", "s", "", 1, 0, 0, 5_000, 3_000, 0, 0, quality=quality)


@asynccontextmanager
async def photos(judge: Said | None) -> AsyncIterator[CameraPhotos]:
    cameras, blobs = Cameras(), BlobStore.open("memory://")
    await blobs.start()
    yield CameraPhotos(cameras, blobs, judge)
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
            found = await mine.take(PROFILE, command(quality), deadline_s=deadline_s, last=last)
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


async def test_without_a_judge_there_is_no_verdict() -> None:
    photo, stored = await taken(None, "drop")
    assert not isinstance(photo, CameraError)
    assert (photo.verdict, stored) == (None, True)
