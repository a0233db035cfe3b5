"""``shutterwheel discover --add`` against a real broker (issue 6: discovery → ``device.profiles``)."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, TopicPartition
from simulated_devices import SimulatedDevices
from typer.testing import CliRunner

from connectors.discovery.dhip import Dhip
from infra.kafka.ports import free_port
from infra.kafka.topics import topic_name
from shutterwheel.cli import app

HOST = "127.78.2.1"
RECORDER = {
    "host": HOST,
    "speaks": ["dhip"],
    "model": "NVR5216",
    "serial": "NV-90071",
    "mac": "a8bbcc000002",
    "maker": "Dahua",
}


@pytest.fixture
def run(kafka_topics, namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHUTTERWHEEL_KAFKA", kafka_topics)
    monkeypatch.setenv("SHUTTERWHEEL_NAMESPACE", namespace)
    monkeypatch.delenv("SHUTTERWHEEL_DATA", raising=False)

    def command(*words):
        result = CliRunner().invoke(app, [*words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


@pytest.fixture
def discover(run, tmp_path, monkeypatch):
    """Search a network of one recorder with so many channels; return states by id, and the result."""

    def search(channels, *words):
        port = free_port()
        monkeypatch.setattr("connectors.discovery.search.all_sources", lambda: (Dhip(port),))
        devices = [{**RECORDER, "channels": channels}]
        with SimulatedDevices(tmp_path / f"{port}", "127.0.0.1", devices, ports={"dhip": port}):
            result = run("discover", "--interface", "lo", "--timeout", "1s", "--json", *words)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        found = {
            line["profile"]["device_id"]: line for line in lines if line["record"] == "Discovered"
        }
        return found, result

    return search


def written(kafka, namespace):
    """Return how many records device.profiles has had."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "count"})
    topic = topic_name(namespace, "device.profiles")
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        return sum(
            consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=20)[1]
            for n in partitions
        )
    finally:
        consumer.close()


def test_what_is_found_is_added_once_and_an_operators_word_stands(
    run, discover, kafka_topics, namespace
):
    one, two, three = (f"mac-a8bbcc000002-ch{n}" for n in (1, 2, 3))

    found, result = discover(2, "--add", "--site", "plant", "--label", "line=3")
    assert result.exit_code == 0
    assert {name: line["state"] for name, line in found.items()} == {one: "new", two: "new"}
    listed = [json.loads(line) for line in run("device", "list", "--json").stdout.splitlines()]
    assert {x["device_id"]: (x["site"], x["labels"]["line"], x["protocol"]) for x in listed} == {
        one: ("plant", "3", "http-snapshot"),
        two: ("plant", "3", "http-snapshot"),
    }

    # A search without --add writes nothing, and neither does one that finds nothing new.
    before = written(kafka_topics, namespace)
    discover(3)
    found, _ = discover(2, "--add")
    assert {line["state"] for line in found.values()} == {"same"}
    assert written(kafka_topics, namespace) == before

    # The operator says more of a device, and a third camera is plugged in.
    address = f"http://{HOST}/cgi-bin/snapshot.cgi?channel=1&subtype=0"
    words = ["--label", "line=7", "--site", "hall", "--credentials", "env:CAMERA_HALL"]
    assert run("device", "add", one, address, *words).exit_code == 0
    found, result = discover(
        3, "--add", "--site", "plant", "--label", "line=3", "--credentials-ref", "env:CAMERA_NEW"
    )
    assert {name: line["state"] for name, line in found.items()} == {
        one: "changed",
        two: "changed",
        three: "new",
    }
    kept = found[one]["profile"]
    assert (kept["address"], kept["site"], kept["credentials_ref"], kept["labels"]["line"]) == (
        address,
        "hall",
        "env:CAMERA_HALL",
        "7",
    )
    assert found[one]["kept"] == ["site hall", "credentials_ref env:CAMERA_HALL", "label line=7"]
    assert found[two]["changes"] == ["credentials_ref (none) → env:CAMERA_NEW"]
    assert len(run("device", "list", "--json").stdout.splitlines()) == 3
