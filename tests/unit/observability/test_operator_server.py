"""The operators' server, asked over a real socket (SPEC 1.8)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from schemas.errors import BrokerError, UsageError
from streams.observability.http import Condition, OperatorServer, PortError, Reply
from streams.observability.metrics import Metrics
from streams.observability.sketch import QuantileSketch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Worker:
    def __init__(self) -> None:
        self.metrics = Metrics("captures", "0")
        self.ready = Condition(ok=False, reason="tables are being rebuilt")
        self.alive = Condition(ok=True)
        self.server = OperatorServer(
            self.metrics, ready=lambda: self.ready, alive=lambda: self.alive
        )
        self.base = ""

    async def get(self, path: str) -> tuple[int, str, bytes]:
        async with aiohttp.ClientSession() as session, session.get(self.base + path) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.read()

    async def get_json(self, path: str) -> tuple[int, dict[str, object]]:
        async with aiohttp.ClientSession() as session, session.get(self.base + path) as answer:
            return answer.status, await answer.json()


async def capture(query: Mapping[str, str]) -> Reply:
    match query["id"]:
        case "1":
            return Reply(200, {"id": 1, "verbose": query.get("verbose", "no")})
        case "2":
            raise UsageError("Not an id.")
        case "3":
            raise BrokerError("The broker is away.")
        case _:
            raise RuntimeError("a bug with rtsp://user:hunter2@host")


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    worker.server.add_get("/captures/{id}", capture)
    port = await worker.server.start()
    worker.base = f"http://127.0.0.1:{port}"
    yield worker
    await worker.server.stop()


async def test_metrics_are_prometheus_text(worker: Worker):
    worker.metrics.task_delay.observe(0.004)
    status, content_type, body = await worker.get("/metrics")
    assert status == 200
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"camera_task_delay_seconds", "shutterwheel_captures"} <= names


async def test_sketches_can_be_merged(worker: Worker):
    worker.metrics.task_delay.observe(0.004)
    _, body = await worker.get_json("/sketches")
    texts = body["camera_task_delay_seconds"]
    assert isinstance(texts, dict)
    assert QuantileSketch.from_text(texts["total"]).quantile(0.5) == pytest.approx(0.004, rel=0.01)


async def test_ready_says_why_not(worker: Worker):
    status, body = await worker.get_json("/ready")
    assert (status, body["ok"], body["reason"]) == (503, False, "tables are being rebuilt")
    worker.ready = Condition(ok=True)
    status, body = await worker.get_json("/ready")
    assert (status, body["ok"]) == (200, True)


async def test_health_ends_with_the_work(worker: Worker):
    worker.ready = Condition(ok=True)
    assert (await worker.get_json("/health"))[0] == 200
    worker.alive = Condition(ok=False, reason="a task died")
    status, body = await worker.get_json("/health")
    assert (status, body["reason"]) == (503, "a task died")
    worker.alive = Condition(ok=True)
    worker.server.begin_stop()
    for path in ("/health", "/ready"):
        status, body = await worker.get_json(path)
        assert (status, body["reason"]) == (503, "the worker is stopping")


async def test_further_routes_answer_with_json(worker: Worker):
    assert await worker.get_json("/captures/1?verbose=yes") == (200, {"id": 1, "verbose": "yes"})
    assert await worker.get_json("/captures/2") == (400, {"error": "Not an id."})
    assert await worker.get_json("/captures/3") == (503, {"error": "The broker is away."})


async def test_a_bug_is_not_shown_to_the_asker(worker: Worker, capsys: pytest.CaptureFixture[str]):
    status, body = await worker.get_json("/captures/4")
    assert status == 500
    assert "hunter2" not in str(body)
    assert "a request failed" in "".join(capsys.readouterr())


async def test_it_only_reads(worker: Worker):
    async with aiohttp.ClientSession() as session:
        async with session.post(worker.base + "/metrics") as answer:
            assert answer.status == 405
        async with session.get(worker.base + "/nothing") as answer:
            assert answer.status == 404


async def test_a_port_that_is_taken_is_one_clear_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortError) as caught:
            await Worker().server.start(port=port)
    line = caught.value.line()
    assert line.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in line
    assert "\n" not in line


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000)])
async def test_an_address_that_cannot_be_is_one_clear_line(host: str, port: int):
    with pytest.raises(PortError, match="Cannot listen on"):
        await Worker().server.start(host, port)


async def test_stop_may_come_early_and_twice():
    server = Worker().server
    await server.stop()
    other = Worker().server
    port = await other.start()
    await other.stop()
    await other.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{port}/health")
