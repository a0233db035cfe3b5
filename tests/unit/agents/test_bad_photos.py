"""What the executor does about a photo that was bad; SPEC 4.4, issue 8 'retry now'."""

from __future__ import annotations

from msgspec.structs import replace
from test_capture_executor import Bench, armed, fail

from schemas.errors import CameraError
from schemas.records import ImageRef, QualityVerdict
from streams.agents.ports import Photo

VERDICT = QualityVerdict("m", ("blur",), {"blur": 0.9})
IMAGE = ImageRef("memory:///c/7.jpg", "0" * 64, 10, 4, 3, "jpeg")


async def test_a_bad_photo_is_taken_again_and_the_last_one_kept() -> None:
    bench = Bench()
    await armed(bench, bench.command(1, quality="retry"))
    await bench.at(1)
    for number in range(3):
        assert bench.photos.last[number] is False
        await fail(bench, number, "quality")
        for _ in range(60):
            bench.commit()
            await bench.at(20)
            if len(bench.photos.answers) > number + 1:
                break
    assert bench.photos.last[3] is True  # three retries are all there are (SPEC 3.2)
    bench.photos.answers[3].set_result(Photo(IMAGE, 1.0, 1.0, VERDICT))
    await bench.at(0)
    (result,) = bench.commit()
    assert (result.state, result.attempt, result.verdict) == ("SUCCESS", 4, VERDICT)


async def test_an_attempt_is_the_last_where_another_could_come_too_late() -> None:
    """Worked out with the whole capture timeout gone: a photo in hand is not bet on a guess."""
    bench = Bench()
    command = bench.command(1, quality="retry")
    await armed(bench, replace(command, not_after_ms=command.scheduled_ms + 3_150))
    await bench.at(1)
    assert bench.photos.last == [True]


async def test_a_bad_photo_speaks_for_the_camera_not_against_it() -> None:
    """The camera has answered: eight in a row, and no breaker opens."""
    bench = Bench()
    for number in range(8):
        await armed(bench, bench.command(number + 1, schedule_id="", quality="drop"))
        await bench.at(1)
        bench.photos.answers[number].set_exception(CameraError("quality", "blur", retry=False))
        await bench.at(0)
        (result,) = bench.commit()
        assert (result.state, result.cause) == ("FAILED", "quality: blur (a retry cannot help)")
    assert bench.photos.shutters == [1, 2, 3, 4, 5, 6, 7, 8]
