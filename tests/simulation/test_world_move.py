"""Another number of partitions begins a new log, with a snapshot: audits begin there (issue 7)."""

from __future__ import annotations

import pytest
import world
from world_audit import log_of
from world_plan import make
from world_watch import CODEC

from schemas.errors import StoreError
from schemas.records import PartitionSnapshot
from streams.replay.audit import AuditOptions, AuditTools, audit_partition

TICKS = "schedule.ticks"


@pytest.fixture(scope="module")
def moved() -> world.World:
    """Return a world whose partitions were moved from two to four, at its end."""
    kept: list[world.World] = []
    real = world.World

    class Kept(real):  # type: ignore[valid-type,misc]
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "World", Kept)
        report = world.run(make(0, "squall", kinds=("repartition_more",)).cut((0,)))
    assert not report.findings
    assert kept[0].partitions == 4
    return kept[0]


def audited(log, read_rows=None):
    options = AuditOptions(settle_ms=130_000)
    tools = AuditTools(CODEC, read_rows=read_rows)
    return [audit_partition(log, number, options, tools) for number in range(4)]


def test_an_audit_begins_with_the_snapshot_that_a_copied_log_begins_with(moved):
    reports = audited(log_of(moved), moved.files.read)
    assert all(report.started.startswith("with the snapshot of") for report in reports)
    assert all(report.folded == report.ticks > 20 for report in reports)
    assert not [one for report in reports for one in [*report.findings, *report.unchecked]]
    assert sum(report.commands for report in reports) > 10


def test_a_copied_log_whose_rows_cannot_be_read_is_not_taken_to_begin_with_nothing(moved):
    def nothing(_snapshot):
        raise StoreError("the blob store does not answer")

    for report in audited(log_of(moved), nothing):
        assert report.started == "at no known state"
        assert report.unchecked
        assert not report.findings


def test_rows_that_were_changed_are_found(moved):
    def changed(snapshot):
        return moved.files.read(snapshot)[:-1]

    for report in audited(log_of(moved), changed):
        assert [one.kind for one in report.findings] == ["corrupt"]


def test_a_tick_that_was_removed_from_a_copied_log_is_found(moved):
    log = log_of(moved)
    entries = log.entries(TICKS, 0)
    first = CODEC.decode(entries[0].value or b"")
    assert isinstance(first, PartitionSnapshot)
    assert first.tick_offset == -1
    del entries[1]
    assert "lost" in {one.kind for one in audited(log, moved.files.read)[0].findings}
