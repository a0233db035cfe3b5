"""The bench of discovery gives every program the same cameras (issue 6, 'Discovery')."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import msgspec
import pytest

from benchmarks.discovery import bench
from benchmarks.result import OURS
from connectors.discovery.simulated import SimulatedDevice


def test_each_camera_has_keys_of_its_own():
    devices = bench.devices_of([f"10.77.65.{n}" for n in range(1, 51)], bench.ALL)
    read = msgspec.json.decode(json.dumps(devices), type=list[SimulatedDevice])
    for key in ("host", "epr", "mac", "serial", "name"):
        assert len({getattr(one, key) for one in read}) == 50
    assert {one.speaks for one in read} == {tuple(bench.ALL)}


def test_figures_become_rows_with_their_units():
    rows = bench.rows_of(
        "c", OURS, {"found": 20.0, "last_s": 0.4444, "merge_ms": 5.0, "program_cpu_s": 1.0}
    )
    assert [(row.metric, row.value, row.unit) for row in rows] == [
        ("found", 20.0, "1"),
        ("last_s", 0.444, "s"),
        ("merge_ms", 5.0, "ms"),
        ("program_cpu_s", 1.0, "s"),
    ]


def test_the_peers_have_versions():
    assert bench.versions()["wsdiscovery"] == "2.1.2"
    assert set(bench.versions()) == set(bench.PEERS)


@pytest.mark.parametrize("count", [1, 250, 2_000])
def test_a_network_has_addresses_for_all(count, monkeypatch):
    lan = bench.Lan("cameras")
    lines = []
    monkeypatch.setattr(lan, "_batch", lambda text, _space: lines.append(text))
    hosts = lan.add_addresses("cameras", count)
    assert len({IPv4Address(one) for one in hosts}) == count
    assert lan.address("cameras") not in hosts
    assert lines[0].count("\n") == count
