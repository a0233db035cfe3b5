"""``shutterwheel archive --verify`` and what ``restore`` refuses; issue 7."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archive_bench import NAMESPACE, TOPICS, archive, filled
from typer.testing import CliRunner

from connectors.blobs.objects import ObjectFiles
from schemas.errors import UsageError
from shutterwheel.cli import app
from shutterwheel.commands import restore
from shutterwheel.logs_at import codec_of, open_log
from streams.replay.archive.contents import load


@pytest.fixture
def place(tmp_path) -> str:
    archive(ObjectFiles.open(tmp_path, make=True), filled())
    return str(tmp_path)


def verify(*arguments: str):
    return CliRunner().invoke(app, ["archive", *arguments, "--verify"])


def test_a_sound_archive_says_its_head(place):
    head = load(ObjectFiles.open(place)).head
    done = verify(place, "--head", head)
    assert done.exit_code == 0, done.output
    assert f"head {head}" in done.stdout
    assert "as they were written" in done.stderr


def test_what_is_wrong_is_said_and_the_exit_code_is_1(place):
    file = load(ObjectFiles.open(place)).files[TOPICS[0], 1][0]
    (Path(place) / file.key).unlink()
    done = verify(place)
    assert done.exit_code == 1
    assert "file missing: capture.results, partition 1, offsets 0 to 39" in done.stdout
    found = json.loads(verify(place, "--json").stdout)
    assert not found["ok"]
    [finding] = found["findings"]
    assert (finding["kind"], finding["first"], finding["end"]) == ("file missing", 0, 40)


def test_a_head_that_is_not_there(place):
    done = verify(place, "--head", "0" * 64)
    assert done.exit_code == 1
    assert "head unknown" in done.stdout


def test_a_key_of_the_environment_is_asked_for(place, monkeypatch):
    monkeypatch.setenv("SHUTTERWHEEL_ARCHIVE_KEY", "s3cret")
    done = verify(place)
    assert done.exit_code == 1
    assert "signature wrong" in done.stdout


def test_no_archive_is_not_a_sound_one(tmp_path):
    assert verify(str(tmp_path)).exit_code == 1
    done = verify(str(tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert "There is no folder" in done.stderr


def test_an_archive_is_opened_as_a_log(place):
    log = open_log(archive=place)
    assert log.ends(TOPICS[0]) == {0: 40, 1: 40}
    assert codec_of(log) is not None
    assert open_log(namespace=NAMESPACE, archive=place).namespace == NAMESPACE
    with pytest.raises(UsageError, match="of namespace 'site'"):
        open_log(namespace="other", archive=place)


def test_some_topics_are_nothing_to_restore_from(place):
    with pytest.raises(UsageError, match="of a whole system"):
        restore.source_of_archive(place)


@pytest.mark.parametrize("arguments", [[], ["--from", "a", "--from-kafka", "b:1"]])
def test_restore_wants_one_source(arguments):
    done = CliRunner().invoke(app, ["restore", "--to", "127.0.0.1:1", *arguments])
    assert done.exit_code == 2
    assert "one of --from" in done.stderr
