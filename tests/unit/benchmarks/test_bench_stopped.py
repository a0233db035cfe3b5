"""A benchmark that is stopped keeps what it had measured."""

from __future__ import annotations

import contextlib
import json
import signal

import pytest

from benchmarks import __main__ as program
from benchmarks.result import Row


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
