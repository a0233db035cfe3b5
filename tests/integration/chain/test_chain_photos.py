"""Photos on schedule through the whole chain: wheel, executor, cameras on sockets, blobs, results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chain_harness import PATIENCE_S, SCHEDULE, SIDE_PX, assert_kept

from connectors.cameras.faults import Fault
from connectors.cameras.picture import Painter
from connectors.clients import events
from connectors.images.quality.reader import QualityReader
from connectors.images.verify import verify as verify_file
from schemas.records import CaptureRevoked
from streams.core.transition import verify

ROOT = Path(__file__).parents[3]
FLEET = 30


def test_every_photo_is_taken_once_on_time_and_is_there(gentle):
    """Issue 3, 'How it is shown': lost, duplicated and early are 0; every picture is verified."""
    devices = gentle.take(FLEET)
    gentle.schedule(1_000, devices[::2], lead="5s")
    gentle.schedule(2_000, devices[1::2], lead="5s")
    gentle.run_on(photos=5 * FLEET, devices=devices)
    report = gentle.finish(devices)

    assert report.succeeded >= 4 * FLEET
    results = [r for r in gentle.results() if r.device_id in devices and r.state == "SUCCESS"]
    assert Counter(r.device_id for r in results).keys() == set(devices), "every device took its own"
    for result in results:
        assert verify(result) == (), "its transitions are a walk through the table (SPEC 2.4)"
        assert result.image.width_px == SIDE_PX
        assert result.shutter_at_ms >= result.scheduled_ms
    seen = {e.command_id for e in gentle.cameras.log() if e.shutter and e.device_id in devices}
    assert seen == {str(r.command_id) for r in results}, "the cameras say the same"


def test_a_pause_revokes_what_is_not_armed_and_a_resume_goes_on(gentle):
    """Commands that wait within the lead end REVOKED; times after the resume are taken."""
    devices = gentle.take(4)
    gentle.schedule(1_000, devices, lead="8s")
    gentle.run_on(photos=4, devices=devices)
    for device in devices:
        gentle.publisher.pause(device, SCHEDULE, "the harvest is in").decision(PATIENCE_S)
    gentle.drain()
    paused = [r for r in gentle.results() if r.device_id in devices]
    revoked = [r for r in paused if r.state == "REVOKED"]
    assert {r.device_id for r in revoked} == set(devices), "8 s of commands were waiting"
    assert all(r.shutter_at_ms is None and "revoked" in r.cause for r in revoked)
    said = [r for r in gentle.records("capture.commands", CaptureRevoked) if r.device_id in devices]
    assert {r.device_id for r in said} == set(devices)

    for device in devices:
        gentle.publisher.resume(device, SCHEDULE).decision(PATIENCE_S)
    gentle.run_on(photos=8, devices=devices)
    report = gentle.finish(devices)

    assert_kept(report)
    last_before = max(r.scheduled_ms for r in paused if r.state == "SUCCESS")
    taken = [r for r in gentle.results() if r.device_id in devices and r.state == "SUCCESS"]
    assert {r.device_id for r in taken if r.scheduled_ms > last_before} == set(devices)


def test_a_changed_schedule_takes_each_time_once(gentle):
    """A change issues commands of the next epoch for times whose first command is revoked."""
    devices = gentle.take(3)
    gentle.schedule(1_000, devices, lead="6s")
    gentle.run_on(photos=3, devices=devices)
    gentle.schedule(1_000, devices, lead="3s")
    gentle.run_on(photos=6, devices=devices)
    gentle.schedule(500, devices, lead="3s")
    gentle.run_on(photos=9, devices=devices)
    gentle.finish(devices)

    taken = Counter(
        (r.device_id, r.scheduled_ms)
        for r in gentle.results()
        if r.device_id in devices and r.state == "SUCCESS"
    )
    assert max(taken.values()) == 1
    assert len({r.epoch for r in gentle.results() if r.device_id == devices[0]}) == 3


def test_a_single_time_is_taken_once_and_the_schedule_ends(gentle):
    """A one-off schedule fires at its time and is gone."""
    device, *_ = gentle.take(1)
    at_ms = events.now_ms() + 1_500
    gentle.publisher.schedule(device, "once", at=at_ms, lead="1s").decision(PATIENCE_S)
    gentle.run_on(photos=1, devices=[device])
    gentle.drain()
    (result,) = [r for r in gentle.results() if r.device_id == device]
    assert (result.state, result.scheduled_ms) == ("SUCCESS", at_ms)


def test_the_ten_lines_of_the_readme_run(gentle):
    """Issue 3: an upstream program of ten lines publishes a schedule and reads the result."""
    device = "cam-00001"
    gentle.introduce([device])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "upstream.py")],
        env={**os.environ, "SHUTTERWHEEL_DATA": str(gentle.cluster.data)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    decision, photo = done.stdout.splitlines()
    assert decision.startswith("Accepted(")
    assert photo.startswith("SUCCESS file://")
    gentle.drain()


def best_looking(devices: list[str]) -> str:
    """Return the device of whose drawn pictures the model thinks best.

    They are no photographs: it takes some of them for covered lenses.
    """
    pytest.importorskip("onnxruntime")
    painter, now_ms = Painter(SIDE_PX, SIDE_PX), events.now_ms()
    with QualityReader() as reader:
        return min(
            devices,
            key=lambda device: max(
                max(verdict.scores)
                for verdict in reader.judge([painter.paint(device, now_ms, n) for n in range(12)])
            ),
        )


def test_a_dark_photo_is_marked_dropped_or_taken_again_as_its_schedule_says(gentle):
    """SPEC 4.4, issue 8: the verdict stands in the result; DESIGN.md, "Captures"."""
    again = best_looking(gentle.take(8))
    marked, dropped, unasked = gentle.take(3)
    devices = [marked, dropped, again, unasked]
    gentle.cameras.faults({device: Fault("dark") for device in (marked, dropped, unasked)})
    gentle.cameras.faults({again: Fault("dark", every=2)})
    for device, quality in ((marked, "mark"), (dropped, "drop"), (again, "retry")):
        gentle.schedule(1_000, [device], lead="5s", catch_up="10s", quality=quality)
    gentle.schedule(1_000, [unasked], lead="5s")
    gentle.run_on(photos=16, devices=devices)
    gentle.wait_until(  # the first verdicts wait for the model to be loaded
        "each second picture was dark, and was taken again",
        lambda: any(r.device_id == again and r.attempt == 2 for r in gentle.results()),
    )
    gentle.finish(devices)

    found = {
        device: [r for r in gentle.results() if r.device_id == device and r.state != "REVOKED"]
        for device in devices
    }
    dark = [r for r in found[marked] if r.state == "SUCCESS"]
    assert dark
    assert {r.verdict.faults for r in dark} == {("underexposure",)}
    failed = [r for r in found[dropped] if r.cause.startswith("quality: underexposure")]
    assert failed
    assert {(r.state, r.image) for r in failed} == {("FAILED", None)}
    assert not [r for r in found[dropped] if r.state == "SUCCESS"]
    kept = [r for r in found[again] if r.state == "SUCCESS" and r.attempt == 2]
    assert kept
    assert {r.verdict.faults for r in kept} == {()}
    assert all(r.transitions[2].cause.startswith("quality:") for r in kept)
    assert {r.verdict for r in found[unasked]} == {None}


def test_a_labelled_photo_from_the_store_proves_itself(gentle):
    """Issue 8: proof of origin travels inside the file; `verify` needs nothing but the file."""
    (device,) = gentle.take(1)
    gentle.schedule(1_000, [device], lead="5s", image="label width=48", keep="1h")
    gentle.run_on(photos=2, devices=[device])
    report = gentle.finish([device])

    assert_kept(report)
    taken = [r for r in gentle.results() if r.device_id == device and r.state == "SUCCESS"]
    for result in taken:
        path = Path(unquote(urlsplit(result.image.uri).path))
        found = verify_file(path.read_bytes(), str(path), time.time_ns() // 1_000_000)
        assert found.ok, found
        label = found.label
        assert (label.device_id, label.command_id) == (device, result.command_id)
        assert (label.scheduled_ms, label.shutter_ms) == (result.scheduled_ms, result.shutter_at_ms)
        assert (result.image.width_px, label.treatment) == (48, "encoded")
        assert result.image.keep_until_ms == result.scheduled_ms + 3_600_000
