"""``shutterwheel audit``: words, JSON and exit codes, over a log in memory."""

from __future__ import annotations

import json

import pytest
from audit_world import CODEC, START_MS, World, upserted
from typer.testing import CliRunner

from connectors.clients.values import show_moment
from schemas.records import CaptureCommand, CaptureResult
from shutterwheel import audit_run
from shutterwheel.cli import app
from streams.core import ids

ASK = ["audit", "--kafka", "127.0.0.1:1", "--jobs", "1"]


@pytest.fixture
def world(monkeypatch, tmp_path):
    world = World()
    world.publish(upserted(1), upserted(2, "cam-2", 5_000))
    world.run(60)
    monkeypatch.setenv("SHUTTERWHEEL_DATA", str(tmp_path))
    monkeypatch.setattr(audit_run, "open_log", lambda _source: world.log)
    return world


def run(*arguments):
    return CliRunner().invoke(app, [*ASK, *arguments])


def test_a_clean_log_in_words(world):
    shown = run()
    assert shown.exit_code == 0
    assert f"ticks of {show_moment(START_MS + 1_000)} to" in shown.stdout
    assert "ticks      60, folded again 60" in shown.stdout
    assert "pictures   16, not looked at" in shown.stdout
    assert shown.stdout.rstrip().endswith("clean: nothing lost, doubled, changed, early or late")


def test_findings_stand_with_the_place_to_look_at(world):
    at, result = world.find("capture.results", CaptureResult, 5)
    offset = world.change("capture.results", at, shutter_at_ms=result.scheduled_ms - 7)
    shown = run()
    assert shown.exit_code == 32
    assert "early 1: a shutter opened before its time" in shown.stdout
    assert f"capture.results[0] @{offset}  command {result.command_id}: early" in shown.stdout
    told = json.loads(run("--json").stdout)
    assert (told["clean"], told["exit_code"]) == (False, 32)
    assert told["findings"]["early"]["first"][0]["offset"] == offset
    assert told["partitions"][0]["ticks"] == 60
    assert run("--device", "cam-77").exit_code == 0
    assert run("--device", result.device_id).exit_code == 32


def test_what_could_not_be_checked_has_a_code_of_its_own(world):
    del world.entries("schedule.ticks")[:10]
    shown = run()
    assert shown.exit_code == 3
    assert "not checked: partition 0: There is no snapshot to begin with" in shown.stdout
    assert "clean as far as could be checked" in shown.stdout


def test_pictures_of_a_store(world, tmp_path):
    """They are not where the results say: each is a finding, and the rest is not touched."""
    shown = run("--blobs", str(tmp_path / "blobs"), "--strays")
    assert shown.exit_code == 64
    assert "missing_image 16" in shown.stdout
    assert "0 in the store of no result" in shown.stdout
    assert run("--blobs", str(tmp_path / "blobs"), "--no-images").exit_code == 0


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_a_picture_that_no_result_names_is_found_with_its_path(world, tmp_path, suffix):
    """A store may be shared: what cannot be of this namespace, or of this time, is passed."""
    folder = tmp_path / "blobs"
    _, command = world.find("capture.commands", CaptureCommand, 5)
    known, other = command.command_id, command.command_id + 77
    waiting = CODEC.decode(world.entries("capture.commands")[-1].value)
    old = ids.command_id(START_MS - 5_000, ids.command_shard(known), 0)
    for path in (
        f"{command.device_id}/2027-01-15/{other}.{suffix}",
        f"{command.device_id}/2027-01-15/{other}.0123456789ab.thumbnail.{suffix}",  # lies beside
        f"{command.device_id}/2027-01-15/{known}.{suffix}",  # has its result
        f"{waiting.device_id}/2027-01-15/{waiting.command_id}.jpg",  # is still open
        f"{command.device_id}/2027-01-15/{old}.jpg",  # of before
        f"cam-of-others/2027-01-15/{other}.jpg",
        f"{command.device_id}/2027-01-15/{other}.txt",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"a picture")
    shown = run("--blobs", str(folder), "--no-images", "--strays")
    assert shown.exit_code == 64
    assert "1 in the store of no result" in shown.stdout
    assert "stray_image 1: a picture in the store that no result names" in shown.stdout
    path = f"{command.device_id}/2027-01-15/{other}.{suffix}"
    assert f"images[0]  {path}: no result names it" in shown.stdout
    assert run("--blobs", str(folder), "--no-images").exit_code == 0


def test_a_span_that_ends_before_it_begins(world):
    shown = run("--from", "2026-12-02T00:00:00Z", "--to", "2026-12-01T00:00:00Z")
    assert shown.exit_code == 2
    assert "--from must be before --to" in shown.stderr


def test_the_span_is_that_of_the_ticks(world):
    told = json.loads(run("--json", "--to", _iso(START_MS + 31_000)).stdout)
    assert told["clean"]
    assert told["partitions"][0]["last_ms"] == START_MS + 30_000


def _iso(at_ms):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
