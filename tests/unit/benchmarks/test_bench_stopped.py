"""A benchmark that is stopped keeps what it had measured."""

from __future__ import annotations

import contextlib
import json
import signal

import pytest

from benchmarks import __main__ as program
from benchmarks.result import Row
from schemas.errors import BrokerError


@pytest.fixture
def _signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("rows", [0, 2])
def test_a_stopped_benchmark_writes_what_it_had(monkeypatch, tmp_path, rows):
    def bench(_options, _rig):
        for number in range(rows):
            yield Row(f"case {number}", "shutterwheel", "captures_per_s", 1.5, "1/s")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(program.BENCHES, "lateness", bench)
    monkeypatch.setattr(program, "Rig", lambda *_, **_more: contextlib.nullcontext())
    path = tmp_path / "found.json"
    assert program.main(["lateness", "--json", str(path)]) == 130
    found = json.loads(path.read_bytes())["rows"] if path.exists() else []
    assert [row["case"] for row in found] == [f"case {number}" for number in range(rows)]


@pytest.mark.usefixtures("_signals")
def test_a_failed_benchmark_writes_what_it_had(monkeypatch, tmp_path):
    def bench(_options, _rig):
        yield Row("case", "shutterwheel", "captures_per_s", 1.5, "1/s")
        raise BrokerError("The broker is gone.")

    monkeypatch.setitem(program.BENCHES, "lateness", bench)
    monkeypatch.setattr(program, "Rig", lambda *_, **_more: contextlib.nullcontext())
    path = tmp_path / "found.json"
    assert program.main(["lateness", "--json", str(path)]) == 1
    assert len(json.loads(path.read_bytes())["rows"]) == 1


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("system", "code"), [("quartz-ram", 0), ("shutterwheel-x2", 1)])
def test_only_what_is_early_of_ours_fails(monkeypatch, system, code):
    monkeypatch.setitem(
        program.BENCHES, "lateness", lambda *_: [Row("case", system, "early", 3.0, "1")]
    )
    monkeypatch.setattr(program, "Rig", lambda *_, **_more: contextlib.nullcontext())
    assert program.main(["lateness"]) == code
