"""Results of benchmarks have the shape that CONVENTIONS.md rule 14 gives, and say what was run."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from benchmarks.__main__ import main, parse_arguments
from benchmarks.capacity import steady_per_s
from benchmarks.lateness import RATES, SOCKET_RATES, loads, rows
from benchmarks.load import Load, Measured
from benchmarks.options import Options
from benchmarks.result import Result, Row, rows_of
from shutterwheel.check import Images, RunReport, Spread

if TYPE_CHECKING:
    from pathlib import Path

REPORT = RunReport(
    ok=True, due=10, succeeded=9, failed=0, expired=1, lost=2, duplicated=0, early=0,
    lateness_ms=Spread(0, 1, 2, 3), images=Images(9, 900, 9, 0), first_photo_s=1.0, skipped=0,
    skipped_reasons={}, revoked=0, revoked_due=0, superseded=0, taken_after_cancel=0,
    taken_before=0, open=0, unexpected=0, illegal=0, unanswered=0, failed_causes={},
    captures_per_s=199.5, camera_lateness_ms=None, shutters=0, findings=(), command="",
    date="", machine={}, versions={},
)  # fmt: skip


def test_a_result_is_written_in_the_documented_shape(tmp_path: Path):
    result = Result.of("lateness", [Row("c", "shutterwheel", "m", 1.5, "ms")])
    result.write(tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_bytes())
    assert set(written) == {"bench", "command", "date", "machine", "versions", "rows"}
    assert written["rows"] == [
        {"case": "c", "system": "shutterwheel", "metric": "m", "value": 1.5, "unit": "ms"}
    ]
    assert set(written["machine"]) == {"cpus", "cpus_usable", "memory_bytes", "platform"}
    assert {"python", "librdkafka", "confluent-kafka"} <= set(written["versions"])


def test_every_figure_is_in_the_tables():
    found = [
        Row(f"case {c}", system, f"metric_{m}", 1_000 * c + m, "ms")
        for c in range(6)
        for m in range(3)
        for system in ("shutterwheel", "other")
    ]
    out = io.StringIO()
    for table in Result.of("lateness", found).tables():
        Console(file=out, width=200).print(table)
    text = out.getvalue()
    for row in found:
        assert f"{row.value:,.6g}" in text
    assert "metric_2 (ms)" in text
    assert "lateness: case 5" in text
    assert "other" in text


def test_ours_alone_is_a_column_a_case():
    found = [Row(f"case {c}", "shutterwheel", "m", 7_000.25 + c, "1/s") for c in range(6)]
    tables = list(Result.of("capacity", found).tables())
    assert [[str(column.header) for column in table.columns] for table in tables] == [
        ["", "case 0", "case 1", "case 2", "case 3"],
        ["", "case 4", "case 5"],
    ]


def test_a_peer_is_set_beside_us_and_its_ratio_is_ours_by_its_own():
    found = [
        Row("state", "peer", "records_per_s", 50_000.0, "1/s"),
        Row("state", "shutterwheel", "records_per_s", 150_000.0, "1/s"),
        Row("state", "peer", "cpu_us_per_record", 20.0, "us"),
        Row("state", "shutterwheel", "cpu_us_per_record", 5.0, "us"),
    ]
    (table,) = Result.of("streams", found).tables()
    label, peer, ours = (list(column.cells) for column in table.columns)
    assert dict(zip(label, zip(peer, ours, strict=True), strict=True)) == {
        "records_per_s (1/s)": ("50,000", "150,000"),
        "cpu_us_per_record (us)": ("20", "5"),
        "ours / its records_per_s": ("3", ""),
        "ours / its cpu_us_per_record": ("0.25", ""),
    }


def test_figures_that_are_not_there_have_no_row():
    assert rows_of("c", {("a", "1"): None, ("b", "ms"): 1.23456}) == [
        Row("c", "shutterwheel", "b", 1.235, "ms")
    ]


@pytest.mark.parametrize("drained", [True, False])
def test_losses_are_only_told_of_a_run_that_came_to_its_end(drained: bool):
    load = Load(devices=1_000, per_s=200.0, seconds=10.0)
    found = rows(Measured(load, REPORT, drained, {"wheel": 5.0}, 10.0, restarts=1))
    values = {row.metric: row.value for row in found}
    assert values.get("lost") == (2 if drained else None)
    assert values["lateness_ms_p99"] == 2
    assert values["cpu_wheel"] == 0.5
    assert values["worker_restarts"] == 1
    assert "camera_lateness_ms_p50" not in values
    assert {row.case for row in found} == {"null-camera, 1,000 devices, 200/s"}


def test_a_load_is_its_devices_and_their_period():
    assert Load(20_000, 4_000.0, 1.0).every_ms == 5_000
    assert Load(10, 4_000.0, 1.0).every_ms == 100, "the wheel's slot is the shortest period"


def test_cases_of_lateness():
    whole = loads(Options())
    assert [load.per_s for load in whole if not load.sockets] == list(RATES)
    assert [load.per_s for load in whole if load.sockets] == list(SOCKET_RATES)
    assert {load.every_ms for load in whole} == {5_000}
    quick = loads(Options(quick=True))
    assert [(load.per_s, load.seconds) for load in quick] == [(200.0, 10.0)] * 2
    asked = loads(Options(rates=(7.0,), devices=(70,), seconds=3.0))
    assert {(load.per_s, load.devices, load.seconds) for load in asked} == {(7.0, 70, 3.0)}


def test_a_steady_rate_is_that_of_the_middle():
    slow_ends = [0, *range(10_000, 10_998, 2), 99_999]
    assert steady_per_s(slow_ends) == pytest.approx(500.0)
    assert steady_per_s([5] * 100) is None
    assert steady_per_s([]) is None


def test_the_command_line(capsys: pytest.CaptureFixture[str]):
    asked = parse_arguments(["capacity", "--devices", "10_000,7", "--rates", "2.5"])
    assert (asked.devices, asked.rates, asked.quick) == ((10_000, 7), (2.5,), False)
    for bad in (["nothing"], ["capacity", "--devices", "0"], ["capacity", "--devices", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(bad)
        assert stop.value.code == 2
    assert "argument --devices: at least 1\n" in capsys.readouterr().err
