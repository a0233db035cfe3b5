"""``shutterwheel explain``: its options, its words, its exit codes; on a log in memory."""

from __future__ import annotations

import json

import pytest
from explain_world import CODEC, T0, Shot, World
from typer.testing import CliRunner

from connectors.clients import events
from connectors.clients.values import moment_ms
from schemas.errors import UsageError
from shutterwheel.cli import app
from shutterwheel.commands import explain
from streams.core.recurrence.zones import zone


@pytest.fixture
def world(monkeypatch) -> World:
    """Photos each minute until a camera hangs at 12:02; it is 12:05 now."""
    made = World()
    made.camera = lambda command, _attempt: (
        Shot("timeout", "no answer") if command.scheduled_ms == T0 + 120_000 else Shot()
    )
    made.publish(made.upsert())
    made.run(300_000)
    monkeypatch.setattr(events, "now_ms", lambda: T0 + made.now)
    monkeypatch.setattr(explain, "open_log", lambda *_where: (made.log, CODEC, made.rows))
    return made


def run(*words: str):
    found = CliRunner().invoke(app, ["explain", *words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_a_photo_that_is_there_is_shown_and_the_exit_code_is_0(world):
    found = run("cam-1", "--at", "12:01")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith("There is a photo: command ")
    assert "ab" * 32 in found.stdout
    assert "Tue 2026-12-01 12:01:00 +00:00" in found.stdout


def test_no_photo_is_exit_code_1_and_the_answer_stands_first(world):
    found = run("cam-1", "--at", "13:02", "--zone", "Europe/Paris")
    assert found.exit_code == 1
    assert found.stdout.startswith("No photo at Tue 2026-12-01 13:02:00 +01:00: command ")
    assert "attempt 4  armed" in found.stdout


def test_json_has_code_and_milliseconds(world):
    found = run("cam-1", "--at", "-3m", "--json")
    told = json.loads(found.stdout)
    assert (found.exit_code, told["code"], told["at_ms"]) == (1, "failed", T0 + 120_000)
    story = told["stories"][0]
    assert [one["cause"].split(" (")[0] for one in story["attempts"]] == ["timeout: no answer"] * 4
    assert story["command"]["scheduled_ms"] == T0 + 120_000


def test_a_command_needs_no_time(world):
    command = world.command_at(60_000)
    found = run(str(command.command_id), "--json")
    assert json.loads(found.stdout)["stories"][0]["command"]["command_id"] == command.command_id


def test_only_one_schedule_is_asked_for(world):
    found = run("cam-1", "--at", "12:01", "--schedule", "gate")
    assert found.exit_code == 1
    assert "it had no schedule 'gate' then" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cam-1",), "'cam-1' is no command's id: give --at TIME for a device"),
        (("cam\x1b1", "--at", "12:00"), "holds a control character; remove it."),
        (("cam-1", "--at", "noon"), "--at is 'noon'; expected an ISO 8601 time"),
        (("cam-1", "--at", "25:00"), "Or HH:MM for today, or -10m."),
        (("cam-1", "--at", "12:00", "--zone", "Europe/Pari"), "did you mean 'Europe/Paris'?"),
        (("cam-1", "--at", "12:00", "--window", "2d"), "--window is '2d'; expected 1ms to 1d."),
        (("99999999999999999999",), "is no command's id"),
        (("9223372036854775808",), "is no command's id; they have 63 bits."),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(world, words, said):
    found = run(*words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_command_that_is_not_there_is_told(world):
    found = run("121218971731900000")
    assert (found.exit_code, found.stdout) == (1, "")
    assert "No command 121218971731900000 is in this log." in found.stderr


def test_help_has_examples():
    found = run("--help")
    assert found.exit_code == 0
    assert found.stdout.count("shutterwheel explain") >= 4


# --- times as people write them -------------------------------------------------------------------

NOW = T0 + 300_000
PARIS = zone("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "after_ms"),
    [
        ("now", 300_000),
        ("-10m", -300_000),
        ("10m ago", -300_000),
        ("13:05", 300_000),
        ("9:00:30", -4 * 3_600_000 + 30_000),
        ("2026-12-01 13:00", 0),
        ("2026-12-01T13:00:10", 10_000),
        ("2026-12-01T12:00:00Z", 0),
        ("2026-12-01T12:00:00.250Z", 250),
        ("2026-11-30T14:00:00+02:00", -86_400_000),
    ],
)
def test_a_time_is_read_in_the_zone(text, after_ms):
    assert explain.read_moment(text, PARIS, NOW) == T0 + after_ms


def test_an_hour_that_is_shown_twice_is_the_first_and_one_that_is_left_out_its_end():
    assert explain.read_moment("2026-10-25 02:30", PARIS, NOW) == moment_ms("2026-10-25T00:30:00Z")
    assert explain.read_moment("2026-03-29 02:30", PARIS, NOW) == moment_ms("2026-03-29T01:00:00Z")


def test_a_day_that_is_none_is_refused():
    with pytest.raises(UsageError, match="expected an ISO 8601 time"):
        explain.read_moment("2026-02-30 12:00", PARIS, NOW)
