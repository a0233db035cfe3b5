"""How devices are, as workers and the table tell it: issue 6 (heartbeats and health)."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from connectors.clients.health import ask_workers, read_table
from schemas.records import DeviceHealth
from shutterwheel.commands.device_health import ago, cells, plain_health, state_of
from shutterwheel.health_routes import health_routes
from streams.core.ids import partition_of
from streams.observability.http import Condition, OperatorServer
from streams.observability.metrics import Metrics

NAMES = [f"cam/{n} ü" for n in range(7)]


def row(name: str, **more: Any) -> DeviceHealth:
    known = {
        "online": True, "flapping": False, "since_ms": 1, "last_seen_ms": 2, "sequence": 3,
        "at_ms": 4, "cpu": math.nan, "memory": 0.5, "clock_offset_ms": math.nan,
    }  # fmt: skip
    return DeviceHealth(name, **{**known, **more})


class Watch:
    """A devices worker's answers, two devices a page."""

    def find(self, number: int, device_id: str) -> DeviceHealth | None:
        assert number == partition_of(device_id, 8)
        return row(device_id) if device_id in NAMES else None

    def page(self, partition: int, after: int) -> tuple[list[DeviceHealth], Any]:
        assert partition == 0
        found = [row(name) for name in NAMES[after + 1 : after + 3]]
        last = after + len(found)
        return found, (0, last) if last + 1 < len(NAMES) else None


@pytest.fixture
async def url():
    server = OperatorServer(Metrics("devices", "0"), ready=lambda: Condition(ok=True))
    for path, route in health_routes(Watch(), 8).items():  # type: ignore[arg-type]
        server.add_get(path, route)
    port = await server.start()
    yield f"http://127.0.0.1:{port}"
    await server.stop()


async def test_all_devices_come_page_by_page(url):
    seen = await asyncio.to_thread(ask_workers, [url])
    assert seen is not None
    assert sorted(seen.rows) == NAMES
    assert seen.live
    one = seen.rows[NAMES[0]]
    assert math.isnan(one.cpu)
    assert one.memory == 0.5


async def test_one_device_is_asked_for_by_its_name_whatever_that_is(url):
    seen = await asyncio.to_thread(ask_workers, [url], NAMES[3])
    assert seen is not None
    assert list(seen.rows) == [NAMES[3]]
    nobody = await asyncio.to_thread(ask_workers, [url], "nobody")
    assert nobody is not None
    assert nobody.rows == {}


async def test_where_a_worker_does_not_answer_the_table_has_to(url):
    assert await asyncio.to_thread(ask_workers, [url, "http://127.0.0.1:9"]) is None
    assert ask_workers([]) is None
    assert ask_workers(["file:///etc/passwd"]) is None


def test_the_table_tells_of_all_and_of_one():
    class Scanner:
        def partitions(self, topic: str) -> int:
            assert topic == "ns.devices.health.changelog"
            return 8

        def table(self, topic: str, cls: type, partition: Any = None, wanted: Any = None) -> Any:
            assert partition in {None, partition_of("cam-2", 8)}
            rows = [row("cam-1"), row("cam-2")]
            return [r for r in rows if wanted is None or wanted(r.device_id.encode())]

    scanner: Any = Scanner()
    assert set(read_table(scanner, "ns").rows) == {"cam-1", "cam-2"}
    one = read_table(scanner, "ns", "cam-2")
    assert list(one.rows) == ["cam-2"]
    assert not one.live


def test_a_row_is_shown_in_words():
    assert [state_of(row("x", online=o, flapping=f)) for o, f in ((1, 0), (0, 0), (1, 1))] == [
        "online", "offline", "flapping",
    ]  # fmt: skip
    shown = cells(row("x", last_seen_ms=1_000, since_ms=0), 126_000)
    assert shown == ("online", "2m 05s ago", "2m 06s", "", "50%", "")
    assert cells(row("x", clock_offset_ms=-7_200_000.0), 2)[-1] == "-7,200,000 ms"
    assert [ago(ms) for ms in (-5, 59_999, 60_000, 3_600_000, 90_000_000)] == [
        "0s", "59s", "1m 00s", "1h 00m", "1d 01h",
    ]  # fmt: skip
    assert "flap_ms" not in plain_health(row("x"))
