"""The whole system with a real Schema Registry, by its own clients and its own command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from chain_reader import values
from strangers import RUN_S

from connectors.clients.publisher import Publisher
from connectors.clients.results import results
from schemas.catalogue import current_schemas
from schemas.records import Accepted

pytestmark = pytest.mark.long
PHOTOS = 3


def shutterwheel(chain, url, *words):
    """Run a command of the front door against the chain; return its JSON, line by line."""
    where = ("--kafka", chain.kafka, "--namespace", chain.namespace, "--schema-registry", url)
    done = subprocess.run(
        [sys.executable, "-m", "shutterwheel", *words, *where, "--json"],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_schedule_and_its_photos_by_our_own_clients(registry_fleet, registry):
    """Issue 7: ids on every topic are the registry's, the check of the run finds nothing lost."""
    chain, url = registry_fleet, registry.url
    (device,) = chain.take(1)
    with (
        Publisher(chain.kafka, chain.namespace, registry=url) as publisher,
        results(chain.kafka, namespace=chain.namespace, device=device, registry=url) as photos,
    ):
        receipt = publisher.schedule(device, "s", every="500ms", lead="1s")
        assert isinstance(receipt.decision(RUN_S), Accepted)
        seen = [next(photos) for _ in range(PHOTOS)]
        assert isinstance(publisher.cancel(device, "s").decision(RUN_S), Accepted)
    assert {photo.state for photo in seen} == {"SUCCESS"}
    for topic, names in (
        ("schedule.events", {"ScheduleUpserted", "ScheduleCancelled"}),
        ("schedule.ticks", {"ScheduleTick"}),
        ("schedule.decisions", {"Accepted"}),
        ("capture.commands", {"CaptureCommand"}),
        ("capture.results", {"CaptureResult"}),
        ("device.profiles", {"DeviceProfile"}),
    ):
        ids = {int.from_bytes(v[1:5], "big") for v in values(chain.kafka, chain.topic(topic))}
        found = [registry.ask("GET", f"/schemas/ids/{one}")["schema"] for one in ids]
        assert names <= {json.loads(schema)["name"] for schema in found}, topic
    assert set(registry.ask("GET", "/subjects")) == set(current_schemas())
    assert not chain.letters()
    chain.drain()
    report = chain.check()
    assert (report.lost, report.duplicated, report.early) == (0, 0, 0)


def test_the_command_line_reads_with_a_registry(registry_fleet, registry):
    (device,) = registry_fleet.take(1)
    registry_fleet.schedule(500, [device])
    try:
        listed = shutterwheel(registry_fleet, registry.url, "schedule", "list")
        assert device in listed
        assert "chain" in listed
        shown = shutterwheel(registry_fleet, registry.url, "device", "list")
        assert device in shown
    finally:
        registry_fleet.cancel([device])
