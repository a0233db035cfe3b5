"""The command line: help, exit codes, one line for a user's mistake (issue 3, point 7)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import shutterwheel
from schemas.errors import BrokerError
from shutterwheel.cli import COMMANDS, app


@pytest.fixture(autouse=True)
def _nothing_runs_here(monkeypatch, tmp_path):
    for name in ("KAFKA", "NAMESPACE", "DATA", "SCHEMA_REGISTRY"):
        monkeypatch.delenv(f"SHUTTERWHEEL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def commands(group=None, path=()):
    """Give (words, command) of every command there is."""
    group = get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_module_gives_a_command():
    assert {words[0] for words, _ in commands()} == set(COMMANDS)


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_each_command_has_help_with_an_example(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert f"\n    shutterwheel {' '.join(words)}" in result.stdout.split("Example", 1)[1]


@pytest.mark.parametrize(
    "words", [words for words, _ in commands() if words[0] not in {"worker", "poll"}], ids=" ".join
)
def test_each_command_that_ends_writes_json(words):
    assert "--json" in run(*words, "--help").stdout


def test_the_version():
    result = run("--version")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "shutterwheel")


@pytest.mark.parametrize(
    "words",
    [
        ("nothing",),
        ("schedule", "aply"),
        ("schedule", "apply"),
        ("schedule", "list", "--nothing"),
        ("capture", "show", "x"),
        ("capture", "show", "-1"),
        ("results", "tail", "--limit", "0"),
        ("device", "add", "cam-1", "ftp://h"),
        ("device", "add", "cam-1", "http://h", "--label", "x"),
        ("capture", "request", "cam-1", "--at", "tomorrow"),
        ("schedule", "apply", "none.yaml"),
        ("schedule", "list"),
        ("schedule", "list", "--kafka", "http://h:1"),
        ("results", "tail", "--kafka", "h:1", "--group", "wheel"),
        ("topics", "--kafka", "h:1", "--partitions", "3"),
    ],
    ids=" ".join,
)
def test_what_is_used_wrongly_ends_with_2(words):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.output


def test_a_users_mistake_is_one_line():
    result = run("schedule", "list")
    assert result.stderr.startswith("shutterwheel: No cluster is known here")
    assert result.stderr.count("\n") == 1


def test_each_finding_of_a_manifest_is_a_line(tmp_path):
    (tmp_path / "m.yaml").write_text("version: 2\nschedules: 1\n")
    result = run("schedule", "apply", "m.yaml")
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "m.yaml:1:10",
        "m.yaml:2:12",
    ]


def test_a_dry_run_needs_no_cluster(tmp_path):
    (tmp_path / "m.yaml").write_text(
        "version: 1\nschedules: [{id: a, devices: [b, c], every: 5s}]\n"
    )
    result = run("schedule", "apply", "m.yaml", "--dry-run", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "devices": 0,
        "schedules": 2,
        "published": False,
        "compared": False,
    }


def test_a_broker_that_is_not_there_ends_with_1(monkeypatch):
    """Wrong broker address: one clear line and a non-zero exit (issue 3, 'Bad input')."""
    monkeypatch.setattr("connectors.clients.scan.CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr("connectors.clients.scan.Scanner.partitions.__defaults__", (0.2,))
    result = run("schedule", "list", "--kafka", "127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.startswith("shutterwheel: No Kafka broker answers at 127.0.0.1:1")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_says_nothing(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutterwheel.commands.schedule_list.find_cluster", interrupted)
    result = run("schedule", "list")
    assert (result.exit_code, result.output) == (130, "")


def test_a_bug_is_a_traceback(monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("shutterwheel.commands.schedule_list.find_cluster", broken)
    assert isinstance(run("schedule", "list").exception, RuntimeError)


def test_our_errors_may_be_raised_anywhere_in_a_command(monkeypatch):
    def failing(*_: object) -> None:
        raise BrokerError("it\nis away")

    monkeypatch.setattr("shutterwheel.commands.schedule_list.find_cluster", failing)
    result = run("schedule", "list")
    assert (result.exit_code, result.stderr) == (1, "shutterwheel: it is away\n")


def test_help_imports_nothing_heavy():
    """``--help`` and completion are quick: no Kafka client, no worker, no tables."""
    code = (
        "import sys; from shutterwheel.cli import main; sys.argv = ['shutterwheel', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'confluent_kafka', 'faust', 'aiohttp', 'rich.table',"
        " 'ruamel.yaml', 'fastavro', 'numpy', 'rocksdict', 'schemas.codec'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_public_names():
    assert shutterwheel.__all__ == ["Publisher", "find_cluster", "results"]
    for name in shutterwheel.__all__:
        assert getattr(shutterwheel, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = shutterwheel.Nothing


def test_doctor_says_what_it_found_without_a_cluster(tmp_path):
    result = run("doctor", "--json", "--data", str(tmp_path))
    found = json.loads(result.stdout)
    by_name = {check["name"]: check for check in found["checks"]}
    assert (result.exit_code, found["ok"]) == (1, False)
    assert by_name["kafka"]["status"] == "fail"
    assert {by_name[name]["status"] for name in ("python", "data folder", "ports", "schemas")} == {
        "ok"
    }


def test_doctor_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    found = json.loads(run("doctor", "--json", "--data", str(tmp_path / "file" / "x")).stdout)
    folder = next(check for check in found["checks"] if check["name"] == "data folder")
    assert (folder["status"], bool(folder["advice"])) == ("fail", True)
