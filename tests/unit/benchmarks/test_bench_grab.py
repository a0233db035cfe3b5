"""The grab bench's own parts: its pictures, its figures (issue 6, 'How it is shown')."""

from __future__ import annotations

import asyncio

from benchmarks.grab.bench import many, rows
from benchmarks.grab.server import PICTURE_BYTES, PICTURES, pictures
from benchmarks.grab.systems import Ours
from connectors.cameras.frame import read_jpeg
from connectors.cameras.simulated_rtsp import SimulatedRtsp


def test_its_pictures_have_the_size_they_claim_and_differ():
    found = pictures()
    assert {len(one) for one in found} == {PICTURE_BYTES}
    assert len({read_jpeg(one).sha256 for one in found}) == PICTURES


def test_figures_count_what_gave_no_photo():
    got = {
        row.metric: row.value
        for row in rows("c", "s", [(10.0, 1.0), None, (30.0, 3.0)], deadline=True)
    }
    assert got["photos"] == 2
    assert got["tried"] == 3
    assert got["to_picture_ms_p50"] == 20.0
    assert got["to_picture_ms_max"] == 30.0
    assert got["cpu_ms"] == 2.0
    assert got["photos_of_hundred"] == 66.7
    (tried,) = [r.value for r in rows("c", "s", [None]) if r.metric == "tried"]
    assert tried == 1


async def test_ours_cold_opens_a_stream_a_photo_and_warm_one_for_all(monkeypatch):
    """Warm: one for the first photo, which is not often yet, and one for all that follow."""
    monkeypatch.setattr("benchmarks.grab.bench.random.Random.random", lambda _self: 0.0)
    for warm, streams in ((False, 3), (True, 2)):
        async with SimulatedRtsp() as camera:
            found = await many(Ours(camera.url, "rtsp", warm=warm), 3, 20.0)
            assert None not in found
            assert camera.accepted == streams
            async with asyncio.timeout(20):
                await camera.quiet.wait()
