"""What `up` and `poll` are told about heartbeats is looked at before anything starts (issue 6)."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from shutterwheel.cli import app
from shutterwheel.commands.up import _device_workers


@pytest.mark.parametrize(
    ("wanted", "demo", "poll", "workers"),
    [
        (None, False, "", 1),
        (None, True, "", 0),
        (None, True, "5s", 1),
        (0, False, "5s", 0),
        (3, True, "", 3),
    ],
)
def test_heartbeats_are_looked_after_where_somebody_sends_them(wanted, demo, poll, workers):
    assert _device_workers(wanted, demo, poll) == workers


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("up", "--device-timeout", "10ms"), "timeout_ms"),
        (("up", "--device-timeout", "soon"), "soon"),
        (("up", "--poll", "10ms"), "every_ms"),
        (("up", "--quality-server", "10.0.0.7"), "HOST:PORT"),
        (("up", "--image-processes", "2", "--sign-key", "site.key"), "exclude each other"),
        (("worker", "captures", "--quality-server", ":8001"), "HOST:PORT"),
        (("poll", "--share", "4/4"), "share"),
        (("poll", "--share", "all"), "K/N"),
        (("poll", "--every", "2h"), "every_ms"),
        (("worker", "devices", "--device-timeout", "10ms"), "timeout_ms"),
        (("device", "health", "--only", "asleep"), "asleep"),
    ],
)
def test_what_cannot_be_is_refused_at_once(words, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, why in result.stderr) == (2, True), result.output
    assert list(tmp_path.iterdir()) == []
