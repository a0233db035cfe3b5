"""Audit of a real run while it works, and of the same log with one thing changed (DESIGN 'Replay')."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import msgspec
import pytest
from chain_harness import PARTITIONS

from connectors.blobs.snapshots import SnapshotFiles
from connectors.clients import events
from schemas.records import (
    CaptureCommand,
    CaptureResult,
    PartitionSnapshot,
    Refused,
)
from shutterwheel import audit_run
from streams.core import ids
from streams.core.state_hash import state_hash
from streams.replay.audit import TOPICS, AuditOptions, AuditTools, audit_partition
from streams.replay.log import KafkaLog, MemoryLog

FLEET = 12


class Copy(MemoryLog):
    """The topics of a chain in memory, for a test to tamper with."""

    def __init__(self, chain):
        super().__init__(PARTITIONS)
        self.codec = chain.codec
        log = KafkaLog(chain.kafka, chain.namespace)
        ends = {topic: log.ends(topic) for topic in reversed(TOPICS)}
        for topic in TOPICS:
            self.append(topic, 0, None, None, 0)
            self.entries(topic, 0).clear()
            for number in range(PARTITIONS):
                for batch in log.read(topic, number, 0, ends[topic][number]):
                    self.entries(topic, number).extend(batch)

    def firsts(self, topic):
        """A topic that lost its first record has still offset 0, as in a cluster."""
        return dict.fromkeys(range(PARTITIONS), 0)

    def place(self, topic, cls):
        """Return partition and place in it of a record in the midst of a partition."""
        for number in range(PARTITIONS):
            found = [
                place
                for place, entry in enumerate(self.entries(topic, number))
                if isinstance(_r := self.codec.decode(entry.value), cls)
            ]
            if len(found) > 1:
                return number, found[len(found) // 2]
        raise AssertionError(f"no {cls.__name__} in {topic}")

    def change(self, topic, at, **fields):
        number, place = at
        entry = self.entries(topic, number)[place]
        record = msgspec.structs.replace(self.codec.decode(entry.value), **fields)
        self.entries(topic, number)[place] = entry._replace(value=self.codec.encode(record))
        return entry.offset

    def audit(self, number, files):
        tools = AuditTools(self.codec, lambda snapshot: files.read(snapshot.uri))
        return audit_partition(self, number, AuditOptions(), tools)


def kinds(report):
    return {(f.kind, f.topic, f.offset) for f in report.findings}


@pytest.fixture
def chain(make_chain):
    """A chain that snapshots every 2 s, in which a wheel died and events were refused."""
    chain = make_chain(FLEET, snapshot_every="2s")
    chain.introduce()
    chain.schedule(1_000, chain.devices, lead="3s")
    chain.run_on(2 * FLEET)
    bad = msgspec.structs.replace(
        events.upserted(chain.devices[0], "never", every=1_000), request_id="r-bad"
    )
    spec = msgspec.structs.replace(bad.spec, every_ms=0)
    number = ids.partition_of(bad.device_id, PARTITIONS)
    value = chain.codec.encode(msgspec.structs.replace(bad, spec=spec))
    chain.write("schedule.events", number, bad.device_id.encode(), value)
    chain.write("schedule.events", number, b"?", b"no Avro")
    chain.signal("wheel", signal.SIGKILL)
    chain.run_on(2 * FLEET)
    chain.wait_until("a refusal", lambda: list(chain.records("schedule.decisions", Refused)))
    chain.wait_until("a snapshot of each partition", lambda: len(snapshots(chain)) == PARTITIONS)
    return chain


def snapshots(chain, since=0):
    return {
        s.partition
        for s in chain.records("schedule.ticks", PartitionSnapshot)
        if s.tick_offset >= since
    }


def test_a_run_is_clean_and_whatever_is_changed_in_it_is_found(chain):
    """Beside the working system; then lost, doubled, divergent, illegal, by offset (SPEC 1.10)."""
    source = audit_run.Source(chain.kafka, chain.namespace, "", chain.cluster.blobs)
    report = audit_run.audit(source, AuditOptions(), strays=True)
    assert (report.findings.counts, report.unchecked, report.exit_code) == ({}, (), 0)
    assert report.sum("folded") == report.sum("ticks") > 30
    assert report.sum("snapshots") >= PARTITIONS - 1
    assert report.sum("results") >= 3 * FLEET
    assert report.states["SUCCESS"] == report.sum("images") >= 3 * FLEET

    # The same from the command line, with processes, from a snapshot on.
    from_ms = 1 + max(
        s.time_ms for s in chain.records("schedule.ticks", PartitionSnapshot) if s.tick_offset
    )
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "shutterwheel", "audit", "--json", "--jobs", "2"),
            *("--data", str(chain.cluster.data), "--from", _iso(from_ms)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    told = json.loads(shown.stdout)
    assert (shown.returncode, told["clean"]) == (0, True), (told, shown.stderr)
    assert any("snapshot" in one["started"] for one in told["partitions"]), told

    files = SnapshotFiles.open(chain.cluster.blobs)
    log = Copy(chain)
    number, place = log.place("capture.commands", CaptureCommand)
    removed = log.entries("capture.commands", number).pop(place)
    behind = log.entries("capture.commands", number)[place].offset
    assert ("lost", "capture.commands", behind) in kinds(log.audit(number, files))
    log.entries("capture.commands", number).insert(place, removed)
    assert kinds(log.audit(number, files)) == set()

    at = log.place("capture.results", CaptureResult)
    offset = log.change("capture.results", at, shutter_at_ms=1)
    assert kinds(log.audit(at[0], files)) == {("early", "capture.results", offset)}

    log = Copy(chain)
    number, place = log.place("schedule.ticks", PartitionSnapshot)
    snapshot = log.codec.decode(log.entries("schedule.ticks", number)[place].value)
    rows = files.read(snapshot.uri)
    key = rows[-1][1]
    row = msgspec.structs.replace(log.codec.decode(rows[-1][2]), epoch=99)
    rows[-1] = ("shards", key, log.codec.encode(row))
    offset = log.change("schedule.ticks", (number, place), state_hash=state_hash(rows))
    tools = AuditTools(log.codec, lambda s: rows if s.uri == snapshot.uri else files.read(s.uri))
    found = audit_partition(log, number, AuditOptions(), tools)
    assert ("divergent", "schedule.ticks", offset) in kinds(found)
    assert f"1 rows are not as the ticks make them: shards '{key.decode()}' differs" in (
        found.findings[0].text
    )


def test_offsets_of_an_empty_topic_are_no_finding(kafka_topics, namespace):
    """Before anything has run there is nothing to audit."""
    log = KafkaLog(kafka_topics, namespace)
    assert log.partitions("schedule.ticks") > 0
    report = audit_run.audit(audit_run.Source(kafka_topics, namespace), AuditOptions())
    assert (report.sum("ticks"), report.exit_code) == (0, 0)


def _iso(at_ms):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
