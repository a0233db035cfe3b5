"""Single photos on request, and where a capture stands (SPEC 2.2, 2.4)."""

from __future__ import annotations

import json
import subprocess
import sys

from chain_harness import PATIENCE_S
from msgspec.structs import replace
from typer.testing import CliRunner

from connectors.clients import events
from connectors.clients.captures import ask_workers
from connectors.clients.publisher import Publisher
from schemas.records import Accepted, AlreadyKnown, OpenCapture, Refused, ScheduleSpec
from shutterwheel.cli import app

WALK = [("", "PENDING"), ("PENDING", "RUNNING"), ("RUNNING", "SUCCESS")]


def show(chain, command_id):
    """Return what ``shutterwheel capture show ID --json`` writes."""
    arguments = ["capture", "show", str(command_id), "--json", "--data", str(chain.cluster.data)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_photo_now_is_taken_and_its_whole_walk_is_shown(gentle):
    """By the console script, as a user has it, and from capture.results once it has ended."""
    (device,) = gentle.take(1)
    answer = gentle.publisher.capture(device).decision(PATIENCE_S)
    assert isinstance(answer, Accepted)
    gentle.result(answer.command_id)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "shutterwheel", "capture", "show", str(answer.command_id)),
            *("--json", "--data", str(gentle.cluster.data)),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert shown["state"] == "SUCCESS"
    assert (shown["device_id"], shown["request_id"]) == (device, answer.request_id)
    assert [(t["from_state"], t["to_state"]) for t in shown["transitions"]] == WALK
    assert (shown["faults"], shown["image"]["format"]) == ([], "jpeg")
    assert shown["source"].startswith(gentle.topic("capture.results"))


def test_an_open_capture_is_answered_by_its_worker(gentle):
    """Read-your-writes: the worker answers after all it wrote is committed (SPEC 2.4)."""
    (device,) = gentle.take(1)
    at_ms = events.now_ms() + 6_000
    answer = gentle.publisher.capture(device, at_ms, lead="30s").decision(PATIENCE_S)
    urls = [worker.url for worker in gentle.cluster.workers if worker.app == "captures"]
    found = gentle.wait_until("the worker has it", lambda: ask_workers(urls, answer.command_id))
    assert isinstance(found.state, OpenCapture)
    shown = show(gentle, answer.command_id)
    assert (shown["state"], shown["attempt"], shown["source"]) == (
        "PENDING",
        0,
        f"worker {urls[0]}",
    )
    assert shown["command"]["scheduled_ms"] == at_ms
    assert [(t["from_state"], t["to_state"]) for t in shown["transitions"]] == WALK[:1]

    result = gentle.result(answer.command_id)
    assert (result.state, result.scheduled_ms) == ("SUCCESS", at_ms)


def test_a_repeated_request_is_already_known(gentle):
    """SPEC 2.2: within 30 minutes a repeat is reported, with what became of the first."""
    device, other = gentle.take(2)
    first = gentle.publisher.capture(device, request_id="again").decision(PATIENCE_S)
    second = gentle.publisher.capture(device, request_id="again").decision(PATIENCE_S)
    assert isinstance(first, Accepted)
    assert isinstance(second, AlreadyKnown)
    assert (second.first, second.command_id) == ("accepted", first.command_id)
    elsewhere = gentle.publisher.capture(other, request_id="again").decision(PATIENCE_S)
    assert isinstance(elsewhere, Accepted), "a request id is a device's own"
    gentle.drain()
    taken = [r for r in gentle.results() if r.device_id == device]
    assert [r.command_id for r in taken] == [first.command_id]


def test_what_cannot_be_is_refused_with_a_sentence(gentle):
    """Issue 3, 'Bad input': period 0 or ten years, a time in the past, an unknown kind."""
    (device,) = gentle.take(1)
    past_ms = events.now_ms() - 3_600_000
    wrong = {
        "period 0": ScheduleSpec("interval", every_ms=0),
        "ten years": ScheduleSpec("interval", every_ms=3_650 * 86_400_000),
        "the past": ScheduleSpec("once", at_ms=past_ms),
        "a kind of tomorrow": ScheduleSpec("lunar", every_ms=1_000),
    }
    with Publisher(gentle.kafka, gentle.namespace, check=False) as publisher:
        for what, found in wrong.items():
            event = events.upserted(device, "bad", every="1s")
            answer = publisher.publish(replace(event, spec=found)).decision(PATIENCE_S)
            assert isinstance(answer, Refused), what
            assert answer.reason.endswith("."), what
            assert len(answer.reason) > 20, what
    gentle.drain()
    assert not [r for r in gentle.results() if r.device_id == device], "nothing came of it"
    assert gentle.cluster.restarts == 0
