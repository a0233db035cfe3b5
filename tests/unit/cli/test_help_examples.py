"""Each example that ``--help`` prints is one that the command takes (issue 7; SPEC 3.4).

All examples of all commands go through the command's own parser. Those of audit, explain, replay,
archive and restore are run as well, up to the point where a cluster or an archive would be opened:
what they say of times, lengths, speeds and files has been read by then.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from shutterwheel import audit_run, logs_at, replay_run
from shutterwheel.cli import app
from shutterwheel.commands import archive, audit, explain, replay, restore
from shutterwheel.context import Cluster
from streams.replay import log as logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "shutterwheel"
ROOT: Any = typer.main.get_command(app)
POLICY = "version: 1\nspread: 60s\n"


class ReachedError(Exception):
    """The command would now open what it is to read."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command with its words."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def words_of(line: str) -> list[str]:
    """Return the arguments of an example; what a shell does with the output is not ours."""
    words = shlex.split(line)[1:]
    ends = [at for at, word in enumerate(words) if word in {"|", ">"}]
    return words[: ends[0]] if ends else words


def examples(text: str) -> list[str]:
    """Return the lines of a help text that are commands of ours."""
    lines = (line.strip().strip("`") for line in text.replace("\\\n", "").splitlines())
    return [line for line in lines if line.startswith(f"{PROGRAM} ")]


EXAMPLES = [
    (" ".join(path), line)
    for path, command in [((), ROOT), *commands(ROOT)]
    for line in examples(command.epilog or "")
]
RUN = ("audit", "explain", "replay", "archive", "restore")


def parsed(words: list[str]) -> Any:
    """Return the command that words name, having parsed its options and arguments."""
    context = ROOT.make_context(PROGRAM, list(words))
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, rest, parent=context)
    return context.command


def test_there_are_examples():
    assert len(EXAMPLES) > 40
    for name in RUN:
        assert sum(path == name for path, _ in EXAMPLES) >= 2, name


@pytest.mark.parametrize("line", sorted({line for _, line in EXAMPLES}))
def test_an_example_is_taken_by_the_parser_of_the_command_it_names(line: str):
    assert parsed(words_of(line)).name in words_of(line)


def test_what_is_wrong_is_not_taken():
    """The test itself can fail."""
    with pytest.raises(Exception, match="No such option"):
        parsed(["explain", "cam-1", "--att", "now"])
    with pytest.raises(Exception, match="Missing"):
        parsed(["explain"])


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let commands end where they would open a log."""

    def reached(*_: object, **__: object) -> Any:
        raise ReachedError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "spread.yaml").write_text(POLICY)
    cluster = Cluster("kafka-1:9092", "", "")
    for module in (archive, audit, explain, replay):
        monkeypatch.setattr(module, "find_cluster", lambda *_: cluster)
    monkeypatch.setattr(explain, "_answer", reached)
    monkeypatch.setattr(replay_run, "open_log", lambda *_: (None, None, "here"))
    monkeypatch.setattr(replay_run, "make_source", reached)
    monkeypatch.setattr(audit_run, "open_log", lambda _: logs.MemoryLog(8))
    monkeypatch.setattr(logs.MemoryLog, "partitions", lambda *_: 8)
    monkeypatch.setattr(audit_run, "audit", reached)
    monkeypatch.setattr(logs_at, "open_objects", reached)
    monkeypatch.setattr(logs, "KafkaLog", reached)
    monkeypatch.setattr(restore, "run", reached)
    monkeypatch.setattr(restore, "source_of_kafka", reached)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("line", [line for path, line in EXAMPLES if path in RUN])
def test_an_example_runs_up_to_what_it_reads(line: str):
    found = CliRunner().invoke(app, words_of(line))
    assert isinstance(found.exception, ReachedError), (found.output, found.exception)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    "words",
    [
        "explain cam-1 --at noonish",
        "explain cam-1",
        "replay --last soon",
        "replay --speed 5000",
        "replay --with-policy nobody.yaml",
        "audit --from yesterday",
        "restore --to kafka-2:9092",
    ],
)
def test_what_cannot_be_read_is_found_before(words: str):
    """The test above can fail: it goes through what the commands check."""
    found = CliRunner().invoke(app, words.split())
    assert not isinstance(found.exception, ReachedError)
    assert found.exit_code in {1, 2}
