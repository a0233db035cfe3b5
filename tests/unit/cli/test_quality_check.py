"""A server of models as an operator names it and hears of it: doctor, metrics, log (SPEC 1.4, 1.8)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from quality_photos import jpeg
from structlog.testing import capture_logs
from typer.testing import CliRunner

from connectors.images.quality.remote import RemoteSettings
from schemas.errors import UsageError
from shutterwheel import judging
from shutterwheel.cli import app
from shutterwheel.cluster import Cluster, ClusterOptions
from shutterwheel.context import RunFile
from shutterwheel.judging import make_judge, quality_settings
from shutterwheel.quality_check import ADVICE, check_quality
from streams.observability.metrics import Metrics
from streams.observability.photo_metrics import REMOTE_FAILURES

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("onnxruntime")
pytest.importorskip("grpc")
from connectors.images.quality.simulated_v2 import SimulatedV2
from connectors.images.quality.v2 import KINDS


def test_every_kind_of_failure_has_its_advice_and_its_count() -> None:
    assert set(ADVICE) == set(KINDS)
    assert set(REMOTE_FAILURES) == {*KINDS, "hurried"}


async def checked(folder: Path, server: str = "", model: str = "") -> list[tuple[str, str, str]]:
    found = await asyncio.to_thread(lambda: list(check_quality(folder, server, model)))
    return [(check.name, check.status, check.found) for check in found]


async def test_a_server_that_runs_our_model_is_ok(tmp_path: Path) -> None:
    async with SimulatedV2() as server:
        [(name, status, found)] = await checked(tmp_path, server.address)
    assert (name, status) == ("quality", "ok")
    assert f"grpc:quality at {server.address}, version 1, is model " in found


async def test_one_that_does_not_is_a_warning_as_photos_are_judged_all_the_same(
    tmp_path: Path,
) -> None:
    async with SimulatedV2() as server:
        [(_, unknown, found)] = await checked(tmp_path, server.address, "cats")
        server.fault = "weights"
        [(_, wrong, said)] = await checked(tmp_path, server.address)
    assert (unknown, wrong) == ("warn", "warn")
    assert "photos are judged here" in found
    assert "scores differ by" in said


async def test_the_server_of_what_runs_is_asked_and_nothing_where_none_is_named(
    tmp_path: Path,
) -> None:
    assert await checked(tmp_path) == []
    async with SimulatedV2() as server:
        run = RunFile("k:1", "", 8, (), "file:///b", quality_server=server.address)
        run.save(tmp_path)
        [(_, status, _)] = await checked(tmp_path)
    assert status == "ok"


def test_doctor_has_a_line_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUTTERWHEEL_QUALITY_SERVER", "nonsense")
    result = CliRunner().invoke(app, ["doctor", "--json", "--data", str(tmp_path)])
    [check] = [one for one in json.loads(result.stdout)["checks"] if one["name"] == "quality"]
    assert check["status"] == "fail"
    assert "HOST:PORT" in check["found"]


def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UsageError, match=r"shutterwheel\[remote-quality\]"):
        quality_settings("h:1", "")


def test_up_hands_it_to_its_captures_workers_and_to_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: dict[str, list[str]] = {}

    def keep(_self: Cluster, _name: str, app: str, *rest: object) -> None:
        commands[app] = [str(word) for word in rest[-1]]  # type: ignore[attr-defined]

    monkeypatch.setattr(Cluster, "_keep", keep)
    cluster = Cluster(
        ClusterOptions(
            tmp_path,
            kafka="k:1",
            image_processes=2,
            quality_server="h:8001",
            quality_model="quality:3",
        )
    )
    for name in ("wheel", "captures"):
        cluster._start_worker(name, "0")
    cluster._write_run_file()
    words = " ".join(commands["captures"])
    assert "--quality-server h:8001 --quality-model quality:3" in words
    assert "--image-processes 2" in words
    assert not {"--quality-server", "--image-processes"} & {*commands["wheel"]}
    run = RunFile.load(tmp_path)
    assert run is not None
    assert (run.quality_server, run.quality_model) == ("h:8001", "quality:3")


def value(metrics: Metrics, name: str) -> float:
    lines = metrics.exposition().decode().splitlines()
    [line] = [one for one in lines if one.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_what_becomes_of_it_is_counted_and_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics, told = Metrics("captures", "0"), asyncio.Event()

    class Told(judging._Told):
        def well(self, *said: Any) -> None:
            super().well(*said)
            told.set()

        def failed(self, kind: str) -> None:
            super().failed(kind)
            told.set()

    async def until(name: str, least: int) -> None:
        while value(metrics, name) < least:
            told.clear()
            await told.wait()

    monkeypatch.setattr(judging, "_Told", Told)
    with capture_logs() as logs:
        async with SimulatedV2() as server:
            settings = RemoteSettings(server.address, probe_ms=1, most_probe_ms=1, room_ms=0)
            judge = make_judge(settings, metrics)
            await until("shutterwheel_quality_server_well", 1)
            await judge.judge(jpeg(0))
            server.fault = "shape"
            for _ in range(3):
                await judge.judge(jpeg(0))
            failed = 'shutterwheel_quality_server_failures_total{kind="nonsense"}'
            await until(failed, 3)
            await judge.aclose()
    events = [(one["log_level"], one["event"]) for one in logs]
    assert events == [
        ("info", "photos are judged by the server"), ("warning", "photos are judged here"),
    ]  # fmt: skip
    assert (logs[0]["provider"], logs[1]["kind"]) == ("grpc:quality", "nonsense")
    assert value(metrics, "shutterwheel_quality_server_well") == 0
    assert value(metrics, 'shutterwheel_verdicts_total{by="server"}') == 1
    assert value(metrics, 'shutterwheel_verdicts_total{by="here"}') == 3


async def test_without_a_server_photos_are_counted_too() -> None:
    metrics = Metrics("captures", "0")
    judge = make_judge(None, metrics)
    verdict = await judge.judge(jpeg(0))
    await judge.aclose()
    await judge.judge(jpeg(0))
    assert verdict.provider == "CPUExecutionProvider"
    assert value(metrics, 'shutterwheel_verdicts_total{by="here"}') == 1
    assert value(metrics, 'shutterwheel_verdicts_total{by="nobody"}') == 1
