"""``shutterwheel explain`` on the real chain: what the workers wrote is explained (issue 7)."""

from __future__ import annotations

import json

from chain_harness import PARTITIONS, PATIENCE_S
from msgspec.structs import replace
from typer.testing import CliRunner

from connectors.clients import events
from connectors.clients.publisher import Publisher
from connectors.clients.values import show_moment
from infra.kafka.admin import create_topics, drop_topics
from shutterwheel.cli import app
from streams.core import ids

EVERY_MS = 2_000
GHOST = "explain-ghost"
"""A device that nobody has made known."""


def explain(chain, what, *words):
    """Return what ``shutterwheel explain WHAT … --json`` says, and its exit code."""
    arguments = ["explain", what, *words, "--json", "--data", str(chain.cluster.data)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in {0, 1}, done.output
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return json.loads(done.stdout), done.exit_code


def photos(chain, device):
    return [r for r in chain.results() if r.device_id == device and r.state == "SUCCESS"]


def test_a_photo_is_explained_with_all_that_led_to_it(gentle):
    """Schedule, who changed it, tick, command, outcome, image: each where the topics have it."""
    (device,) = gentle.take(1)
    receipt = gentle.publisher.schedule(device, "door", every=EVERY_MS, lead="1s")
    accepted = receipt.decision(PATIENCE_S)
    result = gentle.wait_until("a photo", lambda: photos(gentle, device))[0]
    at = show_moment(result.scheduled_ms)
    found, code = explain(gentle, device, "--at", at, "--window", "900ms")
    (story,) = found["stories"]
    assert (code, found["code"], story["schedule_id"]) == (0, "photo_there", "door")
    assert story["in_words"] == "every 2 seconds"
    (change,) = story["changes"]
    assert (change["request_id"], change["epoch"]) == (accepted.request_id, accepted.epoch)
    assert change["decided_at_ms"] == accepted.tick_time_ms
    assert change["tick_offset"] is not None
    assert change["event_offset"] is not None
    assert story["command"]["command_id"] == result.command_id
    assert story["tick"]["time_ms"] == story["command"]["issued_at_ms"]
    assert story["outcome"]["image"]["sha256"] == result.image.sha256
    assert [one["number"] for one in story["attempts"]] == [1]

    by_id, code = explain(gentle, str(result.command_id))
    assert (code, by_id["stories"][0]["command"]) == (0, story["command"])

    gentle.publisher.pause(device, "door", reason="a bird's nest").decision(PATIENCE_S)
    later_ms = events.now_ms() + 2 * EVERY_MS
    gentle.wait_until("that time has passed", lambda: events.now_ms() > later_ms)
    found, code = explain(gentle, device, "--at", show_moment(later_ms - EVERY_MS))
    assert (code, found["code"]) == (1, "paused")
    assert "a bird's nest" in found["answer"]
    gentle.publisher.cancel(device, "door").decision(PATIENCE_S)


def test_why_there_is_none_is_told(gentle):
    """Unknown to the captures worker; refused; no Avro; nobody asked; no such device."""
    refused, poisoned, idle = gentle.take(3)
    gentle.publisher.schedule(GHOST, "door", every=EVERY_MS, lead="1s").decision(PATIENCE_S)
    with Publisher(gentle.kafka, gentle.namespace, check=False) as publisher:
        event = events.upserted(refused, "door", every="1s")
        wrong = replace(event, policy=replace(event.policy, priority=77))
        publisher.publish(wrong).decision(PATIENCE_S)
    partition = ids.partition_of(poisoned, PARTITIONS)
    offset = gentle.write("schedule.events", partition, poisoned.encode(), b"{}")
    letter = ("schedule.events", partition, offset)
    gentle.wait_until("the dead letter", lambda: letter in gentle.letters())
    result = gentle.wait_until(
        "a result of the ghost", lambda: [r for r in gentle.results() if r.device_id == GHOST]
    )[0]
    gentle.publisher.cancel(GHOST, "door").decision(PATIENCE_S)

    found, code = explain(
        gentle, GHOST, "--at", show_moment(result.scheduled_ms), "--window", "900ms"
    )
    assert (code, found["code"]) == (1, "device_unknown")
    for device, reason in (
        (refused, "refused"),
        (poisoned, "dead_lettered"),
        (idle, "no_schedule"),
        ("nobody-has-heard-of-it", "no_such_device"),
    ):
        found, code = explain(gentle, device, "--at", "now")
        assert (code, found["code"]) == (1, reason), found["answer"]
    assert "77" in explain(gentle, refused, "--at", "now")[0]["answer"]


def test_where_nothing_runs_it_is_said_in_a_line(kafka, namespace):
    """A namespace without topics is the user's mistake; one without records has nothing to tell."""
    words = ["explain", "cam-1", "--at", "now", "--kafka", kafka, "--namespace", namespace]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "There is no topic" in done.stderr
    create_topics(kafka, namespace, 2)
    try:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 1
        assert "there is no device 'cam-1' here" in done.stdout
    finally:
        drop_topics(kafka, namespace)
