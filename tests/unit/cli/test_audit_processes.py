"""An audit by several processes says what one says (``audit_run.py``)."""

from __future__ import annotations

import threading

import pytest

from schemas.ids import FingerprintIds
from shutterwheel import audit_run
from streams.replay.archive.writer import ArchiveRun, Wanted
from streams.replay.audit import TOPICS, AuditOptions
from tests.unit.replay.recorded import Recording, upserts

PARTITIONS = 4


@pytest.fixture
def source(tmp_path):
    """An archive of four partitions; results are missing in it."""
    from shutterwheel.logs_at import open_objects

    recording = Recording(PARTITIONS)
    recording.tick(0, upserts([f"cam-{n}" for n in range(20)]))
    recording.run(1, 200)
    recording._make("dead.letters")
    objects = open_objects(str(tmp_path / "archive"), make=True)
    wanted = Wanted("site", {topic: recording.log.ends(topic) for topic in TOPICS})
    ArchiveRun(objects, recording.log, FingerprintIds(), wanted).run()
    return audit_run.Source(archive=str(tmp_path / "archive"), namespace="site")


def test_processes_side_by_side_find_what_one_does(source, monkeypatch):
    told: dict[int, int] = {}
    threads = set()

    def tell(partition: int, records: int, _time_ms: int) -> None:
        threads.add(threading.current_thread().name)
        told[partition] = told.get(partition, 0) + records

    alone = audit_run.audit(source, AuditOptions(), jobs=3)
    monkeypatch.setattr(audit_run, "HELPED", 1)
    found = audit_run.audit(source, AuditOptions(), jobs=3, told=tell)
    assert found.partitions == alone.partitions
    assert found.findings.counts == alone.findings.counts
    assert alone.findings.counts["lost"] > 100
    assert told == {one.partition: one.records for one in found.partitions}
    assert len(threads) == 2, "what helping processes tell comes by a thread"
