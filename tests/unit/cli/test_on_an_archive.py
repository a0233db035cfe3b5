"""Audit, explain and replay read an archive as they read a cluster; issue 7, 'read back by'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from audit_world import CODEC, World, upserted
from typer.testing import CliRunner

from connectors.blobs.objects import ObjectFiles
from schemas.ids import FingerprintIds
from schemas.records import CaptureCommand
from shutterwheel.cli import app
from streams.replay.archive.writer import ArchiveRun, Wanted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world() -> World:
    world = World()
    world.publish(upserted(1))
    world.run(40)
    return world


def archived(world: World, place: Path) -> str:
    topics = ["device.profiles", "device.events", *world.log._topics]
    for topic in topics[:2]:
        world.log.append(topic, 0, None, None, 0)
    ends = {topic: world.log.ends(topic) for topic in topics}
    objects = ObjectFiles.open(place, make=True)
    ArchiveRun(objects, world.log, FingerprintIds(), Wanted("site", ends)).run()
    return str(place)


def run(*arguments: str) -> tuple[int, dict]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, json.loads(done.stdout) if done.stdout else {"said": done.stderr}


def test_an_archive_is_audited(world: World, tmp_path: Path) -> None:
    code, report = run("audit", "--archive", archived(world, tmp_path), "--jobs", "1")
    assert code == 0, report
    assert report["partitions"][0]["commands"] > 2


def test_what_an_upstream_hand_did_before_the_archive_is_found(
    world: World, tmp_path: Path
) -> None:
    """The chain of hashes proves what happened after it was archived; the audit what before."""
    world.remove("capture.commands", 1)  # the first would only be where the topic begins
    code, report = run("audit", "--archive", archived(world, tmp_path), "--jobs", "1")
    assert code & 4, report


def test_an_archive_is_explained(world: World, tmp_path: Path) -> None:
    command = CODEC.decode_as(world.entries("capture.commands")[1].value, CaptureCommand)
    code, found = run("explain", str(command.command_id), "--archive", archived(world, tmp_path))
    assert (code, found["photo"]) == (0, True)
    assert str(command.command_id) in json.dumps(found)


def test_an_archive_is_replayed(world: World, tmp_path: Path) -> None:
    place = archived(world, tmp_path)
    code, report = run("replay", "--archive", place)
    assert code == 0, report
    assert report["commands"] > 2


def test_a_place_without_an_archive_is_named(tmp_path: Path) -> None:
    for command in (["audit"], ["explain", "cam-1", "--at", "now"], ["replay"]):
        done = CliRunner().invoke(app, [*command, "--archive", str(tmp_path / "nowhere")])
        assert done.exit_code in {1, 2}
        assert str(tmp_path / "nowhere") in done.stderr
