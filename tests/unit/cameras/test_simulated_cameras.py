"""The simulated cameras' own pages and command line: what a checker and a demo rely on."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aiohttp
import pytest

from connectors.cameras.simulated import LogEntry, SimulatedCameras, device_id, main
from schemas.errors import UsageError


@pytest.fixture
async def fleet():
    async with SimulatedCameras(2, ports=2) as fleet:
        yield fleet


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as client:
        yield client


async def fetch(client, url, **more):
    async with client.get(url, **more) as answer:
        return answer.status, await answer.read()


async def log_lines(client, fleet, since=0):
    _, body = await fetch(client, f"http://127.0.0.1:{fleet.port}/log?since={since}")
    return [json.loads(line) for line in body.splitlines()]


async def test_the_log_tells_each_shutter_and_can_be_read_on(fleet, client):
    for number in (5, 6):
        await fetch(client, fleet.url(device_id(1)), headers={"X-Command-Id": str(number)})
    await fetch(client, fleet.url(device_id(2), query="fault=html"))
    lines = await log_lines(client, fleet)
    assert [line["command_id"] for line in lines] == ["5", "6", ""]
    assert [line["shutter"] for line in lines] == [True, True, False]
    assert [line["fault"] for line in lines] == ["", "", "html"]
    assert set(lines[0]) == set(LogEntry.__struct_fields__)
    assert await log_lines(client, fleet, since=lines[1]["seq"]) == lines[2:]
    assert await log_lines(client, fleet, since=lines[2]["seq"]) == []


async def test_health_counts(fleet, client):
    await fetch(client, fleet.url(device_id(1)))
    status, body = await fetch(client, f"http://127.0.0.1:{fleet.port}/health")
    assert status == 200
    assert json.loads(body) == {"shutters": 1, "requests": 2}


async def test_faults_are_changed_while_it_runs(fleet, client):
    page = f"http://127.0.0.1:{fleet.port}/faults"
    async with client.post(page, data=b'{"*": {"kind": "status", "status": 503}}') as answer:
        assert answer.status == 200
    assert (await fetch(client, fleet.url(device_id(1))))[0] == 503
    async with client.post(page, data=b'{"*": {"kind": "magic"}}') as answer:
        assert answer.status == 400
        assert "cannot be read" in await answer.text()


@pytest.mark.parametrize(
    "path", ["/", "/cam/cam-00003/snapshot.jpg", "/cam/cam-00001/other", "/cam/"]
)
async def test_what_is_not_there_is_404(fleet, client, path):
    assert (await fetch(client, f"http://127.0.0.1:{fleet.port}{path}"))[0] == 404
    assert fleet.shutters == 0


async def test_every_port_serves_every_device(fleet, client):
    for port in fleet.ports:
        status, _ = await fetch(client, f"http://127.0.0.1:{port}/cam/cam-00001/snapshot.jpg")
        assert status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [b"nonsense\r\n\r\n", b"x" * 20_000, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
     b"POST /faults HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"],
)  # fmt: skip
async def test_nonsense_closes_the_connection(fleet, request_bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.port)
    writer.write(request_bytes)
    try:
        async with asyncio.timeout(20):
            assert await reader.read() == b""
    except ConnectionResetError:
        pass
    writer.close()


async def test_requests_that_come_together_are_answered_in_turn(fleet):
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.port)
    one = b"GET /cam/cam-00001/capture?fault=slow&delay_ms=20 HTTP/1.1\r\n\r\n"
    two = b"GET /health HTTP/1.1\r\n\r\n"
    writer.write(one + two)
    async with asyncio.timeout(20):
        first = await reader.readuntil(b"}")
        second = await reader.readuntil(b"}")
    assert b"snapshot" in first
    assert b"shutters" in second
    writer.close()


def test_a_taken_port_is_one_clear_line(capsys):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--devices", "1"]) == 1
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in error
    assert error.count("\n") == 1


def test_faults_that_cannot_be_read_are_one_clear_line(capsys, tmp_path):
    assert main(["--faults", str(tmp_path / "absent.json")]) == 1
    (tmp_path / "bad.json").write_text('{"*": {"kind": "magic"}}')
    assert main(["--faults", str(tmp_path / "bad.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_even_with_an_open_answer(number):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.cameras.simulated", "--devices", "1",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", ready["port"])
    writer.write(b"GET /cam/cam-00001/snapshot.jpg?fault=drip&delay_ms=60000 HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 0
    assert err == b""
    writer.close()


async def test_it_ends_with_the_one_who_started_it():
    """The tether: no camera server is left behind when its parent was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.cameras.simulated", "--devices", "1", "--tether",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdin.write(b"anything but the end\n")
    await process.stdin.drain()
    assert process.returncode is None
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 0


@pytest.mark.parametrize("bad", [{"devices": 0}, {"ports": 0}, {"port": 1, "ports": 2}])
def test_a_fleet_that_cannot_be_is_refused(bad):
    with pytest.raises(UsageError):
        SimulatedCameras(**bad)
